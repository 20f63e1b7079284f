"""How a model's accuracy falls as its input gets worse: noise and band limits for sound, wrong words for text.

Every condition is a function of (seed, id of the example, the data) alone, so that two models are measured on the
same noise and the same wrong words; and what happens at one level happens at the next, only louder or more often.

The score is an area under accuracy, as a share of the most it could be:

- sound: over the signal-to-noise ratio from 0 to 20 dB (trapezoids between 0, 5, 10 and 20 dB), the mean over white,
  pink, brown and babble noise. Clean speech has no place on that axis and is not in it, nor is a recording of noise,
  band limits or clipping: scores of runs measured with and without `noise=` can be compared.
- text: over the share of words that a recogniser gets wrong, as asked for, from 0 to 30 %.

Both are means of one number per example, so their intervals are bootstrapped over groups as those of accuracy.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand import figures
from voicecommand.errors import InputError
from voicecommand.evaluation import (
    Predictions,
    figure_with_interval,
    format_figure,
    mean_with_interval,
    percent,
    write_atomically,
)

logger = logging.getLogger(__name__)

SNRS = (20, 10, 5, 0)  # dB
MADE_NOISE = ("white", "pink", "brown", "babble")
WRONG_WORDS = "recogniser errors"
BANDS = {"telephone, 300 to 3,400 Hz": (300.0, 3400.0), "low pass, 4 kHz": (0.0, 4000.0)}
CLIPPED = (0.05, 0.2)  # of the samples
RECORDED_SECONDS = 1200  # as much of a recording of noise is used
ERROR_RATES = (0.0, 0.05, 0.1, 0.2, 0.3)  # of the words
SUBSTITUTED, DELETED = 0.6, 0.2  # of the wrong words, the rest are insertions: a choice, near what recognisers do
SIMILAR = 3  # a word is taken for one of so many
CHUNK = 256  # inputs that are held at once
FIGURE_COLUMNS = ("value", "low", "high", "method", "groups", "note")

# A wide fold of English spelling into sound, after Soundex (Russell 1918) but with the first letter folded too.
SOUNDS = (
    ("^kn", "n"), ("^wr", "r"), ("^wh", "w"), ("ph", "f"), ("gh", ""), ("ck", "k"), ("qu", "kw"), ("x", "ks"),
    ("c(?=[eiy])", "s"), ("c", "k"), ("z", "s"), ("[aeiouy]+", "a"), (r"(.)\1+", r"\1"),
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One way of making the input worse: `make(row)` is the clip (float32 [samples]) or the text that is measured.

    `level` is dB of signal-to-noise ratio or a share, None where there is but one. `has_area`: the levels of this
    kind are an axis with an area. `word_error_rate` is the measured one of texts.
    """

    kind: str
    level: float | None
    unit: str
    make: Callable[[int], Any]
    has_area: bool = False
    word_error_rate: float | None = None


def measure(
    clean: Predictions, conditions: Iterable[Condition], predict: Callable[[list], NDArray[np.float64]]
) -> dict[str, Any]:
    """Accuracy under every condition, the area under it for each axis, and the score: what robustness.json holds.

    Args:
        clean: what the model says to the examples as they are.
        predict: inputs -> probabilities [n, K].

    Raises:
        InputError: the split has no example with a label of the model.
    """
    if clean.out_of_scope:
        raise InputError(f"split={clean.split}: no example has a label of the model; name another split")
    as_it_is = clean.predicted == clean.references
    measured = [_row("clean", None, "", None, as_it_is, clean)]
    axes: dict[str, list[tuple[float, NDArray[np.bool_]]]] = {}
    for condition in conditions:
        rows, right = range(len(as_it_is)), as_it_is
        if condition.word_error_rate != 0:
            chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
            answers = [predict([condition.make(row) for row in chunk]) for chunk in chunks]
            right = np.concatenate(answers).argmax(axis=1) == clean.references
        share = condition.word_error_rate
        measured.append(_row(condition.kind, condition.level, condition.unit, share, right, clean))
        if condition.has_area and condition.level is not None:
            axes.setdefault(condition.kind, []).append((condition.level, right))
        logger.info("%s: accuracy %s", _in_words(measured[-1]), percent(measured[-1]["accuracy"]["value"]))
    areas = {kind: _area(points) for kind, points in axes.items()}
    scored = [kind for kind in areas if kind in (*MADE_NOISE, WRONG_WORDS)]
    score = np.mean([areas[kind] for kind in scored], axis=0)
    return {
        "format": 1,
        "split": clean.split,
        "examples": len(clean.references),
        "score": mean_with_interval(score, clean.groups, clean.group_column),
        "score_over": scored,
        "areas": {kind: mean_with_interval(a, clean.groups, clean.group_column) for kind, a in areas.items()},
        "conditions": measured,
    }


