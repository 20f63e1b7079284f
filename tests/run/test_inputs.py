"""A run goes on only with what it began with, and names what has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from support import write_checkpoint
from voicecommand.data.fingerprint import describe_rows
from voicecommand.errors import InputError, Stopped
from voicecommand.run import directory as run_directory
from voicecommand.run import inputs

ROWS = [("on", "lights on"), ("off", "lights off"), ("on", "lamp on")]


def describe(rows: list[tuple[str, str]]) -> dict[str, Any]:
    labels, texts = zip(*rows, strict=True)
    return describe_rows(DatasetDict(train=Dataset.from_dict({"label": labels, "text": texts})), ("text", "label"))


def began_with(**changes: Any) -> dict[str, Any]:
    settings = {"seed": 1, "training": {"learning_rate": 1e-4}, "data": {"path": "a.csv"}}
    return (
        inputs.describe(settings, describe(ROWS), "f1", {"model.safetensors of the base checkpoint": "1a2b"}) | changes
    )


def leave_interrupted(place: Path, content: dict[str, Any]) -> None:
    with pytest.raises(Stopped), run_directory.Run(place).open("", content):
        write_checkpoint(place / "checkpoints/checkpoint-1")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": describe(ROWS[:2])}, "train had 3 rows and has 2"),
        ({"data": describe(ROWS[::-1])}, "the rows of train are in another order"),
        ({"data": describe([("off", "lights on"), ("on", "lights off"), ROWS[2]])}, "train: the column label changed"),
        ({"data": describe([("on", "lights in"), *ROWS[1:]])}, "train: the column text changed"),
        ({"data": describe([("dim", "lights on"), *ROWS[1:]])}, "train: label dim is new"),
        (
            {"data": describe([(label.replace("off", "out"), text) for label, text in ROWS])},
            "train: label off is gone and label out is new",
        ),
        ({"data": {}}, "train was there"),
        (
            {"base": {"model.safetensors of the base checkpoint": "ffff"}},
            "model.safetensors of the base checkpoint has changed",
        ),
        ({"base": {}}, "model.safetensors of the base checkpoint is gone"),
        (
            {"configuration": {"seed": 1, "training": {"learning_rate": 2e-4}}},
            "training.learning_rate was 0.0001 and is 0.0002",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_is_not_continued_on_other_inputs(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    before = (place / "status.json").read_text()
    resumed = run_directory.Run(place, resume=True)
    with pytest.raises(InputError, match="has changed") as caught, resumed.open("", began_with(**changes)):
        raise AssertionError("it went on")
    assert named in str(caught.value) and "overwrite=true trains again" in str(caught.value)
    assert (place / "status.json").read_text() == before
    with run_directory.Run(place, resume=True).open("", began_with()):
        pass


def test_another_path_of_the_same_data_is_no_change(tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    moved = began_with()
    moved["configuration"] = moved["configuration"] | {"data": {"path": "b.csv"}}
    run = run_directory.Run(place, resume=True)
    with run.open("", moved):
        assert inputs.digests(moved) == inputs.digests(began_with())


def test_a_run_of_the_version_before_is_not_continued_on_other_data(tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    (place / "inputs.json").unlink()
    status = json.loads((place / "status.json").read_text())
    (place / "status.json").write_text(json.dumps(status | {"fingerprint": "f0"}))
    with (
        pytest.raises(InputError, match="the data has changed since this run began"),
        run_directory.Run(place, resume=True).open("", began_with()),
    ):
        raise AssertionError("it went on")
    with run_directory.Run(place, resume=True).open("", began_with(fingerprint="f0")):
        pass


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"configuration": []},
        {"data": {"train": {}}},
        {"data": {"train": 1}},
        {"world_size": "2"},
        {"world_size": 0},
        {"base": "x"},
        {"machine": [1]},
        {"machine": {"torch": [1]}},
        {"data": {"train": {"rows": 1, "columns": {}, "sorted": "", "labels": [None]}}},
        {"data": {"train": {"rows": 1, "columns": {"a": {}}, "sorted": "", "labels": []}}},
    ],
    ids=str,
)
def test_records_of_inputs_that_no_run_wrote_count_as_lost(content: Any, tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    (place / "inputs.json").write_text(json.dumps(content))
    assert inputs.read(place) == {}
    with run_directory.Run(place, resume=True).open("", began_with()):
        pass


def test_a_finished_run_that_lost_its_status_keeps_its_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "run"
    with run_directory.Run(place).open("", began_with()):
        (place / "model").mkdir()
        for name in run_directory.RESULT:
            (place / name).write_text("x")
    (place / "status.json").unlink()
    for resume in (False, True, "auto"):
        assert run_directory.Run(place, resume=resume).is_finished
    assert "its result is there, so that it counts as finished" in caplog.text
    (place / "report.html").unlink()
    for resume in (False, "auto"):
        with pytest.raises(InputError, match="holds a run that did not finish"):
            run_directory.Run(place, resume=resume)


def test_files_that_are_of_no_run_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, "auto"):
        with pytest.raises(InputError, match="overwrite=true starts again"):
            run_directory.Run(tmp_path, resume=resume)


def test_another_machine_is_said_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place, then = tmp_path / "run", began_with()
    then["machine"] = then["machine"] | {"torch": "2.4.0", "device": "NEON"}
    leave_interrupted(place, then)
    with run_directory.Run(place, resume=True).open("", began_with()):
        pass
    line = next(record.getMessage() for record in caplog.records if "since this run began" in record.getMessage())
    assert "torch 2.4.0 then" in line and "device NEON then" in line and "numpy" not in line


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_lost_status_is_no_dead_end(content: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    (place / "status.json").write_text(content)
    with pytest.raises(InputError, match="did not finish; resume=true continues it"):
        run_directory.Run(place)
    for resume in (True, "auto"):
        assert run_directory.Run(place, resume=resume).resume
    (place / "status.json").unlink()
    assert run_directory.Run(place, resume="auto").resume


def test_auto_starts_continues_or_shows_a_run(tmp_path: Path) -> None:
    place = tmp_path / "run"
    run = run_directory.Run(place, resume="auto")
    assert not run.resume and not run.is_finished
    with pytest.raises(Stopped), run.open("", began_with()):
        raise KeyboardInterrupt
    assert not run_directory.Run(place, resume="auto").resume, "there is no checkpoint yet"
    write_checkpoint(place / "checkpoints/checkpoint-1")
    run = run_directory.Run(place, resume="auto")
    assert run.resume
    with run.open("", began_with()):
        pass
    assert run_directory.Run(place, resume="auto").is_finished
    for wrong in ("yes", 1, None):
        with pytest.raises(InputError, match="give true, false or auto"):
            run_directory.Run(place, resume=wrong)  # type: ignore[arg-type]


def test_another_number_of_processes_is_allowed_by_name(tmp_path: Path) -> None:
    place = tmp_path / "run"
    leave_interrupted(place, began_with())
    for name in ("status.json", "inputs.json"):
        content = json.loads((place / name).read_text())
        (place / name).write_text(json.dumps(content | {"world_size": 2}))
    with pytest.raises(InputError, match=r"ran on 2 processes, and these are 1.*resume_allow=\[world_size\]"):
        run_directory.Run(place, resume=True)
    with pytest.raises(InputError, match=r"resume_allow=\[data\]: give \[world_size\]"):
        run_directory.Run(place, resume=True, allowed=["data"])
    run = run_directory.Run(place, resume=True, allowed=["world_size"])
    assert run.began_on == 2
    with run.open("", began_with()):
        pass
    assert json.loads((place / "inputs.json").read_text())["world_size"] == 2, "the global batch is that of two"


def test_a_run_that_is_not_there_names_the_setting_of_the_unfinished_one_beside_it(tmp_path: Path) -> None:
    leave_interrupted(tmp_path / "bert-s1-aaaa", began_with())
    other = began_with(configuration={"seed": 7, "training": {"learning_rate": 0.5}, "data": {"path": "a.csv"}})
    leave_interrupted(tmp_path / "bert-s7-bbbb", other)
    with run_directory.Run(tmp_path / "bert-s2-dddd").open("", began_with()):
        pass
    asked = {"seed": 1, "training": {"learning_rate": 2e-4}, "data": {"path": "a.csv"}}
    with pytest.raises(InputError, match="there is no run at") as caught:
        run_directory.Run(tmp_path / "bert-s1-cccc", resume=True, settings=asked)
    assert "bert-s1-aaaa has other settings: training.learning_rate was 0.0001 and is 0.0002;" in str(caught.value)
    del asked["data"]
    asked["training"] = {"learning_rate": 1e-4}
    with pytest.raises(InputError, match=r"bert-s1-aaaa has other settings: data\.path was a\.csv and is not set;"):
        run_directory.Run(tmp_path / "bert-s1-cccc", resume=True, settings=asked)
    with pytest.raises(InputError, match=r"there is no run at .*/nowhere/x; leave resume out to start one"):
        run_directory.Run(tmp_path / "nowhere/x", resume=True, settings=asked)
