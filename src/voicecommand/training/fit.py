"""The way of a training run, step by step: encode, build the trainer, train. recipes/train.py is the sequence."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.columns import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.data.audit import findings
from voicecommand.errors import InputError
from voicecommand.run import directory as run_directory
from voicecommand.run import machine, processes
from voicecommand.training import checkpoints, progress

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
    from voicecommand.data import prepared

    return prepared.prepare(dataset, num_proc=num_proc or processes.count_cores())


def check_labels(dataset: Any) -> None:
    """Stop at wrong labels before sound is decoded, which may take an hour; `checks.check` looks at all the rest.

    Raises:
        InputError: one line with the first error and the number of others.
    """
    has_sound = any("audio" in rows.column_names for rows in dataset.values())
    if has_sound and (errors := findings.inspect(dataset, ("label",), near=False).errors):
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
    run: run_directory.Run,
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
    from voicecommand.models import tuning as models_tuning

    return models_tuning.count_parameters(trainer.model)


def log_parameters(total: int, trainable: int) -> None:
    logger.info(
        "parameters %s, trainable %s (%.2f %%)",
        f"{total:,}",
        f"{trainable:,}",
        100 * trainable / max(total, 1),
    )


def train(trainer: Any, run: run_directory.Run) -> dict[str, Any]:
    """Fit, from the newest complete checkpoint where the run resumes; answers the training figures of run.json.

    Raises:
        Stopped: a signal asked for it; a checkpoint was saved.
        NonFiniteLoss: the loss became NaN or infinite.
    """
    startup = machine.process_seconds()
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
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
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
