"""What every evaluation starts from: the answers to a split, and the contract of what turns them into figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from voicecommand.evaluation.blocks import Block

Figure = dict[str, Any]  # value, low, high, level, method, groups, note, as `intervals` makes them; unit if no share


@dataclass(frozen=True)
class Answers:
    """What a model answered to one split of n examples, beside its rows.

    Args:
        texts: what each example says, for people.
        references: target column -> n values, of those targets that the data has.
        columns: of the answers, n values or an array `[n, ...]` each.
        label_names: the labels in the order of their numbers, of a task that has labels.
        groups: values of `group_column` (speaker, template), None where unknown.
        seconds: lengths of the clips, None for text.
        is_synthetic: whether all clips are synthetic speech, as far as is known.

    Raises:
        InputError: no example, or some that carry a label of the model and some that do not.
        ValueError: columns of different lengths, or probabilities that are not finite.
    """

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
    is_synthetic: bool = False

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n == 0:
            raise InputError(f"split {self.split!r} has no examples to evaluate: name another split or data set")
        others = (self.origins, self.texts, self.groups, self.seconds, *self.references.values())
        lengths = {len(column) for column in (*others, *self.columns.values()) if column is not None}
        if lengths != {n}:
            raise ValueError(f"split {self.split!r}: {n} ids, and columns of {sorted(lengths)}")
        if "probabilities" not in self.columns:
            return
        if self.probabilities.shape != (n, len(self.label_names)):
            raise ValueError(f"split {self.split!r}: probabilities {self.probabilities.shape} of {n} examples")
        if not np.isfinite(self.probabilities).all():
            row = int(np.flatnonzero(~np.isfinite(self.probabilities).all(axis=1))[0])
            raise ValueError(f"split {self.split!r}: the probabilities of {self.origins[row]} are not finite")
        if "label" not in self.references:
            return
        unknown = np.flatnonzero(self.label_ids < 0)
        if 0 < len(unknown) < n:
            raise InputError(
                f"{self.origins[int(unknown[0])]}: a label in {self.split!r} that the model does not know "
                f"({len(unknown)} of {n} rows): train with it, or put these rows in an out_of_scope split"
            )

    @cached_property
    def label_ids(self) -> NDArray[np.int64]:
        """The number of each example's label `[n]`, -1 where the model does not have it."""
        number = {name: i for i, name in enumerate(self.label_names)}
        return np.array([number.get(name, -1) for name in self.references["label"]], dtype=np.int64)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Float64 `[n, labels]`, rows that sum to 1."""
        return np.asarray(self.columns["probabilities"], dtype=np.float64)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The number of the most probable label of each example `[n]`; the first of equals."""
        return self.probabilities.argmax(axis=1)

    @property
    def out_of_scope(self) -> bool:
        """Whether every example is out of scope, or has a label that the model does not know."""
        if "label" not in self.references:
            return self.split.startswith(OUT_OF_SCOPE)
        return bool((self.label_ids < 0).all())


class Evaluator(Protocol):
    """Answers -> figures. The first evaluator of a task owns its objective.

    `primary_metric` is what training chooses by and a sweep compares: a number of `quick`, and of `score` a number or a
    `Figure`. `units_metric`, of the same direction, is a ratio of sums (accuracy is right answers of one each, a word
    error rate errors of words); it is the figure by which slices and robustness measure any task.
    """

    @property
    def name(self) -> str: ...
    @property
    def targets(self) -> tuple[str, ...]:
        """The reference columns that it needs."""

    @property
    def primary_metric(self) -> str: ...
    @property
    def greater_is_better(self) -> bool: ...
    @property
    def units_metric(self) -> str: ...
    @property
    def unit(self) -> str:
        """Of `units_metric`, such as "s"; empty for a share or a rate, which is shown in percent."""

    def quick(self, answers: Answers) -> dict[str, float]:
        """The figures of Trainer's log."""

    def score(self, answers: Answers) -> dict[str, Any]:
        """Every figure of a split by name: a `Figure`, a number without an interval, or what `blocks` needs."""

    def units(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of `units_metric`: what counts and of how many, `[n]` each."""

    def blocks(self, scores: Mapping[str, Any], answers: Answers) -> list[Block]:
        """What the page shows of a split."""
