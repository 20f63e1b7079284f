"""What a run can be continued from. Nothing here imports torch."""

from __future__ import annotations

import shutil
from pathlib import Path

# The files that resuming exactly needs; Trainer writes trainer_state.json last.
COMPLETE = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json")
FOLDER = "checkpoints"  # of a run directory; a stage with a name has a folder of its own in it
FOLDS = "folds"  # each with its own checkpoints and, when it is finished, its model
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
    """Whether the run directory has a complete checkpoint, a finished stage or a finished fold, so that resume=true
    saves work."""
    folds = list((run / FOLDS).glob("*"))
    folders = [place / FOLDER for place in (run, *folds)]
    stages = [*folders, *(path for folder in folders for path in folder.glob("*") if path.is_dir())]
    is_saved = any((fold / "model").is_dir() for fold in folds)
    return is_saved or any(find_newest(stage) or (stage / STAGE).is_file() for stage in stages)


def tidy(run: Path) -> None:
    """Remove what only an unfinished run needs: the checkpoints, and the models of the folds."""
    folds = [path for kind in ("model", FOLDER) for path in (run / FOLDS).glob(f"*/{kind}")]
    for path in (run / FOLDER, *folds):
        shutil.rmtree(path, ignore_errors=True)


def remove(run: Path) -> None:
    """Remove checkpoints and folds that can't be resumed."""
    for name in (FOLDER, FOLDS):
        shutil.rmtree(run / name, ignore_errors=True)
