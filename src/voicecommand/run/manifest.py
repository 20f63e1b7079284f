"""The manifest of a folder: the size and the hash of each of its files, and facts about the folder.

It is written last, so a folder with a manifest is whole. It has a checksum of its own, so a damaged manifest is noticed
as well. It proves that nothing was damaged or mixed up, not who wrote the folder.

A saved model has SHA-256, which other programs compute as well. A checkpoint has XXH3 of 128 bits, which is not
cryptographic, but finds damage as surely and takes a seventh of the time: SHA-256 takes as long as writing the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from voicecommand import files

NAME = "manifest.json"
FORMAT = 1
HASHES: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh3_128": xxhash.xxh3_128}
# (device, number) of a file and the hash -> its size, time of change and digest when last read; they survive a rename
_verified: dict[tuple[int, int, str], tuple[int, int, str]] = {}


class Damaged(Exception):
    """A folder is not as its manifest says. The message names the file and what is wrong with it."""


def _covers_all(name: str) -> bool:
    return True


def write(
    directory: Path, facts: Mapping[str, Any], covers: Callable[[str], bool] = _covers_all, name_of_hash: str = "sha256"
) -> str:
    """Write the manifest of the files that are in `directory` now, folders in it included.

    Args:
        facts: what else is said of the folder, in types of JSON.
        covers: the name of a file, relative to `directory` -> whether the manifest has it.
        name_of_hash: one of `HASHES`.

    Returns:
        The checksum of the manifest, which a file beside it may repeat.

    Raises:
        OSError: a file can't be read.
        StorageError: the manifest can't be written.
    """
    found = {
        name: {"size": (directory / name).stat().st_size, name_of_hash: _hash_file(directory / name, name_of_hash)}
        for name in sorted(_list_files(directory))
        if (directory / name).is_file() and covers(name)
    }
    content = {"format": FORMAT, "facts": dict(facts), "files": found}
    checksum = checksum_of(content)
    files.write_json(directory / NAME, content | {"checksum": checksum})
    return checksum


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


def read_checksum(directory: Path) -> str:
    """The checksum of the manifest, as `write` returned it.

    Raises:
        Damaged: as `read`.
    """
    return checksum_of(_read(directory))


def verify(directory: Path, covers: Callable[[str], bool] = _covers_all) -> dict[str, Any]:
    """The facts of a folder that has the files of its manifest, unchanged, and no others.

    A file that this process has hashed before is hashed again only if its size or its time of change differs.

    Args:
        covers: as in `write`; other files may be added, changed and removed.

    Raises:
        Damaged: a file is missing, added, of another size or of another content; or the manifest itself is damaged.
    """
    content = _read(directory)
    present = _list_files(directory)
    for name, entry in content["files"].items():
        path = directory / name
        if name not in present:
            raise Damaged(f"{name} is missing")
        present.remove(name)
        try:
            size = path.stat().st_size
            if size != entry["size"]:
                raise Damaged(f"{name} has {size} bytes, not {entry['size']}")
            kind = _hash_of(entry)
            if not path.is_file() or _hash_file(path, kind) != entry[kind]:
                raise Damaged(f"{name} has changed since it was written (another {kind})")
        except OSError as error:
            raise Damaged(f"{name} can't be read ({error.strerror})") from error
    if added := sorted(filter(covers, present)):
        raise Damaged(f"{added[0]} was not there when the folder was written")
    facts: dict[str, Any] = content["facts"]
    return facts


def checksum_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _list_files(directory: Path) -> set[str]:
    """The names of all files below a folder, relative to it, links included, without its manifest."""
    found = {
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    return found - {NAME}


def _read(directory: Path) -> dict[str, Any]:
    """The content of the manifest without its checksum."""
    path = directory / NAME
    try:
        content = files.read_json(path)
    except OSError as error:
        raise Damaged(f"{NAME} is missing" if not path.exists() else f"{NAME} can't be read") from error
    except ValueError as error:
        raise Damaged(f"{NAME} is not valid JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Damaged(f"{NAME} has a format that this version does not know")
    checksum = content.pop("checksum", None)
    if checksum != checksum_of(content) or not _is_manifest(content):
        raise Damaged(f"{NAME} has changed since it was written")
    return content


def _is_manifest(content: Mapping[str, Any]) -> bool:
    """Whether somebody's manifest, which has the right checksum, has the right types too."""
    entries = content.get("files")
    return (
        isinstance(content.get("facts"), dict)
        and isinstance(entries, dict)
        and all(isinstance(entry, dict) and "size" in entry and _hash_of(entry) for entry in entries.values())
    )


def _hash_of(entry: Mapping[str, Any]) -> str:
    """The name of the hash that the manifest has of a file; an empty one if it has none."""
    return next((name for name in HASHES if name in entry), "")


def _hash_file(path: Path, name_of_hash: str) -> str:
    status = path.stat()
    key = status.st_dev, status.st_ino, name_of_hash
    known = _verified.get(key)
    if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
        return known[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, HASHES[name_of_hash]).hexdigest()
    _verified[key] = (status.st_size, status.st_mtime_ns, digest)
    return digest
