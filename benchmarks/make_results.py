"""docs/results.md, the README's table and the experiments' expected lines, from finished run directories.

    python recipes/train.py --multirun experiment=banking77_bert_full seed=1,2,3 data.path=DIR
    python recipes/evaluate.py run=RUN data=banking77 data.path=DIR split=test     once for each run
    python recipes/robustness.py run=RUN data=keywords data.path=DIR split=test noise=FILE     for the table in noise
    python benchmarks/make_results.py

A run belongs to the experiment of conf/experiment/ whose configuration, with the run's seed, path and directory of the
checkpoint, gives the run's name. Written are benchmarks/results/experiments.json, and what stands between the markers
`<!-- results -->` and `<!-- speed -->` in docs/results.md and `<!-- results -->` in the README: all other text
stays as it is. An experiment without a run here keeps the figures that experiments.json has. What
benchmarks/speech_protocols.py printed stands after the tables.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measuring
from measuring import ROOT, note, table

NOT_YET = "Not measured yet: `make results` writes this table from finished runs."
TEXT_SETS = ("commands", "banking77", "snips")
DATA_SETS = (*TEXT_SETS, "keywords", "digits", "synthesised")
ABOUT = {
    "synthesised": "Trained on synthesised speech of the six keywords and on no recording, tested on every recording of"
    " keywords. `python benchmarks/make_synthesised.py --path DIR --out DIR` makes the directory.",
}
NOISE_DB = (10, 0)  # of the robustness table
CROSSED = "over labels too"  # the column of `crossed`


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where the run directories are")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    measuring.use_checkout()
    root: Path = options.root
    results = root / "benchmarks" / "results"
    rows = load_previous(results / "experiments.json")
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        runs = find_runs(path.stem, options.runs)
        if runs:
            rows[path.stem] = make_row(path.stem, runs)
            write_expected(root / "conf" / "experiment" / path.name, expected_line(rows[path.stem]))
        else:
            note(f"{path.stem}: {'kept as it was' if path.stem in rows else 'no finished run'}")
    if rows:
        content = {"benchmark": "experiments", "rows": [rows[name] for name in sorted(rows)]}
        measuring.write_results(results / "experiments.json", content, results_section(list(rows.values())))
    page = root / "docs" / "results.md"
    text = page.read_text(encoding="utf-8")
    sections = [results_section(list(rows.values())) if rows else NOT_YET, protocols_section(results)]
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
        if checkpoint := given_checkpoint(config):
            overrides.append(f"model.checkpoint={json.dumps(checkpoint)}")
        if identity.run_directory(program.compose("train", overrides)).name == directory.name:
            found[config["seed"]] = directory
    return [found[seed] for seed in sorted(found)]


def given_checkpoint(config: dict[str, Any]) -> str | None:
    """The directory that a run took its weights from; None for a hub id or a package, which an experiment names."""
    checkpoint = config["model"].get("checkpoint")
    return checkpoint if checkpoint and (Path(checkpoint).is_absolute() or Path(checkpoint).is_dir()) else None


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def make_row(experiment: str, directories: Sequence[Path]) -> dict[str, Any]:
    """One row of the table from the runs of one experiment, one a seed."""
    runs = [read_run(directory) for directory in directories]
    first = runs[0]
    tested = [run for run in runs if run["test_accuracy"] is not None]
    seeds = [run["seed"] for run in runs]
    path = "" if first["data"] == "commands" else " data.path=DIR"
    checkpoint = " model.checkpoint=DIR" if any(run["checkpoint"] == "DIR" for run in runs) else ""
    row = {
        "experiment": experiment,
        "data": first["data"],
        "model": first["model"],
        "tuning": first["tuning"],
        "train_command": f"python recipes/train.py --multirun experiment={experiment}"
        f" seed={','.join(map(str, seeds))}{path}{checkpoint}{' model.teacher=RUN' if first['teacher'] else ''}",
        "evaluate_command": f"python recipes/evaluate.py run=RUN data={first['data']}{path} split=test",
        "seeds": seeds,
        "test_reads": sum(run["test_reads"] for run in runs),
        "test": test_figures(directories, runs) if len(tested) == len(runs) else None,
        "robustness": robustness_figures(directories, first["data"], path),
        "validation_accuracy": statistics.mean(run["validation_accuracy"] for run in runs),
        "parameters": first["parameters"],
        "trainable_parameters": first["trainable_parameters"],
        "train_seconds": statistics.mean(run["train_seconds"] for run in runs),
        "machines": sorted({run["machine"] for run in runs}),
        "runs": runs,
    }
    return measuring.rounded(row)


def read_run(directory: Path) -> dict[str, Any]:
    """What the table needs of one run; the test figures come from its evaluation directory."""
    import yaml

    record, metrics = read_json(directory / "run.json"), read_json(directory / "metrics.json")
    test = test_directory(directory, record["data"]["name"])
    accuracy = read_json(test / "metrics.json")["splits"]["test"] if test else None
    config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
    noisy = list(directory.glob("robustness/*-test/robustness.json"))
    hardware = record["hardware"]
    where = ", ".join(hardware["gpus"]) if hardware.get("gpus") else hardware["processor"]
    return {
        "run": f"{directory.parent.name}/{directory.name}",
        "seed": record["seed"],
        "data": record["data"]["name"],
        "data_fingerprint": record["data"].get("fingerprint"),
        "model": record["model"]["name"],
        "tuning": record["model"]["tuning"],
        "checkpoint": "DIR" if given_checkpoint(config) else config["model"].get("checkpoint"),
        "teacher": "/".join(Path(teacher).parts[-2:]) if (teacher := config["model"].get("teacher")) else None,
        "parameters": record["model"]["parameters"],
        "trainable_parameters": record["model"]["trainable_parameters"],
        "precision": record.get("precision"),
        "steps": record["training"].get("steps"),
        "train_seconds": record["training"]["train_seconds"],
        "machine": f"{where}, {hardware['cores']} cores, {record['threads']} threads",
        "versions": record["versions"],
        "validation_accuracy": metrics["splits"]["validation"]["accuracy"]["value"],
        "test_accuracy": accuracy["accuracy"]["value"] if accuracy else None,
        "test_macro_f1": accuracy["macro_f1"]["value"] if accuracy else None,
        "test_reads": len([*directory.glob("evaluations/*-test/metrics.json"), *noisy]) + ("test" in metrics["splits"]),
    }


def test_directory(directory: Path, data: str) -> Path | None:
    """Where the run's test figures are: its evaluation, or the run itself where it was a single one."""
    evaluated = directory / "evaluations" / f"{data}-test"
    if (evaluated / "metrics.json").is_file():
        return evaluated
    return directory if "test" in read_json(directory / "metrics.json")["splits"] else None


