"""docs/results.md, the README's table and the experiments' expected lines, from finished run directories.

    python recipes/train.py --multirun experiment=banking77_bert_full seed=1,2,3 data.path=DIR
    python recipes/evaluate.py run=RUN data=banking77 data.path=DIR split=test     once for each run
    python recipes/robustness.py run=RUN data=keywords data.path=DIR split=test noise=FILE     for the table in noise
    python benchmarks/make_results.py

A run belongs to the experiment of conf/experiment/ whose configuration, with the run's seed, path and directory of the
checkpoint, gives the run's name. Written are benchmarks/results/experiments.json, and what stands between the markers
`<!-- results -->` and `<!-- speed -->` in docs/results.md and `<!-- results -->` in the README: all other text
stays as it is. An experiment without a run here keeps the figures that experiments.json has. What
benchmarks/few_rows.py and benchmarks/speech_protocols.py printed stands after the tables.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measuring
from measuring import ROOT, note

from voicecommand.compare import leaderboard, leaderboard_tables
from voicecommand.compare.leaderboard import read_json
from voicecommand.compare.leaderboard_tables import quality
from voicecommand.compare.tables import interval, markdown_table, points
from voicecommand.errors import InputError
from voicecommand.evaluation.words import name_in_words

NOT_YET = "Not measured yet: `make results` writes this table from finished runs."
TEXT_SETS = ("commands", "banking77", "snips")
DATA_SETS = (*TEXT_SETS, "keywords", "digits", "synthesised")
NOT_SPEED = ("experiments", "few_rows", "speech_protocols")  # results with a place of their own
ABOUT = {
    "synthesised": "Trained on synthesised speech of the six keywords and on no recording, tested on every recording of"
    " keywords. `python benchmarks/make_synthesised.py --path DIR --out DIR` makes the directory.",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where the run directories are")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    root: Path = options.root
    results = root / "benchmarks" / "results"
    rows = load_previous(results / "experiments.json")
    experiments = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    try:
        found = find_rows([path.stem for path in experiments], options.runs)
    except InputError as error:
        note(f"error: {error}")
        return 2
    for path in experiments:
        if path.stem in found:
            write_expected(root / "conf" / "experiment" / path.name, expected_line(found[path.stem]))
        else:
            note(f"{path.stem}: {'kept as it was' if path.stem in rows else 'no finished run'}")
    rows |= found
    if rows:
        content = {"benchmark": "experiments", "rows": [rows[name] for name in sorted(rows)]}
        measuring.write_results(results / "experiments.json", content, results_section(list(rows.values())))
    page = root / "docs" / "results.md"
    text = page.read_text(encoding="utf-8")
    first = results_section(list(rows.values())) if rows else NOT_YET
    sections = [first, few_rows_section(results), protocols_section(results)]
    text = fill(text, "results", "\n\n".join(filter(None, sections)))
    page.write_text(fill(text, "speed", speed_section(results)), encoding="utf-8")
    readme = root / "README.md"
    readme_text = fill(readme.read_text(encoding="utf-8"), "results", readme_table(list(rows.values())))
    readme.write_text(readme_text, encoding="utf-8")
    print(f"{len(rows)} rows in {page.relative_to(root)} and {readme.relative_to(root)}")
    return 0


def load_previous(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    return {row["experiment"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def find_rows(experiments: Sequence[str], runs: Path) -> dict[str, dict[str, Any]]:
    """The rows of the experiments that have finished runs."""
    found = {experiment: find_runs(experiment, runs) for experiment in experiments}
    return {experiment: make_row(experiment, directories) for experiment, directories in found.items() if directories}


def find_runs(experiment: str, runs: Path) -> list[Path]:
    """The finished run directories of an experiment, in order of their seeds."""
    import yaml

    from voicecommand.config import identity, program

    data = experiment.split("_")[0]
    found = {}
    for directory in sorted((runs / data).glob("*-s*-*")):
        if read_json(directory / "status.json").get("state") != "finished" or ".old-" in directory.name:
            continue
        config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
        overrides = [f"experiment={experiment}", f"seed={config['seed']}"]
        if "path" in config["data"]:
            overrides.append(f"data.path={json.dumps(str(config['data']['path']))}")
        teacher = config["model"].get("teacher")
        if (teacher is not None) != experiment.endswith("_taught"):
            continue  # no way to compose the one with the other's settings
        if teacher:
            overrides.append(f"model.teacher={json.dumps(teacher)}")
        if config["model"]["_target_"] != program.compose("train", overrides).model._target_:
            continue  # another model, which may not even have the same settings
        if checkpoint := leaderboard.given_checkpoint(config):
            overrides.append(f"model.checkpoint={json.dumps(checkpoint)}")
        if identity.run_directory(program.compose("train", overrides)).name == directory.name:
            found[config["seed"]] = directory
    return [found[seed] for seed in sorted(found)]


def make_row(experiment: str, directories: Sequence[Path]) -> dict[str, Any]:
    """The row of an experiment's runs, one a seed, with the commands that make it."""
    row = leaderboard.make_row(directories)
    first = row["runs"][0]
    path = "" if first["data"] == "commands" else " data.path=DIR"
    checkpoint = " model.checkpoint=DIR" if any(run["checkpoint"] == "DIR" for run in row["runs"]) else ""
    seeds = ",".join(map(str, row["seeds"]))
    noise = row["robustness"] and {
        "command": f"python recipes/robustness.py run=RUN data={first['data']}{path} split=test noise=FILE",
        **row["robustness"],
    }
    content = {
        "experiment": experiment,
        "data": row["data"],
        "model": row["model"],
        "tuning": row["tuning"],
        "train_command": f"python recipes/train.py --multirun experiment={experiment} seed={seeds}{path}{checkpoint}"
        f"{' model.teacher=RUN' if first['teacher'] else ''}",
        "evaluate_command": f"python recipes/evaluate.py run=RUN data={first['data']}{path} split=test",
    }
    return measuring.rounded(content | row | {"robustness": noise})


