"""Two real ranks on CPU train as one process does, into one run directory."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from support import LAUNCH, ROOT, find_run, open_training, read_json, start_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def overrides(checkpoints: dict[str, Path], commands_csv: Path) -> list[str]:
    """The last batch of an epoch is smaller, and the split to evaluate does not divide by 2 ranks x 8."""
    return [
        "model=bert", f"model.checkpoint={checkpoints['bert_uncased']}", "model.class_weights=auto", "precision=fp32",
        "data=file", f"data.path={commands_csv}", "threads=1", "training.label_smoothing_factor=0.1",
        "training.max_steps=10", "training.logging_steps=1", "training.eval_strategy=steps", "training.eval_steps=5",
        "training.save_strategy=steps", "training.save_steps=5", "training.learning_rate=2e-3",
        "training.per_device_eval_batch_size=8",
    ]  # fmt: skip


def launch_with(file: str) -> list[str]:
    """accelerate launch with a file of recipes/accelerate."""
    folder = ROOT / "recipes/accelerate"
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / file)]


def test_two_ranks_train_as_one_process_into_one_run_directory(overrides: list[str], tmp_path: Path) -> None:
    one = start_training(
        [sys.executable], [*overrides, f"runs={tmp_path / 'one'}", "training.per_device_train_batch_size=16"]
    )
    assert one.returncode == 0, one.stderr
    two = start_training(
        launch_with("cpu.yaml"),
        [*overrides, f"runs={tmp_path / 'two'}", "training.per_device_train_batch_size=4",
         "training.gradient_accumulation_steps=2"],
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    single, double = find_run(tmp_path / "one"), find_run(tmp_path / "two")
    assert (read_json(single, "run.json")["world_size"], read_json(double, "run.json")["world_size"]) == (1, 2)
    assert read_json(double, "status.json")["state"] == "finished"

    for name in ("loss", "eval_loss", "eval_accuracy", "eval_macro_f1"):
        a, b = ([e[name] for e in read_json(run, "history.json") if name in e] for run in (single, double))
        assert len(a) == (10 if name == "loss" else 2)
        assert b == pytest.approx(a, abs=1e-4), name

    a, b = read_json(single, "metrics.json"), read_json(double, "metrics.json")
    for split in ("validation", "test"):
        assert b["splits"][split]["accuracy"] == a["splits"][split]["accuracy"]
        assert b["splits"][split]["macro_f1"] == a["splits"][split]["macro_f1"]
    rows = [pq.read_table(run / "predictions.parquet").to_pylist() for run in (single, double)]
    assert [r["id"] for r in rows[0]] == [r["id"] for r in rows[1]], "the order of the split"
    for first, second in zip(*rows, strict=True):
        assert second["probability"] == pytest.approx(first["probability"], abs=1e-3)
    assert two.stdout.count("report: ") == 1, "the result is printed once"
    assert one.stderr.startswith("one process on cpu, fp32: asked for\n")
    assert "\nDDP, 2 ranks on cpu, fp32: asked for\n" in f"\n{two.stderr}"


def test_a_loss_that_is_not_finite_on_two_ranks_stops_both(overrides: list[str], tmp_path: Path) -> None:
    run = start_training(
        LAUNCH, [*overrides, f"runs={tmp_path}", "training.learning_rate=1e30", "training.max_grad_norm=0"],
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    assert run.returncode != 0
    assert "the loss is nan" in run.stderr
    assert run.stderr.count("the loss is nan") == 1, "all ranks have the same error"
    assert read_json(find_run(tmp_path), "status.json")["exit_code"] == 3


def test_ranks_that_do_not_train_together_stop_the_run(overrides: list[str], tmp_path: Path) -> None:
    run = start_training(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no"],
        [*overrides, f"runs={tmp_path}"],
    )  # fmt: skip
    assert run.returncode != 0, run.stdout
    assert "ACCELERATE_USE_CPU=true" in run.stderr
    assert not list(tmp_path.iterdir())


def test_ranks_of_torchrun_train_together(overrides: list[str], tmp_path: Path) -> None:
    run = start_training(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        [*(o for o in overrides if "max_steps" not in o), f"runs={tmp_path}", "training.max_steps=5"],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert read_json(find_run(tmp_path), "run.json")["world_size"] == 2


LONG = ("training.max_steps=100000", "training.eval_strategy=no", "training.load_best_model_at_end=false",
        "early_stopping=null")  # fmt: skip


def wait_for_checkpoint(runs: Path) -> None:
    """Until a checkpoint is there."""
    until = time.monotonic() + 100
    while not list(runs.glob("*/*/checkpoints/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < until, "no checkpoint"
        time.sleep(0.1)


def processes_of(runs: Path) -> list[int]:
    """The processes that train into `runs`, their launcher first."""
    found = [p.pid for p in psutil.process_iter() if p.is_running() and f"runs={runs}" in _arguments(p)]
    return sorted(found)


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for_end(runs: Path, seconds: float) -> None:
    """Until no process of the run is left."""
    until = time.monotonic() + seconds
    while processes_of(runs):
        assert time.monotonic() < until, "something is left running"
        time.sleep(0.1)


def test_a_frozen_rank_ends_the_run_and_it_can_be_resumed(overrides: list[str], tmp_path: Path) -> None:
    short = [o for o in overrides if not o.startswith(("training.max_steps", "training.eval", "training.save_steps"))]
    settings = [*short, *LONG[1:], "training.max_steps=200", "training.save_steps=20", f"runs={tmp_path}"]
    settings += ["rank_timeout=5"]
    with open_training(LAUNCH, settings, ACCELERATE_USE_CPU="true") as launcher:
        wait_for_checkpoint(tmp_path)
        rank = next(
            pid for pid in processes_of(tmp_path)
            if pid != launcher.pid and psutil.Process(pid).environ().get("RANK") == "1"
        )  # fmt: skip
        os.kill(rank, signal.SIGSTOP)
        _, error = launcher.communicate(timeout=60)
        wait_for_end(tmp_path, 10)
    assert "rank 1 has not answered for 5 s (rank_timeout); resume=true continues it" in error
    status = read_json(find_run(tmp_path), "status.json")
    assert (status["state"], status["exit_code"]) == ("failed", 5)
    resumed = start_training(LAUNCH, [*settings, "resume=true"], ACCELERATE_USE_CPU="true")
    assert resumed.returncode == 0, resumed.stderr
    assert read_json(find_run(tmp_path), "status.json")["state"] == "finished"


def test_a_run_saves_and_ends_when_its_launcher_is_stopped(overrides: list[str], tmp_path: Path) -> None:
    """A launcher of one process is ended by the signal itself, and passes nothing on."""
    short = [o for o in overrides if not o.startswith(("training.max_steps", "training.eval"))]
    with open_training(launch_with("gpu.yaml"), [*short, *LONG, f"runs={tmp_path}"]) as launcher:
        wait_for_checkpoint(tmp_path)
        launcher.terminate()
        launcher.communicate(timeout=60)
        wait_for_end(tmp_path, 20)
    assert read_json(find_run(tmp_path), "status.json")["exit_code"] == 143


def test_a_run_under_nohup_goes_on_when_its_terminal_is_closed(overrides: list[str], tmp_path: Path) -> None:
    short = [o for o in overrides if not o.startswith(("training.max_steps", "training.eval"))]
    with open_training(["nohup", sys.executable], [*short, *LONG, f"runs={tmp_path}"]) as run:
        wait_for_checkpoint(tmp_path)
        run.send_signal(signal.SIGHUP)
        time.sleep(2)
        assert run.poll() is None
        run.terminate()
        run.communicate(timeout=60)
    assert read_json(find_run(tmp_path), "status.json")["exit_code"] == 143
