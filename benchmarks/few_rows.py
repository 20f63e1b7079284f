"""Accuracy on test after training on few rows of each label: `model=bert` against the estimators.

    python benchmarks/few_rows.py --path DIR
    python benchmarks/few_rows.py --path DIR --methods bert --examples 10 --draws 2

--path is the directory of data=banking77. Draw i is the same for every method, and its smaller samples lie within its
greater ones. Each method trains with the settings that `python recipes/train.py` has for so many rows, without a
validation split, so that nothing is chosen by looking at results; its recipe was chosen on other data sets. Every cell
(method, examples a label, draw) is written to benchmarks/results/few_rows.json as soon as it is measured, and is not
measured again unless its settings have changed, so the program can be stopped and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
from measuring import ROOT, note

from voicecommand.compare import leaderboard, learning_curve
from voicecommand.compare.tables import markdown_table
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True)
class Method:
    """What is trained: overrides of recipes/train.py, the examples a label, and the number of draws."""

    overrides: tuple[str, ...]
    examples: tuple[int, ...]
    draws: int


METHODS = {
    "tfidf_svm": Method(("model=tfidf_svm",), (1, 2, 5, 10, 20, 50), 10),
    "bert_svm": Method(("model=bert_svm",), (1, 2, 5, 10, 20, 50), 10),
    "bert": Method(("model=bert",), (1, 5, 10, 20, 50), 5),
    "bert lora": Method(("model=bert", "tuning=lora"), (1, 5, 10, 50), 5),
}
# Raised by one when a change of the code, not of a setting, may change what bert gives: all is measured again.
RECIPE = 1
QUIET = (
    "training.report_to=none",
    "training.disable_tqdm=true",
    "training.save_strategy=no",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "early_stopping=null",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--path", required=True, help="the directory of data=banking77")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--examples", nargs="+", type=int, help="only these numbers of examples a label")
    parser.add_argument("--draws", type=int, help="at most so many draws of each method")
    parser.add_argument("--threads", type=int, help="torch threads; by default one for each core")
    parser.add_argument("--out", type=Path, default=measuring.RESULTS / "few_rows.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "few_rows.png")
    options = parser.parse_args()
    measuring.use_checkout()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    cells = json.loads(options.out.read_text(encoding="utf-8"))["cells"] if options.out.is_file() else []
    try:
        for cell in plan(options):
            known = next((own for own in cells if own.items() >= cell.items()), None)
            if known is None:
                measured = cell | measure(cell, options)
                cells = [own for own in cells if any(own[key] != cell[key] for key in KEYS)] + [measured]
                note(f"{cell['method']}, {cell['examples']} a label, draw {cell['draw']}: {measured['accuracy']:.4f}")
                write(cells, options)
    except InputError as error:
        note(f"error: {error}")
        return 2
    print(write(cells, options))
    return 0


KEYS = ("method", "examples", "draw")


def plan(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells to measure, each with a digest of its settings; the cheapest ones first."""
    cells = []
    for name in options.methods:
        method = METHODS[name]
        settings = digest(method.overrides, options.path)
        for examples in method.examples:
            if options.examples is None or examples in options.examples:
                draws = method.draws if options.draws is None else min(method.draws, options.draws)
                cells += [{"method": name, "examples": examples, "draw": i, "settings": settings} for i in range(draws)]
    return sorted(cells, key=lambda cell: (cell["examples"], cell["draw"]))


