"""Figures of classification on plain numpy arrays.

Everywhere: `predictions` and `references` are integer class ids [n] below `num_labels` (K); `probabilities`
are float [n, K] with rows that sum to 1; an empty input gives a ValueError, never a NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOP = 5  # labels that an answer names


class RankedLabel(TypedDict):
    """A label and its probability."""

    label: str
    probability: float


def rank_labels(probabilities: NDArray, label_names: Sequence[str]) -> list[list[RankedLabel]]:
    """The TOP most probable labels of each row [n, K], the first of equals before the others."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return [
        [{"label": label_names[i], "probability": float(row[i])} for i in best]
        for best, row in zip(order, probabilities, strict=True)
    ]


def label_counts(matrix: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Hits, support and predicted counts per label [K] of a confusion matrix [K, K]."""
    return np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)


def divide(top: NDArray, bottom: NDArray) -> NDArray:
    """top / bottom, 0 where bottom is 0."""
    return np.divide(top, bottom, out=np.zeros(np.shape(bottom)), where=np.asarray(bottom) > 0)


def check_class_ids(predictions: ArrayLike, references: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64 [n]; a fraction is refused, where a plain cast would turn 0.9 into class 0."""
    arrays = []
    for name, values in (("predictions", predictions), ("references", references)):
        array = np.asarray(values)
        if array.ndim != 1 or not len(array):
            raise ValueError(f"{name} must be a non-empty list of class ids, not an array of shape {array.shape}")
        ids = array.astype(np.int64)
        if not np.array_equal(ids, array):
            raise ValueError(f"{name} must be whole class ids, not probabilities or logits")
        arrays.append(ids)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(f"{len(arrays[0])} predictions for {len(arrays[1])} references")
    return arrays[0], arrays[1]


def check_probabilities(
    probabilities: ArrayLike, references: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Float64 [n, K] and int64 [n], checked against each other."""
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"probabilities must have shape [n, K], not {table.shape}")
    _, expected = check_class_ids(table.argmax(axis=1), references)
    if expected.min() < 0 or expected.max() >= table.shape[1]:
        raise ValueError(f"class ids must be in 0..{table.shape[1] - 1}")
    return table, expected


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Share of predictions [n] equal to references [n]."""
    predicted, expected = check_class_ids(predictions, references)
    return float(np.mean(predicted == expected))


def macro_f1(predictions: ArrayLike, references: ArrayLike, num_labels: int | None = None) -> float:
    """Unweighted mean of F1 over the labels that occur in the references.

    A label with no reference is left out: its F1 would be 0 or undefined and say nothing. (sklearn also
    counts labels that occur in the predictions only.) A label that is never predicted counts with F1 = 0.
    """
    counts = label_counts(confusion_matrix(predictions, references, num_labels))
    return float(macro_f1_of_counts(*counts))


def confusion_matrix(predictions: ArrayLike, references: ArrayLike, num_labels: int | None = None) -> NDArray[np.int64]:
    """Counts [K, K]: rows are references, columns predictions. K is `num_labels`, or the highest id + 1."""
    predicted, expected = check_class_ids(predictions, references)
    highest = int(max(predicted.max(), expected.max())) + 1
    size = highest if num_labels is None else num_labels
    if highest > size or min(predicted.min(), expected.min()) < 0:
        raise ValueError(f"class ids must be in 0..{size - 1}")
    return np.bincount(expected * size + predicted, minlength=size * size).reshape(size, size)


def per_label(predictions: ArrayLike, references: ArrayLike, label_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every label name; 0 where the denominator is 0. By scikit-learn."""
    from sklearn.metrics import precision_recall_fscore_support

    predicted, expected = check_class_ids(predictions, references)
    labels = np.arange(len(label_names))
    columns = precision_recall_fscore_support(expected, predicted, labels=labels, zero_division=0)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(label_names, *columns, strict=True)
    }


def confused_pairs(matrix: ArrayLike, top: int = 10) -> list[tuple[int, int, int]]:
    """The `top` largest off-diagonal cells of a matrix [K, K], as (reference, prediction, count)."""
    cells = np.array(matrix, dtype=np.int64)
    np.fill_diagonal(cells, 0)
    order = np.argsort(-cells, axis=None, kind="stable")[:top]
    rows, columns = np.unravel_index(order, cells.shape)
    return [(int(r), int(c), int(cells[r, c])) for r, c in zip(rows, columns, strict=True) if cells[r, c]]


def macro_f1_of_counts(hits: NDArray, support: NDArray, predicted: NDArray) -> NDArray:
    """Macro F1 [...] from per-label counts [..., K], over labels with support."""
    present = support > 0
    return np.where(present, divide(2 * hits, support + predicted), 0.0).sum(-1) / present.sum(-1)


def confidence(probabilities: ArrayLike) -> NDArray[np.float64]:
    """The score [n] that rejection looks at: the highest probability of each row [n, K]."""
    return np.asarray(probabilities, dtype=np.float64).max(axis=1)
