"""How a model does as its input gets worse: noise and band limits for audio, wrong words for text.

What is measured is the `units_metric` of the task's first evaluator: accuracy, for a task of labels.

Every condition is a function of only (seed, id of the example, the data), so that two models are measured on the same
noise and the same wrong words; and what happens at one level happens at the next, but louder or more often.

The score is an area under that figure, as a share of the axis:

- audio: over the signal-to-noise ratio from 0 to 20 dB (trapezoids between 0, 5, 10 and 20 dB), the mean over white,
  pink, brown and babble noise. Clean speech has no place on that axis and is not in it, nor is a recording of noise,
  band limits or clipping: scores of runs measured with and without `noise=` can be compared.
- text: over the share of words that a recogniser gets wrong, as asked for, from 0 to 30 %.

Both are ratios of sums over examples, so their intervals are made like the figure's own.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.noise import NOISE_KINDS
from voicecommand.compare.conditions import SNRS, WRONG_WORDS, Condition
from voicecommand.compare.recogniser_errors import ERROR_RATES
from voicecommand.errors import InputError
from voicecommand.evaluation.base import Answers, Evaluator, Figure
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.evaluation.words import format_figure, name_in_words, number_in_words, percent, value_in_words
from voicecommand.files import write_bytes
from voicecommand.report import figures

logger = logging.getLogger(__name__)
CHUNK = 256  # inputs that are held at once
Columns: TypeAlias = Mapping[str, Sequence | NDArray]
Units: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
FIGURE_COLUMNS = ("value", "low", "high", "method", "groups", "note")


def measure(
    evaluator: Evaluator, clean: Answers, conditions: Iterable[Condition], answer: Callable[[list], Columns]
) -> dict[str, Any]:
    """The figure under every condition, the area under it for each axis, and the score: what robustness.json holds.

    Args:
        clean: what the model answers to the examples as they are.
        answer: inputs -> the columns of the answers, n values each.

    Raises:
        InputError: every example of the split is out of scope.
    """
    if clean.out_of_scope:
        raise InputError(f"split={clean.split}: every example is out of scope; name another split")
    as_it_is, metric = evaluator.units(clean), evaluator.units_metric

    def figure_of(units: Units) -> Figure:
        return ratio_with_interval(*units, clean.groups, clean.group_column, unit=evaluator.unit)

    def row(kind: str, level: float | None, scale: str, share: float | None, units: Units) -> dict[str, Any]:
        return {"kind": kind, "level": level, "unit": scale, "word_error_rate": share, metric: figure_of(units)}

    measured = [row("clean", None, "", None, as_it_is)]
    axes: dict[str, list[tuple[float, Units]]] = {}
    for condition in conditions:
        units = as_it_is
        if condition.word_error_rate != 0:
            units = evaluator.units(_answer_worse(clean, condition, answer))
        measured.append(row(condition.kind, condition.level, condition.unit, condition.word_error_rate, units))
        if condition.has_area and condition.level is not None:
            axes.setdefault(condition.kind, []).append((condition.level, units))
        logger.info("%s: %s %s", _in_words(measured[-1]), name_in_words(metric), value_in_words(measured[-1][metric]))
    areas = {kind: _area(points) for kind, points in axes.items()}
    scored = [kind for kind in areas if kind in (*NOISE_KINDS, WRONG_WORDS)]
    counts, totals = (np.mean([areas[kind][part] for kind in scored], axis=0) for part in (0, 1))
    return {
        "format": 1,
        "split": clean.split,
        "examples": len(clean.ids),
        "metric": metric,
        "greater_is_better": evaluator.greater_is_better,
        "score": figure_of((counts, totals)),
        "score_over": scored,
        "areas": {kind: figure_of(area) for kind, area in areas.items()},
        "conditions": measured,
    }


def _answer_worse(clean: Answers, condition: Condition, answer: Callable[[list], Columns]) -> Answers:
    """The answers to the same examples under a condition, CHUNK at once."""
    rows = range(len(clean.ids))
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    parts = [answer([condition.make(row) for row in chunk]) for chunk in chunks]
    columns = {name: list(chain.from_iterable(part[name] for part in parts)) for name in parts[0]}
    return dataclasses.replace(clean, columns=columns)


def _area(points: list[tuple[float, Units]]) -> Units:
    """Areas under counts and totals over the levels, by trapezoids, as a share of the axis: [n] each."""
    levels, units = zip(*sorted(points, key=lambda point: point[0]), strict=True)

    def area(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        if all(np.array_equal(value, values[0]) for value in values):
            return values[0]  # exactly: the trapezoids of a constant round
        under: NDArray[np.float64] = np.trapezoid(np.stack(values), levels, axis=0)
        return under / (levels[-1] - levels[0])

    counts, totals = zip(*units, strict=True)
    return area(counts), area(totals)


def write_robustness(directory: Path, result: dict[str, Any]) -> None:
    """robustness.json, robustness.csv (a row a condition, then the areas and the score) and robustness.png."""
    directory = Path(directory)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "level", "unit", "word_error_rate", *FIGURE_COLUMNS, "examples", "metric"])
    rows = [
        (row["kind"], row["level"], row["unit"], row["word_error_rate"], row[result["metric"]])
        for row in result["conditions"]
    ]
    rows += [(kind, "area", "", None, figure) for kind, figure in result["areas"].items()]
    for *cells, figure in [*rows, ("score", "area", "", None, result["score"])]:
        writer.writerow([*cells, *(figure[name] for name in FIGURE_COLUMNS), result["examples"], result["metric"]])
    write_bytes(directory / "robustness.csv", text.getvalue().encode())
    write_bytes(directory / "robustness.png", figures.robustness_png(result))
    content = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(directory / "robustness.json", content.encode())


def format_robustness(result: dict[str, Any]) -> str:
    """The lines on the terminal, of at most 120 columns."""
    conditions, metric = result["conditions"], result["metric"]
    clean, what = conditions[0][metric], name_in_words(metric)
    lower = "" if result["greater_is_better"] else ", lower is better,"
    lines = [
        f"{result['split']}, {result['examples']:,} examples: {what}{lower} with its interval ({clean['method']})",
        f"as it is {format_figure(clean, method=False)}",
        "",
    ]
    noise = [row for row in conditions if row["unit"] == "dB"]
    kinds = list(dict.fromkeys(row["kind"] for row in noise))
    width = max([12, *(len(_in_words(row)) for row in conditions if row["unit"] != "dB"), *map(len, kinds)])
    wide = max(19, *(len(_cell(row[metric])) + 2 for row in conditions))
    if kinds:
        lines.append(f"{'noise':<{width}}" + "".join(f"{f'{snr} dB':>{wide}}" for snr in SNRS) + f"{'area':>7}")
    for kind in kinds:
        cells = [_cell(row[metric]) for row in noise if row["kind"] == kind]
        area = number_in_words(result["areas"][kind], "value")
        lines.append(f"{kind:<{width}}" + "".join(f"{cell:>{wide}}" for cell in cells) + f"{area:>7}")
    lines += [""] if kinds else []
    lines += [f"{_in_words(row):<{width}}{_cell(row[metric]):>{wide}}" for row in conditions[1:] if row["unit"] != "dB"]
    if kinds:
        axis = f"SNR from {min(SNRS)} to {max(SNRS)} dB, mean of {', '.join(result['score_over'])} noise"
    else:
        axis = f"the share of wrong words asked for, 0 to {100 * max(ERROR_RATES):.0f} %"
    lines += ["", f"score {format_figure(result['score'], method=False)}: area under {what} over {axis}"]
    found = (row[metric]["note"] for row in conditions if row[metric]["note"])
    notes = dict.fromkeys(note for notes in found for note in notes.split("; "))
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _cell(figure: Figure) -> str:
    value, low, high = (number_in_words(figure, name).replace("100.0", "100") for name in ("value", "low", "high"))
    return f"{value} ({low}, {high})"


def _in_words(row: dict[str, Any]) -> str:
    """ "white, SNR 10 dB", "clipped samples 5 %", "recogniser errors 10 %, measured 9.7 %"."""
    if row["level"] is None:
        return str(row["kind"])
    if row["unit"] == "dB":
        return f"{row['kind']}, SNR {row['level']} dB"
    measured = "" if row["word_error_rate"] is None else f", measured {percent(row['word_error_rate'])}"
    return f"{row['kind']} {100 * row['level']:.0f} %{measured}"
