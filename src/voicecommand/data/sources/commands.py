"""The built-in data set `commands`: a hand-written corpus, rendered the same everywhere, and spoken if asked for.

The text is in `corpus/`; docs/data.md says how it was made and what it can't show. eSpeak NG makes the audio.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.data.grammar.grammar import Grammar
from voicecommand.data.grammar.reading import read_grammar
from voicecommand.data.synthesis.speakers import Speaker
from voicecommand.data.synthesis.words import normalise, read_lists
from voicecommand.errors import InputError

if TYPE_CHECKING:
    import datasets

VERSION = "1"
CORPUS = Path(__file__).parents[1] / "corpus"  # a grammar
COLUMNS = ("id", "origin", "text", "label", "template", "response")
AUDIO_COLUMNS = ("audio", "speaker")
# Synthetic speakers. A variant of eSpeak NG in validation is in no other split except out_of_scope_validation, and the
# same for test; a speaker (variant, accent, pitch and pace) is in only one of the five splits.
SPEAKERS = 400
SPEAKER_SHARES = {"train": 0.66, "validation": 0.14, "test": 0.2}
LABELS = (
    "turn_on",
    "turn_off",
    "set_alarm",
    "set_timer",
    "play_music",
    "stop_music",
    "make_call",
    "send_message",
)
ROWS_PER_LABEL = {"train": 500, "validation": 100, "test": 150}
PHRASINGS_UP_TO = {"train": 0.65, "validation": 0.79, "test": 1.0}
# How often the phrasings of each section of a label's file are drawn. People mostly use direct ones.
WEIGHTS = {"common": 4, "requests": 1, "remarks": 1}
Row = dict[str, str]


@dataclass(frozen=True)
class Phrasing:
    """A hand-written expression of a label, with its place in the corpus.

    A request is an imperative, so that "could you" may precede it; remarks are not.
    """

    template: str
    origin: str
    label: str
    text: str
    is_request: bool
    weight: int
    responses: tuple[str, ...]


class Speech(TypedDict):
    """synthesis/speech.yaml: how people vary a phrasing, and the errors of a recogniser."""

    openers: list[str]
    asks: list[str]
    closers: list[str]
    restarts: list[str]
    fillers: list[str]
    droppable: list[str]
    merged: dict[str, str]
    misheard: dict[str, list[str]]
    split: dict[str, str]


class _Draws:
    """Integers that depend only on the key, not on a library, a hash seed or the platform."""

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, (VERSION, *key)))
        self._count = 0

    def below(self, limit: int) -> int:
        self._count += 1
        return _hash(f"{self._key}#{self._count}") % limit

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, values: Sequence[str]) -> str:
        return values[self.below(len(values))]


def load_commands(columns: Sequence[str] = ("text", "label"), version: str = VERSION) -> datasets.DatasetDict:
    """All splits with all `COLUMNS`, as strings, in a fixed shuffled order.

    Source: written for this project, Apache-2.0.

    Args:
        columns: those that the task needs. If "audio" or "speaker" is among them, the same rows also have the path of
            their clip, synthesised on first use (half a minute on one core), and its synthetic speaker. With "audio",
            "transcript" is the text that is spoken.
        version: of the data set.

    Raises:
        InputError: an unknown column or version, or audio without eSpeak NG.
    """
    if str(version) != VERSION:
        raise InputError(f"commands: version {version!r} was asked for, this is {VERSION!r}")
    known = (*COLUMNS, *AUDIO_COLUMNS, *(["transcript"] if "audio" in columns else []))
    missing = [column for column in columns if column not in known]
    if missing:
        raise InputError(f"commands: columns {missing} were asked for, it has {list(known)}")
    import datasets

    with_audio = bool(set(AUDIO_COLUMNS) & set(columns))
    splits = add_audio(render_splits()) if with_audio else render_splits()
    names = (*COLUMNS, *AUDIO_COLUMNS) if with_audio else COLUMNS
    if "transcript" in columns:
        names = (*names, "transcript")
        splits = {split: [{**row, "transcript": row["text"]} for row in rows] for split, rows in splits.items()}
    features = datasets.Features({column: datasets.Value("string") for column in names})
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows, features=features) for split, rows in splits.items()}
    )


def add_audio(splits: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The same rows, each with `audio`, the path of its clip, and `speaker`."""
    from voicecommand.data.synthesis.speakers import below, speak_all

    speakers = assign_speakers()
    rows = [(split, row) for split, each in splits.items() for row in each]
    chosen = [speakers[split][below(len(speakers[split]), "commands", row["id"])] for split, row in rows]
    utterances = [speaker.say(row["text"]) for speaker, (_, row) in zip(chosen, rows, strict=True)]
    paths = speak_all(utterances, [row["origin"] for _, row in rows])
    spoken: dict[str, list[Row]] = {split: [] for split in splits}
    for (split, row), speaker, path in zip(rows, chosen, paths, strict=True):
        spoken[split].append({**row, "audio": path, "speaker": speaker.name})
    return spoken


