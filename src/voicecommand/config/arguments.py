"""transformers.TrainingArguments of a configuration."""

from __future__ import annotations

import inspect
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
    "seed": 0,
    "data_seed": 0,
    "neftune_noise_alpha": 0,
    "dataloader_num_workers": 0,
    "ddp_timeout": 1,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "min_steps": 0,
}
# The limits that they must be below; infinity for the others.
BELOW = {"label_smoothing_factor": 1, "seed": 2**32, "data_seed": 2**32, "adam_beta1": 1, "adam_beta2": 1}


# Parameters of every schedule that Trainer gives itself.
SCHEDULE_OWN = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")


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
        if settings.get(key) is not None and not (least <= settings[key] < below):
            limit = f", below {below}" if key in BELOW else ""
            raise InputError(f"training.{key}={settings[key]}: give a number of at least {least}{limit}")
    for key in ("deepspeed", "fsdp"):
        if settings.get(key):
            raise InputError(f"training.{key}: is not supported; leave it out, or {processes.USE_DDP}")
    bf16, fp16, reason = choose_precision(config.precision, settings)
    settings |= {"bf16": bf16, "fp16": fp16, "use_cpu": not device.has_accelerator()}
    settings |= _choose_objective(settings, objectives)
    min_steps, max_epochs = settings.pop("min_steps", 0), settings.pop("max_epochs", None)
    settings.setdefault("disable_tqdm", False)  # the default depends on transformers' verbosity
    _override_launcher("bf16" if bf16 else "fp16" if fp16 else "no")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(directory / "tensorboard")
    try:
        args = TrainingArguments(output_dir=str(directory / "checkpoints"), **settings)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"training: {_first_line(error)}") from error
    installed = get_available_reporting_integrations()
    for logger_name in args.report_to or ():
        if logger_name not in installed:
            raise InputError(f"training.report_to={logger_name}: not installed; give none, {', '.join(installed)}")
    _check_settings(args)
    args.precision_reason = reason  # type: ignore[attr-defined]
    args.min_steps, args.max_epochs = min_steps, max_epochs  # type: ignore[attr-defined]
    processes.check_world_size(args.world_size)
    if args.n_gpu > 1:  # Trainer would split each batch among them in one process, which is slower than DDP
        logger.warning("1 of %d GPUs is used: accelerate launch --multi_gpu uses all", args.n_gpu)
        args._n_gpu = 1
    return args


def choose_precision(asked: str, training: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """(bf16, fp16, why) of a configuration; see `device.choose_precision`."""
    # precision=... wins over bf16=false of conf/training/from_scratch_speech.yaml
    bf16 = training.get("bf16") if asked == "auto" else training.get("bf16") or None
    return device.choose_precision(asked, bf16, training.get("fp16"))


def _check_settings(args: TrainingArguments) -> None:
    """Build the optimizer and the schedule around one weight, and the like, before any data is read.

    Raises:
        InputError: a setting is refused, or needs what is not installed.
    """
    import torch
    from accelerate.utils import DynamoBackend
    from transformers import Trainer
    from transformers.training_args import OptimizerNames
    from transformers.utils import is_liger_kernel_available

    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, cast("Any", torch.nn.Identity()))
        if not args.optim_target_modules:  # others look for layers, which are not here
            kind([weight], **settings)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"training.optim={OptimizerNames(args.optim).value}: {_first_line(error)}") from error
    _check_schedule(args, torch.optim.SGD([weight], args.learning_rate))
    known = [name.lower() for name in DynamoBackend.__members__]
    if args.torch_compile and str(args.torch_compile_backend).lower() not in known:
        raise InputError(f"training.torch_compile_backend={args.torch_compile_backend}: give one of {', '.join(known)}")
    if args.use_liger_kernel and not is_liger_kernel_available():
        raise InputError("training.use_liger_kernel=true: liger-kernel is not installed; leave it out")
    try:
        args.get_process_log_level()
    except KeyError as error:
        raise InputError(f"training.log_level={error.args[0]}: give debug, info, warning, error or critical") from error


def _check_schedule(args: TrainingArguments, optimizer: Any) -> None:
    from transformers import SchedulerType, get_scheduler
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    name, given = SchedulerType(args.lr_scheduler_type).value, cast("dict[str, Any] | None", args.lr_scheduler_kwargs)
    steps = args.max_steps if args.max_steps > 0 else 1000
    try:
        get_scheduler(name, optimizer, args.get_warmup_steps(steps), steps, scheduler_specific_kwargs=given)
    except (ValueError, TypeError, RuntimeError) as error:
        parameters = inspect.signature(cast("Any", TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)])).parameters
        takes = [key for key, one in parameters.items() if key not in SCHEDULE_OWN and one.kind != one.VAR_KEYWORD]
        remedy = "leave training.lr_scheduler_kwargs out"
        if takes:
            meant = next((key for key in takes if key in str(error)), takes[0])
            remedy = f"it takes {', '.join(takes)}: give 'training.lr_scheduler_kwargs={{{meant}: NUMBER}}'"
        raise InputError(f"training.lr_scheduler_type={name}: {_first_line(error)}; {remedy}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


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
