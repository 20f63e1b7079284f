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
import io
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.noise import NOISE_KINDS
from voicecommand.compare.conditions import SNRS, WRONG_WORDS, Condition
from voicecommand.compare.recogniser_errors import ERROR_RATES
from voicecommand.errors import InputError
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.intervals import figure_with_interval, mean_with_interval
from voicecommand.files import write_bytes
from voicecommand.report import figures
from voicecommand.report.terminal import format_figure, percent

logger = logging.getLogger(__name__)
CHUNK = 256  # inputs that are held at once
FIGURE_COLUMNS = ("value", "low", "high", "method", "groups", "note")


def measure(
    clean: Answers, conditions: Iterable[Condition], predict: Callable[[list], NDArray[np.float64]]
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
    as_it_is = clean.predicted == clean.label_ids
    measured = [_row("clean", None, "", None, as_it_is, clean)]
    axes: dict[str, list[tuple[float, NDArray[np.bool_]]]] = {}
    for condition in conditions:
        rows, right = range(len(as_it_is)), as_it_is
        if condition.word_error_rate != 0:
            chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
            answers = [predict([condition.make(row) for row in chunk]) for chunk in chunks]
            right = np.concatenate(answers).argmax(axis=1) == clean.label_ids
        share = condition.word_error_rate
        measured.append(_row(condition.kind, condition.level, condition.unit, share, right, clean))
        if condition.has_area and condition.level is not None:
            axes.setdefault(condition.kind, []).append((condition.level, right))
        logger.info("%s: accuracy %s", _in_words(measured[-1]), percent(measured[-1]["accuracy"]["value"]))
    areas = {kind: _area(points) for kind, points in axes.items()}
    scored = [kind for kind in areas if kind in (*NOISE_KINDS, WRONG_WORDS)]
    score = np.mean([areas[kind] for kind in scored], axis=0)
    return {
        "format": 1,
        "split": clean.split,
        "examples": len(clean.label_ids),
        "score": mean_with_interval(score, clean.groups, clean.group_column),
        "score_over": scored,
        "areas": {kind: mean_with_interval(a, clean.groups, clean.group_column) for kind, a in areas.items()},
        "conditions": measured,
    }


def _row(
    kind: str, level: float | None, unit: str, share: float | None, right: NDArray[np.bool_], clean: Answers
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
    write_bytes(directory / "robustness.csv", text.getvalue().encode())
    write_bytes(directory / "robustness.png", figures.robustness_png(result))
    content = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(directory / "robustness.json", content.encode())


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
