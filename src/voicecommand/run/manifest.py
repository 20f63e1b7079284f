"""The manifest of a folder: the size and the SHA-256 of each of its files, and facts about the folder.

It is written last, so a folder with a manifest is whole. It has a checksum of its own, so a damaged manifest is noticed
as well. It proves that nothing was damaged or mixed up, not who wrote the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voicecommand import files

NAME = "manifest.json"
FORMAT = 1
_verified: dict[Path, tuple[int, int, str]] = {}  # file -> its size, time of change and SHA-256 when it was last read


class Damaged(Exception):
    """A folder is not as its manifest says. The message names the file and what is wrong with it."""


def write(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of all files that are in `directory` now, folders in it included.

    Args:
        facts: what else is said of the folder, in types of JSON.

    Raises:
        OSError: a file can't be read.
        StorageError: the manifest can't be written.
    """
    found = {
        str(path.relative_to(directory)): {"size": path.stat().st_size, "sha256": _hash_file(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / NAME
    }
    content = {"format": FORMAT, "facts": dict(facts), "files": found}
    files.write_json(directory / NAME, content | {"checksum": _checksum(content)})


def has_manifest(directory: Path) -> bool:
    """Whether the folder has a manifest, right or wrong."""
    return (directory / NAME).is_file()


def read(directory: Path) -> dict[str, Any]:
    """The facts of the folder, without a look at its files.

    Raises:
        Damaged: the manifest is not there, or not as it was written.
    """
    facts: dict[str, Any] = _read(directory)["facts"]
    return facts


def verify(directory: Path) -> dict[str, Any]:
    """The facts of a folder that has the files of its manifest, unchanged, and no others.

    A file that this process has hashed before is hashed again only if its size or its time of change differs.

    Raises:
        Damaged: a file is missing, added, of another size or of another content; or the manifest itself is damaged.
    """
    content = _read(directory)
    present = {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.is_dir() and path != directory / NAME
    }
    for name, entry in content["files"].items():
        path = directory / name
        if name not in present:
            raise Damaged(f"{name} is missing")
        present.remove(name)
        try:
            size = path.stat().st_size
            if size != entry["size"]:
                raise Damaged(f"{name} has {size} bytes, not {entry['size']}")
            if _hash_file(path) != entry["sha256"]:
                raise Damaged(f"{name} has changed since it was written (another SHA-256)")
        except OSError as error:
            raise Damaged(f"{name} can't be read ({error.strerror})") from error
    if present:
        raise Damaged(f"{min(present)} was not there when the folder was written")
    facts: dict[str, Any] = content["facts"]
    return facts


def _read(directory: Path) -> dict[str, Any]:
    path = directory / NAME
    try:
        content = files.read_json(path)
    except OSError as error:
        raise Damaged(f"{NAME} is missing" if not path.exists() else f"{NAME} can't be read") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{NAME} is not valid JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Damaged(f"{NAME} has a format that this version does not know")
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content):
        raise Damaged(f"{NAME} has changed since it was written")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    status = path.stat()
    known = _verified.get(path.absolute())
    if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
        return known[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _verified[path.absolute()] = (status.st_size, status.st_mtime_ns, digest)
    return digest
