"""Traditional and hybrid models: fixed features, and a linear support vector machine with a temperature."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from voicecommand.files import read_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.svm import LinearSVC

logger = logging.getLogger(__name__)
FOLDS = 5
FEW_ERRORS = 10  # fewer wrong answers say little about how sure right ones may be


class Features(Protocol):
    """Features of rows: fitted on train, then the same for all splits."""

    kind: str

    def fit(self, dataset: object) -> NDArray | csr_matrix:
        """Fit to the rows of train, and return their features `[n, width]`."""

    def refit(self, matrix: NDArray | csr_matrix, rows: NDArray[np.int64]) -> NDArray | csr_matrix:
        """The features of train, `[n, width]`, as if they had been fitted on some of its rows only.

        Args:
            matrix: what `fit` returned.
            rows: numbers of the rows to fit on.
        """

    def __call__(self, dataset: object) -> NDArray | csr_matrix:
        """The features of rows, `[n, width]`."""

    def save(self, directory: Path) -> dict[str, NDArray]:
        """Write features.json and the encoder, if there is one; returns the tensors for estimator.safetensors."""

    def width(self) -> int:
        """The number of features."""

    def parameters(self) -> tuple[int, int]:
        """The number of (all, fitted here) parameters."""


@dataclass
class Estimator:
    """Fitted features and a fitted linear classifier.

    A call with rows returns logits float64 `[n, labels]`: one-against-rest scores divided by a temperature (Guo et al.,
    arXiv:1706.04599). The files are safetensors and JSON, never pickles.

    Args:
        coefficients: float32 `[labels, width]`.
        intercepts: float32 `[labels]`.
        held_out: after fitting, the logits float64 `[n, labels]` of the training rows, each from features and a
            classifier that were not fitted on it; NaN where the other folds lack a label. They are not saved.
    """

    features: Features
    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    temperature: float
    held_out: NDArray[np.float64] | None = None

    def __call__(self, rows: object) -> NDArray[np.floating]:
        scores = np.asarray(self.features(rows) @ self.coefficients.T) + self.intercepts
        return scores / self.temperature

    def save(self, directory: Path) -> None:
        """Write estimator.safetensors, and the files of the features."""
        from safetensors.numpy import save_file

        directory.mkdir(parents=True, exist_ok=True)
        tensors = self.features.save(directory)
        tensors |= {
            "coefficients": np.ascontiguousarray(self.coefficients),
            "intercepts": self.intercepts,
            "temperature": np.array([self.temperature], dtype=np.float32),
        }
        save_file(tensors, directory / "estimator.safetensors")

    @classmethod
    def load(
        cls, directory: Path, labels: int, load_features: Callable[[Path, dict[str, NDArray]], Features]
    ) -> Estimator:
        """Open the files of `save`.

        Raises:
            OSError, ValueError, KeyError, TypeError, SafetensorError: the files are not whole, or do not fit together.
        """
        from safetensors.numpy import load_file

        tensors = load_file(directory / "estimator.safetensors")
        features = load_features(directory, tensors)  # takes its own out
        kind = read_json(directory / "features.json")["kind"]
        if kind != features.kind:
            raise ValueError(f"features.json: kind {kind!r} is not {features.kind}")
        coefficients = take_tensor(tensors, "coefficients", (labels, features.width()))
        intercepts = take_tensor(tensors, "intercepts", (labels,))
        temperature = float(take_tensor(tensors, "temperature", (1,))[0])
        if temperature <= 0:
            raise ValueError(f"estimator.safetensors: the temperature is {temperature}, not above 0")
        if tensors:
            raise ValueError(f"estimator.safetensors: {min(tensors)} is unexpected")
        return cls(features, coefficients, intercepts, temperature)

    def count_parameters(self) -> tuple[int, int]:
        """The number of (all, fitted here) parameters."""
        classifier = self.coefficients.size + self.intercepts.size
        total, fitted = self.features.parameters()
        return classifier + total, classifier + fitted


def take_tensor(tensors: dict[str, NDArray], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Take the tensor `name` out of those of estimator.safetensors.

    Raises:
        ValueError: it is missing, of another shape or type, NaN or infinite.
    """
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise ValueError(f"estimator.safetensors: {name} is missing")
    if tensor.shape != shape or tensor.dtype != np.float32:
        found = f"{tensor.dtype} {list(tensor.shape)}"
        raise ValueError(f"estimator.safetensors: {name} is {found}, not float32 {list(shape)}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"estimator.safetensors: {name} is NaN or infinite")
    return tensor


def fit_estimator(
    features: Features,
    rows: object,
    labels: NDArray[np.int64],
    count: int,
    C: float,
    class_weights: NDArray[np.float32] | None,
    groups: NDArray | None,
    seed: int,
) -> Estimator:
    """Fit features and classifier to rows with `labels` `[n]` from 0 to `count` - 1.

    The temperature is fitted to the scores of rows that features and classifier were not fitted on; folds are disjoint
    by `groups` `[n]` (speaker, template) if known.
    """
    from sklearn.svm import LinearSVC

    matrix = features.fit(rows)
    weights = None if class_weights is None else dict(enumerate(map(float, class_weights)))
    classifier = LinearSVC(C=C, class_weight=weights, random_state=seed)
    scores = _out_of_fold(classifier, features, matrix, labels, groups, seed)
    classifier.fit(matrix, labels)
    # single precision, as in the file, so that the run's figures are those of the saved model
    coefficients = classifier.coef_.astype(np.float32)
    intercepts = classifier.intercept_.astype(np.float32)
    if count == 2:  # scikit-learn keeps one row for two labels
        coefficients = np.concatenate([-coefficients, coefficients])
        intercepts = np.concatenate([-intercepts, intercepts])
    temperature = float(np.float32(_fit_temperature(scores, labels)))
    _log_calibration(scores, labels, temperature)
    return Estimator(features, coefficients, intercepts, temperature, scores / temperature)


def _out_of_fold(
    classifier: LinearSVC,
    features: Features,
    matrix: NDArray | csr_matrix,
    labels: NDArray[np.int64],
    groups: NDArray | None,
    seed: int,
) -> NDArray[np.float64]:
    """Scores `[n, labels]` of each example from features and a classifier that were not fitted on its fold.

    They are NaN for the examples of a label that has one group only, which every fold needs, and if the other folds
    lack a label nevertheless.
    """
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    counts = np.bincount(labels)
    count = len(counts)
    scores = np.full((len(labels), count), np.nan)
    pairs = np.unique(np.stack([labels, np.unique(groups, return_inverse=True)[1]]), axis=1)
    is_rare = (np.bincount(pairs[0], minlength=count) < 2)[labels]
    rare, often = np.flatnonzero(is_rare), np.flatnonzero(~is_rare)
    folds = min(FOLDS, len(np.unique(groups[often])), int(counts.max()))
    if folds < 2:
        return scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on labels with fewer examples than folds
        divide = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split
        splits = [(often[fit], often[held]) for fit, held in divide(often, labels[often], groups[often])]
    for kept, held in splits:
        fit = np.sort(np.concatenate([rare, kept]))
        if len(np.unique(labels[fit])) < count:
            continue
        refitted = features.refit(matrix, fit)
        decision = clone(classifier).fit(refitted[fit], labels[fit]).decision_function(refitted[held])
        scores[held] = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
    return scores


def _fit_temperature(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature with the least log loss; 1 if there are no out-of-fold scores.

    As in Platt (1999), the targets of n examples are not 1 but (n + 1) / (n + 2), and the other labels share the rest:
    what one expects of the next example after n right ones. So the temperature has a bound that follows from n where
    scores separate the labels; without it, nothing would keep probabilities from 0 and 1.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    known = ~np.isnan(scores[:, 0])
    if not known.any():
        return 1.0
    scores, labels = scores[known], labels[known]
    n, count = scores.shape
    targets = np.full((n, count), 1 / (n + 2) / (count - 1))
    targets[np.arange(n), labels] = (n + 1) / (n + 2)

    def log_loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(scores / np.exp(log_temperature), axis=1)).sum(1).mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-5, 5), method="bounded").x))


def _log_calibration(scores: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> None:
    known = ~np.isnan(scores[:, 0])
    errors, n = int((scores[known].argmax(axis=1) != labels[known]).sum()), int(known.sum())
    if not n:
        logger.warning("probabilities are not calibrated: too few examples of a label to hold any out")
    elif errors < FEW_ERRORS:
        logger.warning(
            "probabilities: %s of %d held-out examples of train %s wrong, too few to calibrate by: take them as an"
            " order, not as chances",
            errors or "none", n, "are" if errors > 1 else "is",
        )  # fmt: skip
    else:
        logger.info("probabilities: temperature %.3f, from %d held-out examples of train", temperature, n)
