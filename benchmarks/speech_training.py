"""Speed of training on short clips, ours against the stock Trainer, and what accuracy that costs.

    python benchmarks/speech_training.py                          made tones; Whisper tiny.en from the hub
    python benchmarks/speech_training.py --checkpoint DIR --path DIR     a saved Whisper, a folder data set
    python benchmarks/speech_training.py --accuracy --path DIR    accuracy instead: both ways on the same 200 clips
    python benchmarks/speech_training.py --parts bcresnet input   only some parts

Whisper: `stock` (transformers.Trainer; each file decoded by soundfile in the data set's __getitem__,
WhisperFeatureExtractor one example at a time padded to 30 s, WhisperForAudioClassification) against `ours` (audio
prepared once, AudioClassification with max_seconds=2, CommandTrainer) and ours with augment=light, as the recipe has
it. The same checkpoint, data, optimizer, learning rate, schedule, batch size, threads and log; nothing is evaluated or
saved in the timed steps. Each arm is a process of its own; they train one at a time and take turns every round, and
ratios are taken within a round. Rates are examples per second from a step's end to a step's end, loading included,
after a warm-up. Stock takes fewer steps a round, since it is slow. Without a checkpoint the network has random
weights, which is as fast.

BC-ResNet: width 1, augment=strong, clips of 1 s; features and augmentation are timed inside the steps. Input: clips a
CPU second, one thread. Memory: resident after an epoch over N and over 10 N clips. These three are of the processor.
On a GPU: rates and waits for data in fp32, bf16 and compiled.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
from measuring import format_spread, note, ratios, spread
from workers import Worker, bare_settings, has_gpu, measure_rounds, measure_seeds

from voicecommand.compare.tables import markdown_table
from voicecommand.run.processes import count_cores

PARTS = ("whisper", "bcresnet", "input", "memory", "gpu")
NAMES = {
    "stock": "stock, padded to 30 s",
    "ours": "ours, {:g} s",
    "light": "ours, {:g} s, augment=light",
}
WAYS = {
    "clips": "ours: audio.Clips into batches",
    "loader": "ours: the trainer's loader",
    "loader and draws": "ours: the same, drawing augment=strong",
    "extractor": "stock: WhisperFeatureExtractor",
    "decoding and extractor": "stock: soundfile and WhisperFeatureExtractor",
}
GOALS = {"whisper": 20.0, "share": 1 / 3, "input": 20_000, "memory": 1.1, "waiting": 0.05, "points": 1.0}
GPU_MODES = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16 compiled": ("bf16", True)}
PITCHES = (300, 420, 590, 830, 1160, 1620)  # Hz of the made labels


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--path", help="a folder data set, as data=folder reads it, for Whisper and BC-ResNet; by default made tones")
    add("--checkpoint", help="a saved Whisper or a hub id; by default that of model=whisper")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--rounds", type=int, default=3)
    add("--steps", type=int, default=10, help="optimizer steps of a round")
    add("--stock-steps", type=int, default=1, help="the same for the stock arm")
    add("--warmup", type=int, default=3, help="steps before the first round (stock: 1)")
    add("--batch-size", type=int, default=16, help="of Whisper")
    add("--max-seconds", type=int, default=2, help="of ours, for Whisper")
    add("--clips", type=int, default=500, help="N made clips; memory is measured for N and 10 N")
    add("--threads", type=int, default=count_cores(), help="torch threads of every arm")
    add("--device", choices=["auto", "cpu"], default="auto", help="auto takes a GPU where there is one")
    add("--precisions", nargs="+", choices=["fp32", "bf16"], help="of Whisper; by default fp32, and bf16 where native")
    add("--gpu-batch-size", type=int, default=128)
    add("--accuracy", action="store_true", help="instead of speed: accuracy of stock and ours after whole runs")
    add("--train-clips", type=int, default=200, help="of train, for --accuracy")
    add("--test-clips", type=int, default=200, help="of test, for --accuracy")
    add("--epochs", type=float, default=4, help="of the runs for --accuracy")
    add("--seeds", type=int, default=1, help="of the runs for --accuracy")
    add("--out", type=Path, help="by default benchmarks/results/speech_training.json (or speech_accuracy.json)")
    options = parser.parse_args(arguments)
    if options.path and not Path(options.path).is_dir():
        parser.error(f"--path {options.path}: no such folder")
    counts = ("rounds", "steps", "stock_steps", "warmup", "batch_size", "max_seconds", "clips", "threads")
    for name in (*counts, "gpu_batch_size", "train_clips", "test_clips", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: give at least 1")
    return options


def main() -> int:
    options = parse()
    measuring.use_checkout()
    from voicecommand.run import device

    load = measuring.check_load()
    if not options.precisions:
        options.precisions = ["fp32", "bf16"] if device.native_precision()[0] == "bf16" else ["fp32"]
    with tempfile.TemporaryDirectory(prefix="voicecommand-benchmark-") as folder:
        scratch = Path(folder)
        os.environ["HF_DATASETS_CACHE"] = str(scratch / "cache")  # the cache is removed with the folder
        job, checkpoint = common_job(options, scratch)
        if options.accuracy:
            name, measured = "speech_accuracy", measure_accuracy(options, job)
        else:
            name, measured = "speech_training", measure_speed(options, job, scratch)
    directories = ("--path", "--checkpoint") if Path(options.checkpoint or "").is_dir() else ("--path",)
    content = {
        "benchmark": name,
        "command": measuring.command_line(directories=directories),
        "data": data_name(options),
        "checkpoint": checkpoint,
        "machine": measuring.describe_machine(options.threads, load),
        "settings": {
            "batch_size": options.batch_size,
            "max_seconds": options.max_seconds,
            "training": job["settings"],
        },
        **measured,
    }
    printed = report_accuracy(content) if options.accuracy else report(content)
    print(printed)
    measuring.write_results(options.out or measuring.RESULTS / f"{name}.json", content, printed)
    return 0


def data_name(options: argparse.Namespace) -> str:
    return Path(options.path).resolve().name if options.path else "made tones"


# ---- what every arm is given ----


def common_job(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], str]:
    """The settings of model=whisper, less what evaluates, saves or shows; and what the checkpoint is."""
    whisper = compose("whisper")
    checkpoint, revision, what = find_checkpoint(options, whisper["model"], scratch)
    path = options.path
    if path is None:
        note("writing made tones")
        path = str(make_clips(scratch / "tones", options.clips))
    job = {
        "task": "audio",
        "path": path,
        "checkpoint": checkpoint,
        "revision": revision,
        "max_seconds": options.max_seconds,
        "threads": options.threads,
        "device": options.device,
        "precision": "fp32",
        "warmup": options.warmup,
        "scratch": str(scratch),
        "settings": audio_settings(whisper["training"], options.batch_size),
    }
    return job, what


def compose(model: str) -> dict[str, Any]:
    from voicecommand.config import objects, program

    return objects.plain(program.compose("train", [f"model={model}", "data=folder", "data.path=DIR"]))


def audio_settings(training: dict[str, Any], batch_size: int) -> dict[str, Any]:
    return bare_settings(training, batch_size) | {"per_device_eval_batch_size": batch_size}


def effects(model: str) -> dict[str, Any]:
    """The augmentation of the model's recipe, as arguments of `Augmentation`."""
    return {name: value for name, value in compose(model)["augment"].items() if name != "_target_"}


