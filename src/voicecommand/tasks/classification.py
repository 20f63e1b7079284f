"""The parts that all tasks with one label share, for text and for audio: labels, class weights, probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.columns import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.data.table import quote
from voicecommand.errors import InputError
from voicecommand.evaluation.arrays import rank_labels
from voicecommand.evaluation.classification import Classification
from voicecommand.tasks.base import (
    Batch,
    Column,
    Decoding,
    Encoded,
    EstimatorTask,
    Loss,
    ModelT,
    NetworkTask,
    ProcessorT,
    Raw,
    Row,
    Task,
    Vocabulary,
    column_names,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from voicecommand.evaluation.base import Evaluator
    from voicecommand.evaluation.threshold import HeldOut
    from voicecommand.models.estimator import Estimator, Features
    from voicecommand.tasks.base import Rows


def class_weights(setting: object, labels: ArrayLike, label_names: Sequence[str]) -> NDArray[np.float32] | None:
    """Weight of each label in the loss, float32 `[labels]` with mean 1 over the training examples, or None.

    Args:
        setting: None; `auto` (inverse frequency, King and Zeng 2001); or a weight for each label by name.

    Raises:
        InputError: an unknown setting, a label that train lacks or that has no weight, a weight that is not positive.
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
                f"model.class_weights: has {sorted(setting)}, train has {list(label_names)};"
                " give one weight for each label"
            )
        for name, weight in setting.items():
            if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise InputError(f"model.class_weights.{name}={weight}: give a number above 0")
        weights = np.array([float(setting[name]) for name in label_names])
        weights = weights / ((weights * counts).sum() / counts.sum())
    else:
        raise InputError(f"model.class_weights={setting}: give auto, none, or label: weight pairs")
    return weights.astype(np.float32)


