"""The columns of predictions.parquet."""

from __future__ import annotations

from typing import Any

import numpy as np

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.evaluation import arrays
from voicecommand.evaluation.base import Answers


def answer_columns(answers: Answers, threshold: float | None) -> dict[str, list[Any]]:
    """One split, n values each: what the row is, its references, and the answer.

    Of a label task: label, prediction, probability, top_5 and `accepted`, which is null where no threshold is known.
    Of others: each target as `reference_NAME`, and each column of the answers that has one value a row.
    """
    n = len(answers.ids)
    row = {
        "split": [answers.split] * n,
        "id": list(answers.ids),
        "origin": list(answers.origins),
        "text": list(answers.texts),
    }
    about: dict[str, list[Any]] = {"group": [None] * n if answers.groups is None else list(answers.groups)}
    about |= {} if answers.seconds is None else {"seconds": list(answers.seconds)}
    if "probabilities" not in answers.columns:
        references = {f"reference_{name}": list(values) for name, values in answers.references.items()}
        given = {name: np.asarray(v).tolist() for name, v in answers.columns.items() if np.ndim(v) == 1}
        return row | references | given | about
    return row | _label_columns(answers, threshold) | about


def _label_columns(answers: Answers, threshold: float | None) -> dict[str, list[Any]]:
    scores, names = arrays.confidence(answers.probabilities), answers.label_names
    return {
        "label": [OUT_OF_SCOPE if i < 0 else names[i] for i in answers.label_ids],
        "prediction": [names[i] for i in answers.predicted],
        "probability": scores.tolist(),
        "top_5": arrays.rank_labels(answers.probabilities, names),
        "accepted": [None if threshold is None else bool(score >= threshold) for score in scores],
    }
