"""A signal at any step: the run saves, says how it ended, and goes on exactly."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from trials import faults, material, programs
from trials.material import Kind
from trials.programs import Program
from trials.references import References
from trials.row import Row, Trial

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LIMIT = 10.0  # seconds from the signal to the end of the last process
# (kind of training, what gets the signal, how many times for each signal in the long form)
TARGETS = (
    ("text", "process", 6), ("speech", "process", 2), ("text", "group", 3), ("two ranks", "group", 3),
    ("two ranks", "rank 0", 1), ("two ranks", "rank 1", 1), ("long", "launcher", 2), ("long, two ranks", "launcher", 2),
)  # fmt: skip


def build(references: References, is_full: bool) -> Row:
    """60 trials, or 3."""
    draw = random.Random(15)
    targets = TARGETS if is_full else (("text", "process", 1),)
    trials = []
    for kind, target, count in targets:
        for number in [number for number in NUMBERS for _ in range(count)]:
            step, wait = draw.randint(1, 10), draw.uniform(0, 0.04)
            what = f"{kind}, {number.name} to the {target}, step {step} + {1000 * wait:.0f} ms"
            held = _real(references, kind, number, 10 * wait) if target == "launcher" else \
                _at_step(references, kind, number, target, step, wait)  # fmt: skip
            trials.append(Trial(what, held, "to one of two ranks" if target.startswith("rank") else f"to the {target}"))
    return Row(
        "signals",
        "SIGTERM, SIGINT, SIGHUP at any step",
        f"A signal is sent to the process, to its process group, to one of two ranks, or to `accelerate launch`."
        f" Within {LIMIT:.0f} s all processes have ended, status.json says 143, and the run that is resumed ends to the"
        " last bit as the one that nobody stopped. The program answers 143; what the launcher answers is its own.",
        trials,
        "the signals are ignored",
        [Trial("sabotaged", _at_step(references, "text", signal.SIGTERM, "process", 4, 0, ignore_signals))],
        lambda: references.make(*dict.fromkeys(kind for kind, *_ in targets)),
    )


def ignore_signals(rank: int) -> None:
    def ignore(step_rank: int) -> None:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    faults.at_step(1, ignore)(rank)


def _at_step(
    references: References,
    name: str,
    number: signal.Signals,
    target: str,
    step: int,
    wait: float,
    change: Callable[[int], None] | None = None,
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        kind, mark = references.kinds[name], folder / "step"
        program = material.train(kind, folder, change=faults.together(faults.mark_step(step, mark), change))
        while program.is_running() and not mark.exists():
            time.sleep(0.002)
        time.sleep(wait)
        if target == "group":
            os.killpg(program.pids[0], number)
        else:
            os.kill(program.pids[int(target[-1]) if target.startswith("rank") else 0], number)
        return _check(references, kind, folder, program, set(program.pids), [143] * kind.ranks)

    return run


def _real(references: References, name: str, number: signal.Signals, wait: float) -> Callable[[Path], str]:
    """By accelerate launch, also for one process; the signal comes after the first checkpoint."""

    def run(folder: Path) -> str:
        kind = references.kinds[name]
        folder.mkdir(parents=True, exist_ok=True)
        argv = [*kind.argv, f"runs={folder / 'runs'}"]
        program = programs.start("train", argv, folder / "log", kind.ranks)
        while program.is_running() and not _has_checkpoint(folder):
            time.sleep(0.01)
        time.sleep(wait)
        pids = {*program.pids, *programs.descendants(program.pids[0])}
        os.kill(program.pids[0], number)
        return _check(references, kind, folder, program, pids, None)

    return run


def _has_checkpoint(folder: Path) -> bool:
    try:
        return bool(material.checkpoints(folder))
    except LookupError:
        return False


def _check(
    references: References, kind: Kind, folder: Path, program: Program, pids: set[int], codes: list[int] | None
) -> str:
    start = time.monotonic()
    while (program.is_running() or programs.still_running(pids)) and time.monotonic() < start + LIMIT:
        time.sleep(0.01)
    left = programs.still_running(pids)
    if program.is_running() or left:
        program.kill()
        programs.kill_all(left)
        return f"{len(left)} processes still run after {LIMIT:.0f} s: {program.last_line()}"
    status = material.status(folder)
    if status.get("exit_code") != 143:
        return f"status.json says {status.get('state')} {status.get('exit_code')}: {program.last_line()}"
    if codes is not None and program.wait() != codes:
        return f"exit {program.wait()}: {program.last_line()}"
    again = material.finish(kind, folder)
    return material.check_equal(again, folder, references.result(kind.name))
