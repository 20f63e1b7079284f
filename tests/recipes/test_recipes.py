"""The recipes as a user runs them: real processes with a tiny checkpoint, without mocks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = ("--quiet", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")


class Workplace:
    """A directory with one's own data, and the overrides for a network of two layers."""

    def __init__(self, path: Path, checkpoint: Path, data: Path) -> None:
        self.path = path
        shutil.copy(data, path / "a.csv")
        self.tiny = [
            f"model.checkpoint={checkpoint}", "data=file", "data.path=a.csv", "precision=fp32", "threads=1",
            "training=smoke", "training.report_to=none",
        ]  # fmt: skip

    def command(self, *overrides: str, launch: bool = False) -> list[str]:
        recipe = [str(ROOT / "recipes" / "train.py"), *overrides]
        launcher = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH]
        return [*launcher, *recipe] if launch else [sys.executable, *recipe]

    def train(self, *overrides: str, launch: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*overrides, launch=launch),
            cwd=self.path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def runs(self, root: str = "runs") -> list[Path]:
        return sorted(self.path.glob(f"{root}/file-a/*"))


@pytest.fixture
def workplace(tmp_path: Path, checkpoints: dict[str, Path], commands_csv: Path) -> Workplace:
    return Workplace(tmp_path, checkpoints["bert_uncased"], commands_csv)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def measured(directory: Path) -> dict[str, Any]:
    """What metrics.json says of the model, without times and memory."""
    return {key: value for key, value in read(directory / "metrics.json").items() if key in ("splits", "rejection")}


def test_the_same_command_again_shows_the_result_and_trains_nothing(workplace: Workplace) -> None:
    first = workplace.train(*workplace.tiny)
    assert first.returncode == 0, first.stderr
    assert "2/2" in first.stderr, "no progress bar"
    assert "{'" not in first.stderr + first.stdout, "a printed dictionary is noise"
    assert "Warning" not in first.stderr
    (directory,) = workplace.runs()
    last = first.stdout.strip().splitlines()
    assert last[-2] == f"report: {directory.relative_to(workplace.path)}/report.html"
    assert last[-1].startswith("try it: ")
    assert not (directory / "checkpoints").exists() and (directory / "model" / "model.safetensors").is_file()
    assert re.search(r"^validation +accuracy \d", first.stdout, re.MULTILINE)
    assert re.search(r"^test +accuracy \d", first.stdout, re.MULTILINE)
    made = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    again = workplace.train(*reversed(workplace.tiny), "training.logging_steps=2", "resume=true")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == made
    status = read(directory / "status.json")
    assert (status["state"], status["exit_code"], status["world_size"]) == ("finished", 0, 1)


def test_a_terminated_training_saves_and_goes_on_to_the_same_end(workplace: Workplace) -> None:
    long = [*workplace.tiny, "training.max_steps=300", "training.eval_steps=300", "training.save_steps=300"]
    process = subprocess.Popen(
        workplace.command(*long),
        cwd=workplace.path, env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TQDM_MININTERVAL": "0"},
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    seen, deadline = b"", time.monotonic() + 120
    while not re.search(rb" [1-9]\d*/300 ", seen) and time.monotonic() < deadline:
        seen += os.read(process.stderr.fileno(), 4096)
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 143, (seen + rest).decode()
    assert re.search(
        rb"(^|\n)error: runs/file-a/bert-full\S+: stopped by a signal, checkpoint saved; resume=true continues",
        seen + rest,
    )
    (directory,) = workplace.runs()
    assert read(directory / "status.json")["state"] == "interrupted"
    (checkpoint,) = (directory / "checkpoints").glob("checkpoint-*")
    assert 1 <= int(checkpoint.name.removeprefix("checkpoint-")) < 300

    refused = workplace.train(*long)
    assert refused.returncode == 2
    assert "resume=true continues it, overwrite=true starts again" in refused.stderr
    resumed = workplace.train(*long, "resume=true")
    assert resumed.returncode == 0, resumed.stderr
    whole = workplace.train(*long, "runs=whole")
    assert whole.returncode == 0, whole.stderr
    (uninterrupted,) = workplace.runs("whole")
    assert directory.name == uninterrupted.name
    assert (directory / "model" / "model.safetensors").read_bytes() == (
        uninterrupted / "model" / "model.safetensors"
    ).read_bytes()
    assert measured(directory) == measured(uninterrupted)


@pytest.mark.parametrize("launch", [False, True], ids=["python", "accelerate launch"])
def test_a_job_of_a_multirun_gives_what_it_gives_alone(workplace: Workplace, launch: bool) -> None:
    swept = workplace.train("-m", *workplace.tiny, "seed=1,2", launch=launch)
    assert swept.returncode == 0, swept.stderr
    jobs = re.findall(r"job (\d): macro F1 ([\d.]+) on validation \(", swept.stderr)
    assert [number for number, _ in jobs] == ["1", "2"]
    alone = workplace.train(*workplace.tiny, "seed=2", "runs=alone", launch=launch)
    assert alone.returncode == 0, alone.stderr
    (single,) = workplace.runs("alone")
    first, second = workplace.runs()
    assert second.name == single.name and "-s1-" in first.name
    with_test, without = read(single / "metrics.json")["splits"], read(second / "metrics.json")["splits"]
    assert set(with_test) == {"validation", "test"} and set(without) == {"validation"}
    assert without["validation"] == with_test["validation"]
    assert (second / "model" / "model.safetensors").read_bytes() == (
        single / "model" / "model.safetensors"
    ).read_bytes()
    assert float(jobs[1][1]) == round(without["validation"]["macro_f1"]["value"], 4)
    for directory in (first, second):
        assert "test" not in set(_splits(directory)), "a multirun must not read test"
    assert not (workplace.path / "multirun").exists() and {p.name for p in workplace.path.glob("runs/*")} == {"file-a"}


def _splits(directory: Path) -> list[str]:
    import pandas

    return pandas.read_parquet(directory / "predictions.parquet")["split"].tolist()


def test_a_failing_job_ends_the_multirun_with_its_line_and_code(workplace: Workplace) -> None:
    data = ["model=tfidf_svm", "data=file", "data.path=a.csv"]
    done = workplace.train("-m", *data, "model.class_weights=auto,heavy,none")
    assert done.returncode == 2
    assert "job 1: macro F1 " in done.stderr
    assert "job 2 stops the multirun (" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: model.class_weights=heavy: give auto, none")
    assert len(workplace.runs()) == 1


def test_a_multirun_under_several_ranks_is_refused(workplace: Workplace) -> None:
    done = workplace.train("-m", *workplace.tiny, "seed=1,2", WORLD_SIZE="2", RANK="0", MASTER_ADDR="x")
    assert (done.returncode, done.stderr) == (2, "error: -m under 2 processes: run a sweep in one process\n")
    assert not workplace.runs()


def test_overwrite_begins_anew_beside_the_old_run(workplace: Workplace) -> None:
    data = ["model=tfidf_svm", "data=file", "data.path=a.csv"]
    assert workplace.train(*data).returncode == 0
    again = workplace.train(*data, "overwrite=true")
    assert again.returncode == 0, again.stderr
    old, new = sorted(workplace.runs(), key=lambda path: path.name.endswith(".old-1"), reverse=True)
    assert old.name == f"{new.name}.old-1"
    assert measured(old) == measured(new)
