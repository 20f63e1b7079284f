"""Inference on the processor or GPU, `voicecommand.load(DIR)` against `pipeline("text-classification")`.

    python benchmarks/inference.py --run runs/commands/bert-full-s42-...
    python benchmarks/inference.py                          trains a model for 20 steps first

The same weights, texts and threads in one process. Latency: one text at a time, ours and the pipeline in turn.
Throughput: the whole test split in batches of 32, several rounds in turn. Both must agree on the labels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
from measuring import ROOT, format_spread, note, ratios, spread

from voicecommand.compare.tables import markdown_table
from voicecommand.run.processes import count_cores

NAMES = {"ours": "voicecommand.load", "pipeline": "pipeline"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a trained run of a network; without it one is made")
    parser.add_argument("--path", help="texts from test.jsonl of this directory instead of data=commands")
    parser.add_argument("--texts", type=int, default=300, help="texts for the latency")
    parser.add_argument("--rounds", type=int, default=5, help="of the throughput")
    parser.add_argument("--batch-size", type=int, default=32, help="of the throughput")
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--out", type=Path, default=measuring.RESULTS / "inference.json")
    options = parser.parse_args()
    measuring.use_checkout()
    load = measuring.check_load()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory(prefix="voicecommand-benchmark-") as scratch:
        figures = measure(options, options.run or train_quickly(Path(scratch)))
    content = {
        "benchmark": "inference",
        "command": measuring.command_line(),
        "data": Path(options.path).resolve().name if options.path else "commands",
        "run": options.run.resolve().name if options.run else "20 steps of model=bert",
        "batch_size": options.batch_size,
        "machine": measuring.describe_machine(options.threads, load),
        **figures,
    }
    printed = report(content)
    print(printed)
    measuring.write_results(options.out, content, printed)
    return 0


def train_quickly(scratch: Path) -> Path:
    """A run of 20 steps: as good as any for timing."""
    note("no --run: training model=bert for 20 steps")
    words = [sys.executable, str(ROOT / "recipes" / "train.py"), "model=bert", "data=commands", f"runs={scratch}"]
    words += ["training.max_steps=20", "training.disable_tqdm=true"]
    done = subprocess.run(words, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"the training failed (exit {done.returncode}):\n{done.stdout[-4000:]}")
    return next((scratch / "commands").glob("*-s*-*"))


def measure(options: argparse.Namespace, run: Path) -> dict[str, Any]:
    import torch
    from transformers import pipeline

    import voicecommand

    torch.set_num_threads(options.threads)
    texts = measuring.load_text_rows(options.path)["test"]["text"][:]
    model = voicecommand.load(run)
    model.answerer.batch_size = options.batch_size
    stock = pipeline("text-classification", model=str(run / "model"), device=model.model.device)
    torch.set_num_threads(options.threads)  # whatever loading did
    one = {"ours": lambda text: model.predict([text]), "pipeline": lambda text: stock([text])}
    every = {
        "ours": lambda: [answer["label"] for answer in model.predict(texts)],
        "pipeline": lambda: [answer["label"] for answer in stock(texts, batch_size=options.batch_size)],
    }
    labels = {name: predict() for name, predict in every.items()}  # warms up both
    same = statistics.mean(a == b for a, b in zip(labels["ours"], labels["pipeline"], strict=True))
    spaced = texts[:: max(1, len(texts) // options.texts)][: options.texts]
    milliseconds = measure_latency(one, spaced)
    rates = measure_throughput(every, len(texts), options.rounds)
    return {
        "texts": len(texts),
        "same_labels": same,
        "latency_ms": {name: latency(values) for name, values in milliseconds.items()},
        "latency_ratio": ratios(*(by_block(milliseconds[name]) for name in ("ours", "pipeline"))),
        "texts_per_second": {name: spread(values) for name, values in rates.items()},
        "throughput_ratio": ratios(rates["ours"], rates["pipeline"]),
    }


def measure_latency(one: dict[str, Callable[[str], Any]], texts: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each text, one at a time; who goes first alternates."""
    times: dict[str, list[float]] = {name: [] for name in one}
    for number, text in enumerate(texts):
        for name in list(one) if number % 2 else reversed(list(one)):
            start = time.perf_counter()
            one[name](text)
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def measure_throughput(every: dict[str, Callable[[], Any]], count: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in every}
    for number in range(rounds):
        for name in list(every) if number % 2 else reversed(list(every)):
            start = time.perf_counter()
            every[name]()
            rates[name].append(count / (time.perf_counter() - start))
    return rates


def latency(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {"median": statistics.median(ordered), "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]}


def by_block(milliseconds: list[float], blocks: int = 5) -> list[float]:
    """Medians of consecutive blocks, for a ratio with a spread."""
    size = max(1, len(milliseconds) // blocks)
    return [
        statistics.median(milliseconds[i : i + size]) for i in range(0, size * min(blocks, len(milliseconds)), size)
    ]


def report(content: dict[str, Any]) -> str:
    rows = []
    for name, label in NAMES.items():
        figures = content["latency_ms"][name]
        rows.append(
            [
                label,
                f"{figures['median']:.1f}",
                f"{figures['p95']:.1f}",
                format_spread(content["texts_per_second"][name], 0),
            ]
        )
    header = ["", "one text, median ms", "p95 ms", f"texts/s, batches of {content['batch_size']}"]
    return "\n".join(
        [
            f"{content['data']}, {content['texts']} texts, {content['run']}",
            measuring.machine_line(content["machine"]),
            "",
            markdown_table(header, rows),
            "",
            f"ours / pipeline: latency {format_spread(content['latency_ratio'])}, throughput"
            f" {format_spread(content['throughput_ratio'])}; the same label for {100 * content['same_labels']:.1f} %",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
