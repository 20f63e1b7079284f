"""Metrics against sklearn, against known values, and in the form of evaluate.Metric classes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voicecommand.evaluation import arrays, confidence, evaluate_metrics, intervals


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    """400 examples of 6 labels, of which label 5 never occurs, with probabilities that are often right."""
    generator = np.random.default_rng(0)
    references = generator.integers(0, 5, 400)
    logits = generator.normal(size=(400, 6))
    logits[np.arange(400), references] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "references": references,
        "probabilities": probabilities,
        "predictions": probabilities.argmax(axis=1),
    }


def test_accuracy_confusion_matrix_and_log_loss_agree_with_sklearn(sample: dict[str, np.ndarray]) -> None:
    from sklearn import metrics as theirs

    predictions, references = sample["predictions"], sample["references"]
    assert arrays.accuracy(predictions, references) == theirs.accuracy_score(references, predictions)
    expected = theirs.confusion_matrix(references, predictions, labels=range(6))
    assert np.array_equal(arrays.confusion_matrix(predictions, references, 6), expected)
    expected = theirs.log_loss(references, sample["probabilities"], labels=range(6))
    assert confidence.log_loss(sample["probabilities"], references) == pytest.approx(expected)


def test_per_label_figures_agree_with_sklearn(sample: dict[str, np.ndarray]) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    rows = arrays.per_label(sample["predictions"], sample["references"], list("abcdef"))
    expected = precision_recall_fscore_support(
        sample["references"], sample["predictions"], labels=range(6), zero_division=0
    )
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in rows.values()] == pytest.approx(list(column))


def test_macro_f1_is_over_the_labels_that_occur_in_the_references(sample: dict[str, np.ndarray]) -> None:
    from sklearn.metrics import f1_score

    predictions, references = sample["predictions"], sample["references"]
    assert 5 in predictions and 5 not in references, "the sample must tell the two definitions apart"
    expected = f1_score(references, predictions, labels=range(5), average="macro")
    assert arrays.macro_f1(predictions, references, 6) == pytest.approx(expected)
    assert arrays.macro_f1([0, 0], [0, 1]) == pytest.approx(1 / 3), "a label never predicted counts as 0"


def test_auroc_agrees_with_sklearn_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(1)
    inside, outside = generator.integers(3, 10, 80) / 10, generator.integers(0, 7, 50) / 10
    expected = roc_auc_score([1] * 80 + [0] * 50, np.concatenate([inside, outside]))
    assert confidence.auroc(inside, outside) == pytest.approx(expected)


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    known = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), interval in known.items():
        assert intervals.wilson(successes, n) == pytest.approx(interval, abs=5e-5)
    assert intervals.wilson(20, 20)[1] == 1.0


def test_a_bootstrap_over_groups_equals_resampling_the_rows_one_by_one() -> None:
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(12), 10)
    references = generator.integers(0, 4, 120)
    predictions = np.where(generator.random(120) < 0.7, references, 0)
    got = intervals.macro_f1_bootstrap(predictions, references, groups.astype(str), seed=3)
    again, values = np.random.default_rng(3), []
    order = np.unique(groups.astype(str))
    for weights in again.multinomial(12, np.full(12, 1 / 12), size=intervals.RESAMPLES):
        rows = np.concatenate([np.flatnonzero(groups.astype(str) == order[g]) for g in np.repeat(range(12), weights)])
        values.append(arrays.macro_f1(predictions[rows], references[rows]))
    assert got == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_groups_that_fail_together_widen_the_interval_and_the_seed_fixes_it() -> None:
    groups = [f"g{i // 20}" for i in range(400)]
    references = np.zeros(400, dtype=int)
    predictions = np.array([int(i // 20 % 4 == 0) for i in range(400)])
    right = predictions == references

    def width(units: Any, seed: int = 0) -> float:
        low, high = intervals.ratio_bootstrap(right, np.ones(400), units, seed=seed)
        return high - low

    assert width(groups) > 3 * width(None)
    assert width(groups) == width(groups) != width(groups, seed=1)
    low, high = intervals.wilson(300, 400)
    assert width(None) == pytest.approx(high - low, rel=0.15), "without groups it is near Wilson's"


def test_a_ratio_of_sums_weighs_long_examples_more_and_its_interval_draws_them_whole() -> None:
    """Such as a word error rate: errors of words, here of four speakers with two sentences each."""
    errors = np.array([1, 0, 3, 0, 0, 2, 0, 1])
    words = np.array([2, 8, 3, 5, 4, 4, 10, 4])
    speakers = np.repeat(list("abcd"), 2)
    figure = intervals.ratio_with_interval(errors, words, speakers.tolist(), "speaker")
    assert figure["value"] == 7 / 40 and figure["method"] == "bootstrap over 4 groups (speaker)"
    draws = np.random.default_rng(0).multinomial(4, np.full(4, 1 / 4), size=intervals.RESAMPLES)
    rates = (draws @ [1, 3, 2, 1]) / (draws @ [10, 8, 8, 14])
    assert (figure["low"], figure["high"]) == pytest.approx(tuple(np.quantile(rates, [0.025, 0.975])))
    alone = intervals.ratio_with_interval(errors, words, None, None)
    assert alone["method"] == "bootstrap over 8 examples", "Wilson is for right or wrong only"
    assert intervals.ratio_with_interval([1, 0, 1, 1], None, None, None)["method"] == "Wilson"


def test_a_resample_without_any_unit_is_left_out() -> None:
    low, high = intervals.ratio_bootstrap([1, 0], [2, 0], ["a", "b"])
    assert (low, high) == (0.5, 0.5)


def test_a_crossed_bootstrap_draws_groups_and_labels_each_for_itself() -> None:
    speakers, labels = (units.ravel().astype(str) for units in np.indices((20, 5)))
    right = labels != "3"  # one command is never understood, whoever says it
    assert intervals.ratio_bootstrap(right, np.ones(100), speakers) == (0.8, 0.8)
    low, high = intervals.crossed_bootstrap(right, speakers, labels)
    shares = np.random.default_rng(0).binomial(5, 0.8, size=20_000) / 5
    assert (low, high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))
    again, values = np.random.default_rng(5), []
    right, kept = again.random(100) < 0.7, again.random(100) < 0.6  # not every speaker says every command
    generator = np.random.default_rng(7)
    draws = [generator.multinomial(n, np.full(n, 1 / n), size=intervals.RESAMPLES) for n in (20, 5)]
    for first, second in zip(*draws, strict=True):
        weights = np.outer(first, second).ravel()[kept]
        values.append(np.average(right[kept], weights=weights))
    renamed = np.repeat(np.char.zfill(np.arange(20).astype(str), 2), 5)
    got = intervals.crossed_bootstrap(right[kept], renamed[kept], labels[kept], seed=7)
    assert got == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_intervals_of_three_thousand_examples_and_77_labels_take_well_under_a_second() -> None:
    generator = np.random.default_rng(4)
    references = generator.integers(0, 77, 3000)
    predictions = np.where(generator.random(3000) < 0.9, references, generator.integers(0, 77, 3000))
    groups = generator.integers(0, 300, 3000).astype(str)
    start = time.process_time()
    for units in (groups, None):
        intervals.ratio_bootstrap(predictions == references, np.ones(3000), units)
        intervals.macro_f1_bootstrap(predictions, references, units)
    assert time.process_time() - start < 2  # 0.1 s on an idle machine


def test_ece_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    references = np.array([0] * 7 + [1] * 3 + [1] * 6 + [0] * 4)  # 70 % right at 0.9, 60 % right at 0.6
    assert confidence.expected_calibration_error(probabilities, references) == pytest.approx(0.5 * 0.2)
    bins = confidence.reliability_bins([0.0, 1.0, 1 / 15], [True, True, False])
    assert bins["count"][0] == 2 and bins["count"][14] == 1, "edges belong to the bin below, 0 to the first"


def test_log_loss_of_an_impossible_reference_is_finite() -> None:
    assert 30 < confidence.log_loss([[1.0, 0.0]], [1]) < 40


def test_confused_pairs_are_the_largest_errors_first_and_never_the_diagonal() -> None:
    assert arrays.confused_pairs([[9, 2, 0], [5, 9, 0], [0, 1, 9]]) == [(1, 0, 5), (0, 1, 2), (2, 1, 1)]
    assert arrays.confused_pairs([[9, 2, 0], [5, 9, 0], [0, 1, 9]], top=1) == [(1, 0, 5)]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([0.9, 0.2], [1, 0], "whole class ids"),
        ([1, 0, 1], [1, 0], "3 predictions for 2"),
        ([], [], "non-empty"),
        ([0, 3], [0, 1], "0..1"),
        ([0, 1], [-1, 1], "0..1"),
    ],
)
def test_wrong_class_ids_are_refused(predictions: list, references: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrays.confusion_matrix(predictions, references, 2)


def test_the_metric_classes_give_what_the_functions_give(sample: dict[str, np.ndarray], tmp_path: Path) -> None:
    predictions, references, probabilities = (
        sample["predictions"],
        sample["references"],
        sample["probabilities"],
    )
    cache = {"cache_dir": str(tmp_path)}
    ids = {"predictions": predictions, "references": references}
    table = {"predictions": probabilities, "references": references}
    assert evaluate_metrics.Accuracy(**cache).compute(**ids) == {"accuracy": arrays.accuracy(**ids)}
    assert evaluate_metrics.MacroF1(**cache).compute(**ids) == {"macro_f1": arrays.macro_f1(**ids)}
    assert evaluate_metrics.PerLabel(**cache).compute(**ids, label_names=list("abcdef"))["b"]["support"] == np.sum(
        references == 1
    )
    # The tables pass through Arrow as float64: nothing is lost, and nothing is cast to 0 or 1.
    assert evaluate_metrics.ECE(**cache).compute(**table) == {
        "ece": confidence.expected_calibration_error(probabilities, references)
    }
    assert evaluate_metrics.LogLoss(**cache).compute(**table) == {
        "log_loss": confidence.log_loss(probabilities, references)
    }
    scores = {"predictions": [0.9, 0.4, 0.6, 0.1], "references": [1, 1, 0, 0]}
    found = evaluate_metrics.Rejection(**cache).compute(**scores, threshold=0.5)
    assert found == {"auroc": 0.75, "accepted": 0.5, "false_accepts": 0.5}


def test_a_metric_class_refuses_probabilities_in_place_of_class_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole class ids"):
        evaluate_metrics.Accuracy(cache_dir=str(tmp_path)).compute(predictions=[0.2, 0.9], references=[0, 0])


def _compute_on_rank(rank: int, cache: str, answers: Any) -> None:
    metric = evaluate_metrics.Accuracy(num_process=2, process_id=rank, experiment_id="two", cache_dir=cache)
    metric.add_batch(predictions=[rank, 1], references=[0, 1])
    answers.put((rank, metric.compute()))


def test_two_processes_share_one_metric_and_rank_1_gets_none(tmp_path: Path) -> None:
    import evaluate  # noqa: F401  (once here, so that the forked ranks need not import it again)

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    ranks = [context.Process(target=_compute_on_rank, args=(rank, str(tmp_path), answers)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    found = dict(answers.get(timeout=60) for _ in ranks)
    for rank in ranks:
        rank.join(timeout=60)
    assert found == {0: {"accuracy": 0.75}, 1: None}


def test_importing_the_metrics_imports_nothing_heavy() -> None:
    code = "import sys, voicecommand.evaluation.classification; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "evaluate",
        "datasets",
        "sklearn",
        "pandas",
        "pyarrow",
        "torch",
        "transformers",
        "scipy",
        "matplotlib",
    }
    assert not heavy & set(process.stdout.split())
