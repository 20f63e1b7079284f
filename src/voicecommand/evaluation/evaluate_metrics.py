"""The metrics as `evaluate.Metric` classes: instantiate them directly (`MacroF1()`), no hub is asked.

`evaluate.load` would need the network. Class ids are declared as float64 on purpose: declared as integers,
`evaluate` casts a probability of 0.9 to class 0 without a word; this way the metric sees it and refuses it.
With `num_process=2, process_id=RANK` and a common `experiment_id`, rank 0 gets the figures, the others None.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from voicecommand.evaluation import alignment, arrays, confidence

_NUMBER = datasets.Value("float64")
_CLASS_IDS = {"predictions": _NUMBER, "references": _NUMBER}
_PROBABILITIES = {"predictions": datasets.Sequence(_NUMBER), "references": _NUMBER}
_TEXTS = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}


def _info(description: str, features: dict[str, Any]) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description="", features=datasets.Features(features)
    )


class Accuracy(evaluate.Metric):
    """`compute(predictions=ids, references=ids)` -> {"accuracy"}."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of predictions equal to the reference.", _CLASS_IDS)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"accuracy": arrays.accuracy(predictions, references)}


class MacroF1(evaluate.Metric):
    """`compute(predictions=ids, references=ids)` -> {"macro_f1"}, over labels with support."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Mean F1 over the labels that occur in the references.", _CLASS_IDS)

    def _compute(self, predictions: list, references: list, num_labels: int | None = None) -> dict[str, float]:
        return {"macro_f1": arrays.macro_f1(predictions, references, num_labels)}


class PerLabel(evaluate.Metric):
    """`compute(predictions=ids, references=ids, label_names=[...])` -> {name: {precision, ...}}."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Precision, recall, F1 and support of each label.", _CLASS_IDS)

    def _compute(self, predictions: list, references: list, label_names: Sequence[str]) -> dict[str, Any]:
        return dict(arrays.per_label(predictions, references, label_names))


class ConfusionMatrix(evaluate.Metric):
    """`compute(predictions=ids, references=ids, num_labels=K)` -> {"confusion_matrix"}: rows are references."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Counts of each pair of reference and prediction.", _CLASS_IDS)

    def _compute(self, predictions: list, references: list, num_labels: int) -> dict[str, Any]:
        return {"confusion_matrix": arrays.confusion_matrix(predictions, references, num_labels).tolist()}


class ECE(evaluate.Metric):
    """`compute(predictions=probabilities [n, K], references=ids)` -> {"ece"}."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Expected calibration error of the highest probability.", _PROBABILITIES)

    def _compute(self, predictions: list, references: list, bins: int = confidence.ECE_BINS) -> dict[str, float]:
        return {"ece": confidence.expected_calibration_error(predictions, references, bins)}


class LogLoss(evaluate.Metric):
    """`compute(predictions=probabilities [n, K], references=ids)` -> {"log_loss"}, in nats."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Mean negative log probability of the reference.", _PROBABILITIES)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"log_loss": confidence.log_loss(predictions, references)}


class Rejection(evaluate.Metric):
    """`compute(predictions=confidences [n], references=1 in scope or 0 out of scope, threshold=t)`.

    -> {"auroc", "accepted", "false_accepts"}: the shares of in-scope and out-of-scope examples at or above t.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("How well confidence tells in-scope from out-of-scope examples.", _CLASS_IDS)

    def _compute(self, predictions: list, references: list, threshold: float) -> dict[str, float]:
        scores, in_scope = np.asarray(predictions, dtype=np.float64), np.asarray(references) == 1
        return {
            "auroc": confidence.auroc(scores[in_scope], scores[~in_scope]),
            "accepted": float(np.mean(scores[in_scope] >= threshold)),
            "false_accepts": float(np.mean(scores[~in_scope] >= threshold)),
        }


class WordErrorRate(evaluate.Metric):
    """`compute(predictions=texts, references=texts)` -> {"wer"}: of texts as they are, split at white space."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Words inserted, deleted and substituted over the words of the references.", _TEXTS)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"wer": alignment.word_error_rate(references, predictions)}


class CharacterErrorRate(evaluate.Metric):
    """`compute(predictions=texts, references=texts)` -> {"cer"}, with the spaces between words."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Characters inserted, deleted and substituted over those of the references.", _TEXTS)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"cer": alignment.character_error_rate(references, predictions)}


class SentenceErrorRate(evaluate.Metric):
    """`compute(predictions=texts, references=texts)` -> {"sentence_error_rate"}."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of texts with any wrong word.", _TEXTS)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"sentence_error_rate": alignment.sentence_error_rate(references, predictions)}


class OfClassIds(evaluate.Metric):
    """`compute(predictions=ids, references=ids, function=f)` -> {"value"}: any function of the two."""

    inputs = _CLASS_IDS

    def _info(self) -> evaluate.MetricInfo:
        return _info("A figure of class ids.", self.inputs)

    def _compute(
        self, predictions: list, references: list, function: Callable[[list, list], float]
    ) -> dict[str, float]:
        return {"value": function(predictions, references)}


class OfProbabilities(OfClassIds):
    """`compute(predictions=probabilities [n, K], references=ids, function=f)` -> {"value"}."""

    inputs = _PROBABILITIES


def compute_point(function: Callable[[list, list], float], given: NDArray, references: NDArray[np.int64]) -> float:
    """A figure of class ids `[n]` or probabilities `[n, K]`, without an interval, by the classes above."""
    metric = OfClassIds if given.ndim == 1 else OfProbabilities
    with tempfile.TemporaryDirectory() as cache:
        found = metric(cache_dir=cache, keep_in_memory=True).compute(
            predictions=given, references=references, function=function
        )
    return float(found["value"])


def compute_points(
    predictions: NDArray[np.int64],
    references: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    label_names: Sequence[str],
) -> dict[str, Any]:
    """The figures of a split of a label task, without intervals, by the classes above.

    Returns:
        accuracy, macro_f1, per_label, confusion_matrix, ece and log_loss.
    """
    ids = {"predictions": predictions, "references": references}
    table = {"predictions": probabilities, "references": references}
    with tempfile.TemporaryDirectory() as cache:  # where a Metric keeps its examples while it computes

        def compute(metric: type[evaluate.Metric], **given: Any) -> dict[str, Any]:
            found: dict[str, Any] = metric(cache_dir=cache, keep_in_memory=True).compute(**given)
            return found

        points = compute(Accuracy, **ids) | compute(MacroF1, **ids, num_labels=len(label_names))
        points["per_label"] = compute(PerLabel, **ids, label_names=list(label_names))
        points |= compute(ConfusionMatrix, **ids, num_labels=len(label_names))
        return points | compute(ECE, **table) | compute(LogLoss, **table)


def compute_transcript_points(references: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """wer, cer and sentence_error_rate of texts as they are, by the classes above."""
    points: dict[str, float] = {}
    for metric in (WordErrorRate, CharacterErrorRate, SentenceErrorRate):
        with tempfile.TemporaryDirectory() as cache:
            found = metric(cache_dir=cache, keep_in_memory=True).compute(predictions=written, references=references)
        points |= found
    return points
