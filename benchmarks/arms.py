"""One arm of text_training.py or speech_training.py, in its own process, so that its memory is separate.

Told what to do by JSON lines on standard input, answers with JSON lines on standard output. The first line is the job:
its `task` is text or audio, its `arm` one of the ways of BUILDERS, and its `kind` says what the process is for:

- `train`: answers its start-up when warm; `{"steps": N}` trains N more steps and times them, anything else ends it;
- `accuracy`: answers which rows it learns from; `{"seed": S}` trains a whole run and tests it;
- `epoch`: one epoch of audio, then the process's resident memory;
- `input`: `{"way": W}` goes through clips in one way and counts the CPU seconds.

Between two commands the process waits, so that arms take turns on the same cores.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from measuring import load_text_rows, use_checkout

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
    {"train": train, "accuracy": accuracy, "epoch": epoch, "input": measure_input}[job["kind"]](job)


def train(job: dict[str, Any]) -> None:
    import torch

    trainer = build(job, load_rows(job), job["settings"]["seed"])
    # on a GPU the time of a call is not that of its work
    parts = watch_parts(trainer) if job["arm"] == "bcresnet" and job["device"] == "cpu" else {}
    trainer.add_callback(build_conductor(job, trainer, parts))
    trainer.train()
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    answer(peak_memory_mb=peak_memory_mb(), peak_gpu_memory_mb=gpu)


def accuracy(job: dict[str, Any]) -> None:
    rows = load_rows(job)
    answer(subsets={split: {"clips": len(rows[split]), "ids": hash_ids(rows[split])} for split in ("train", "test")})
    while "seed" in (command := listen()):
        answer(**score_run(job, rows, command["seed"]))


def epoch(job: dict[str, Any]) -> None:
    rows = load_rows(job)
    trainer = build(job, rows, job["settings"]["seed"])
    trainer.train()
    answer(clips=len(rows["train"]), resident_mb=resident_mb(), peak_memory_mb=peak_memory_mb())


def measure_input(job: dict[str, Any]) -> None:
    """Answers `clips` and CPU seconds (of all threads) of each way that it is told."""
    passes = input_passes(job, load_rows(job))
    for go in passes.values():  # the first pass reads the files
        go()
    while "way" in (command := listen()):
        start = time.process_time()
        clips = passes[command["way"]]()
        answer(clips=clips, cpu_seconds=time.process_time() - start)


# ---- data ----


def load_rows(job: dict[str, Any]) -> Any:
    """The rows, by the same loader for every arm, and the same subset of them; paths of audio are not decoded."""
    if job["task"] == "text":
        return load_text_rows(job["path"])
    from voicecommand.data.sources.folder import load_folder

    rows = load_folder(("audio", "label"), path=job["path"])
    for split, count in job.get("subset", {}).items():
        rows[split] = rows[split].select(choose(rows[split]["label"][:], count))
    return rows


def choose(labels: list[str], count: int) -> list[int]:
    """`count` of the rows, the same each time, as many of each label as there are, in their order."""
    import numpy as np

    turns: dict[str, int] = {}
    places = []
    for row in np.random.default_rng(0).permutation(len(labels)).tolist():
        turns[labels[row]] = turns.get(labels[row], 0) + 1
        places.append((turns[labels[row]], row))
    return sorted(row for _, row in sorted(places)[:count])


def hash_ids(rows: Any) -> str:
    """sha256 of the sorted ids, one a line: which subset it was."""
    return hashlib.sha256("\n".join(sorted(rows["id"][:])).encode()).hexdigest()


def label_numbers(rows: Any) -> dict[str, int]:
    return {name: i for i, name in enumerate(sorted(set(rows["train"]["label"])))}


def build_our_trainer(task: Any, rows: Any, args: Any, tuning: Any, seed: int, augmentation: Any = None) -> Any:
    """As recipes/train.py does it: the task's encoding, its network, the one Trainer."""
    from voicecommand.tasks.predicting import Answerer
    from voicecommand.training import fit

    vocabulary = task.learn(rows["train"])
    processor = task.load_processor(vocabulary)
    encoded = fit.encode(rows, task, processor, vocabulary)
    model = task.load_model(vocabulary, processor)
    (stage,) = task.stages(encoded["train"])
    trainer = fit.build_trainer(
        task, task.prepare(model, tuning, encoded["train"], processor), processor, vocabulary, stage,
        args=args, tuning=tuning, augmentation=augmentation, seed=seed, unprepared=model,
    )  # fmt: skip

    def count_right(split: str) -> Any:
        answered = Answerer(task, trainer.model, processor, vocabulary).answer_encoded(encoded[split])
        return answered.columns["probabilities"].argmax(1) == encoded[split].rows["labels"][:]

    trainer.is_right = count_right
    return trainer


# ---- the ways ----


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


def build(job: dict[str, Any], rows: Any, seed: int) -> Any:
    """The arm's Trainer; its `is_right(split)` says of each example of a split whether the answer is right."""
    from transformers import set_seed

    set_seed(seed)
    return BUILDERS[job["task"], job["arm"]](job, rows, seed)


