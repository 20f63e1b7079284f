"""Confidence: calibration, the threshold of rejection and what it does to a split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.evaluation import arrays
from voicecommand.evaluation.arrays import check_probabilities, confidence, divide
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.intervals import figure_with_interval

KEEP = 0.95


def measure_rejection(p: Answers, threshold: float, in_scope: dict[str, Answers], seed: int) -> dict[str, Any]:
    """What the threshold does to a split; AUROC is against the in-scope split of the same name."""
    scores = confidence(p.probabilities)
    taken = scores >= threshold
    if p.out_of_scope:
        # "Accuracy" of taken against all ones is the share taken, with the interval that belongs to it.
        share = figure_with_interval("accuracy", taken, np.ones(len(taken)), p.groups, p.group_column, seed)
        partner = in_scope.get(p.split.removeprefix(OUT_OF_SCOPE + "_"))
        return {
            "examples": len(taken),
            "false_accepts": share["value"],
            "false_accepts_interval": share,
            "auroc": None if partner is None else auroc(confidence(partner.probabilities), scores),
        }
    kept = arrays.accuracy(p.predicted[taken], p.label_ids[taken]) if taken.any() else None
    return {"examples": len(taken), "accepted": float(taken.mean()), "accuracy_accepted": kept}


ECE_BINS = 15


def acceptance_threshold(probabilities: ArrayLike, keep: float = KEEP) -> float:
    """The highest threshold that the confidence of at least `keep` of these in-scope examples reaches."""
    return threshold_of_scores(confidence(probabilities), keep)


def threshold_of_scores(scores: ArrayLike, keep: float = KEEP) -> float:
    """The highest number that at least `keep` of the scores [n] reach."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be above 0 and at most 1, not {keep}")
    falling = np.sort(np.asarray(scores))[::-1]
    return float(falling[max(1, math.ceil(keep * len(falling) - 1e-9)) - 1])


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
    return {"count": count, "confidence": divide(confidence_sum, count), "accuracy": divide(hit_sum, count)}


def expected_calibration_error(probabilities: ArrayLike, references: ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over bins, by count (Naeini 2015; Guo 2017: 15 bins)."""
    table, expected = check_probabilities(probabilities, references)
    binned = reliability_bins(table.max(axis=1), table.argmax(axis=1) == expected, bins)
    gaps = np.abs(binned["accuracy"] - binned["confidence"])
    return float((gaps * binned["count"]).sum() / len(expected))


def log_loss(probabilities: ArrayLike, references: ArrayLike) -> float:
    """Mean of -log p(reference), in nats; p is at least the float64 epsilon, so that 0 stays finite."""
    table, expected = check_probabilities(probabilities, references)
    given = table[np.arange(len(expected)), expected]
    return float(-np.log(np.clip(given, np.finfo(np.float64).eps, 1.0)).mean())
