"""The way of a training run, step by step: encode, build the trainer, train. recipes/train.py is the sequence."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand import checkpoints, evaluation, progress, runs
from voicecommand.audio import SAMPLING_RATE, Clips
from voicecommand.data import checks
from voicecommand.data.splits import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation import Predictions

logger = logging.getLogger(__name__)


def seed_everything(seed: int) -> None:
    """Python, numpy and torch start from `seed` (the head of a new model is drawn from it); no bars but training's."""
    from transformers import set_seed
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one bar for each loading and saving of weights would bury the one of training
    set_seed(seed)


def prepare(dataset: Any, columns: tuple[str, ...], num_proc: int | None = None) -> Any:
    """The data with its sound decoded, where `columns` ask for sound: mono int16 at 16 kHz, in a memory-mapped cache.

    Raises:
        InputError: a file that is not sound, or not whole; it names the rows.
    """
    if "audio" not in columns:
        return dataset
    from voicecommand.data import sound

    return sound.prepare(dataset, num_proc=num_proc or runs.count_cores())


def check_labels(dataset: Any) -> None:
    """Stop at wrong labels before sound is decoded, which may take an hour; `checks.check` looks at all the rest.

    Raises:
        InputError: one line with the first error and the number of others.
    """
    has_sound = any("audio" in rows.column_names for rows in dataset.values())
    if has_sound and (errors := checks.inspect(dataset, ("label",), near=False).errors):
        more = f" (and {len(errors) - 1} more: recipes/audit.py lists all)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0].line()}{more}")


def find_label_names(dataset: Any) -> list[str]:
    """The labels of train in alphabetical order: label i is `label_names[i]` in every split and in the model."""
    return sorted(set(dataset["train"]["label"]))


def encode(dataset: Any, task: Any, processor: Any, label_names: list[str], splits: list[str] | None = None) -> Any:
    """DatasetDict of rows -> DatasetDict of model inputs, `labels` and `length`; cut examples are counted in the log.

    Out-of-scope rows have the label -100, which the loss and the metrics leave out. Group columns stay in train,
    where estimators need them. Prepared sound stays where it is, in its memory map.

    Raises:
        InputError: a label that is not in `label_names`.
    """
    from datasets import DatasetDict, concatenate_datasets

    number = {name: i for i, name in enumerate(label_names)} | {OUT_OF_SCOPE: -100}
    encoded = DatasetDict()
    for name in splits or list(dataset):
        split = dataset[name]
        columns: dict[str, list] = {}
        if "audio" in task.columns:
            longest = task.samples or max(split["length"][:])
            cut = sum(length > longest for length in split["length"][:])
            limit = f"{longest / SAMPLING_RATE:g} s: networks learn the loudest so long, windows answer by loudness"
        else:
            columns = task.preprocess({c: split[c][:] for c in task.columns}, processor)
            cut, limit = sum(columns.pop("truncated")), f"{getattr(task, 'max_length', None)} tokens, and cut to them"
        if cut:
            logger.warning("%s: %d of %d examples are longer than %s", name, cut, len(split), limit)
        labels = split["label"][:]
        unknown = next((i for i, label in enumerate(labels) if label not in number), None)
        if unknown is not None:
            known = f"{len(label_names)} labels of train"
            raise InputError(f"{split['origin'][unknown]}: label {labels[unknown]!r} is not one of the {known}")
        columns["labels"] = [number[label] for label in labels]
        columns |= {c: split[c][:] for c in GROUP_COLUMNS if c in split.column_names and name == "train"}
        encoded[name] = type(split).from_dict(columns)
        if "audio" in task.columns:
            sound = split.select_columns(["audio", "length", "content"])
            encoded[name] = concatenate_datasets([sound, encoded[name]], axis=1)
        encoded[name].info.description = json.dumps({"truncated": cut})
    return encoded


def count_truncated(encoded: Any) -> dict[str, int]:
    """How many examples `encode` cut, by split."""
    return {name: json.loads(split.info.description)["truncated"] for name, split in encoded.items()}


def build_trainer(
    task: Any,
    args: Any,
    model: Any,
    processor: Any,
    encoded: Any,
    label_names: list[str],
    run: runs.Run,
    tuning: Any = None,
    early_stopping: int | None = None,
    seed: int = 0,
    augmentation: Any = None,
) -> Any:
    """A Trainer with our callbacks, or an Estimator.

    Raises:
        InputError: `early_stopping` without evaluations to stop on.
    """
    callbacks: list[Any] = []
    if args is not None:
        from transformers import EarlyStoppingCallback

        callbacks = [checkpoints.build_stop_callback(run)]
        if early_stopping is not None:
            if args.eval_strategy == "no" or not args.load_best_model_at_end:
                raise InputError(
                    f"early_stopping={early_stopping}: needs training.eval_strategy and"
                    " training.load_best_model_at_end=true; or give early_stopping=null"
                )
            callbacks.append(EarlyStoppingCallback(early_stopping))
    trainer = task.build_trainer(args, model, processor, encoded, label_names, tuning, callbacks, seed, augmentation)
    if args is not None:  # an estimator's are known once it is fitted
        progress.show_progress(trainer)
        log_parameters(*count_parameters(trainer))
    return trainer


def count_parameters(trainer: Any) -> tuple[int, int]:
    """(all, trainable) parameters of a Trainer's network or of a fitted Estimator."""
    if hasattr(trainer, "count_parameters"):
        return trainer.count_parameters()
    from voicecommand import tuning

    return tuning.count_parameters(trainer.model)


