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
CERTAIN = 2  # evaluations, before which nothing stops early


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
    """Bytes of a checkpoint: the weights, of an adapter only its own, and for AdamW two moments of each trained one, of
    four bytes each or fewer (`adamw_8bit`, `adamw_torch_4bit`)."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    saved = trained if hasattr(model, "peft_config") else sum(p.numel() for p in model.parameters())
    optimizer = str(args.optim).lower().rpartition(".")[2]
    if args.save_only_model or not optimizer.startswith("adamw"):
        return FLOAT * saved
    bits = next((bits for bits in (4, 8) if f"{bits}bit" in optimizer), 8 * FLOAT)
    return FLOAT * saved + 2 * trained * bits // 8


def count_checkpoints(args: TrainingArguments) -> int:
    """How many checkpoints there are at once, at least: those that are kept, and the one that is being written.

    Where the best one is loaded at the end, training may stop early, not before its second evaluation.
    """
    strategy = str(args.save_strategy).lower().rpartition(".")[2]
    if strategy == "no":
        return 0
    saves = 1
    if strategy == "epoch" and args.max_steps <= 0:
        saves = math.ceil(args.num_train_epochs)
    elif strategy == "steps" and args.max_steps > 0 and args.save_steps >= 1:
        certain = CERTAIN * (args.eval_steps or 1) if args.load_best_model_at_end else args.max_steps
        saves = max(1, int(min(args.max_steps, certain) // args.save_steps))
    if args.load_best_model_at_end:
        saves = min(saves, CERTAIN)
    return min(saves, args.save_total_limit + 1) if args.save_total_limit else saves


def _format(size: int) -> str:
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} bytes"
