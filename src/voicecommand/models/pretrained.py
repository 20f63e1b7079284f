"""Pretrained checkpoints: where they are, how they are loaded, and their name in saved files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from voicecommand.errors import InputError


def resolve_checkpoint(checkpoint: str) -> str:
    """The place of the weights: a hub id or a directory as given, or the directory of `package://NAME/PATH`.

    The package is searched for, but never imported.

    Raises:
        InputError: there is no such directory, or the package is not installed.
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
    """`loader.from_pretrained` without remote code, and with an error of one line.

    Args:
        instead: the advice in that line for when the hub is out of reach.

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
            f"model.checkpoint={checkpoint}{at}: not found on this machine nor on the hub"
            f" (out of reach, or no such checkpoint); {instead}"
        ) from error


def public_name(checkpoint: str) -> str:
    """The name of a checkpoint in saved files: a hub id, or "" for a package or a directory of this machine."""
    return "" if checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir() else checkpoint
