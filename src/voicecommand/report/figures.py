"""The figures of a report: numbers in, PNG bytes out.

matplotlib is imported in functions only and used through its objects (`Figure`, Agg), never pyplot: no
window, no global state, safe in a thread and beside a user's own plots.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
BLUE, ORANGE, GREY, INK = "#2563a8", "#c2571a", "#9aa3ad", "#1f2933"
LINES = (BLUE, ORANGE, "#2f855a", "#7b4fa3", INK)
DPI = 144  # twice the CSS pixel's 72 per unit used below, so that figures stay sharp on dense screens
NUMBERED_LABELS = 40  # above this many labels cells are too small to hold numbers
SIDE_BY_SIDE_LABELS = 20
SHOWN_GROUPS = 40


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of this many inches that lays itself out and draws on Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Any, dpi: int = DPI) -> bytes:
    """The figure as PNG, without matplotlib's version in it, so that equal runs give equal files."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    # matplotlib warns once a glyph, on several lines each: Japanese labels would fill the terminal.
    codes = {code for w in caught for code in re.findall(r"^Glyph (\d+) ", str(w.message))}
    if codes:
        lacking = "".join(sorted(chr(int(code)) for code in codes))
        logger.warning("a figure shows boxes for characters its font lacks: %s", lacking[:40])
    return buffer.getvalue()


