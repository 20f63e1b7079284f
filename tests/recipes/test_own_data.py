"""A run and its data: measured again without naming it, whole or split, and noticed when it changes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from support import ROOT, read_json, run_and_read, run_recipe, write_tones
from voicecommand.run import logs

ROWS = [
    f"{verb} the {room} {thing} {word},{label}"
    for verb, label in (("switch on", "on"), ("turn off", "off"))
    for room in ("kitchen", "hall", "attic", "cellar")
    for thing in ("light", "fan", "radio")
    for word in ("now", "please")
]
TRAIN = ("model=tfidf_svm", "data=file", "data.path=a.csv", "threads=1")


def write(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a.csv and a finished run on it."""
    place = tmp_path_factory.mktemp("trained")
    write(place / "a.csv", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_recipe("train", *TRAIN) == 0
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory; the run says so of its own."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (record,) = tmp_path.glob("runs/*/*/run.json")
    record.write_text(record.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a.csv and a run on it, made there: another place would be another run."""
    write(tmp_path / "a.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    assert run_recipe("train", *TRAIN) == 0
    return tmp_path


def run_of(place: Path) -> Path:
    (status,) = place.glob("runs/file-a/*/status.json")
    return status.parent


def evaluated(place: Path) -> list[Path]:
    return sorted(run_of(place).glob("evaluations/*"))


def accuracy_of(directory: Path, split: str = "test") -> Any:
    return read_json(directory, "metrics.json")["splits"][split]["accuracy"]


def test_the_first_lines_say_what_and_where_and_the_last_line_predicts(place: Path, capfd: Any) -> None:
    write(place / "my data" / "it's.csv", ROWS)
    logs.early_records.buffer.clear()  # of another run in this process
    code, output = run_and_read(
        capfd, "train", "model=tfidf_svm", "data=file", 'data.path="my data/it\'s.csv"', "threads=1", "runs=my runs"
    )
    assert code == 0, output
    (run,) = Path("my runs").glob("file-it-s/*")
    log = (run / "log.txt").read_text().splitlines()
    said = [line.split(": ", 1)[1] for line in log[:4]]
    where = f"the run will be in {run}"
    assert said == ["one process on cpu", "data=file (my data/it's.csv)", "model=tfidf_svm, seed=42", where]
    last = next(line for line in reversed(output.splitlines()) if line.startswith("try it: "))
    words = shlex.split(last.removeprefix("try it: "))
    assert words[1:3] == [str(ROOT / "recipes/predict.py"), str(run)]
    assert words[3] in {row.rpartition(",")[0] for row in ROWS}
    code, output = run_and_read(capfd, "predict", *words[2:])
    assert code == 0 and '"label":' in output


def test_without_data_a_run_is_measured_on_its_own_test_split_from_anywhere(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    expected = accuracy_of(run_of(place))
    code, output = run_and_read(capfd, "evaluate", "run=latest")
    assert code == 0, output
    (found,) = evaluated(place)
    assert accuracy_of(found) == expected
    assert found.name.startswith("file-a-test-") and read_json(found, "run.json")["data"]["name"] == "file-a"
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    code, output = run_and_read(capfd, "evaluate", f"run={run_of(place)}", "split=validation")
    assert code == 0 and "has changed" not in output, output
    code, output = run_and_read(capfd, "robustness", f"run={run_of(place)}")
    assert code == 0, output
    assert list(run_of(place).glob("robustness/file-a-test-*/robustness.json"))


@pytest.mark.parametrize("path", ["a.csv", "./a.csv", "{place}/a.csv"])
def test_the_file_of_the_run_is_split_as_in_training_however_it_is_named(path: str, place: Path, capfd: Any) -> None:
    expected = accuracy_of(run_of(place))
    code, output = run_and_read(capfd, "evaluate", "run=latest", "data=file", f"data.path={path.format(place=place)}")
    assert code == 0 and "it is split as in training" in output, output
    (found,) = evaluated(place)
    assert accuracy_of(found) == expected


def test_another_file_is_measured_whole_unless_it_has_splits_or_is_told_how(place: Path, capfd: Any) -> None:
    def rows(*given: str) -> int:
        code, output = run_and_read(capfd, "evaluate", "run=latest", "data=file", *given)
        assert code == 0, output
        newest = max(evaluated(place), key=lambda path: path.stat().st_mtime_ns)
        return sum(split["examples"] for split in read_json(newest, "metrics.json")["splits"].values())

    write(place / "new.csv", [f"{row.split(',')[0]} again,{row.split(',')[1]}" for row in ROWS[::2]])
    assert rows("data.path=new.csv") == 24
    assert rows("data.path=new.csv", "split=validation") == 24
    assert 0 < rows("data.path=new.csv", "data.split.test=0.5") < 24
    write(place / "d/train.csv", ROWS[:10])
    write(place / "d/test.csv", ROWS[10:17])
    assert rows("data.path=d") == 7
    code, output = run_and_read(capfd, "evaluate", "run=latest", "data=file", "data.path=new.csv", "split=tset")
    assert code == 2 and "split=tset: no such split" in output


def test_rows_of_training_are_recognised_in_another_file_and_counted(place: Path, capfd: Any) -> None:
    shutil.copy("a.csv", "copy.csv")
    code, output = run_and_read(capfd, "evaluate", f"run={run_of(place)}", "data=file", "data.path=copy.csv")
    assert code == 0, output
    record = read_json(evaluated(place)[-1], "run.json")["data"]["splits"]["test"]
    assert 0 < record["trained_on"] < record["rows"], "its own test rows are among them"
    assert f"test: the model was trained on {record['trained_on']} of these {record['rows']} rows" in output
    assert "so its figures are too good" in (evaluated(place)[-1] / "report.html").read_text()


def test_each_content_of_a_file_keeps_its_own_report(place: Path, capfd: Any) -> None:
    for folder, rows in (("x", ROWS[:20]), ("y", ROWS[:30]), ("x", ROWS[:20])):
        write(place / folder / "new.csv", rows)
        code, output = run_and_read(capfd, "evaluate", "run=latest", "data=file", f"data.path={folder}/new.csv")
        assert code == 0, output
    found = evaluated(place)
    assert [path.name.rpartition("-")[0] for path in found] == ["file-new-test"] * 2
    assert sorted(accuracy_of(path)["value"] > 0 and pq.read_table(path / "predictions.parquet").num_rows
                  for path in found) == [20, 30]  # fmt: skip


def test_unknown_labels_are_named_before_anything_is_answered(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from voicecommand.tasks.saved import CommandModel

    def answer_split(*given: object) -> None:
        raise AssertionError("it answered")

    monkeypatch.setattr(CommandModel, "answer_split", answer_split)
    write(place / "new.csv", [*ROWS[:3], "louder,up", "sing,sing", "quieter,down"])
    write(place / "d/test.csv", ROWS[:3])
    write(place / "d/out_of_scope_test.csv", ["sing,sing"])
    code, output = run_and_read(capfd, "evaluate", "run=latest", "data=file", "data.path=new.csv")
    assert code == 2
    assert (
        "error: new.csv:5: label 'up' is not one of the model's 2 labels, 'off', 'on' (nor are 2 other labels: 's"
        in output
    )
    with pytest.raises(AssertionError, match="it answered"):
        run_and_read(capfd, "evaluate", "run=latest", "data=file", "data.path=d")


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a function of ours": (
        {"_target_": "voicecommand.files.write_text", "path": "x", "text": "x"},
        "only a function voicecommand",
    ),
    "a foreign function": ({"_target_": "os.system", "command": "touch x"}, "only a function voicecommand"),
    "a hidden module": ({"_target_": "voicecommand.data.sources.file.os.system"}, "only a function voicecommand"),
    "the environment": ({"path": "${oc.env:HOME}"}, "may not refer to other values"),
    "an unknown key": ({"command": "touch x"}, r"config\.yaml: data: .*unexpected keyword argument 'command'"),
    "another type": ({"path": ["a"]}, "data.path"),
    "nothing": ({"_target_": None}, "only a function voicecommand"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_from_a_stranger_names_no_data_but_a_source(name: str, place: Path, capfd: Any) -> None:
    change, message = HOSTILE[name]
    path = run_of(place) / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"] |= change
    path.write_text(yaml.safe_dump(content))
    before = set(place.rglob("*"))
    code, output = run_and_read(capfd, "evaluate", "run=latest")
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1, output
    assert re.search(message, errors[0]), errors[0]
    assert set(place.rglob("*")) == before


@pytest.mark.parametrize("content", [None, "", "[1]", "data: {}", "data: [", "choices: {data: file}\ndata: 7"])
def test_a_run_that_does_not_say_its_data_asks_for_it(content: str | None, place: Path, capfd: Any) -> None:
    path = run_of(place) / "config.yaml"
    path.unlink() if content is None else path.write_text(content)
    code, output = run_and_read(capfd, "evaluate", "run=latest")
    assert code == 2 and output.count("error: ") == 1 and "config.yaml:" in output, output
    assert "Traceback" not in output


def test_own_data_that_changed_or_went_away_is_said(place: Path, capfd: Any) -> None:
    write(place / "a.csv", [*ROWS, *(f"light number {n} on,on" for n in range(20))])
    code, output = run_and_read(capfd, "evaluate", "run=latest")
    assert code == 0 and "test has changed since training (" in output, output
    (place / "a.csv").unlink()
    code, output = run_and_read(capfd, "evaluate", "run=latest")
    assert code == 2 and "error: the run's own data: a.csv: no such file" in output
    assert "data=NAME measures the run on other data" in output


def test_a_changed_file_is_noticed_and_both_ways_on_work(fresh: Path, capfd: Any) -> None:
    run = run_of(fresh)
    write(fresh / "a.csv", [*ROWS, *(f"light number {n} on,on" for n in range(20))])
    code, output = run_and_read(capfd, "train", *TRAIN)
    assert code == 2
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "the data has changed since this run was trained (train 3" in line and "try it" not in output
    assert "overwrite=true trains again, and seed=N, runs=DIR or another name" in line
    code, output = run_and_read(capfd, "train", *TRAIN, "seed=2")
    assert code == 0 and len(list(run.parent.iterdir())) == 2, output
    code, output = run_and_read(capfd, "train", *TRAIN, "overwrite=true")
    assert code == 0 and run.with_name(f"{run.name}.old-1").is_dir(), output
    rows = read_json(run, "run.json")["data"]["splits"]
    assert sum(split["rows"] for split in rows.values()) == 68
    code, output = run_and_read(capfd, "train", *TRAIN)
    assert code == 0 and "is finished, this is its result" in output


def test_a_file_that_is_gone_does_not_hide_the_result(fresh: Path, capfd: Any) -> None:
    (fresh / "a.csv").unlink()
    code, output = run_and_read(capfd, "train", *TRAIN)
    assert code == 0 and "a.csv: no such file here, so it was not compared with the data of the run" in output
    assert "try it: " in output


def test_a_changed_recording_is_noticed_and_nothing_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from voicecommand.audio import decode

    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "tones", count=40, samples=4800, speakers=10)
    given = ("model=mfcc_svm", "data=folder", "data.path=tones", "threads=1")
    code, output = run_and_read(capfd, "train", *given)
    assert code == 0, output
    said = next(line for line in output.splitlines() if line.startswith("try it: "))
    assert Path(shlex.split(said)[-1]).is_file(), "an existing recording, so that the command works"

    def read_audio(*given: object) -> None:
        raise AssertionError("it decoded")

    monkeypatch.setattr(decode, "read_audio", read_audio)
    code, output = run_and_read(capfd, "train", *given)
    assert code == 0 and "is finished, this is its result" in output, output
    shutil.copy(tmp_path / "tones/0.wav", tmp_path / "tones/1.wav")
    code, output = run_and_read(capfd, "train", *given)
    assert code == 2 and "the data has changed since this run was trained (" in output, output


@pytest.mark.slow
def test_the_result_of_a_finished_run_is_shown_without_torch(fresh: Path) -> None:
    code = (
        "import atexit, runpy, sys; atexit.register(lambda: sys.stderr.write(repr(sorted({'torch', 'transformers'} "
        "& set(sys.modules)))))\n"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(ROOT / "recipes/train.py"), *TRAIN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "try it: " in done.stdout, done.stderr
    assert done.stderr.endswith("[]"), done.stderr


def test_every_split_that_was_predicted_is_in_the_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in (("train", ROWS[::2]), ("validation", ROWS[1::4]), ("test", ROWS[3::4])):
        write(tmp_path / f"d/{name}.csv", rows)
    for name in ("validation", "test"):
        write(tmp_path / f"d/out_of_scope_{name}.csv", [f"sing a song for {name},x", f"how is {name},x"])
    code, output = run_and_read(capfd, "train", "model=tfidf_svm", "data=file", "data.path=d", "threads=1")
    assert code == 0, output
    (path,) = tmp_path.glob("runs/file-d/*/predictions.parquet")
    splits = pq.read_table(path)["split"].to_pylist()
    assert {name: splits.count(name) for name in splits} == {
        "validation": 12, "out_of_scope_validation": 2, "test": 12, "out_of_scope_test": 2,
    }  # fmt: skip


def test_data_to_measure_on_is_audited_without_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "new.csv", ["lights on,on", "  ,on", "fan on,on"])
    given = ("data=file", "data.path=new.csv")
    code, output = run_and_read(capfd, "audit", *given, "split=test")
    assert code == 2 and "error: 1 empty text(s) in test (new.csv:3)" in output, output
    assert "the data has 1 error(s), named above: evaluation would refuse it" in output
    write(tmp_path / "new.csv", ["lights on,on", "fan on,on"])
    code, output = run_and_read(capfd, "audit", *given, "split=test")
    assert code == 0 and re.search(r"^all +2$", output, re.MULTILINE), output
    code, output = run_and_read(capfd, "audit", *given)
    assert code == 2, "training needs more than one label"
