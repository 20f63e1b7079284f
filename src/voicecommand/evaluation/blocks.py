"""What a page shows of a split, as plain data: whoever draws a block knows no task.

A block without a title belongs to the section of the block before it. `note` is a sentence under the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from voicecommand.evaluation.alignment import Pair


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head. Numbers, and the columns with these numbers, are aligned to the right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """Counts `[n, n]` of each pair of labels, or of words: rows are references, columns answers.

    Args:
        name: of its files, NAME.csv and NAME.png.
        axes: what a row and a column is.
        unit: what is counted.
    """

    title: str
    name: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""
    axes: tuple[str, str] = ("label", "prediction")
    unit: str = "examples"


@dataclass(frozen=True)
class Bar:
    """A share, 0 to 1, with what is written beside it, its interval, and further cells of its row."""

    name: str
    share: float
    words: str
    low: float | None = None
    high: float | None = None
    cells: tuple[str | int | float, ...] = ()
    is_faint: bool = False


@dataclass(frozen=True)
class Bars:
    """A row for each bar. `head` names the columns: name, share, and one for each further cell (aligned right)."""

    title: str
    head: tuple[str, ...]
    bars: tuple[Bar, ...]
    note: str = ""


@dataclass(frozen=True)
class Series:
    """Points of a chart, `x` and `y` of the same length; a NaN in `y` leaves a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "dashed", "points", "marked", "bars"] = "line"


@dataclass(frozen=True)
class Curves:
    """A chart of series over one axis.

    Args:
        mark: where a vertical line stands, and what it is.
        circled: a point (x, y) that stands out, and what it is.
        below: the label and the bars of a second, low chart under the first, over the same axis.
        x_top, y_top: where the axis, which starts at 0, ends; None to fit the series.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    mark: tuple[float, str] | None = None
    circled: tuple[float, float, str] | None = None
    below: tuple[str, Series] | None = None
    x_top: float | None = None
    y_top: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Example:
    """One example of a split, by its id; `words` is the answer, or how sure it is.

    `pairs` are its reference and its answer side by side, where a text was written; they stand in place of `text`.
    """

    split: str
    id: str
    origin: str
    text: str
    words: str
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class ExampleGroup:
    """Examples that have something in common; `more` is how many others are not shown."""

    title: str
    detail: str
    examples: tuple[Example, ...]
    more: int = 0


@dataclass(frozen=True)
class Examples:
    """Groups of examples. The page plays those that are clips."""

    title: str
    groups: tuple[ExampleGroup, ...]
    note: str = ""


@dataclass(frozen=True)
class Notes:
    """Paragraphs of text."""

    title: str
    lines: tuple[str, ...]


Block: TypeAlias = Table | Matrix | Bars | Curves | Examples | Notes