def to_probabilities(logits: ArrayLike) -> NDArray[np.float64]:
    """Logits `[n, labels]` -> probabilities `[n, labels]`, float64, rows that sum to 1."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def name_labels(label_names: Sequence[str]) -> dict[str, Any]:
    """The settings for labels of a configuration of transformers: label i is `label_names[i]`."""
    return {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: i for i, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
    }


def number_labels(rows: Rows, vocabulary: Vocabulary) -> dict[str, list[int]]:
    """The column `labels`: the number of each row's label, -100 out of scope; no column if rows have no label.

    Raises:
        InputError: a label is not in the vocabulary.
    """
    if "label" not in column_names(rows):
        return {}
    check_labels(rows, vocabulary)
    number = {name: i for i, name in enumerate(vocabulary.labels)} | {OUT_OF_SCOPE: -100}
    return {"labels": [number[label] for label in rows["label"][:]]}


def check_labels(rows: Rows, vocabulary: Vocabulary) -> None:
    """Check that the vocabulary has every label of the rows, if they have labels.

    Raises:
        InputError: a label is not in the vocabulary.
    """
    if "label" not in column_names(rows):
        return
    labels, names = list(rows["label"][:]), {*vocabulary.labels, OUT_OF_SCOPE}
    unknown = dict.fromkeys(label for label in labels if label not in names)
    if unknown:
        first, *others = unknown
        more = f" (nor are {len(others)} other labels: {quote(others)})" if others else ""
        known = f"the model's {len(vocabulary.labels)} labels, {quote(vocabulary.labels)}"
        raise InputError(f"{rows['origin'][labels.index(first)]}: label {first!r} is not one of {known}{more}")


def references_of(rows: Rows) -> dict[str, list[str]]:
    """The column `label`, if the rows have it."""
    return {"label": list(rows["label"][:])} if "label" in column_names(rows) else {}


def groups_of(rows: Rows) -> dict[str, list[str]]:
    """The columns of groups (speaker, template) that the rows have."""
    return {name: list(rows[name][:]) for name in GROUP_COLUMNS if name in column_names(rows)}


def collate_labels(rows: Sequence[Row]) -> Batch:
    """`labels` int64 `[rows]` and, in training, `weight` float32 `[rows]`, if the rows have them."""
    import torch

    batch = {}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    if "weight" in rows[0]:
        batch["weight"] = torch.tensor([row["weight"] for row in rows])
    return batch


class LabelTask(Task[ModelT, ProcessorT]):
    """One label for each row: the label with the highest probability, out of those of the training split."""

    class_weights: object

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        return (Classification(),)

    def learn(self, rows: Dataset | None) -> Vocabulary:
        """The labels of train in alphabetical order: the label with number i is `labels[i]`."""
        assert rows is not None  # tuning=none is refused
        return Vocabulary(labels=tuple(sorted(set(rows["label"]))))

    def decode(
        self,
        raw: Raw | NDArray,
        batch: Batch,
        vocabulary: Vocabulary,
        processor: ProcessorT,
        decoding: Decoding,
    ) -> dict[str, Column]:
        """Logits `[n, labels]` -> the columns label, probability, top_5 and accepted (None without a threshold), and
        `probabilities`, float64 `[n, labels]`."""
        logits = raw.numpy() if isinstance(raw, Tensor) else raw
        probabilities = to_probabilities(logits)
        top = rank_labels(probabilities, vocabulary.labels)
        threshold = decoding.threshold
        return {
            "label": [answers[0]["label"] for answers in top],
            "probability": [answers[0]["probability"] for answers in top],
            "top_5": top,
            "accepted": [None if threshold is None else answers[0]["probability"] >= threshold for answers in top],
            "probabilities": probabilities,
        }


class LabelNetwork(LabelTask["PreTrainedModel", ProcessorT], NetworkTask[ProcessorT]):
    """A network with logits `[rows, labels]`."""

    head_weights: ClassVar[Mapping[str, float]] = {"label": 1.0}

    def class_weights_of(self, train: Encoded, vocabulary: Vocabulary) -> Mapping[str, NDArray[np.float32]]:
        weights = class_weights(self.class_weights, train.rows["labels"][:], vocabulary.labels)
        return {} if weights is None else {"label": weights}

    def losses(self, model: nn.Module, inputs: Batch, batch: Batch) -> dict[str, Loss]:
        return {"label": Loss(logits=model(**inputs).logits, targets=batch["labels"])}

    def count(self, batch: Batch) -> dict[str, int]:
        return {"label": int(((batch["labels"] >= 0) & (batch["weight"] > 0)).sum())}

    def loss_of(self, raw: Raw, batch: Batch) -> Tensor | None:
        if "labels" not in batch or not isinstance(raw, Tensor):
            return None
        losses = functional.cross_entropy(raw, batch["labels"].to(raw.device), reduction="none")
        return losses.where(batch["labels"].to(raw.device) >= 0, float("nan"))

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, ProcessorT]:
        model, processor = super().open(directory, vocabulary)
        names = dict(model.config.id2label or {})
        if names != dict(enumerate(vocabulary.labels)):
            raise ValueError("config.json and voicecommand.json name different labels")
        return model, processor


def _groups_of_rows(train: Encoded) -> list[str] | None:
    """The speaker or template of each row, if it is known."""
    name = next((name for name in GROUP_COLUMNS if name in column_names(train.rows)), None)
    return None if name is None else list(train.rows[name][:])


class LabelEstimator(LabelTask["Estimator", ProcessorT], EstimatorTask["Estimator", ProcessorT]):
    """Features that are not trained, and a linear support vector machine."""

    C: float

    def __post_init__(self) -> None:
        if not isinstance(self.C, int | float) or not 0 < self.C < float("inf"):
            raise InputError(f"model.C={self.C}: give a number above 0")

    def fit(self, features: Features, train: Encoded, vocabulary: Vocabulary, seed: int) -> Estimator:
        from voicecommand.models.estimator import fit_estimator

        labels, groups = np.asarray(train.rows["labels"][:]), _groups_of_rows(train)
        weights = class_weights(self.class_weights, labels, vocabulary.labels)
        known = None if groups is None else np.asarray(groups)
        return fit_estimator(features, train.rows, labels, len(vocabulary.labels), self.C, weights, known, seed)

    def held_out(self, model: Estimator, train: Encoded) -> HeldOut | None:
        from voicecommand.data.synthesis.speakers import are_synthetic
        from voicecommand.evaluation.threshold import HeldOut

        if model.held_out is None or not (known := ~np.isnan(model.held_out[:, 0])).any():
            return None
        probabilities, groups = to_probabilities(model.held_out[known]), _groups_of_rows(train)
        is_right = probabilities.argmax(axis=1) == np.asarray(train.rows["labels"][:])[known]
        chosen = None if groups is None else [groups[row] for row in np.flatnonzero(known)]
        made = self.columns.reads == "audio" and are_synthetic(train.rows)
        return HeldOut(probabilities.max(axis=1), is_right, chosen, made)

    def respond(self, model: Estimator, rows: Rows) -> NDArray[np.floating]:
        return model(rows)

    def save(self, model: Estimator, processor: ProcessorT, directory: Path) -> None:
        model.save(directory)

    @abstractmethod
    def load_features(self, directory: Path, tensors: dict[str, NDArray]) -> Features:
        """The features that `save` wrote."""

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[Estimator, ProcessorT]:
        from voicecommand.models.estimator import Estimator

        model = Estimator.load(directory, len(vocabulary.labels), self.load_features)
        processor: ProcessorT = getattr(model.features, "processor", None)  # type: ignore[assignment]
        return model, processor

    def count_parameters(self, model: Estimator) -> tuple[int, int]:
        return model.count_parameters()
