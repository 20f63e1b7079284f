"""The steps of a training run: prepare, encode, fit. recipes/train.py calls them in order."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voicecommand.data.audit import findings
from voicecommand.errors import InputError, NonFiniteLoss
from voicecommand.run import checkpoints as run_checkpoints
from voicecommand.run import device, machine, processes
from voicecommand.tasks.base import (
    Columns,
    Draws,
    Encoded,
    EstimatorTask,
    NetworkTask,
    Stage,
    Task,
    Vocabulary,
    column_names,
)
from voicecommand.tasks.predicting import Answerer, collect_answers
from voicecommand.training import checkpoints, progress, resuming, space, unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset, DatasetDict
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.evaluation.base import Evaluator
    from voicecommand.evaluation.threshold import HeldOut
    from voicecommand.models.estimator import Features
    from voicecommand.models.tuning import Tuning
    from voicecommand.run.directory import Run
    from voicecommand.tasks.base import Processor, Rows
    from voicecommand.training.trainer import CommandTrainer

    Validate = Callable[[nn.Module], dict[str, float]]  # network -> figures of the validation split

logger = logging.getLogger(__name__)
SHOWN_ROWS = 3


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (a new head is drawn from the seed), and disable the bars of transformers."""
    from transformers import set_seed
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one bar for each loading and saving of weights would hide that of training
    set_seed(seed)


def check_tuning(task: Task, tuning: Tuning | None) -> None:
    """Stop at a tuning that means nothing for the task, before any data is read.

    Raises:
        InputError: it is one.
    """
    if isinstance(task, NetworkTask) and (reason := task.refused_tunings.get(type(tuning).__name__)):
        raise InputError(reason)


def is_trained(tuning: Tuning | None) -> bool:
    """Whether there is anything to train; there is not with tuning=none."""
    from voicecommand.models.tuning import Untuned

    return not isinstance(tuning, Untuned)


def prepare(dataset: DatasetDict, reads: str, num_proc: int | None = None) -> DatasetDict:
    """The data with its audio decoded, if the task reads audio: mono int16 at 16 kHz, in a memory-mapped cache.

    Raises:
        InputError: a file is not audio, or damaged; it names the rows.
    """
    if reads != "audio":
        return dataset
    from voicecommand.data import prepared

    return prepared.prepare(dataset, num_proc=num_proc or processes.count_cores())


def check_targets(dataset: DatasetDict, columns: Columns, required: Sequence[str] = ("train", "validation")) -> None:
    """Stop at wrong targets before audio is decoded, which may take an hour; `findings.check` checks everything else.

    Args:
        required: the splits that there must be.

    Raises:
        InputError: one line with the first error and the number of others.
    """
    if columns.reads == "audio" and (errors := findings.inspect(dataset, columns.targets, required, False).errors):
        more = f" (and {len(errors) - 1} more: recipes/audit.py lists all)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0].line()}{more}")


def encode(dataset: DatasetDict, task: Task, processor: Processor | None, vocabulary: Vocabulary) -> dict[str, Encoded]:
    """Every split as inputs of the model; the log counts the examples that are longer than the model reads, and the
    tokens that it does not know.

    Raises:
        InputError: a target is not in the vocabulary, or the model knows too little of train.
    """
    encoded = {}
    for name, rows in dataset.items():
        encoded[name] = task.encode(rows, processor, vocabulary)
        log_truncated(name, encoded[name].truncated, len(rows), encoded[name].limit)
    unknown.check(encoded)
    return encoded


def log_truncated(split: str, truncated: int, rows: int, limit: str) -> None:
    """Log how many examples of a split are longer than the model reads; `limit` says what happens to them."""
    if truncated:
        logger.warning("%s: %d of %d examples are %s", split, truncated, rows, limit)


