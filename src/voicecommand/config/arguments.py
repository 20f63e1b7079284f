"""transformers.TrainingArguments of a configuration."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from voicecommand.config.objects import plain
from voicecommand.errors import InputError
from voicecommand.run import device, processes

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)
# The least values of fields that TrainingArguments does not check.
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "num_train_epochs": 0,
    "label_smoothing_factor": 0,
    "min_steps": 0,
}
# The limits that they must be below; infinity for the others.
BELOW = {"label_smoothing_factor": 1}


def build_training_arguments(
    config: DictConfig, directory: Path, objectives: Mapping[str, bool]
) -> TrainingArguments | None:
    """transformers.TrainingArguments of the run, or None for a model that is fitted in one step.

    Args:
        objectives: the figures that can choose the best checkpoint: name -> whether greater is better. The first is
            the default of training.metric_for_best_model.

    Raises:
        InputError: a value is refused by TrainingArguments or impossible to train with, or another number of processes
            trains together than was asked for.
    """
    settings = plain(config).get("training")
    if settings is None:
        if processes.WORLD_SIZE > 1:
            raise InputError(
                f"model={config.choices.model} is fitted by one process, and these are {processes.WORLD_SIZE}"
            )
        return None
    from transformers import TrainingArguments
    from transformers.integrations import get_available_reporting_integrations

    for key, least in LEAST.items():
        below = BELOW.get(key, math.inf)
        if key in settings and not (least <= settings[key] < below):
            limit = f", below {below}" if key in BELOW else ""
            raise InputError(f"training.{key}={settings[key]}: give a number of at least {least}{limit}")
    if config.precision != "auto" and settings.get("bf16") is False:
        del settings["bf16"]  # of conf/training/from_scratch_speech.yaml: precision=... wins
    bf16, fp16, reason = device.choose_precision(config.precision, settings.get("bf16"), settings.get("fp16"))
    settings |= {"bf16": bf16, "fp16": fp16, "use_cpu": not device.has_accelerator()}
    settings |= _choose_objective(settings, objectives)
    min_steps = settings.pop("min_steps", 0)
    settings.setdefault("disable_tqdm", False)  # the default depends on transformers' verbosity
    _override_launcher("bf16" if bf16 else "fp16" if fp16 else "no")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(directory / "tensorboard")
    try:
        args = TrainingArguments(output_dir=str(directory / "checkpoints"), **settings)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"training: {str(error).strip().splitlines()[0]}") from error
    installed = get_available_reporting_integrations()
    for logger_name in args.report_to or ():
        if logger_name not in installed:
            raise InputError(f"training.report_to={logger_name}: not installed; give none, {', '.join(installed)}")
    args.precision_reason = reason  # type: ignore[attr-defined]
    args.min_steps = min_steps  # type: ignore[attr-defined]
    processes.check_world_size(args.world_size)
    return args


def _override_launcher(precision: str) -> None:
    """Replace the precision of `accelerate launch --mixed_precision`, which would win over bf16=False, fp16=False."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked is not None and asked != precision:
        if asked != "no":
            logger.warning("the launcher's --mixed_precision %s is not used: precision=... decides", asked)
        os.environ["ACCELERATE_MIXED_PRECISION"] = precision


def _choose_objective(settings: Mapping[str, object], objectives: Mapping[str, bool]) -> dict[str, object]:
    """The settings that choose the best checkpoint: a measured figure, and its direction.

    Raises:
        InputError: another figure or direction is set.
    """
    name = settings.get("metric_for_best_model") or next(iter(objectives))
    measured = str(name).removeprefix("eval_")
    if measured not in objectives:
        raise InputError(
            f"training.metric_for_best_model={name}: give one of {', '.join(objectives)}; metrics=[NAME] adds others"
        )
    if settings.get("greater_is_better") not in (None, objectives[measured]):
        raise InputError(
            f"training.metric_for_best_model={name}: training.greater_is_better="
            f"{str(settings['greater_is_better']).lower()} would keep the worst checkpoint; leave greater_is_better out"
        )
    return {"metric_for_best_model": name, "greater_is_better": objectives[measured]}
