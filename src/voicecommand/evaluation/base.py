"""Answers and what evaluates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What a model answered to one split, beside its rows."""

    split: str
    ids: list[str]
    origins: list[str]
    texts: list[str]
    references: Mapping[str, list]
    columns: Mapping[str, Sequence | NDArray]
    label_names: list[str] = field(default_factory=list)
    groups: list[str | None] | None = None
    group_column: str | None = None
    seconds: list[float] | None = None


class Evaluator(Protocol):
    """STUB."""

    name: str
    primary_metric: str
    greater_is_better: bool
    units_metric: str

    def quick(self, answers: Answers) -> dict[str, float]: ...