def build_our_text(job: dict[str, Any], data: Any, seed: int) -> Any:
    """As recipes/train.py does it: the Task's encoding, its Trainer, tuning=full."""
    from voicecommand.models.tuning import Full
    from voicecommand.tasks.text_classification import TextClassification

    task = TextClassification(checkpoint=job["checkpoint"], max_length=job["max_length"], pretrained=job["pretrained"])
    data = {split: data[split] for split in ("train", "validation", "test")}
    return build_our_trainer(task, data, arguments(job, seed), Full(**job["tuning"]), seed)


def build_stock_text(job: dict[str, Any], data: Any, seed: int) -> Any:
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
    trainer.is_right = lambda split: is_right(trainer.predict(encoded[split]))
    return trainer


def build_our_audio(job: dict[str, Any], rows: Any, seed: int) -> Any:
    """As in recipes/train.py: prepared audio, the Task's windows, features on the device, tuning=full."""
    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.models.tuning import Full
    from voicecommand.tasks.audio_classification import AudioClassification, BCResNet
    from voicecommand.training import fit

    task: Any
    if job["arm"] == "bcresnet":
        task = BCResNet(width=job["width"], max_seconds=job["max_seconds"])
    else:
        task = AudioClassification(job["checkpoint"], job.get("revision"), max_seconds=job["max_seconds"])
    rows = fit.prepare(rows, "audio", job["threads"])
    augmentation = None if job.get("augment") is None else Augmentation(**job["augment"])
    return build_our_trainer(task, rows, arguments(job, seed), Full(), seed, augmentation)


def build_stock_audio(job: dict[str, Any], rows: Any, seed: int) -> Any:
    """As the library's example does it: each file decoded when asked for, features one by one, padded to 30 s."""
    import torch
    from transformers import AutoFeatureExtractor, Trainer, WhisperForAudioClassification, default_data_collator

    numbers = label_numbers(rows)
    where = {"revision": job.get("revision"), "trust_remote_code": False}
    extractor = AutoFeatureExtractor.from_pretrained(job["checkpoint"], **where)
    model = WhisperForAudioClassification.from_pretrained(
        job["checkpoint"], num_labels=len(numbers), dtype=torch.float32, ignore_mismatched_sizes=True, **where
    )
    splits = {split: build_files(part, numbers, extractor) for split, part in rows.items()}
    trainer = Trainer(
        model=model,
        args=arguments(job, seed),
        train_dataset=splits["train"],
        data_collator=default_data_collator,
        processing_class=extractor,
    )
    trainer.is_right = lambda split: is_right(trainer.predict(splits[split]))
    return trainer


def is_right(predicted: Any) -> Any:
    """Whether the stock Trainer's most probable label is the right one, `[examples]`."""
    logits = predicted.predictions[0] if isinstance(predicted.predictions, tuple) else predicted.predictions
    return logits.argmax(axis=-1) == predicted.label_ids


