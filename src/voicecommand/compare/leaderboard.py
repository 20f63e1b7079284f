"""One row for all runs of one configuration, with a run for each seed: means, their spread over seeds, intervals.

Everything is read from the files of finished runs: run.json, config.yaml and metrics.json, the evaluation on the test
split with its predictions.parquet, and robustness.json if recipes/robustness.py was run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from voicecommand import files
from voicecommand.columns import CROSS_VALIDATION
from voicecommand.compare.tables import Interval, Share
from voicecommand.errors import InputError
from voicecommand.evaluation import intervals
from voicecommand.evaluation.alignment import count_errors
from voicecommand.evaluation.normalise import normalise
from voicecommand.run import records

NOISE_DB = (10, 0)  # signal-to-noise ratios in the table of noise
# The figure of a row, and those that stand beside it.
BESIDE = {"accuracy": ("macro_f1",), "wer": ("cer", "sentence_error_rate")}
TRANSCRIPTS = ("reference_transcript", "transcript")  # columns of predictions.parquet


class RunRow(TypedDict):
    """The figures of one run for a row. Test figures are None if the run was not evaluated on test.

    `metric` is accuracy of a task with labels, otherwise the task's objective; `validation` and `test` are its values,
    and `beside` further figures of test. `language` is that of transcripts.
    """

    run: str
    seed: int
    data: str
    data_fingerprint: str | None
    model: str
    tuning: str | None
    checkpoint: str | None
    teacher: str | None
    parameters: int
    trainable_parameters: int
    precision: str | None
    steps: int | None
    train_seconds: float
    machine: str
    versions: dict[str, str]
    language: str | None
    metric: str
    greater_is_better: bool
    validation: float
    test: float | None
    beside: dict[str, float]
    test_reads: int


class TestedRows(TypedDict):
    """The rows of the test split in predictions.parquet, in order of `id`; each list and array is [n].

    `counts` over `totals` is the figure: right answers of one each, or wrong words of all words.
    """

    id: list[str]
    label: list[str | None]
    group: list[str | None]
    counts: NDArray[np.float64]
    totals: NDArray[np.float64]


class TestFigures(Interval):
    """Means over the seeds on the test split; `low` and `high` are of `value`, `crossed` over labels too."""

    value: float
    method: str
    note: str | None
    crossed: Interval | None
    seed_min: float
    seed_max: float
    beside: dict[str, float]


class NoiseShare(Share):
    """The figure in one kind of noise at one signal-to-noise ratio."""

    kind: str
    db: float


class NoiseFigures(TypedDict):
    """The figure on the test split, clean and in noise, and the score of robustness.json: means over the seeds."""

    clean: Share
    noise: list[NoiseShare]
    score: Share
    score_over: list[str]


class Row(TypedDict):
    """One configuration: means over its seeds, and its runs."""

    data: str
    model: str
    tuning: str | None
    metric: str
    greater_is_better: bool
    seeds: list[int]
    test_reads: int
    test: TestFigures | None
    robustness: NoiseFigures | None
    validation: float
    parameters: int
    trainable_parameters: int
    train_seconds: float
    machines: list[str]
    runs: list[RunRow]


class SeedMean(TypedDict):
    """The mean of one number for each seed, with its 95 % interval if there are at least two seeds."""

    mean: float
    low: float | None
    high: float | None


def mean_over_seeds(values: Sequence[float]) -> SeedMean:
    """The mean and its 95 % interval by Student's t with n - 1 degrees of freedom; one value has no interval."""
    from scipy.stats import t

    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    quantile = float(t.ppf((1 + intervals.LEVEL) / 2, count - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def make_row(directories: Sequence[Path]) -> Row:
    """The row of the runs in `directories`: one configuration, with a run for each seed.

    Raises:
        InputError: the runs were not evaluated on the same test examples, or a JSON file is damaged.
    """
    runs = [read_run(directory) for directory in directories]
    first = runs[0]
    is_tested = all(run["test"] is not None for run in runs)
    return {
        "data": first["data"],
        "model": first["model"],
        "tuning": first["tuning"],
        "metric": first["metric"],
        "greater_is_better": first["greater_is_better"],
        "seeds": [run["seed"] for run in runs],
        "test_reads": sum(run["test_reads"] for run in runs),
        "test": test_figures(directories, runs) if is_tested else None,
        "robustness": noise_figures(directories, first["data"], first["metric"]),
        "validation": statistics.mean(run["validation"] for run in runs),
        "parameters": first["parameters"],
        "trainable_parameters": first["trainable_parameters"],
        "train_seconds": statistics.mean(run["train_seconds"] for run in runs),
        "machines": sorted({run["machine"] for run in runs}),
        "runs": runs,
    }


def read_run(directory: Path) -> RunRow:
    """The figures of one run for a row; its test figures come from its evaluation directory.

    Raises:
        InputError: a record of the run is not as a run writes it.
    """
    with records.reading(directory):
        return _read_run(directory)


def _read_run(directory: Path) -> RunRow:
    import yaml

    record, metrics = read_json(directory / "run.json"), read_json(directory / "metrics.json")
    test = test_directory(directory, record["data"]["name"])
    tested, splits = read_json(test / "metrics.json")["splits"]["test"] if test else None, metrics["splits"]
    files.check_yaml(directory / "config.yaml")
    config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
    evaluated = records.find_places(directory, "evaluations", None, "test", "metrics.json")
    noisy = records.find_places(directory, "robustness", None, "test", "robustness.json")
    validation = splits.get("validation") or splits[CROSS_VALIDATION]
    metric, greater_is_better = "accuracy", True
    if metric not in validation:
        metric, greater_is_better = metrics["objective"]["metric"], metrics["objective"]["greater_is_better"]
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
        "language": config["model"].get("language"),
        "metric": metric,
        "greater_is_better": greater_is_better,
        "validation": validation[metric]["value"],
        "test": tested[metric]["value"] if tested else None,
        "beside": {name: tested[name]["value"] for name in BESIDE.get(metric, ())} if tested else {},
        "test_reads": len(evaluated) + len(noisy) + ("test" in splits),
    }


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of a run, {} if there is none; InputError if it is damaged."""
    content: dict[str, Any] = records.read_json([path.parent], path.name) or {}
    return content


def given_checkpoint(config: dict[str, Any]) -> str | None:
    """The directory with the pretrained weights of a run; None for a hub id or a package, which its yaml names."""
    checkpoint: str | None = config["model"].get("checkpoint")
    return checkpoint if checkpoint and (Path(checkpoint).is_absolute() or Path(checkpoint).is_dir()) else None


def test_directory(directory: Path, data: str) -> Path | None:
    """The directory with the run's test figures: its newest evaluation, or the run itself if that reports test."""
    if evaluated := records.find_places(directory, "evaluations", data, "test", "metrics.json"):
        return evaluated[-1]
    return directory if "test" in read_json(directory / "metrics.json")["splits"] else None


def test_figures(directories: Sequence[Path], runs: Sequence[RunRow]) -> TestFigures:
    """Means over the seeds, their spread, and an interval of the mean; all runs must be evaluated on test.

    Raises:
        InputError: the runs were not evaluated on the same test examples, or by other figures than those of BESIDE.
    """
    values, metric = [run["test"] or 0.0 for run in runs], runs[0]["metric"]
    places = [test_directory(d, run["data"]) or d for d, run in zip(directories, runs, strict=True)]
    figure = read_json(places[0] / "metrics.json")["splits"]["test"][metric]
    tests = [read_tested_rows(place, metric, run["language"]) for place, run in zip(places, runs, strict=True)]
    for place, test in zip(places, tests, strict=True):
        if test["id"] != tests[0]["id"]:
            raise InputError(f"{place}: not the test examples of {places[0]}; evaluate both on the same data")
    low, high, method, note = mean_interval(tests, figure["method"])
    has_labels = all(label is not None for label in tests[0]["label"])
    return {
        "value": statistics.mean(values),
        "low": low,
        "high": high,
        "method": method,
        "note": note,
        "crossed": crossed_interval(tests) if "(speaker)" in method and has_labels else None,
        "seed_min": min(values),
        "seed_max": max(values),
        "beside": {name: statistics.mean(run["beside"][name] for run in runs) for name in runs[0]["beside"]},
    }


def read_tested_rows(directory: Path, metric: str, language: str | None) -> TestedRows:
    """The test rows of predictions.parquet, in order of id, with the counts and totals of the metric.

    Raises:
        InputError: a metric that is not in BESIDE.
    """
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(directory / "predictions.parquet").to_pylist()
    rows = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["id"])
    if metric == "accuracy":
        counts = np.array([float(row["label"] == row["prediction"]) for row in rows])
        totals = np.ones(len(rows))
    elif metric == "wer":
        pairs = ([normalise(row[name], language or "en") for row in rows] for name in TRANSCRIPTS)
        words = count_errors(*pairs).astype(np.float64)
        counts, totals = words[:, :3].sum(axis=1), words[:, 3]
    else:
        raise InputError(f"{directory}: has no row among others: {metric} is not one of {', '.join(BESIDE)}")
    return {
        "id": [row["id"] for row in rows],
        "label": [row.get("label") for row in rows],
        "group": [row["group"] for row in rows],
        "counts": counts,
        "totals": totals,
    }


