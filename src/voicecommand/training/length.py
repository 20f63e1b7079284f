"""The length of a training, which follows the data, and whether validation can choose a checkpoint.

A few hundred rows make a few optimizer steps in an epoch, so that the epochs which suit thousands of rows leave a
network untrained. `training.min_steps` is the number of steps that a kind of training needs at least, but a pretrained
network that sees the same few rows too often forgets more than it learns, which `training.max_epochs` prevents.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from voicecommand.errors import InputError
from voicecommand.evaluation.words import name_in_words

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from transformers.trainer_utils import IntervalStrategy

logger = logging.getLogger(__name__)
# With fewer validation rows than this, the standard error of an accuracy of 90 % is above 3 points: the best of several
# checkpoints would be the luckiest.
CHOOSE_FROM = 100
EVALUATIONS = 10  # of a training whose epochs were increased; early stopping counts these
LATE = 0.75  # of the training; what validation gains after it shows whether more steps would help
GAIN = {"loss": 0.02, "other": 0.005}  # the least gain that counts: a share of the loss, points of another figure


def keep_batch(args: TrainingArguments | None, began_on: int) -> TrainingArguments | None:
    """The arguments of a run that began on another number of processes: more accumulation, or smaller batches of each
    process, keep the global batch.

    Raises:
        InputError: the global batch can't be divided among the processes.
    """
    if args is None or began_on == args.world_size:
        return args
    size, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    whole = size * steps * began_on
    share, rest = divmod(whole, args.world_size)
    if rest:
        raise InputError(
            f"resume_allow=[world_size]: the run began on {began_on} processes with a global batch of {whole}, which"
            f" {args.world_size} can't share; give a number of processes that divides {whole}"
        )
    args = copy.copy(args)
    args.gradient_accumulation_steps = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= size)
    args.per_device_train_batch_size = share // args.gradient_accumulation_steps
    logger.warning(
        "the run began on %d processes and goes on on %d: per_device_train_batch_size is %d instead of %d and"
        " gradient_accumulation_steps %d instead of %d, so that the global batch stays %d; the last digits of the"
        " result may differ",
        began_on, args.world_size, args.per_device_train_batch_size, size, args.gradient_accumulation_steps, steps,
        whole,
    )  # fmt: skip
    return args


def follow_data(
    args: TrainingArguments | None, early_stopping: int | None, train: int, validation: int
) -> tuple[TrainingArguments | None, int | None]:
    """The training arguments and early stopping for so many rows of train and validation; the log says why.

    Args:
        args: with the attributes `min_steps` and `max_epochs`; None if there are no steps.
        validation: 0 if there is no such split.
    """
    if args is None:
        return None, early_stopping
    args = copy.copy(args)
    per_epoch = _steps_of_epoch(args, train)
    _fit_epochs(args, train, per_epoch)
    if args.load_best_model_at_end and validation < CHOOSE_FROM:
        args.load_best_model_at_end, early_stopping = False, None
        few = (
            f"validation has {validation} rows, and with fewer than {CHOOSE_FROM} the best of several checkpoints would"
        )
        why = f"{few} be chosen by chance" if validation else "there is no validation split"
        logger.info("checkpoint: the last one, without early stopping: %s", why)
    if not validation:
        args.eval_strategy = _strategy("no")
    return args, early_stopping


def _steps_of_epoch(args: TrainingArguments, train: int) -> int:
    batch = args.per_device_train_batch_size * max(1, args.n_gpu) * args.world_size * args.gradient_accumulation_steps
    return max(1, train // batch if args.dataloader_drop_last else math.ceil(train / batch))


def _fit_epochs(args: TrainingArguments, train: int, per_epoch: int) -> None:
    """Increase the epochs until there are `min_steps`, and log epochs, steps and why."""
    if args.max_steps > 0:
        epochs = args.max_steps / per_epoch
        logger.info("length: %.3g epochs of %d rows, %d steps (training.max_steps)", epochs, train, args.max_steps)
        return
    asked, least = args.num_train_epochs, args.min_steps  # type: ignore[attr-defined]
    most = args.max_epochs or math.inf  # type: ignore[attr-defined]
    steps = math.ceil(asked * per_epoch)
    if steps >= least or asked >= most:
        logger.info("length: %g epochs of %d rows, %d steps (training.num_train_epochs)", asked, train, steps)
        return
    epochs = math.ceil(min(least / per_epoch, most))
    every = math.ceil(epochs / EVALUATIONS)  # epochs between evaluations
    rounded = math.floor if epochs >= most else math.ceil
    args.num_train_epochs = float(rounded(epochs / every) * every)
    for name in ("eval", "save"):
        if getattr(args, f"{name}_strategy") == "epoch":
            setattr(args, f"{name}_strategy", _strategy("steps"))
            setattr(args, f"{name}_steps", every * per_epoch)
    logger.info(
        "length: %g epochs of %d rows, %d steps: %g epochs would be %d steps, and this training needs %d"
        " (training.min_steps)%s",
        args.num_train_epochs,
        train,
        int(args.num_train_epochs) * per_epoch,
        asked,
        steps,
        least,
        f", in at most {most:g} epochs (training.max_epochs)" if math.isfinite(most) else "",
    )


def _strategy(name: str) -> IntervalStrategy:
    from transformers.trainer_utils import IntervalStrategy

    return IntervalStrategy(name)


def advise_on_length(
    history: Sequence[Mapping[str, float]], args: TrainingArguments | None, validation: int
) -> list[str]:
    """A sentence if validation still improved late in the training, with what to set; otherwise nothing.

    Args:
        history: the log of Trainer.
        validation: rows of that split; fewer than `CHOOSE_FROM` show no such thing.
    """
    if args is None or validation < CHOOSE_FROM:
        return []
    name = str(args.metric_for_best_model).removeprefix("eval_")
    found = [(row["step"], row[f"eval_{name}"]) for row in history if f"eval_{name}" in row]
    last = found[-1][0] if found else 0
    early = [value for step, value in found if step <= LATE * last]
    if not early:
        return []
    best, final = (max(early) if args.greater_is_better else min(early)), found[-1][1]
    gain = (best - final) / abs(best) if name == "loss" else final - best if args.greater_is_better else best - final
    if gain < GAIN["loss" if name == "loss" else "other"]:
        return []
    longer = (
        f"training.max_steps={2 * args.max_steps}"
        if args.max_steps > 0
        else f"training.num_train_epochs={2 * args.num_train_epochs:g}"
    )
    return [
        f"validation still improved in the last quarter of the training ({name_in_words(name)} {best:.3f} to"
        f" {final:.3f}): more steps may help, such as {longer}"
    ]
