"""A signal at any step: the run saves, says how it ended, and goes on exactly."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import faults, material, programs
from trials.material import Kind
from trials.programs import Program
from trials.references import References
from trials.row import Row, Trial

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LIMIT = 10.0  # seconds from the signal to the end of the last process
CLOCK = 0.02  # seconds that the times of files are behind
STEPS = "steps"  # a file with a byte for each step that was begun
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
        "A signal is sent to the process, to its process group, to one of two ranks, or to `accelerate launch`."
        f" Within {LIMIT:.0f} s the step that was begun is saved and all processes have ended; status.json says 143,"
        " and the run goes on after this step and ends to the last bit as the one that nobody stopped. The program"
        " answers 143; what the launcher answers is its own.",
        trials,
        "the signals are ignored; the run stops and saves nothing",
        [
            Trial(f"sabotaged, {what.__name__}", _at_step(references, "text", signal.SIGTERM, "process", 4, 0, what))
            for what in (ignore_signals, save_nothing)
        ],
        lambda: references.make(*dict.fromkeys(kind for kind, *_ in targets)),
    )


def ignore_signals(rank: int) -> None:
    def ignore(step_rank: int) -> None:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    faults.at_step(1, ignore)(rank)


def save_nothing(rank: int) -> None:
    """At a signal; regular checkpoints are saved."""
    from voicecommand.training.trainer import CommandTrainer

    real = CommandTrainer._save_checkpoint

    def save_checkpoint(self: CommandTrainer, *args: Any, **kwargs: Any) -> Any:
        return real(self, *args, **kwargs) if self.state.global_step % self.state.save_steps == 0 else None

    CommandTrainer._save_checkpoint = save_checkpoint  # type: ignore[method-assign]


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
        kind, steps = references.kinds[name], folder / STEPS
        program = material.train(kind, folder, change=faults.together(faults.count_steps(steps), change))
        while program.is_running() and _size(steps) < step:
            time.sleep(0.002)
        time.sleep(wait)
        sent = time.time()
        if target == "group":
            os.killpg(program.pids[0], number)
        else:
            os.kill(program.pids[int(target[-1]) if target.startswith("rank") else 0], number)
        return _check(references, kind, folder, program, set(program.pids), sent, [143] * kind.ranks)

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
        sent = time.time()
        os.kill(program.pids[0], number)
        return _check(references, kind, folder, program, pids, sent, None)

    return run


def _has_checkpoint(folder: Path) -> bool:
    try:
        return bool(material.checkpoints(folder))
    except LookupError:
        return False


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _check(
    references: References,
    kind: Kind,
    folder: Path,
    program: Program,
    pids: set[int],
    sent: float,
    codes: list[int] | None,
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
    return _check_saved(folder, sent) or material.go_on(kind, folder, references.result(kind.name))


def _check_saved(folder: Path, sent: float) -> str:
    """ "" if the last step that was begun has a checkpoint, and this was written within the limit after the signal."""
    newest, begun = material.newest_whole(folder), _size(folder / STEPS)
    if not newest or (begun and newest != begun):
        return f"the newest checkpoint is of step {newest}, the last step was {begun}"
    written = (material.find_run(folder) / f"checkpoints/checkpoint-{newest}/manifest.json").stat().st_mtime - sent
    return "" if -CLOCK <= written <= LIMIT else f"checkpoint-{newest} was saved {written:.2f} s after the signal"