def _row(
    kind: str, level: float | None, unit: str, share: float | None, right: NDArray[np.bool_], clean: Predictions
) -> dict[str, Any]:
    # Right or wrong as class ids against all ones: their accuracy is the share that is right.
    ones = np.ones(len(right))
    figure = figure_with_interval("accuracy", right, ones, clean.groups, clean.group_column)
    return {"kind": kind, "level": level, "unit": unit, "word_error_rate": share, "accuracy": figure}


def _area(points: list[tuple[float, NDArray[np.bool_]]]) -> NDArray[np.float64]:
    """Area under right or wrong over the levels, by trapezoids, as a share of the axis: [n]."""
    levels, rights = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    area: NDArray[np.float64] = np.trapezoid(np.stack(rights).astype(np.float64), levels, axis=0)
    return area / (levels[-1] - levels[0])


def _generator(seed: int, *names: str) -> np.random.Generator:
    """The same for the same names, on every machine and for every model."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


# --- sound -------------------------------------------------------------------------------------------------------


def sound_conditions(
    clips: Sequence[NDArray[np.int16]],
    ids: Sequence[str],
    speakers: Sequence[str | None] | None,
    recording: tuple[str, NDArray[np.float32]] | None = None,
    seed: int = 0,
) -> list[Condition]:
    """Noise over SNRS, band limits and clipping.

    Clips are int16 [samples] at 16 kHz; what is made is float32 [samples] within -1 to 1.
    The signal-to-noise ratio is that of the whole clip, pauses included. Babble is of other clips of the split, by
    other speakers where they are known. `recording` is the name and the samples of real noise.
    """
    import torch

    from voicecommand import augmentation
    from voicecommand.audio import SAMPLING_RATE

    def clip(row: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(clips[row]).astype(np.float32) / 32768)[None]

    def finished(waveform: torch.Tensor) -> NDArray[np.float32]:
        # A sum beyond full scale is turned down, not cut off: clipping is measured by itself.
        sound: NDArray[np.float32] = (waveform[0] / waveform.abs().max().clamp(min=1)).numpy()
        return sound

    def noisy(kind: str, snr: float, row: int) -> NDArray[np.float32]:
        waveform = clip(row)
        generator, samples = _generator(seed, kind, ids[row]), waveform.shape[1]
        if kind == "babble":
            noise = _babble(row, samples, augmentation.VOICES, clips, speakers, generator)
        else:
            start = int(generator.integers(len(banks[kind])))
            noise = np.take(banks[kind], np.arange(start, start + samples), mode="wrap")
        return finished(augmentation.add_noise(waveform, torch.from_numpy(noise)[None], snr))

    def limited(low: float, high: float, row: int) -> NDArray[np.float32]:
        return finished(augmentation.band_limit(clip(row), low, high, SAMPLING_RATE))

    def clipped(share: float, row: int) -> NDArray[np.float32]:
        return finished(augmentation.clip(clip(row), share))

    length = augmentation.NOISE_SECONDS * SAMPLING_RATE
    banks = {kind: augmentation.make_noise(kind, length, seed) for kind in MADE_NOISE if kind != "babble"}
    banks |= dict([recording]) if recording else {}
    kinds = [*MADE_NOISE, *([recording[0]] if recording else [])]
    found = [Condition(kind, snr, "dB", partial(noisy, kind, snr), True) for kind in kinds for snr in SNRS]
    found += [Condition(name, None, "", partial(limited, low, high)) for name, (low, high) in BANDS.items()]
    return found + [Condition("clipped samples", share, "share", partial(clipped, share)) for share in CLIPPED]


def _babble(
    row: int,
    samples: int,
    voices: int,
    clips: Sequence[NDArray[np.int16]],
    speakers: Sequence[str | None] | None,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Other clips, `voices` at once at one level, each begun somewhere and repeated: float32 [samples].

    Raises:
        InputError: no other clip to make babble of.
    """
    total, found = np.zeros(samples, dtype=np.float32), 0
    own = speakers[row] if speakers is not None else None
    others = own is not None and any(speaker != own for speaker in speakers or ())
    for other in generator.permutation(len(clips)):
        if other == row or (others and speakers is not None and speakers[other] == own):
            continue
        voice = np.asarray(clips[other]).astype(np.float32)
        level = np.sqrt(np.mean(voice**2))
        if level < 1:  # silence
            continue
        total += np.take(voice / level, np.arange(samples) + generator.integers(len(voice)), mode="wrap")
        found += 1
        if found == voices:
            break
    if not found:
        raise InputError("babble needs two clips that are not silent; measure on a larger split")
    return total