def find_checkpoint(options: argparse.Namespace, recipe: dict[str, Any], scratch: Path) -> tuple[str, str | None, str]:
    """(where the weights are, revision, what the results call them); random ones where the hub gives nothing."""
    if options.checkpoint and Path(options.checkpoint).is_dir():
        return options.checkpoint, None, Path(options.checkpoint).resolve().name
    checkpoint = options.checkpoint or recipe["checkpoint"]
    revision = recipe["revision"] if checkpoint == recipe["checkpoint"] else None
    is_wanted = options.accuracy or "whisper" in options.parts or ("gpu" in options.parts and has_gpu())
    if not is_wanted:
        return checkpoint, revision, "not needed"
    from huggingface_hub import snapshot_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each try
    wanted = ["config.json", "preprocessor_config.json", "model.safetensors"]
    for offline in (True, False):  # what is here already takes no network
        try:
            where = snapshot_download(checkpoint, revision=revision, allow_patterns=wanted, local_files_only=offline)
            return where, None, checkpoint
        except OSError as error:
            reason = type(error).__name__
    note(f"{checkpoint}: not found here nor on the hub ({reason})")
    if options.accuracy:
        raise SystemExit("--accuracy needs the weights: give --checkpoint DIR with a saved Whisper")
    return str(write_random_whisper(scratch / "whisper", "tiny")), None, "random weights, Whisper tiny's size"