@dataclass(frozen=True)
class Trained:
    """A trained model and the figures of its training.

    Args:
        figures: the training figures of run.json.
        history: the log of Trainer.
        held_out: of an estimator: answers to rows of train by models that were not fitted on them.
    """

    model: object
    figures: dict[str, float | int | None]
    history: list[dict[str, float]]
    held_out: HeldOut | None = None


def fit(
    task: Task,
    model: object,
    processor: Processor | None,
    vocabulary: Vocabulary,
    dataset: DatasetDict,
    encoded: Mapping[str, Encoded],
    *,
    run: Run,
    args: TrainingArguments | None = None,
    tuning: Tuning | None = None,
    augmentation: Augmentation | None = None,
    early_stopping: int | None = None,
    seed: int = 0,
    evaluators: Sequence[Evaluator] | None = None,
) -> Trained:
    """Train a network stage by stage, or fit an estimator.

    Args:
        evaluators: of the figures of validation in the log; None takes the task's.

    Raises:
        InputError: settings that exclude each other.
        Stopped: a signal came; a checkpoint was saved.
        NonFiniteLoss: the loss became NaN or infinite.
    """
    if run.startup_seconds is None:
        run.startup_seconds = round(machine.process_seconds(), 2)
    if isinstance(task, EstimatorTask):
        return _fit_estimator(task, cast("Features", model), vocabulary, encoded["train"], run, seed)
    assert isinstance(task, NetworkTask) and args is not None and tuning is not None
    from voicecommand.models.embeddings import count_unseen
    from voicecommand.models.tuning import count_parameters

    network = cast("PreTrainedModel", model)
    if not is_trained(tuning):
        return _leave(task, network, tuning, run)
    validation = encoded.get("validation")
    validate: Validate = _measure_nothing
    if validation is not None:
        validate = build_validation(task, processor, vocabulary, dataset["validation"], validation, args, evaluators)
    callbacks = _build_callbacks(run, args, early_stopping)
    stages = task.stages(encoded["train"])
    prepared = task.prepare(network, tuning, encoded["train"], processor)
    start, steps, output = time.perf_counter(), 0, None
    for stage in stages:
        trainer = build_trainer(
            task, prepared, processor, vocabulary, stage,
            args=_arguments_of(stage, args), tuning=tuning, augmentation=augmentation, seed=seed,
            validation=validation, validate=validate, callbacks=callbacks, unprepared=network,
            facts=run.facts | {"stage": stage.name},
        )  # fmt: skip
        progress.show_progress(trainer)
        log_parameters(*count_parameters(trainer.model), count_unseen(trainer.model))
        space.check(run.directory, trainer.model, trainer.args)
        if resuming.is_done(stage, trainer):
            continue
        newest = resuming.find_checkpoint(run, Path(str(trainer.args.output_dir))) if run.resume else None
        try:
            output = trainer.train(resume_from_checkpoint=newest)
        except NonFiniteLoss as error:
            raise _explain(error, stage.train, dataset["train"], trainer) from error
        run.check_stop()
        steps += output.global_step
        resuming.save_stage(stage, trainer)
    total, trainable = task.count_parameters(trainer.model)
    figures: dict[str, float | int | None] = {
        "parameters": total,
        "trainable_parameters": trainable,
        "samples_per_second": output.metrics.get("train_samples_per_second") if output else None,
        "startup_seconds": run.startup_seconds,
        "train_seconds": round(time.perf_counter() - start, 2),
        "steps": steps,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "epochs": trainer.state.epoch,
        # Trainer names the best step also where the last one is kept
        "best_step": trainer.state.best_global_step if args.load_best_model_at_end else None,
        "best_objective": trainer.state.best_metric if args.load_best_model_at_end else None,
    }
    import torch

    if torch.cuda.is_available():
        figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return Trained(trainer.accelerator.unwrap_model(trainer.model), figures, trainer.state.log_history)


