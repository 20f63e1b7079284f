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
from voicecommand.run import records

NOISE_DB = (10, 0)  # signal-to-noise ratios in the table of noise


class RunRow(TypedDict):
    """The figures of one run for a row. Test figures are None if the run was not evaluated on test."""

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
    validation_accuracy: float
    test_accuracy: float | None
    test_macro_f1: float | None
    test_reads: int


class TestedRows(TypedDict):
    """The rows of the test split in predictions.parquet, in order of `id`; each list is [n]."""

    id: list[str]
    label: list[str]
    prediction: list[str]
    group: list[str | None]


class TestFigures(Interval):
    """Means over the seeds on the test split; `low` and `high` are of the mean accuracy, `crossed` over labels too."""

    accuracy: float
    method: str
    note: str | None
    crossed: Interval | None
    seed_min: float
    seed_max: float
    macro_f1: float


class NoiseShare(Share):
    """Accuracy in one kind of noise at one signal-to-noise ratio."""

    kind: str
    db: float


class NoiseFigures(TypedDict):
    """Accuracy on the test split, clean and in noise, and the score of robustness.json: means over the seeds."""

    clean: Share
    noise: list[NoiseShare]
    score: Share
    score_over: list[str]


class Row(TypedDict):
    """One configuration: means over its seeds, and its runs."""

    data: str
    model: str
    tuning: str | None
    seeds: list[int]
    test_reads: int
    test: TestFigures | None
    robustness: NoiseFigures | None
    validation_accuracy: float
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
    is_tested = all(run["test_accuracy"] is not None for run in runs)
    return {
        "data": first["data"],
        "model": first["model"],
        "tuning": first["tuning"],
        "seeds": [run["seed"] for run in runs],
        "test_reads": sum(run["test_reads"] for run in runs),
        "test": test_figures(directories, runs) if is_tested else None,
        "robustness": noise_figures(directories, first["data"]),
        "validation_accuracy": statistics.mean(run["validation_accuracy"] for run in runs),
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
        "validation_accuracy": (splits.get("validation") or splits[CROSS_VALIDATION])["accuracy"]["value"],
        "test_accuracy": tested["accuracy"]["value"] if tested else None,
        "test_macro_f1": tested["macro_f1"]["value"] if tested else None,
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
    """Means over the seeds, their spread, and an interval of the mean accuracy; all runs must be evaluated on test.

    Raises:
        InputError: the runs were not evaluated on the same test examples.
    """
    accuracies = [run["test_accuracy"] or 0.0 for run in runs]
    places = [test_directory(d, run["data"]) or d for d, run in zip(directories, runs, strict=True)]
    figure = read_json(places[0] / "metrics.json")["splits"]["test"]["accuracy"]
    tests = [read_tested_rows(place) for place in places]
    for place, test in zip(places, tests, strict=True):
        if test["id"] != tests[0]["id"]:
            raise InputError(f"{place}: not the test examples of {places[0]}; evaluate both on the same data")
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
        "macro_f1": statistics.mean(run["test_macro_f1"] or 0.0 for run in runs),
    }


def read_tested_rows(directory: Path) -> TestedRows:
    """The test rows of predictions.parquet, in order of id."""
    import pyarrow.parquet

    columns = ["split", "id", "label", "prediction", "group"]
    rows = pyarrow.parquet.read_table(directory / "predictions.parquet", columns=columns).to_pylist()
    rows = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["id"])
    return {
        "id": [row["id"] for row in rows],
        "label": [row["label"] for row in rows],
        "prediction": [row["prediction"] for row in rows],
        "group": [row["group"] for row in rows],
    }


def mean_interval(seeds: Sequence[TestedRows], method: str) -> tuple[float, float, str, str | None]:
    """The 95 % interval of the mean accuracy over seeds on the same examples: (low, high, method, note).

    With groups it is a bootstrap over groups, in which a drawn group has its examples under all seeds; `method` is that
    of one run. Without groups it is Wilson's, as if the mean were the share of one run; this is a little too wide.
    """
    right = mean_right(seeds)
    groups = seeds[0]["group"]
    if all(group is None for group in groups):
        low, high = intervals.wilson(round(float(right.sum())), len(right))
        return low, high, "Wilson on the mean of the seeds", None
    figure = intervals.ratio_with_interval(right, None, groups, None)
    return figure["low"], figure["high"], f"{method}, all seeds together", figure["note"]


def mean_right(seeds: Sequence[TestedRows]) -> NDArray[np.float64]:
    """For each example the share of the seeds that have it right, float64 [n]."""
    right = [np.array(seed["label"]) == np.array(seed["prediction"]) for seed in seeds]
    shares: NDArray[np.float64] = np.mean(right, axis=0)
    return shares


def crossed_interval(seeds: Sequence[TestedRows]) -> Interval:
    """Like `mean_interval`, over groups and labels (`intervals.crossed_bootstrap`)."""
    groups = np.array([str(group) for group in seeds[0]["group"]])
    low, high = intervals.crossed_bootstrap(mean_right(seeds), groups, seeds[0]["label"])
    return {"low": low, "high": high}


def noise_figures(directories: Sequence[Path], data: str) -> NoiseFigures | None:
    """Accuracy on the test split in noise, means over the seeds; None unless all runs have a robustness.json.

    `noise` has a row for each kind and each ratio of NOISE_DB. Ends of intervals are means over the seeds.
    """
    measured = [records.find_places(run, "robustness", data, "test", "robustness.json") for run in directories]
    if not all(measured):
        return None
    found = [read_json(places[-1] / "robustness.json") for places in measured]
    by_seed = [
        {(row["kind"], row["level"]): row["accuracy"] for row in run["conditions"] if row["unit"] in ("", "dB")}
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