def read_recording(path: str | None, columns: Sequence[str] = ("audio",)) -> tuple[str, NDArray[np.float32]] | None:
    """A recording of noise, or a folder of them one after the other: its name, and float32 [samples] of level 1.

    Args:
        path: None for no recording.
        columns: what the model to measure reads.

    Raises:
        InputError: the model reads no sound; nothing there, or nothing but silence; what `audio.read_audio` refuses.
    """
    if path is None:
        return None
    if "audio" not in columns:
        raise InputError(f"noise={path}: the run's model reads {columns[0]}; leave it out")
    from voicecommand import audio

    place = Path(path)
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    parts, seconds = [], 0.0
    for file in files:
        waveform = audio.read_audio(file, max_seconds=RECORDED_SECONDS, name=f"noise={file}").waveform
        level = np.sqrt(np.mean(waveform**2)) if len(waveform) else 0.0
        if level > 1e-4:
            parts.append((waveform / level).astype(np.float32))
            seconds += len(waveform) / audio.SAMPLING_RATE
        if seconds >= RECORDED_SECONDS:
            break
    if not parts:
        raise InputError(f"noise={path}: no recording that is not silent")
    logger.info("noise=%s: %d files, %.0f s", path, len(parts), seconds)
    return f"{place.stem} (recorded)", np.concatenate(parts)


# --- text --------------------------------------------------------------------------------------------------------


def text_conditions(texts: Sequence[str], ids: Sequence[str], corpus: Iterable[str], seed: int = 0) -> list[Condition]:
    """ERROR_RATES of wrong words, as a speech recogniser might leave them; `corpus` gives the words it knows."""
    errors = RecogniserErrors(corpus, seed)
    found = []
    for rate in ERROR_RATES:
        spoilt = [errors.spoil(text, identity, rate) for text, identity in zip(texts, ids, strict=True)]
        wer = word_error_rate(texts, spoilt)
        found.append(Condition(WRONG_WORDS, rate, "share", spoilt.__getitem__, True, wer))
    return found


class RecogniserErrors:
    """Wrong words as a recogniser makes them, from the words of the data itself.

    Of the errors, SUBSTITUTED are words that sound or are spelt like the one said, DELETED are missing words, the
    rest are words too many, drawn by how often they occur. At a higher rate the errors of a lower one are all there.
    """

    def __init__(self, corpus: Iterable[str], seed: int = 0) -> None:
        self.seed = seed
        counts = Counter(core for text in corpus for word in text.split() if (core := _core(word)))
        self.words = sorted(counts)
        frequencies = np.array([counts[word] for word in self.words], dtype=np.float64)
        self.cumulative = np.cumsum(frequencies) / max(frequencies.sum(), 1)
        self.by_pair: dict[str, list[str]] = {}
        for word in self.words:
            for pair in _pairs(word):
                self.by_pair.setdefault(pair, []).append(word)
        self.known: dict[str, list[str]] = {}

    def spoil(self, text: str, identity: str, rate: float) -> str:
        """The text with about `rate` of its words wrong, never empty; `identity` (the row's id) is all it hangs on."""
        words = text.split()
        draws = _generator(self.seed, identity).random((len(words), 3))
        found = []
        for word, (happens, kind, which) in zip(words, draws, strict=True):
            if happens >= rate:
                found.append(word)
            elif kind < SUBSTITUTED and (near := self.similar(_core(word))):
                found.append(near[int(which * len(near))])
            elif kind >= SUBSTITUTED + DELETED:
                found += [word, self.words[int(np.searchsorted(self.cumulative, which, side="right"))]]
        return text if found == words else " ".join(found or words[:1])

    def similar(self, word: str) -> list[str]:
        """Up to SIMILAR other words of the data, the nearest by sound and spelling first."""
        if word not in self.known:
            shared = Counter(other for pair in _pairs(word) for other in self.by_pair.get(pair, ()))
            shared.pop(word, None)
            near = sorted(shared, key=lambda other: (-shared[other], other))[:30]
            self.known[word] = sorted(near, key=lambda other: (_unlikeness(word, other), other))[:SIMILAR]
        return self.known[word]


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substituted, deleted and inserted words over the words that were said, of all texts together."""
    pairs = [(said.split(), heard.split()) for said, heard in zip(references, hypotheses, strict=True)]
    return sum(edit_distance(*pair) for pair in pairs) / max(1, sum(len(said) for said, _ in pairs))


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions between two sequences (Levenshtein 1966)."""
    if first == second:
        return 0
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