def digest(overrides: Sequence[str], path: str) -> str:
    """A digest of all settings of a method that can change a result, without those of the data."""
    from voicecommand.config import identity

    kept = {**identity.settings(compose(overrides, path)), "data": None, "recipe": RECIPE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def compose(overrides: Sequence[str], path: str) -> Any:
    from voicecommand.config import program

    quiet = () if any("svm" in override for override in overrides) else QUIET
    return program.compose("train", ["data=banking77", f"data.path={json.dumps(path)}", *overrides, *quiet])


def draw_rows(train: Dataset, examples: int, draw: int) -> Dataset:
    """So many rows of each label; those of a smaller number are among those of a greater one."""
    order = np.random.default_rng([0, draw]).permutation(len(train))
    labels = np.array(train["label"][:])[order]
    chosen = np.concatenate([order[labels == name][:examples] for name in np.unique(labels)])
    return train.select(np.sort(chosen))


def measure(cell: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy on test, optimizer steps and seconds of one training."""
    from voicecommand.config import objects
    from voicecommand.run import processes
    from voicecommand.tasks.base import NetworkTask
    from voicecommand.tasks.predicting import Answerer
    from voicecommand.training import fit

    config = compose(METHODS[cell["method"]].overrides, options.path)
    processes.set_threads(options.threads)
    fit.seed_everything(config.seed)
    task = objects.build(config.model)
    dataset: DatasetDict = objects.load_data(config, task.columns.needed)
    train = draw_rows(dataset["train"], cell["examples"], cell["draw"])
    vocabulary = task.learn(train)
    processor = task.load_processor(vocabulary)
    encoded = task.encode(train, processor, vocabulary)
    start = time.perf_counter()
    if isinstance(task, NetworkTask):
        model, steps, precision = train_network(config, task, processor, vocabulary, encoded)
        answerer = Answerer(task, model, processor, vocabulary, precision=precision)
    else:
        model, steps = task.fit(task.load_model(vocabulary, processor), encoded, vocabulary, config.seed), 0
        answerer = Answerer(task, model, processor, vocabulary)
    seconds = time.perf_counter() - start
    answers = answerer.answer(dataset["test"].remove_columns("label")).columns["label"]
    right = np.array(answers) == np.array(dataset["test"]["label"][:])
    return {"accuracy": float(right.mean()), "rows": len(train), "steps": steps, "seconds": round(seconds, 1)}


def train_network(config: Any, task: Any, processor: Any, vocabulary: Any, encoded: Any) -> tuple[Any, int, str]:
    """(network, optimizer steps, precision) after the training that recipes/train.py does without validation."""
    from voicecommand.config import arguments, objects
    from voicecommand.run import device
    from voicecommand.training import fit, length

    tuning = objects.build(config.tuning)
    model = task.load_model(vocabulary, processor)
    with tempfile.TemporaryDirectory() as directory:
        args = arguments.build_training_arguments(config, Path(directory), task.objectives)
        args, _ = length.follow_data(args, None, len(encoded), 0)
        (stage,) = task.stages(encoded)
        trainer = fit.build_trainer(
            task, task.prepare(model, tuning, encoded, processor), processor, vocabulary, stage,
            args=args, tuning=tuning, seed=config.seed, unprepared=model,
        )  # fmt: skip
        trainer.train()
    return trainer.model, trainer.state.global_step, device.name_precision(args.bf16, args.fp16)


def summarise(cells: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Method -> its points: mean accuracy over the draws with its interval, the worst and the best draw, and the mean
    difference to the better of the estimators on the same draws."""
    found: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault((cell["method"], cell["examples"]), {})[cell["draw"]] = cell
    summary: dict[str, list[dict[str, Any]]] = {}
    for (name, examples), draws in sorted(
        found.items(), key=lambda item: (list(METHODS).index(item[0][0]), item[0][1])
    ):
        values = [cell["accuracy"] for cell in draws.values()]
        point = {"examples": examples, "draws": len(values), "min": min(values), "max": max(values)}
        mean = leaderboard.mean_over_seeds(values)
        point |= {"value": mean["mean"], "low": mean["low"], "high": mean["high"]}
        point |= {key: float(np.mean([cell[key] for cell in draws.values()])) for key in ("steps", "seconds")}
        plain = [found.get((other, examples), {}) for other in ("tfidf_svm", "bert_svm")]
        if name.startswith("bert") and name != "bert_svm" and all(draws.keys() <= own.keys() for own in plain):
            best = max(plain, key=lambda own: float(np.mean([own[draw]["accuracy"] for draw in draws])))
            pairs = [(draws[draw]["accuracy"], best[draw]["accuracy"]) for draw in draws]
            point["to_best_estimator"] = measuring.paired_difference(*zip(*pairs, strict=True))
        summary.setdefault(name, []).append(point)
    return summary


def write(cells: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Write the results and the picture; the report as Markdown."""
    summary = summarise(cells)
    machine = measuring.describe_machine(options.threads or 0, measuring.check_load())
    content = {
        "benchmark": "few_rows",
        "command": "python benchmarks/few_rows.py --path DIR",
        "processor": machine["processor"],
        "methods": summary,
        "cells": sorted(cells, key=lambda cell: [str(cell[key]).zfill(3) for key in KEYS]),
    }
    printed = report(summary)
    measuring.write_results(options.out, content, printed)
    options.figure.write_bytes(
        learning_curve.curves_png(summary, "mean of the draws; bars: the worst to the best draw")
    )
    return printed


def report(summary: dict[str, list[dict[str, Any]]]) -> str:
    header = ["model", "examples a label", "draws", "test accuracy %", "95 % interval", "draws from, to",
              "points above the better estimator", "steps"]  # fmt: skip
    rows = []
    for name, points in summary.items():
        for point in points:
            gain = point.get("to_best_estimator")
            rows.append(
                [
                    name, point["examples"], point["draws"], f"{100 * point['value']:.1f}", span(point),
                    f"{100 * point['min']:.1f}, {100 * point['max']:.1f}",
                    "-" if gain is None else f"{100 * gain['mean']:+.1f} ({span(gain, signed=True)})",
                    f"{point['steps']:.0f}" if point["steps"] else "-",
                ]
            )  # fmt: skip
    return markdown_table(header, rows)


def span(figure: dict[str, Any], signed: bool = False) -> str:
    """The interval in points; "-" of a single draw."""
    if figure.get("low") is None:
        return "-"
    sign = "+" if signed else ""
    return f"{100 * figure['low']:{sign}.1f} to {100 * figure['high']:{sign}.1f}"


if __name__ == "__main__":
    sys.exit(main())