def confusion_matrix_png(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> bytes:
    """Counts and row shares: side by side up to 20 labels, one above the other beyond.

    The size grows with the labels; numbers in the cells stop at 40 labels, names never do.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    n = len(labels)
    names = [short(label, 36) for label in labels]
    numbered = n <= NUMBERED_LABELS
    cell = 0.52 if n <= 12 else 0.42 if numbered else 0.19
    side = max(2.6, cell * n) + 0.085 * max(map(len, names)) * (1 if numbered else 2) + 0.6
    beside = n <= SIDE_BY_SIDE_LABELS
    figure = new_figure(2 * side, side + 0.5) if beside else new_figure(side + 0.5, 2 * side + 0.8)
    axes = figure.subplots(1, 2) if beside else figure.subplots(2, 1)
    size = 8.5 if numbered else 7.5
    _draw_matrix(axes[0], counts, names, "counts", size, numbered)
    _draw_matrix(axes[1], shares, names, "share of each row, %", size, numbered)
    figure.suptitle(plain(title), fontsize=11, color=INK, x=0.01, ha="left")
    return to_png(figure, DPI if n <= 80 else 110)


def _draw_matrix(axis: Any, values: NDArray, names: Sequence[str], title: str, size: float, numbered: bool) -> None:
    """One heat map. Colour is the root of value / largest value, so that rare errors show; 0 is white."""
    shade = np.sqrt(values / max(values.max(), 1e-12)) * 0.88 + 0.08
    shown = np.ma.masked_where(values == 0, shade)
    axis.imshow(shown, cmap="Blues", vmin=0, vmax=1.1, interpolation="nearest", aspect="equal")
    positions = range(len(names))
    axis.set_xticks(positions, [plain(name) for name in names], rotation=90, fontsize=size)
    axis.set_yticks(positions, [plain(name) for name in names], fontsize=size)
    axis.set_xticks([p - 0.5 for p in positions], minor=True)
    axis.set_yticks([p - 0.5 for p in positions], minor=True)
    axis.grid(which="minor", color="#e4e8ec", linewidth=0.6 if numbered else 0.35)
    axis.tick_params(which="both", length=0, labelright=not numbered, labeltop=not numbered)
    axis.set_title(title, fontsize=size + 1.5, color=INK)
    axis.set_xlabel("prediction", fontsize=size + 0.5)
    axis.set_ylabel("label", fontsize=size + 0.5)
    axis.spines[:].set_color("#c8ced4")
    if not numbered:
        return
    whole = np.issubdtype(values.dtype, np.integer)
    for row, column in zip(*np.nonzero(values), strict=True):
        value = values[row, column]
        text = str(value) if whole else f"{100 * value:.1f}" if value < 0.0995 else f"{100 * value:.0f}"
        colour = "white" if shade[row, column] > 0.6 else INK
        axis.text(column, row, text, ha="center", va="center", fontsize=size - 1, color=colour)


def learning_curves_png(history: Sequence[dict[str, Any]], best_step: int | None) -> bytes | None:
    """Both losses and validation macro F1 over optimizer steps; None if nothing was logged."""
    curves = {
        name: [(row["step"], row[name]) for row in history if row.get(name) is not None and "step" in row]
        for name in ("loss", "eval_loss", "eval_macro_f1")
    }
    if not any(curves.values()):
        return None
    figure = new_figure(9.6, 3.2)
    left, right = figure.subplots(1, 2)
    if curves["loss"]:
        left.plot(*zip(*curves["loss"], strict=True), color=GREY, label="training")
    if curves["eval_loss"]:
        left.plot(*zip(*curves["eval_loss"], strict=True), color=BLUE, marker="o", ms=4, label="validation")
    _style(left, "loss", "optimizer step", legend=bool(curves["loss"] or curves["eval_loss"]))
    if curves["eval_macro_f1"]:
        steps, values = zip(*curves["eval_macro_f1"], strict=True)
        right.plot(steps, [100 * value for value in values], color=BLUE, marker="o", ms=4, label="validation")
        if best_step in steps:
            best = 100 * values[steps.index(best_step)]
            right.plot([best_step], [best], "o", ms=11, mfc="none", mec=ORANGE, mew=2, label="kept model")
    _style(right, "validation macro F1, %", "optimizer step", legend=bool(curves["eval_macro_f1"]))
    return to_png(figure)


def reliability_png(bins: dict[str, NDArray]) -> bytes:
    """Accuracy against confidence per bin with the ideal diagonal; the examples per bin below."""
    full, width = bins["count"] > 0, 1 / len(bins["count"])
    centres = (np.arange(len(full)) + 0.5) * width
    figure = new_figure(4.8, 4.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.bar(
        centres[full],
        bins["accuracy"][full],
        width * 0.92,
        color=BLUE,
        alpha=0.8,
        label="accuracy of the bin",
    )
    top.plot(bins["confidence"][full], bins["accuracy"][full], "o", ms=4, color=INK, label="at its mean confidence")
    top.plot([0, 1], [0, 1], "--", color=ORANGE, linewidth=1.2, label="perfectly calibrated")
    top.set_ylim(0, 1.03)
    _style(top, "accuracy", "", legend=True)
    bottom.bar(centres, bins["count"], width * 0.92, color=GREY)
    bottom.set_xlim(0, 1)
    _style(bottom, "examples", "confidence (highest probability)")
    return to_png(figure)


def rejection_png(curve: dict[str, NDArray], threshold: float, split: str, out_of_scope: str | None) -> bytes:
    """Over the threshold: share accepted, accuracy of the accepted, false accepts where known; shares [t]."""
    figure = new_figure(5.4, 4.4)
    axis = figure.subplots()
    grid = curve["threshold"]
    axis.plot(grid, 100 * curve["accepted"], color=BLUE, label=f"accepted, {plain(short(split, 24))}")
    axis.plot(grid, 100 * curve["accuracy_accepted"], color="#2f855a", label="accuracy of the accepted")
    if "false_accepts" in curve and out_of_scope:
        label = f"false accepts, {plain(short(out_of_scope, 24))}"
        axis.plot(grid, 100 * curve["false_accepts"], color=ORANGE, label=label)
    axis.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"chosen threshold {threshold:.3f}")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 102)
    _style(axis, "%", "threshold on the highest probability", legend=True)
    return to_png(figure)


def groups_png(by_group: dict[str, Any]) -> bytes:
    """Accuracy of each speaker with its interval and number of examples, lowest first; the SHOWN_GROUPS lowest.

    Speakers with too few examples to compare are grey.
    """
    shares = list(by_group["groups"].items())[:SHOWN_GROUPS]
    figure = new_figure(5.4, 0.9 + 0.23 * max(4, len(shares)))
    axis = figure.subplots()
    for row, (_, share) in enumerate(shares):
        colour = BLUE if share["examples"] >= by_group["least"] else GREY
        axis.barh(row, 100 * share["accuracy"], 0.72, color=colour, alpha=0.85)
        axis.plot([100 * share["low"], 100 * share["high"]], [row, row], color=INK, linewidth=1)
        axis.text(103, row, f"{share['examples']:,}", va="center", fontsize=8, color=INK)
    axis.text(103, -1, "examples", va="center", fontsize=8, color=INK)
    axis.set_yticks(range(len(shares)), [plain(short(name, 24)) for name, _ in shares])
    axis.set_ylim(max(4, len(shares)) - 0.4, -1.4)
    axis.set_xlim(0, 101)
    _style(axis, "", f"accuracy by {plain(by_group['column'])}, %")
    axis.grid(visible=False, axis="y")
    return to_png(figure)


def seconds_png(bins: Sequence[dict[str, Any]]) -> bytes:
    """Accuracy with its interval in each bin of clip lengths; the examples per bin below."""
    figure = new_figure(5.4, 3.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    places, values = range(len(bins)), [b["accuracy"] for b in bins]
    top.bar(places, [100 * value["value"] for value in values], 0.72, color=BLUE, alpha=0.85)
    for place, value in zip(places, values, strict=True):
        top.plot([place, place], [100 * value["low"], 100 * value["high"]], color=INK, linewidth=1)
    top.set_ylim(0, 101)
    _style(top, "accuracy, %", "")
    bottom.bar(places, [b["examples"] for b in bins], 0.72, color=GREY)
    bottom.bar_label(bottom.containers[0], fontsize=8, color=INK)
    bottom.margins(y=0.35)
    bottom.set_xticks(places, [seconds_range(b) for b in bins])
    _style(bottom, "examples", "length of the clip, seconds")
    return to_png(figure)


def robustness_png(result: dict[str, Any]) -> bytes:
    """What robustness.json holds: accuracy over the level of each noise, or of wrong words, and the single conditions.

    Bars over the points are intervals; the dashed line is the accuracy on the examples as they are.
    """
    clean, *conditions = result["conditions"]
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in conditions:
        if row["unit"] == "dB" or row["word_error_rate"] is not None:
            curves.setdefault(row["kind"], []).append(row)
    single = [row for row in conditions if row["kind"] not in curves]
    figure = new_figure(9.6 if single else 5.4, 3.8)
    axes = figure.subplots(1, 2, width_ratios=[3, 2]) if single else [figure.subplots()]
    axes[0].axhline(100 * clean["accuracy"]["value"], color=GREY, linestyle="--", linewidth=1.2, label="as it is")
    for number, (kind, rows) in enumerate(curves.items()):
        measured = rows[0]["word_error_rate"] is not None
        shift = 0.0 if measured else 0.16 * (number - (len(curves) - 1) / 2)
        places = [100 * row["word_error_rate"] if measured else row["level"] + shift for row in rows]
        _points(axes[0], places, rows, LINES[number % len(LINES)], plain(short(kind, 28)))
    if single:
        axes[0].invert_xaxis()
        axes[0].set_xticks(sorted({row["level"] for rows in curves.values() for row in rows}))
        names = [row["kind"] + (f", {100 * row['level']:.0f} %" if row["level"] is not None else "") for row in single]
        axes[1].axvline(100 * clean["accuracy"]["value"], color=GREY, linestyle="--", linewidth=1.2)
        for place, row in enumerate(single):
            value = row["accuracy"]
            axes[1].barh(place, 100 * value["value"], 0.6, color=BLUE, alpha=0.85)
            axes[1].plot([100 * value["low"], 100 * value["high"]], [place, place], color=INK, linewidth=1)
        axes[1].set_yticks(range(len(single)), [plain(short(name, 28)) for name in names])
        axes[1].set_xlim(0, 101)
        axes[1].invert_yaxis()
        _style(axes[1], "", "accuracy, %")
        axes[1].grid(visible=False, axis="y")
    axes[0].set_ylim(0, 102)
    unit = "signal-to-noise ratio, dB" if single else "word error rate, measured, %"
    _style(axes[0], "accuracy, %", unit, legend=True)
    return to_png(figure)


def _points(axis: Any, places: Sequence[float], rows: Sequence[dict[str, Any]], colour: str, label: str) -> None:
    values = [row["accuracy"] for row in rows]
    axis.plot(places, [100 * value["value"] for value in values], "o-", ms=4, color=colour, label=label)
    for place, value in zip(places, values, strict=True):
        axis.plot([place, place], [100 * value["low"], 100 * value["high"]], color=colour, linewidth=1, alpha=0.7)


def seconds_range(length_bin: dict[str, Any]) -> str:
    """ "0.45 to 0.6" of a bin of metrics.json."""
    return f"{length_bin['from']:.3g} to {length_bin['to']:.3g}"


def _style(axis: Any, y_label: str, x_label: str, legend: bool = False) -> None:
    axis.set_ylabel(y_label, fontsize=9)
    axis.set_xlabel(x_label, fontsize=9)
    axis.tick_params(labelsize=8, length=3, color=GREY)
    axis.grid(color="#e4e8ec", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)
    if legend:
        # Above the axes, where no curve can pass behind it.
        axis.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def short(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def plain(text: str) -> str:
    r"""Text that matplotlib prints as it is: a pair of dollar signs would be set as mathematics."""
    return text.replace("$", r"\$")
