"""The figures of a report: numbers in, PNG bytes out.

matplotlib is imported in functions only and used through its objects (`Figure`, Agg), never pyplot: no
window, no global state, safe in a thread and beside a user's own plots.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.evaluation.blocks import Curves, Matrix, Series
from voicecommand.evaluation.words import name_in_words
from voicecommand.report.fonts import quiet, set_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#2563a8", "#c2571a", "#9aa3ad", "#1f2933"
LINES = (BLUE, ORANGE, "#2f855a", "#7b4fa3", INK)
DPI = 144  # twice the CSS pixel's 72 per unit used below, so that figures stay sharp on dense screens
NUMBERED_LABELS = 40  # above this many labels cells are too small to hold numbers
SIDE_BY_SIDE_LABELS = 20


def new_figure(width: float, height: float) -> Figure:
    """A matplotlib Figure of this many inches that lays itself out and draws on Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG, without matplotlib's version in it, so that equal runs give equal files."""
    set_fonts(figure)
    buffer = io.BytesIO()
    with quiet():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def matrix_png(block: Matrix) -> bytes:
    """Counts and row shares: side by side up to 20 labels, one above the other beyond.

    The size grows with the labels; numbers in the cells stop at 40 labels, names never do.
    """
    counts, labels = np.asarray(block.counts, dtype=np.int64), block.labels
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
    for axis, values, title in ((axes[0], counts, "counts"), (axes[1], shares, "share of each row, %")):
        _draw_matrix(axis, values, names, title, size, numbered)
        axis.set_ylabel(plain(block.axes[0]), fontsize=size + 0.5)
        axis.set_xlabel(plain(block.axes[1]), fontsize=size + 0.5)
    title = f"{block.title}: {counts.sum():,} {block.unit}"
    figure.suptitle(plain(title), fontsize=11, color=INK, x=0.01, ha="left")
    return to_png(figure, DPI if n <= 80 else 110)


def _draw_matrix(axis: Axes, values: NDArray, names: Sequence[str], title: str, size: float, numbered: bool) -> None:
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
    axis.spines[:].set_color("#c8ced4")
    if not numbered:
        return
    whole = np.issubdtype(values.dtype, np.integer)
    for row, column in zip(*np.nonzero(values), strict=True):
        value = values[row, column]
        text = str(value) if whole else f"{100 * value:.1f}" if value < 0.0995 else f"{100 * value:.0f}"
        colour = "white" if shade[row, column] > 0.6 else INK
        axis.text(column, row, text, ha="center", va="center", fontsize=size - 1, color=colour)


def curves_png(block: Curves) -> bytes:
    """A chart of series, with the bars of `below` under it where there are some."""
    figure = new_figure(5.4, 4.4 if block.below else 3.4)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]) if block.below else [figure.subplots()]
    colours = iter(LINES * len(block.series))
    for series in block.series:
        _draw_series(axes[0], series, INK if series.style == "points" else next(colours))
    if block.mark:
        place, words = block.mark
        axes[0].axvline(place, color=INK, linestyle="--", linewidth=1, label=plain(words))
    if block.circled:
        x, y, words = block.circled
        axes[0].plot([x], [y], "o", ms=11, mfc="none", mec=ORANGE, mew=2, label=plain(words))
    if block.y_top is not None:
        axes[0].set_ylim(0, block.y_top)
    if block.x_top is not None:
        axes[0].set_xlim(0, block.x_top)
    _style(axes[0], plain(block.y_label), "" if block.below else plain(block.x_label), legend=True)
    if block.below:
        words, series = block.below
        _draw_series(axes[1], series, GREY)
        _style(axes[1], plain(words), plain(block.x_label))
    return to_png(figure)


def _draw_series(axis: Axes, series: Series, colour: str) -> None:
    label = plain(short(series.name, 40))
    if series.style == "bars":
        width = 0.92 * min(np.diff(series.x), default=1.0)
        axis.bar(series.x, series.y, width, color=colour, alpha=0.8, label=label)
        return
    form = {"line": "-", "dashed": "--", "points": "o", "marked": "o-"}[series.style]
    axis.plot(series.x, series.y, form, color=colour, ms=4, linewidth=1.4, label=label)


def robustness_png(result: dict[str, Any]) -> bytes:
    """What robustness.json holds: the figure over the level of each noise, or of wrong words, and single conditions.

    Bars over the points are intervals; the dashed line is the figure on the examples as they are.
    """
    clean, *conditions = result["conditions"]
    metric = result["metric"]
    unit = clean[metric].get("unit")
    scale = 1 if unit else 100
    words = f"{name_in_words(metric)}, {unit or '%'}"
    highs = [scale * row[metric]["high"] for row in result["conditions"]]
    top = max(102, *highs) if scale == 100 and result["greater_is_better"] else 1.03 * max(highs) or 1
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in conditions:
        if row["unit"] == "dB" or row["word_error_rate"] is not None:
            curves.setdefault(row["kind"], []).append(row)
    single = [row for row in conditions if row["kind"] not in curves]
    figure = new_figure(9.6 if single else 5.4, 3.8)
    axes = figure.subplots(1, 2, width_ratios=[3, 2]) if single else [figure.subplots()]
    axes[0].axhline(scale * clean[metric]["value"], color=GREY, linestyle="--", linewidth=1.2, label="as it is")
    for number, (kind, rows) in enumerate(curves.items()):
        measured = rows[0]["word_error_rate"] is not None
        shift = 0.0 if measured else 0.16 * (number - (len(curves) - 1) / 2)
        places = [100 * row["word_error_rate"] if measured else row["level"] + shift for row in rows]
        _points(
            axes[0], places, [row[metric] for row in rows], scale, LINES[number % len(LINES)], plain(short(kind, 28))
        )
    if single:
        axes[0].invert_xaxis()
        axes[0].set_xticks(sorted({row["level"] for rows in curves.values() for row in rows}))
        names = [row["kind"] + (f", {100 * row['level']:.0f} %" if row["level"] is not None else "") for row in single]
        axes[1].axvline(scale * clean[metric]["value"], color=GREY, linestyle="--", linewidth=1.2)
        for place, row in enumerate(single):
            value = row[metric]
            axes[1].barh(place, scale * value["value"], 0.6, color=BLUE, alpha=0.85)
            axes[1].plot([scale * value["low"], scale * value["high"]], [place, place], color=INK, linewidth=1)
        axes[1].set_yticks(range(len(single)), [plain(short(name, 28)) for name in names])
        axes[1].set_xlim(0, top)
        axes[1].invert_yaxis()
        _style(axes[1], "", words)
        axes[1].grid(visible=False, axis="y")
    axes[0].set_ylim(0, top)
    _style(axes[0], words, "signal-to-noise ratio, dB" if single else "word error rate, measured, %", legend=True)
    return to_png(figure)


def _points(
    axis: Axes, places: Sequence[float], values: Sequence[dict[str, Any]], scale: int, colour: str, label: str
) -> None:
    axis.plot(places, [scale * value["value"] for value in values], "o-", ms=4, color=colour, label=label)
    for place, value in zip(places, values, strict=True):
        axis.plot([place, place], [scale * value["low"], scale * value["high"]], color=colour, linewidth=1, alpha=0.7)


def _style(axis: Axes, y_label: str, x_label: str, legend: bool = False) -> None:
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
