"""The evaluator of one label for each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.evaluation import arrays
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Bar, Bars, Block, Example, ExampleGroup, Examples, Matrix, Notes
from voicecommand.evaluation.intervals import macro_f1_with_interval, ratio_with_interval
from voicecommand.evaluation.words import percent

PAIRS = 10
EXAMPLES_OF_A_PAIR = 5


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
    unit = ""

    def quick(self, answers: Answers) -> dict[str, float]:
        predicted, expected = answers.predicted, answers.label_ids
        return {
            "accuracy": arrays.accuracy(predicted, expected),
            "macro_f1": arrays.macro_f1(predicted, expected, len(answers.label_names)),
        }

    def score(self, answers: Answers) -> dict[str, Any]:
        """What metrics.json holds of a split."""
        from voicecommand.evaluation.evaluate_metrics import compute_points

        predicted, expected, names = answers.predicted, answers.label_ids, answers.label_names
        points = compute_points(predicted, expected, answers.probabilities, names)
        groups = (answers.groups, answers.group_column)
        right, _ = self.units(answers)
        return {
            "labels": list(names),
            "accuracy": ratio_with_interval(right, None, *groups, value=points["accuracy"]),
            "macro_f1": macro_f1_with_interval(predicted, expected, *groups, points["macro_f1"]),
            "per_label": points["per_label"],
            "ece": points["ece"],
            "log_loss": points["log_loss"],
            "confusion_matrix": points["confusion_matrix"],
        }

    def units(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        right = (answers.predicted == answers.label_ids).astype(np.float64)
        return right, np.ones(len(right))

    def blocks(self, scores: Mapping[str, Any], answers: Answers) -> list[Block]:
        """The confusion matrix, the most confused pairs with their examples, and the labels, weakest first."""
        matrix = Matrix(
            f"Confusion matrix of {answers.split}",
            "confusion_matrix",
            tuple(scores["labels"]),
            tuple(map(tuple, scores["confusion_matrix"])),
            "Rows are labels, columns predictions. Darker is more; the scale is a square root, so that rare errors "
            "show. The counts are also in confusion_matrix.csv.",
        )
        labels = sorted(scores["per_label"].items(), key=lambda item: (item[1]["f1"], item[0]))
        bars = tuple(
            Bar(
                name,
                row["f1"],
                percent(row["f1"]),
                cells=(percent(row["precision"]), percent(row["recall"]), row["support"]),
            )
            for name, row in labels
        )
        head = ("label", "F1", "precision", "recall", "support")
        return [matrix, confused_pairs(answers, matrix.counts), Bars("Labels, weakest first", head, bars)]


def confused_pairs(p: Answers, matrix: tuple[tuple[int, ...], ...]) -> Block:
    """The PAIRS largest errors of a confusion matrix; of each the EXAMPLES_OF_A_PAIR surest mistakes, surest first."""
    title = "Most confused pairs"
    sureness, groups = arrays.confidence(p.probabilities), []
    for reference, guess, count in arrays.confused_pairs(matrix, PAIRS):
        rows = np.flatnonzero((p.label_ids == reference) & (p.predicted == guess))
        surest = rows[np.argsort(-sureness[rows], kind="stable")][:EXAMPLES_OF_A_PAIR]
        shown = tuple(
            Example(p.split, p.ids[row], p.origins[row], p.texts[row], percent(sureness[row])) for row in surest
        )
        support = sum(matrix[reference])
        groups.append(
            ExampleGroup(
                f"{p.label_names[reference]} \N{RIGHTWARDS ARROW} {p.label_names[guess]}",
                f"{count} of {support} ({percent(count / support)})",
                shown,
                count - len(shown),
            )
        )
    if not groups:
        return Notes(title, (f"No mistakes on {p.split}.",))
    what = "texts" if p.seconds is None else "clips"
    note = f"The label, what it was taken for, and the {what} with the confidence of the mistake, surest first."
    return Examples(title, tuple(groups), note)
