"""What every way of classifying commands shares, written or spoken: class weights, metrics, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from voicecommand.errors import InputError


def class_weights(setting: Any, labels: Any, label_names: list[str]) -> np.ndarray | None:
    """Weight of each label in the loss, float32 `[labels]` with mean 1 over the training examples, or None.

    Args:
        setting: None; `auto` (inverse frequency, King and Zeng 2001); or a weight for each label by name.

    Raises:
        InputError: an unknown word, a label that is not in train or is left out, a weight that is not positive.
    """
    if setting is None or setting == "none":
        return None
    counts = np.bincount(np.asarray(labels), minlength=len(label_names))
    if setting == "auto":
        weights = counts.sum() / (len(label_names) * np.maximum(counts, 1))
    elif isinstance(setting, Mapping):
        setting = {str(name): weight for name, weight in setting.items()}
        unknown, missing = set(setting) - set(label_names), set(label_names) - set(setting)
        if unknown or missing:
            raise InputError(
                f"model.class_weights: has {sorted(setting)}, train has {label_names}; give one weight for each label"
            )
        for name, weight in setting.items():
            if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise InputError(f"model.class_weights.{name}={weight}: give a number above 0")
        weights = np.array([float(setting[name]) for name in label_names])
        weights = weights / ((weights * counts).sum() / counts.sum())
    else:
        raise InputError(f"model.class_weights={setting}: give auto, none, or label: weight pairs")
    return weights.astype(np.float32)


def to_probabilities(logits: Any) -> np.ndarray:
    """Logits `[n, labels]` -> probabilities `[n, labels]`, float64, rows that sum to 1."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def name_labels(label_names: list[str]) -> dict[str, Any]:
    """What a stock configuration takes to know the labels: label i is `label_names[i]`."""
    return {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: i for i, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
    }


class Classification:
    """The members of a Task that do not depend on what is classified."""

    class_weights: Any

    def build_metrics(self, label_names: list[str]) -> Any:
        """Scalars for Trainer's log: `EvalPrediction` with logits `[n, labels]` -> accuracy and macro F1."""
        from voicecommand.evaluation.arrays import accuracy, macro_f1

        def compute(prediction: Any) -> dict[str, float]:
            predicted = np.argmax(prediction.predictions, axis=-1)
            references = prediction.label_ids
            return {
                "accuracy": accuracy(predicted, references),
                "macro_f1": macro_f1(predicted, references, len(label_names)),
            }

        return compute

    def decode(self, predictions: np.ndarray) -> np.ndarray:
        """Logits `[n, labels]` -> probabilities `[n, labels]`, float64, rows that sum to 1."""
        return to_probabilities(predictions)


class LinearClassification(Classification):
    """The ways that are fitted in one go: a feature extractor that stays as it is, then a linear classifier."""

    C: float

    def __post_init__(self) -> None:
        if not isinstance(self.C, int | float) or not 0 < self.C < float("inf"):
            raise InputError(f"model.C={self.C}: give a number above 0")

    def build_trainer(
        self,
        args: Any,
        model: Any,
        processor: Any,
        dataset: Any,
        label_names: list[str],
        tuning: Any = None,
        callbacks: list | None = None,
        seed: int = 0,
        augmentation: Any = None,
    ) -> Any:
        """An `Estimator` over the encoded `dataset`; `args`, `tuning`, `augmentation`, `callbacks` are a network's."""
        from voicecommand.models.estimator import Estimator

        weights = class_weights(self.class_weights, dataset["train"]["labels"], label_names)
        return Estimator(model, dataset["train"], label_names, self.C, weights, seed)