def test_figures(directories: Sequence[Path], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, the spread over them, and an interval for the mean accuracy."""
    accuracies = [run["test_accuracy"] for run in runs]
    places = [test_directory(d, run["data"]) for d, run in zip(directories, runs, strict=True)]
    figure = read_json(places[0] / "metrics.json")["splits"]["test"]["accuracy"]  # type: ignore[operator]
    tests = [read_test(place) for place in places if place]
    low, high, method, note = mean_interval(tests, figure["method"])
    return {
        "accuracy": statistics.mean(accuracies),
        "low": low,
        "high": high,
        "method": method,
        "note": note,
        "crossed": crossed_interval(tests) if "(speaker)" in method else None,
        "seed_min": min(accuracies),
        "seed_max": max(accuracies),
        "macro_f1": statistics.mean(run["test_macro_f1"] for run in runs),
    }


def read_test(directory: Path) -> dict[str, list[Any]]:
    """Columns id, label, prediction and group of the test rows of predictions.parquet, in order of id."""
    import pyarrow.parquet

    columns = ["split", "id", "label", "prediction", "group"]
    rows = pyarrow.parquet.read_table(directory / "predictions.parquet", columns=columns).to_pylist()
    rows = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["id"])
    return {name: [row[name] for row in rows] for name in columns}


def mean_interval(seeds: Sequence[dict[str, list[Any]]], method: str) -> tuple[float, float, str, str | None]:
    """95 % interval of the mean accuracy over seeds on the same examples, how it was made, and what to know of it.

    With groups: bootstrap over groups, a group drawn with its examples under all seeds. Without: Wilson, as if
    the mean were the share of one run, which is a little wide.
    """
    from voicecommand.evaluation import intervals

    if any(seed["id"] != seeds[0]["id"] for seed in seeds):
        raise SystemExit("the runs of an experiment were not evaluated on the same test examples")
    right = mean_right(seeds)
    groups = seeds[0]["group"]
    if all(group is None for group in groups):
        low, high = intervals.wilson(round(float(right.sum())), len(right))
        return low, high, "Wilson on the mean of the seeds", None
    figure = intervals.mean_with_interval(right, groups, None)
    return figure["low"], figure["high"], f"{method}, all seeds together", figure["note"]


def mean_right(seeds: Sequence[dict[str, list[Any]]]) -> Any:
    """The share of the seeds that have each example right, float [n]."""
    import numpy as np

    return np.mean([np.array(seed["label"]) == np.array(seed["prediction"]) for seed in seeds], axis=0)


def crossed_interval(seeds: Sequence[dict[str, list[Any]]]) -> dict[str, float]:
    """As `mean_interval`, over groups and labels."""
    from voicecommand.evaluation import intervals

    low, high = intervals.crossed_bootstrap(mean_right(seeds), seeds[0]["group"], seeds[0]["label"])
    return {"low": low, "high": high}


def robustness_figures(directories: Sequence[Path], data: str, path: str) -> dict[str, Any] | None:
    """Accuracy on the test split in noise, means over the seeds; None unless recipes/robustness.py ran for each.

    `noise` has a row for each kind and ratio of NOISE_DB. An interval is the mean of the seeds' own.
    """
    found = [read_json(directory / "robustness" / f"{data}-test" / "robustness.json") for directory in directories]
    if not all(found):
        return None

    def mean(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {name: statistics.mean(figure[name] for figure in figures) for name in ("value", "low", "high")}

    by_seed = [
        {(row["kind"], row["level"]): row["accuracy"] for row in run["conditions"] if row["unit"] in ("", "dB")}
        for run in found
    ]
    common = [key for key in by_seed[0] if all(key in rows for rows in by_seed) and key[1] in NOISE_DB]
    return {
        "command": f"python recipes/robustness.py run=RUN data={data}{path} split=test noise=FILE",
        "clean": mean([rows["clean", None] for rows in by_seed]),
        "noise": [{"kind": key[0], "db": key[1], **mean([rows[key] for rows in by_seed])} for key in common],
        "score": mean([run["score"] for run in found]),
        "score_over": found[0]["score_over"],
    }


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def interval(test: dict[str, Any] | None) -> str:
    return "-" if test is None else f"{percent(test['low'])} to {percent(test['high'])}"


def accuracy(row: dict[str, Any]) -> float:
    return row["test"]["accuracy"] if row["test"] else -1.0


def by_data(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each data set, the built-in one first, the best model first."""
    sets = sorted({row["data"] for row in rows}, key=lambda data: [*DATA_SETS, data].index(data))
    return {data: sorted((r for r in rows if r["data"] == data), key=accuracy, reverse=True) for data in sets}


def results_section(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each data set, then what the columns mean and the commands."""
    parts = []
    for data, chosen in by_data(rows).items():
        header = ["model", "tuning", "test accuracy %", "95 % interval"]
        header += [CROSSED] * any(crossed(row) for row in chosen)
        header += ["seeds from, to", "macro F1 %", "validation %", "trainable parameters", "seconds", "test read"]
        taught: dict[str, list] = {row["runs"][0]["teacher"]: [] for row in chosen if row["runs"][0].get("teacher")}
        alone: list[list] = []
        for row in chosen:
            taught.get(row["runs"][0].get("teacher"), alone).append(result_cells(row))
        parts += [f"## {data}", ABOUT.get(data, ""), table(header, alone)]
        for teacher, cells in taught.items():
            parts += [f"Taught by the run {teacher}, whose weights are pretrained; one teacher for all seeds:"]
            parts += [table(header, cells)]
        methods = sorted({row["test"]["method"] for row in chosen if row["test"]})
        said = f"Interval of the mean over seeds: {'; '.join(methods)}." if methods else ""
        parts += [said + say_notes(chosen), robustness_table(chosen)]
    machines = sorted({machine for row in rows for machine in row["machines"]})
    parts.append(
        "Accuracy, macro F1 and seconds are means over the seeds; seconds are those of one training on"
        f" {' or '.join(machines)}. `test read`: how often the test split was predicted, over all seeds; in noise"
        " counts as once."
    )
    trained = [row["train_command"] for chosen in by_data(rows).values() for row in chosen]
    evaluated = [row["evaluate_command"] for chosen in by_data(rows).values() for row in chosen]
    evaluated += [row["robustness"]["command"] for row in rows if row.get("robustness")]
    commands = "\n".join([*trained, "", *dict.fromkeys(evaluated)])
    parts.append(f"Made by these, the last ones once for each run:\n\n```text\n{commands}\n```")
    return "\n\n".join(part for part in parts if part)


def crossed(row: dict[str, Any]) -> dict[str, float] | None:
    """The interval over speakers and labels; None where there are no speakers."""
    found: dict[str, float] | None = (row["test"] or {}).get("crossed")
    return found


def result_cells(row: dict[str, Any]) -> list[Any]:
    """A row of the table of its data set."""
    test = row["test"] or {}
    return [
        row["model"],
        row["tuning"] or "-",
        percent(test.get("accuracy")),
        interval(row["test"]),
        *([interval(crossed(row))] if crossed(row) else []),
        f"{percent(test.get('seed_min'))}, {percent(test.get('seed_max'))}" if test else "-",
        percent(test.get("macro_f1")),
        percent(row["validation_accuracy"]),
        f"{row['trainable_parameters']:,}",
        f"{row['train_seconds']:.3g}",
        row["test_reads"],
    ]


def protocols_section(results: Path) -> str:
    """What benchmarks/speech_protocols.py printed."""
    path = results / "speech_protocols.md"
    return f"## Speech, by other protocols\n\n{path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def say_notes(rows: Sequence[dict[str, Any]]) -> str:
    """What to know of the intervals, with the rows that it concerns unless that is all of them."""
    concerned: dict[str, list[str]] = {}
    measured = [row for row in rows if row["test"]]
    for row in measured:
        for each in filter(None, (row["test"]["note"] or "").split("; ")):
            name = row["model"] + (f" {row['tuning']}" if row["tuning"] else "")
            concerned.setdefault(each, []).append(name)
    said = []
    for each, names in concerned.items():
        said.append(each if len(names) == len(measured) else f"{each} ({', '.join(names)})")
    return f" Note: {'; '.join(said)}." if said else ""


def robustness_table(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracy in noise of the rows that were measured in it; in recorded noise where there is some."""
    noisy = [row for row in rows if row.get("robustness")]
    if not noisy:
        return ""
    kinds = list(dict.fromkeys(each["kind"] for row in noisy for each in row["robustness"]["noise"]))
    kinds = [kind for kind in kinds if kind.endswith("(recorded)")] or kinds[:1]
    header = ["in noise, test accuracy %", "tuning", "clean", *(f"{k}, {db} dB" for k in kinds for db in NOISE_DB)]
    lines = []
    for row in noisy:
        figures = {(each["kind"], each["db"]): each for each in row["robustness"]["noise"]}
        cells = [with_interval(figures.get((kind, db))) for kind in kinds for db in NOISE_DB]
        clean, score = with_interval(row["robustness"]["clean"]), with_interval(row["robustness"]["score"])
        lines.append([row["model"], row["tuning"] or "-", clean, *cells, score])
    over = ", ".join(noisy[0]["robustness"]["score_over"])
    said = f"Score: area under accuracy from 0 to 20 dB, mean of {over} noise. Intervals: means of the seeds' own."
    return f"{table([*header, 'score'], lines)}\n\n{said}"


def with_interval(figure: dict[str, Any] | None) -> str:
    return "-" if figure is None else f"{percent(figure['value'])} ({interval(figure)})"


def readme_table(rows: Sequence[dict[str, Any]]) -> str:
    """Model x data: mean test accuracy with its interval, a table for what is written and one for what is spoken."""
    measured = [row for row in rows if row["test"]]
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
            lines.append([named, *(f"{percent(accuracy(r))} ({interval(r['test'])})" if r else "-" for r in found)])
        parts.append(table(["model", *sets], lines))
    return "\n\n".join(parts)


def speed_section(results: Path) -> str:
    """What the speed benchmarks printed."""
    printed = sorted(path for path in results.glob("*.md") if path.stem not in ("experiments", "speech_protocols"))
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
        f"test accuracy {percent(test['accuracy'])} % ({interval(test)}), mean of {count} seeds;"
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