def log_parameters(total: int, trainable: int) -> None:
    logger.info(
        "parameters %s, trainable %s (%.2f %%)",
        f"{total:,}",
        f"{trainable:,}",
        100 * trainable / max(total, 1),
    )


def train(trainer: Any, run: runs.Run) -> dict[str, Any]:
    """Fit, from the newest complete checkpoint where the run resumes; answers the training figures of run.json.

    Raises:
        Stopped: a signal asked for it; a checkpoint was saved.
        NonFiniteLoss: the loss became NaN or infinite.
    """
    startup = runs.process_seconds()
    newest = checkpoints.find_newest(run.directory / "checkpoints") if run.resume else None
    if run.resume and newest is None:
        logger.warning("no complete checkpoint to resume from: training starts at step 0")
    start = time.perf_counter()
    output = trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    run.check_stop()
    total, trainable = count_parameters(trainer)
    if not hasattr(trainer, "state"):
        log_parameters(total, trainable)
    figures = {
        "parameters": total,
        "trainable_parameters": trainable,
        "samples_per_second": output.metrics.get("train_samples_per_second"),
        "startup_seconds": round(startup, 2),
        "train_seconds": round(time.perf_counter() - start, 2),
        "steps": output.global_step,
        "peak_memory_mb": round(runs.peak_memory_mb(), 1),
    }
    state = getattr(trainer, "state", None)
    if state is not None:
        figures |= {
            "epochs": state.epoch,
            "best_step": state.best_global_step,
            "best_objective": state.best_metric,
        }
        import torch

        if torch.cuda.is_available():
            figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return figures


def save(trainer: Any, task: Any, processor: Any, label_names: list[str], directory: Path) -> None:
    """The trained model in stock form (LoRA merged, its adapter beside), with its processor, all or nothing."""
    with checkpoints.staged(directory) as staging:
        if task.kind == "network":
            model = trainer.accelerator.unwrap_model(trainer.model)
            if hasattr(model, "merge_and_unload"):
                model.save_pretrained(staging / "adapter")
                model = model.merge_and_unload()
            model.save_pretrained(staging)
            processor.save_pretrained(staging)
        else:
            trainer.save_model(staging)
        runs.write_json(
            staging / "voicecommand.json",
            {
                "format": 1,
                "task": task.name,
                "kind": task.kind,
                "label_names": label_names,
                "max_length": getattr(task, "max_length", None),
                "max_seconds": getattr(task, "max_seconds", None),
            },
        )


def choose_splits(dataset: Any, with_test: bool) -> list[str]:
    """The splits that a run reports: validation, and test where it may be read (never in a multirun)."""
    wanted = ["validation", "out_of_scope_validation"] + (["test", "out_of_scope_test"] if with_test else [])
    return [name for name in wanted if name in dataset]


def choose_evaluation(dataset: Any, split: str) -> Any:
    """The split to measure a saved run on, with the out-of-scope split of the same name where there is one.

    Raises:
        InputError: no such split.
    """
    if split not in dataset:
        raise InputError(f"split={split}: no such split; the data has {', '.join(dataset)}")
    return type(dataset)({name: dataset[name] for name in (split, f"{OUT_OF_SCOPE}_{split}") if name in dataset})


def collect_predictions(rows: Any, split: str, probabilities: np.ndarray, label_names: list[str]) -> Predictions:
    """Probabilities `[n, labels]` of a split beside its rows, for evaluation.

    Raises:
        InputError: a label that the model does not know.
    """
    number = {name: i for i, name in enumerate(label_names)} | {OUT_OF_SCOPE: -1}
    labels = rows["label"][:]
    unknown = sorted(set(labels) - set(number))
    if unknown:
        row = rows["origin"][labels.index(unknown[0])]
        raise InputError(f"{row}: label {unknown[0]!r} is not one of the model's {len(label_names)} labels")
    group = next((c for c in GROUP_COLUMNS if c in rows.column_names), None)
    return Predictions(
        split=split,
        ids=rows["id"][:],
        origins=rows["origin"][:],
        texts=texts_of(rows),
        seconds=[length / SAMPLING_RATE for length in rows["length"][:]] if "length" in rows.column_names else None,
        references=np.array([number[name] for name in labels], dtype=np.int64),
        probabilities=probabilities,
        groups=rows[group][:] if group else None,
        group_column=group,
        label_names=label_names,
    )


def texts_of(rows: Any) -> list[str]:
    """What each example says: its text, its transcript, or nothing where only the sound is known."""
    column = next((c for c in ("text", "transcript") if c in rows.column_names), None)
    return [""] * len(rows) if column is None else rows[column][:]


def predict_split(trainer: Any, task: Any, encoded: Any, rows: Any, split: str, label_names: list[str]) -> Predictions:
    """One split through the trained model, in the order of its rows."""
    # without labels: evaluation measures, and out-of-scope rows have none that Trainer's metrics could take
    probabilities = task.decode(trainer.predict(encoded[split].remove_columns("labels")).predictions)
    return collect_predictions(rows[split], split, probabilities, label_names)


def write_clips(directory: Path, predictions: list[Predictions], dataset: Any) -> None:
    """The sound that report.html plays, of a data set that has sound."""
    if any("audio" in rows.column_names for rows in dataset.values()):
        clips = {p.split: Clips(dataset[p.split]) for p in predictions}
        evaluation.write_clips(directory, predictions, lambda split, row: clips[split][row], SAMPLING_RATE)
