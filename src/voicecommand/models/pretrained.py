"""Weights of others: where they are, how they are loaded, and what saved files say of where they came from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from voicecommand.errors import InputError


def resolve_checkpoint(checkpoint: str) -> str:
    """Where the weights are: a hub id or a directory as given, `package://NAME/PATH` as a directory in a package.

    The package is found, never imported.

    Raises:
        InputError: the package is not installed, or has no such directory.
    """
    if not checkpoint.startswith("package://"):
        if checkpoint.startswith((".", "/", "~")) and not Path(checkpoint).expanduser().is_dir():
            raise InputError(f"model.checkpoint={checkpoint}: no such directory")
        return str(Path(checkpoint).expanduser()) if checkpoint.startswith("~") else checkpoint
    name, _, inner = checkpoint.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} is not installed; run make setup")
    root = Path(spec.submodule_search_locations[0]).resolve()
    directory = (root / inner).resolve()
    if not directory.is_dir() or not directory.is_relative_to(root):
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} has no directory {inner!r}")
    return str(directory)


def load_pretrained(loader: Any, checkpoint: str, revision: str | None, instead: str, **kwargs: Any) -> Any:
    """`loader.from_pretrained` with our rules: no remote code, and one line when the checkpoint can't be had.

    Args:
        instead: what that line says to do without the hub.

    Raises:
        InputError: the hub is out of reach, or there is no such checkpoint, revision or file.
    """
    from safetensors import SafetensorError

    where = resolve_checkpoint(checkpoint)
    try:
        return loader.from_pretrained(where, revision=revision, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if not where or Path(where).is_dir():
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: {reason}") from error
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"model.checkpoint={checkpoint}{at}: not found on this machine, and the hub gave nothing"
            f" (out of reach, or no such checkpoint); {instead}"
        ) from error


def public_name(checkpoint: str) -> str:
    """The name that saved files give for where the weights came from: a hub id, never a path of this machine."""
    return "" if checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir() else checkpoint
