"""Metrics on plain numpy arrays, with intervals; imports nothing of ours and nothing heavier than numpy.

The same figures as `evaluate.Metric` classes (Accuracy, MacroF1, PerLabel, ECE, LogLoss, Rejection) live in
`evaluate_metrics.py`. `from voicecommand.metrics import MacroF1` works and imports `evaluate` only then, so
the training path can use the functions below without paying for it before the first step.

Everywhere: `predictions` and `references` are integer class ids [n] below `num_labels` (K); `probabilities`
are float [n, K] with rows that sum to 1; an empty input gives a ValueError, never a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRIC_CLASSES = ("Accuracy", "MacroF1", "PerLabel", "ECE", "LogLoss", "Rejection")
ECE_BINS = 15
RESAMPLES = 1000
LEVEL = 0.95

Statistic = Callable[[NDArray, NDArray, NDArray], NDArray]


def __getattr__(name: str) -> Any:
    """The `evaluate.Metric` classes, imported when they are first asked for (PEP 562)."""
    if name in METRIC_CLASSES:
        from importlib import import_module

        return getattr(import_module("voicecommand.evaluate_metrics"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Share of predictions [n] equal to references [n]."""
    predicted, expected = _class_ids(predictions, references)
    return float(np.mean(predicted == expected))


def macro_f1(predictions: ArrayLike, references: ArrayLike, num_labels: int | None = None) -> float:
    """Unweighted mean of F1 over the labels that occur in the references.

    A label with no reference is left out: its F1 would be 0 or undefined and say nothing. (sklearn also
    counts labels that occur in the predictions only.) A label that is never predicted counts with F1 = 0.
    """
    counts = _label_counts(confusion_matrix(predictions, references, num_labels))
    return float(macro_f1_of_counts(*counts))


def confusion_matrix(predictions: ArrayLike, references: ArrayLike, num_labels: int | None = None) -> NDArray[np.int64]:
    """Counts [K, K]: rows are references, columns predictions. K is `num_labels`, or the highest id + 1."""
    predicted, expected = _class_ids(predictions, references)
    highest = int(max(predicted.max(), expected.max())) + 1
    size = highest if num_labels is None else num_labels
    if highest > size or min(predicted.min(), expected.min()) < 0:
        raise ValueError(f"class ids must be in 0..{size - 1}")
    return np.bincount(expected * size + predicted, minlength=size * size).reshape(size, size)