def build_files(rows: Any, numbers: dict[str, int], extractor: Any) -> Any:
    """The stock data set: a file is read, and its features made, whenever its example is asked for."""
    import torch

    class Files(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.paths, self.labels = rows["audio"][:], [numbers[name] for name in rows["label"][:]]

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> dict[str, Any]:
            features = extractor(decode(self.paths[index]), sampling_rate=16_000).input_features[0]
            return {"input_features": features, "labels": self.labels[index]}

    return Files()


def decode(path: str) -> Any:
    """float32 [samples], mono, 16 kHz."""
    import soundfile
    import soxr

    waveform, rate = soundfile.read(path, dtype="float32")
    waveform = waveform.mean(1) if waveform.ndim > 1 else waveform
    return waveform if rate == 16_000 else soxr.resample(waveform, rate, 16_000)


BUILDERS = {
    ("text", "padded"): build_stock_text,
    ("text", "dynamic"): build_stock_text,
    ("text", "ours"): build_our_text,
    ("audio", "stock"): build_stock_audio,
    ("audio", "ours"): build_our_audio,
    ("audio", "bcresnet"): build_our_audio,
}


# ---- what is timed ----


class Watch:
    """Seconds and calls of whatever it is put around."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds, self.calls = self.seconds + time.perf_counter() - start, self.calls + 1

        return timed


class WatchedLoader:
    """A loader whose waits for the next batch are timed."""

    def __init__(self, loader: Any, watch: Watch) -> None:
        self.loader, self.watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        following = self.watch.around(lambda: next(batches, None))
        while (batch := following()) is not None:
            yield batch


def watch_parts(trainer: Any) -> dict[str, Watch]:
    """Features and augmentation inside the steps of a BC-ResNet, each by a watch of its own."""
    watch = {"features": Watch(), "augmentation": Watch(), "draws": Watch()}
    trainer.model.features.forward = watch["features"].around(trainer.model.features.forward)
    trainer.to_inputs.augmenter.forward = watch["augmentation"].around(trainer.to_inputs.augmenter.forward)
    windows = trainer.data_collator.windows
    windows.draws = watch["draws"].around(windows.draws)
    return watch


def build_conductor(job: dict[str, Any], trainer: Any, parts: dict[str, Watch]) -> Any:
    """The callback that lets training go on only when told, and times what it was told to do."""
    import torch
    from transformers import TrainerCallback

    watches = dict(parts)
    if job["task"] == "audio":  # texts are in memory: nothing to wait for
        watches = {"waiting": Watch(), **parts}
        build_loader = trainer.get_train_dataloader
        trainer.get_train_dataloader = lambda: WatchedLoader(build_loader(), watches["waiting"])
    step = trainer.training_step

    class Conductor(TrainerCallback):
        def __init__(self) -> None:
            self.startup: dict[str, float] = {}
            self.is_warm, self.target = False, job["warmup"]
            self.begin()
            trainer.training_step = self.count

        def begin(self) -> None:
            for watch in watches.values():
                watch.seconds = 0.0
            self.examples = self.tokens = self.real_tokens = 0
            self.start = time.perf_counter()

        def count(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            self.examples += len(inputs["labels"])
            if "input_ids" in inputs:
                tokens, mask = inputs["input_ids"].numel(), inputs.get("attention_mask")
                self.tokens += tokens
                self.real_tokens += tokens if mask is None else mask.sum()  # on the device, which is not waited for
            return step(model, inputs, *args, **kwargs)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                self.startup["startup_seconds"] = time.monotonic() - job["spawned"]
                self.startup["startup_cpu_seconds"] = usage.ru_utime + usage.ru_stime
            if state.global_step < self.target:
                return
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.start
            if self.is_warm:
                counted = {"examples": self.examples, "tokens": self.tokens, "real_tokens": int(self.real_tokens)}
                answer(seconds=seconds, parts={name: watch.seconds for name, watch in watches.items()}, **counted)
            else:
                answer(**self.startup)
                self.is_warm = True
            command = listen()
            if "steps" not in command:
                control.should_training_stop = True
                return
            self.target = state.global_step + command["steps"]
            self.begin()

    return Conductor()


def score_run(job: dict[str, Any], rows: Any, seed: int) -> dict[str, Any]:
    """One whole training run from `seed`; what its last weights have right of each split that is asked for."""
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build({**job, "scratch": scratch}, rows, seed)
        start = time.perf_counter()
        output = trainer.train()
        seconds = time.perf_counter() - start
        scores = {}
        for split in job["scored"]:
            right = trainer.is_right(split)
            scores[split] = {"accuracy": float(right.mean()), "right": int(right.sum())}
    return {"scores": scores, "train_seconds": seconds, "steps": output.global_step}


def peak_memory_mb() -> float:
    from voicecommand.run import machine

    return machine.peak_memory_mb()


def resident_mb() -> float:
    """Resident memory of this process now, mapped files included, after a collection."""
    import psutil

    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


# ---- clips a CPU second ----


def input_passes(job: dict[str, Any], rows: Any) -> dict[str, Callable[[], int]]:
    """way -> goes through clips once and answers how many they were."""
    if job["arm"] == "stock":
        from transformers import WhisperFeatureExtractor

        extractor = WhisperFeatureExtractor()  # as those of all checkpoints with 80 mel bins
        files = build_files(rows["train"].select(range(min(job["clips"], len(rows["train"])))), label_numbers(rows),
                            extractor)  # fmt: skip
        decoded = [decode(path) for path in files.paths]
        return {
            "extractor": lambda: len([extractor(waveform, sampling_rate=16_000) for waveform in decoded]),
            "decoding and extractor": lambda: len([files[i] for i in range(len(files))]),
        }
    plain = build({**job, "arm": "bcresnet", "augment": None}, rows, 0)
    drawing = build({**job, "arm": "bcresnet"}, rows, 0)
    return {
        "clips": lambda: read_clips(plain.train_dataset.rows, job),
        "loader": lambda: count_examples(plain.get_train_dataloader()),
        "loader and draws": lambda: count_examples(drawing.get_train_dataloader()),
    }


def count_examples(loader: Any) -> int:
    return sum(len(batch["labels"]) for batch in loader)


def read_clips(encoded: Any, job: dict[str, Any]) -> int:
    """Every clip of the split, in random order, copied into int16 batches [batch, samples]: only `audio.Clips`."""
    import numpy as np

    from voicecommand.audio.clips import Clips

    clips, size = Clips(encoded), job["settings"]["per_device_train_batch_size"]
    samples = round(16_000 * job["max_seconds"])
    order = np.random.default_rng(0).permutation(len(clips)).tolist()
    for start in range(0, len(order), size):
        batch = np.zeros((size, samples), np.int16)
        for row, index in zip(batch, order[start : start + size], strict=False):
            clip = clips[index][:samples]
            row[: len(clip)] = clip
    return len(order)


if __name__ == "__main__":
    main()
