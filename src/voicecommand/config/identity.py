"""The run directory of a configuration, and its entries in run.json."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from voicecommand.columns import SPLITS
from voicecommand.config import arguments
from voicecommand.config.objects import plain
from voicecommand.errors import InputError
from voicecommand.run import device, processes, ranks
from voicecommand.run.directory import Run

logger = logging.getLogger(__name__)
NAME_LENGTH = 40  # characters of a file's name in a run's
# Settings that can't change a weight, and so are not part of a run's identity.
NOT_IDENTITY = {
    "resume", "resume_allow", "overwrite", "runs", "choices", "num_proc", "keep_checkpoints", "reject", "metrics",
    "rank_timeout",
}  # fmt: skip
LEAST_RANK_TIMEOUT = 5  # seconds
NOT_IDENTITY_TRAINING = re.compile(
    r"disable_tqdm|log_level.*|log_on_each_node|logging_(first_step|steps|strategy)|report_to|run_name|project"
    r"|trackio_.*|push_to_hub|hub_.*|save_total_limit|dataloader_(num_workers|pin_memory|prefetch_factor"
    r"|persistent_workers)|per_device_eval_batch_size|skip_memory_metrics|include_num_input_tokens_seen"
)
# A run keeps its directory when a module moves: `_target_` is hashed by its name in November 2026. Newer targets are
# hashed by their present name, and have no line here.
HASHED_TARGETS = {
    "voicecommand.audio.augmentation.Augmentation": "voicecommand.augmentation.Augmentation",
    "voicecommand.data.sources.commands.load_commands": "voicecommand.data.commands.load_commands",
    "voicecommand.data.sources.file.load_files": "voicecommand.data.file.load_files",
    "voicecommand.data.sources.folder.load_folder": "voicecommand.data.folder.load_folder",
    "voicecommand.data.sources.hub.load_hub": "voicecommand.data.hub.load_hub",
    "voicecommand.data.sources.speech_commands.load_speech_commands": (
        "voicecommand.data.speech_commands.load_speech_commands"
    ),
    "voicecommand.data.sources.spoken.load_spoken": "voicecommand.data.spoken.load_spoken",
    "voicecommand.models.tuning.Full": "voicecommand.tuning.Full",
    "voicecommand.models.tuning.Head": "voicecommand.tuning.Head",
    "voicecommand.models.tuning.LastLayers": "voicecommand.tuning.LastLayers",
    "voicecommand.models.tuning.Lora": "voicecommand.tuning.Lora",
}
# Data of one's own: a run is named by its path, and the hash takes the resolved one. Data sets with a yaml of their own
# are named by it, and hashed with the path as it was written.
BY_PATH = ("file", "folder", "hub", "spoken")
# Keys newer than November 2026, by their path; at this default they are left out of the hash.
NEWER_KEYS: dict[str, object] = {
    "data.column_map.transcript": None,
    "data.grammar": None,
    "data.sentences": 1000,
    "data.split.folds": None,
    "data.split.stratify": False,
    "model.head_start": "random",
    "training.max_epochs": None,
    "training.min_steps": 0,
}


def run_directory(config: DictConfig) -> Path:
    """`runs/<data>/<model>-<tuning>-s<seed>-<8 hex>`: the same command gives the same directory, on every rank.

    <data> is the choice of data=, with the name of the file or folder for one's own data: file-commands.
    """
    content = plain(config)
    choice = str(config.choices.data)
    if choice in BY_PATH:
        content["data"] = _resolved(choice, content["data"])
    return Path(config.runs) / data_name(choice, content["data"]) / _hashed_name(config, content)


def first_directory(config: DictConfig) -> Path:
    """The directory that the same command had in November 2026."""
    return Path(config.runs) / str(config.choices.data) / _hashed_name(config, plain(config))


def _hashed_name(config: DictConfig, content: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(_identity(content), sort_keys=True).encode()).hexdigest()[:8]
    name = "-".join(str(config.choices[group]) for group in ("model", "tuning") if group in config.choices)
    return f"{name}-s{config.seed}-{digest}"


def _identity(content: dict[str, Any]) -> Any:
    """The part of a configuration that can change a weight, in the form that is hashed."""
    identity = {k: v for k, v in content.items() if k not in NOT_IDENTITY and v not in (None, {})}
    if "training" in identity:
        kept = {k: v for k, v in identity["training"].items() if not NOT_IDENTITY_TRAINING.fullmatch(k)}
        identity["training"] = _with_objective(kept)
    return _to_hash(identity)


def settings(config: DictConfig) -> dict[str, Any]:
    """The settings that can change a weight."""
    found: dict[str, Any] = _identity(plain(config))
    return found


def data_name(choice: str, data: Mapping[str, Any]) -> str:
    """The data's name in directories and titles, such as `commands`, or `file-requests` for one's own requests.csv.

    A file that is named by a split, such as train.csv, has the name of its folder.
    """
    files = [str(file) for file in (data.get("files") or {}).values() if file is not None]
    place = next((str(data[key]) for key in ("path", "grammar") if data.get(key)), next(iter(files), None))
    if choice not in BY_PATH or place is None:
        return choice
    path = Path(place)
    if choice != "hub" or path.is_absolute():
        path = path.resolve()
        name = path.parent.name if path.stem in SPLITS else path.name if path.is_dir() else path.stem
    else:
        name = place
    safe = re.sub(r"[^\w.]+", "-", name).strip("-.")[:NAME_LENGTH]
    return f"{choice}-{safe}" if safe else choice


def _resolved(choice: str, data: dict[str, Any]) -> dict[str, Any]:
    """The section with the paths of its files resolved; an id of the hub is no path, unless there is a directory."""

    def resolve(path: Any) -> Any:
        if path is None or (choice == "hub" and not Path(str(path)).is_dir()):
            return path
        return str(Path(str(path)).expanduser().resolve())

    files = {name: resolve(file) for name, file in (data.get("files") or {}).items()}
    changed: dict[str, Any] = {key: resolve(data.get(key)) for key in ("path", "words", "grammar")} | {"files": files}
    return data | {key: value for key, value in changed.items() if key in data}


def _with_objective(training: dict[str, Any]) -> dict[str, Any]:
    """The settings of training with the objective: tasks name it now, but it was a setting when hashes were defined."""
    metric = training.get("metric_for_best_model", "macro_f1")
    direction = {"greater_is_better": not str(metric).endswith("loss")}
    return {"metric_for_best_model": metric} | direction | training


def _to_hash(node: Any, path: str = "") -> Any:
    """The part of a configuration that is hashed: old names of targets, no newer key at its default, and 2.0 as 2.

    The schema does not know of every key whether it is a whole number, so 2 and 2.0 must have the same hash.
    """
    if isinstance(node, dict):
        kept = {}
        for key, value in node.items():
            where = f"{path}.{key}" if path else str(key)
            if where in NEWER_KEYS and value == NEWER_KEYS[where]:
                continue
            kept[str(key)] = HASHED_TARGETS.get(value, value) if key == "_target_" else _to_hash(value, where)
        return kept
    if isinstance(node, list):
        return [_to_hash(value, path) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def open_run(config: DictConfig) -> Run:
    """The `Run` of a configuration, in the directory that it had in November 2026 if that is there and no newer one;
    see `voicecommand.run.directory.Run` for its errors. From here on the ranks watch one another.

    Raises:
        InputError: `rank_timeout` is too short, or there are fewer GPUs than ranks.
    """
    if config.rank_timeout < LEAST_RANK_TIMEOUT:
        raise InputError(f"rank_timeout={config.rank_timeout:g}: give at least {LEAST_RANK_TIMEOUT} s")
    processes.check_devices()
    processes.connect((plain(config).get("training") or {}).get("ddp_timeout"))
    ranks.watch(config.rank_timeout)
    directory, first = run_directory(config), first_directory(config)
    if first.is_dir() and not directory.exists():
        directory = first
    return Run(
        directory, config.resume, config.overwrite, config.keep_checkpoints, config.resume_allow, settings(config)
    )


def log_plan(config: DictConfig, run: Run) -> None:
    """Log how many processes train in which precision, what is trained on what, and where it will be written.

    Raises:
        InputError: a precision that there is not.
    """
    training = plain(config).get("training")
    precision = "" if training is None else f", {arguments.choose_precision(config.precision, training)[2]}"
    logger.info("%s%s", processes.describe(), precision)
    choices, places = config.choices, _places(config)
    tuning = f", tuning={choices.tuning}" if choices.get("tuning") else ""
    logger.info("data=%s%s", choices.data, f" ({', '.join(places)})" if places else "")
    logger.info("model=%s%s, seed=%d", choices.model, tuning, config.seed)
    logger.info("the run will be in %s", run.directory)


def has_files(config: DictConfig) -> bool:
    """Whether the data is read from files that are there; the log names those that are not."""
    places = _places(config)
    found = any(Path(place).expanduser().exists() for place in places)
    if places and not found:
        logger.info("%s: no such file here, so it was not compared with the data of the run", ", ".join(places))
    return found


def _places(config: DictConfig) -> list[str]:
    """The paths, or the id of the hub, that the data is read from."""
    data = plain(config)["data"]
    places = (data.get("path"), data.get("grammar"), *(data.get("files") or {}).values())
    return [str(place) for place in places if place]


def command() -> list[str]:
    """The command line, with the program's path in the repository."""
    return ["python", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def record(config: DictConfig, args: Any) -> dict[str, Any]:
    """The entries of run.json on the command, the process and the chosen options."""
    import torch

    return {
        "command": command(),
        "working_directory": os.getcwd(),
        "seed": config.seed,
        "world_size": processes.WORLD_SIZE,
        "threads": torch.get_num_threads(),
        "precision": None if args is None else device.name_precision(args.bf16, args.fp16),
        "precision_reason": None if args is None else args.precision_reason,
        "model": config.choices.model,
        "tuning": config.choices.get("tuning"),
        "augment": config.choices.get("augment"),
    }
