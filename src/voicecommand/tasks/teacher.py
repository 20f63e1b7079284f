"""A trained run as the teacher of a small network."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voicecommand.errors import InputError
from voicecommand.run.finished import choose_run
from voicecommand.tasks.base import NetworkTask, Task

if TYPE_CHECKING:
    from voicecommand.audio.augmentation import Augmentation

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


def hash_base(task: Task, augmentation: Augmentation | None) -> dict[str, str]:
    """What training starts from: the files of the base checkpoint and of the teacher, and the noise -> hash. Of noise,
    which can be many gigabytes, only names and sizes count."""
    from voicecommand.models.pretrained import hash_checkpoint
    from voicecommand.tasks import saved

    settings: dict[str, Any] = dict(task.describe())
    checkpoint, teacher = settings.get("checkpoint"), settings.get("teacher")
    files = hash_checkpoint(checkpoint, settings.get("revision")) if checkpoint else {}
    found = {f"{name} of the base checkpoint": digest for name, digest in files.items()}
    files = hash_checkpoint(str(saved.find_model(teacher)), None) if teacher else {}
    found |= {f"{name} of the teacher": digest for name, digest in files.items()}
    noise = None if augmentation is None else augmentation.noise_folder
    if noise is not None:
        sizes = sorted((str(path), path.stat().st_size) for path in Path(noise).expanduser().rglob("*"))
        found["what is in augment.noise_folder"] = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]
    return found
