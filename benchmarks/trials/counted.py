"""Rows that are tests of the project: pytest runs their files, and each test is a trial."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from measuring import ROOT

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
# A plugin for pytest that breaks something before the tests begin.
SABOTAGE = "import voicecommand.errors\nvoicecommand.errors.InputError.__str__ = lambda error: ''\n"


def build_all() -> list[Row]:
    """A row for each of `ROWS` that has files."""
    rows = []
    for name, title, about, patterns in ROWS:
        found = sorted(path for pattern in patterns for path in (ROOT / "tests").glob(pattern))
        if found:
            about += " Counted are the tests in " + ", ".join(f"`tests/{p.relative_to(ROOT / 'tests')}`" for p in found)
            trials = [Trial(f"tests of {path.stem}", _run(path), path.stem) for path in found]
            sabotaged = [Trial("sabotaged", _run(found[0], SABOTAGE))]
            rows.append(Row(name, title, f"{about}.", trials, "errors of the input say nothing", sabotaged))
    return rows


def _run(path: Path, broken: str = "") -> Callable[[Path], Counted]:
    def run(folder: Path) -> Counted:
        report, plugin = folder / "report.xml", folder / "sabotage.py"
        plugin.write_text(broken, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sabotage", "-m",
                   "not journey", f"--junitxml={report}", str(path)]  # fmt: skip
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
