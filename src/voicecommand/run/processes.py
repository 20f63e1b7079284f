"""Ranks, cores and threads, and agreement among ranks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast

from voicecommand.errors import InputError
from voicecommand.run import device

logger = logging.getLogger(__name__)
T = TypeVar("T")
# Ways of accelerate to train that this program can't: what its launcher sets, its name, and why not.
REFUSED = {
    "ACCELERATE_USE_FSDP": ("FSDP", "a rank that has only its part of the weights can't save or resume them here"),
    "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", "its engine replaces the optimizer and the checkpoints of this program"),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "its models replace those of this program"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("a split model", "it needs FSDP"),
}
# What a launcher of several processes sets for each of them.
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def _read_number(name: str, default: int) -> int:
    """A variable of the launcher. Where none started this process, or it is no number, the default; see
    `check_launch`."""
    value = os.environ.get(name, "")
    return int(value) if "MASTER_ADDR" in os.environ and value.isdecimal() else default


RANK = _read_number("RANK", 0)
WORLD_SIZE = _read_number("WORLD_SIZE", 1)
LOCAL_RANK = _read_number("LOCAL_RANK", 0)
# The process that started this one: the launcher, if there is one.
PARENT = os.getppid()


USE_DDP = "give --config_file recipes/accelerate/gpus.yaml, which puts the whole network on each GPU"


def is_launched() -> bool:
    """Whether accelerate launch or torchrun started this process: by variables that only they set."""
    return "ACCELERATE_DYNAMO_MODE" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ


def is_one_machine() -> bool:
    """Whether all ranks are on this machine."""
    return _read_number("LOCAL_WORLD_SIZE", 1) == WORLD_SIZE


def name_rank() -> str:
    """The start of this rank's lines on the terminal: nothing on rank 0."""
    return f"rank {RANK}: " if RANK else ""


def check_launch() -> None:
    """Check that the variables of a launcher are whole, or that none is there: left over ones would make libraries wait
    for processes that never come.

    Raises:
        InputError: some were left in the environment, or the launcher was asked for what can't be.
    """
    for name, (what, why) in REFUSED.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise InputError(f"accelerate launch: {what} is not supported, because {why}; {USE_DDP}")
    left = {name: os.environ[name] for name in LAUNCHED if name in os.environ}
    is_alone = all(value == ("1" if name.endswith("SIZE") else "0") for name, value in left.items())
    is_whole = "MASTER_ADDR" in os.environ and all(value.isdecimal() for value in left.values())
    if not is_alone and not is_whole:
        found = " ".join(f"{name}={value}" for name, value in left.items())
        raise InputError(
            f"{found} is in the environment, and no launcher started this process: unset {' '.join(left)}, or start"
            " with accelerate launch (make train PROCESSES=2)"
        )


def check_devices() -> None:
    """Check that each rank of this machine has a GPU of its own, if the ranks use GPUs.

    Raises:
        InputError: there are fewer.
    """
    ranks = _read_number("LOCAL_WORLD_SIZE", 1)
    if ranks > 1 and device.has_accelerator():
        import torch

        if (count := torch.accelerator.device_count()) < ranks:
            raise InputError(
                f"{ranks} processes were started on a machine with {count} GPU{'s'[: count - 1]}: give --num_processes"
                f" {count}, or train on CPU with ACCELERATE_USE_CPU=true before the command"
            )


def describe() -> str:
    """How many processes train, how, and on what: `one process on cpu`, or `DDP, 2 ranks on cuda`."""
    where = device.find_device()
    if WORLD_SIZE == 1:
        return f"one process on {where}"
    machines = "" if is_one_machine() else f" of {WORLD_SIZE // _read_number('LOCAL_WORLD_SIZE', 1)} machines"
    return f"DDP, {WORLD_SIZE} ranks on {where}{machines}"


def count_cores() -> int:
    """The number of cores for this rank: those that the process may use, divided among the local ranks; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, _read_number("LOCAL_WORLD_SIZE", 1)))


def set_threads(asked: int | None) -> int:
    """Set and return torch's number of threads: `asked`, or `count_cores()` (a launcher would set 1).

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
    """Check that as many ranks train together as the launcher was asked for.

    If it is asked for several without --multi_gpu, accelerate starts one process, with an address but no world size.

    Raises:
        InputError: another number of ranks trains together.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if actual != WORLD_SIZE or (is_launched and "WORLD_SIZE" not in os.environ):
        asked = WORLD_SIZE if "WORLD_SIZE" in os.environ else "several"
        raise InputError(
            f"{asked} processes were asked for, but {actual} would train together: on CPU launch with"
            " ACCELERATE_USE_CPU=true accelerate launch --multi_gpu (make train PROCESSES=2 does, and so does"
            " --config_file recipes/accelerate/cpu.yaml)"
        )


def connect(timeout: float | None = None) -> None:
    """Connect the ranks.

    Args:
        timeout: seconds after which a rank that waits for the others in a collective fails; None takes torch's 1800.
    """
    if WORLD_SIZE > 1:
        from accelerate import PartialState

        limit = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
        PartialState(cpu=not device.has_accelerator(), **limit)


def wait_for_all() -> None:
    """Wait until every rank has reached this call."""
    if WORLD_SIZE > 1:
        from accelerate import PartialState

        PartialState(cpu=not device.has_accelerator()).wait_for_everyone()


def agree(find: Callable[[], T]) -> T:
    """The result of `find()` on rank 0, returned on every rank."""
    if WORLD_SIZE == 1:
        return find()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not device.has_accelerator())
    content = [find() if RANK == 0 else None]
    broadcast_object_list(content)
    return cast("T", content[0])


def is_any(value: bool) -> bool:
    """Whether `value` is true on any rank; every rank must call it."""
    if WORLD_SIZE == 1:
        return value
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    state = PartialState(cpu=not device.has_accelerator())
    return bool(reduce(torch.tensor(float(value), device=state.device), "sum").item())
