"""The newest checkpoint is damaged: the run goes on from the one before, and names what is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
from damage import Damage
from trials import material
from trials.references import References
from trials.row import Row, Trial

# of those in tests/damage.py
BYTES = ("cut in half", "empty", "a bit flipped in the middle", "zeros in the middle", "missing")
FILES = (
    "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json",
    "training_args.bin",
)  # fmt: skip


def edit_state(**changes: Any) -> Damage:
    return lambda path: damage.edit_json(path, **changes)


def edit_tensors(change: Callable[[dict[str, Any]], object]) -> Damage:
    return lambda path: damage.edit_tensors(path.parent, change)


def put_nan(tensors: dict[str, Any]) -> None:
    next(iter(tensors.values())).view(-1)[0] = float("nan")


def put_nan_in_optimizer(path: Path) -> None:
    import torch

    content = torch.load(path, weights_only=True)
    content["state"][0]["exp_avg"].view(-1)[0] = float("nan")
    torch.save(content, path)


def take_older(path: Path) -> None:
    """The file of the checkpoint before."""
    before = min(path.parent.parent.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    shutil.copy(before / path.name, path)


# (file, what happens to it): what needs to know the content
EDITS: list[tuple[str, str, Damage]] = [
    ("trainer_state.json", "global_step edited", edit_state(global_step=4)),
    ("trainer_state.json", "epoch edited", edit_state(epoch=0.5)),
    ("model.safetensors", "a tensor missing", edit_tensors(lambda tensors: tensors.popitem())),
    ("model.safetensors", "a NaN", edit_tensors(put_nan)),
    ("optimizer.pt", "a NaN", put_nan_in_optimizer),
    ("scheduler.pt", "of the checkpoint before", take_older),
    ("optimizer.pt", "of the checkpoint before", take_older),
    ("model.safetensors", "of the checkpoint before", take_older),
    ("rng_state.pth", "of the checkpoint before", take_older),
]
SHORT = {("trainer_state.json", "cut in half"), ("optimizer.pt", "a bit flipped in the middle"),
         ("rng_state.pth", "missing"), ("model.safetensors", "a tensor missing")}  # fmt: skip


def build(references: References, is_full: bool) -> Row:
    """44 trials, or 4."""
    damages = [(file, what, damage.BYTES[what]) for file in FILES for what in BYTES] + EDITS
    if not is_full:
        damages = [one for one in damages if one[:2] in SHORT]
    trials = []
    for number, (file, what, change) in enumerate(damages):
        kind = ("text", "speech")[number % 2] if is_full else "text"
        trials.append(Trial(f"{kind}, {file}: {what}", _of(references, kind, file, change), what))
    sabotaged = [
        Trial(f"sabotaged, {what.__name__}", _of(references, "text", "optimizer.pt", damage.BYTES[BYTES[2]], what))
        for what in (accept_all, refuse_all)
    ]
    kinds = ("text", "speech") if is_full else ("text",)
    return Row(
        "damage",
        "the newest checkpoint damaged",
        "A run is killed, and a file of its newest checkpoint is damaged. The run that is resumed must name the file,"
        " go on from the checkpoint before, and end to the last bit as the training that nobody disturbed.",
        trials,
        "checkpoints are not verified; one that is damaged makes all count as damaged",
        sabotaged,
        lambda: references.make_stopped(*kinds),
    )


def accept_all(rank: int) -> None:
    from voicecommand.run import checkpoints, manifest

    def verify(path: Path) -> dict[str, Any]:
        return manifest.read(path)

    checkpoints.verify = verify


def refuse_all(rank: int) -> None:
    from voicecommand.run import checkpoints
    from voicecommand.run.manifest import Damaged

    def verify(path: Path) -> dict[str, Any]:
        raise Damaged("optimizer.pt has changed")

    checkpoints.verify = verify


def _of(
    references: References, name: str, file: str, to_file: Damage, change: Callable[[int], None] | None = None
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        references.copy_stopped(name, folder)
        *_, before, newest = material.checkpoints(folder)
        to_file(newest / file)
        after = material.step_of(before)
        if problem := material.go_on(references.kinds[name], folder, references.result(name), after, change):
            return problem
        text = (folder / "resume").read_text(encoding="utf-8")
        return "" if newest.name in text and file in text else f"resumed exactly, but did not name {file}"

    return run
