"""Accuracy on test after training on few clips of each label, over many draws: the curve and its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from voicecommand.compare.tables import Share, markdown_table, points, with_interval
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.report import figures

if TYPE_CHECKING:
    from voicecommand.compare.pool import Pool, Rows

COUNTS = (1, 2, 5, 10, 20)  # examples of each label
DRAWS = 20


class Drawn(TypedDict):
    """The mean accuracy over several draws of `examples` rows of each label, the worst and the best draw."""

    examples: int
    value: float
    min: float
    max: float


class Point(Share):
    """Accuracy with `examples` clips of each label in training.

    `value` is the mean over the draws; its interval is a bootstrap over test's speakers. `spread` (the standard
    deviation), `min` and `max` are over the draws.
    """

    examples: int
    level: float
    method: str
    groups: int | None
    note: str | None
    spread: float
    min: float
    max: float


class LearningCurve(TypedDict):
    """A curve; `labels` and `test` are the numbers of labels and of test clips."""

    draws: int
    labels: int
    test: int
    curve: list[Point]


def draw_few(pool: Pool, counts: Sequence[int], draws: int) -> list[dict[int, Rows]]:
    """For each draw: count -> the rows of that many clips of each label, none of test.

    The clips of a smaller count are among those of a greater one. Draw i is the same in every call.
    """
    train, found = np.flatnonzero(np.isin(pool.splits, ("train", "validation"))), []
    for draw in range(draws):
        order = np.random.default_rng([0, draw]).permutation(train)
        of_label = [order[pool.labels[order] == name] for name in pool.names]
        found.append({count: np.concatenate([rows[:count] for rows in of_label]) for count in counts})
    return found


def measure_few_shot(pool: Pool, counts: Sequence[int] = COUNTS, draws: int = DRAWS) -> LearningCurve:
    """The learning curve: the pool's model is fitted on every draw, and answers test."""
    right: dict[int, list[NDArray[np.bool_]]] = {count: [] for count in counts}
    for drawn in draw_few(pool, counts, draws):
        for count, rows in drawn.items():
            right[count].append(pool.fit(rows).right(pool.test))
    curve = []
    for count in counts:
        hits = np.stack(right[count])
        accuracies = hits.mean(axis=1)
        figure = ratio_with_interval(hits.mean(axis=0), None, pool.speakers[pool.test].tolist(), "speaker")
        spread = {"spread": accuracies.std(ddof=1), "min": accuracies.min(), "max": accuracies.max()}
        numbers = {name: float(value) for name, value in spread.items()}
        curve.append(cast(Point, {"examples": count, **figure, **numbers}))
    return {"draws": draws, "labels": len(pool.names), "test": len(pool.test), "curve": curve}


def format_curves(models: Mapping[str, LearningCurve]) -> str:
    """The method and a table of every model's curve, in Markdown."""
    first = next(iter(models.values()))
    header = ["model", "examples a label", "test accuracy %", "draws from, to"]
    rows = []
    for name, model in models.items():
        for own in model["curve"]:
            drawn = f"{points(own['min'])}, {points(own['max'])}"
            rows.append([name, own["examples"], with_interval(own), drawn])
    method = (
        f"Trained on so many clips of each of {first['labels']} labels, {first['draws']} draws from the speakers of"
        f" train, tested on the {first['test']} clips. Interval of the mean: {first['curve'][0]['method']};"
        " one from a figure to itself says nothing: no draw of speakers changes it."
    )
    return f"{method}\n\n{markdown_table(header, rows)}"


def few_shot_png(models: Mapping[str, LearningCurve]) -> bytes:
    """A picture of the curves: means over the draws, with their ranges as bars."""
    first = next(iter(models.values()))
    title = f"mean of {first['draws']} draws; bars: the worst to the best draw"
    return curves_png({name: model["curve"] for name, model in models.items()}, title)


def curves_png(curves: Mapping[str, Sequence[Drawn]], title: str) -> bytes:
    """A picture of learning curves, each of one model."""
    figure = figures.new_figure(6.4, 3.8)
    axes = figure.subplots()
    for i, ((name, curve), colour) in enumerate(zip(curves.items(), figures.LINES, strict=False)):
        counts = [point["examples"] * 1.03**i for point in curve]  # side by side
        low, mean, high = 100 * np.array([(point["min"], point["value"], point["max"]) for point in curve]).T
        spread = np.maximum([mean - low, high - mean], 0)
        axes.errorbar(counts, mean, spread, color=colour, marker="o", markersize=4, elinewidth=1, capsize=2, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sorted({point["examples"] for curve in curves.values() for point in curve}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_xlabel("examples of each label in training")
    axes.set_ylabel("test accuracy %")
    axes.set_title(title, fontsize=10)
    axes.grid(color=figures.GREY, alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figures.to_png(figure)
