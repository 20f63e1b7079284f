"""Traditional and hybrid models with Trainer's three verbs: train, predict, save_model.

An `Estimator` is features that stay as they are (`TfidfFeatures`, `EncoderFeatures` of texts, `MfccFeatures`,
`SpeechFeatures` of sound) and a linear support vector machine whose scores are calibrated by one temperature. It is
saved as safetensors and JSON, never as a pickle.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from voicecommand.files import read_json
from voicecommand.models.audio_features import MfccFeatures, SpeechFeatures
from voicecommand.models.text_features import EncoderFeatures, TfidfFeatures

GROUPS = ("speaker", "template")  # examples that share one stay in one fold
FOLDS = 5


class Estimator:
    """Features and a linear classifier, with the verbs of `Trainer`.

    Predictions are logits `[n, labels]`: one-against-rest scores divided by a temperature (Guo et al.,
    arXiv:1706.04599) fitted to out-of-fold scores of train, folds disjoint by speaker or template where known.
    """

    def __init__(
        self, features: Any, train: Any, label_names: list[str], C: float, class_weights: Any = None, seed: int = 0
    ) -> None:
        self.features, self.train_dataset = features, train
        self.label_names, self.C, self.class_weights, self.seed = label_names, C, class_weights, seed
        self.coefficients = self.intercepts = np.zeros(0)
        self.temperature = 1.0

    def train(self, resume_from_checkpoint: Any = None) -> SimpleNamespace:
        """Fit; there is no middle to resume from."""
        from sklearn.svm import LinearSVC

        start = time.perf_counter()
        labels = np.asarray(self.train_dataset["labels"])
        matrix = self.features.fit(self.train_dataset)
        weights = None if self.class_weights is None else dict(enumerate(map(float, self.class_weights)))
        classifier = LinearSVC(C=self.C, class_weight=weights, random_state=self.seed)
        scores = _out_of_fold(classifier, matrix, labels, self._groups(), self.seed)
        classifier.fit(matrix, labels)
        # single precision, as saved: the figures of the run are those of the file
        self.coefficients = classifier.coef_.astype(np.float32)
        self.intercepts = classifier.intercept_.astype(np.float32)
        if len(self.label_names) == 2:  # scikit-learn keeps one row for two labels
            self.coefficients = np.concatenate([-self.coefficients, self.coefficients])
            self.intercepts = np.concatenate([-self.intercepts, self.intercepts])
        self.temperature = float(np.float32(_fit_temperature(scores, labels)))
        seconds = time.perf_counter() - start
        return SimpleNamespace(
            global_step=0, metrics={"train_runtime": seconds, "train_samples_per_second": len(labels) / seconds}
        )

    def predict(self, dataset: Any) -> SimpleNamespace:
        scores = np.asarray(self.features(dataset) @ self.coefficients.T) + self.intercepts
        return SimpleNamespace(predictions=scores / self.temperature)

    def save_model(self, directory: str | Path) -> None:
        from safetensors.numpy import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = self.features.save(directory)
        tensors |= {
            "coefficients": np.ascontiguousarray(self.coefficients),
            "intercepts": self.intercepts,
            "temperature": np.array([self.temperature], dtype=np.float32),
        }
        save_file(tensors, directory / "estimator.safetensors")

    @classmethod
    def load(cls, directory: str | Path, label_names: list[str]) -> Estimator:
        """Open what `save_model` wrote.

        Raises:
            OSError, ValueError, KeyError, TypeError, SafetensorError: the files are not whole, or do not fit together.
        """
        from safetensors.numpy import load_file

        directory = Path(directory)
        tensors = load_file(directory / "estimator.safetensors")
        kinds: dict[str, Any] = {c.kind: c for c in (TfidfFeatures, EncoderFeatures, MfccFeatures, SpeechFeatures)}
        kind = read_json(directory / "features.json")["kind"]
        if kind not in kinds:
            raise ValueError(f"features.json: kind {kind!r} is none of {', '.join(kinds)}")
        features = kinds[kind].load(directory, tensors)
        estimator = cls(features, None, label_names, C=1.0)
        estimator.coefficients, estimator.intercepts = tensors["coefficients"], tensors["intercepts"]
        estimator.temperature = float(tensors["temperature"][0])
        wanted = (len(label_names), features.width())
        if estimator.coefficients.shape != wanted or estimator.intercepts.shape != wanted[:1]:
            raise ValueError(f"estimator.safetensors: not a classifier of {wanted[0]} labels and {wanted[1]} features")
        return estimator

    def count_parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        classifier = self.coefficients.size + self.intercepts.size
        total, fitted = self.features.parameters()
        return classifier + total, classifier + fitted

    def _groups(self) -> np.ndarray | None:
        column = next((c for c in GROUPS if c in self.train_dataset.column_names), None)
        return np.asarray(self.train_dataset[column]) if column else None


def _out_of_fold(classifier: Any, matrix: Any, labels: np.ndarray, groups: Any, seed: int) -> np.ndarray:
    """Scores `[n, labels]` of each example from a classifier that did not see its fold; labels too rare: NaN rows."""
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    counts = np.bincount(labels)
    count = len(counts)
    scores = np.full((len(labels), count), np.nan)
    folds = min(FOLDS, len(np.unique(groups)), int(counts.max()))
    if folds < 2:
        return scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels with fewer examples than folds, see below
        splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(matrix, labels, groups))
    for fit, held in splits:
        if len(np.unique(labels[fit])) < count:
            continue
        decision = clone(classifier).fit(matrix[fit], labels[fit]).decision_function(matrix[held])
        scores[held] = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
    return scores


def _fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log loss; 1 where no out-of-fold score exists."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    known = ~np.isnan(scores[:, 0])
    if not known.any():
        return 1.0
    scores, labels = scores[known], labels[known]

    def log_loss(log_temperature: float) -> float:
        return -log_softmax(scores / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=(-5, 5), method="bounded").x))
