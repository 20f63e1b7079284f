"""A whole training: stopped by a signal, in two stages, and what the log says of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from voicecommand.models.tuning import Full
from voicecommand.run.directory import Run
from voicecommand.tasks.base import Encoded, Stage
from voicecommand.tasks.text_classification import TextClassification
from voicecommand.training import checkpoints, fit

LABELS = ("off", "on", "play")


class HeadFirst(TextClassification):
    """A made-up task of two stages: the head, then the whole network."""

    def stages(self, train: Encoded) -> tuple[Stage, ...]:
        def head_only(model: Any) -> Any:
            for name, parameter in model.named_parameters():
                parameter.requires_grad = name.startswith("classifier")
            return model

        def whole(model: Any) -> Any:
            for parameter in model.parameters():
                parameter.requires_grad = True
            return model

        return Stage("head", head_only, train), Stage("whole", whole, train)


def dataset() -> Any:
    from datasets import Dataset, DatasetDict

    draws = np.random.default_rng(1)
    words = ["turn", "the", "kitchen", "lights", "music", "please", "anna", "timer"]

    def rows(count: int) -> Any:
        labels = draws.integers(0, 3, size=count)
        first = ["please stop the", "turn on", "play"]
        texts = [f"{first[y]} {' '.join(draws.choice(words, 4))}" for y in labels]
        names = [f"{i}" for i in range(count)]
        return Dataset.from_dict({"id": names, "origin": names, "text": texts, "label": [LABELS[y] for y in labels]})

    return DatasetDict(train=rows(48), validation=rows(12))


def train(
    task: TextClassification,
    directory: Path,
    resume: bool = False,
    change: Callable[[Any], None] | None = None,
    **more: Any,
) -> fit.Trained:
    """`fit.fit` on 48 examples; `change` is called with the run before the fourth step."""
    torch.manual_seed(0)
    data = dataset()
    vocabulary = task.learn(data["train"])
    processor = task.load_processor(vocabulary)
    encoded = fit.encode(data, task, processor, vocabulary)
    run = Run(directory, resume=resume, keep_checkpoints=True)
    settings: dict[str, Any] = {
        "max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
        "save_total_limit": 1, "load_best_model_at_end": True, "metric_for_best_model": "macro_f1",
        "greater_is_better": True,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(directory / "checkpoints"), **(settings | more))

    class Change(checkpoints.StopOnSignal):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if change is not None and state.global_step == 3:
                change(run)

    with run.open(""), pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "StopOnSignal", Change)
        return fit.fit(
            task, task.load_model(vocabulary, processor), processor, vocabulary, data, encoded, run=run, args=args,
            tuning=Full(), seed=1,
        )  # fmt: skip


def test_a_stop_keeps_the_checkpoint_that_it_saves_beside_the_best(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from voicecommand.errors import Stopped

    task = TextClassification(checkpoint=str(checkpoints["bert_uncased"]))
    with pytest.raises(Stopped):
        train(task, tmp_path / "run", change=lambda run: setattr(run, "stop_requested", True), learning_rate=1e-9)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-4"], "the best, and the one that the signal asked for"
    assert train(task, tmp_path / "run", resume=True, learning_rate=1e-9).figures["steps"] == 6


def test_two_stages_train_one_after_the_other_and_a_finished_one_is_not_trained_again(
    checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = HeadFirst(checkpoint=str(checkpoints["bert_uncased"]))
    whole = train(task, tmp_path / "whole")
    assert whole.figures["steps"] == 12 and isinstance(whole.model, torch.nn.Module)
    folders = {path.name for path in (tmp_path / "whole/checkpoints").iterdir()}
    assert folders == {"head", "whole"}
    first, both = (
        next(iter(torch.load(path / "optimizer.pt", weights_only=True)["param_groups"]))["params"]
        for path in (next((tmp_path / "whole/checkpoints" / name).glob("checkpoint-*")) for name in ("head", "whole"))
    )
    assert len(first) < len(both), "the head first, then all"

    def fail(run: Any) -> None:
        if (tmp_path / "resumed/checkpoints/head/finished").is_dir():
            run.stop_requested = True

    from voicecommand.errors import Stopped

    with pytest.raises(Stopped):
        train(task, tmp_path / "resumed", change=fail)
    with caplog.at_level(logging.INFO):
        resumed = train(task, tmp_path / "resumed", resume=True)
    assert "stage head is finished already" in caplog.text
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_the_log_says_which_parameters_of_a_full_tuning_do_not_move(
    checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(TextClassification(checkpoint=str(checkpoints["bert_uncased"])), tmp_path / "run", max_steps=2)
    line = next(record.getMessage() for record in caplog.records if record.getMessage().startswith("parameters "))
    assert "are of tokens that do not occur in train, and stay unchanged" in line


def test_a_gradient_that_is_not_finite_names_the_rows_and_the_last_checkpoint(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicecommand.errors import NonFiniteLoss
    from voicecommand.training.trainer import CommandTrainer

    def spoil(self: Any, model: Any, grad_norm: Any = None) -> Any:
        return float("nan") if self.state.global_step == 3 else grad_norm

    monkeypatch.setattr("transformers.Trainer._get_grad_norm", spoil)
    assert CommandTrainer._get_grad_norm is not spoil
    with pytest.raises(NonFiniteLoss, match="step 4: the gradient is nan") as caught:
        train(TextClassification(checkpoint=str(checkpoints["bert_uncased"])), tmp_path / "run")
    assert re.search(
        r"; the rows of the batch: \d+, \d+, \d+ and 5 more; checkpoint-2 is the last one", str(caught.value)
    )
