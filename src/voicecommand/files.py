"""Atomic writing of files and directories, JSON, YAML, texts for a terminal, file locks, the cache folder.

All lasting output goes through `open_whole` (a file) or `staged` (a directory): it is written beside its destination,
flushed to the disk, and renamed. So a reader finds either the old or the new content, whenever the process or the
machine stops.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from voicecommand.errors import InputError, StorageError

logger = logging.getLogger(__name__)
# Levels of a YAML file. The deepest that is read is the text of an example in a list of Rasa's: 7.
MAX_DEPTH = 32
MAX_LINE = 4_000  # characters of an error, which may quote what is in a file
FULL = {errno.ENOSPC, errno.EDQUOT}
MAX_CONFIGURATION = 100_000  # bytes of a YAML file with settings; our largest has 5,000


def cache_directory() -> Path:
    """The folder of prepared audio and features, beside the caches of datasets (HF_HOME, HF_DATASETS_CACHE)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "voicecommand"


@contextlib.contextmanager
def open_whole(path: Path, flush: bool = True) -> Iterator[BinaryIO]:
    """A binary file to write to, which replaces `path` when the block ends without an error.

    It is `.NAME.part` beside `path`. Only one process at a time writes it, others wait; what a killed process left
    there is overwritten. The new file has mode 0644. A device or a pipe is not replaced, which would break it for
    others, but written to.

    Args:
        path: the file to replace or create; its folder is created too.
        flush: whether the content must be on the disk before the rename. False is for caches of thousands of small
            files that can be made again: a flush takes about 0.5 ms, and readers of a cache check what they find.

    Raises:
        StorageError: it can't be written. Nothing is left beside `path`, which keeps its content (or has the whole new
            content, if only the flush of its folder failed).
    """
    staging = path.with_name(f".{path.name}.part")
    with _storage_errors(path), contextlib.ExitStack() as stack:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield stack.enter_context(path.open("wb"))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(_open_exclusively(staging))
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


