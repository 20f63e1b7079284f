"""A row of the scoreboard, and how its trials are run: side by side, each in a folder of its own, and only once."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SKIPPED = "skipped: "  # a trial that can't be made on this machine answers with this and the reason


@dataclass(frozen=True)
class Counted:
    """The result of a trial that is many: what happened ("" if all held), how many were tried, how many held."""

    answer: str
    tried: int = 1
    held: int = 0


Held = Callable[[Path], str | Counted]  # an empty folder -> "" if the trial held, otherwise what happened, in words


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        name: says what is done; the same on every run.
        run: does it.
        part: the kind of trial within the row, which the scoreboard counts apart.
    """

    name: str
    run: Held
    part: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the scoreboard.

    Args:
        about: what is done and what must hold, for docs/reliability.md.
        trials: those of this row.
        sabotage: what is broken on purpose, in words.
        sabotaged: the trials with that broken: the row must notice.
        prepare: makes what the trials begin with.
    """

    name: str
    title: str
    about: str
    trials: list[Trial]
    sabotage: str = ""
    sabotaged: list[Trial] = field(default_factory=list)
    prepare: Callable[[], None] = lambda: None


class Results:
    """The results of trials in a file of JSON lines, one a trial: what was interrupted goes on with the rest."""

    def __init__(self, file: Path, tree: str) -> None:
        self.file, self.tree = file, tree

    def read(self) -> dict[tuple[str, str], dict[str, Any]]:
        """{(row, trial): result} of this version of the code."""
        if not self.file.exists():
            return {}
        found = {}
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                result = json.loads(line)
            except ValueError:  # the line that a kill has torn
                continue
            if result["tree"] == self.tree:
                found[result["row"], result["trial"]] = result
        return found

    def add(self, row: str, trial: Trial, found: Counted, seconds: float) -> None:
        content = {"tree": self.tree, "row": row, "trial": trial.name, "part": trial.part, "answer": found.answer,
                   "tried": found.tried, "held": found.held, "seconds": round(seconds, 2)}  # fmt: skip
        with self.file.open("a", encoding="utf-8") as file:  # one write, which other processes don't tear
            file.write(json.dumps(content) + "\n")


def run_trials(row: str, trials: Iterable[Trial], results: Results, work: Path, jobs: int) -> None:
    """Run those of the trials that have no result yet, in `jobs` forked processes."""
    known = results.read()
    left = [trial for trial in trials if (row, trial.name) not in known]
    workers = []
    sys.stdout.flush()
    for number in range(min(jobs, len(left))):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                for trial in left[number::jobs]:
                    run_trial(row, trial, results, work / f"{row}-{number}")
                code = 0
            finally:
                os._exit(code)
        workers.append(pid)
    for pid in workers:
        os.waitpid(pid, 0)


def run_trial(row: str, trial: Trial, results: Results, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        found = trial.run(folder)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(found, str):
        is_skipped = found.startswith(SKIPPED)
        found = Counted(found[:500], 0 if is_skipped else 1, 0 if found else 1)
    results.add(row, trial, found, time.monotonic() - start)
    answer = found.answer
    mark = "skipped" if answer.startswith(SKIPPED) else "NOT HELD" if answer else "held"
    sys.stderr.write(f"{row}: {trial.name}: {mark}{f': {answer[:300]}' if answer else ''}\n")
    shutil.rmtree(folder, ignore_errors=True)
