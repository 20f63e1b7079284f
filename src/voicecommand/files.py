"""Files are written whole or not at all; JSON; the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voicecommand.errors import StorageError


def cache_directory() -> Path:
    """Where prepared sound is kept: beside the caches of datasets (HF_HOME, HF_DATASETS_CACHE)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "voicecommand"


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A folder beside `directory` that takes its place when the block ends without an error."""
    staging = directory.with_name(directory.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        for path in staging.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors are written for their owner alone
        shutil.rmtree(directory, ignore_errors=True)
        staging.rename(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_once(folder: Path, data: bytes, name: str | None) -> str:
    """Write a file whose name is its content's hash, unless it is there; its ending is the given name's."""
    digest = hashlib.sha256(data).hexdigest()
    ending = Path(name or "").suffix.lower()
    target = folder / digest[:2] / f"{digest}{ending if ending[1:].isalnum() and ending.isascii() else ''}"
    if not target.exists() or target.stat().st_size != len(data):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(f"{target.name}.{os.getpid()}")
        staging.write_bytes(data)
        os.replace(staging, target)
    return str(target)


def read_json_file(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json_file(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_atomically(path: Path, content: bytes) -> None:
    """The whole file (mode 0644) or none of it and a StorageError: written beside, flushed, renamed."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)
        staged.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; free the disk or name another directory") from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def compact_json(metrics: dict[str, Any]) -> str:
    """Indented JSON with each list of whole numbers (a row of the matrix) on one line; NaN is an error."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    # No string can match: inside one, JSON writes a line break as \\n.
    return re.sub(r"\[\n[\d,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a file beside it, then a rename."""
    staging = path.with_name(path.name + ".part")
    try:
        staging.write_text(text, encoding="utf-8")
        staging.replace(path)
    except OSError:
        staging.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
