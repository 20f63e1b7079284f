"""What a page shows, as plain data: whoever draws a block knows no task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; numbers are aligned to the right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """A share, 0 to 1, of each name, with what is written beside it."""

    title: str
    bars: tuple[tuple[str, float, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Notes:
    """Lines of text."""

    title: str
    lines: tuple[str, ...]


Block: TypeAlias = Table | Bars | Notes
