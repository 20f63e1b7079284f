"""The run directory of a configuration, and what run.json says of it."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from voicecommand.config.objects import plain
from voicecommand.run import device, processes
from voicecommand.run.directory import Run

# What cannot change a weight, and so is no part of a run's identity.
NOT_IDENTITY = {"resume", "overwrite", "runs", "choices", "num_proc"}
NOT_IDENTITY_TRAINING = re.compile(
    r"disable_tqdm|log_level.*|log_on_each_node|logging_(first_step|steps|strategy)|report_to|run_name|project"
    r"|trackio_.*|push_to_hub|hub_.*|save_total_limit|dataloader_(num_workers|pin_memory|prefetch_factor"
    r"|persistent_workers)|per_device_eval_batch_size|skip_memory_metrics|include_num_input_tokens_seen"
)
# A run keeps its directory when a module moves: `_target_` is hashed by the name that it had in November 2026.
# Targets that are younger are hashed by their present name, and have no line here.
NAMES_THEN = {
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
# Keys younger than November 2026, by their path, with the default that leaves them out of the hash.
YOUNGER_KEYS: dict[str, object] = {"data.column_map.transcript": None}


def run_directory(config: DictConfig) -> Path:
    """`runs/<data>/<model>-<tuning>-s<seed>-<8 hex>`: the same command gives the same directory, on every rank."""
    choices = config.choices
    identity = {k: v for k, v in plain(config).items() if k not in NOT_IDENTITY and v not in (None, {})}
    if "training" in identity:
        kept = {k: v for k, v in identity["training"].items() if not NOT_IDENTITY_TRAINING.fullmatch(k)}
        identity["training"] = _with_objective(kept)

    digest = hashlib.sha256(json.dumps(_as_then(identity), sort_keys=True).encode()).hexdigest()[:8]
    way = "-".join(str(choices[group]) for group in ("model", "tuning") if group in choices)
    return Path(config.runs) / str(choices["data"]) / f"{way}-s{config.seed}-{digest}"


def _with_objective(training: dict[str, Any]) -> dict[str, Any]:
    """The settings of training with the objective, which configurations named then where tasks do now."""
    metric = training.get("metric_for_best_model", "macro_f1")
    direction = {"greater_is_better": not str(metric).endswith("loss")}
    return {"metric_for_best_model": metric} | direction | training


def _as_then(node: Any, path: str = "") -> Any:
    """What is hashed of a configuration: old names of targets, no younger key at its default, and 2.0 as 2.

    The schema can't say of every key whether it is a whole number, so that 2 and 2.0 must be the same.
    """
    if isinstance(node, dict):
        kept = {}
        for key, value in node.items():
            where = f"{path}.{key}" if path else str(key)
            if where in YOUNGER_KEYS and value == YOUNGER_KEYS[where]:
                continue
            kept[str(key)] = NAMES_THEN.get(value, value) if key == "_target_" else _as_then(value, where)
        return kept
    if isinstance(node, list):
        return [_as_then(value, path) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def open_run(config: DictConfig) -> Run:
    """The run directory of `config`; see `voicecommand.run.directory.Run` for what it refuses."""
    return Run(run_directory(config), config.resume, config.overwrite)


def command() -> list[str]:
    """The command as it was typed, the program by its place in the repository."""
    return ["python", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def record(config: DictConfig, args: Any) -> dict[str, Any]:
    """What run.json says of the command and the choices."""
    import torch

    return {
        "command": command(),
        "seed": config.seed,
        "world_size": processes.WORLD_SIZE,
        "threads": torch.get_num_threads(),
        "precision": None if args is None else device.name_precision(args.bf16, args.fp16),
        "precision_reason": None if args is None else args.precision_reason,
        "model": config.choices.model,
        "tuning": config.choices.get("tuning"),
        "augment": config.choices.get("augment"),
    }
