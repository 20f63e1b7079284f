"""The space on the disk that a training needs, before it begins."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from voicecommand.errors import StorageError
from voicecommand.run import processes

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)
FLOAT = 4  # bytes


def check(directory: Path, model: nn.Module, args: TrainingArguments) -> None:
    """Log what the training of a network writes at least, and stop on all ranks if the disk surely has no room for it.

    The caches are no part of it: they are written before. Checkpoints of before a resume count as room.

    Args:
        directory: the run's.
        model: as it is trained, with an adapter if it has one.

    Raises:
        StorageError: there is no room.
    """
    if error := processes.agree(lambda: _measure(directory, model, args)):
        raise StorageError(error)


def _measure(directory: Path, model: nn.Module, args: TrainingArguments) -> str:
    """Why there is no room; empty if there is."""
    checkpoint, count = size_of_checkpoint(model, args), count_checkpoints(args)
    whole = FLOAT * sum(parameter.numel() for parameter in model.parameters())
    needed = checkpoint * count + whole
    there = sum(path.stat().st_size for path in directory.glob("**/checkpoint-*/*") if path.is_file())
    free = shutil.disk_usage(directory).free
    shown = f"{count} checkpoint{'s' if count > 1 else ''} of {_format(checkpoint)} and the model, {_format(whole)}"
    what = shown if count else "the model"
    logger.info("disk: training writes at least %s (%s), %s are free", _format(needed), what, _format(free))
    if needed <= free + there:
        return ""
    fewer = "training.save_total_limit=1 keeps fewer checkpoints, or " if count > 2 else ""
    return (
        f"{directory}: training writes at least {_format(needed)} ({what}), and only {_format(free)} are free: {fewer}"
        "free the disk, or give runs=DIR on another one"
    )


def size_of_checkpoint(model: nn.Module, args: TrainingArguments) -> int:
    """Bytes of a checkpoint: the weights, of an adapter only its own, and two moments of each trained one for AdamW."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    saved = trained if hasattr(model, "peft_config") else sum(p.numel() for p in model.parameters())
    moments = 2 * trained if str(args.optim).lower().rpartition(".")[2].startswith("adamw") else 0
    return FLOAT * (saved + (0 if args.save_only_model else moments))


def count_checkpoints(args: TrainingArguments) -> int:
    """How many checkpoints there are at once, at least: those that are kept, and the one that is being written."""
    strategy = str(args.save_strategy).lower().rpartition(".")[2]
    if strategy == "no":
        return 0
    saves = 1
    if strategy == "epoch" and args.max_steps <= 0:
        saves = math.ceil(args.num_train_epochs)
    elif strategy == "steps" and args.max_steps > 0 and args.save_steps >= 1:
        saves = max(1, int(args.max_steps // args.save_steps))
    return min(saves, args.save_total_limit + 1) if args.save_total_limit else saves


def _format(size: int) -> str:
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} bytes"
