"""The threshold of rejection: its rules, and what it says of the examples it was set on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import evaluate_labels, label_answers
from voicecommand.errors import InputError
from voicecommand.evaluation import threshold
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.threshold import HeldOut, Rule
from voicecommand.report import terminal


def answers_of(split: str, scores: Any, wrong: int = 0, synthetic: bool = False) -> Answers:
    """Answers to two labels with these confidences, of which the first `wrong` are wrong."""
    scores = np.asarray(scores, dtype=np.float64)
    names = [f"{split}-{i}" for i in range(len(scores))]
    references = np.where(np.arange(len(scores)) < wrong, 1, 0)
    if split.startswith("out_of_scope"):
        references = np.full(len(scores), -1)
    table = np.stack([scores, 1 - scores], axis=1)
    found = label_answers(split, names, names, names, references, table, None, None, ["off", "on"])
    object.__setattr__(found, "is_synthetic", synthetic)
    return found


@pytest.mark.parametrize("count", [2, 12, 50, 200])
def test_a_new_command_is_kept_with_the_chance_asked_for_however_few_the_examples_are(count: int) -> None:
    draws = np.random.default_rng(0)
    kept = [
        (draws.uniform(0.5, 1, 400) >= threshold.keep_share(draws.uniform(0.5, 1, count), 0.95, 0.5)).mean()
        for _ in range(400)
    ]
    assert 0.94 < np.mean(kept) < 0.99
    if count >= 50:
        assert np.mean(kept) < 0.96, "no more than asked"


@pytest.mark.parametrize("count", [5, 50, 200])
def test_a_new_request_that_fits_no_label_is_accepted_with_the_chance_asked_for(count: int) -> None:
    draws = np.random.default_rng(0)
    accepted = [
        (draws.uniform(0.5, 1, 400) >= threshold.accept_share(draws.uniform(0.5, 1, count), 0.1)).mean()
        for _ in range(400)
    ]
    assert 0.08 < np.mean(accepted) < 0.12


def test_equal_scores_are_all_kept_and_none_of_them_is_accepted_wrongly() -> None:
    assert threshold.keep_share(np.full(7, 0.5), 0.95, 0.5) == 0.5
    assert threshold.accept_share(np.full(50, 0.8), 0.03) > 0.8


def test_the_threshold_keeps_at_least_the_asked_share_and_no_more_than_needed() -> None:
    scores = np.linspace(0.505, 0.995, 100)
    for keep in (0.95, 0.9, 0.5):
        assert np.sum(scores >= threshold.keep_share(scores, keep, 0.5)) == 100 * keep


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.9, "false_accepts": 0.03}, "cannot be set by both"),
        ({"keep": 1.0}, "reject.keep=1.0: give a share"),
        ({"false_accepts": 3}, "reject.false_accepts=3: give a share"),
    ],
)
def test_a_rule_is_one_share(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rule(**settings)


def test_false_accepts_name_the_split_that_they_need() -> None:
    with pytest.raises(InputError, match="no split out_of_scope_validation"):
        Rule(false_accepts=0.03).check(("train", "validation", "out_of_scope_test"), "validation")
    Rule(false_accepts=0.03).check(("train", "out_of_scope_test"), "test")
    Rule().check(("train",), "validation")


def test_training_sets_it_by_out_of_scope_validation_where_asked_to() -> None:
    splits = [
        answers_of("validation", np.linspace(0.6, 1, 40)),
        answers_of("out_of_scope_validation", np.linspace(0.5, 0.9, 100)),
    ]
    from voicecommand.evaluation.classification import Classification
    from voicecommand.evaluation.splits import evaluate

    rejection = evaluate([Classification()], splits, rule=Rule(false_accepts=0.05))["rejection"]
    assert rejection["set_on"]["splits"] == ["out_of_scope_validation"]
    assert rejection["splits"]["out_of_scope_validation"]["false_accepts"] == 0.05
    assert evaluate_labels(splits)["rejection"]["threshold"] < rejection["threshold"], "not where keep decides"


def test_rows_of_train_that_were_held_out_count_beside_validation() -> None:
    inside = answers_of("validation", [0.97, 0.98])
    held = HeldOut(np.linspace(0.6, 0.99, 98), np.arange(98) >= 3)
    found = threshold.choose_threshold(Rule(), inside, None, held)
    assert (found["examples"], found["errors"]) == (100, 3)
    assert 0.61 < found["threshold"] < 0.63 and found["share"]["value"] == 0.95
    assert found["splits"][-1] == "validation" and "held out" in found["splits"][0]


def test_synthetic_rows_of_train_set_no_threshold_for_recordings_of_people() -> None:
    people = answers_of("validation", np.linspace(0.4, 0.7, 40))
    made = HeldOut(np.linspace(0.95, 1.0, 480), np.ones(480, bool), is_synthetic=True)
    alone, both = (threshold.choose_threshold(Rule(), people, None, held) for held in (None, made))
    assert both["threshold"] == alone["threshold"] and both["examples"] == 40 and both["splits"] == ["validation"]


def test_too_few_examples_and_too_few_errors_are_said() -> None:
    few = threshold.choose_threshold(Rule(), answers_of("validation", np.linspace(0.6, 1, 12), wrong=1), None)
    assert "12 examples are too few" in few["note"] and "at least 19" in few["note"]
    assert "only 1 of 12 answers is wrong" in few["note"]
    assert 0.5 < few["threshold"] < 0.6, "between chance and the lowest confidence"
    many = threshold.choose_threshold(Rule(), answers_of("validation", np.linspace(0.6, 1, 400), wrong=40), None)
    assert many["note"] is None
    none = threshold.choose_threshold(Rule(), answers_of("validation", np.linspace(0.6, 1, 400)), None)
    assert "none of 400 answers is wrong" in none["note"]


def test_fifty_recordings_move_the_threshold_of_synthetic_speech_and_their_interval_is_said() -> None:
    from voicecommand.evaluation.classification import Classification
    from voicecommand.evaluation.splits import evaluate

    made = threshold.choose_threshold(Rule(), answers_of("validation", np.linspace(0.9, 1, 400), synthetic=True), None)
    (warning,) = [text for text in threshold.threshold_warnings(made, "runs/a") if "synthetic" in text]
    assert "not for real people yet" in warning and "evaluate.py run=runs/a" in warning and "save=true" in warning

    people = answers_of("test", np.linspace(0.6, 1, 50))
    then = evaluate([Classification()], [people], made["threshold"], made)
    assert "not for real people yet" in terminal.format_summary(then, "runs/a")
    given = (made["threshold"], made, Rule(keep=0.95))
    found = evaluate([Classification()], [people], *given, move_on="test")
    rejection = found["rejection"]
    assert rejection["before"]["threshold"] == made["threshold"] and rejection["before"]["kept"]["value"] < 0.3
    share = rejection["set_on"]["share"]
    assert (share["value"], share["method"]) == (0.96, "Wilson") and share["low"] < 0.87 < 0.98 < share["high"]
    said = terminal.format_summary(found, "runs/a")
    assert "reject.keep=0.95 of 50 examples of test: keeps 96.0 % (86.5 to 98.9, Wilson)" in said
    assert "threshold before: 0.904" in said and "not saved" in said and "real people" not in said


def test_a_threshold_that_is_printed_is_never_rounded_to_one() -> None:
    assert threshold.format_threshold(0.61249) == "0.612"
    assert threshold.format_threshold(0.9996) == "0.9996"
    assert threshold.format_threshold(0.99997) == "0.99997"
    assert float(threshold.format_threshold(1 - 1e-12)) < 1
    assert threshold.format_threshold(1.0) == "1.000", "that of older runs"
