"""Further metrics by name."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from support import label_answers
from voicecommand.errors import InputError
from voicecommand.evaluation import intervals
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.classification import Classification
from voicecommand.evaluation.scikit_learn import (
    METRICS,
    ScikitLearn,
    append_metrics,
    compute_metric,
    directions_of,
)
from voicecommand.evaluation.splits import evaluate
from voicecommand.report import terminal

LABELS = ["call", "off", "on"]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


def answers_of(groups: int | None = None, labels: int = 3, n: int = 60) -> Answers:
    draws = np.random.default_rng(0)
    references = draws.integers(0, labels, n)
    table = draws.dirichlet(np.ones(labels), n) + 0.3 * np.eye(labels)[references]
    names = [f"row {i}" for i in range(n)]
    known = None if groups is None else [f"speaker {i % groups}" for i in range(n)]
    column = None if groups is None else "speaker"
    return label_answers("test", names, names, names, references, table / 1.3, known, column, LABELS[:labels])


@pytest.mark.parametrize("groups", [None, 12])
@pytest.mark.parametrize("name", METRICS)
def test_each_metric_is_that_of_scikit_learn_within_its_interval(name: str, groups: int | None) -> None:
    answers, metric = answers_of(groups), METRICS[name]
    (figure,) = ScikitLearn((name,)).score(answers).values()
    given = answers.predicted if metric.reads == "labels" else answers.probabilities
    function = getattr(sklearn_metrics, metric.function)
    assert figure["value"] == pytest.approx(function(answers.label_ids, given, **metric.settings))
    assert figure["low"] < figure["value"] < figure["high"] and figure["high"] - figure["low"] < 0.5
    assert ("12 groups" in figure["method"]) == (groups == 12)
    assert ScikitLearn((name,)).quick(answers) == {name: pytest.approx(figure["value"])}


def test_a_mean_metric_has_the_interval_of_a_mean() -> None:
    figures = ScikitLearn(("zero_one_loss", "top_k_accuracy")).score(answers_of())
    assert {figure["method"] for figure in figures.values()} == {"Wilson"}


def test_two_labels_and_one_label_are_measured_too() -> None:
    for answers in (answers_of(labels=2), answers_of(labels=2, n=1)):
        scores = ScikitLearn(tuple(METRICS)).score(answers)
        assert scores.keys() == METRICS.keys() and all(np.isfinite(figure["value"]) for figure in scores.values())
        assert scores["top_k_accuracy"]["value"] == 1


def test_they_follow_the_figures_of_the_task_on_every_output() -> None:
    evaluators = append_metrics([Classification()], ["cohen_kappa_score", "balanced_accuracy"])
    found = evaluate(evaluators, [answers_of()])
    assert found["objective"]["metric"] == "macro_f1"
    assert list(found["splits"]["test"])[-2:] == ["cohen_kappa", "balanced_accuracy"]
    said = terminal.format_summary(found)
    value = found["splits"]["test"]["cohen_kappa"]["value"]
    assert f"cohen kappa {value:.3g} (" in said and "balanced accuracy" in said
    assert directions_of(["zero_one_loss", "cohen_kappa"]) == {"zero_one_loss": False, "cohen_kappa": True}


def test_a_label_that_only_answers_have_does_not_count_in_a_mean_over_labels() -> None:
    references = np.repeat([0, 1], 10)
    given = np.where(np.arange(20) == 0, 2, references)
    assert compute_metric("recall", given, references) == pytest.approx(0.95)


def test_an_unknown_name_gives_the_list_and_a_known_figure_is_not_asked_for_twice() -> None:
    with pytest.raises(InputError, match="metrics=mcc: give some of matthews_corrcoef, "):
        append_metrics([Classification()], ["mcc"])
    with pytest.raises(InputError, match="always measured"):
        append_metrics([Classification()], ["accuracy"])
    (_, given) = append_metrics([Classification()], ["cohen_kappa", "cohen_kappa_score"])
    assert given.names == ("cohen_kappa",)
