"""What a run began with: its data, its base checkpoint, its settings, the machine. A resumed run must have the same.

It is kept in inputs.json of the run directory. Checkpoints have the digests of the same in their manifests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voicecommand import files
from voicecommand.run import machine

FILE = "inputs.json"
# What decides the weights. Each is refused when it has changed.
PARTS = {"configuration": "the settings", "data": "the data", "base": "the base checkpoint"}
PACKAGES = ("python", "torch", "transformers", "accelerate", "peft", "numpy")


def describe(
    settings: Mapping[str, Any], data: Mapping[str, Any], fingerprint: str, base: Mapping[str, str]
) -> dict[str, Any]:
    """The inputs of a run.

    Args:
        settings: those that can change a weight. Those of the data are not compared, because the data is.
        data: `voicecommand.data.fingerprint.describe_rows`.
        fingerprint: of the data.
        base: what training starts from: a name such as "model.safetensors of the base checkpoint" -> hash.
    """
    own = {"configuration": settings, "data": data, "fingerprint": fingerprint, "base": base}
    return own | {"machine": describe_machine()}


def write(directory: Path, inputs: Mapping[str, Any]) -> None:
    """Write inputs.json."""
    files.write_json(directory / FILE, dict(inputs))


def read(directory: Path) -> dict[str, Any]:
    """The content of inputs.json, or {} where there is none, as in runs made before December 2026, or it is damaged."""
    try:
        content = files.read_json(directory / FILE)
    except (OSError, ValueError):
        return {}
    return content if _is_valid(content) else {}


def _is_valid(content: Any) -> bool:
    """Whether the file, which may come from anywhere, is as `write` wrote it."""
    if not isinstance(content, dict):
        return False
    kinds = {"configuration": dict, "data": dict, "base": dict, "machine": dict, "world_size": int, "is_older": bool}
    if not all(isinstance(content.get(name, kind()), kind) for name, kind in kinds.items()):
        return False
    splits = {"rows": int, "columns": dict, "sorted": str, "labels": list}
    rows = content.get("data", {}).values()
    of_texts = [content.get("base", {}), content.get("machine", {})]
    for one in rows:
        if not isinstance(one, dict) or not all(isinstance(one.get(name), kind) for name, kind in splits.items()):
            return False
        of_texts.append(one["columns"])
        if not all(isinstance(label, str) for label in one["labels"]):
            return False
    is_text = all(isinstance(value, str) for part in of_texts for value in part.values())
    return is_text and content.get("world_size", 1) > 0


def digests(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Part -> a hash of it, for manifests."""
    parts = {name: inputs[name] for name in PARTS if name in inputs}
    if "configuration" in parts:
        parts["configuration"] = _without_data(parts["configuration"])
    return {name: _digest(part) for name, part in parts.items()}


def _without_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "data"}


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def describe_machine() -> dict[str, str]:
    """The versions and the processor, on which the last digits of a result can depend."""
    import torch

    versions = machine.describe_versions()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return {"device": device} | {name: versions.get(name, "absent") for name in PACKAGES}


def find_machine_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Such as "torch 2.12.0 then, 2.13.0 now"."""
    before, present = then.get("machine", {}), now.get("machine", {})
    return [
        f"{name} {before.get(name, 'absent')} then, {present.get(name, 'absent')} now"
        for name in dict.fromkeys((*before, *present))
        if before.get(name) != present.get(name)
    ]


def find_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed that decides the weights, in words; [] if nothing has."""
    found: list[str] = []
    if "configuration" in then:
        found += find_setting_changes(_without_data(then["configuration"]), _without_data(now.get("configuration", {})))
    if "data" in then and then["data"] != now.get("data"):
        found += _find_data_changes(then["data"], now.get("data", {})) or ["the data"]
    if "base" in then and then["base"] != now.get("base"):
        found += _find_file_changes(then["base"], now.get("base", {}))
    return found


def find_setting_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Such as "training.learning_rate was 0.0001 and is 0.0002"."""
    before, present = _flatten(then), _flatten(now)
    return [
        f"{key} was {before.get(key, 'not set')} and is {present.get(key, 'not set')}"
        for key in dict.fromkeys((*before, *present))
        if before.get(key) != present.get(key)
    ]


def _flatten(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            flat |= _flatten(value, where)
        elif value is not None:
            flat[where] = value
    return flat


def _find_data_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A phrase for each split that differs."""
    found = []
    for name in dict.fromkeys((*then, *now)):
        old, new = then.get(name), now.get(name)
        if old == new:
            continue
        if old is None or new is None:
            found.append(f"{name} was {'not ' if old is None else ''}there")
        elif old["rows"] != new["rows"]:
            found.append(f"{name} had {old['rows']:,} rows and has {new['rows']:,}")
        elif old["sorted"] == new["sorted"]:
            found.append(f"the rows of {name} are in another order")
        else:
            found += [f"{name}: {phrase}" for phrase in _find_column_changes(old, new)]
    return found


def _find_column_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    gone, added = (_without(old["labels"], new["labels"]), _without(new["labels"], old["labels"]))
    if gone or added:
        parts = [f"label {', '.join(gone[:3])} is gone"] * bool(gone) + [f"label {', '.join(added[:3])} is new"] * bool(
            added
        )
        return [" and ".join(parts)]
    before, present = old["columns"], new["columns"]
    changed = [name for name in dict.fromkeys((*before, *present)) if before.get(name) != present.get(name)]
    return [f"the {'recordings' if name == 'content' else f'column {name}'} changed" for name in changed]


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [name for name in names if name not in known]


def _find_file_changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    def verdict(name: str) -> str:
        return "is new" if name not in then else "is gone" if name not in now else "has changed"

    return [f"{name} {verdict(name)}" for name in dict.fromkeys((*then, *now)) if then.get(name) != now.get(name)]
