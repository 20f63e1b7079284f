"""The evaluator of one label for each example, and which mistakes a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.evaluation import arrays
from voicecommand.evaluation.arrays import confused_pairs, confusion_matrix
from voicecommand.evaluation.base import Answers, Figure
from voicecommand.evaluation.intervals import figure_with_interval
from voicecommand.evaluation.slices import accuracy_by_group, accuracy_by_seconds

if TYPE_CHECKING:
    from voicecommand.evaluation.blocks import Block

PAIRS = 10
EXAMPLES_OF_A_PAIR = 5


def confused_examples(p: Answers) -> list[int]:
    """Rows of the mistakes that the report shows: pair by pair, the surest first."""
    scores, found = arrays.confidence(p.probabilities), []
    for reference, guess, _ in confused_pairs(confusion_matrix(p.predicted, p.label_ids, len(p.label_names)), PAIRS):
        rows = np.flatnonzero((p.label_ids == reference) & (p.predicted == guess))
        found += rows[np.argsort(-scores[rows], kind="stable")][:EXAMPLES_OF_A_PAIR].tolist()
    return found


class Classification:
    """One label for each example: accuracy, macro F1, per label, confusion matrix, calibration.

    Point figures are computed by the `evaluate.Metric` classes of `evaluate_metrics`, resamples by the array functions
    under them.
    """

    name = "classification"
    targets = ("label",)
    primary_metric = "macro_f1"
    greater_is_better = True
    units_metric = "accuracy"

    def quick(self, answers: Answers) -> dict[str, float]:
        predicted, expected = answers.predicted, answers.label_ids
        return {
            "accuracy": arrays.accuracy(predicted, expected),
            "macro_f1": arrays.macro_f1(predicted, expected, len(answers.label_names)),
        }

    def score(self, answers: Answers, rows: NDArray[np.int64] | None = None) -> dict[str, Any]:
        """What metrics.json holds of a split."""
        from voicecommand.evaluation.evaluate_metrics import compute_points

        chosen = np.arange(len(answers.ids)) if rows is None else rows
        predicted, expected = answers.predicted[chosen], answers.label_ids[chosen]
        names = answers.label_names
        groups = None if answers.groups is None else [answers.groups[i] for i in chosen]
        points = compute_points(predicted, expected, answers.probabilities[chosen], names)
        figures = {
            name: figure_with_interval(name, predicted, expected, groups, answers.group_column, value=points[name])
            for name in ("accuracy", "macro_f1")
        }
        scores = {
            "labels": list(names),
            **figures,
            "per_label": points["per_label"],
            "ece": points["ece"],
            "log_loss": points["log_loss"],
            "confusion_matrix": points["confusion_matrix"],
        }
        if rows is None and answers.groups is not None and answers.group_column == "speaker":
            scores["by_group"] = accuracy_by_group(answers)
        if rows is None and answers.seconds is not None:
            scores["by_seconds"] = accuracy_by_seconds(answers, 0)
        return scores

    def units(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        right = (answers.predicted == answers.label_ids).astype(np.float64)
        return right, np.ones(len(right))

    def blocks(self, scores: Mapping[str, Any], answers: Answers) -> list[Block]:
        """None yet: the template of the page draws classification by itself."""
        return []

    def headline(self, scores: Mapping[str, Any]) -> Figure:
        figure: Figure = scores["accuracy"]
        return figure
