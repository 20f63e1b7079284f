"""Further figures of a label task, by name from scikit-learn: the setting `metrics`."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.errors import InputError
from voicecommand.evaluation.base import Answers, Evaluator
from voicecommand.evaluation.blocks import Block
from voicecommand.evaluation.intervals import ratio_with_interval, weighted_with_interval
from voicecommand.files import read_json

logger = logging.getLogger(__name__)

ALWAYS = ("accuracy", "macro_f1", "ece")  # every label task has them


@dataclass(frozen=True)
class Metric:
    """A function of sklearn.metrics.

    Args:
        function: its name there.
        settings: its keyword arguments.
        greater_is_better: its direction.
        reads: `labels`, or `probabilities` [n, K].
        unit: of a figure that is no share; None for a share.
    """

    function: str
    settings: Mapping[str, Any]
    greater_is_better: bool = True
    reads: str = "labels"
    unit: str | None = None


MACRO = {"average": "macro", "zero_division": 0}
METRICS = {
    "matthews_corrcoef": Metric("matthews_corrcoef", {}, unit=""),
    "balanced_accuracy": Metric("balanced_accuracy_score", {}),
    "cohen_kappa": Metric("cohen_kappa_score", {}, unit=""),
    "precision": Metric("precision_score", MACRO),
    "recall": Metric("recall_score", MACRO),
    "jaccard": Metric("jaccard_score", MACRO),
    "zero_one_loss": Metric("zero_one_loss", {}, greater_is_better=False),
    "top_k_accuracy": Metric("top_k_accuracy_score", {}, reads="probabilities"),
    "log_loss": Metric("log_loss", {}, greater_is_better=False, reads="probabilities", unit="nats"),
}
TOP_K = 2  # scikit-learn's default


def append_metrics(evaluators: Sequence[Evaluator], names: Sequence[str]) -> tuple[Evaluator, ...]:
    """The evaluators of a task, and one of the metrics with these names; `_score` at the end of a name may be left out.

    Raises:
        InputError: an unknown name, or a task without labels.
    """
    if not names:
        return tuple(evaluators)
    if not any("label" in evaluator.targets for evaluator in evaluators):
        raise InputError(f"metrics={','.join(names)}: only for tasks with labels; leave it out")
    chosen = []
    for name in names:
        known = str(name).removesuffix("_score")
        if known not in METRICS:
            always = "; it is always measured, so leave it out" if known in ALWAYS else ""
            raise InputError(f"metrics={name}: give some of {', '.join(METRICS)}{always}")
        chosen.append(known)
    return (*evaluators, ScikitLearn(tuple(dict.fromkeys(chosen))))


def say_unused(names: Sequence[str], directory: Path) -> None:
    """Warn if a command asks for metrics that the finished run `directory` was not measured by."""
    splits = read_json(directory / "metrics.json")["splits"].values()
    missing = [name for name in names if not any(str(name).removesuffix("_score") in split for split in splits)]
    if missing:
        logger.warning(
            "metrics=[%s] is not used, because the run is finished; python recipes/evaluate.py run=%s"
            " 'metrics=[%s]' measures it by them",
            ",".join(missing), shlex.quote(str(directory)), ",".join(missing),
        )  # fmt: skip


def directions_of(names: Sequence[str]) -> dict[str, bool]:
    """Name -> whether greater is better, of the metrics that may choose the best checkpoint."""
    return {name: METRICS[name].greater_is_better for name in (str(n).removesuffix("_score") for n in names)}


def compute_metric(name: str, given: ArrayLike, references: ArrayLike, weights: ArrayLike | None = None) -> float:
    """A metric of `METRICS`; 0 where it is not defined (one label only), as matthews_corrcoef of scikit-learn.

    Args:
        given: class ids `[n]`, or probabilities `[n, K]` if the metric reads them.
        references: class ids `[n]`.
        weights: float `[n]`, how often each example counts.
    """
    from sklearn import metrics

    metric = METRICS[name]
    settings = dict(metric.settings)
    if metric.reads == "probabilities":
        table = np.asarray(given, dtype=np.float64)
        if table.shape[1] <= TOP_K and name == "top_k_accuracy":
            return 1.0  # scikit-learn takes two columns for a binary score
        settings["labels"] = np.arange(table.shape[1])
        given = table
    elif metric.settings is MACRO:  # the mean over the labels that occur, as macro F1; a resample may lack some
        counted = np.asarray(references) if weights is None else np.asarray(references)[np.asarray(weights) > 0]
        settings["labels"] = np.unique(counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label that is predicted and does not occur; undefined values
        value = float(getattr(metrics, metric.function)(references, given, sample_weight=weights, **settings))
    return value if np.isfinite(value) else 0.0


@dataclass(frozen=True)
class ScikitLearn:
    """The evaluator of metrics by name; it follows the task's own, which owns the objective."""

    names: tuple[str, ...]
    name = "scikit_learn"
    targets = ("label",)
    units_metric = "accuracy"
    unit = ""

    @property
    def primary_metric(self) -> str:
        return self.names[0]

    @property
    def greater_is_better(self) -> bool:
        return METRICS[self.primary_metric].greater_is_better

    def quick(self, answers: Answers) -> dict[str, float]:
        return {name: compute_metric(name, _given(name, answers), answers.label_ids) for name in self.names}

    def score(self, answers: Answers) -> dict[str, Any]:
        from voicecommand.evaluation.evaluate_metrics import compute_point

        groups = (answers.groups, answers.group_column)
        figures = {}
        for name in self.names:
            value = compute_point(partial(compute_metric, name), _given(name, answers), answers.label_ids)
            means = _mean_of(name, answers)
            if means is not None:
                figure = ratio_with_interval(means, None, *groups, value=value)
            else:
                ids = (answers.predicted, answers.label_ids)
                figure = weighted_with_interval(partial(compute_metric, name), *ids, *groups, value)
            unit = METRICS[name].unit
            figures[name] = figure if unit is None else figure | {"unit": unit}
        return figures

    def units(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        right = (answers.predicted == answers.label_ids).astype(np.float64)
        return right, np.ones(len(right))

    def blocks(self, scores: Mapping[str, Any], answers: Answers) -> list[Block]:
        return []


def _given(name: str, answers: Answers) -> NDArray:
    return answers.predicted if METRICS[name].reads == "labels" else answers.probabilities


def _mean_of(name: str, answers: Answers) -> NDArray[np.float64] | None:
    """The values [n] whose mean the metric is; None for one that is no mean over examples."""
    expected = answers.label_ids
    if name == "zero_one_loss":
        return (answers.predicted != expected).astype(np.float64)
    own = answers.probabilities[np.arange(len(expected)), expected]
    if name == "log_loss":
        return -np.log(np.clip(own, np.finfo(np.float64).eps, 1))
    if name == "top_k_accuracy":
        above = (answers.probabilities > own[:, None]).sum(axis=1)
        return (above < TOP_K).astype(np.float64)
    return None
