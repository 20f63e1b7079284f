"""Accuracy by speaker and by length of the clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from voicecommand.evaluation import intervals
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.intervals import figure_with_interval

FEW_EXAMPLES = 5  # the accuracy of a speaker with fewer says nothing: it is shown, but is neither worst nor best
SECONDS_BINS = 5


def accuracy_by_group(p: Answers) -> dict[str, Any]:
    """Accuracy of every speaker, lowest first, with the worst, the best and the gap between them.

    Speakers of fewer than FEW_EXAMPLES examples stay in `groups`, and together in `few`; `worst` and `best` are
    among the others, None where there are no others. `unknown` are the examples without a speaker.
    """
    assert p.groups is not None
    hits: dict[str | None, list[bool]] = {}
    for group, right in zip(p.groups, (p.predicted == p.label_ids).tolist(), strict=True):
        hits.setdefault(group, []).append(right)
    unknown = hits.pop(None, [])
    shares = {str(group): _share(rights) for group, rights in hits.items()}
    shares = dict(sorted(shares.items(), key=lambda item: (item[1]["accuracy"], -item[1]["examples"], item[0])))
    enough = [group for group, share in shares.items() if share["examples"] >= FEW_EXAMPLES]
    few = [right for rights in hits.values() if len(rights) < FEW_EXAMPLES for right in rights]
    worst, best = (enough[0], enough[-1]) if enough else (None, None)
    return {
        "column": p.group_column,
        "least": FEW_EXAMPLES,
        "groups": shares,
        "worst": worst,
        "best": best,
        "gap": shares[best]["accuracy"] - shares[worst]["accuracy"] if worst and best else None,
        "few": _share(few) | {"groups": len(shares) - len(enough)} if few else None,
        "unknown": _share(unknown) if unknown else None,
    }


def _share(rights: list[bool]) -> dict[str, Any]:
    low, high = intervals.wilson(sum(rights), len(rights))
    return {"accuracy": sum(rights) / len(rights), "low": low, "high": high, "examples": len(rights)}


def accuracy_by_seconds(p: Answers, seed: int) -> list[dict[str, Any]]:
    """Accuracy by clip length, in up to SECONDS_BINS bins [from, to) of about equal size; the last holds its `to`.

    The bounds between bins are quantiles, rounded to 0.1 s or, where that would leave fewer bins, 0.01 s.
    """
    seconds = np.asarray(p.seconds, dtype=np.float64)
    bins = max(1, min(SECONDS_BINS, len(seconds) // FEW_EXAMPLES))
    quantiles = np.quantile(seconds, np.arange(1, bins) / bins)
    inner, fine = (np.unique(np.round(quantiles, digits)) for digits in (1, 2))
    if len(np.unique(np.searchsorted(inner, seconds, "right"))) < len(
        np.unique(np.searchsorted(fine, seconds, "right"))
    ):
        inner = fine
    place = np.searchsorted(inner, seconds, side="right")
    bounds = np.array([seconds.min(), *inner, seconds.max()])
    found = []
    for i in np.unique(place):
        own = place == i
        groups = None if p.groups is None else [g for g, taken in zip(p.groups, own, strict=True) if taken]
        figure = figure_with_interval("accuracy", p.predicted[own], p.label_ids[own], groups, p.group_column, seed)
        low, high = max(bounds[i], bounds[0]), min(bounds[i + 1], bounds[-1])
        found.append({"from": float(low), "to": float(high), "examples": int(own.sum()), "accuracy": figure})
    return found
