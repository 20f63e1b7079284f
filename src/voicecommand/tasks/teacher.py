"""A trained run as the teacher of a small network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.errors import InputError
from voicecommand.run.finished import choose_run
from voicecommand.tasks.base import NetworkTask, Task

logger = logging.getLogger(__name__)


def check_teacher(run: str) -> None:
    """Check that `run` can teach a network of audio.

    Raises:
        InputError: there is no saved run, or it is not a network that reads audio.
    """
    from voicecommand.tasks import saved

    try:
        chosen, settings = choose_run(run), saved.read_settings(run)
    except InputError as error:
        raise InputError(f"model.teacher={error}") from error
    if chosen != Path(run):  # the name is part of the identity of the student's run
        raise InputError(f"model.teacher={run}: may be another run tomorrow; give model.teacher={chosen}")
    if settings.task.name != "audio_classification" or not isinstance(settings.task, NetworkTask):
        raise InputError(f"model.teacher={run}: not a network of audio; train one with model=whisper tuning=head")


def load_teacher(run: str, label_names: list[str]) -> Any:
    """Waveforms float32 `[n, samples]` -> the probabilities `[n, labels]` of a trained network, labels in our order.

    The teacher computes in bf16 if the device supports it natively, whatever the student's precision.

    Raises:
        InputError: the run does not open, or has other labels.
    """
    from voicecommand.run import device
    from voicecommand.tasks import saved

    precision = "bf16" if device.native_precision()[0] == "bf16" else "fp32"
    try:
        teacher = saved.load(run, precision)
    except InputError as error:
        raise InputError(f"model.teacher={error}") from error
    if teacher.label_names != label_names:
        raise InputError(f"model.teacher={run}: has the labels {teacher.label_names}, train has {label_names}")
    logger.info("teacher: %s, %s parameters, in %s", run, f"{teacher.model.num_parameters():,}", precision)

    def answer(waveforms: np.ndarray) -> np.ndarray:
        return teacher.probabilities(list(waveforms))

    return answer


def hash_base(task: Task) -> dict[str, str]:
    """What training starts from: file of the base checkpoint and of the teacher -> hash; {} from scratch."""
    from voicecommand.models.pretrained import hash_checkpoint
    from voicecommand.tasks import saved

    settings: dict[str, Any] = dict(task.describe())
    checkpoint, teacher = settings.get("checkpoint"), settings.get("teacher")
    found = hash_checkpoint(checkpoint, settings.get("revision")) if checkpoint else {}
    taught = hash_checkpoint(str(saved.find_model(teacher)), None) if teacher else {}
    return found | {f"teacher/{name}": digest for name, digest in taught.items()}
