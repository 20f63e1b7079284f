"""A rank dies or hangs, or the launcher is gone: the rest ends by itself, and soon."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from trials import faults, material, programs
from trials.programs import Change, Program
from trials.references import References
from trials.row import Row, Trial

LIMIT = 10.0  # seconds until the last process has ended
TIMEOUT = 5  # rank_timeout: a hung rank may take so much longer, less what LIMIT has beyond 5 s
TWO, TWO_LONG, ONE_LONG = "two ranks", "long, two ranks", "long"


def build(references: References, is_full: bool) -> Row:
    """40 trials, or 2."""
    draw = random.Random(16)
    count = 10 if is_full else 1
    trials = []
    for number in range(count):
        step, rank = draw.randint(1, 10), number % 2
        trials += [
            Trial(f"rank {rank} of 2 killed at step {step}",
                  _at_step(references, rank, faults.kill_rank_at_step(step, rank), LIMIT), "rank killed"),
            Trial(f"rank {rank} of 2 hangs from step {step + 1}",
                  _at_step(references, rank, faults.stop_at_step(step + 1, rank), TIMEOUT + 5), "rank hangs"),
        ]  # fmt: skip
        if is_full:
            wait = draw.uniform(0, 1)
            trials += [
                Trial(f"launcher of one process killed, {wait:.2f} s", _launcher(references, ONE_LONG, wait),
                      "launcher of one process killed"),
                Trial(f"launcher of two processes killed, {wait:.2f} s", _launcher(references, TWO_LONG, wait),
                      "launcher of two processes killed"),
            ]  # fmt: skip
    if is_full:
        for rank in (0, 1):
            trials += [
                Trial(f"rank {rank} under a launcher killed", _rank(references, rank, signal.SIGKILL, LIMIT),
                      "rank killed"),
                Trial(f"rank {rank} under a launcher hangs", _rank(references, rank, signal.SIGSTOP, TIMEOUT + 5),
                      "rank hangs"),
            ]  # fmt: skip
    kinds = (TWO, TWO_LONG, ONE_LONG) if is_full else (TWO,)
    hang = faults.stop_at_step(4, 1)
    return Row(
        "lost",
        "a rank or the launcher lost",
        f"One of two ranks is killed or hangs (SIGSTOP), or `accelerate launch` is killed. All processes have ended"
        f" {LIMIT:.0f} s later (of a hang: rank_timeout + 5 s), a line names the rank, and the run goes on exactly.",
        trials,
        "the ranks do not watch one another",
        [Trial("sabotaged", _at_step(references, 1, faults.together(watch_nothing, hang), TIMEOUT + 5))],
        lambda: references.make(*kinds),
    )


def watch_nothing(rank: int) -> None:
    from voicecommand.run import ranks

    ranks.watch = lambda *_: None


def _at_step(references: References, rank: int, change: Change, limit: float) -> Callable[[Path], str]:
    """The lost rank belongs to us, as to a launcher: the others must end, and then we end it."""

    def run(folder: Path) -> str:
        kind = references.kinds[TWO]
        program = material.train(kind, folder, f"rank_timeout={TIMEOUT}", change=change)
        lost = program.pids[rank]
        while program.is_running() and lost not in program.codes and not _is_stopped(lost):
            time.sleep(0.005)
        problem = _await_end(program, set(program.pids) - {lost}, limit)
        program.kill()
        if problem:
            return problem
        if f"rank {rank}" not in program.text():
            return f"no line names rank {rank}: {program.last_line()}"
        return material.go_on(kind, folder, references.result(TWO))

    return run


def _launcher(references: References, name: str, wait: float) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        program, pids = _start(references, name, folder)
        time.sleep(wait)
        os.kill(program.pids[0], signal.SIGKILL)
        return _await_end(program, pids, LIMIT) or _go_on(references, name, folder)

    return run


def _rank(references: References, rank: int, number: signal.Signals, limit: float) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        program, pids = _start(references, TWO_LONG, folder)
        (lost,) = [pid for pid in pids if _environment(pid).get("RANK") == str(rank)]
        os.kill(lost, number)
        return _await_end(program, pids, limit) or _go_on(references, TWO_LONG, folder)

    return run


def _start(references: References, name: str, folder: Path) -> tuple[Program, set[int]]:
    """A training under accelerate launch that has saved once, and all its processes."""
    kind = references.kinds[name]
    folder.mkdir(parents=True, exist_ok=True)
    argv = [*kind.argv, f"runs={folder / 'runs'}", f"rank_timeout={TIMEOUT}"]
    program = programs.start("train", argv, folder / "log", kind.ranks)
    while program.is_running() and not list(folder.glob("runs/*/*/checkpoints/checkpoint-*")):
        time.sleep(0.01)
    return program, {*program.pids, *programs.descendants(program.pids[0])}


def _go_on(references: References, name: str, folder: Path) -> str:
    return material.go_on(references.kinds[name], folder, references.result(name))


def _await_end(program: Program, pids: set[int], limit: float) -> str:
    end = time.monotonic() + limit
    while time.monotonic() < end and (left := programs.still_running(pids)):
        program.is_running()  # takes the exit codes
        time.sleep(0.02)
    left = programs.still_running(pids)
    if left:
        programs.kill_all(left)
        program.kill()
        return f"{len(left)} processes still ran after {limit:.0f} s: {program.last_line()}"
    return ""


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True


def _environment(pid: int) -> dict[str, str]:
    try:
        return psutil.Process(pid).environ()
    except psutil.Error:
        return {}
