"""Ranks, cores and threads, and what all ranks must agree on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TypeVar, cast

from voicecommand.errors import InputError
from voicecommand.run import device

logger = logging.getLogger(__name__)
T = TypeVar("T")
RANK = int(os.environ.get("RANK", "0"))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))


def count_cores() -> int:
    """The cores that this process may use, shared among the local ranks; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(asked: int | None) -> int:
    """Torch's threads: the cores that this process may use, shared among the local ranks (a launcher sets 1).

    Raises:
        InputError: fewer than one.
    """
    import torch

    if asked is not None and asked < 1:
        raise InputError(f"threads={asked}: give at least 1")
    threads = asked or count_cores()
    torch.set_num_threads(threads)
    logger.info("threads %d", threads)
    return threads


def check_world_size(actual: int) -> None:
    """Stop where other ranks train together than the launcher was asked for.

    Asked for several without --multi_gpu, accelerate starts one process: it has an address but no world size.
    """
    alone = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if actual != WORLD_SIZE or (alone and "WORLD_SIZE" not in os.environ):
        asked = WORLD_SIZE if "WORLD_SIZE" in os.environ else "several"
        raise InputError(
            f"{asked} processes were asked for, but {actual} would train together: on CPU launch with"
            " ACCELERATE_USE_CPU=true accelerate launch --multi_gpu (make train PROCESSES=2 does)"
        )


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if WORLD_SIZE > 1:
        from accelerate import PartialState

        PartialState(cpu=not device.has_accelerator()).wait_for_everyone()


def agree(find: Callable[[], T]) -> T:
    """What rank 0 finds, on every rank."""
    if WORLD_SIZE == 1:
        return find()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not device.has_accelerator())
    content = [find() if RANK == 0 else None]
    broadcast_object_list(content)
    return cast("T", content[0])