def write_random_whisper(directory: Path, size: str) -> Path:
    """A Whisper encoder of that size (arXiv:2212.04356, table 1) with random weights and its feature extractor.

    In a process of its own, so that this one stays small.
    """
    layers, width, heads = {"tiny": (4, 384, 6), "base": (6, 512, 8)}[size]
    code = f"""
import transformers as t
config = t.WhisperConfig(d_model={width}, encoder_layers={layers}, encoder_attention_heads={heads},
                         encoder_ffn_dim={4 * width}, decoder_layers={layers}, decoder_attention_heads={heads},
                         decoder_ffn_dim={4 * width}, num_labels=2)
t.WhisperForAudioClassification(config).save_pretrained({str(directory)!r})
t.WhisperFeatureExtractor().save_pretrained({str(directory)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return directory


def make_clips(directory: Path, clips: int) -> Path:
    """A folder data set of tones of 1 s in noise: `clips` in train, a tenth of it in validation and in test."""
    import numpy as np

    from voicecommand.audio.clips import SAMPLING_RATE, write_wav

    times = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    least = 2 * len(PITCHES)
    for place, (split, count) in enumerate({"train": clips, "validation": clips // 10, "test": clips // 10}.items()):
        (directory / split).mkdir(parents=True)
        lines = ["file_name,label"]
        for number in range(max(count, least)):
            label = number % len(PITCHES)
            draws = np.random.default_rng((place, number))
            tone = np.sin(2 * np.pi * PITCHES[label] * draws.uniform(0.9, 1.1) * times)
            noise = draws.standard_normal(len(times), dtype=np.float32)
            waveform = draws.uniform(2_000, 15_000) * (tone + 0.2 * noise)
            write_wav(directory / split / f"{number}.wav", np.clip(waveform, -32_000, 32_000).astype(np.int16))
            lines.append(f"{number}.wav,tone {PITCHES[label]}")
        (directory / split / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


# ---- speed ----


def measure_speed(options: argparse.Namespace, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The chosen parts, one after another."""
    started = time.perf_counter()
    measured: dict[str, Any] = {}
    if "whisper" in options.parts:
        measured["whisper"] = measure_whisper(options, job)
    if "bcresnet" in options.parts:
        measured["bcresnet"] = measure_bcresnet(options, job)
    big, is_on_gpu = None, "gpu" in options.parts and has_gpu()
    if "memory" in options.parts or "input" in options.parts or is_on_gpu:
        note(f"writing {10 * options.clips:,} made clips")
        big = str(make_clips(scratch / "many", 10 * options.clips))
    if "memory" in options.parts:
        small = job["path"] if options.path is None else str(make_clips(scratch / "few", options.clips))
        measured["memory"] = measure_memory(job, [small, big])
    if "input" in options.parts:
        measured["input"] = measure_input(options, {**job, "path": big})
    if "gpu" in options.parts:
        measured["gpu"] = measure_gpu(options, {**job, "path": big}, scratch) if is_on_gpu else None
    return {**measured, "minutes": (time.perf_counter() - started) / 60}


