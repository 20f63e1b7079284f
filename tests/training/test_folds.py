"""Cross-validation: every row is measured by a model that was not trained on it, and the saved model knows all rows."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import voicecommand
from support import LAUNCH, find_run, read_json, run_and_read, start_training
from voicecommand.training import fit
from voicecommand.training.trainer import CommandTrainer

SVM = ("model=tfidf_svm", "data=file")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, rows: list[tuple[str, str]]) -> str:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return path


@pytest.fixture
def random_labels() -> str:
    """120 texts of one word each, with labels that no model can guess."""
    labels = ["on", "off", "play"] * 40
    random.Random(0).shuffle(labels)
    return write("random.csv", [(f"{i}q{i}z", label) for i, label in enumerate(labels, 100)])


def test_the_figures_are_of_rows_that_were_held_out_and_the_saved_model_knows_all(
    random_labels: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, output = run_and_read(capfd, "train", *SVM, f"data.path={random_labels}", "data.split.folds=4")
    assert code == 0, output
    run = find_run(Path("runs"))
    metrics, record = read_json(run, "metrics.json"), read_json(run, "run.json")
    assert list(metrics["splits"]) == ["cross_validation"] and metrics["main_split"] == "cross_validation"
    assert metrics["objective"]["split"] == "cross_validation"
    pooled = metrics["splits"]["cross_validation"]
    assert pooled["examples"] == 120 and pooled["accuracy"]["high"] < 0.6
    assert 0 < pooled["accuracy"]["low"] < pooled["accuracy"]["value"]
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(f"random-{i}" for i in range(2, 122))
    texts = [row["text"] for row in rows]
    known = voicecommand.load(run).predict(texts)
    assert sum(answer["label"] == row["label"] for answer, row in zip(known, rows, strict=True)) > 110
    assert metrics["rejection"]["threshold"] == read_json(run / "model", "voicecommand.json")["threshold"]
    assert record["data"]["folds"] == 4 and record["data"]["splits"]["train"]["rows"] == 120
    assert [read_json(run / "folds" / str(i), "figures.json")["held_out"] for i in (1, 2, 3, 4)] == [30] * 4
    assert not list(run.glob("folds/*/model")), "a finished run keeps the model of all rows only"
    said = "The saved model was trained on all of them, and its own accuracy is not measured."
    for text in (output, (run / "report.html").read_text(), (run / "model" / "README.md").read_text()):
        assert re.search(r"the figures are of 4 models of the same recipe", text) and said in text
    assert (run / "confusion_matrix.csv").is_file()


def test_a_test_file_is_measured_by_the_saved_model_and_is_in_no_fold(
    commands_csv: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = commands_csv.read_text().splitlines()[1:]
    rows = [(text, label) for text, label in (line.split(",") for line in lines)]
    for name, part in {"train": rows[::2], "validation": rows[1::4], "test": rows[3::4]}.items():
        write(f"data/{name}.csv", part)
    code, output = run_and_read(capfd, "train", *SVM, "data.path=data", "data.split.folds=3")
    assert code == 0, output
    metrics = read_json(find_run(Path("runs")), "metrics.json")
    assert list(metrics["splits"]) == ["cross_validation", "test"] and metrics["main_split"] == "test"
    assert [split["examples"] for split in metrics["splits"].values()] == [len(rows) - len(rows[3::4]), len(rows[3::4])]
    assert "trained on all of them, and test measures it" in output


def test_finished_folds_are_not_fitted_again(
    random_labels: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fitted: list[int] = []
    stop_at = 2

    def count(*args: Any, **settings: Any) -> Any:
        fitted.append(len(args[5]["train"]))
        if len(fitted) == stop_at:
            raise KeyboardInterrupt
        return whole(*args, **settings)

    whole = fit.fit
    monkeypatch.setattr(fit, "fit", count)
    command = (*SVM, f"data.path={random_labels}", "data.split.folds=2")
    code, output = run_and_read(capfd, "train", *command)
    assert code == 143 and "resume=true continues it" in output
    run = find_run(Path("runs"))
    assert not (run / "model").exists()
    fitted.clear()
    stop_at = 0
    code, output = run_and_read(capfd, "train", *command, "resume=true")
    assert code == 0, output
    assert fitted == [60, 120]
    assert output.count("is finished already") == 1 and "fold 2 of 2: 60 rows to train on, 60 held out" in output
    resumed = read_json(run, "metrics.json")["splits"]
    assert run_and_read(capfd, "train", *command, "runs=whole")[0] == 0
    assert read_json(find_run(Path("whole")), "metrics.json")["splits"] == resumed


def test_a_fold_whose_model_was_damaged_is_fitted_again(
    random_labels: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (*SVM, f"data.path={random_labels}", "data.split.folds=2")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "_fit_estimator", fail_after(1, fit._fit_estimator))
        assert run_and_read(capfd, "train", *command)[0] == 143
    damaged = find_run(Path("runs")) / "folds/1/model/estimator.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, output = run_and_read(capfd, "train", *command, "resume=true")
    assert code == 0, output
    assert "estimator.safetensors has" in output and "this fold is fitted again" in output
    assert "fold 1 of 2: 60 rows to train on, 60 held out" in output


def fail_after(count: int, whole: Any) -> Any:
    """`whole`, which a signal stops in the call after so many."""
    calls: list[None] = []

    def call(*args: Any) -> Any:
        calls.append(None)
        if len(calls) > count:
            raise KeyboardInterrupt
        return whole(*args)

    return call


def network(checkpoint: Path, csv: Path) -> tuple[str, ...]:
    return (
        "model=bert", f"model.checkpoint={checkpoint}", "data=file", f"data.path={csv}", "data.split.folds=2",
        "precision=fp32", "threads=1", "training.max_steps=4", "training.save_strategy=steps", "training.save_steps=1",
        "training.eval_strategy=steps", "training.eval_steps=1", "training.learning_rate=2e-3",
    )  # fmt: skip


@pytest.mark.slow
def test_a_network_goes_on_within_the_fold_that_was_interrupted(
    checkpoints: dict[str, Path],
    commands_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = network(checkpoints["bert_uncased"], commands_csv)
    assert run_and_read(capfd, "train", *command, "runs=whole")[0] == 0
    steps = 0

    def stop_in_the_second_fold(self: CommandTrainer, *args: Any, **settings: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 7:
            raise KeyboardInterrupt
        return step(self, *args, **settings)

    step = CommandTrainer.training_step
    monkeypatch.setattr(CommandTrainer, "training_step", stop_in_the_second_fold)
    assert run_and_read(capfd, "train", *command)[0] == 143
    run, whole = find_run(Path("runs")), find_run(Path("whole"))
    assert (run / "folds" / "1" / "model").is_dir() and not (run / "folds" / "1" / "checkpoints").exists()
    assert (run / "folds" / "2" / "checkpoints" / "checkpoint-2").is_dir()
    code, output = run_and_read(capfd, "train", *command, "resume=true")
    assert code == 0, output
    assert steps == 7 + 2 + 4, "the rest of the second fold, and the model of all rows"
    assert "no complete checkpoint" not in output
    assert (run / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert read_json(run, "metrics.json")["splits"] == read_json(whole, "metrics.json")["splits"]


@pytest.mark.slow
def test_two_ranks_measure_the_folds_together(checkpoints: dict[str, Path], commands_csv: Path, tmp_path: Path) -> None:
    command = [*network(checkpoints["bert_uncased"], commands_csv), "training.per_device_train_batch_size=8"]
    two = start_training(LAUNCH, [*command, f"runs={tmp_path / 'two'}"], ACCELERATE_USE_CPU="true")
    assert two.returncode == 0, two.stderr
    pooled = read_json(find_run(tmp_path / "two"), "metrics.json")["splits"]["cross_validation"]
    assert pooled["examples"] == len(commands_csv.read_text().splitlines()) - 1
    assert two.stdout.count("report: ") == 1
