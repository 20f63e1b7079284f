"""From predictions of whole splits to metrics with intervals, files and the lines on the terminal.

Pure functions of `Predictions`; only `write_evaluation` touches the disk. The content of metrics.json:

    {"format": 1, "main_split": "test",
     "splits": {NAME: {"examples", "labels", "accuracy", "macro_f1", "per_label", "ece", "log_loss",
                       "confusion_matrix",                         in-scope splits only
                       "by_group": {"column", "least", "groups": {NAME: SHARE}, "worst", "best", "gap",
                                    "few", "unknown"},             where speakers are known
                       "by_seconds": [{"from", "to", "examples", "accuracy"}]}},   where there are clips
     "rejection": {"threshold", "keeps", "splits": {NAME: {...}}}}  or null where no threshold is known

A figure with an interval is {"value", "low", "high", "level", "method", "groups", "note"}, all as shares; a SHARE
is {"accuracy", "low", "high", "examples"} with Wilson's interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voicecommand.evaluation import arrays, confidence
from voicecommand.evaluation.answers import Predictions
from voicecommand.evaluation.confidence import KEEP, measure_rejection
from voicecommand.evaluation.intervals import figure_with_interval
from voicecommand.evaluation.slices import accuracy_by_group, accuracy_by_seconds

MAIN_SPLITS = ("test", "validation")


def evaluate_predictions(
    splits: Sequence[Predictions], threshold: float | None = None, keep: float = KEEP, seed: int = 0
) -> dict[str, Any]:
    """The content of metrics.json; without a threshold it is taken from the validation split, if given."""
    in_scope = {p.split: p for p in splits if not p.out_of_scope}
    main = choose_main_split(splits)
    if threshold is None and "validation" in in_scope:
        threshold = confidence.acceptance_threshold(in_scope["validation"].probabilities, keep)
    rejection = None
    if threshold is not None:
        rejection = {
            "threshold": threshold,
            "keeps": keep,
            "splits": {p.split: measure_rejection(p, threshold, in_scope, seed) for p in splits},
        }
    return {
        "format": 1,
        "main_split": main,
        "splits": {name: _split_metrics(p, seed) for name, p in in_scope.items()},
        "rejection": rejection,
    }


def choose_main_split(splits: Sequence[Predictions]) -> str | None:
    """The split that the report is about: test, else validation, else the first with labels of the model."""
    names = [p.split for p in splits if not p.out_of_scope]
    return next((name for name in (*MAIN_SPLITS, *names) if name in names), None)


def _split_metrics(p: Predictions, seed: int) -> dict[str, Any]:
    matrix = arrays.confusion_matrix(p.predicted, p.references, len(p.label_names))
    return {
        "examples": len(p.references),
        "labels": list(p.label_names),
        "accuracy": figure_with_interval("accuracy", p.predicted, p.references, p.groups, p.group_column, seed),
        "macro_f1": figure_with_interval("macro_f1", p.predicted, p.references, p.groups, p.group_column, seed),
        "per_label": arrays.per_label(p.predicted, p.references, p.label_names),
        "ece": confidence.expected_calibration_error(p.probabilities, p.references),
        "log_loss": confidence.log_loss(p.probabilities, p.references),
        "confusion_matrix": matrix.tolist(),
        **({"by_group": accuracy_by_group(p)} if p.groups is not None and p.group_column == "speaker" else {}),
        **({"by_seconds": accuracy_by_seconds(p, seed)} if p.seconds is not None else {}),
    }
