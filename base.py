"""The answers of a model to one split, and what an evaluator of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation.blocks import Block, Figure

Values = list | NDArray  # one value (or row of an array) each example
Scores = dict[str, Any]  # every figure of a split, as metrics.json holds it


@dataclass(frozen=True)
class Answers:
    """One evaluated split of n examples: what was asked for and what was answered.

    `references` has the target columns that the data has; a label is "out_of_scope" throughout an out-of-scope split.
    `columns` holds what was answered (for labels: `probabilities` float64 [n, labels], `label` and `confidence`);
    `texts` are what each example says, for people; `groups` [n] the values of `group_column` (speaker, template), None
    where unknown; `seconds` [n] the lengths of the clips, None for text.

    Raises:
        InputError: no example, or a label that the model does not know.
        ValueError: columns of different lengths, or a number that is not finite.
    """

    split: str
    ids: list[str]
    origins: list[str]
    texts: list[str]
    references: Mapping[str, list]
    columns: Mapping[str, Values]
    label_names: list[str] = field(default_factory=list)
    groups: list[str | None] | None = None
    group_column: str | None = None
    seconds: list[float] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n == 0:
            raise InputError(f"split {self.split!r} has no examples to evaluate: name another split or data set")
        columns = {"origins": self.origins, "texts": self.texts, "groups": self.groups, "seconds": self.seconds}
        columns |= {f"reference {name}": values for name, values in self.references.items()}
        columns |= dict(self.columns)
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if set(lengths.values()) != {n}:
            raise ValueError(f"split {self.split!r}: {n} examples, but columns of {lengths}")
        for name, values in self.columns.items():
            if isinstance(values, np.ndarray) and not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values.reshape(n, -1)).all(axis=1))[0])
                raise ValueError(f"split {self.split!r}: the {name} of {self.origins[row]} are not finite")
        unknown = self._unknown_labels()
        if unknown and not self.out_of_scope:
            raise InputError(
                f"{self.origins[unknown[0]]}: a label in {self.split!r} that the model does not know "
                f"({len(unknown)} of {n} rows): train with it, or put these rows in an out_of_scope split"
            )

    def _unknown_labels(self) -> list[int]:
        known = set(self.label_names)
        return [row for row, name in enumerate(self.references.get("label", ())) if known and name not in known]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def out_of_scope(self) -> bool:
        """Whether no example of this split carries a label of the model."""
        return set(self.references.get("label", ())) == {OUT_OF_SCOPE}

    def take(self, rows: ArrayLike | None) -> Answers:
        """Only the given rows (numbers, or True for each that stays); all of them without any given."""
        if rows is None:
            return self
        chosen = np.arange(len(self))[np.asarray(rows)]

        def of(values: Sequence | NDArray) -> Any:
            return values[chosen] if isinstance(values, np.ndarray) else [values[row] for row in chosen]

        return replace(
            self,
            **{name: of(getattr(self, name)) for name in ("ids", "origins", "texts")},
            references={name: of(values) for name, values in self.references.items()},
            columns={name: of(values) for name, values in self.columns.items()},
            groups=None if self.groups is None else of(self.groups),
            seconds=None if self.seconds is None else of(self.seconds),
        )


class Evaluator(Protocol):
    """Turns answers into figures and blocks. `primary_metric` is the objective of a task's first evaluator.

    `greater_is_better` holds for the primary metric and for `units_metric`, the ratio of sums that `units` gives.
    """

    name: str
    primary_metric: str
    greater_is_better: bool
    units_metric: str

    def quick(self, answers: Answers) -> dict[str, float]:
        """Numbers for Trainer's log."""

    def score(self, answers: Answers, rows: ArrayLike | None = None) -> Scores:
        """Every figure, of all examples or of the given rows; JSON, and no split that is out of scope."""

    def units(self, answers: Answers) -> tuple[NDArray, NDArray]:
        """Of each example what is right (or wrong) and of how many, each [n]: sums divided are `units_metric`."""

    def blocks(self, scores: Scores, answers: Answers | None) -> list[Block]:
        """What a report shows of one split, named by scores["split"]; without answers only what the scores give."""

    def headline(self, scores: Scores) -> Figure:
        """The figure for the leaderboard, a table cell and the card."""
