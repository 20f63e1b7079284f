"""Rows that are tests of the project: pytest runs their files, and each test is a trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from measuring import RESULTS, ROOT

from trials.row import Counted, Row, Trial

# name, title, what is tried, patterns of files below tests/
ROWS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "inputs",
        "bad inputs, text and sound",
        "Broken, odd and hostile text files, tables, recordings and settings: one line, exit code 2, nothing written;"
        " and no false alarm on clean data.",
        ("*/test_bad_*.py", "data/test_limits.py", "data/test_formats.py", "data/test_delimited.py"),
    ),
    (
        "hostile",
        "hostile archives, models and configurations",
        "Archives that leave their folder or grow without end, models with pickles or code, settings that name a"
        " function: nothing is executed, nothing is left behind.",
        ("*/test_hostile_*.py", "data/test_speech_commands.py"),
    ),
    (
        "fuzz",
        "fuzz of the entry points",
        "Random and mutated sound, CSV, JSON lines, Parquet, YAML and run directories, from the seeds and finds that"
        " are kept as tests; `python benchmarks/fuzz.py` looks for new ones.",
        ("*/test_fuzz*.py", "fuzz/*.py"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """What is broken on purpose.

    Args:
        what: in words.
        file: the tests that must notice it, below tests/; they are chosen by `choice`, as by -k.
        code: the body of pytest's hook `pytest_configure`, which runs before the tests are imported.
    """

    what: str
    file: str
    choice: str
    code: str


BROKEN: dict[str, list[Broken]] = {
    "inputs": [
        Broken("errors of the input say nothing", "audio/test_bad_audio.py", "", """
from voicecommand.errors import InputError
InputError.__str__ = lambda error: ""
"""),
        Broken("they end with another exit code", "recipes/test_bad_input.py", "", """
from voicecommand.errors import InputError
InputError.exit_code = 1
"""),
    ],
    "hostile": [
        Broken("any target of a configuration is called", "config/test_hostile_config.py",
               "no_configuration_runs_code", """
import importlib
from voicecommand.config import objects

def find(group, name):
    path, _, member = str(name).rpartition(".")
    return getattr(importlib.import_module(path), member)

objects.check_targets, objects._find = (lambda *_: None), find
"""),
        Broken("pickles are opened", "tasks/test_hostile_models.py", "training_from_a_checkpoint_of_audio", """
import torch
load = torch.load
torch.load = lambda *args, **kwargs: load(*args, **kwargs | {"weights_only": False})
"""),
        Broken("archives grow without bounds", "data/test_speech_commands.py", "an_archive_that_grows", """
from voicecommand.data.sources import archives
archives._Bounded.read = lambda self, size=-1: self.file.read(size)
"""),
    ],
    "fuzz": [
        Broken("a reader has a bug", "benchmarks/test_fuzz.py", "mutated and (csv or status)", """
from voicecommand.data import table
from voicecommand.run import directory

def fail(*_, **__):
    raise ZeroDivisionError

table.to_columns = directory.read_status = fail
"""),
    ],
}  # fmt: skip


def build_all() -> list[Row]:
    """A row for each of `ROWS` that has files."""
    rows = []
    for name, title, about, patterns in ROWS:
        found = sorted(path for pattern in patterns for path in (ROOT / "tests").glob(pattern))
        if found:
            about += _searched() if name == "fuzz" else ""
            about += " Counted are the tests in " + ", ".join(f"`tests/{p.relative_to(ROOT / 'tests')}`" for p in found)
            trials = [Trial(f"tests of {path.stem}", _run(path), path.stem) for path in found]
            broken = BROKEN[name]
            sabotaged = [Trial(f"sabotaged, {one.what}", _run(ROOT / "tests" / one.file, one)) for one in broken]
            rows.append(Row(name, title, f"{about}.", trials, "; ".join(one.what for one in broken), sabotaged))
    return rows


def _searched() -> str:
    """What benchmarks/fuzz.py found when it ran last, in a sentence."""
    file = RESULTS / "fuzz.json"
    if not file.exists():
        return ""
    results = json.loads(file.read_text(encoding="utf-8"))
    kinds = dict.fromkeys(result["kind"] for result in results)
    total = {key: sum(result[key] for result in results) for key in ("inputs", "crashes", "slow")}
    parts = []
    for kind in kinds:
        own = [result for result in results if result["kind"] == kind]
        inputs, seconds = sum(one["inputs"] for one in own), sum(one["seconds"] for one in own)
        parts.append(f"{kind} {inputs:,} in {seconds / 60:.0f} min")
    return (
        f" It made {total['inputs']:,} files ({', '.join(parts)}): {total['crashes']} crashes, {total['slow']} over 2"
        " CPU-seconds or 512 MB."
    )


def _run(path: Path, broken: Broken | None = None) -> Callable[[Path], Counted]:
    def run(folder: Path) -> Counted:
        report = folder / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not journey",
                   f"--junitxml={report}", str(path)]  # fmt: skip
        if broken is not None:
            body = textwrap.indent(broken.code.strip(), "    ")
            (folder / "sabotage.py").write_text(f"def pytest_configure(config):\n{body}\n", encoding="utf-8")
            command += ["-p", "sabotage", "-k", broken.choice]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        variables |= {"PYTHONPATH": f"{ROOT / 'src'}:{folder}"}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        if not report.exists():
            return Counted(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
        return read_report(report)

    return run


def read_report(report: Path) -> Counted:
    """How many tests ran and how many passed, from a report of pytest in JUnit's format."""
    cases = [case for case in ElementTree.parse(report).iter("testcase") if case.find("skipped") is None]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    names = ", ".join(case.get("name", "") for case in failed[:5])
    return Counted(f"failed: {names}" if failed else "", len(cases), len(cases) - len(failed))
