"""Files are written whole or not at all; JSON; one maker at a time; the cache folder.

Everything that is kept goes through `open_whole` (a file) or `staged` (a directory): written beside its place, flushed
to the disk, renamed. So a reader finds the old content or the new one, whenever the process or the machine stops.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from voicecommand.errors import StorageError

logger = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Where prepared audio is kept: beside the caches of datasets (HF_HOME, HF_DATASETS_CACHE)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "voicecommand"


@contextlib.contextmanager
def open_whole(path: Path, flush: bool = True) -> Iterator[BinaryIO]:
    """A binary file to write in, which takes the place of `path` when the block ends without an error.

    It lies beside `path`, as `.NAME.part`, and only one process at a time writes it: another waits. What a killed
    process left of it is written over. The file that takes the place has mode 0644. A device or a pipe can't be
    replaced without breaking it for others: it stays, and is written to.

    Args:
        path: the file to replace or make; its folder is made too.
        flush: whether the content is on the disk before it takes the place. False is for caches of thousands of small
            files that can be made again: a flush costs some 0.5 ms, and a reader there checks what it finds.

    Raises:
        StorageError: it can't be written, and nothing is left beside `path`, which holds what it held before (or the
            whole new content, where only the flush of its folder failed).
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with _storage_errors(path), path.open("wb") as there:
            yield there
        return
    staging = path.with_name(f".{path.name}.part")
    with _storage_errors(path), contextlib.ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(_open_alone(staging))
        try:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            if flush:
                os.fsync(file.fileno())
            os.replace(staging, path)
        except BaseException:
            with contextlib.suppress(OSError):
                staging.unlink(missing_ok=True)
            raise
        if flush:
            _flush_directory(path.parent)


def write_bytes(path: Path, content: bytes, flush: bool = True) -> None:
    """The whole content at `path`, or a StorageError and what was there; see `open_whole`."""
    with open_whole(path, flush) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """As `write_bytes`, as JSON: indented for people, or on one line without its end (indent=None)."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + ("" if indent is None else "\n"))


def read_json(path: Path) -> Any:
    """What a JSON file in UTF-8 holds.

    Raises:
        OSError: it can't be read.
        ValueError: it is not UTF-8, or not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def compact_json(metrics: dict[str, Any]) -> str:
    """Indented JSON with each list of whole numbers (a row of the matrix) on one line; NaN is an error."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    # No string can match: inside one, JSON writes a line break as \\n.
    return re.sub(r"\[\n[\d,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


@contextlib.contextmanager
def staged(directory: Path, many: bool = False) -> Iterator[Path]:
    """A new folder beside `directory`, as `NAME.part`, which takes its place when the block ends without an error.

    The old directory is renamed to `.NAME.old` first and removed last, when the new one is on the disk. A process that
    was killed between the two renames left only that: the next call puts it back before it begins.

    Args:
        directory: the directory to replace or make. Only one process at a time may do that: hold a lock.
        many: whether it gets files by the thousand, which one `os.sync` brings to the disk sooner than a flush each.

    Raises:
        StorageError: it can't take the place; then the old directory is still there. Errors of the block itself pass.
    """
    staging, old = directory.with_name(f"{directory.name}.part"), directory.with_name(f".{directory.name}.old")
    with _storage_errors(directory):
        if old.exists() and not directory.exists():
            os.replace(old, directory)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        yield staging
        with _storage_errors(directory):
            for path in staging.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes files that only their owner reads
            os.sync() if many else _flush_tree(staging)
            _take_place(staging, directory, old)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _take_place(staging: Path, directory: Path, old: Path) -> None:
    """Two renames (Linux can't put a directory in the place of one that has files), undone if anything fails."""
    there = directory.exists()
    if there:
        os.replace(directory, old)
    try:
        os.replace(staging, directory)
        _flush_directory(directory.parent)
    except BaseException:
        if directory.exists():
            os.replace(directory, staging)
        if there:
            os.replace(old, directory)
        raise


def _flush_tree(directory: Path) -> None:
    """Bring all files of a directory to the disk, and then the folders that name them."""
    folders = [directory]
    for path in directory.rglob("*"):
        if path.is_dir():
            folders.append(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for folder in folders:
        _flush_directory(folder)


def _flush_directory(directory: Path) -> None:
    """A rename is on the disk when the directory is."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"cannot write {path}: {reason}; free the disk or name another directory") from error


@contextlib.contextmanager
def _open_alone(path: Path) -> Iterator[BinaryIO]:
    """An empty file that no other process has open through this function, opened for writing.

    Whoever waited for the lock may hold a file that has another name by now, or none: then it is opened again.
    """
    while True:
        # neither "ab", which appends wherever one seeks, nor "wb", which empties the file of whoever holds it
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                is_there = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
            except FileNotFoundError:
                is_there = False
            if is_there:
                file.truncate(0)
                yield file
                return


@contextlib.contextmanager
def hold_lock(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Hold the lock file `path`, which is made and stays; the lock itself goes with the process, however that ends.

    Args:
        path: the lock file; its folder is made too.
        waiting: what the log says while another process holds it. Without it there is no waiting.

    Raises:
        BlockingIOError: another process holds it, and `waiting` was not given.
        StorageError: the file can't be made.
    """
    with contextlib.ExitStack() as stack:
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            logger.info("%s", waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file `path`; looking neither takes the lock nor waits for it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