def is_half_written(path: Path) -> bool:
    """Whether `open_whole` was writing this file when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def write_bytes(path: Path, content: bytes, flush: bool = True) -> None:
    """Write the whole content to `path`, or raise StorageError and leave it unchanged; see `open_whole`."""
    with open_whole(path, flush) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Like `write_bytes`, for text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Like `write_bytes`, for JSON: indented for people, or on one line without a line end (indent=None)."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + ("" if indent is None else "\n"))


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not UTF-8, not JSON, or nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML text of bounded depth and without aliases, which could expand without bounds.

    Raises:
        yaml.YAMLError: it is not YAML, has several documents, an alias, or more than MAX_DEPTH levels.
        ValueError: it has half of a surrogate pair.
    """
    root: yaml.Node | None = None
    stack: list[yaml.CollectionNode] = []
    keys: list[yaml.Node | None] = []  # of the mappings in `stack`, whose value is still to come
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        mark: Any = event.start_mark  # in libyaml of a class of its own
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias (*name), which is not read: write it out", problem_mark=mark)
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise yaml.MarkedYAMLError(problem="a second document, which is not read", problem_mark=mark)
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            keys.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        if len(stack) >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node = _node_of(event)
        if not stack:
            root = node
        elif isinstance(stack[-1], yaml.SequenceNode):
            stack[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            stack[-1].value.append((keys[-1], node))
            keys[-1] = None
        if isinstance(node, yaml.CollectionNode):
            stack.append(node)
            keys.append(None)
    return root


def _node_of(event: Any) -> yaml.Node:
    """The node that an event begins: a scalar, or an empty sequence or mapping."""
    marks = (event.start_mark, event.end_mark)
    kind = type(event)
    if issubclass(kind, yaml.ScalarEvent):
        return yaml.ScalarNode(event.tag, event.value, *marks, event.style)
    return (yaml.SequenceNode if issubclass(kind, yaml.SequenceStartEvent) else yaml.MappingNode)(event.tag, [], *marks)


def check_yaml(path: Path) -> None:
    """Check that a YAML file of settings can be read without growing, whoever wrote it.

    Raises:
        OSError: it can't be read.
        InputError: it is too large, not UTF-8, not YAML, nested too deep, or has aliases.
    """
    with path.open("rb") as file:
        content = file.read(MAX_CONFIGURATION + 1)
    if len(content) > MAX_CONFIGURATION:
        raise InputError(f"{path}: more than {MAX_CONFIGURATION:,} bytes, too large for settings")
    try:
        compose_yaml(content.decode("utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from None


class _Visible(dict[int, str]):
    """Table for `str.translate`: controls, formats and line separators as JSON writes them, such as \\u001b."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\t"
        self[code] = json.dumps(character)[1:-1] if hidden else character
        return self[code]


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """The text as a terminal may get it: no control character but line ends and tabs, and nothing that hides or turns
    text (escape sequences, overrides of direction, characters without width). JSON stays the same JSON."""
    return text.translate(_VISIBLE)


def one_line(text: str) -> str:
    """The text as one visible line of at most MAX_LINE characters, as an error is printed."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."


def compact_json(metrics: dict[str, Any]) -> str:
    """Indented JSON with each list of whole numbers (a row of the matrix) on one line; NaN is an error."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    # No string can match: JSON writes a line break in a string as \\n.
    return re.sub(r"\[\n[\d,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def staging_of(directory: Path) -> Path:
    """The folder in which `staged` collects what will be `directory`."""
    return directory.with_name(f"{directory.name}.part")


@contextlib.contextmanager
def staged(directory: Path, many: bool = False) -> Iterator[Path]:
    """A new folder `NAME.part` beside `directory`, which replaces it when the block ends without an error.

    First the old directory is renamed to `.NAME.old`; it is removed last, when the new one is on the disk. If a process
    is killed between the two renames, only `.NAME.old` is left, and the next call restores it before it begins.

    Args:
        directory: the directory to replace or create. Only one process at a time may do that: hold a lock.
        many: whether it gets thousands of files; then one `os.sync` is faster than a flush of each file.

    Raises:
        StorageError: the directory can't be replaced; then the old one is still there. Errors of the block pass
            through.
    """
    staging, old = staging_of(directory), directory.with_name(f".{directory.name}.old")
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
                path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes files that only their owner can read
            os.sync() if many else _flush_tree(staging)
            _replace_directory(staging, directory, old)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replace_directory(staging: Path, directory: Path, old: Path) -> None:
    """Two renames (Linux can't rename a directory over one that has files), undone if anything fails."""
    existed = directory.exists()
    if existed:
        os.replace(directory, old)
    try:
        os.replace(staging, directory)
        _flush_directory(directory.parent)
    except BaseException:
        if directory.exists():
            os.replace(directory, staging)
        if existed:
            os.replace(old, directory)
        raise


def _flush_tree(directory: Path) -> None:
    """Flush all files of a directory to the disk, then its folders."""
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
    """Flush a directory: only then are the renames in it on the disk."""
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
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{path}: {reason} ({len(path.name):,} characters); give a shorter one") from error
        remedy = f"{'free the disk or ' if error.errno in FULL else ''}name another directory"
        raise StorageError(f"cannot write {path}: {reason}; {remedy}") from error


@contextlib.contextmanager
def _open_exclusively(path: Path) -> Iterator[BinaryIO]:
    """An empty file, opened for writing, that no other process has open through this function.

    While a process waits for the lock, the file may be renamed or removed: then `path` is opened again.
    """
    while True:
        # not "ab", which appends even after a seek, nor "wb", which empties a file that another process holds
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                is_current = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
            except FileNotFoundError:
                is_current = False
            if is_current:
                file.truncate(0)
                yield file
                return


@contextlib.contextmanager
def hold_lock(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Hold a lock on the file `path`, which is created and stays; the lock ends with the process, however that ends.

    Args:
        path: the lock file; its folder is created too.
        waiting: the log line while another process holds the lock; None does not wait.

    Raises:
        BlockingIOError: another process holds the lock, and `waiting` is None.
        StorageError: the file can't be created.
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
    """Whether a running process holds the lock on the file `path`; this neither takes the lock nor waits for it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
