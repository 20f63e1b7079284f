"""Where a training goes on: the newest checkpoint that is whole, after the stages that are finished."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from voicecommand import files
from voicecommand.errors import InputError
from voicecommand.run import checkpoints, inputs, manifest, processes

if TYPE_CHECKING:
    from voicecommand.run.directory import Run
    from voicecommand.tasks.base import Stage
    from voicecommand.training.trainer import CommandTrainer

logger = logging.getLogger(__name__)
WEIGHTS = "weights.safetensors"  # of a finished stage


def find_checkpoint(run: Run, folder: Path) -> str | None:
    """The newest checkpoint that verifies, on all ranks the same; those that do not are set aside, with a warning.

    Raises:
        InputError: it is of a run with other data, another base checkpoint or other settings.
    """

    def find() -> tuple[str | None, int, list[str], list[str]]:
        found = checkpoints.find_newest(folder, run.is_older)
        then, now = found.facts, run.facts
        changed = [words for part, words in inputs.PARTS.items() if part in then and then[part] != now.get(part)]
        checkpoints.set_aside(folder, found.skipped)
        renamed = f", and has the ending {checkpoints.DAMAGED} now"
        lines = [f"{p.name} is skipped{renamed if damaged else ''}: {reason}" for p, reason, damaged in found.skipped]
        return None if found.path is None else str(found.path), then.get("step", 0), lines, changed

    path, step, skipped, changed = processes.agree(find)
    for line in skipped:
        logger.warning("%s", line)
    if changed:
        raise InputError(
            f"{path}: {' and '.join(changed)} of this run were others when it was saved; overwrite=true trains again"
        )
    if path is None:
        logger.warning("there is no whole checkpoint to resume from: training starts at step 0")
    else:
        logger.info("training goes on after step %d (%s)", step, path)
    return path


def is_done(stage: Stage, trainer: CommandTrainer) -> bool:
    """Whether an earlier process has finished this stage; then its weights are loaded."""
    from safetensors.torch import load_file

    folder = _finished(trainer)
    if not stage.name or not processes.agree(lambda: _is_whole(folder)):
        return False
    trainer.model.load_state_dict(load_file(folder / WEIGHTS))
    logger.info("stage %s is finished already: its weights are loaded", stage.name)
    return True


def save_stage(stage: Stage, trainer: CommandTrainer) -> None:
    """Save the weights of a finished stage for the next one; a single stage needs no file."""
    from safetensors.torch import save

    if not stage.name:
        return
    if processes.RANK == 0:
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        whole = {name: tensor.contiguous().clone() for name, tensor in weights.items()}  # safetensors refuses tied ones
        with files.staged(_finished(trainer)) as staging:
            (staging / WEIGHTS).write_bytes(save(whole))
            manifest.write(staging, {"stage": stage.name})
    processes.wait_for_all()


def _finished(trainer: CommandTrainer) -> Path:
    return Path(str(trainer.args.output_dir)) / checkpoints.STAGE


def _is_whole(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        manifest.verify(folder)
    except manifest.Damaged as error:
        logger.warning("%s: %s; this stage is trained again", folder, error)
        return False
    return True
