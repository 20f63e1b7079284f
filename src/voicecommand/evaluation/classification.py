"""Which mistakes of a classifier a report shows."""

from __future__ import annotations

import numpy as np

from voicecommand.evaluation import arrays
from voicecommand.evaluation.answers import Predictions
from voicecommand.evaluation.arrays import confused_pairs, confusion_matrix

PAIRS = 10
EXAMPLES_OF_A_PAIR = 5


def confused_examples(p: Predictions) -> list[int]:
    """Rows of the mistakes that the report shows: pair by pair, the surest first."""
    scores, found = arrays.confidence(p.probabilities), []
    for reference, guess, _ in confused_pairs(confusion_matrix(p.predicted, p.references, len(p.label_names)), PAIRS):
        rows = np.flatnonzero((p.references == reference) & (p.predicted == guess))
        found += rows[np.argsort(-scores[rows], kind="stable")][:EXAMPLES_OF_A_PAIR].tolist()
    return found


class Classification:
    """STUB."""

    name, primary_metric, greater_is_better, units_metric = "classification", "macro_f1", True, "accuracy"

    def quick(self, answers: object) -> dict[str, float]:
        from voicecommand.evaluation import arrays

        names = answers.label_names
        numbers = {name: i for i, name in enumerate(names)}
        references = [numbers[name] for name in answers.references["label"]]
        predicted = answers.columns["probabilities"].argmax(axis=1)
        return {
            "accuracy": arrays.accuracy(predicted, references),
            "macro_f1": arrays.macro_f1(predicted, references, len(names)),
        }
