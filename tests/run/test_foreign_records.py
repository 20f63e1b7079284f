"""The records of a run may come from anywhere: a wrong type or a missing key is one line, and nothing is written."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import run_recipe
from voicecommand.compare import leaderboard
from voicecommand.errors import InputError
from voicecommand.report import terminal
from voicecommand.run import records

ROWS = [f"{verb} the {thing} {word},{verb}" for verb in ("open", "close") for thing in ("door", "lid", "gate", "box")
        for word in ("now", "again", "please", "fast")]  # fmt: skip
ODD: tuple[Any, ...] = (None, 7, "x", [1], {"a": 1}, True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    (root / "a.csv").write_text("\n".join(["text,label", *ROWS, ""]))
    before, argv = os.getcwd(), sys.argv
    os.chdir(root)
    try:
        assert run_recipe("train", "model=tfidf_svm", "data=file", "data.path=a.csv", "threads=1") == 0
    finally:
        os.chdir(before)
        sys.argv = argv
    return next(root.glob("runs/file-a/*"))


def changes(content: Any) -> Iterator[Any]:
    """The content as another type, and with each key of the first three levels left out or of another type."""
    yield from (value for value in ODD if type(value) is not type(content))
    paths = [()]
    for path in paths:
        node = content
        for key in path:
            node = node[key]
        for key in list(node)[:12] if isinstance(node, dict) else ():
            for odd in (*ODD, "missing"):
                changed = copy.deepcopy(content)
                below = changed
                for step in path:
                    below = below[step]
                if odd == "missing":
                    del below[key]
                else:
                    below[key] = odd
                yield changed
            if len(path) < 3:
                paths.append((*path, key))


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "history.json", "status.json"])
def test_no_record_is_a_traceback_for_its_readers(name: str, run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    content = json.loads((run / name).read_text())
    count = refused = 0
    for changed in changes(content):
        (copied / name).write_text(json.dumps(changed))
        for read in (
            terminal.format_result,
            records.read_data,
            records.read_objective,
            leaderboard.read_run,
            lambda place: records.read_json([place], "history.json"),
        ):
            count += 1
            try:
                read(copied)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error) and str(copied) in str(error), error
    assert count >= 25 and (refused > 10 or name in ("history.json", "status.json"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "[]"),
        ("run.json", "{"),
        ("run.json", '{"data": [1]}'),
        ("run.json", '{"data": {"splits": {"test": {}}}}'),
        ("run.json", '{"model": {"parameters": "many"}}'),
        ("run.json", '{"hardware": [1]}'),
        ("run.json", '{"data": {"columns": [[1]]}}'),
        ("run.json", "[" * 100_000),
        ("history.json", "{}"),
        ("history.json", "[1]"),
        ("config.yaml", "- 1"),
        ("config.yaml", "a: &a [1]\nb: *a"),
        ("config.yaml", "choices: 7\ndata: x"),
    ],
)
def test_an_evaluation_says_which_record_is_wrong_and_writes_nothing(
    name: str,
    content: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.copy(run.parents[2] / "a.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / name).write_text(content)
    before = set(tmp_path.rglob("*"))
    for recipe in ("evaluate", "robustness"):
        assert run_recipe(recipe, "run=run", "threads=1") == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and f"run/{name}" in lines[0], lines
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("given", ["runs={long}", "data.path={long}.csv", "data.path={long}"])
def test_a_name_of_300_letters_is_one_line(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *ROWS, ""]))
    argv = ["model=tfidf_svm", "data=file", "threads=1"]
    argv += [given.replace("{long}", "x" * 300)] + ([] if "data.path" in given else ["data.path=a.csv"])
    assert run_recipe("train", *argv) == 2
    errors = capfd.readouterr().err
    assert errors.count("error: ") == 1 and "File name too long" in errors and "Traceback" not in errors
    assert {path.name for path in tmp_path.rglob("*")} == {"a.csv"}
    assert run_recipe("evaluate", f"run={'x' * 300}", "threads=1") == 2
    assert run_recipe("predict", "x" * 300, "open the door") == 2
