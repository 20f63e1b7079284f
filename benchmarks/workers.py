"""The parent's side of arms.py: arms as processes that take turns, and the commands to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import note


class Worker:
    """A process of arms.py: commands in, answers out, one JSON line each."""

    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("arms.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "TOKENIZERS_PARALLELISM": "false"},
        )
        self.tell(**job, spawned=time.monotonic())

    def tell(self, **command: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.name} ended early:\n{self.errors.read()[-4000:]}")
        return json.loads(line)

    def ask(self, **command: Any) -> dict[str, Any]:
        self.tell(**command)
        return self.receive()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                pipe.close()


def end(workers: dict[str, Worker]) -> None:
    for worker in workers.values():
        worker.end()


def measure_rounds(arms: dict[str, dict[str, Any]], rounds: int) -> dict[str, dict[str, Any]]:
    """Arms (jobs with `steps` of a round) train in turn: start-up, one measurement a round each, and peak memory.

    An arm that `may_fail` and does is left out.
    """
    measured: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    try:
        for key, job in arms.items():
            settings = job["settings"] | {"max_steps": job["warmup"] + rounds * job["steps"]}
            workers[key] = Worker(key, {**job, "kind": "train", "settings": settings})
            try:
                measured[key] = {**workers[key].receive(), "rounds": []}
            except SystemExit as problem:
                if not job.get("may_fail"):
                    raise
                note(f"{problem}\n{key}: left out")
                continue
            note(f"{key}: warm; first step after {measured[key]['startup_seconds']:.1f} s")
        keys = list(measured)
        for number in range(rounds):
            shift = number % len(keys)  # no arm is always the first
            for key in keys[shift:] + keys[:shift]:
                one = workers[key].ask(steps=arms[key]["steps"])
                measured[key]["rounds"].append(one)
                note(f"round {number + 1} of {rounds}: {key} {one['examples'] / one['seconds']:.2f} examples/s")
        for key in keys:
            measured[key] |= workers[key].ask(stop=True)
    finally:
        end(workers)
    return measured


def measure_seeds(
    arms: dict[str, dict[str, Any]], seeds: list[int]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """A whole run of every arm (a job) from every seed: what each scored, and which rows the arms were given."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    workers: dict[str, Worker] = {}
    try:
        for name, job in arms.items():
            workers[name] = Worker(f"accuracy {name}", {**job, "kind": "accuracy"})
        subsets = [worker.receive()["subsets"] for worker in workers.values()]
        if any(subset != subsets[0] for subset in subsets):
            raise SystemExit(f"the arms have not the same rows: {subsets}")
        for seed in seeds:
            for name, worker in workers.items():
                runs[name].append(worker.ask(seed=seed))
                one = runs[name][-1]
                scores = " ".join(f"{split} {score['accuracy']:.4f}" for split, score in one["scores"].items())
                note(f"seed {seed}: {name} {scores} after {one['train_seconds']:.0f} s of training")
    finally:
        end(workers)
    return runs, subsets[0]


def bare_settings(training: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The training settings of a recipe, less what evaluates, saves or shows; one batch a step."""
    left_out = (
        "eval_",
        "save_",
        "load_best",
        "metric_for",
        "greater_is",
        "num_train_epochs",
        "min_steps",
        "max_epochs",
    )
    return {k: v for k, v in training.items() if not k.startswith(left_out)} | {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
