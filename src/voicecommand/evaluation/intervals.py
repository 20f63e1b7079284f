"""Figures with their 95 % interval: Wilson, or a bootstrap over groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.evaluation import arrays
from voicecommand.evaluation.arrays import check_class_ids

FEW_GROUPS = 10


def figure_with_interval(
    name: str,
    predictions: ArrayLike,
    references: ArrayLike,
    groups: Sequence[str | None] | None,
    group_column: str | None,
    seed: int = 0,
    value: float | None = None,
) -> dict[str, Any]:
    """Accuracy or macro F1 with its 95 % interval.

    With groups: percentile bootstrap over groups, a row without a group standing alone. Without: Wilson for
    accuracy, bootstrap over examples for macro F1, which is not a share.
    `note` says when not to trust it. `value` is the point figure, where it is computed already.
    """
    if value is None:
        value = {"accuracy": arrays.accuracy, "macro_f1": arrays.macro_f1}[name](predictions, references)
    statistic = {"accuracy": arrays.accuracy_of_counts, "macro_f1": arrays.macro_f1_of_counts}[name]
    names, method = _resampled(groups, group_column, len(np.asarray(references)))
    if names is None and name == "accuracy":
        right = int(np.sum(np.asarray(predictions) == np.asarray(references)))
        (low, high), method = wilson(right, len(np.asarray(references))), "Wilson"
    else:
        low, high = group_bootstrap(statistic, predictions, references, names, seed=seed)
    return _figure(value, low, high, method, names)


def mean_with_interval(
    values: NDArray[np.float64], groups: Sequence[str | None] | None, group_column: str | None, seed: int = 0
) -> dict[str, Any]:
    """The mean of one number per example [n] with the bootstrap interval that `figure_with_interval` would give."""
    names, method = _resampled(groups, group_column, len(values))
    low, high = mean_bootstrap(values, names, seed=seed)
    return _figure(float(np.mean(values)), low, high, method, names)


def _resampled(
    groups: Sequence[str | None] | None, group_column: str | None, examples: int
) -> tuple[list[str] | None, str]:
    """What a bootstrap draws: the group of each example (or None: examples), and that in words."""
    if groups is None:
        return None, f"bootstrap over {examples} examples"
    names = [f"row {i} alone" if group is None else f"group {group}" for i, group in enumerate(groups)]
    count = len(set(names))
    return names, f"bootstrap over {count} {'group' if count == 1 else 'groups'} ({group_column})"


def _figure(value: float, low: float, high: float, method: str, names: list[str] | None) -> dict[str, Any]:
    count = None if names is None else len(set(names))
    notes = []
    if count is not None and count < FEW_GROUPS:
        notes.append(f"fewer than {FEW_GROUPS} groups: the true interval is wider")
    if low == high:
        notes.append("every resample gave the same value: a bootstrap cannot say how far off it is")
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": LEVEL,
        "method": method,
        "groups": count,
        "note": "; ".join(notes) or None,
    }


RESAMPLES = 1000
LEVEL = 0.95
Statistic = Callable[[NDArray, NDArray, NDArray], NDArray]


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share, without continuity correction (Wilson 1927, JASA 22:209-212)."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, not {successes} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, width = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / width
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / width
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


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
    predicted, expected = check_class_ids(predictions, references)
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
