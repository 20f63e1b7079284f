"""Trainings are killed, stopped, damaged and starved on purpose: what is lost, and what goes unnoticed.

    make chaos                                         the short form
    make chaos CHAOS=full                              all trials
    make chaos CHAOS=full ARGS="--rows kills damage"   only these rows
    python benchmarks/chaos.py --full --rows cost --before DIR    the cost against another checkout

Prints a scoreboard, and writes benchmarks/results/chaos.json and docs/reliability.md; rows that are not asked for keep
their figures. What was interrupted goes on with the trials that have no result yet, as long as the code is the same.
Each row is also run with something broken on purpose, which it must notice. The exit code is 1 if a trial did not hold
or a row did not notice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import measuring
from measuring import ROOT, note
from trials import programs
from trials.programs import SetUpError
from trials.row import SKIPPED, Results, Row, run_trials

ROWS = ("kills", "resume", "damage", "saved", "signals", "lost", "disk", "changed", "inputs", "hostile", "fuzz")
CODE = ("src", "recipes", "conf")  # what is tried
SHORT = ROWS[:8]  # the others are tests, which CI runs anyway
# of a trial whose process was ended from outside
NO_RESULT = {"answer": "no result", "tried": 1, "held": 0, "seconds": 0.0}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--full", action="store_true", help="all trials; otherwise the short form")
    add("--rows", nargs="+", choices=[*ROWS, "cost"], help="only these rows")
    add("--before", type=Path, help="for the row cost: a checkout of the version to compare with")
    add("--pairs", type=int, default=10, help="for the row cost: pairs of trainings")
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trials side by side; by default one a core")
    add("--work", type=Path, default=ROOT / "build" / "chaos", help="the folder of what the trials leave")
    add("--page", action="store_true", help="only write docs/reliability.md again, from the figures that there are")
    add("--again", action="store_true", help="forget the results of earlier trials")
    add("--out", type=Path, help="by default benchmarks/results/chaos.json, and docs/reliability.md with it")
    options = parser.parse_args()
    options.rows = [] if options.page else options.rows or list(ROWS if options.full else SHORT)
    if "cost" in options.rows and options.before is None:
        parser.error("--rows cost: needs --before DIR")
    return options


def fingerprint(*names: str) -> str:
    """Of the code in these folders of the repository."""
    digest = hashlib.sha256()
    places = [ROOT / name for name in names]
    for path in sorted(path for place in places for path in place.rglob("*") if path.suffix in (".py", ".yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def main() -> int:
    options = parse()
    load = measuring.check_load()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    programs.prepare(work / "cache")
    out = options.out or measuring.RESULTS / "chaos.json"
    content = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"benchmark": "chaos", "rows": {}}
    code, tree = fingerprint(*CODE), fingerprint(*CODE, "benchmarks/trials", "tests")
    results = Results(work / f"trials-{'full' if options.full else 'short'}.jsonl", tree)
    if options.again:
        results.file.unlink(missing_ok=True)
    measured = {}
    for row in build_rows(options, work / tree):
        note(f"{row.name}: {len(row.trials)} trials")
        row.prepare()
        run_trials(row.name, [*row.trials, *row.sabotaged], results, work, options.jobs)
        measured[row.name] = summarise(row, results) | {"form": "full" if options.full else "short", "code": code}
    from trials import cost, page

    rows = content["rows"] | measured
    content["rows"] = {name: rows[name] for name in ROWS if name in rows}
    if options.page:
        write(out, content, options.out is None)
        return 0
    if "cost" in options.rows:
        command = measuring.command_line(directories=("--before", "--work"))
        content["cost"] = cost.measure(options.before, ROOT, options.pairs, work)
        content["cost"] |= {"pairs": options.pairs, "command": command}
    content["command"] = "make chaos CHAOS=full" if options.full else "make chaos"
    content["machine"] = measuring.describe_machine(1, load)
    printed = page.scoreboard(measured)
    print("\n".join(filter(None, [printed, page.cost_lines(content.get("cost")) if "cost" in options.rows else ""])))
    for name, row in measured.items():
        for failure in row["failures"]:
            print(f"not held: {name}: {failure['trial']}: {failure['answer']}")
    write(out, content, options.out is None)
    return 0 if all(is_good(row) for row in measured.values()) else 1


def build_rows(options: argparse.Namespace, references_folder: Path) -> list[Row]:
    """The rows that were asked for, in their order, with the imports done."""
    asked = [name for name in ROWS if name in options.rows]
    if not asked:
        return []
    start = time.monotonic()
    programs.import_all()
    from trials import changed, counted, damage, disk, kills, lost, material, references, resume, saved, signals

    kinds = material.write_all(references_folder / "data")
    undisturbed = references.References(references_folder, kinds)
    modules = {
        "kills": kills, "resume": resume, "damage": damage, "saved": saved, "signals": signals, "lost": lost,
        "disk": disk, "changed": changed,
    }  # fmt: skip
    note(f"imports: {time.monotonic() - start:.0f} s")
    found = {name: modules[name].build(undisturbed, options.full) for name in asked if name in modules}
    found |= {row.name: row for row in counted.build_all() if row.name in asked}
    return [found[name] for name in asked if name in found]


def summarise(row: Row, results: Results) -> dict[str, Any]:
    """The figures of a row from the results of its trials."""
    known = results.read()
    found, broken = (
        [known.get((row.name, trial.name), NO_RESULT | {"trial": trial.name, "part": trial.part}) for trial in trials]
        for trials in (row.trials, row.sabotaged)
    )
    parts: dict[str, list[int]] = {}
    for one in found:
        part = parts.setdefault(one["part"], [0, 0])
        part[0] += one["held"]
        part[1] += one["tried"]
    failures = [one for one in found if one["answer"] and not one["answer"].startswith(SKIPPED)]
    return {
        "title": row.title,
        "about": row.about,
        "tried": sum(one["tried"] for one in found),
        "held": sum(one["held"] for one in found),
        "skipped": sum(one["answer"].startswith(SKIPPED) for one in found),
        "parts": parts,
        "failures": [{"trial": one["trial"], "answer": _without_places(one["answer"])} for one in failures[:10]],
        "sabotage": {"what": row.sabotage, "noticed": all(map(is_noticed, broken))} if broken else None,
        "seconds": sum(one["seconds"] for one in found),
    }


def _without_places(answer: str) -> str:
    """An answer without the folders of this machine, which are nobody else's."""
    return re.sub(r"/\S+/(recipes|runs)/", r"\1/", answer)


def is_noticed(result: dict[str, Any]) -> bool:
    """Whether a sabotaged trial failed, by the sabotage and not because that could not be made."""
    return bool(result["answer"]) and result["answer"] != "no result" and SetUpError.__name__ not in result["answer"]


def is_good(row: dict[str, Any]) -> bool:
    return row["held"] == row["tried"] and (row["sabotage"] is None or row["sabotage"]["noticed"])


def write(out: Path, content: dict[str, Any], with_page: bool) -> None:
    from trials import page

    from voicecommand import files

    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(out, measuring.rounded(content))
    if with_page:
        (ROOT / "docs" / "reliability.md").write_text(page.write_page(content), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
