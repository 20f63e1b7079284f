"""Clips of known speakers, and a model that can be fitted again and again, on any part of them.

An estimator's features are computed once, so that a fit takes a fraction of a second (`EstimatorPool`); a network is
trained again for each fit (`NetworkPool`). Learning curves and rejection choose the parts.
"""

from __future__ import annotations

import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from voicecommand.models.audio_features import AudioFeatures
from voicecommand.tasks.base import Encoded, Vocabulary
from voicecommand.tasks.classification import to_probabilities
from voicecommand.tasks.predicting import Answerer
from voicecommand.training import fit as training_fit

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedModel, TrainingArguments

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.models.estimator import Estimator
    from voicecommand.models.tuning import Tuning
    from voicecommand.tasks.audio_classification import AudioClassification, BCResNet, MfccSvm, SpeechEmbeddingSvm

    EstimatorTask: TypeAlias = MfccSvm | SpeechEmbeddingSvm
    NetworkTask: TypeAlias = AudioClassification | BCResNet

logger = logging.getLogger(__name__)
FOLDS = 5  # of speakers, for an estimator
Rows: TypeAlias = NDArray[np.int64]  # numbers of clips of a pool


@dataclass(frozen=True)
class Pool(ABC):
    """n clips of all splits; `labels`, `speakers` and `splits` are names [n]. No speaker of test is in another split.

    A model learns only from the rows given to `fit`; `fit_apart` never gives it rows of test.
    """

    labels: NDArray[np.str_]
    speakers: NDArray[np.str_]
    splits: NDArray[np.str_]

    @cached_property
    def names(self) -> list[str]:
        """The labels, each once, in alphabetical order."""
        return sorted(set(self.labels.tolist()))

    @cached_property
    def test(self) -> Rows:
        """The rows of test."""
        return np.flatnonzero(self.splits == "test")

    @property
    @abstractmethod
    def how(self) -> str:
        """A phrase that says how speakers are held out."""

    @property
    @abstractmethod
    def held(self) -> Rows:
        """The rows that `fit_apart` holds out."""

    @abstractmethod
    def fit_apart(self, is_known: NDArray[np.bool_]) -> tuple[list[tuple[Rows, Fitted]], Fitted]:
        """Models that learn only from rows that are known, bool [n], and the held-out rows that each may answer.

        Returns:
            Pairs of indices into `held`, each index in one pair, and a model that has not learnt from the speakers of
            those rows; and the model that answers test.
        """

    @abstractmethod
    def fit(self, rows: Rows, seed: int = 0) -> Fitted:
        """A model with the labels of these rows, fitted only on them."""