def _core(word: str) -> str:
    """The word without case and punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", word.casefold())


def _sound(word: str) -> str:
    for spelt, said in SOUNDS:
        word = re.sub(spelt, said, word)
    return word


def _pairs(word: str) -> set[str]:
    """Neighbouring letters of the spelling and, marked, of the sound, ends included."""
    forms = (("", f"^{word}$"), ("~", f"^{_sound(word)}$"))
    return {mark + form[i : i + 2] for mark, form in forms for i in range(len(form) - 1)}


def _unlikeness(word: str, other: str) -> float:
    """0 to 1: the mean over spelling and sound of edits per letter."""
    forms = ((word, other), (_sound(word), _sound(other)))
    return sum(edit_distance(a, b) / max(len(a), len(b), 1) for a, b in forms) / 2


# --- what is left behind -----------------------------------------------------------------------------------------


def write_robustness(directory: Path, result: dict[str, Any]) -> None:
    """robustness.json, robustness.csv (a row a condition, then the areas and the score) and robustness.png."""
    directory = Path(directory)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "level", "unit", "word_error_rate", *FIGURE_COLUMNS, "examples"])
    rows = [
        (row["kind"], row["level"], row["unit"], row["word_error_rate"], row["accuracy"])
        for row in result["conditions"]
    ]
    rows += [(kind, "area", "", None, figure) for kind, figure in result["areas"].items()]
    for *cells, figure in [*rows, ("score", "area", "", None, result["score"])]:
        writer.writerow([*cells, *(figure[name] for name in FIGURE_COLUMNS), result["examples"]])
    write_atomically(directory / "robustness.csv", text.getvalue().encode())
    write_atomically(directory / "robustness.png", figures.robustness_png(result))
    content = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(directory / "robustness.json", content.encode())


def format_robustness(result: dict[str, Any]) -> str:
    """The lines on the terminal, of at most 120 columns."""
    conditions = result["conditions"]
    clean = conditions[0]["accuracy"]
    lines = [
        f"{result['split']}, {result['examples']:,} examples: accuracy with its interval ({clean['method']})",
        f"as it is {format_figure(clean, method=False)}",
        "",
    ]
    noise = [row for row in conditions if row["unit"] == "dB"]
    kinds = list(dict.fromkeys(row["kind"] for row in noise))
    width = max([12, *(len(_in_words(row)) for row in conditions if row["unit"] != "dB"), *map(len, kinds)])
    if kinds:
        lines.append(f"{'noise':<{width}}" + "".join(f"{f'{snr} dB':>19}" for snr in SNRS) + f"{'area':>7}")
    for kind in kinds:
        cells = [_cell(row["accuracy"]) for row in noise if row["kind"] == kind]
        area = 100 * result["areas"][kind]["value"]
        lines.append(f"{kind:<{width}}" + "".join(f"{cell:>19}" for cell in cells) + f"{area:>7.1f}")
    lines += [""] if kinds else []
    lines += [f"{_in_words(row):<{width}}{_cell(row['accuracy']):>19}" for row in conditions[1:] if row["unit"] != "dB"]
    if kinds:
        axis = f"SNR from {min(SNRS)} to {max(SNRS)} dB, mean of {', '.join(result['score_over'])} noise"
    else:
        axis = f"the share of wrong words asked for, 0 to {100 * max(ERROR_RATES):.0f} %"
    lines += ["", f"score {format_figure(result['score'], method=False)}: area under accuracy over {axis}"]
    found = (row["accuracy"]["note"] for row in conditions if row["accuracy"]["note"])
    notes = dict.fromkeys(note for notes in found for note in notes.split("; "))
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _cell(figure: dict[str, Any]) -> str:
    value, low, high = (f"{100 * figure[name]:.1f}".replace("100.0", "100") for name in ("value", "low", "high"))
    return f"{value} ({low}, {high})"


def _in_words(row: dict[str, Any]) -> str:
    """ "white, SNR 10 dB", "clipped samples 5 %", "recogniser errors 10 %, measured 9.7 %"."""
    if row["level"] is None:
        return str(row["kind"])
    if row["unit"] == "dB":
        return f"{row['kind']}, SNR {row['level']} dB"
    measured = "" if row["word_error_rate"] is None else f", measured {percent(row['word_error_rate'])}"
    return f"{row['kind']} {100 * row['level']:.0f} %{measured}"
