"""Cross-validation: every row is answered by a model that was not trained on it.

Each fold is a fit of its own in RUN/folds/N, from the same seed and with the same settings as the run's model. A fold
that has a saved model is finished, and not fitted again when the run is resumed.
"""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import DatasetDict

from voicecommand import files
from voicecommand.columns import CROSS_VALIDATION, HELD_OUT_IN
from voicecommand.errors import InputError
from voicecommand.evaluation.base import Answers
from voicecommand.run import checkpoints, manifest, processes
from voicecommand.tasks import saved
from voicecommand.tasks.base import NetworkTask
from voicecommand.tasks.predicting import collect_answers
from voicecommand.training import fit, length, save

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.models.tuning import Tuning
    from voicecommand.run.directory import Run
    from voicecommand.tasks.base import Encoded, Processor, Task, Vocabulary

logger = logging.getLogger(__name__)


def cross_validate(
    task: Task,
    processor: Processor | None,
    vocabulary: Vocabulary,
    dataset: DatasetDict,
    encoded: Mapping[str, Encoded],
    *,
    run: Run,
    args: TrainingArguments | None = None,
    tuning: Tuning | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> list[Answers]:
    """The answers to all held-out rows of train as one split, `cross_validation`; [] if the data has no folds.

    Args:
        args: as the configuration has them; each fold has the length that its own rows need.

    Raises:
        InputError: a task with a teacher.
        Stopped, NonFiniteLoss: as in `fit.fit`; the folds before are kept.
    """
    train = dataset.get("train")
    if train is None or HELD_OUT_IN not in train.column_names:
        return []
    if isinstance(task, NetworkTask) and task.teacher:
        raise InputError(
            "data.split.folds: not with model.teacher, which may know the rows that are held out; leave one of them out"
        )
    held_out_in = train[HELD_OUT_IN][:]
    parts: list[Answers] = []
    names = sorted({*held_out_in} - {""}, key=int)
    for name in names:
        held = [row for row, number in enumerate(held_out_in) if number == name]
        kept = [row for row, number in enumerate(held_out_in) if number != name]
        directory = run.directory / checkpoints.FOLDS / name
        if processes.agree(partial(_is_finished, directory / "model", run.is_older)):
            logger.info("fold %s of %d is finished already", name, len(names))
        else:
            logger.info("fold %s of %d: %d rows to train on, %d held out", name, len(names), len(kept), len(held))
            fit.seed_everything(seed)
            trained = fit.fit(
                task, task.load_model(vocabulary, processor), processor, vocabulary,
                DatasetDict({**dataset, "train": train.select(kept)}),
                {"train": encoded["train"].select(kept)}, run=run, args=_arguments_of(directory, args, len(kept)),
                tuning=tuning, augmentation=augmentation, seed=seed,
            )  # fmt: skip
            _save(trained, task, processor, vocabulary, directory, run)
            run.resume = False  # the next fits start at step 0
            del trained
            gc.collect()  # a Trainer is in a circle of references, and holds memory of the device
        rows = encoded["train"].select(held)
        answered = saved.load(directory / "model").answerer.answer_encoded(rows)
        parts.append(collect_answers(train.select(held), CROSS_VALIDATION, rows, answered, vocabulary))
        figures = task.evaluators[0].quick(parts[-1])
        if processes.RANK == 0:
            files.write_json(directory / "figures.json", {"train": len(kept), "held_out": len(held), **figures})
        logger.info("fold %s of %d: %s", name, len(names), ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
    fit.seed_everything(seed)  # the fit of all rows begins as if no fold had been fitted before, also after a resume
    return [_pool(parts)]


def _arguments_of(directory: Path, args: TrainingArguments | None, rows: int) -> TrainingArguments | None:
    """The arguments of a fold: the length of its own rows, no validation, and its own folder of checkpoints."""
    own, _ = length.follow_data(args, None, rows, 0)
    if own is not None:
        own.output_dir = str(directory / checkpoints.FOLDER)
    return own


def _save(
    trained: fit.Trained, task: Task, processor: Processor | None, vocabulary: Vocabulary, directory: Path, run: Run
) -> None:
    """Write the log and the model of a finished fold, after which its checkpoints are of no more use."""
    if processes.RANK == 0:
        files.write_json(directory / "history.json", trained.history)
        save.save(trained.model, task, processor, vocabulary, directory / "model")
        if not run.keep_checkpoints:
            shutil.rmtree(directory / checkpoints.FOLDER, ignore_errors=True)
    processes.wait_for_all()


def _is_finished(model: Path, is_older: bool) -> bool:
    """Whether the fold has a saved model that is as it was written; an older version wrote no manifest."""
    if not model.is_dir():
        return False
    if is_older and not manifest.has_manifest(model):
        return True
    try:
        manifest.verify(model, saved.is_covered)
    except manifest.Damaged as error:
        logger.warning("%s: %s; this fold is fitted again", model, error)
        return False
    return True


def _pool(parts: Sequence[Answers]) -> Answers:
    """The answers of all folds, one fold after the other."""
    first = parts[0]
    columns = {}
    for name, values in first.columns.items():
        every = [part.columns[name] for part in parts]
        is_array = isinstance(values, np.ndarray)
        columns[name] = np.concatenate(every) if is_array else list(chain.from_iterable(every))
    return replace(
        first,
        ids=[name for part in parts for name in part.ids],
        origins=[origin for part in parts for origin in part.origins],
        texts=[text for part in parts for text in part.texts],
        references={k: [value for part in parts for value in part.references[k]] for k in first.references},
        columns=columns,
        groups=None if first.groups is None else [group for part in parts for group in part.groups or ()],
        is_synthetic=all(part.is_synthetic for part in parts),
        seconds=None if first.seconds is None else [value for part in parts for value in part.seconds or ()],
    )
