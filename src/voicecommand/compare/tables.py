"""Markdown tables, and figures as their cells: percent without the sign, intervals in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Interval(TypedDict):
    """The ends of a 95 % interval, as shares."""

    low: float
    high: float


class Share(Interval):
    """A share with its 95 % interval."""

    value: float


def markdown_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns, the first one left, the others right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def points(share: float | None) -> str:
    """0.9312 -> "93.1", for a column with % in its header; None -> "-"."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval(ends: Interval | None) -> str:
    """91.0 to 94.8; None -> "-"."""
    return "-" if ends is None else f"{points(ends['low'])} to {points(ends['high'])}"


def with_interval(figure: Share | None) -> str:
    """93.1 (91.0 to 94.8); None -> "-"."""
    return "-" if figure is None else f"{points(figure['value'])} ({interval(figure)})"
