"""benchmarks/chaos.py: its short form, what a row notices, and the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import damage
from support import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import chaos
from trials import counted, page
from trials.row import SKIPPED, Counted, Results, Row, Trial, run_trial

RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"


@pytest.mark.slow
def test_every_trial_of_the_short_form_holds_and_every_row_notices_what_is_broken(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    command = [sys.executable, str(ROOT / "benchmarks/chaos.py"), "--work", str(tmp_path / "work"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == list(chaos.SHORT)
    assert all(row["sabotage"]["noticed"] and row["held"] == row["tried"] > 0 for row in rows.values())
    assert rows["kills"]["tried"] == 12


def make_row(*answers: str | Counted, broken: str = "it failed") -> Row:
    def trial(name: str, answer: str | Counted) -> Trial:
        return Trial(name, lambda folder: answer, "part")

    trials = [trial(f"trial {number}", answer) for number, answer in enumerate(answers)]
    return Row("row", "a title", "About it.", trials, "something is broken", [trial("sabotaged", broken)])


def measure(row: Row, folder: Path) -> dict[str, Any]:
    results = Results(folder / "trials.jsonl", "1a2b")
    for trial in (*row.trials, *row.sabotaged):
        run_trial(row.name, trial, results, folder / "trial")
    return chaos.summarise(row, results)


def test_a_row_counts_what_held_and_what_was_skipped(tmp_path: Path) -> None:
    found = measure(make_row("", "exit 1", f"{SKIPPED}no root", Counted("failed: x", 7, 6)), tmp_path)
    assert (found["held"], found["tried"], found["skipped"]) == (7, 9, 1)
    assert [one["trial"] for one in found["failures"]] == ["trial 1", "trial 3"]
    assert not chaos.is_good(found)


@pytest.mark.parametrize(("broken", "noticed"), [("it failed", True), ("", False), ("SetUpError: no such name", False)])
def test_a_row_that_does_not_notice_what_is_broken_is_not_good(broken: str, noticed: bool, tmp_path: Path) -> None:
    found = measure(make_row("", broken=broken), tmp_path)
    assert found["sabotage"]["noticed"] == noticed == chaos.is_good(found)


def test_a_trial_that_raises_did_not_hold_and_others_go_on(tmp_path: Path) -> None:
    def fail(folder: Path) -> str:
        raise LookupError("no run")

    row = make_row("")
    row.trials.insert(0, Trial("raises", fail))
    found = measure(row, tmp_path)
    assert (found["held"], found["tried"]) == (1, 2)
    assert found["failures"] == [{"trial": "raises", "answer": "LookupError: no run"}]


def test_results_of_other_code_and_torn_lines_do_not_count(tmp_path: Path) -> None:
    measure(make_row(""), tmp_path)
    file = tmp_path / "trials.jsonl"
    assert ("row", "trial 0") in Results(file, "1a2b").read()
    assert not Results(file, "3c4d").read()
    file.write_text(file.read_text() + '{"tree": "1a')
    assert len(Results(file, "1a2b").read()) == 2


def test_tests_are_counted_from_the_report_of_pytest(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase></testsuite></testsuites>'
    )
    assert counted.read_report(report) == Counted("failed: b, d", 3, 1)


@pytest.mark.parametrize("what", damage.BYTES)
def test_each_damage_changes_its_file(what: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    content = bytes(range(1, 256)) * 8
    path.write_bytes(content)
    damage.BYTES[what](path)
    assert not path.exists() or path.read_bytes() != content


def test_the_page_is_that_of_the_figures() -> None:
    written = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert written == page.write_page(json.loads(RESULTS.read_text(encoding="utf-8"))), "run make chaos"


def test_the_page_says_what_did_not_hold_and_what_was_not_noticed(tmp_path: Path) -> None:
    row = measure(make_row("", "exit 1", broken=""), tmp_path) | {"form": "short", "code": "1a2b"}
    machine = {"processor": "a processor", "cores": 2, "threads": 1, "load": 0.0}
    text = page.write_page({"rows": {"row": row}, "machine": machine, "command": "make chaos", "benchmark": "chaos"})
    assert "1 of 2" in text and "- trial 1: exit 1" in text and "NOT NOTICED" in text
