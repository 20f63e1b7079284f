"""One arm of text_training.py, in a process of its own so that its peak memory is its own.

Told what to do by JSON lines on standard input, answers with JSON lines on standard output. The first line is
the job; `{"steps": N}` trains N more steps and times them, `{"seed": S}` (in an accuracy job) trains a whole
run, `{"stop": true}` ends. Between two commands the process waits, so that arms take turns on the same cores.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections import deque
from typing import Any

from measuring import peak_memory_mb, use_checkout

use_checkout()
# Nothing but answers may reach the pipe: everything else that prints goes to standard error.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**content: Any) -> None:
    ANSWERS.write(json.dumps(content) + "\n")
    ANSWERS.flush()


def listen() -> dict[str, Any]:
    line = sys.stdin.readline()
    return json.loads(line) if line else {"stop": True}


def main() -> None:
    job = listen()
    import torch

    torch.set_num_threads(job["threads"])
    if job["accuracy"]:
        data = load_data(job)
        while "seed" in (command := listen()):
            answer(**score_run(job, data, command["seed"]))
        return
    trainer = build(job, load_data(job), job["settings"]["seed"])
    conductor = build_conductor(job, trainer)
    trainer.add_callback(conductor)
    trainer.data_collator = conductor.count(trainer.data_collator)
    trainer.train()
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    answer(peak_memory_mb=peak_memory_mb(), peak_gpu_memory_mb=gpu)


def load_data(job: dict[str, Any]) -> Any:
    """The rows, by the same loader for every arm."""
    if job["path"]:
        from voicecommand.data.sources.file import load_files

        return load_files(("text", "label"), path=job["path"])
    from voicecommand.data.sources.commands import load_commands

    return load_commands(("text", "label"))


def arguments(job: dict[str, Any], seed: int) -> Any:
    """The same for every arm: the job's settings, without evaluation, saving or a progress bar."""
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        **{
            **job["settings"],
            "output_dir": job["scratch"],
            "seed": seed,
            "bf16": job["precision"] == "bf16",
            "use_cpu": job["device"] == "cpu" or not torch.cuda.is_available(),
        }
    )


def build(job: dict[str, Any], data: Any, seed: int) -> Any:
    """The arm's Trainer over the arm's encoding of `data`."""
    from transformers import set_seed

    set_seed(seed)
    return (build_ours if job["arm"] == "ours" else build_stock)(job, data, seed)


def build_ours(job: dict[str, Any], data: Any, seed: int) -> Any:
    """As recipes/train.py does it: the Task's encoding, its Trainer, tuning=full."""
    from voicecommand.models.tuning import Full
    from voicecommand.tasks.text_classification import TextClassification
    from voicecommand.training.fit import encode, find_label_names

    task = TextClassification(checkpoint=job["checkpoint"], max_length=job["max_length"], pretrained=job["pretrained"])
    label_names = find_label_names(data)
    processor = task.load_processor()
    encoded = encode(data, task, processor, label_names, splits=["train", "validation", "test"])
    model = task.load_model(label_names, processor)
    trainer = task.build_trainer(
        arguments(job, seed), model, processor, encoded, label_names, Full(**job["tuning"]), seed=seed
    )
    trainer.benchmark_splits = encoded
    return trainer


def build_stock(job: dict[str, Any], data: Any, seed: int) -> Any:
    """As the library's example script does it: `padded` to max_length, or `dynamic` by the collator."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        default_data_collator,
    )

    from voicecommand.models.pretrained import resolve_checkpoint

    checkpoint = resolve_checkpoint(job["checkpoint"])
    label_names = sorted(set(data["train"]["label"]))
    number = {name: i for i, name in enumerate(label_names)}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    padded = job["arm"] == "padded"

    def tokenize(batch: dict[str, list]) -> dict[str, list]:
        padding = "max_length" if padded else False
        encoded = tokenizer(batch["text"], padding=padding, max_length=job["max_length"], truncation=True)
        encoded["labels"] = [number[name] for name in batch["label"]]
        return encoded

    encoded = {
        name: data[name].map(tokenize, batched=True, remove_columns=data[name].column_names)
        for name in ("train", "validation", "test")
    }
    if job["pretrained"]:
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=len(label_names), dtype=torch.float32
        )
    else:
        config = AutoConfig.from_pretrained(checkpoint, num_labels=len(label_names))
        model = AutoModelForSequenceClassification.from_config(config)
    trainer = Trainer(
        model=model,
        args=arguments(job, seed),
        train_dataset=encoded["train"],
        data_collator=default_data_collator if padded else DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.benchmark_splits = encoded
    return trainer


def build_conductor(job: dict[str, Any], trainer: Any) -> Any:
    """The callback that lets training go on only when told, and times what it was told to do."""
    import torch
    from transformers import TrainerCallback

    class Conductor(TrainerCallback):
        def __init__(self) -> None:
            self.batches: deque[tuple[int, int, int]] = deque()  # collated, not yet trained on
            self.done = [0, 0, 0]  # examples, tokens with padding, tokens without, since `start`
            self.target, self.start = job["warmup"], 0.0

        def count(self, collate: Any) -> Any:
            def counting(rows: list[dict[str, Any]]) -> Any:
                batch = collate(rows)
                mask = batch.get("attention_mask")
                tokens = batch["input_ids"].numel()
                self.batches.append((len(rows), tokens, tokens if mask is None else int(mask.sum())))
                return batch

            return counting

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # One batch a step, in order: the loader may have collated the next one already.
            self.done = [a + b for a, b in zip(self.done, self.batches.popleft(), strict=True)]
            if state.global_step == 1:
                self.report_startup()
            if state.global_step < self.target:
                return
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.start
            if self.target > job["warmup"]:
                answer(seconds=seconds, examples=self.done[0], tokens=self.done[1], real_tokens=self.done[2])
            command = listen()
            if "steps" not in command:
                control.should_training_stop = True
                return
            self.target = state.global_step + command["steps"]
            self.done, self.start = [0, 0, 0], time.perf_counter()

        def report_startup(self) -> None:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            wall = time.monotonic() - job["spawned"]
            answer(startup_seconds=wall, startup_cpu_seconds=usage.ru_utime + usage.ru_stime)

    return Conductor()


def score_run(job: dict[str, Any], data: Any, seed: int) -> dict[str, Any]:
    """One whole training run from `seed`; accuracy of its last weights on validation and test."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        trainer = build({**job, "scratch": scratch}, data, seed)
        start = time.perf_counter()
        output = trainer.train()
        seconds = time.perf_counter() - start
    scores = {}
    for split in ("validation", "test"):
        predicted = np.argmax(trainer.predict(trainer.benchmark_splits[split]).predictions, axis=-1)
        scores[split] = float((predicted == np.asarray(trainer.benchmark_splits[split]["labels"])).mean())
    return {**scores, "train_seconds": seconds, "steps": output.global_step}


if __name__ == "__main__":
    main()
