"""A task's figure by speaker and by length of the clip, from the units of its evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.evaluation.base import Answers, Evaluator, Figure
from voicecommand.evaluation.blocks import Bar, Bars, Block, Notes
from voicecommand.evaluation.intervals import FEW_GROUPS, ratio_with_interval
from voicecommand.evaluation.words import format_figure, name_in_words, title_in_words, value_in_words

FEW_EXAMPLES = 5  # the accuracy of a speaker with fewer says nothing: it is shown, but is neither worst nor best
SECONDS_BINS = 5


def score_slices(evaluator: Evaluator, p: Answers) -> dict[str, Any]:
    """`by_group` where speakers are known, `by_seconds` where the examples are clips: what metrics.json holds."""
    found: dict[str, Any] = {}
    if p.groups is not None and p.group_column == "speaker":
        found["by_group"] = score_groups(evaluator, p)
    if p.seconds is not None:
        found["by_seconds"] = score_lengths(evaluator, p)
    return found


def score_groups(evaluator: Evaluator, p: Answers) -> dict[str, Any]:
    """The figure of every speaker, worst first, with the worst, the best and the gap between them.

    Speakers of fewer than FEW_EXAMPLES examples stay in `groups`, and together in `few`; `worst` and `best` are
    among the others, None where there are no others. `unknown` are the examples without a speaker.
    """
    assert p.groups is not None
    counts, totals = evaluator.units(p)
    metric, sign = evaluator.units_metric, 1 if evaluator.greater_is_better else -1
    rows: dict[str | None, list[int]] = {}
    for row, group in enumerate(p.groups):
        rows.setdefault(group, []).append(row)
    rows = {group: chosen for group, chosen in rows.items() if totals[chosen].any()}  # others have no unit

    def share(chosen: list[int]) -> dict[str, Any]:
        figure = ratio_with_interval(counts[chosen], totals[chosen], None, None)
        return {metric: figure["value"], "low": figure["low"], "high": figure["high"], "examples": len(chosen)}

    unknown = rows.pop(None, [])
    shares = {str(group): share(chosen) for group, chosen in rows.items()}
    shares = dict(sorted(shares.items(), key=lambda item: (sign * item[1][metric], -item[1]["examples"], item[0])))
    enough = [group for group, found in shares.items() if found["examples"] >= FEW_EXAMPLES]
    few = [row for chosen in rows.values() if len(chosen) < FEW_EXAMPLES for row in chosen]
    worst, best = (enough[0], enough[-1]) if enough else (None, None)
    return {
        "column": p.group_column,
        "metric": metric,
        **({"unit": evaluator.unit} if evaluator.unit else {}),
        "is_of_examples": bool((totals == 1).all()),
        "least": FEW_EXAMPLES,
        "groups": shares,
        "worst": worst,
        "best": best,
        "gap": abs(shares[best][metric] - shares[worst][metric]) if worst and best else None,
        "few": share(few) | {"groups": len(shares) - len(enough)} if few else None,
        "unknown": share(unknown) if unknown else None,
    }


def score_lengths(evaluator: Evaluator, p: Answers) -> list[dict[str, Any]]:
    """The figure by clip length, in up to SECONDS_BINS bins [from, to) of about equal size; the last holds its `to`.

    The bounds between bins are quantiles, rounded to 0.1 s or, where that would leave fewer bins, 0.01 s.
    """
    counts, totals = evaluator.units(p)
    seconds = np.asarray(p.seconds, dtype=np.float64)
    bins = max(1, min(SECONDS_BINS, len(seconds) // FEW_EXAMPLES))
    quantiles = np.quantile(seconds, np.arange(1, bins) / bins)
    inner = max((np.unique(np.round(quantiles, digits)) for digits in (1, 2)), key=lambda b: _bins_used(b, seconds))
    place = np.searchsorted(inner, seconds, side="right")
    bounds = np.array([seconds.min(), *inner, seconds.max()])
    found = []
    for i in np.unique(place):
        own = place == i
        groups = None if p.groups is None else [g for g, taken in zip(p.groups, own, strict=True) if taken]
        if not totals[own].any():
            continue
        figure = ratio_with_interval(counts[own], totals[own], groups, p.group_column, unit=evaluator.unit)
        low, high = max(bounds[i], bounds[0]), min(bounds[i + 1], bounds[-1])
        bounded = {"from": float(low), "to": float(high), "examples": int(own.sum())}
        found.append(bounded | {evaluator.units_metric: figure})
    return found


def _bins_used(bounds: NDArray[np.float64], seconds: NDArray[np.float64]) -> int:
    return len(np.unique(np.searchsorted(bounds, seconds, side="right")))


def format_by_group(by_group: Mapping[str, Any]) -> str:
    """7 speakers: worst anna 74.0 % of 50, best ben 98.0 % of 50, gap 24.0 points; 2 with fewer than 5 examples ...

    A figure that is not of one unit an example, such as a word error rate, is "31.0 % in 50 examples".
    """
    metric, unit = by_group.get("metric", "accuracy"), by_group.get("unit")  # older runs do not name the metric

    def of(share: dict[str, Any]) -> str:
        count = (
            f"of {share['examples']}" if by_group.get("is_of_examples", True) else f"in {share['examples']} examples"
        )
        return f"{value_in_words(_figure(share, metric, unit))} {count}"

    groups, worst, best = by_group["groups"], by_group["worst"], by_group["best"]
    parts = []
    if worst is not None and worst != best:
        gap = f"{by_group['gap']:.3g} {unit}" if unit else f"{100 * by_group['gap']:.1f} points"
        parts.append(f"worst {worst} {of(groups[worst])}, best {best} {of(groups[best])}, gap {gap}")
    elif worst is not None:
        parts.append(f"{worst} {of(groups[worst])}")
    if by_group["few"]:
        few = by_group["few"]
        parts.append(f"{few['groups']} with fewer than {by_group['least']} examples, together {of(few)}")
    if by_group["unknown"]:
        parts.append(f"{by_group['column']} unknown {of(by_group['unknown'])}")
    return f"{len(groups)} {by_group['column']}{'' if len(groups) == 1 else 's'}: {'; '.join(parts)}"


def slice_blocks(evaluator: Evaluator, scores: Mapping[str, Any], split: str) -> list[Block]:
    """What the page shows of `by_group` and `by_seconds`."""
    found: list[Block] = []
    if scores.get("by_group"):
        found += _group_blocks(evaluator, scores["by_group"], split)
    if rows := scores.get("by_seconds"):
        metric = evaluator.units_metric
        top = _top(evaluator, [row[metric] for row in rows])
        bars = tuple(_bar(f"{row['from']:.3g} to {row['to']:.3g}", row[metric], top, row["examples"]) for row in rows)
        head = ("seconds", name_in_words(metric), "examples")
        found.append(Bars(f"{title_in_words(metric)} by length of the clip", head, bars))
    return found


def _group_blocks(evaluator: Evaluator, by_group: Mapping[str, Any], split: str) -> list[Block]:
    metric, column, groups, least = evaluator.units_metric, by_group["column"], by_group["groups"], by_group["least"]
    said = f"On {split}, {format_by_group(by_group)}."
    if len(groups) < FEW_GROUPS:
        said += f" Fewer than {FEW_GROUPS} {column}s: a new {column} may well be worse than the worst of these."
    note = f"An interval is over the examples of one {column}: what more recordings of the same {column} would give."
    rows = [(name, share, share["examples"] < least) for name, share in groups.items()]
    if few := by_group["few"]:
        rows.append((f"the {few['groups']} with fewer than {least}, together", few, True))
        note += f" With fewer than {least} examples a {column} is shown in grey but is neither the worst nor the best."
    if by_group["unknown"]:
        rows.append((f"{column} unknown", by_group["unknown"], True))
    figures = [_figure(share, metric, evaluator.unit) for _, share, _ in rows]
    top = _top(evaluator, figures)
    bars = tuple(
        _bar(name, figure, top, share["examples"], is_faint)
        for (name, share, is_faint), figure in zip(rows, figures, strict=True)
    )
    head = (column, name_in_words(metric), "examples")
    return [Notes(f"{title_in_words(metric)} by {column}", (said,)), Bars("", head, bars, note)]


def _figure(share: Mapping[str, Any], key: str, unit: str | None) -> Figure:
    figure = {"value": share[key], "low": share["low"], "high": share["high"]}
    return figure | ({"unit": unit} if unit else {})


def _top(evaluator: Evaluator, figures: list[Figure]) -> float:
    """What a whole bar stands for: the highest end of an interval; at least 1 of a share of which more is better."""
    least = 1.0 if evaluator.greater_is_better and not evaluator.unit else 0.0
    return max([least, *(figure["high"] for figure in figures)]) or 1.0


def _bar(name: str, figure: Figure, top: float, examples: int, is_faint: bool = False) -> Bar:
    value, low, high = (figure[key] / top for key in ("value", "low", "high"))
    return Bar(name, value, format_figure(figure, method=False), low, high, (examples,), is_faint)
