"""The run directory of a configuration, and its entries in run.json."""

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

# Settings that can't change a weight, and so are not part of a run's identity.
NOT_IDENTITY = {"resume", "overwrite", "runs", "choices", "num_proc", "reject", "metrics"}
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
# Keys newer than November 2026, by their path; at this default they are left out of the hash.
NEWER_KEYS: dict[str, object] = {
    "data.column_map.transcript": None,
    "model.head_start": "random",
    "training.min_steps": 0,
}


def run_directory(config: DictConfig) -> Path:
    """`runs/<data>/<model>-<tuning>-s<seed>-<8 hex>`: the same command gives the same directory, on every rank."""
    choices = config.choices
    identity = {k: v for k, v in plain(config).items() if k not in NOT_IDENTITY and v not in (None, {})}
    if "training" in identity:
        kept = {k: v for k, v in identity["training"].items() if not NOT_IDENTITY_TRAINING.fullmatch(k)}
        identity["training"] = _with_objective(kept)

    digest = hashlib.sha256(json.dumps(_to_hash(identity), sort_keys=True).encode()).hexdigest()[:8]
    name = "-".join(str(choices[group]) for group in ("model", "tuning") if group in choices)
    return Path(config.runs) / str(choices["data"]) / f"{name}-s{config.seed}-{digest}"


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
    """The `Run` of a configuration; see `voicecommand.run.directory.Run` for its errors."""
    return Run(run_directory(config), config.resume, config.overwrite)


def command() -> list[str]:
    """The command line, with the program's path in the repository."""
    return ["python", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def record(config: DictConfig, args: Any) -> dict[str, Any]:
    """The entries of run.json on the command, the process and the chosen options."""
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
