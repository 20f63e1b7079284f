"""kill -9 at any moment: the run that is resumed ends as the one that nobody killed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from trials import faults, material
from trials.material import Kind
from trials.references import References
from trials.row import Row, Trial

NAMES = ("text", "speech", "two ranks")


def build(references: References, is_full: bool) -> Row:
    """12 trials, or 200."""
    draw = random.Random(14)
    inside, moments, real = (72, 108, 20) if is_full else (6, 6, 0)
    order = NAMES if is_full else ("text", "two ranks", "text", "speech", "text", "two ranks")  # speech takes longest
    trials = []
    for number in range(inside):
        kind, share = order[number % len(order)], draw.random()
        trials.append(Trial(f"{kind}, inside a save, at {share:.4f} of its points",
                            _inside(references, kind, share), "inside a save, a rename or a rotation"))  # fmt: skip
    for number in range(moments):
        kind, share = order[number % len(order)], draw.random()
        trials.append(Trial(f"{kind}, at {share:.4f} of its time", _moment(references, kind, share), "any moment"))
    for number in range(real):
        kind, share = NAMES[number % 3], draw.random()
        trials.append(Trial(f"{kind}, the real command, at {share:.4f}", _moment(references, kind, share, True),
                            "any moment, the real command"))  # fmt: skip
    return Row(
        "kills",
        "`kill -9` at any moment",
        "A training is killed with all its processes and resumed. It must go on after the newest checkpoint that is"
        " whole, which is not older than the last one that was saved; and weights, predictions, losses of every step"
        " and the number of steps must be those of the training that nobody killed, to the last bit. Text, speech, and"
        " text on two processes. Points inside a save are every call that creates, flushes, renames or removes"
        " something in the folder of checkpoints, and the middle of each file that is written there.",
        trials,
        "the state of the random numbers is not restored; the training starts at step 0",
        [Trial("sabotaged", _inside(references, "text", 0.5, forget_random_state)),
         Trial("sabotaged, at step 0", _inside(references, "text", 0.5, material.start_anew))],
        lambda: references.make(*NAMES),
    )  # fmt: skip


def forget_random_state(rank: int) -> None:
    import transformers

    transformers.Trainer._load_rng_state = lambda *_: None


def _inside(
    references: References, name: str, share: float, change: Callable[[int], None] | None = None
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        kind, points = references.kinds[name], references.points(name)
        number = 1 + int(share * len(points))
        program = material.train(kind, folder, change=faults.die_at_save_point(number))
        _wait_for_death(program, 120)
        return _resume(references, kind, folder, change)

    return run


def _moment(references: References, name: str, share: float, is_real: bool = False) -> Callable[[Path], str]:
    """At this share of the time from the first file of the run to its end; earlier where this one has ended by then."""

    def run(folder: Path) -> str:
        kind, seconds = references.kinds[name], share * references.seconds(name)
        while True:
            program = material.train(kind, folder, is_real=is_real)
            while program.is_running() and not material.status(folder):
                time.sleep(0.002)
            _wait_for_death(program, seconds)
            if material.status(folder).get("state") != "finished":
                return _resume(references, kind, folder, is_real=is_real)
            shutil.rmtree(folder)
            seconds *= 0.7

    return run


def _wait_for_death(program: material.Program, seconds: float) -> None:
    """Wait until a rank has ended, at most so long; then the others are killed too."""
    end = time.monotonic() + seconds
    while program.is_running() and not program.codes and time.monotonic() < end:
        time.sleep(0.002)
    program.kill()


def _resume(
    references: References,
    kind: Kind,
    folder: Path,
    change: Callable[[int], None] | None = None,
    is_real: bool = False,
) -> str:
    return material.go_on(kind, folder, references.result(kind.name), change=change, is_real=is_real)
