"""Figures with their 95 % interval: Wilson, or a bootstrap over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.evaluation.arrays import check_class_ids, macro_f1_of_counts
from voicecommand.evaluation.base import Figure

FEW_GROUPS = 10


def ratio_with_interval(
    counts: ArrayLike,
    totals: ArrayLike | None,
    groups: Sequence[str | None] | None,
    group_column: str | None,
    value: float | None = None,
    unit: str = "",
) -> Figure:
    """The sum of `counts` over the sum of `totals` (one for each example if None), with its 95 % interval.

    Accuracy is right answers of one each, a word error rate errors of words. With groups: percentile bootstrap over
    groups, where a row without a group is a group of its own. Without: Wilson where each example is right or wrong,
    otherwise a bootstrap over examples. `note` says when not to trust the interval.

    Args:
        counts, totals: numbers `[n]`.
        value: the ratio, where it is computed already.
        unit: of the ratio; empty for a share.

    Raises:
        ValueError: the totals sum to 0.
    """
    above = np.asarray(counts, dtype=np.float64)
    below = np.ones(len(above)) if totals is None else np.asarray(totals, dtype=np.float64)
    if not below.sum():
        raise ValueError(f"nothing to measure: the totals of {len(below)} examples sum to 0")
    names, method = _resampled(groups, group_column, len(above))
    if names is None and np.isin(above, (0, 1)).all() and (below == 1).all():
        (low, high), method = wilson(int(above.sum()), len(above)), "Wilson"
    else:
        low, high = ratio_bootstrap(above, below, names)
    figure = _figure(float(above.sum() / below.sum()) if value is None else value, low, high, method, names)
    return figure | ({"unit": unit} if unit else {})


def macro_f1_with_interval(
    predictions: ArrayLike,
    references: ArrayLike,
    groups: Sequence[str | None] | None,
    group_column: str | None,
    value: float,
) -> Figure:
    """Macro F1, which is `value`, with its 95 % interval: a percentile bootstrap over groups, or over examples."""
    names, method = _resampled(groups, group_column, len(np.asarray(references)))
    low, high = macro_f1_bootstrap(predictions, references, names)
    return _figure(value, low, high, method, names)


def weighted_with_interval(
    function: Callable[[NDArray, NDArray, NDArray], float],
    predictions: ArrayLike,
    references: ArrayLike,
    groups: Sequence[str | None] | None,
    group_column: str | None,
    value: float,
) -> Figure:
    """A figure of any function of (predictions, references, weights), `[n]` each, with its 95 % interval as
    `macro_f1_with_interval` has it. `value` is the function of all examples."""
    predicted, expected = check_class_ids(predictions, references)
    names, method = _resampled(groups, group_column, len(expected))
    if names is None:
        units = np.zeros(len(expected), dtype=np.int64)
    else:
        units = np.unique(np.asarray(names), return_inverse=True)[1]
    # examples of one group with the same reference and prediction are exchangeable
    cells, sizes = np.unique(np.stack([expected, predicted, units]), axis=1, return_counts=True)
    generator, values = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        if names is None:
            weights = generator.multinomial(len(expected), sizes / len(expected))
        else:
            count = int(units.max()) + 1
            weights = generator.multinomial(count, np.full(count, 1 / count))[cells[2]] * sizes
        drawn = weights > 0
        values.append(function(cells[1, drawn], cells[0, drawn], weights[drawn]))
    low, high = _percentiles(values, LEVEL)
    return _figure(value, low, high, method, names)


def _resampled(
    groups: Sequence[str | None] | None, group_column: str | None, examples: int
) -> tuple[list[str] | None, str]:
    """What a bootstrap draws: the group of each example (or None: examples), and that in words."""
    if groups is None:
        return None, f"bootstrap over {examples} examples"
    names = [f"row {i}" if group is None else f"group {group}" for i, group in enumerate(groups)]
    count = len(set(names))
    return names, f"bootstrap over {count} {'group' if count == 1 else 'groups'} ({group_column})"


def _figure(value: float, low: float, high: float, method: str, names: list[str] | None) -> Figure:
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


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share, without continuity correction (Wilson 1927, JASA 22:209-212), by scipy.

    Raises:
        ValueError: not 0 <= successes <= n, or n is 0.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def _percentiles(values: ArrayLike, level: float) -> tuple[float, float]:
    """The middle `level` of resampled values (Efron 1979)."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(values), [tail, 1 - tail])
    return float(low), float(high)


def macro_f1_bootstrap(
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
    [n] are names; None resamples examples. Macro F1 needs only hits, support and predicted counts per label, so a
    resample is one row of a matrix product. A resample may miss a label altogether: macro F1 is then over the labels
    that it has.
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
        values.append(macro_f1_of_counts(*np.rint(weights @ table)))
    return _percentiles(np.concatenate(values), level)


def ratio_bootstrap(
    counts: ArrayLike,
    totals: ArrayLike,
    groups: ArrayLike | None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """As `macro_f1_bootstrap`, of the sum of `counts` over the sum of `totals`: numbers [n], `groups` [n] or None."""
    numbers = np.asarray(counts, dtype=np.float64)
    _, unit = np.unique(np.arange(len(numbers)) if groups is None else np.asarray(groups), return_inverse=True)
    table = np.stack([np.bincount(unit, numbers), np.bincount(unit, np.asarray(totals, dtype=np.float64))], axis=1)
    n = len(table)
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // n)  # as in macro_f1_bootstrap
    ratios = []
    for start in range(0, resamples, chunk):
        sums = generator.multinomial(n, np.full(n, 1 / n), size=min(chunk, resamples - start)) @ table
        drawn = sums[sums[:, 1] > 0]  # a resample may hold no unit at all
        ratios.append(drawn[:, 0] / drawn[:, 1])
    return _percentiles(np.concatenate(ratios), level)


def crossed_bootstrap(
    values: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """As `ratio_bootstrap` with totals of one, over groups and labels: each is drawn by itself, and an example counts
    as often as both were drawn.

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
    return _percentiles(total[found > 0] / found[found > 0], level)
