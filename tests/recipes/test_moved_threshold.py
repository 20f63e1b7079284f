"""The threshold of a run: set in training, and moved on a saved run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import voicecommand
from damage import unseal
from support import find_run, read_json, run_and_read

SVM = ("model=tfidf_svm", "data=file", "data.path=data", "threads=1")
VERBS = {"on": "switch the {} on", "off": "turn the {} off", "play": "play {}", "call": "call {}"}
THINGS = [f"{room} {what}" for room in ("kitchen", "hall", "attic") for what in ("light", "fan", "radio", "song")]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a data set of four labels and requests that fit none."""
    monkeypatch.chdir(tmp_path)
    rows = [(verb.format(thing), label) for thing in THINGS for label, verb in VERBS.items()]
    others = [(f"what is the weather in {thing}", "") for thing in THINGS]
    splits = {
        "train": rows[:30],
        "validation": rows[30:36],
        "test": rows[36:],
        "out_of_scope_validation": others[:6],
        "out_of_scope_test": others[6:],
    }
    for split, content in splits.items():
        path = tmp_path / "data" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *content])
    return tmp_path


def model_json(run: Path) -> Any:
    return read_json(run / "model", "voicecommand.json")


def test_a_threshold_is_set_in_training_and_moved_afterwards(data: Path, capfd: Any) -> None:
    code, said = run_and_read(capfd, "train", *SVM, "reject.false_accepts=0.2", "metrics=[matthews_corrcoef]")
    assert code == 0, said
    run = find_run(data / "runs")
    then = model_json(run)
    assert then["threshold_set_on"]["splits"] == ["out_of_scope_validation"]
    assert "reject.false_accepts=0.2 of 6 examples of out_of_scope_validation: accepts wrongly" in said
    assert "matthews corrcoef 1 (" in said
    page = (run / "report.html").read_text()
    assert "reject.false_accepts=0.2 of 6 examples" in page and "matthews corrcoef" in page

    # the rule is no part of the run's identity: the finished run is found, and says how it is moved
    code, said = run_and_read(capfd, "train", *SVM, "reject.keep=0.8")
    assert code == 0 and "reject.keep=0.8 is not used, because the run is finished" in said

    given = (f"run={run}", *SVM[1:], "reject.keep=0.8")
    code, said = run_and_read(capfd, "evaluate", *given)
    assert code == 0 and "not saved; save=true writes it" in said
    assert model_json(run) == then, "without save=true it only reports"
    code, said = run_and_read(capfd, "evaluate", *given, "save=true")
    assert code == 0 and "it is saved with the run" in said, said
    now = model_json(run)
    assert (now["threshold_set_on"]["rule"], now["threshold_set_on"]["asked"]) == ("keep", 0.8)
    assert now["threshold_set_on"]["examples"] == 12 and len(now["threshold_set_on"]["fingerprint"]) == 64
    assert voicecommand.load(run).threshold == now["threshold"] != then["threshold"]
    assert "reject.keep=0.8 of 12 examples" in (run / "model" / "README.md").read_text()
    code, said = run_and_read(capfd, "train", *SVM)
    assert code == 0 and "its threshold was moved after training and is now" in said


def test_a_run_of_an_older_version_gets_a_threshold_too(data: Path, capfd: Any) -> None:
    code, said = run_and_read(capfd, "train", *SVM)
    assert code == 0, said
    run = find_run(data / "runs")
    unseal(run / "model")
    old = {k: v for k, v in model_json(run).items() if k != "threshold_set_on"} | {"threshold_keeps": 0.95}
    from voicecommand import files

    files.write_json(run / "model" / "voicecommand.json", old)
    metrics = read_json(run, "metrics.json")
    metrics["rejection"] = {k: v for k, v in metrics["rejection"].items() if k != "set_on"} | {"keeps": 0.95}
    files.write_json(run / "metrics.json", metrics)
    code, said = run_and_read(capfd, "train", *SVM)
    assert code == 0 and "rejects below" in said, said
    code, said = run_and_read(capfd, "evaluate", f"run={run}", *SVM[1:], "reject.keep=0.8", "save=true")
    assert code == 0, said
    assert "threshold_keeps" not in model_json(run) and model_json(run)["threshold_set_on"]["asked"] == 0.8


def test_what_cannot_set_a_threshold_is_one_line(data: Path, capfd: Any) -> None:
    (data / "data" / "out_of_scope_validation.csv").unlink()
    code, said = run_and_read(capfd, "train", *SVM, "reject.false_accepts=0.03")
    assert code == 2 and "the data has no split out_of_scope_validation" in said
    assert not (data / "runs").exists(), "it is said before anything is trained"
    code, said = run_and_read(capfd, "train", *SVM, "reject.keep=0.9", "reject.false_accepts=0.03")
    assert code == 2 and "cannot be set by both" in said
    code, said = run_and_read(capfd, "evaluate", "run=runs/none", *SVM[1:], "save=true")
    assert code == 2 and "save=true: which threshold?" in said
    code, said = run_and_read(capfd, "train", *SVM, "metrics=[mcc]")
    assert code == 2 and "metrics=mcc: give some of matthews_corrcoef" in said
