"""Pretrained checkpoints: where they are, how they are loaded, and their name in saved files."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from voicecommand.data.sources.hub import CACHE, is_within_reach
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
        InputError: there is no such checkpoint, revision or file; or the hub is out of reach, and its cache lacks it.
    """
    from safetensors import SafetensorError

    where = resolve_checkpoint(checkpoint)
    is_local = not where or Path(where).is_dir()
    at = f"model.checkpoint={checkpoint}" + (f" at revision {revision}" if revision else "")
    within_reach = is_local or _find_on_hub(where, revision, at)
    if not within_reach:
        kwargs["local_files_only"] = True
    try:
        return loader.from_pretrained(where, revision=revision, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        if within_reach:
            raise InputError(f"{at}: not a usable checkpoint: {reason}") from error
        lacking = "the hub cannot be reached, and the checkpoint is not in the cache"
        raise InputError(f"{at}: {lacking}; {CACHE}, or {instead}") from error


def hash_checkpoint(checkpoint: str, revision: str | None) -> dict[str, str]:
    """What identifies the content of a checkpoint: file -> SHA-256 of one on this machine, or the commit of the hub's
    in the cache; {} if it is not there."""
    where = Path(resolve_checkpoint(checkpoint))
    if where.is_dir():
        found = {}
        for path in sorted(where.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(where).parts):
                with path.open("rb") as file:
                    found[str(path.relative_to(where))] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return found
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    return {"commit": Path(cached).parent.name} if isinstance(cached, str) else {}


@functools.cache
def _find_on_hub(name: str, revision: str | None, at: str) -> bool:
    """Whether the hub is within reach: asked once in a process.

    Raises:
        InputError: it has no such checkpoint or revision.
    """
    from huggingface_hub import errors

    try:
        return is_within_reach(name, revision, "model")
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{at}: the hub has no such revision (model.revision)") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"{at}: the hub has no such checkpoint, or it is private or gated (HF_TOKEN); a directory is given as ./DIR"
        ) from error


def open_saved(loader: Any, directory: Path, **kwargs: Any) -> Any:
    """`loader.from_pretrained` of what we saved: without remote code, and without a bar for each loading of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(str(directory), trust_remote_code=False, **kwargs)
    finally:
        if shown:
            logging.enable_progress_bar()


def public_name(checkpoint: str) -> str:
    """The name of a checkpoint in saved files: a hub id, or "" for a package or a directory of this machine."""
    return "" if checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir() else checkpoint
