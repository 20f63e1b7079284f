"""The disk: what a training needs is said before, and a full one, or a directory that is gone, ends in one line."""

from __future__ import annotations

import logging
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

import voicecommand
from support import find_run, read_json, run_and_read
from voicecommand import files
from voicecommand.errors import StorageError
from voicecommand.run.exits import is_storage_error
from voicecommand.training import space

TINY = ("model=bert_scratch", "data=file", "data.path=commands.csv", "threads=1", "training.report_to=none")
STEPS = (
    "training.max_steps=6", "training.save_strategy=steps", "training.eval_strategy=steps", "training.save_steps=2",
    "training.eval_steps=2",
)  # fmt: skip
Usage = namedtuple("Usage", "free")


@pytest.fixture
def given(checkpoints: dict[str, Path], commands_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The overrides of a short training; its data is in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(commands_csv, tmp_path)
    return (*TINY, *STEPS, f"model.checkpoint={checkpoints['bert_uncased']}")


def arguments(**settings: Any) -> t.TrainingArguments:
    return t.TrainingArguments(output_dir="x", report_to="none", use_cpu=True, **settings)


def network() -> torch.nn.Module:
    model = torch.nn.Linear(1000, 1000, bias=False)
    model.add_module("frozen", torch.nn.Linear(1000, 1000, bias=False).requires_grad_(False))
    return model


def test_a_checkpoint_has_the_weights_and_two_moments_of_the_trained_ones() -> None:
    assert space.size_of_checkpoint(network(), arguments()) == 16_000_000
    assert space.size_of_checkpoint(network(), arguments(save_only_model=True)) == 8_000_000
    assert space.size_of_checkpoint(network(), arguments(optim="sgd")) == 8_000_000
    assert space.size_of_checkpoint(network(), arguments(optim="adamw_8bit")) == 10_000_000
    assert space.size_of_checkpoint(network(), arguments(optim="adamw_torch_4bit")) == 9_000_000


BEST: dict[str, Any] = {"load_best_model_at_end": True}
STEPWISE: dict[str, Any] = {"save_strategy": "steps", "eval_strategy": "steps", "max_steps": 100}


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # training may stop early, after two evaluations
        ({"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 50} | BEST, 2),
        ({"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 1} | BEST, 1),
        (STEPWISE | BEST | {"save_steps": 10, "eval_steps": 10}, 2),
        (STEPWISE | BEST | {"save_steps": 20, "eval_steps": 10}, 1),
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": "epoch", "num_train_epochs": 5}, 5),
        ({"save_strategy": "epoch", "num_train_epochs": 5, "save_total_limit": 2}, 3),
        ({"save_strategy": "steps", "max_steps": 100, "save_steps": 40}, 2),
        ({"save_strategy": "steps", "max_steps": 100, "save_steps": 10, "save_total_limit": 1}, 2),
    ],
)
def test_checkpoints_are_counted_with_the_one_that_is_being_written(settings: dict[str, Any], count: int) -> None:
    assert space.count_checkpoints(arguments(**settings)) == count


def test_a_training_that_can_not_fit_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    args = arguments(save_strategy="epoch", num_train_epochs=5)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda directory: Usage(90_000_000))
    with caplog.at_level(logging.INFO):
        space.check(tmp_path, network(), args)
    what = "88.0 MB (5 checkpoints of 16.0 MB and the model, 8.0 MB)"
    assert f"disk: training writes at least {what}, 90.0 MB are free" in caplog.text
    monkeypatch.setattr(space.shutil, "disk_usage", lambda directory: Usage(80_000_000))
    with pytest.raises(StorageError, match=r"only 80\.0 MB are free: training\.save_total_limit=1 keeps fewer"):
        space.check(tmp_path, network(), args)
    (tmp_path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-1" / "weights").write_bytes(bytes(8_000_000))
    space.check(tmp_path, network(), args)  # what a resume finds there is replaced
    monkeypatch.setattr(space.shutil, "disk_usage", lambda directory: Usage(7_000_000))
    with pytest.raises(StorageError, match=r"\(the model\), and only 7\.0 MB are free: free the disk, or give runs="):
        shutil.rmtree(tmp_path / "checkpoints")
        space.check(tmp_path, network(), arguments(save_strategy="no"))


@pytest.fixture
def limit_files() -> Any:
    """A function that sets the largest size of a file: the kernel refuses what is beyond, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_errors_of_torch_save_are_told_from_others(tmp_path: Path, limit_files: Callable[[int], None]) -> None:
    limit_files(10_000)
    for size in (100, 5_000, 500_000):
        try:
            torch.save({"a": torch.zeros(size)}, tmp_path / "x.pt")
        except RuntimeError as error:
            assert is_storage_error(error)
        else:
            assert size == 100
    with pytest.raises(RuntimeError) as gone:
        torch.save({}, tmp_path / "gone" / "x.pt")
    assert is_storage_error(gone.value)
    (tmp_path / "y.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(RuntimeError) as damaged:
        torch.load(tmp_path / "y.pt")
    assert not is_storage_error(damaged.value), "reading a damaged file is no matter of the disk's space"


@pytest.mark.parametrize("size", [2_000, 30_000, 150_000, 210_000])
def test_a_full_disk_ends_in_one_line_with_the_status(
    size: int, given: tuple[str, ...], tmp_path: Path, capfd: Any, limit_files: Callable[[int], None]
) -> None:
    limit_files(size)
    code, said = run_and_read(capfd, "train", *given)
    assert code == 4 and "Traceback" not in said and "Logging error" not in said, said
    assert len([line for line in said.splitlines() if "error: " in line]) == 1
    status = read_json(find_run(tmp_path / "runs"), "status.json")
    assert (status["state"], status["exit_code"]) == ("failed", 4)
    assert not list(tmp_path.glob("runs/**/*.part"))


def test_a_disk_without_room_for_the_status_gets_it_in_place_of_the_old_one(
    given: tuple[str, ...], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_json

    def refuse(path: Path, content: Any, indent: int | None = 2) -> None:
        if path.name in ("run.json", "status.json") and content.get("state") not in ("running", "finished"):
            raise StorageError(f"cannot write {path}: No space left on device")
        write(path, content, indent)

    monkeypatch.setattr(files, "write_json", refuse)
    code, said = run_and_read(capfd, "train", *given)
    assert code == 4 and "run.json: No space left on device" in said
    assert read_json(find_run(tmp_path / "runs"), "status.json")["state"] == "failed"


@pytest.mark.parametrize("what", ["removed", "renamed"])
def test_a_run_directory_that_is_gone_ends_in_one_line(
    what: str, given: tuple[str, ...], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicecommand.training.trainer import CommandTrainer

    step = CommandTrainer.training_step

    def take_away(trainer: Any, *args: Any, **named: Any) -> Any:
        if trainer.state.global_step == 3:
            run = find_run(tmp_path / "runs")
            if what == "removed":
                shutil.rmtree(run)
            else:
                run.rename(tmp_path / "elsewhere")
        return step(trainer, *args, **named)

    monkeypatch.setattr(CommandTrainer, "training_step", take_away)
    code, said = run_and_read(capfd, "train", *given)
    assert code == 4 and "was removed or renamed while the run wrote to it" in said and "Traceback" not in said
    assert not list(tmp_path.glob("runs/*/*/*")), "nothing is written to another one"
    if what == "renamed":
        assert (tmp_path / "elsewhere" / "checkpoints" / "checkpoint-2").is_dir()
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        place = next(line for line in said.splitlines() if "error: " in line).split("error: ")[1].split(": was")[0]
        (tmp_path / "elsewhere").rename(tmp_path / place)
        code, said = run_and_read(capfd, "train", *given, "resume=true")
        assert code == 0, said
        voicecommand.load(find_run(tmp_path / "runs"))