@dataclass(frozen=True)
class Fitted(ABC):
    """A model fitted on `rows` of the pool, whose labels are `names` in alphabetical order."""

    pool: Pool
    rows: Rows
    names: list[str]

    @abstractmethod
    def probabilities(self, rows: Rows) -> NDArray[np.float64]:
        """float64 [rows, names]."""

    @abstractmethod
    def vectors(self, rows: Rows) -> NDArray[np.float64]:
        """The inputs of the classifier, [rows, width]."""

    def right(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether the most probable label is the right one, [rows]."""
        predicted = np.array(self.names)[self.probabilities(rows).argmax(axis=1)]
        is_right: NDArray[np.bool_] = predicted == self.pool.labels[rows]
        return is_right


# ---- estimators ----


@dataclass(frozen=True)
class EstimatorPool(Pool):
    """Clips with their features, `vectors` float32 [n, width]. The speakers of all but test are held out in folds."""

    task: EstimatorTask
    vectors: NDArray[np.float32]

    @property
    def how(self) -> str:
        return f"held out in {FOLDS} folds"

    @cached_property
    def held(self) -> Rows:
        return np.flatnonzero(self.splits != "test")

    def fit_apart(self, is_known: NDArray[np.bool_]) -> tuple[list[tuple[Rows, Fitted]], Fitted]:
        from sklearn.model_selection import GroupKFold

        fits: list[tuple[Rows, Fitted]] = []
        for learnt, out in GroupKFold(FOLDS).split(self.held, groups=self.speakers[self.held]):
            rows = self.held[learnt]
            fits.append((out, self.fit(rows[is_known[rows]])))
        return fits, self.fit(self.held[is_known[self.held]])

    def fit(self, rows: Rows, seed: int = 0) -> FittedEstimator:
        from datasets import Dataset

        names = sorted(set(self.labels[rows].tolist()))
        columns = {"row": rows, "labels": np.searchsorted(names, self.labels[rows]), "speaker": self.speakers[rows]}
        train = Dataset.from_dict({name: column.tolist() for name, column in columns.items()})
        vocabulary = Vocabulary(labels=tuple(names))
        estimator = self.task.fit(KnownVectors(self.vectors), Encoded(train), vocabulary, seed)
        return FittedEstimator(self, rows, names, estimator)


@dataclass(frozen=True)
class FittedEstimator(Fitted):
    """An estimator; its vectors are the standardised features."""

    estimator: Estimator

    def probabilities(self, rows: Rows) -> NDArray[np.float64]:
        return to_probabilities(self.estimator({"row": rows}))

    def vectors(self, rows: Rows) -> NDArray[np.float64]:
        return np.asarray(self.estimator.features({"row": rows}), dtype=np.float64)


class KnownVectors(AudioFeatures):
    """Features that are computed already: a data set has a column `row` of rows of `vectors`, float32 [n, width]."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        super().__init__()
        self.vectors = vectors

    def _rows(self, dataset: Mapping[str, Rows]) -> NDArray[np.float32]:
        return self.vectors[np.asarray(dataset["row"])]

    def width(self) -> int:
        return self.vectors.shape[1]


# ---- networks ----


@dataclass(frozen=True)
class NetworkPool(Pool):
    """Clips as model inputs, `encoded` with n rows. The speakers of validation are held out.

    The same network answers the held-out clips and test. It learns from the splits `train` and `made` (synthesised
    speech, which is not in the splits of recordings), for `epochs`, and no checkpoint is kept.
    """

    task: NetworkTask
    encoded: Dataset
    tuning: Tuning
    augmentation: Augmentation | None
    epochs: float
    build_arguments: Callable[[Path], TrainingArguments]  # of a folder for what the Trainer writes

    @property
    def how(self) -> str:
        return f"held out as validation, trained once a pair for {self.epochs:g} epochs"

    @cached_property
    def held(self) -> Rows:
        return np.flatnonzero(self.splits == "validation")

    def fit_apart(self, is_known: NDArray[np.bool_]) -> tuple[list[tuple[Rows, Fitted]], Fitted]:
        fitted = self.fit(np.flatnonzero(np.isin(self.splits, ("train", "made")) & is_known))
        return [(np.arange(len(self.held)), fitted)], fitted

    def fit(self, rows: Rows, seed: int = 0) -> FittedNetwork:
        names = sorted(set(self.labels[rows].tolist()))
        logger.info("%s clips of %s", f"{len(rows):,}", ", ".join(names))
        training_fit.seed_everything(seed)
        numbers = np.searchsorted(names, self.labels[rows]).tolist()
        train = Encoded(self.encoded.select(rows).remove_columns("labels").add_column("labels", numbers))
        vocabulary = Vocabulary(labels=tuple(names))
        processor = self.task.load_processor(vocabulary)
        model = self.task.load_model(vocabulary, processor)
        (stage,) = self.task.stages(train)
        with tempfile.TemporaryDirectory() as directory:
            trainer = training_fit.build_trainer(
                self.task,
                self.task.prepare(model, self.tuning, train, processor),
                processor,
                vocabulary,
                stage,
                args=self.build_arguments(Path(directory)),
                tuning=self.tuning,
                augmentation=self.augmentation,
                seed=seed,
                unprepared=model,
            )
            trainer.train()
        answerer = Answerer(self.task, trainer.model, processor, vocabulary)
        return FittedNetwork(self, rows, names, self.encoded, answerer)


@dataclass(frozen=True)
class FittedNetwork(Fitted):
    """A trained network; a clip's vector is the input of its classifier, a mean over windows weighted by energy."""

    encoded: Dataset
    answerer: Answerer

    @cached_property
    def all_vectors(self) -> NDArray[np.float32]:
        """The vectors of all clips of the pool, [n, width], from one pass."""
        import torch

        network = self.network
        classifier, network.classifier = network.classifier, torch.nn.Identity()
        try:
            return self.answerer.respond(Encoded(self.encoded.remove_columns("labels")))
        finally:
            network.classifier = classifier

    def vectors(self, rows: Rows) -> NDArray[np.float64]:
        return self.all_vectors[rows].astype(np.float64)

    def probabilities(self, rows: Rows) -> NDArray[np.float64]:
        import torch

        classifier = cast("torch.nn.Module", self.network.classifier)
        with torch.inference_mode():
            logits = classifier(torch.from_numpy(self.all_vectors[rows]).to(self.network.device))
        return to_probabilities(logits.cpu().numpy())

    @property
    def network(self) -> PreTrainedModel:
        """The network in evaluation mode."""
        return self.answerer.network.eval()


# ---- from a data set ----


def build_estimator_pool(dataset: DatasetDict, task: EstimatorTask) -> EstimatorPool:
    """The prepared clips (columns audio, label, speaker) with the features of the task, which are cached on disk."""
    rows, labels, speakers, splits = _join(dataset)
    nothing = Vocabulary()
    features: AudioFeatures = task.load_model(nothing, task.load_processor(nothing))  # type: ignore[arg-type]
    logger.info("features of %s clips", f"{len(rows):,}")
    return EstimatorPool(labels, speakers, splits, task, features._rows(rows))


def build_network_pool(
    dataset: DatasetDict,
    task: NetworkTask,
    tuning: Tuning,
    augmentation: Augmentation | None,
    epochs: float,
    build_arguments: Callable[[Path], TrainingArguments],
) -> NetworkPool:
    """The prepared clips (columns audio, label, speaker) as inputs of the task's network; see `NetworkPool`."""
    from datasets import concatenate_datasets

    _, labels, speakers, splits = _join(dataset)
    vocabulary = task.learn(dataset["train"])
    encoded = training_fit.encode(dataset, task, task.load_processor(vocabulary), vocabulary)
    rows = concatenate_datasets([split.rows for split in encoded.values()])
    return NetworkPool(labels, speakers, splits, task, rows, tuning, augmentation, epochs, build_arguments)


def _join(dataset: DatasetDict) -> tuple[Dataset, NDArray[np.str_], NDArray[np.str_], NDArray[np.str_]]:
    """The rows of all splits in order, and their labels, speakers and splits as names [n]."""
    from datasets import concatenate_datasets

    rows = concatenate_datasets(list(dataset.values()))
    splits = np.concatenate([np.full(len(part), split) for split, part in dataset.items()])
    return rows, np.array(rows["label"][:]), np.array(rows["speaker"][:]), splits