def mean_interval(seeds: Sequence[TestedRows], method: str) -> tuple[float, float, str, str | None]:
    """The 95 % interval of the mean over seeds on the same examples: (low, high, method, note).

    With groups it is a bootstrap over groups, in which a drawn group has its examples under all seeds; `method` is that
    of one run. Without groups it is one over examples, or Wilson's of right and wrong answers, as if the mean were the
    share of one run; this is a little too wide.
    """
    counts, totals = mean_counts(seeds), seeds[0]["totals"]
    groups = seeds[0]["group"]
    if all(group is None for group in groups):
        if (totals == 1).all():
            low, high = intervals.wilson(round(float(counts.sum())), len(counts))
            return low, high, "Wilson on the mean of the seeds", None
        figure = intervals.ratio_with_interval(counts, totals, None, None)
    else:
        figure = intervals.ratio_with_interval(counts, totals, groups, None)
    return figure["low"], figure["high"], f"{method}, all seeds together", figure["note"]


def mean_counts(seeds: Sequence[TestedRows]) -> NDArray[np.float64]:
    """The mean of the counts over the seeds, float64 [n]; of labels the share of the seeds that have it right."""
    counts: NDArray[np.float64] = np.mean([seed["counts"] for seed in seeds], axis=0)
    return counts


