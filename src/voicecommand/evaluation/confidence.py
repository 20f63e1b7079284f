"""Confidence: calibration, the threshold of rejection and what it does to a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.evaluation.arrays import check_probabilities, confidence, divide
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Block, Curves, Notes, Series, Table
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.evaluation.threshold import format_threshold, moved_in_words, setting_in_words
from voicecommand.evaluation.words import format_figure, percent

FALSE_ACCEPTS = 10
CURVE_POINTS = 401


def measure_rejection(p: Answers, threshold: float, in_scope: dict[str, Answers]) -> dict[str, Any]:
    """What the threshold does to a split; AUROC is against the in-scope split of the same name."""
    scores = confidence(p.probabilities)
    taken = scores >= threshold
    if p.out_of_scope:
        share = ratio_with_interval(taken, None, p.groups, p.group_column)
        partner = in_scope.get(p.split.removeprefix(OUT_OF_SCOPE + "_"))
        return {
            "examples": len(taken),
            "false_accepts": share["value"],
            "false_accepts_interval": share,
            "auroc": None if partner is None else auroc(confidence(partner.probabilities), scores),
        }
    is_right = p.predicted == p.label_ids
    return {
        "examples": len(taken),
        "accepted": float(taken.mean()),
        "accuracy_accepted": float(is_right[taken].mean()) if taken.any() else None,
        "right_kept": float(taken[is_right].mean()) if is_right.any() else None,
    }


ECE_BINS = 15


def auroc(in_scope: ArrayLike, out_of_scope: ArrayLike) -> float:
    """Chance that an in-scope score beats an out-of-scope one, ties half (Mann and Whitney 1947), by scikit-learn."""
    from sklearn.metrics import roc_auc_score

    positive, negative = np.asarray(in_scope), np.asarray(out_of_scope)
    if not len(positive) or not len(negative):
        raise ValueError("auroc needs scores of both kinds")
    kinds = np.repeat([1, 0], [len(positive), len(negative)])
    return float(roc_auc_score(kinds, np.concatenate([positive, negative])))


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
    """Mean of -log p(reference), in nats, by scikit-learn: p is at least the float64 epsilon, so 0 stays finite."""
    from sklearn import metrics

    table, expected = check_probabilities(probabilities, references)
    if table.shape[1] == 1:
        return 0.0  # scikit-learn takes a single column for a binary probability
    return float(metrics.log_loss(expected, table, labels=np.arange(table.shape[1])))


def rejection_curve(main: Answers, outside: Answers | None) -> dict[str, NDArray[np.float64]]:
    """Shares [t] over an even grid of thresholds; accuracy is NaN, a gap, where nothing is accepted."""
    grid = np.linspace(0, 1, CURVE_POINTS)
    scores, right = confidence(main.probabilities), main.predicted == main.label_ids
    taken = scores[None, :] >= grid[:, None]
    count, hits = taken.sum(axis=1), (taken & right).sum(axis=1)
    accurate = np.divide(hits, count, out=np.full(len(grid), np.nan), where=count > 0)
    kept = hits / right.sum() if right.any() else np.full(len(grid), np.nan)
    curve = {
        "threshold": grid,
        "accepted": count / len(scores),
        "right_kept": kept,
        "accuracy_accepted": accurate,
    }
    if outside is not None:
        curve["false_accepts"] = (confidence(outside.probabilities)[None, :] >= grid[:, None]).mean(axis=1)
    return curve


def confidence_blocks(
    main: Answers | None, answers: Sequence[Answers], rejection: Mapping[str, Any] | None
) -> list[Block]:
    """What the page shows of calibration and rejection, of a task whose answers have probabilities."""
    outside, found = {p.split: p for p in answers if p.out_of_scope}, list[Block]()
    if main is not None:
        found.append(_reliability(main))
    if main is not None and rejection:
        first = next(iter(sorted(outside)), None)
        other = outside.get(f"{OUT_OF_SCOPE}_{main.split}", outside[first] if first else None)
        found.append(_acceptance(main, other, rejection["threshold"]))
    if rejection:
        how = "" if rejection["set_on"] is None else f", set by {setting_in_words(rejection['set_on'])}"
        moved = (f"{text[0].upper()}{text[1:]}." for text in moved_in_words(rejection))
        said = (f"Threshold {format_threshold(rejection['threshold'])}{how}.", *moved)
        found += [Notes("" if found else "Confidence and rejection", said), _rejection_table(rejection)]
        found += _false_accepts(list(outside.values()), rejection["threshold"])
    return found


def _reliability(p: Answers) -> Curves:
    ece = expected_calibration_error(p.probabilities, p.label_ids)
    bins = reliability_bins(confidence(p.probabilities), p.predicted == p.label_ids)
    full, width = bins["count"] > 0, 1 / len(bins["count"])
    centres = (np.arange(len(full)) + 0.5) * width
    return Curves(
        "Confidence and rejection",
        "confidence (highest probability)",
        "accuracy",
        (
            Series("accuracy of the bin", tuple(centres), tuple(bins["accuracy"]), "bars"),
            Series("at its mean confidence", tuple(bins["confidence"][full]), tuple(bins["accuracy"][full]), "points"),
            Series("perfectly calibrated", (0.0, 1.0), (0.0, 1.0), "dashed"),
        ),
        below=("examples", Series("examples", tuple(centres), tuple(bins["count"].astype(float)), "bars")),
        x_top=1,
        y_top=1.03,
        note=f"Reliability on {p.split}: bars on the dashed line mean that a confidence of 80 % is right 80 % of the "
        f"time. ECE {ece:.3f}, over {len(full)} bins.",
    )


def _acceptance(main: Answers, outside: Answers | None, threshold: float) -> Curves:
    curve = rejection_curve(main, outside)
    names = {
        "accepted": f"accepted, {main.split}",
        "right_kept": "right answers that are kept",
        "accuracy_accepted": "accuracy of the accepted",
    }
    if outside is not None:
        names["false_accepts"] = f"false accepts, {outside.split}"
    grid = tuple(curve["threshold"])
    return Curves(
        "",
        "threshold on the highest probability",
        "%",
        tuple(Series(words, grid, tuple(100 * curve[name])) for name, words in names.items()),
        mark=(threshold, f"threshold {format_threshold(threshold)}"),
        x_top=1,
        y_top=102,
        note="Commands below the threshold are answered with “I did not catch that”.",
    )


def _rejection_table(rejection: Mapping[str, Any]) -> Table:
    rows: list[tuple[str | int, ...]] = []
    for name, split in rejection["splits"].items():
        if "false_accepts" in split:
            area = "-" if split["auroc"] is None else f"{split['auroc']:.3f}"
            rows.append((name, split["examples"], "-", "-", "-", format_figure(split["false_accepts_interval"]), area))
        else:
            shares = (percent(split[key]) for key in ("accepted", "accuracy_accepted", "right_kept"))
            rows.append((name, split["examples"], *shares, "-", "-"))
    head = ("split", "examples", "accepted", "accuracy of accepted", "right answers kept", "false accepts", "AUROC")
    return Table("", head, tuple(rows), numbers=(1, 2, 3, 4, 6))


def _false_accepts(outside: Sequence[Answers], threshold: float) -> list[Block]:
    """The out-of-scope examples that were accepted with the highest confidence."""
    taken = [
        (score, p, row)
        for p in outside
        for row, score in enumerate(confidence(p.probabilities).tolist())
        if score >= threshold
    ]
    taken = sorted(taken, key=lambda found: -found[0])[:FALSE_ACCEPTS]
    if not taken:
        return []
    is_speech = outside[0].seconds is not None
    rows = tuple(
        (
            p.texts[row],
            p.label_names[p.predicted[row]],
            percent(score),
            p.ids[row] if p.ids[row] == p.origins[row] else f"{p.ids[row]} · {p.origins[row]}",
        )
        for score, p, row in taken
    )
    head = ("said" if is_speech else "text", "taken for", "probability", "where")
    title = f"Out-of-scope {'clips' if is_speech else 'texts'} accepted with the most confidence"
    return [Table(title, head, rows, numbers=(2,))]