def assign_speakers() -> dict[str, list[Speaker]]:
    """The synthetic speakers of each split.

    Raises:
        InputError: eSpeak NG is missing.
    """
    from voicecommand.data.synthesis.engines import find_engines
    from voicecommand.data.synthesis.speakers import draw_speakers, split_speakers

    # only eSpeak NG, whatever else is installed, so that the data is the same everywhere
    speakers = split_speakers(draw_speakers(SPEAKERS, find_engines(["espeak"])), SPEAKER_SHARES)
    for split in ("validation", "test"):
        # Every third speaker is for the out-of-scope split: the same variants, other speakers.
        speakers[f"{OUT_OF_SCOPE}_{split}"] = speakers[split][2::3]
        speakers[split] = [speaker for place, speaker in enumerate(speakers[split]) if place % 3 != 2]
    return speakers


def render_splits() -> dict[str, list[Row]]:
    """The rows of every split; no normalised text occurs twice in all of them together."""
    speech, slots = cast(Speech, read_lists("speech.yaml")), read_corpus().slots
    seen: set[str] = set()
    splits: dict[str, list[Row]] = {}
    groups = {label: assign_splits(read_phrasings(label)) for label in LABELS}
    for split, count in ROWS_PER_LABEL.items():
        kind = "test" if split == "test" else "train"
        values = {slot: [value.text for value in each if value.split == kind] for slot, each in slots.items()}
        rows = [
            _render_new(phrasing, number, values, speech, seen)
            for label in LABELS
            for number, phrasing in _in_turn(groups[label][split], count)
        ]
        splits[split] = _shuffle(rows, split)
    for kind in ("validation", "test"):
        split = f"{OUT_OF_SCOPE}_{kind}"
        rows = [_render_new(p, 0, {}, speech, seen) for p in read_out_of_scope(kind)]
        splits[split] = _shuffle(rows, split)
    return splits


@functools.cache
def read_corpus() -> Grammar:
    """The grammar of the corpus; the origins are those in an installed package too, `corpus/turn_on.yaml:13`."""
    return read_grammar(CORPUS)


def read_phrasings(label: str) -> list[Phrasing]:
    """The phrasings of a label in the order of its file."""
    corpus = read_corpus()
    responses = tuple(line.text for line in corpus.responses[label])
    expressions = [expression for expression in corpus.expressions if expression.label == label]
    return [
        Phrasing(
            template=f"{label}-{number:03d}",
            origin=_place_of(expression.origin),
            label=label,
            text=expression.source,
            is_request=expression.group != "remarks",
            weight=WEIGHTS[expression.group],
            responses=responses,
        )
        for number, expression in enumerate(expressions, start=1)
    ]


def read_out_of_scope(kind: str) -> list[Phrasing]:
    """The out-of-scope requests of "validation" or "test"; templates name the topic."""
    corpus = read_corpus()
    responses = [line.text for line in corpus.responses[OUT_OF_SCOPE]]
    return [
        Phrasing(
            template=f"{OUT_OF_SCOPE}-{topic}-{number:03d}",
            origin=_place_of(line.origin),
            label=OUT_OF_SCOPE,
            text=line.text,
            is_request=False,
            weight=1,
            responses=(responses[number % len(responses)],),
        )
        for topic, lines in corpus.out_of_scope[kind].items()
        for number, line in enumerate(lines, start=1)
    ]


def _place_of(origin: str) -> str:
    return f"{CORPUS.name}/{origin.rpartition('/')[2]}"


def assign_splits(phrasings: Sequence[Phrasing]) -> dict[str, list[Phrasing]]:
    """The phrasings of a label by split: sorted by the hash of their text, and cut at 65 % and 79 %.

    Common ones are sorted and cut separately, so that each split has the same share of them.
    """
    splits: dict[str, list[Phrasing]] = {split: [] for split in PHRASINGS_UP_TO}
    for weight in sorted(set(WEIGHTS.values())):
        section = [p for p in phrasings if p.weight == weight]
        ranked, start = sorted(section, key=lambda p: _hash(f"{p.label}/{p.text}")), 0
        for split, share in PHRASINGS_UP_TO.items():
            end = round(share * len(ranked))
            splits[split] += ranked[start:end]
            start = end
    return splits