def summarise_rounds(measured: dict[str, Any]) -> dict[str, Any]:
    """Rate, share of the time that a step waits for its batch, and peak memory of an arm."""
    rounds = measured["rounds"]
    return {
        "examples_per_second": spread([r["examples"] / r["seconds"] for r in rounds]),
        "waiting": spread([r["parts"]["waiting"] / r["seconds"] for r in rounds]),
        "peak_memory_mb": measured["peak_memory_mb"],
        "peak_gpu_memory_mb": measured["peak_gpu_memory_mb"],
    }


def measure_whisper(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    arms = {}
    light = effects("whisper")
    for precision in options.precisions:
        like = {**job, "precision": precision}
        arms[f"stock {precision}"] = {**like, "arm": "stock", "warmup": 1, "steps": options.stock_steps}
        arms[f"ours {precision}"] = {**like, "arm": "ours", "steps": options.steps}
        arms[f"light {precision}"] = {**like, "arm": "ours", "steps": options.steps, "augment": light}
    return summarise_whisper(measure_rounds(arms, options.rounds))


def summarise_whisper(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rates, and ratios to stock taken round by round: in like precision, and ours in bf16 against stock in fp32."""
    arms = {key: summarise_rounds(one) for key, one in measured.items()}
    comparisons = []
    for key, arm in arms.items():
        name, precision = key.split()
        for stock in dict.fromkeys((f"stock {precision}", "stock fp32")):
            if name != "stock" and stock in arms:
                rates = [one["examples_per_second"]["values"] for one in (arm, arms[stock])]
                memory = arm["peak_memory_mb"] / arms[stock]["peak_memory_mb"]
                comparisons.append({"arm": key, "stock": stock, "ratio": ratios(*rates), "memory_ratio": memory})
    return {"arms": arms, "comparisons": comparisons}


def small_job(job: dict[str, Any]) -> dict[str, Any]:
    """A BC-ResNet of width 1 as model=bcresnet trains it, on clips of 1 s, on the processor."""
    settings = audio_settings(compose("bcresnet")["training"], 32)
    own = {"arm": "bcresnet", "width": 1, "max_seconds": 1, "device": "cpu", "augment": effects("bcresnet")}
    return {**job, **own, "settings": settings}


def measure_bcresnet(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    arms = {"bcresnet fp32": {**small_job(job), "steps": options.steps}}
    return summarise_bcresnet(measure_rounds(arms, options.rounds)["bcresnet fp32"])


def summarise_bcresnet(measured: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a clip of the parts of a step, and the share that features and augmentation have in it."""
    rounds = measured["rounds"]

    def milliseconds(seconds: list[float]) -> dict[str, Any]:
        return spread([1000 * s / r["examples"] for s, r in zip(seconds, rounds, strict=True)])

    part = {name: [r["parts"][name] for r in rounds] for name in rounds[0]["parts"]}
    step = [r["seconds"] for r in rounds]
    apart = ("waiting", "features", "augmentation")
    both = [sum(times) for times in zip(part["features"], part["augmentation"], part["draws"], strict=True)]
    return {
        **summarise_rounds(measured),
        "milliseconds_a_clip": {
            "features": milliseconds(part["features"]),
            "augmentation": milliseconds(part["augmentation"]),
            "draws of augmentation": milliseconds(part["draws"]),
            "clips into batches": milliseconds(subtract(part["waiting"], part["draws"])),
            "network and optimizer": milliseconds(subtract(step, *(part[name] for name in apart))),
            "whole step": milliseconds(step),
        },
        "share": ratios(both, step),
    }  # fmt: skip


def subtract(whole: list[float], *parts: list[float]) -> list[float]:
    return [value - sum(taken) for value, *taken in zip(whole, *parts, strict=True)]


def measure_memory(job: dict[str, Any], paths: list[Any]) -> dict[str, Any]:
    """Resident memory after an epoch of a BC-ResNet over few and over ten times as many clips."""
    epochs = []
    for path in paths:
        job = small_job({**job, "path": path, "kind": "epoch"})
        job["settings"]["num_train_epochs"] = 1
        # first into the cache in a process of its own: preparing happens once, and is not what is measured
        for name in ("preparing", "epoch"):
            limited = job["settings"] | ({"max_steps": 1} if name == "preparing" else {})
            start = time.perf_counter()
            worker = Worker(name, {**job, "settings": limited})
            try:
                answered = worker.receive()
            finally:
                worker.end()
            seconds = time.perf_counter() - start
        epochs.append({**answered, "seconds": seconds})
        note(f"an epoch over {answered['clips']:,} clips: {answered['resident_mb']:.0f} MB resident")
    few, many = epochs
    return {"epochs": epochs, "ratio": many["resident_mb"] / few["resident_mb"]}


def measure_input(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Clips a CPU second of each way to read them, one thread; the ways take turns."""
    job = {**small_job(job), "kind": "input", "threads": 1, "clips": 32}
    ways = {"ours": ("clips", "loader", "loader and draws"), "stock": ("extractor", "decoding and extractor")}
    rates: dict[str, list[float]] = {way: [] for names in ways.values() for way in names}
    workers: dict[str, Worker] = {}
    try:
        for arm in ways:
            workers[arm] = Worker(f"input {arm}", {**job, "arm": arm})
        for number in range(options.rounds):
            for arm, names in ways.items():
                for way in names:
                    one = workers[arm].ask(way=way)
                    rates[way].append(one["clips"] / one["cpu_seconds"])
                    note(f"round {number + 1} of {options.rounds}: {way} {rates[way][-1]:,.1f} clips/CPU s")
    finally:
        for worker in workers.values():
            worker.end()
    return {"clips_per_cpu_second": {way: spread(values) for way, values in rates.items()}}


def measure_gpu(options: argparse.Namespace, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """BC-ResNet-8, Whisper tiny and base on the GPU: rates and waits in fp32, bf16, and bf16 compiled."""
    size = options.gpu_batch_size
    base = str(write_random_whisper(scratch / "whisper-base", "base"))
    networks = {
        "BC-ResNet-8": {**small_job(job), "width": 8},
        "Whisper tiny": {**job, "arm": "ours", "augment": effects("whisper")},
        "Whisper base": {**job, "arm": "ours", "augment": effects("whisper"), "checkpoint": base, "revision": None},
    }
    found: dict[str, Any] = {}
    tried = []
    for name, network in networks.items():
        arms = {}
        for mode, (precision, is_compiled) in GPU_MODES.items():
            # batches of one size, or the compiled network is compiled again
            settings = network["settings"] | {
                "per_device_train_batch_size": size,
                "dataloader_drop_last": True,
                "torch_compile": is_compiled,
            }
            own = {"device": "auto", "precision": precision, "settings": settings, "steps": 5 * options.steps}
            arms[f"{name}, {mode}"] = {**network, **own, "may_fail": is_compiled}
        tried += list(arms)
        found |= {key: summarise_rounds(one) for key, one in measure_rounds(arms, options.rounds).items()}
    return {"batch_size": size, "arms": found, "failed": [key for key in tried if key not in found]}


# ---- accuracy ----


def measure_accuracy(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Whole runs of both ways from the same seeds on the same subset of train, tested on the same subset of test."""
    subset = {"train": options.train_clips, "test": options.test_clips}
    precision = options.precisions[0]
    settings = job["settings"] | {"num_train_epochs": options.epochs}
    seeds = list(range(1, options.seeds + 1))
    own = {"subset": subset, "precision": precision, "settings": settings, "scored": ["test"]}
    measured, subsets = measure_seeds({arm: {**job, **own, "arm": arm} for arm in ("ours", "stock")}, seeds)
    runs = {
        arm: [{**one["scores"]["test"], "train_seconds": one["train_seconds"], "steps": one["steps"]} for one in found]
        for arm, found in measured.items()
    }
    return {
        "precision": precision,
        "epochs": options.epochs,
        "seeds": seeds,
        "subsets": subsets,
        "runs": runs,
        "difference": measuring.paired_difference(*([run["accuracy"] for run in runs[arm]] for arm in runs)),
        "test_was_read": len(runs) * options.seeds,
    }


# ---- what is printed ----


def report(content: dict[str, Any]) -> str:
    lines = [
        f"{content['data']}; Whisper: {content['checkpoint']}",
        f"{measuring.machine_line(content['machine'])}; {content['minutes']:.1f} minutes",
    ]
    parts = {"whisper": whisper_table, "bcresnet": parts_table, "input": input_table, "memory": memory_table}
    for name, build_table in parts.items():
        if name in content:
            lines += ["", build_table(content)]
    if content.get("gpu"):
        lines += ["", gpu_table(content)]
    elif "gpu" in content:
        lines += ["", "No GPU here: rates and waits on a GPU, bf16 and compile there were not measured."]
    return "\n".join([*lines, "", goal_table(content)])


def whisper_table(content: dict[str, Any]) -> str:
    whisper, settings = content["whisper"], content["settings"]
    rows = []
    for key, arm in whisper["arms"].items():
        gpu = "-" if arm["peak_gpu_memory_mb"] is None else f"{arm['peak_gpu_memory_mb']:,.0f}"
        rate, waiting = format_spread(arm["examples_per_second"]), format_spread(arm["waiting"], 1, 100)
        rows.append([name_arm(key, settings), rate, waiting, f"{arm['peak_memory_mb']:,.0f}", gpu])
    title = f"Whisper, batches of {settings['batch_size']}"
    rates = markdown_table([title, "clips/s (min to max)", "% of it loading", "peak MB", "peak GPU MB"], rows)
    rows = [
        [
            f"{name_arm(one['arm'], settings)} / {name_arm(one['stock'], settings)}",
            format_spread(one["ratio"], 1),
            f"{one['memory_ratio']:.2f}",
        ]
        for one in whisper["comparisons"]
    ]
    return f"{rates}\n\n{markdown_table(['rates, round by round', 'ratio (min to max)', 'memory'], rows)}"


def name_arm(key: str, settings: dict[str, Any]) -> str:
    name, precision = key.split()
    return f"{NAMES[name].format(settings['max_seconds'])}, {precision}"


def parts_table(content: dict[str, Any]) -> str:
    parts = content["bcresnet"]["milliseconds_a_clip"]
    step = parts["whole step"]["median"]
    rows = [[name, format_spread(one), f"{100 * one['median'] / step:.0f}"] for name, one in parts.items()]
    memory = f"peak {content['bcresnet']['peak_memory_mb']:,.0f} MB"
    header = ["BC-ResNet width 1, augment=strong, batches of 32, 1 s", "ms a clip (min to max)", "% of the step"]
    return f"{markdown_table(header, rows)}\n\n{memory}"


def input_table(content: dict[str, Any]) -> str:
    rows = [
        [WAYS[way], format_spread(rate, 0 if rate["median"] > 1000 else 1)]
        for way, rate in content["input"]["clips_per_cpu_second"].items()
    ]
    return markdown_table(["input, made clips of 1 s, one thread", "clips a CPU second (min to max)"], rows)


def memory_table(content: dict[str, Any]) -> str:
    rows = [
        [f"{one['clips']:,}", f"{one['resident_mb']:,.0f}", f"{one['peak_memory_mb']:,.0f}"]
        for one in content["memory"]["epochs"]
    ]
    return markdown_table(["an epoch of BC-ResNet over clips", "resident MB after", "peak MB"], rows)


def gpu_table(content: dict[str, Any]) -> str:
    gpu = content["gpu"]
    rows = [
        [
            name,
            format_spread(arm["examples_per_second"], 0),
            format_spread(arm["waiting"], 1, 100),
            f"{arm['peak_gpu_memory_mb'] or 0:,.0f}",
        ]
        for name, arm in gpu["arms"].items()
    ]
    header = [f"GPU, batches of {gpu['batch_size']}", "clips/s (min to max)", "% waiting for data", "GPU MB"]
    failed = "".join(f" {name}: it failed, see standard error." for name in gpu["failed"])
    return f"{markdown_table(header, rows)}\n\nWhisper base has random weights: speed only.{failed}"


def goals(content: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """(what, measured, goal, whether the goal is a least value) of everything that was measured."""
    found = []
    for one in content.get("whisper", {}).get("comparisons", []):
        if one["arm"].startswith("ours"):
            what = f"Whisper, {one['arm']} over {one['stock']}"
            found.append((what, one["ratio"]["median"], GOALS["whisper"], True))
    if "bcresnet" in content:
        share = content["bcresnet"]["share"]["median"]
        found.append(("features and augmentation, of BC-ResNet's step", share, GOALS["share"], False))
    if "input" in content:
        for way in ("clips", "loader"):
            rate = content["input"]["clips_per_cpu_second"][way]["median"]
            found.append((f"clips a CPU second, {WAYS[way].removeprefix('ours: ')}", rate, GOALS["input"], True))
    if "memory" in content:
        found.append(("resident memory, 10 N clips over N", content["memory"]["ratio"], GOALS["memory"], False))
    for name, arm in (content.get("gpu") or {"arms": {}})["arms"].items():
        found.append((f"waiting for data, {name}", arm["waiting"]["median"], GOALS["waiting"], False))
    return found


def goal_table(content: dict[str, Any]) -> str:
    rows = []
    for what, value, goal, is_least in goals(content):
        met = value >= goal if is_least else value <= goal
        digits = 0 if goal > 100 else 2
        rows.append(
            [what, f"{value:,.{digits}f}", f"at {'least' if is_least else 'most'} {goal:,.{digits}f}",
             "yes" if met else "no"]
        )  # fmt: skip
    return markdown_table(["goals", "measured", "goal", "met"], rows)


def report_accuracy(content: dict[str, Any]) -> str:
    subsets, difference = content["subsets"], content["difference"]
    rows = []
    for arm, runs in content["runs"].items():
        values = [run["accuracy"] for run in runs]
        each = " ".join(f"{100 * value:.1f}" for value in values)
        name = NAMES[arm].format(content["settings"]["max_seconds"])
        seconds = sum(run["train_seconds"] for run in runs) / len(runs)
        rows.append([name, f"{100 * sum(values) / len(values):.2f}", each, f"{seconds:.0f}"])
    points = 100 * difference["mean"]
    interval = ""
    if difference["low"] is not None:
        interval = f" ({100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}, paired over seeds, 95 %)"
    return "\n".join(
        [
            f"{content['data']}: accuracy in percent on {subsets['test']['clips']} clips of test after training on the"
            f" same {subsets['train']['clips']} of train, {content['epochs']:g} epochs, no augmentation,"
            f" {content['precision']}; {content['checkpoint']}",
            f"ids, sha256: train {subsets['train']['ids']}, test {subsets['test']['ids']};"
            f" test was read {content['test_was_read']} times",
            "",
            markdown_table(["arm", "mean", "seeds", "training s"], rows),
            "",
            f"ours - stock: {points:+.2f} points{interval}; goal: at least -{GOALS['points']:g},"
            f" {'met' if points >= -GOALS['points'] else 'not met'}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