def by_data(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each data set, the built-in one first, the best model first."""
    sets = sorted({row["data"] for row in rows}, key=lambda data: [*DATA_SETS, data].index(data))
    return {data: sorted((r for r in rows if r["data"] == data), key=quality, reverse=True) for data in sets}


def results_section(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each data set, then what the columns mean and the commands."""
    parts = []
    for data, chosen in by_data(rows).items():
        parts += [f"## {data}", ABOUT.get(data, ""), leaderboard_tables.format_rows(chosen)]
    machines = sorted({machine for row in rows for machine in row["machines"]})
    parts.append(
        "Figures and seconds are means over the seeds; seconds are those of one training on"
        f" {' or '.join(machines)}. `test read`: how often the test split was predicted, over all seeds; in noise"
        " counts as once."
    )
    trained = [row["train_command"] for chosen in by_data(rows).values() for row in chosen]
    evaluated = [row["evaluate_command"] for chosen in by_data(rows).values() for row in chosen]
    evaluated += [row["robustness"]["command"] for row in rows if row.get("robustness")]
    commands = "\n".join([*trained, "", *dict.fromkeys(evaluated)])
    parts.append(f"Made by these, the last ones once for each run:\n\n```text\n{commands}\n```")
    return "\n\n".join(part for part in parts if part)


def few_rows_section(results: Path) -> str:
    """What benchmarks/few_rows.py printed, with its picture."""
    path = results / "few_rows.md"
    if not path.is_file():
        return ""
    about = (
        "Trained on so many rows of each of 77 labels of banking77, drawn from train, and tested on its whole test"
        " split: with the settings that `recipes/train.py` has for so many rows, without a validation split. Every"
        " method has the same draws; where it has fewer, the first of them. The interval of the mean over draws is"
        " Student's; `points above` compares with the better of the two estimators on the same draws. How the recipe"
        " was chosen is said below."
    )
    command = f"`{read_json(path.with_suffix('.json'))['command']}`"
    picture = "![Test accuracy by examples a label](few_rows.png)"
    return "\n\n".join(["## Few rows", about, path.read_text(encoding="utf-8").strip(), picture, command])


def protocols_section(results: Path) -> str:
    """What benchmarks/speech_protocols.py printed."""
    path = results / "speech_protocols.md"
    return f"## Speech, by other protocols\n\n{path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def readme_table(rows: Sequence[dict[str, Any]]) -> str:
    """Model x data: mean test accuracy with its interval, a table for what is written and one for what is spoken."""
    measured = [row for row in rows if row["test"] and row["metric"] == "accuracy"]
    if not measured:
        return NOT_YET
    seeds = sorted({len(row["seeds"]) for row in measured})
    parts = [f"Test accuracy in percent, mean of {' or '.join(map(str, seeds))} seeds, with its 95 % interval:"]
    for is_text in (True, False):
        chosen = [row for row in measured if (row["data"] in TEXT_SETS) == is_text]
        if not chosen:
            continue
        sets = by_data(chosen)
        cells = {(row["model"], row["tuning"], row["data"]): row for row in chosen}
        lines = []
        for model, tuning in dict.fromkeys((row["model"], row["tuning"]) for each in sets.values() for row in each):
            found = [cells.get((model, tuning, data)) for data in sets]
            named = f"`{model}`" if tuning is None else f"`{model}`, `tuning={tuning}`"
            lines.append(
                [named, *(f"{points(r['test']['value'])} ({interval(r['test'])})" if r else "-" for r in found)]
            )
        parts.append(markdown_table(["model", *sets], lines))
    return "\n\n".join(parts)


def speed_section(results: Path) -> str:
    """What the speed benchmarks printed."""
    printed = sorted(path for path in results.glob("*.md") if path.stem not in NOT_SPEED)
    if not printed:
        return "Not measured yet: `make benchmark`, then `make results`, write it."
    parts = []
    for path in printed:
        command = read_json(path.with_suffix(".json")).get("command", "")
        parts += [f"### {path.stem}", f"`{command}`", path.read_text(encoding="utf-8").strip()]
    return "\n\n".join(parts)


def expected_line(row: dict[str, Any]) -> str:
    test = row["test"]
    if test is None:
        return "not measured yet"
    count = len(row["seeds"])
    return (
        f"test {name_in_words(row['metric'])} {points(test['value'])} % ({interval(test)}), mean of {count} seeds;"
        f" {row['train_seconds']:.3g} s a training on {' or '.join(row['machines'])}"
    )


def write_expected(path: Path, line: str) -> None:
    """Put `line` after `# expected:` of a yaml."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^# expected:.*$", lambda _: f"# expected: {line}", text, count=1), encoding="utf-8")


def fill(text: str, name: str, content: str) -> str:
    """`text` with `content` between `<!-- name -->` and `<!-- /name -->`; the markers must be there."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the markers {start} and {end} are missing: put them where the table belongs")
    return f"{before}{start}\n{content.strip()}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