def _render_new(phrasing: Phrasing, number: int, values: dict[str, list[str]], speech: Speech, seen: set[str]) -> Row:
    """A row with a new text from a phrasing: drawn again until its normalised text is not in `seen`."""
    for attempt in range(100):
        draws = _Draws(phrasing.template, number, attempt)
        filled = {slot: draws.pick(values[slot]) for slot in _slots_of(phrasing.text)}
        text = _say(phrasing, filled, speech, draws)
        if normalise(text) not in seen:
            seen.add(normalise(text))
            break
    else:
        raise RuntimeError(f"{phrasing.origin}: too few different texts from {phrasing.text!r}")
    return {
        "origin": phrasing.origin,
        "text": text,
        "label": phrasing.label,
        "template": phrasing.template,
        "response": _respond(phrasing, filled),
    }


def _say(phrasing: Phrasing, filled: dict[str, str], speech: Speech, draws: _Draws) -> str:
    """One person's version of a phrasing: with polite words, then as typed, or as a recogniser writes it."""
    text, is_question = phrasing.text.format_map(filled), phrasing.text.endswith("?")
    # a name, a title or "I" keeps its capital within a sentence
    starts_plain = not re.match(r"I\b|\{", phrasing.text)
    before = []
    if draws.chance(25):
        before.append(draws.pick(speech["openers"]) + ",")
    if phrasing.is_request and draws.chance(30):
        ask = draws.pick(speech["asks"])
        is_question = ask.startswith(("could", "can", "would", "will"))
        before.append(ask)
    if before and starts_plain:
        text = text[0].lower() + text[1:]
    text = " ".join([*before, text.rstrip("?")])
    if draws.chance(20):
        text += ", " + draws.pick(speech["closers"])
    if draws.chance(15):
        return text[0].upper() + text[1:] + ("?" if is_question else draws.pick([".", "!", ""]))
    return " ".join(_recognise(normalise(text).split(), speech, draws))


def _recognise(words: list[str], speech: Speech, draws: _Draws) -> list[str]:
    """The words as a recogniser writes them: with hesitations, and some words lost or wrong."""
    if draws.chance(14):
        again = 1 + draws.below(min(3, len(words)))
        words = [*words[:again], *draws.pick(speech["restarts"]).lower().split(), *words]
    if draws.chance(12):
        place = draws.below(len(words))
        words = [*words[:place], draws.pick(speech["fillers"]), *words[place:]]
    if not draws.chance(50):
        return words
    # dropping comes first: an "off" written as "of" must not be dropped as well
    kept = [w for w in words if not (w in speech["droppable"] and draws.chance(25))] or words
    text = f" {' '.join(kept)} "
    for apart, together in speech["merged"].items():
        if f" {apart} " in text and draws.chance(40):
            text = text.replace(f" {apart} ", f" {together} ")
    written = []
    for word in text.split():
        options = speech["misheard"].get(word)
        if options and draws.chance(30):
            word = draws.pick(options)
        elif word in speech["split"] and draws.chance(30):
            word = speech["split"][word]
        written.append(word)
    return written


def _respond(phrasing: Phrasing, filled: dict[str, str]) -> str:
    """The first response with only slots that the phrasing has; the last one of each file has none."""
    fitting = (r for r in phrasing.responses if set(_slots_of(r)) <= set(filled))
    response = next(fitting).format_map(filled)
    return response[0].upper() + response[1:]


def _shuffle(rows: list[Row], split: str) -> list[Row]:
    ordered = sorted(rows, key=lambda row: _hash(f"{VERSION}/{split}/{row['text']}"))
    return [{"id": f"commands-{split}-{place:05d}", **row} for place, row in enumerate(ordered)]


def _in_turn(phrasings: Sequence[Phrasing], count: int) -> Iterator[tuple[int, Phrasing]]:
    """Every phrasing in proportion to its weight, as evenly as whole numbers allow."""
    rounds = max(p.weight for p in phrasings)
    cycle = [p for turn in range(rounds) for p in phrasings if p.weight > turn]
    for number in range(count):
        yield number, cycle[number % len(cycle)]


def _slots_of(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\{(\w+)\}", text)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
