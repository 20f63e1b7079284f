"""Runs that were made before the library had packages: they keep their directories, open, evaluate and resume.

`kept/` holds a finished run of each kind of model that is small, and one that a signal stopped, as the code of November
2026 left them (less their pages and pictures), with the data and the checkpoint that they were made from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import voicecommand
from support import read_json, run_and_read, write_tones

KEPT = Path(__file__).parent / "kept"
FINISHED = {
    "bert_scratch-full-s42-418f4fe7": ("bert_scratch", "training.max_steps=20", "training.save_steps=10"),
    "tfidf_svm-s42-b1b47fb8": ("tfidf_svm",),
    "mfcc_svm-s42-738b1b1f": ("mfcc_svm",),
    "bcresnet-full-s42-eb93ec60": ("bcresnet", "training.max_steps=20", "training.save_steps=20"),
}
# The settings of then whose defaults have changed since.
SPEECH_OF_THEN = ("training.min_steps=0",)
TEXT_OF_THEN = (*SPEECH_OF_THEN, "training.max_epochs=null", "model.head_start=random")
SPLITS_OF_THEN = "data.split.stratify=false"
# Directories of November 2026.
DIRECTORIES = {
    ("model=bert", "data=commands", *TEXT_OF_THEN): "runs/commands/bert-full-s42-cd8ecd6e",
    ("model=bert", "tuning=head", *TEXT_OF_THEN): "runs/commands/bert-head-s42-3ae056f2",
    ("model=bcresnet", "data=keywords", "data.path=keywords", *SPEECH_OF_THEN): (
        "runs/keywords/bcresnet-full-s42-274be822"
    ),
    # Data with a yaml of its own is not named by its path, however that is written.
    ("model=tfidf_svm", "data=snips", "data.path=/x/snips"): "runs/snips/tfidf_svm-s42-a6e3d411",
    ("model=mfcc_svm", "data=keywords", "data.path=/x/keywords"): "runs/keywords/mfcc_svm-s42-706820fc",
}
# Data of one's own: a run has another directory now, and the one of then is found if it is there.
FILE = (
    ("model=bert", "data=file", "data.path=commands.csv", SPLITS_OF_THEN, *TEXT_OF_THEN),
    "runs/file/bert-full-s42-8cccb324",
)

STEPS = ("training.save_strategy=steps", "training.eval_strategy=steps", "training.report_to=none", "precision=fp32")


def overrides(name: str) -> list[str]:
    """The command that made a run of `FINISHED`."""
    model, *training = FINISHED[name]
    if model in ("tfidf_svm", "bert_scratch"):
        data = ["data=file", "data.path=commands.csv", SPLITS_OF_THEN]
    else:
        data = ["data=folder", "data.path=recordings", SPLITS_OF_THEN]
    given = [f"model={model}", *data, "threads=1", *training]
    if training:
        given += [*STEPS, training[1].replace("save", "eval")]
    more = {
        "bert_scratch": ["model.checkpoint=checkpoint", "model.head_start=random"],
        "bcresnet": ["model.max_seconds=0.3"],
    }
    return given + more.get(model, [])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: the kept runs, what they were made from, and their recordings made again."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "recordings", count=40, samples=4800, speakers=10)
    return tmp_path


def directory_of(name: str) -> Path:
    return next(Path("runs").glob(f"*/{name}"))


@pytest.mark.parametrize(("given", "directory"), DIRECTORIES.items())
def test_a_command_of_then_has_its_directory_of_then(given: tuple[str, ...], directory: str) -> None:
    from voicecommand.config import identity, program

    assert str(identity.run_directory(program.compose("train", [*given]))) == directory


def test_a_younger_key_counts_only_where_it_is_set() -> None:
    from voicecommand.config import identity, program

    then, unset, given = (
        str(identity.first_directory(program.compose("train", [*FILE[0], *more])))
        for more in ([], ["data.column_map.transcript=null"], ["data.column_map.transcript=said"])
    )
    assert then == unset == FILE[1]
    assert given != then


def test_a_run_on_a_file_is_new_in_a_directory_named_by_it_unless_the_old_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicecommand.config import identity, program

    monkeypatch.chdir(tmp_path)
    config = program.compose("train", list(FILE[0]))
    new = identity.open_run(config).directory
    assert new.parent == Path("runs/file-commands")
    Path(FILE[1]).mkdir(parents=True)
    assert identity.open_run(config).directory == Path(FILE[1])
    new.mkdir(parents=True)
    assert identity.open_run(config).directory == new


@pytest.mark.parametrize("name", FINISHED)
def test_the_same_command_finds_the_finished_run(name: str, place: Path, capfd: Any) -> None:
    code, output = run_and_read(capfd, "train", *overrides(name))
    assert code == 0, output
    assert f"{directory_of(name)} is finished, this is its result" in output
    accuracy = read_json(directory_of(name), "metrics.json")["splits"]["test"]["accuracy"]["value"]
    assert f"test        accuracy {100 * accuracy:.1f} %" in output


def test_rows_added_to_the_file_of_a_run_of_then_are_noticed(place: Path, capfd: Any) -> None:
    with (place / "commands.csv").open("a") as file:
        file.write("turn on the attic lamp,on\n")
    code, output = run_and_read(capfd, "train", *overrides("tfidf_svm-s42-b1b47fb8"))
    assert code == 2 and "the data has changed since this run was trained (" in output and " rows then, " in output, (
        output
    )


@pytest.mark.parametrize("name", FINISHED)
def test_a_finished_run_answers_as_it_did_and_is_evaluated(name: str, place: Path, capfd: Any) -> None:
    run = directory_of(name)
    rows = [row for row in pq.read_table(run / "predictions.parquet").to_pylist() if row["split"] == "test"]
    assert len(rows) >= 12
    inputs = [row["text"] for row in rows] if rows[0]["text"] else [Path(row["origin"]) for row in rows]
    if not rows[0]["text"]:
        listed = (place / "recordings" / "metadata.csv").read_text().splitlines()
        inputs = [place / "recordings" / listed[int(row["origin"].split(":")[1]) - 1].split(",")[0] for row in rows]
    model = voicecommand.load(run)
    assert model.threshold == read_json(run, "metrics.json")["rejection"]["threshold"]
    # On another processor a made tone may differ by a step of 16 bits here and there, which mfcc_svm notices.
    tolerance = 5e-3 if name.startswith("mfcc") else 1e-4
    for row, answer in zip(rows, model.predict(inputs), strict=True):
        assert answer["label"] == row["prediction"]
        assert answer["probability"] == pytest.approx(row["probability"], abs=tolerance)
        if abs(row["probability"] - model.threshold) > tolerance:
            assert answer["accepted"] == row["accepted"]
    data = [word for word in overrides(name) if word.startswith("data")]
    code, output = run_and_read(capfd, "evaluate", f"run={run}", *data, "threads=1")
    assert code == 0, output
    (again,) = run.glob("evaluations/*/metrics.json")
    then = read_json(run, "metrics.json")["splits"]["test"]["confusion_matrix"]
    assert json.loads(again.read_text())["splits"]["test"]["confusion_matrix"] == then


def test_a_run_that_a_signal_stopped_resumes(place: Path, capfd: Any) -> None:
    name = "bert_scratch-full-s42-418f4fe7"
    given = [
        word for word in overrides(name) if not word.startswith(("training.max", "training.save_s", "training.eval_s"))
    ]
    given += ["training.max_steps=300", "training.save_steps=100", "training.eval_steps=100", *STEPS[:2]]
    run = Path("runs/file/bert_scratch-full-s42-d0add614")
    code, output = run_and_read(capfd, "train", *given)
    assert code == 2 and "resume=true" in output, output
    code, output = run_and_read(capfd, "train", *given, "resume=true")
    assert code == 0, output
    assert "starts at step 0" not in output
    assert read_json(run, "run.json")["training"]["steps"] == 300
    evaluated = [entry["step"] for entry in read_json(run, "history.json") if "eval_loss" in entry]
    assert evaluated == [100, 200, 300], "what was evaluated before the signal is still there"
