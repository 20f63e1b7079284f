"""What can happen to the folder of a saved model: the same list for the tests and for benchmarks/chaos.py.

`DAMAGES` and `UNNOTICED_BY_A_MANIFEST` are name -> function(folder), which damages the folder in place; both hold for
networks and for estimators.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
WEIGHTS = ("model.safetensors", "estimator.safetensors")


def weights(folder: Path) -> Path:
    return next(folder / name for name in WEIGHTS if (folder / name).is_file())


def configuration(folder: Path) -> Path:
    return folder / ("config.json" if (folder / "config.json").is_file() else "features.json")


def processor(folder: Path) -> Path:
    """The file of the processor; of a model without one, that of its features."""
    names = ("tokenizer.json", "preprocessor_config.json", "features.json")
    return next(folder / name for name in names if (folder / name).is_file())


def settings(folder: Path) -> Path:
    return folder / "voicecommand.json"


def manifest(folder: Path) -> Path:
    return folder / "manifest.json"


# ---- bytes ----


def _flip(path: Path, low: float, high: float) -> None:
    """Flip one bit, at a place that depends on the file only."""
    content = bytearray(path.read_bytes())
    draw = random.Random(f"{path.name} {low}")
    content[draw.randrange(int(low * len(content)), max(int(high * len(content)), 1))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _zero(path: Path) -> None:
    """Zeros in place of a block, as after a power failure."""
    content = bytearray(path.read_bytes())
    start = len(content) // 2
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


BYTES: dict[str, Callable[[Path], None]] = {
    "a bit flipped near the beginning": lambda path: _flip(path, 0, 0.2),
    "a bit flipped in the middle": lambda path: _flip(path, 0.2, 0.8),
    "a bit flipped near the end": lambda path: _flip(path, 0.8, 1),
    "the last bytes missing": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros in the middle": _zero,
    "missing": lambda path: path.unlink(),
}


def _of_file(find: Callable[[Path], Path], change: Callable[[Path], None]) -> Damage:
    return lambda folder: change(find(folder))


# ---- tensors and settings, written again as a whole ----


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the weights again with `change(tensors)`, which changes them in place."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights(folder))
    change(tensors)
    save_file(tensors, weights(folder), metadata={"format": "pt"})


def _last(tensors: dict[str, Any]) -> str:
    """The name of the last tensor of floats with several values."""
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1][-1]


def _fill(value: float) -> Callable[[dict[str, Any]], object]:
    def fill(tensors: dict[str, Any]) -> None:
        tensors[_last(tensors)].view(-1)[0] = value

    return fill


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def edit_task(folder: Path, **changes: Any) -> None:
    task = json.loads(settings(folder).read_text())["task"]
    edit_json(settings(folder), task=task | {"settings": task["settings"] | changes})


def edit_labels(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    vocabulary = json.loads(settings(folder).read_text())["vocabulary"]
    edit_json(settings(folder), vocabulary=vocabulary | {"labels": change(vocabulary["labels"])})


TENSORS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a tensor missing": lambda tensors: tensors.pop(_last(tensors)),
    "a tensor too many": lambda tensors: tensors.update(extra=tensors[_last(tensors)].clone()),
    "a tensor of another name": lambda tensors: tensors.update(other=tensors.pop(_last(tensors))),
    "a tensor of another shape": lambda tensors: tensors.update({_last(tensors): tensors[_last(tensors)][:-1].clone()}),
    "a tensor of whole numbers": lambda tensors: tensors.update({_last(tensors): tensors[_last(tensors)].long()}),
    "NaN in a tensor": _fill(float("nan")),
    "infinity in a tensor": _fill(float("inf")),
}
SETTINGS: dict[str, Damage] = {
    "a threshold of NaN": lambda folder: edit_json(settings(folder), threshold=float("nan")),
    "a threshold below 0": lambda folder: edit_json(settings(folder), threshold=-0.1),
    "a threshold above 1": lambda folder: edit_json(settings(folder), threshold=1.5),
    "a threshold that is true": lambda folder: edit_json(settings(folder), threshold=True),
    "a label twice": lambda folder: edit_labels(folder, lambda labels: [labels[0], *labels[:-1]]),
    "a label too many": lambda folder: edit_labels(folder, lambda labels: [*labels, "zzz"]),
    "a label too few": lambda folder: edit_labels(folder, lambda labels: labels[:-1]),
    "no labels": lambda folder: edit_labels(folder, lambda labels: []),
    "an empty label": lambda folder: edit_labels(folder, lambda labels: ["", *labels[1:]]),
    "a format of the future": lambda folder: edit_json(settings(folder), format=3),
    "an unknown key": lambda folder: edit_json(settings(folder), evil=1),
    "a list": lambda folder: settings(folder).write_text("[1]"),
    "deep JSON": lambda folder: settings(folder).write_text("[" * 100_000),
}


def unseal(folder: Path) -> None:
    """Make the folder one of an older version, which has no manifest."""
    manifest(folder).unlink()
    content = json.loads(settings(folder).read_text())
    settings(folder).write_text(json.dumps({k: v for k, v in content.items() if k not in ("manifest", "checksum")}))


def _unsealed(change: Damage) -> Damage:
    def damage(folder: Path) -> None:
        unseal(folder)
        change(folder)

    return damage


def _of_tensors(change: Callable[[dict[str, Any]], object]) -> Damage:
    return lambda folder: edit_tensors(folder, change)


def _rewrite_manifest(folder: Path) -> None:
    """A manifest that fits the changed files, as of another model: its name stands in voicecommand.json no more."""
    from voicecommand.run.manifest import write
    from voicecommand.tasks.saved import is_covered

    _flip(weights(folder), 0.9, 1)
    write(folder, {}, is_covered)


ROLES = (weights, configuration, processor, settings, manifest)
# To a model as training leaves it.
DAMAGES: dict[str, Damage] = {
    f"{find.__name__}: {name}": _of_file(find, change) for find in ROLES for name, change in BYTES.items()
}
DAMAGES |= {name: _of_tensors(change) for name, change in TENSORS.items()}
DAMAGES |= {name: _of_file(lambda folder: folder, change) for name, change in SETTINGS.items()}
DAMAGES |= {
    "other weights beside the model's": lambda folder: (folder / "other.safetensors").write_bytes(
        weights(folder).read_bytes()
    ),
    "an adapter beside the model": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "a manifest of other files": _rewrite_manifest,
}
# To a model of an older version, without a manifest: what its tensors and settings must show by themselves.
UNNOTICED_BY_A_MANIFEST: dict[str, Damage] = {
    name: _unsealed(change)
    for name, change in {
        **{name: _of_tensors(change) for name, change in TENSORS.items()},
        **SETTINGS,
        "no weights": lambda folder: weights(folder).unlink(),
        "no configuration": lambda folder: configuration(folder).unlink(),
        "no processor": lambda folder: processor(folder).unlink(),
    }.items()
}
