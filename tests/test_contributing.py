"""The examples of CONTRIBUTING.md, applied to a copy of conf/, src/ and recipes/, compose and train."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Title of the example -> its diff.
EXAMPLES = dict(re.findall(r"^### (.+?)$.*?^```diff\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL))
APPLIED = ("A checkpoint of a known architecture", "A data set in a known format", "A source", "A task")
COMPOSE = "import sys; from voicecommand.config.program import compose; print(compose('train', sys.argv[1:]).model)"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's programs, with the examples applied."""
    root = tmp_path_factory.mktemp("contributed")
    for name in ("conf", "src", "recipes"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for title in APPLIED:
        result = subprocess.run(["git", "apply"], cwd=root, input=EXAMPLES[title], text=True, capture_output=True)
        assert result.returncode == 0, f"{title}: {result.stderr}"
    return root


def run(copy: Path, *command: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(copy / "src")}
    result = subprocess.run([sys.executable, *command], cwd=copy, env=variables, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_each_thing_to_add_has_an_example() -> None:
    assert set(EXAMPLES) == {*APPLIED, "A family of speech encoders"}


def test_the_table_of_imports_is_the_one_that_is_tested() -> None:
    tested = (ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8")
    (found,) = re.findall(r"^ROWS = (\(.*?^\))$", tested, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| \d \| (.+) \|$", TEXT, flags=re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == list(ast.literal_eval(found))


def test_a_new_checkpoint_and_a_new_data_set_compose(copy: Path) -> None:
    output = run(copy, "-c", COMPOSE, "model=electra_small", "data=lamps", "data.path=lamps.csv")
    assert "google/electra-small-discriminator" in output


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tfidf_svm", "first_words_svm"])
def test_a_new_source_and_a_new_task_train_and_answer(copy: Path, model: str) -> None:
    things = [f"{room} {thing}" for room in ("kitchen", "hall", "bath") for thing in ("lights", "fan", "radio")]
    phrases = {"on": "turn on the {}", "off": "please turn the {} off now", "play": "play {}"}
    lines = [
        line
        for label, phrase in phrases.items()
        for line in (f"[{label}]", *(phrase.format(f"{thing} {n}") for thing in things for n in ("one", "two", "ten")))
    ]
    (copy / "phrases.ini").write_text("\n".join(lines), encoding="utf-8")
    run(copy, "recipes/train.py", f"model={model}", "data=sections", "data.path=phrases.ini", "runs=runs")
    (directory,) = (copy / "runs" / "sections").glob(f"{model}-*")
    assert '"on"' in run(copy, "recipes/predict.py", str(directory), "turn on the kitchen fan one")
