"""A recipe outside the environment says how to get in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py") if path.stem != "environment")


def run_bare(recipe: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """`python recipes/<recipe>.py` by a Python without any package, as `-S` makes this one."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", str(ROOT / "recipes" / f"{recipe}.py"), "--help"]
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_python_without_the_packages_is_told_in_one_line(recipe: str, tmp_path: Path) -> None:
    what = f"error: {sys.executable} has no package 'voicecommand': "
    done = run_bare(recipe, ROOT)
    assert (done.returncode, done.stderr) == (2, f"{what}run `make setup`, then `. .venv/bin/activate`\n")
    done = run_bare(recipe, tmp_path)
    assert (done.returncode, done.stderr) == (2, f"{what}cd {ROOT}, run `make setup`, then `. .venv/bin/activate`\n")


def test_all_recipes_are_tried() -> None:
    assert {"audit", "evaluate", "predict", "robustness", "train"} <= set(RECIPES)
