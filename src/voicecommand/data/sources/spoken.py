"""Data set `spoken`: phrases with labels, spoken by many synthetic voices. No recordings are needed."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicecommand.columns import HELD_OUT_IN
from voicecommand.data.grammar.reading import read_grammar
from voicecommand.data.grammar.sampling import Sentence, sample
from voicecommand.data.grammar.text import words_of
from voicecommand.data.sources.file import read_table
from voicecommand.data.splits import SplitRule, build
from voicecommand.data.synthesis.engines import Utterance, find_engines
from voicecommand.data.synthesis.near_misses import find_near_misses
from voicecommand.data.synthesis.speakers import Speaker, below, draw_speakers, speak_all, split_speakers
from voicecommand.data.table import Rows, quote, read_map, refuse, to_columns
from voicecommand.data.text import normalise
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
UNKNOWN = "unknown"
COLUMNS = ("audio", "text", "label", "speaker", "transcript")


def load_spoken(
    columns: Sequence[str] = ("audio", "label"),
    path: str | None = None,
    phrases: Mapping[str, Sequence[str]] | None = None,
    column_map: Mapping[str, str | None] | None = None,
    speakers: int = 100,
    clips_per_phrase: int = 100,
    grammar: str | None = None,
    sentences: int = 1000,
    engines: Sequence[str] | str = "auto",
    accents: Sequence[str] | None = None,
    pitch: Sequence[int] = (30, 70),
    rate: Sequence[int] = (130, 210),
    unknown: int = 0,
    words: str | None = None,
    split: Mapping[str, Any] | None = None,
) -> DatasetDict:
    """Speak each phrase, or sentence of a grammar, with many voices.

    Args:
        columns: those that the task needs; without "audio" the same rows are returned and no audio is made.
        path: a file with text and label in each row (.csv, .tsv, .jsonl, .parquet), or
        phrases: label -> its phrases, or
        grammar: a grammar file, of which `sentences` different sentences are drawn and shared out to the splits.
        sentences: of the grammar, in all splits together.
        column_map: our name -> name in the file.
        speakers: the number of synthetic speakers in all splits; each, and its timbre, is in one split only.
        clips_per_phrase: clips of each phrase in all splits together; of each sentence in its split.
        engines: "auto" for all that are installed, or some of espeak, flite and piper.
        accents: of the voices; None for every English one.
        pitch: range of the speakers' pitch, 0 to 99; 50 is a voice's own.
        rate: range of the speakers' pace in words a minute.
        unknown: the number of near misses of the phrases that are spoken too, with the label "unknown".
        words: a text file of words, one a line, to find near misses in; None takes the built-in list.
        split: shares of the speakers, {"validation": 0.1, "test": 0.2}, or {"folds": 5}.

    Returns:
        Splits of string columns: id, origin (the phrase's file:row), audio (path of a 16-bit WAV), label, speaker, text
        and, if the file has it, template; `transcript`, if it is asked for, is the text. Rows of a grammar always have
        transcript, template (the file:line of the expression) and `slots` (a JSON object of slot -> value). The same
        settings give the same rows.

    Raises:
        InputError: bad phrases, with their file:row; no engine, with what to install; too few speakers.
    """
    known = COLUMNS if grammar is None else (*COLUMNS, "slots")
    others = [name for name in columns if name not in known]
    if others:
        raise InputError(f"data=spoken: columns {others} were asked for, it has {list(known)}")
    for name, value, least in (
        ("speakers", speakers, 1),
        ("clips_per_phrase", clips_per_phrase, 1),
        ("sentences", sentences, 1),
        ("unknown", unknown, 0),
    ):
        if type(value) is not int or value < least:
            raise InputError(f"data.{name}={value!r}: a whole number from {least} is needed")
    rule = SplitRule(**{**{str(key): value for key, value in (split or {}).items()}, "by": "speaker"})
    shares = {"train": 1 - rule.validation - rule.test, "validation": rule.validation, "test": rule.test}
    if rule.folds is not None:
        shares = {f"fold {number}": 1 / rule.folds for number in range(1, rule.folds + 1)}
    _check_inputs(path, phrases, grammar, unknown)
    if grammar is not None:
        texts = _draw_sentences(grammar, sentences, {name: share for name, share in shares.items() if share > 0})
        rows = _join(list(texts.values()))
    else:
        rows = _read_phrases(path, phrases, column_map)
        texts = dict.fromkeys(shares, rows)
    accents = [accents] if isinstance(accents, str) else accents
    _check_phrases(rows, is_english=all(accent.startswith("en") for accent in accents or ()))
    found = find_engines(engines)
    if unknown:
        listed = None if words is None else _read_words(words)
        for number, text in enumerate(find_near_misses(rows["text"], unknown, listed), start=1):
            _append(rows, id=f"{UNKNOWN}-{number}", origin=f"data.unknown[{number}]", text=text, label=UNKNOWN)
    by_split = split_speakers(draw_speakers(speakers, found, accents, pitch, rate), shares)
    splits = {name: Rows() for name in by_split}
    utterances: list[Utterance] = []
    for name, those in by_split.items():
        count = clips_per_phrase if grammar is not None else max(1, round(shares[name] * clips_per_phrase))
        splits[name] = _say_all(texts[name], those, count, utterances)
    if "audio" in columns:
        origins = [origin for table in splits.values() for origin in table["origin"]]
        paths = iter(speak_all(utterances, origins))
        for table in splits.values():
            table["audio"] = [next(paths) for _ in table["id"]]
    if "transcript" in columns or grammar is not None:
        for table in splits.values():
            table["transcript"] = list(table["text"])
    _log(rows, by_split)
    if rule.folds is not None:
        splits = {"train": _join_folds(splits)}
    return build(splits)


def _join(parts: Sequence[Rows]) -> Rows:
    return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}


def _join_folds(folds: Mapping[str, Rows]) -> Rows:
    """The rows of all folds, each with the number of its fold."""
    parts = list(folds.values())
    return _join(parts) | {HELD_OUT_IN: [str(number) for number, part in enumerate(parts, start=1) for _ in part["id"]]}


def _say_all(rows: Rows, speakers: Sequence[Speaker], count: int, utterances: list[Utterance]) -> Rows:
    """`count` rows for each phrase, spoken by the speakers in turn; appends to `utterances`.

    Each phrase has its own order of the speakers. A take that sounds the same as one before is replaced by a later one.
    """
    table: Rows = {name: [] for name in (*rows, "speaker")}
    for row, text in enumerate(rows["text"]):
        order = sorted(speakers, key=lambda speaker: below(2**64, text, speaker.name))
        said: set[Utterance] = set()
        for number in range(count):
            speaker = order[number % len(order)]
            take = number // len(order)
            while (utterance := speaker.say(text, take)) in said:
                take += len(order)
                if take > 1000 * len(order):
                    raise InputError(
                        f"{rows['origin'][row]}: {len(order)} speakers can't say it in {count} different ways; "
                        "raise data.speakers or lower data.clips_per_phrase"
                    )
            said.add(utterance)
            utterances.append(utterance)
            values = {name: cells[row] for name, cells in rows.items()}
            # Unique over all splits, as a speaker is in one only.
            _append(table, **{**values, "id": f"{values['id']}-{speaker.name}-{take}", "speaker": speaker.name})
    return table


def _append(table: Rows, **values: str) -> None:
    for name, cells in table.items():
        cells.append(values.get(name, ""))


def _check_inputs(
    path: str | None, phrases: Mapping[str, Sequence[str]] | None, grammar: str | None, unknown: int
) -> None:
    given = sum(value is not None for value in (path, phrases, grammar))
    if given != 1:
        raise InputError(
            "data.path=phrases.csv, data.phrases={label: [phrase, ...]} or data.grammar=FILE: one of them is needed, "
            f"and {given or 'none'} {'are' if given > 1 else 'is'} given"
        )
    if unknown and grammar is not None:
        raise InputError(f"data.unknown={unknown}: near misses are of phrases, and data.grammar has sentences")


def _draw_sentences(path: str, count: int, shares: Mapping[str, float]) -> dict[str, Rows]:
    """Split -> rows of sentences that no other split has; the values that a slot has for test are in test only."""
    grammar = read_grammar(Path(path).expanduser())
    sizes = {name: max(1, round(share * count)) for name, share in shares.items()}
    kinds = {"test": "test"} if any(value.split for each in grammar.slots.values() for value in each) else {}
    drawn: dict[str, list[Sentence]] = {"": [], "test": []}
    for kind in drawn:
        wanted = sum(size for name, size in sizes.items() if kinds.get(name, "") == kind)
        split = kind or ("train" if kinds else "")
        try:
            drawn[kind] = sample(grammar, wanted, split=split, known=[sentence.text for sentence in drawn[""]])
        except InputError as error:
            raise InputError(f"data.sentences={count}, data.grammar={path}: {error}") from None
    if lines := sum(len(lines) for topics in grammar.out_of_scope.values() for lines in topics.values()):
        logger.info("%s: its %d texts that are out of scope are not spoken", path, lines)
    tables = {}
    for name, size in sizes.items():
        rest = drawn[kinds.get(name, "")]
        chosen, rest[:size] = rest[:size], []
        tables[name] = {
            "id": ["-".join((sentence.label, *words_of(sentence.text))) for sentence in chosen],
            "origin": [sentence.expression.origin for sentence in chosen],
            "text": [sentence.text for sentence in chosen],
            "label": [sentence.label for sentence in chosen],
            "template": [sentence.expression.origin for sentence in chosen],
            "slots": [json.dumps(sentence.values, ensure_ascii=False) for sentence in chosen],
        }
    return tables


def _read_phrases(
    path: str | None, phrases: Mapping[str, Sequence[str]] | None, column_map: Mapping[str, str | None] | None
) -> Rows:
    """Columns id, origin, text, label and, if the file has it, template."""
    if path is not None:
        asked = ("text", "label")
        table = to_columns(
            read_table(str(path)), asked, read_map(column_map, asked), split="train", prefix=Path(str(path)).stem
        )
        return {name: table[name] for name in ("id", "origin", "text", "label", "template") if name in table}
    rows: Rows = {name: [] for name in ("id", "origin", "text", "label")}
    if not isinstance(phrases, Mapping):
        raise InputError(f"data.phrases={phrases!r}: label: [phrase, ...] is needed")
    for label, texts in phrases.items():
        given = [texts] if isinstance(texts, str) else texts
        if not isinstance(given, Sequence) or not given:
            raise InputError(f"data.phrases.{label}: a list of phrases is needed, not {texts!r}")
        for number, text in enumerate(given):
            origin = f"data.phrases.{label}[{number}]"
            if not isinstance(text, str):
                raise InputError(f"{origin}: {text!r} is not a text; put quotes around it")
            _append(rows, id=f"{label}-{number}", origin=origin, text=text, label=str(label))
    return rows


def _check_phrases(rows: Rows, is_english: bool) -> None:
    """Refuse phrases that can't be spoken, and those that are there twice."""
    bad: list[str] = []
    first: dict[str, int] = {}
    for row, (text, label, origin) in enumerate(zip(rows["text"], rows["label"], rows["origin"], strict=True)):
        key = normalise(text)
        foreign = next((c for c in text if c.isalpha() and "LATIN" not in unicodedata.name(c, "")), None)
        if not any(character.isalnum() for character in text):
            bad.append(f"{origin}: nothing to say in {text!r}")
        elif not label.strip():
            bad.append(f"{origin}: the label is empty")
        elif is_english and foreign:
            bad.append(f"{origin}: an English voice can't say {foreign!r}; name a voice for it by data.accents")
        elif first.setdefault(key, row) != row:
            other = rows["label"][first[key]]
            under = "" if other == label else f" under {other!r}, here {label!r}"
            bad.append(f"{origin}: {text!r} is also in {rows['origin'][first[key]]}{under}")
    refuse(bad)


def _read_words(path: str) -> list[str]:
    try:
        words = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.words={path}: cannot be read as UTF-8 text: {error}") from None
    return [word.strip() for word in words if word.strip()]


def _log(rows: Rows, by_split: Mapping[str, Sequence[Speaker]]) -> None:
    labels = Counter(rows["label"])
    if len(labels) > 20:
        logger.info("%d phrases of %d labels", len(rows["text"]), len(labels))
    else:
        logger.info("phrases: %s", ", ".join(f"{label} {count:,}" for label, count in labels.items()))
    for name, speakers in by_split.items():
        engines = Counter(speaker.voice.engine for speaker in speakers)
        logger.info(
            "%s: %d speakers (%s)", name, len(speakers), ", ".join(f"{e} {n}" for e, n in sorted(engines.items()))
        )
    if labels[UNKNOWN]:
        near = [text for text, label in zip(rows["text"], rows["label"], strict=True) if label == UNKNOWN]
        logger.info("%s: %s", UNKNOWN, quote(near))
