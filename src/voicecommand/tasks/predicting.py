"""The answers of a model to a split, beside its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.columns import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation.answers import Predictions, texts_of


def collect_predictions(rows: Any, split: str, probabilities: np.ndarray, label_names: list[str]) -> Predictions:
    """Probabilities `[n, labels]` of a split beside its rows, for evaluation.

    Raises:
        InputError: a label that the model does not know.
    """
    number = {name: i for i, name in enumerate(label_names)} | {OUT_OF_SCOPE: -1}
    labels = rows["label"][:]
    unknown = sorted(set(labels) - set(number))
    if unknown:
        row = rows["origin"][labels.index(unknown[0])]
        raise InputError(f"{row}: label {unknown[0]!r} is not one of the model's {len(label_names)} labels")
    group = next((c for c in GROUP_COLUMNS if c in rows.column_names), None)
    return Predictions(
        split=split,
        ids=rows["id"][:],
        origins=rows["origin"][:],
        texts=texts_of(rows),
        seconds=[length / SAMPLING_RATE for length in rows["length"][:]] if "length" in rows.column_names else None,
        references=np.array([number[name] for name in labels], dtype=np.int64),
        probabilities=probabilities,
        groups=rows[group][:] if group else None,
        group_column=group,
        label_names=label_names,
    )


def predict_split(trainer: Any, task: Any, encoded: Any, rows: Any, split: str, label_names: list[str]) -> Predictions:
    """One split through the trained model, in the order of its rows."""
    # without labels: evaluation measures, and out-of-scope rows have none that Trainer's metrics could take
    probabilities = task.decode(trainer.predict(encoded[split].remove_columns("labels")).predictions)
    return collect_predictions(rows[split], split, probabilities, label_names)