def _leave(task: NetworkTask, network: PreTrainedModel, tuning: Tuning, run: Run) -> Trained:
    """The network as it was loaded."""
    tuning.prepare(network)
    total, trainable = task.count_parameters(network)
    log_parameters(total, trainable)
    figures: dict[str, float | int | None] = {
        "parameters": total,
        "trainable_parameters": trainable,
        "startup_seconds": run.startup_seconds,
        "train_seconds": 0.0,
        "steps": 0,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    return Trained(network, figures, [])


def _fit_estimator(
    task: EstimatorTask, features: Features, vocabulary: Vocabulary, train: Encoded, run: Run, seed: int
) -> Trained:
    if run.resume:
        logger.info("a model that is fitted in one step has nothing to resume: it is fitted again")
    start = time.perf_counter()
    model = task.fit(features, train, vocabulary, seed)
    seconds = time.perf_counter() - start
    run.check_stop()
    total, fitted = task.count_parameters(model)
    log_parameters(total, fitted)
    figures: dict[str, float | int | None] = {
        "parameters": total,
        "trainable_parameters": fitted,
        "samples_per_second": len(train) / seconds,
        "startup_seconds": run.startup_seconds,
        "train_seconds": round(seconds, 2),
        "steps": 0,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    return Trained(model, figures, [], task.held_out(model, train))


def build_validation(
    task: NetworkTask,
    processor: Processor | None,
    vocabulary: Vocabulary,
    rows: Dataset,
    encoded: Encoded,
    args: TrainingArguments,
    evaluators: Sequence[Evaluator] | None = None,
) -> Validate:
    """A function: network -> the figures of the validation split, from the evaluators (None: the task's), and the
    loss."""
    import numpy as np

    precision = device.name_precision(args.bf16, args.fp16)
    answerer: Answerer | None = None
    most = task.answered_in_training
    part, part_rows = encoded, rows
    if most is not None and most < len(rows):
        chosen = np.linspace(0, len(rows) - 1, most).round().astype(int).tolist()
        part, part_rows = encoded.select(chosen), rows.select(chosen)
        logger.info("validation: in training %d of its %d rows are answered, at the end all", most, len(rows))

    def validate(model: nn.Module) -> dict[str, float]:
        nonlocal answerer
        if answerer is None or answerer.model is not model:
            answerer = Answerer(task, model, processor, vocabulary, None, args.per_device_eval_batch_size, precision)
        answered = answerer.answer_encoded(part)
        answers = collect_answers(part_rows, "validation", part, answered, vocabulary)
        figures = {k: v for evaluator in evaluators or task.evaluators for k, v in evaluator.quick(answers).items()}
        if answered.losses is not None:
            figures = {"loss": float(np.nanmean(answered.losses, dtype=np.float64))} | figures
        elif (loss := answerer.measure_loss(encoded)) is not None:
            figures = {"loss": loss} | figures
        return figures

    return validate


def _measure_nothing(model: nn.Module) -> dict[str, float]:
    return {}


def build_trainer(
    task: NetworkTask,
    model: nn.Module,
    processor: Processor | None,
    vocabulary: Vocabulary,
    stage: Stage,
    *,
    args: TrainingArguments,
    tuning: Tuning,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    validation: Encoded | None = None,
    validate: Validate = _measure_nothing,
    callbacks: list[TrainerCallback] | None = None,
    unprepared: PreTrainedModel | None = None,
    facts: Mapping[str, object] | None = None,
) -> CommandTrainer:
    """The Trainer of one stage.

    Args:
        facts: what the manifest of each checkpoint says of the run.
        model: as `task.prepare` left it.
        unprepared: the network as it was loaded, for the configuration of its inputs; None takes `model`.

    Raises:
        InputError: augmentation with persistent workers, which would not see a new epoch; a teacher that does not
            open, or has other labels.
    """
    import torch

    from voicecommand.tasks.teacher import load_teacher
    from voicecommand.training.losses import StepLoss
    from voicecommand.training.trainer import CommandTrainer

    if augmentation is not None and args.dataloader_persistent_workers:
        raise InputError("training.dataloader_persistent_workers=true: not with augment; leave it out")
    plain = cast("PreTrainedModel", model) if unprepared is None else unprepared
    draws = None if augmentation is None else Draws(augmentation, seed)
    augmenter = None if augmentation is None else task.build_augmenter(plain, augmentation, stage.train, seed)
    weights = task.class_weights_of(stage.train, vocabulary)
    step_loss = StepLoss(
        task.head_weights,
        {head: torch.from_numpy(values) for head, values in weights.items()},
        args.label_smoothing_factor,
        None if task.teacher is None else load_teacher(task.teacher, list(vocabulary.labels)),
    )
    return CommandTrainer(
        model=stage.module(model),
        args=args,
        train_dataset=stage.train,
        eval_dataset=validation,
        data_collator=task.build_collator(plain, processor, draws),
        processing_class=processor,
        callbacks=callbacks,
        task=task,
        tuning=tuning,
        to_inputs=task.build_inputs(plain, processor, augmenter),
        step_loss=step_loss,
        validate=validate,
        facts=facts,
    )


def _explain(error: NonFiniteLoss, encoded: Encoded, train: Dataset, trainer: CommandTrainer) -> NonFiniteLoss:
    """The error with the rows of the batch, and what can be gone on from.

    Args:
        encoded: what was trained on; rows that are a part of `train` have their `origin`.
    """
    if error.examples is None:
        return error
    from accelerate.utils import gather_object

    numbers = gather_object(list(error.examples))  # all ranks are here
    rows: Rows = encoded.rows if "origin" in column_names(encoded.rows) else train
    named = [rows["origin"][i] for i in numbers[:SHOWN_ROWS]] if "origin" in column_names(rows) else []
    more = f" and {len(numbers) - len(named)} more" if len(numbers) > len(named) else ""
    shown = f"; the rows of the batch: {', '.join(named)}{more}" if named else ""
    saved = run_checkpoints.list_checkpoints(Path(str(trainer.args.output_dir)))
    last = f"; {saved[-1].name} is the last one saved: resume=true repeats what came after it" if saved else ""
    return NonFiniteLoss(f"{error}{shown}{last}", error.examples)


def _build_callbacks(run: Run, args: TrainingArguments, early_stopping: int | None) -> list[TrainerCallback]:
    """Stopping where the directory is gone and on a signal, and early stopping if asked for.

    Raises:
        InputError: `early_stopping` without evaluations.
    """
    from transformers import EarlyStoppingCallback

    callbacks: list[TrainerCallback] = [checkpoints.StopWhereMoved(run), checkpoints.StopOnSignal(run)]
    if early_stopping is not None:
        if args.eval_strategy == "no" or not args.load_best_model_at_end:
            raise InputError(
                f"early_stopping={early_stopping}: needs training.eval_strategy and"
                " training.load_best_model_at_end=true; or give early_stopping=null"
            )
        callbacks.append(EarlyStoppingCallback(early_stopping))
    return callbacks


def _arguments_of(stage: Stage, args: TrainingArguments) -> TrainingArguments:
    """The arguments of a stage: each named stage has its own folder of checkpoints."""
    if not stage.name:
        return args
    own = copy.copy(args)
    own.output_dir = str(Path(str(args.output_dir)) / stage.name)
    return own


def log_parameters(total: int, trainable: int, unseen: int = 0) -> None:
    """Log the number of parameters, of trainable ones, and of those in embedding rows that are not trained."""
    rest = f"; {unseen:,} are of tokens that do not occur in train, and stay unchanged" if unseen else ""
    share = 100 * trainable / max(total, 1)
    logger.info("parameters %s, trainable %s (%.2f %%)%s", f"{total:,}", f"{trainable:,}", share, rest)
