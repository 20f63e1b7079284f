"""What a trial does to a training from inside of its process: ends it, stops it, or marks how far it is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials.programs import Change

# What a save, a rename and a rotation consist of: the points at which a process can be killed inside of them.
POINTS = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")
PLACE = "/checkpoints"  # in a path


def together(*changes: Change | None) -> Change:
    def all_of_them(rank: int) -> None:
        for change in changes:
            if change is not None:
                change(rank)

    return all_of_them


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_save_point(reached: Callable[[int, str], None], only: int = 0) -> Change:
    """Call `reached(number, name)` before each call that changes the folder of checkpoints, and after each torch.save
    and safetensors file in it (name `written PATH`), on rank `only`."""

    def change(rank: int) -> None:
        if rank != only:
            return
        import safetensors.torch
        import torch
        from transformers import TrainerState

        count = 0

        def point(name: str) -> None:
            nonlocal count
            count += 1
            reached(count, name)

        def watch_call(name: str) -> None:
            real = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                if any(PLACE in place for place in _places(args, kwargs)):
                    point(name)
                return real(*args, **kwargs)

            setattr(os, name, call)

        def watch_writing(real: Callable[..., Any]) -> None:
            def call(content: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
                result = real(content, file, *args, **kwargs)
                if PLACE in (path := str(getattr(file, "name", file))):
                    point(f"written {path}")
                return result

            for module in list(sys.modules.values()):  # others have imported it under names of their own
                for name, value in list(getattr(module, "__dict__", {}).items()):
                    if value is real:
                        setattr(module, name, call)

        def save_to_json(self: TrainerState, path: str) -> None:
            save_state(self, path)
            if PLACE in path:
                point(f"written {path}")

        save_state = TrainerState.save_to_json
        TrainerState.save_to_json = save_to_json
        for name in POINTS:
            watch_call(name)
        watch_writing(torch.save)
        watch_writing(safetensors.torch.save_file)

    return change


def _places(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                found.append(os.readlink(f"/proc/self/fd/{value}"))
            except OSError:
                continue
        else:
            found.append(str(value))
    return found


def count_save_points(file: Path) -> Change:
    """Write to `file` the number and name of each point that is reached."""

    def reached(number: int, name: str) -> None:
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{number} {name}\n")

    return at_save_point(reached)


def die_at_save_point(number: int) -> Change:
    """End the process as kill -9 does at this point; a file that was just written is torn in the middle."""

    def reached(found: int, name: str) -> None:
        if found == number:
            kind, _, path = name.partition(" ")
            if kind == "written":
                os.truncate(path, os.path.getsize(path) // 2)
            kill_self()

    return at_save_point(reached)


def at_step(number: int, act: Callable[[int], None], when: str = "before") -> Change:
    """Call `act(rank)` before or after the computation of optimizer step `number` (from 1; one micro-batch a step)."""

    def change(rank: int) -> None:
        from voicecommand.training.trainer import CommandTrainer

        real, count = CommandTrainer.training_step, 0

        def training_step(self: CommandTrainer, *args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number and when == "before":
                act(rank)
            result = real(self, *args, **kwargs)
            if count == number and when == "after":
                act(rank)
            return result

        CommandTrainer.training_step = training_step  # type: ignore[method-assign]

    return change


def die_at_step(number: int) -> Change:
    return at_step(number, lambda rank: kill_self())


def stop_at_step(number: int, rank: int) -> Change:
    """Let this rank hang from the step on, as a process does whose machine has stopped."""
    return at_step(number, lambda r: os.kill(os.getpid(), signal.SIGSTOP) if r == rank else None)


def kill_rank_at_step(number: int, rank: int) -> Change:
    return at_step(number, lambda r: kill_self() if r == rank else None)


def count_steps(file: Path) -> Change:
    """Let `file` have a byte for each step that rank 0 has begun."""

    def change(rank: int) -> None:
        from voicecommand.training.trainer import CommandTrainer

        real = CommandTrainer.training_step

        def training_step(self: CommandTrainer, *args: Any, **kwargs: Any) -> Any:
            with file.open("ab") as steps:
                steps.write(b".")
            return real(self, *args, **kwargs)

        if rank == 0:
            CommandTrainer.training_step = training_step  # type: ignore[method-assign]

    return change


def record_saves(file: Path) -> Change:
    """Write to `file` each step that was saved, once that is done."""

    def change(rank: int) -> None:
        from voicecommand.training.trainer import CommandTrainer

        real = CommandTrainer._save_checkpoint

        def save_checkpoint(self: CommandTrainer, *args: Any, **kwargs: Any) -> Any:
            result = real(self, *args, **kwargs)
            with file.open("a", encoding="utf-8") as saved:
                saved.write(f"{self.state.global_step}\n")
            return result

        if rank == 0:
            CommandTrainer._save_checkpoint = save_checkpoint  # type: ignore[method-assign]

    return change