def per_label(predictions: ArrayLike, references: ArrayLike, label_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every label name; 0 where the denominator is 0."""
    hits, support, predicted = _label_counts(confusion_matrix(predictions, references, len(label_names)))
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    return {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(label_names)
    }


def confused_pairs(matrix: ArrayLike, top: int = 10) -> list[tuple[int, int, int]]:
    """The `top` largest off-diagonal cells of a matrix [K, K], as (reference, prediction, count)."""
    cells = np.array(matrix, dtype=np.int64)
    np.fill_diagonal(cells, 0)
    order = np.argsort(-cells, axis=None, kind="stable")[:top]
    rows, columns = np.unravel_index(order, cells.shape)
    return [(int(r), int(c), int(cells[r, c])) for r, c in zip(rows, columns, strict=True) if cells[r, c]]


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share, without continuity correction (Wilson 1927, JASA 22:209-212)."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, not {successes} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, width = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / width
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / width
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def accuracy_of_counts(hits: NDArray, support: NDArray, predicted: NDArray) -> NDArray:
    """Accuracy [...] from per-label counts [..., K]."""
    return hits.sum(-1) / support.sum(-1)


def macro_f1_of_counts(hits: NDArray, support: NDArray, predicted: NDArray) -> NDArray:
    """Macro F1 [...] from per-label counts [..., K], over labels with support."""
    present = support > 0
    return np.where(present, _ratio(2 * hits, support + predicted), 0.0).sum(-1) / present.sum(-1)


def group_bootstrap(
    statistic: Statistic,
    predictions: ArrayLike,
    references: ArrayLike,
    groups: ArrayLike | None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) that draws whole groups, such as speakers, with replacement.

    Examples of one group fail together, so resampling examples would give too narrow an interval. `groups`
    [n] are names; None resamples examples. `statistic` is `accuracy_of_counts` or `macro_f1_of_counts`;
    both need only hits, support and predicted counts per label, so a resample is one row of a matrix product.
    A resample may miss a label altogether: macro F1 is then over the labels it has.
    """
    predicted, expected = _class_ids(predictions, references)
    size = int(max(predicted.max(), expected.max())) + 1
    # Examples with the same (reference, prediction) are exchangeable: units are these cells, or the groups.
    keys = expected * size + predicted if groups is None else np.asarray(groups)
    _, unit, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    table = np.zeros((3, len(sizes), size))
    np.add.at(table[0], (unit, expected), predicted == expected)
    np.add.at(table[1], (unit, expected), 1)
    np.add.at(table[2], (unit, predicted), 1)
    if groups is None:
        draws, chances = len(expected), sizes / len(expected)
        table /= sizes[None, :, None]
    else:
        draws, chances = len(sizes), np.full(len(sizes), 1 / len(sizes))
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // len(sizes))  # rows of weights held at once: 32 MB
    values = []
    for start in range(0, resamples, chunk):
        weights = generator.multinomial(draws, chances, size=min(chunk, resamples - start)).astype(np.float64)
        values.append(statistic(*np.rint(weights @ table)))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return float(low), float(high)


def mean_bootstrap(
    values: ArrayLike,
    groups: ArrayLike | None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """As `group_bootstrap`, of the mean of a number per example: `values` float [n], `groups` [n] or None."""
    numbers = np.asarray(values, dtype=np.float64)
    _, unit = np.unique(np.arange(len(numbers)) if groups is None else np.asarray(groups), return_inverse=True)
    table = np.stack([np.bincount(unit, numbers), np.bincount(unit)], axis=1)
    n = len(table)
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // n)  # as in group_bootstrap
    means = []
    for start in range(0, resamples, chunk):
        sums = generator.multinomial(n, np.full(n, 1 / n), size=min(chunk, resamples - start)) @ table
        means.append(sums[:, 0] / sums[:, 1])
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def crossed_bootstrap(
    values: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """As `mean_bootstrap`, over groups and labels: each is drawn for itself, an example counts as often as both were.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1(2)): what other speakers saying other commands
    would give. `values` float [n], `groups` and `labels` [n]; a draw without any example is left out.
    """
    numbers = np.asarray(values, dtype=np.float64)
    units = [np.unique(np.asarray(names), return_inverse=True)[1] for names in (groups, labels)]
    sizes = [int(unit.max()) + 1 for unit in units]
    sums, counts = np.zeros(sizes), np.zeros(sizes)
    np.add.at(sums, tuple(units), numbers)
    np.add.at(counts, tuple(units), 1)
    generator = np.random.default_rng(seed)
    drawn = [generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64) for n in sizes]
    total, found = (np.einsum("rl,rl->r", drawn[0] @ table, drawn[1]) for table in (sums, counts))
    tail = (1 - level) / 2
    low, high = np.quantile(total[found > 0] / found[found > 0], [tail, 1 - tail])
    return float(low), float(high)


def confidence(probabilities: ArrayLike) -> NDArray[np.float64]:
    """The score [n] that rejection looks at: the highest probability of each row [n, K]."""
    return np.asarray(probabilities, dtype=np.float64).max(axis=1)


def acceptance_threshold(probabilities: ArrayLike, keep: float = 0.95) -> float:
    """The highest threshold that the confidence of at least `keep` of these in-scope examples reaches."""
    scores = np.sort(confidence(probabilities))[::-1]
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be above 0 and at most 1, not {keep}")
    return float(scores[max(1, math.ceil(keep * len(scores) - 1e-9)) - 1])


def auroc(in_scope: ArrayLike, out_of_scope: ArrayLike) -> float:
    """Chance that an in-scope score beats an out-of-scope one, ties half (Mann and Whitney 1947)."""
    positive, negative = (
        np.asarray(in_scope, dtype=np.float64),
        np.sort(np.asarray(out_of_scope, dtype=np.float64)),
    )
    if not len(positive) or not len(negative):
        raise ValueError("auroc needs scores of both kinds")
    below, at_most = np.searchsorted(negative, positive, "left"), np.searchsorted(negative, positive, "right")
    return float((below + at_most).mean() / 2 / len(negative))


def reliability_bins(scores: ArrayLike, correct: ArrayLike, bins: int = ECE_BINS) -> dict[str, NDArray]:
    """Equal-width bins (low, high] of confidence: `count`, mean `confidence`, `accuracy`, 0 if empty."""
    values, hits = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    index = np.clip(np.ceil(values * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    confidence_sum = np.bincount(index, weights=values, minlength=bins)
    hit_sum = np.bincount(index, weights=hits, minlength=bins)
    return {"count": count, "confidence": _ratio(confidence_sum, count), "accuracy": _ratio(hit_sum, count)}


def expected_calibration_error(probabilities: ArrayLike, references: ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over bins, by count (Naeini 2015; Guo 2017: 15 bins)."""
    table, expected = _probabilities(probabilities, references)
    binned = reliability_bins(table.max(axis=1), table.argmax(axis=1) == expected, bins)
    gaps = np.abs(binned["accuracy"] - binned["confidence"])
    return float((gaps * binned["count"]).sum() / len(expected))


def log_loss(probabilities: ArrayLike, references: ArrayLike) -> float:
    """Mean of -log p(reference), in nats; p is at least the float64 epsilon, so that 0 stays finite."""
    table, expected = _probabilities(probabilities, references)
    given = table[np.arange(len(expected)), expected]
    return float(-np.log(np.clip(given, np.finfo(np.float64).eps, 1.0)).mean())


def _label_counts(matrix: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Hits, support and predicted counts per label [K] of a confusion matrix [K, K]."""
    return np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)


def _ratio(top: NDArray, bottom: NDArray) -> NDArray:
    """top / bottom, 0 where bottom is 0."""
    return np.divide(top, bottom, out=np.zeros(np.shape(bottom)), where=np.asarray(bottom) > 0)


def _class_ids(predictions: ArrayLike, references: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def _probabilities(probabilities: ArrayLike, references: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Float64 [n, K] and int64 [n], checked against each other."""
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"probabilities must have shape [n, K], not {table.shape}")
    _, expected = _class_ids(table.argmax(axis=1), references)
    if expected.min() < 0 or expected.max() >= table.shape[1]:
        raise ValueError(f"class ids must be in 0..{table.shape[1] - 1}")
    return table, expected