def crossed_interval(seeds: Sequence[TestedRows]) -> Interval:
    """Like `mean_interval`, over groups and labels (`intervals.crossed_bootstrap`)."""
    groups, labels = (np.array([str(name) for name in names]) for names in (seeds[0]["group"], seeds[0]["label"]))
    low, high = intervals.crossed_bootstrap(mean_counts(seeds), groups, labels)
    return {"low": low, "high": high}


def noise_figures(directories: Sequence[Path], data: str, metric: str) -> NoiseFigures | None:
    """The figure on the test split in noise, means over the seeds; None unless all runs have a robustness.json.

    `noise` has a row for each kind and each ratio of NOISE_DB. Ends of intervals are means over the seeds.
    """
    measured = [records.find_places(run, "robustness", data, "test", "robustness.json") for run in directories]
    if not all(measured):
        return None
    found = [read_json(places[-1] / "robustness.json") for places in measured]
    by_seed = [
        {(row["kind"], row["level"]): row[metric] for row in run["conditions"] if row["unit"] in ("", "dB")}
        for run in found
    ]
    common = [key for key in by_seed[0] if all(key in rows for rows in by_seed) and key[1] in NOISE_DB]
    noise: list[NoiseShare] = []
    for kind, db in common:
        share = _mean_share([rows[kind, db] for rows in by_seed])
        noise.append({"kind": kind, "db": db, **share})
    return {
        "clean": _mean_share([rows["clean", None] for rows in by_seed]),
        "noise": noise,
        "score": _mean_share([run["score"] for run in found]),
        "score_over": found[0]["score_over"],
    }


def _mean_share(figures: Sequence[Share]) -> Share:
    return {
        "value": statistics.mean(figure["value"] for figure in figures),
        "low": statistics.mean(figure["low"] for figure in figures),
        "high": statistics.mean(figure["high"] for figure in figures),
    }
