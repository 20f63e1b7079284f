"""Which label the end of a run advises to bring more examples of."""

from __future__ import annotations

from typing import Any

from voicecommand.evaluation.advice import advise_on_labels

TRAIN = ["lights"] * 30 + ["music"] * 30 + ["alarm"] * 10 + ["timer"] * 80


def metrics_of(split: str = "validation", **recalls: float) -> dict[str, Any]:
    """The metrics of a split with 20 examples of each label, and all of music right."""
    rows = {"music": 1.0} | recalls
    return {
        "splits": {
            split: {
                "accuracy": {"value": sum(rows.values()) / len(rows)},
                "per_label": {name: {"recall": recall, "support": 20} for name, recall in rows.items()},
            }
        }
    }


def test_the_weakest_label_with_few_examples_is_named_with_its_figures() -> None:
    (said,) = advise_on_labels(metrics_of(lights=0.95, alarm=0.4, timer=1.0), TRAIN)
    assert "more examples of 'alarm' first" in said and "40.0 % (21.9 to 61.3) of its 20 examples" in said
    assert "train has 10 of it (the median of the labels is 30)" in said


def test_a_label_is_not_named_if_its_interval_reaches_the_accuracy_or_train_has_much_of_it() -> None:
    assert not advise_on_labels(metrics_of(lights=0.95, alarm=0.9, timer=1.0), TRAIN), "0.9 is within its interval"
    assert not advise_on_labels(metrics_of(lights=0.95, alarm=1.0, timer=0.4), TRAIN), "timer has the most of all"


def test_test_decides_nothing_and_cross_validation_does() -> None:
    assert not advise_on_labels(metrics_of("test", lights=0.95, alarm=0.4, timer=1.0), TRAIN)
    (said,) = advise_on_labels(metrics_of("cross_validation", lights=0.95, alarm=0.4, timer=1.0), TRAIN)
    assert "'alarm'" in said
