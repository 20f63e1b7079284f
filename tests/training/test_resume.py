"""A training that was stopped or killed goes on bit for bit: the weights, the log, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerCallback

from support import build_trainer
from voicecommand.errors import NonFiniteLoss, StorageError
from voicecommand.models.tuning import Lora
from voicecommand.run import checkpoints as run_checkpoints
from voicecommand.tasks.base import Encoded
from voicecommand.tasks.text_classification import TextClassification
from voicecommand.training.checkpoints import StopOnSignal
from voicecommand.training.finite import FiniteWatch, advise_on_chance

TIMES = ("runtime", "per_second", "total_flos")
# 53 rows in batches of 16: epochs of 4 steps
EPOCHS = {"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 3, "logging_steps": 3}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "macro_f1", "greater_is_better": True}
STEPS = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2}


class Signal(TrainerCallback):
    """What a signal during the given step does, which counts from 1."""

    def __init__(self, run: Any, step: int) -> None:
        self.run, self.step = run, step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step - 1:
            self.run.stop_requested = True


def trainer_of(
    checkpoint: Path, output: Path, stop_in: int = 0, patience: int | None = None, tuning: Any = None, **settings: Any
) -> Any:
    """With dropout, so that the state of the random generator counts."""
    torch.manual_seed(3)
    run = SimpleNamespace(stop_requested=False, can_save=False)
    trainer = build_trainer(checkpoint, output, tuning=tuning, **settings)
    trainer.add_callback(StopOnSignal(run))
    trainer.add_callback(Signal(run, stop_in))
    if patience is not None:
        trainer.add_callback(EarlyStoppingCallback(patience))
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    return trainer


def result_of(trainer: Any) -> dict[str, Any]:
    history = [{k: v for k, v in row.items() if not any(t in k for t in TIMES)} for row in trainer.state.log_history]
    state = trainer.state
    return {"history": history, "step": state.global_step, "best": (state.best_global_step, state.best_metric)}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(EPOCHS | BEST, id="epochs, the best is kept"),
        pytest.param(EPOCHS | BEST | {"patience": 1, "learning_rate": 1e-9}, id="out of patience"),
        pytest.param(EPOCHS | {"max_steps": 6}, id="the last step is inside an epoch"),
        pytest.param(
            STEPS | BEST | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "logging_steps": 5},
            id="steps, accumulation",
        ),
        pytest.param(STEPS | {"tuning": Lora(r=2)}, id="LoRA"),
        pytest.param(EPOCHS | {"save_strategy": "steps", "save_steps": 4}, id="saved by steps, evaluated by epochs"),
        pytest.param(STEPS | BEST | {"save_strategy": "best"}, id="the best only"),
    ],
)
def test_a_training_that_a_signal_stopped_goes_on_as_if_nothing_had_happened(
    settings: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = checkpoints["bert_uncased"]
    whole = trainer_of(checkpoint, tmp_path / "whole", **settings)
    whole.train()
    expected, last = result_of(whole), whole.state.global_step
    assert last >= 6
    for step in (2, 4, 6, last):  # `make chaos` tries every step
        place = tmp_path / f"stopped-{step}"
        trainer_of(checkpoint, place, stop_in=step, **settings).train()
        found = run_checkpoints.find_newest(place)
        assert found.path == place / f"checkpoint-{step}" and not found.skipped
        resumed = trainer_of(checkpoint, place, **settings)
        resumed.train(resume_from_checkpoint=str(found.path))
        assert result_of(resumed) == expected, f"stopped in step {step}"
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], tensor), f"{name}, stopped in step {step}"


def test_nothing_half_written_or_old_is_left(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    settings = EPOCHS | {"save_total_limit": 2}
    trainer_of(checkpoints["bert_uncased"], tmp_path, **settings).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-8"]
    facts = run_checkpoints.verify(tmp_path / "checkpoint-12")
    assert facts["step"] == 12 and facts["resumable"]


def test_weights_that_are_not_finite_are_never_saved(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    class Spoil(TrainerCallback):
        """A NaN in one gradient of step 6, while the loss stays finite."""

        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 5:
                weight = model.classifier.weight
                handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * float("nan"))[1])

    trainer = trainer_of(checkpoints["bert_uncased"], tmp_path, **EPOCHS)
    trainer.add_callback(Spoil())
    with pytest.raises(NonFiniteLoss, match=r"step 6: the gradient is nan; lower training\.learning_rate") as caught:
        trainer.train()
    assert caught.value.examples is not None and len(caught.value.examples) == 16
    (path,) = tmp_path.iterdir()
    assert path.name == "checkpoint-4"
    assert all(tensor.isfinite().all() for tensor in load_file(path / "model.safetensors").values())
    with torch.no_grad():
        trainer.model.classifier.weight[0, 0] = float("inf")
    with pytest.raises(NonFiniteLoss, match=r"NaN or infinity in classifier\.weight"):
        trainer._save_checkpoint(trainer.model, None)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_a_gpu_is_not_waited_for_and_the_figure_is_checked_a_step_later() -> None:
    watch = FiniteWatch(1e-3, torch.device("cpu"), late=True)
    watch.begin(1, [4, 7])
    watch.begin(1, [5])
    watch.check("loss", torch.tensor(float("inf")))
    watch.check("gradient", torch.tensor(1.0))
    watch.begin(2, [1])
    with pytest.raises(NonFiniteLoss, match="step 1: the loss is inf") as caught:
        watch.check("loss", torch.tensor(1.0))
    assert caught.value.examples == (4, 7, 5)
    watch.check("loss", torch.tensor(float("nan")))
    with pytest.raises(NonFiniteLoss, match="step 2: the loss is nan"):
        watch.flush()


def test_a_training_that_ended_at_chance_is_named() -> None:
    task: Any = TextClassification(checkpoint="x")

    def advise(*losses: float, labels: Sequence[str] = ("on", "off") * 20, smoothing: float = 0.0) -> str:
        rows = [{"step": 10 * i, "loss": loss, "grad_norm": 1.0} for i, loss in enumerate(losses, 1)]
        train = Encoded({}, {"label": list(labels)})
        args: Any = SimpleNamespace(label_smoothing_factor=smoothing)
        return " ".join(advise_on_chance([*rows, {"step": 99, "train_loss": 1.0}], task, train, args))

    assert advise(0.6, 0.2, 0.1) == ""
    assert "diverged: its loss was 0.200 at step 20 and ended at 0.700, no better than guessing (0.693)" in advise(
        0.6, 0.2, 3e4, 0.7
    )
    assert "ended at 0.690, no better than guessing (0.693): the network learnt nothing" in advise(0.7, 0.69)
    assert advise(0.7, 0.69, labels=["on"] * 9) == advise() == advise(5.0, labels=[]) == ""
    rare = ["on"] * 97 + ["off"] * 3
    assert "(0.135)" in advise(0.7, 0.2, labels=rare)
    assert advise(0.7, 0.2, labels=rare, smoothing=0.1) == "", "the least smoothed loss is 0.199"
    assert "(0.271)" in advise(0.7, 0.27, labels=rare, smoothing=0.1)
    task = TextClassification(checkpoint="x", class_weights="auto")
    assert advise(0.7, 0.69) == "", "the loss is another"


def test_a_best_checkpoint_that_was_damaged_is_not_the_result(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    class Damage(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:
                (tmp_path / "checkpoint-4" / "model.safetensors").write_bytes(b"")

    settings = EPOCHS | BEST | {"learning_rate": 1e-9}  # the first is the best
    trainer = trainer_of(checkpoints["bert_uncased"], tmp_path, **settings)
    trainer.add_callback(Damage())
    with pytest.raises(StorageError, match=r"checkpoint-4: model\.safetensors has 0 bytes, not \d+; resume=true"):
        trainer.train()
    assert run_checkpoints.find_newest(tmp_path).path is None, "the others refer to it"


def test_the_rows_of_another_rank_are_not_blamed() -> None:
    nan, fine = torch.tensor(float("nan")), torch.tensor(1.0)
    for late in (False, True):
        watch = FiniteWatch(1e-3, torch.device("cpu"), late=late)
        for own, expected in ((fine, ()), (nan, (3,))):
            watch.begin(1, [3])
            with pytest.raises(NonFiniteLoss, match="the loss is nan") as caught:
                watch.check("loss", nan, own=own)
                watch.flush()
            assert caught.value.examples == expected
            watch.begin(0, [])


def test_a_hidden_file_in_the_best_checkpoint_is_no_damage(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    class Hide(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:
                (tmp_path / "checkpoint-4" / ".nfs0001").touch()

    trainer = trainer_of(checkpoints["bert_uncased"], tmp_path, **EPOCHS, **BEST, learning_rate=1e-9)
    trainer.add_callback(Hide())
    assert trainer.train().global_step == 12 and trainer.state.best_global_step == 4
