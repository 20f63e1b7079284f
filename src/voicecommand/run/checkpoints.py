"""What a run can be continued from: only what is exactly as it was written. Nothing here imports torch."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from voicecommand import files
from voicecommand.run import manifest
from voicecommand.run.manifest import Damaged

logger = logging.getLogger(__name__)
FOLDER = "checkpoints"  # of a run directory; a stage with a name has a folder of its own in it
FOLDS = "folds"  # each with its own checkpoints and, when it is finished, its model
STAGE = "finished"  # the folder of a finished stage's weights
OLDER = ("trainer_state.json", "optimizer.pt", "scheduler.pt")  # of a checkpoint made before December 2026
DAMAGED = ".damaged"  # added to the name of a checkpoint that was skipped


class Skipped(NamedTuple):
    """A checkpoint that a run can't go on from, and why.

    Attributes:
        is_damaged: it is not as it was written.
    """

    path: Path
    reason: str
    is_damaged: bool


class Found(NamedTuple):
    """The newest checkpoint that verifies.

    Attributes:
        path: None if there is none.
        facts: of its manifest.
        skipped: the newer ones.
    """

    path: Path | None
    facts: dict[str, Any]
    skipped: list[Skipped]


def place_of(directory: Path, step: int | None) -> Path:
    """The checkpoint of a step under `directory`; of no step a name that none has."""
    return directory / f"checkpoint-{step}"


def find_newest(directory: Path, is_older: bool = False) -> Found:
    """Verify the checkpoints under `directory`, the newest first, until one is whole.

    Args:
        is_older: whether the run began before December 2026; then checkpoints without a manifest that have the files
            which resuming needs get one.
    """
    skipped: list[Skipped] = []
    for path in reversed(list_checkpoints(directory)):
        try:
            if is_older and not manifest.has_manifest(path):
                _adopt(path)
            facts = verify(path)
        except Damaged as error:
            skipped.append(Skipped(path, str(error), is_damaged=True))
            continue
        if facts.get("resumable"):
            return Found(path, facts, skipped)
        skipped.append(Skipped(path, "it has the model only (training.save_only_model=true)", is_damaged=False))
    return Found(None, {}, skipped)


def _adopt(path: Path) -> None:
    """Write the manifests of a checkpoint of an older version, and of the best one that it refers to.

    Raises:
        Damaged: a file that resuming needs is missing or can't be read.
    """
    if missing := [name for name in OLDER if not (path / name).is_file()]:
        raise Damaged(f"{missing[0]} is missing")
    try:
        best = files.read_json(path / OLDER[0])["best_global_step"]
        if not _can_be_best(best, _step_of(path) or 0):
            raise ValueError(best)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{OLDER[0]} can't be read") from error
    place = place_of(path.parent, best)
    logger.warning("%s: written by an older version, so that it is not known whether it is whole", path)
    best_step = best if place.is_dir() else None
    for found in {path, place} if best_step else {path}:
        if not manifest.has_manifest(found):
            manifest.write(found, {"step": _step_of(found), "best_step": best_step, "resumable": True})


def verify(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint that is whole, as is the best one that it refers to. Hidden files do not count.

    Raises:
        Damaged: the message names the file.
    """
    facts = manifest.verify(path, _is_shown)
    if facts.get("step") != _step_of(path):
        raise Damaged(f"it was saved at step {facts.get('step')}")
    best = facts.get("best_step")
    if not _can_be_best(best, facts["step"]):
        raise Damaged(f"{manifest.NAME} names a best step that can't be")
    if best not in (None, facts["step"]):
        try:
            manifest.verify(place_of(path.parent, best), _is_shown)
        except Damaged as error:
            raise Damaged(f"the best checkpoint so far, checkpoint-{best}: {error}") from error
    return facts


def _can_be_best(best: object, step: int) -> bool:
    return best is None or (isinstance(best, int) and 0 < best <= step)


def _is_shown(name: str) -> bool:
    return not any(part.startswith(".") for part in Path(name).parts)


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints under `directory`, whole or not, the oldest first."""
    found = [path for path in directory.glob("checkpoint-*") if path.is_dir() and _step_of(path) is not None]
    return sorted(found, key=lambda path: _step_of(path) or 0)


def _step_of(path: Path) -> int | None:
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else None


def set_aside(directory: Path, skipped: list[Skipped]) -> None:
    """Rename the checkpoints that are damaged, so that they are neither resumed from nor counted again, and remove what
    a killed process was writing."""
    for path in directory.glob("checkpoint-*.part"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (one.path for one in skipped if one.is_damaged):
        aside = path.with_name(path.name + DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


def rotate(directory: Path, keep: int | None, best: Path | None) -> None:
    """Remove the oldest checkpoints until `keep` are left; never the newest or the best one. None or 0 keeps all."""
    found = list_checkpoints(directory)
    surplus = len(found) - keep if keep else 0
    for path in [path for path in found[:-1] if path != best][: max(0, surplus)]:
        shutil.rmtree(path, ignore_errors=True)


def can_resume(run: Path) -> bool:
    """Whether the run directory has a checkpoint, a finished stage or a finished fold, so that resume=true saves work.

    This looks for manifests only; `find_newest` verifies.
    """
    folds = list((run / FOLDS).glob("*"))
    folders = [place / FOLDER for place in (run, *folds)]
    stages = [*folders, *(path for folder in folders for path in folder.glob("*") if path.is_dir())]
    is_saved = any((fold / "model").is_dir() for fold in folds)
    saved = [path for stage in stages for path in (*list_checkpoints(stage), stage / STAGE)]
    return is_saved or any(map(_promises, saved))


def _promises(path: Path) -> bool:
    """Whether a checkpoint says of itself that a run can go on from it; a damaged manifest does not say."""
    if not manifest.has_manifest(path):
        return all((path / name).is_file() for name in OLDER)
    try:
        return bool(manifest.read(path).get("resumable", True))
    except Damaged:
        return True


def tidy(run: Path) -> None:
    """Remove what only an unfinished run needs: the checkpoints, and the models of the folds."""
    folds = [path for kind in ("model", FOLDER) for path in (run / FOLDS).glob(f"*/{kind}")]
    for path in (run / FOLDER, *folds):
        shutil.rmtree(path, ignore_errors=True)


def remove(run: Path) -> None:
    """Remove checkpoints and folds that can't be resumed."""
    for name in (FOLDER, FOLDS):
        shutil.rmtree(run / name, ignore_errors=True)
