"""The length of a training follows the data, and so does the choice of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainingArguments

from voicecommand.errors import InputError
from voicecommand.training import length


def arguments(tmp_path: Path, min_steps: int = 40, max_epochs: float | None = None, **more: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "num_train_epochs": 2, "per_device_train_batch_size": 10, "eval_strategy": "epoch", "save_strategy": "epoch",
        "load_best_model_at_end": True, "metric_for_best_model": "macro_f1", "greater_is_better": True,
        "report_to": "none", "use_cpu": True,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(tmp_path), **(settings | more))
    args.min_steps, args.max_epochs = min_steps, max_epochs  # type: ignore[attr-defined]
    return args


def test_few_rows_get_more_epochs_until_there_are_the_least_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        args, stopping = length.follow_data(arguments(tmp_path), 5, train=25, validation=100)
    assert args is not None and stopping == 5 and args.load_best_model_at_end
    steps = args.num_train_epochs * 3
    assert 40 <= steps <= 40 + 6, "three steps an epoch, whole epochs between ten evaluations"
    assert args.eval_strategy == args.save_strategy == "steps"
    assert args.eval_steps == args.save_steps == 6 and steps % args.eval_steps == 0, "the last step is evaluated"
    assert (
        f"length: {args.num_train_epochs:g} epochs of 25 rows, {steps:.0f} steps: 2 epochs would be 6 steps, and"
        in (caplog.text)
    )


def test_many_rows_keep_the_epochs_that_were_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        args, _ = length.follow_data(arguments(tmp_path), 5, train=1000, validation=100)
    assert args is not None and args.num_train_epochs == 2 and args.eval_strategy == "epoch"
    assert "length: 2 epochs of 1000 rows, 200 steps" in caplog.text


def test_very_few_rows_are_not_seen_more_often_than_the_limit(tmp_path: Path) -> None:
    args, _ = length.follow_data(arguments(tmp_path, max_epochs=5), 5, train=25, validation=100)
    assert args is not None and args.num_train_epochs == 5 and args.eval_steps == 3
    args, _ = length.follow_data(arguments(tmp_path, 300, max_epochs=25), 5, train=25, validation=100)
    assert args is not None and args.num_train_epochs == 24, "a whole number of evaluations"
    args, _ = length.follow_data(arguments(tmp_path, max_epochs=1), 5, train=25, validation=100)
    assert args is not None and args.num_train_epochs == 2, "epochs that were asked for are never lowered"


def test_max_steps_is_never_increased(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        args, _ = length.follow_data(arguments(tmp_path, max_steps=6), 5, train=30, validation=100)
    assert args is not None and args.max_steps == 6 and args.num_train_epochs == 2
    assert "length: 2 epochs of 30 rows, 6 steps (training.max_steps)" in caplog.text


def test_a_small_validation_split_chooses_no_checkpoint_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = arguments(tmp_path)
    with caplog.at_level(logging.INFO):
        args, stopping = length.follow_data(given, 5, train=1000, validation=99)
    assert args is not None and not args.load_best_model_at_end and stopping is None
    assert given.load_best_model_at_end, "the arguments that were given stay"
    assert "checkpoint: the last one, without early stopping: validation has 99 rows" in caplog.text


def test_a_length_on_the_command_line_is_kept() -> None:
    from voicecommand.config import program

    plain = ["model=bert", "data=commands"]
    assert program.compose("train", plain).training.min_steps > 0
    assert program.compose("train", [*plain, "training.num_train_epochs=3"]).training.min_steps == 0
    both = [*plain, "training.num_train_epochs=3", "training.min_steps=50"]
    assert program.compose("train", both).training.min_steps == 50


@pytest.mark.parametrize(
    ("name", "greater", "values", "advised"),
    [
        ("macro_f1", True, [0.5, 0.8, 0.85, 0.90], True),
        ("macro_f1", True, [0.5, 0.8, 0.90, 0.90], False),
        ("macro_f1", True, [0.5, 0.9, 0.85, 0.86], False),
        ("loss", False, [1.0, 0.5, 0.40, 0.30], True),
        ("loss", False, [1.0, 0.5, 0.40, 0.40], False),
    ],
)
def test_a_run_that_still_improves_at_its_end_says_what_to_set(
    tmp_path: Path, name: str, greater: bool, values: list[float], advised: bool
) -> None:
    args = arguments(tmp_path, metric_for_best_model=name, greater_is_better=greater)
    history = [{"step": 10 * (i + 1), f"eval_{name}": value} for i, value in enumerate(values)]
    assert length.advise_on_length(history, args, 99) == [], "too few rows to tell"
    found = length.advise_on_length(history, args, 100)
    assert bool(found) == advised
    if advised:
        assert found[0].endswith("training.num_train_epochs=4") and f"{values[-1]:.3f}" in found[0]


@pytest.mark.parametrize(
    ("size", "steps", "began_on", "now", "expected"),
    [(32, 1, 2, 1, (32, 2)), (32, 1, 1, 2, (16, 1)), (8, 3, 2, 4, (6, 2)), (6, 1, 3, 2, (3, 3)), (5, 1, 1, 1, (5, 1))],
)
def test_a_run_on_another_number_of_processes_keeps_its_global_batch(
    size: int, steps: int, began_on: int, now: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=steps)
    given = SimpleNamespace(**vars(args), world_size=now)
    kept = length.keep_batch(given, began_on)  # type: ignore[arg-type]
    assert kept is not None and (kept.per_device_train_batch_size, kept.gradient_accumulation_steps) == expected
    assert expected[0] * expected[1] * now == size * steps * began_on


def test_a_global_batch_that_the_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    given = SimpleNamespace(**vars(arguments(tmp_path, per_device_train_batch_size=5)), world_size=2)
    with pytest.raises(InputError, match="a global batch of 5, which 2 can't share; give a number of processes that"):
        length.keep_batch(given, 1)  # type: ignore[arg-type]
