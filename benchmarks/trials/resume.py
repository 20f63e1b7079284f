"""A run that was killed after a certain step: resumed at each of them, it ends as the one that nobody killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trials import material
from trials.references import References
from trials.row import Row, Trial

EVERY = ("text, each step", "speech, each step")
SOME = (
    "two ranks, each step", "two workers, each step", "LoRA, each step", "a run that stops early, each step",
    "a last step inside an epoch, each step",
)  # fmt: skip


def build(references: References, is_full: bool) -> Row:
    """All steps of three epochs and 5 steps of each other kind, or two trials."""
    if is_full:
        places = [(kind, step) for kind in EVERY for step in range(1, 13)]
        places += [(kind, step) for kind in SOME for step in (1, 3, 4, 6, -1)]
    else:
        places = [("a run that stops early, each step", 4), ("a last step inside an epoch, each step", -1)]

    def prepare() -> None:
        references.make(*dict.fromkeys(kind for kind, _ in places))

    first = places[0][0]
    return Row(
        "resume",
        "resumed after each step",
        "A run that was killed after a step is resumed, and must go on after exactly this step. Every step of three"
        " epochs for text and for speech; five steps (the last one too) with two processes, two workers that load data,"
        " LoRA, a run that stops early, and a run whose last step is inside an epoch.",
        [Trial(f"{kind.removesuffix(', each step')}, step {step if step > 0 else 'last'}",
               _at(references, kind, step), kind.removesuffix(", each step")) for kind, step in places],
        "the state of the optimizer is not restored; the training starts at step 0",
        [Trial("sabotaged", _at(references, first, 4, forget_optimizer)),
         Trial("sabotaged, at step 0", _at(references, first, 4, material.start_anew))],
        prepare,
    )  # fmt: skip


def forget_optimizer(rank: int) -> None:
    import transformers

    transformers.Trainer._load_optimizer_and_scheduler = lambda *_: None


def _at(
    references: References, name: str, step: int, change: Callable[[int], None] | None = None
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        material.copy(references.folder(name), folder)
        reference = references.result(name)
        after = step if step > 0 else reference.steps
        material.unfinish(folder, after)
        return material.go_on(references.kinds[name], folder, reference, after, change)

    return run
