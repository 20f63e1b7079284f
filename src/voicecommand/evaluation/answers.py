"""The answers of a model to one split, and the columns of predictions.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation import arrays


@dataclass(frozen=True)
class Predictions:
    """One evaluated split of n examples and K labels.

    `references` are int64 [n], all -1 in an out-of-scope split; `probabilities` float64 [n, K] with rows
    that sum to 1; `groups` [n] are the values of `group_column` (speaker, template), None where unknown;
    `seconds` [n] are the lengths of the clips, None for text.
    """

    split: str
    ids: list[str]
    origins: list[str]
    texts: list[str]
    references: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: list[str | None] | None
    group_column: str | None
    label_names: list[str]
    seconds: list[float] | None = None

    def __post_init__(self) -> None:
        n = len(self.references)
        columns = (self.ids, self.origins, self.texts, self.groups, self.seconds)
        lengths = [len(column) for column in columns if column is not None]
        if n == 0:
            raise InputError(f"split {self.split!r} has no examples to evaluate: name another split or data set")
        if self.probabilities.shape != (n, len(self.label_names)) or set(lengths) != {n}:
            raise ValueError(f"split {self.split!r}: columns of {n}, {lengths}, {self.probabilities.shape}")
        if not np.isfinite(self.probabilities).all():
            row = int(np.flatnonzero(~np.isfinite(self.probabilities).all(axis=1))[0])
            raise ValueError(f"split {self.split!r}: the probabilities of {self.origins[row]} are not finite")
        unknown = np.flatnonzero(self.references < 0)
        if 0 < len(unknown) < n:
            raise InputError(
                f"{self.origins[int(unknown[0])]}: a label in {self.split!r} that the model does not know "
                f"({len(unknown)} of {n} rows): train with it, or put these rows in an out_of_scope split"
            )

    @property
    def out_of_scope(self) -> bool:
        """Whether no example of this split carries a label of the model."""
        return bool((self.references < 0).all())

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable label of each example [n]; the first of equals."""
        return self.probabilities.argmax(axis=1)


def prediction_schema() -> Any:
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    top = pyarrow.list_(pyarrow.struct([("label", text), ("probability", number)]))
    names = dict.fromkeys(("split", "id", "origin", "text", "label", "prediction"), text)
    return pyarrow.schema(names | {"probability": number, "top_5": top, "accepted": pyarrow.bool_(), "group": text})


def prediction_columns(p: Predictions, threshold: float | None) -> dict[str, list[Any]]:
    """The columns of predictions.parquet for one split; `accepted` is null where no threshold is known."""
    scores, names = arrays.confidence(p.probabilities), p.label_names
    order = np.argsort(-p.probabilities, axis=1, kind="stable")[:, :5]
    values = np.take_along_axis(p.probabilities, order, axis=1)
    top = [
        [{"label": names[i], "probability": float(v)} for i, v in zip(ids, row, strict=True)]
        for ids, row in zip(order, values, strict=True)
    ]
    return {
        "split": [p.split] * len(scores),
        "id": list(p.ids),
        "origin": list(p.origins),
        "text": list(p.texts),
        "label": [OUT_OF_SCOPE if i < 0 else names[i] for i in p.references],
        "prediction": [names[i] for i in p.predicted],
        "probability": scores.tolist(),
        "top_5": top,
        "accepted": [None if threshold is None else bool(score >= threshold) for score in scores],
        "group": [None] * len(scores) if p.groups is None else list(p.groups),
        "seconds": [None] * len(scores) if p.seconds is None else list(p.seconds),
    }


def texts_of(rows: Any) -> list[str]:
    """What each example says: its text, its transcript, or nothing where only the sound is known."""
    column = next((c for c in ("text", "transcript") if c in rows.column_names), None)
    return [""] * len(rows) if column is None else rows[column][:]
