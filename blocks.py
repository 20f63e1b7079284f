"""What a report shows, as plain data: strings and numbers, without a word on how it is drawn.

Evaluators and slices give blocks, `report` draws them on the page, the card and the terminal; blocks.json keeps them.
A block stands for itself or for one split. `text` is a paragraph whose every second piece is bold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NotRequired, TypedDict


class Figure(TypedDict):
    """A value with its interval. Without `unit` it is a share, which is shown in percent.

    `groups` is the number of groups that the interval was drawn over, None where there are none; `note` says when not
    to trust the interval.
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    groups: int | None
    note: str | None
    unit: NotRequired[str]


Cell = str | int | float | Figure | None
# name and label: text that keeps its line, or that wraps late; bar: a share with its bar; figure: value and interval.
Form = Literal["text", "name", "label", "origin", "count", "share", "number", "bar", "figure", "figure_and_method"]
Style = Literal["line", "dots", "both", "dashed", "bars", "ring", "across"]
Limits = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What all blocks have.

    `menu`: its name in the page's menu; such a block opens a section. `note` is read before the block, `caption` after
    it. `beside`: in one row with the block before it. `lines` are for the terminal, below the figures of its split.
    """

    kind: ClassVar[str]
    split: str = ""
    title: str = ""
    menu: str = ""
    text: Sequence[str] = ()
    note: str = ""
    caption: str = ""
    beside: bool = False
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """`hub`: the type of this figure in the metadata of a model card."""

    name: str
    form: Form = "text"
    hub: str = ""


@dataclass(frozen=True, kw_only=True)
class Table(Block):
    """`rows` of cells in the form of their columns; the last `totals` rows sum others up.

    `per_split`: the rows of all splits stand in one table, the first cell names the split, and the terminal shows its
    figures. `measured` says in words what was measured, such as "30 examples, 3 labels".
    """

    kind = "table"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    per_split: bool = False
    scroll: bool = False
    totals: int = 0
    measured: str = ""


@dataclass(frozen=True, kw_only=True)
class Matrix(Block):
    """Counts [K, K] over `names`, rows and columns alike; FILE.csv and FILE.png hold it.

    `row` and `column` name what a row and a column is. The largest cells off the diagonal are listed as `pairs` where
    the whole does not fit, "ROW `taken_for` COLUMN", or `no_pairs` where there are none.
    """

    kind = "matrix"
    counts: Sequence[Sequence[int]]
    names: Sequence[str]
    file: str
    row: str
    column: str
    heading: str
    pairs: str
    no_pairs: str
    taken_for: str


@dataclass(frozen=True)
class Bar:
    """One value with its interval, None where there is none; `pale` where it rests on too little."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = None
    pale: bool = False


@dataclass(frozen=True, kw_only=True)
class Bars(Block):
    """Bars, upright or lying, with `counts` naming their counts; `mark` is a value to compare them with."""

    kind = "bars"
    bars: Sequence[Bar]
    values: str
    places: str = ""
    counts: str = ""
    upright: bool = False
    limits: Limits | None = None
    mark: float | None = None


@dataclass(frozen=True)
class Line:
    """Points (x, y), None for a gap in y; `low` and `high` are their intervals. "across" has a y only."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: Style = "line"
    colour: str = "blue"
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Curves(Block):
    """Lines over one axis; `counts` are bars below, one for each of `places`; `mark` is a place with its name."""

    kind = "curves"
    lines_drawn: Sequence[Line]
    x: str
    y: str
    size: tuple[float, float] = (5.4, 4.4)
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    ticks: Sequence[float] = ()
    falling: bool = False
    mark: tuple[float, str] | None = None
    places: Sequence[float] = ()
    counts: Sequence[int] = ()
    counts_name: str = ""


@dataclass(frozen=True)
class Example:
    """One example by id and place; `detail` is what is said of it, such as its confidence."""

    id: str
    origin: str
    text: str
    detail: str


@dataclass(frozen=True)
class ExampleGroup:
    title: str
    detail: str
    examples: Sequence[Example]
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class Examples(Block):
    """Examples of the split, in groups; the page plays their clips where there are any. `empty` is said without any."""

    kind = "examples"
    groups: Sequence[ExampleGroup]
    empty: str = ""


@dataclass(frozen=True)
class Tile:
    """One large figure with its lines of small print."""

    name: str
    value: str
    lines: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Notes(Block):
    """The tiles at the head of a report, the `warnings` that its reader must know, or `lines` only."""

    kind = "notes"
    tiles: Sequence[Tile] = ()
    warnings: Sequence[str] = ()


KINDS = {kind.kind: kind for kind in (Table, Matrix, Bars, Curves, Examples, Notes)}
PARTS = {
    "columns": Column, "bars": Bar, "lines_drawn": Line, "groups": ExampleGroup, "examples": Example, "tiles": Tile,
}  # fmt: skip


def to_json(blocks: Sequence[Block]) -> dict[str, object]:
    """The content of blocks.json."""
    return {"format": 1, "blocks": [{"kind": block.kind} | dataclasses.asdict(block) for block in blocks]}


def from_json(content: Mapping[str, Any]) -> list[Block]:
    """The blocks of blocks.json.

    Raises:
        KeyError, TypeError: not what `to_json` makes.
    """
    return [KINDS[block["kind"]](**_fields(block)) for block in content["blocks"]]


def _fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a block or of a part of one, with the parts in their own classes."""
    fields = {name: value for name, value in content.items() if name != "kind"}
    for name in PARTS.keys() & fields.keys():
        fields[name] = [PARTS[name](**_fields(part)) for part in fields[name]]
    return fields


ABBREVIATIONS = ("f1", "wer", "cer", "ece", "mae", "auroc")


def in_words(metric: str) -> str:
    """ "macro_f1" -> "macro F1": the name of a metric as people write it."""
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in metric.split("_"))


def percent(share: float | None) -> str:
    """0.9312 -> "93.1 %"; None -> "-"."""
    return "-" if share is None else f"{100 * share:.1f} %"


def format_value(figure: Figure) -> str:
    """ "93.1 %" of a share, "1.25 words" of a figure with a unit."""
    return f"{figure['value']:.4g} {figure['unit']}".strip() if "unit" in figure else percent(figure["value"])


def format_bounds(figure: Figure) -> str:
    """ "91.0 to 94.8" of a share, "1.1 to 1.4" of a figure with a unit."""
    bounds = (figure["low"], figure["high"])
    return " to ".join(f"{bound:.4g}" if "unit" in figure else f"{100 * bound:.1f}" for bound in bounds)


def format_figure(figure: Figure, method: bool = True) -> str:
    """93.1 % (91.0 to 94.8, bootstrap over 96 groups (template)); the method may be left out."""
    how = f", {figure['method']}" if method else ""
    return f"{format_value(figure)} ({format_bounds(figure)}{how})"


def figure_tile(name: str, figure: Figure) -> Tile:
    """A tile with the value, its interval and the method."""
    unit = "" if "unit" in figure else " %"
    interval = f"{format_bounds(figure)}{unit} ({100 * figure['level']:.0f} % interval)"
    return Tile(name, format_value(figure), [interval, figure["method"]])


def figure_notes(split: str, figures: Sequence[Figure]) -> list[str]:
    """What must be known of the intervals of a split, each note once."""
    return [f"{split}: {note}." for note in dict.fromkeys(figure["note"] for figure in figures) if note]
