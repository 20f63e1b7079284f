"""What a run can be continued from. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

# The files that resuming exactly needs; Trainer writes trainer_state.json last.
COMPLETE = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json")
FOLDER = "checkpoints"  # of a run directory; a stage with a name has a folder of its own in it
STAGE = "stage.safetensors"  # the weights of a finished stage


def find_newest(directory: Path) -> Path | None:
    """The complete checkpoint of the highest step under `directory`, or None."""
    found = []
    for path in directory.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        whole = all((path / name).is_file() for name in COMPLETE) and any((path / name).is_file() for name in WEIGHTS)
        if number.isdigit() and whole and any(path.glob("rng_state*.pth")):
            found.append((int(number), path))
    return max(found)[1] if found else None


def can_resume(run: Path) -> bool:
    """Whether the run directory has a complete checkpoint or a finished stage, so that resume=true saves work."""
    folder = run / FOLDER
    stages = [folder, *(path for path in folder.glob("*") if path.is_dir())]
    return any(find_newest(stage) or (stage / STAGE).is_file() for stage in stages)
