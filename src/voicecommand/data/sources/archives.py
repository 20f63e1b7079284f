"""Downloaded archives -> directories in the cache, extracted without trusting the archive.

Crafted links can make the extraction of `tarfile` write outside its target, even with its data filter (CVE-2025-4517).
Here each member is read as a stream and written to a checked path; only regular files up to a size are accepted. A
directory gets its name when it is complete.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlparse

from voicecommand import files
from voicecommand.errors import InputError, StorageError

logger = logging.getLogger(__name__)
MAX_MEMBER = 64 << 20  # bytes; the longest file of Speech Commands, a minute and a half of noise, has 3 MB
MAX_TOTAL = 16 << 30
MAX_MEMBERS = 500_000
MAX_PATH = 1_024  # bytes of a member's name
MAX_GROWTH = 100  # times the archive's size; recordings grow to less than twice theirs
SMALL = 64 << 20  # bytes that any archive may grow to
BLOCK = 1 << 20
MARKER = ".complete.json"


def fetch(source: str, sha256: str | None, key: str) -> Path:
    """A directory with the content of ``source``.

    Args:
        source: a directory, which is used directly; a .tar, .tar.gz or .tgz; or the http(s) address of one.
        sha256: the expected one of the archive, in hex.
        key: the setting that messages name, such as "data.path".

    Raises:
        InputError: the source is missing, not reachable, damaged, has another sha256, or a member that is refused.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(sha256)):
        raise InputError(f"the sha256 of {key} must be 64 hex digits, not {sha256!r}")
    sha256 = sha256 and str(sha256).lower()
    if urlparse(source).scheme in ("http", "https"):
        source = str(_download(source, files.cache_directory() / "downloads"))
    elif os.path.isdir(source):
        if sha256:
            raise InputError(f"{key}={source} is a directory: only an archive has a sha256")
        return Path(source)
    try:
        status = os.stat(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{key}={source}: {getattr(error, 'strerror', None) or error}") from None
    if not os.path.isfile(source):
        raise InputError(f"{key}={source}: neither a file nor a directory")
    known = f"{os.path.realpath(source)}\n{status.st_size}\n{status.st_mtime_ns}"
    target = (
        files.cache_directory() / "archives" / hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    )
    _extract_once(Path(source), target, sha256, f"{key}={source}")
    return target


def _check_sha256(what: str, digest: str, sha256: str | None) -> None:
    if sha256 and digest != sha256:
        raise InputError(
            f"{what}: its sha256 is {digest}, and {sha256} was asked for; the archive is not read "
            "(if it is a damaged copy, delete it)"
        )


def _download(url: str, folder: Path) -> Path:
    """The file at ``url``, downloaded to the cache; an incomplete download leaves no file."""
    import urllib.request

    from tqdm import tqdm

    name = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(urlparse(url).path)) or "archive"
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    with files.hold_lock(target.with_name(target.name + ".lock"), f"another process is fetching {url}: waiting"):
        if target.exists():
            return target
        with files.open_whole(target) as file:
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    size = int(answer.headers.get("Content-Length") or 0)
                    received = 0  # a bar that is not shown does not count
                    with tqdm(total=size or None, desc=name, unit="B", unit_scale=True) as bar:
                        while block := answer.read(BLOCK):
                            received += file.write(block)
                            bar.update(len(block))
                            if received > MAX_TOTAL:
                                raise InputError(f"{url}: more than {MAX_TOTAL >> 30} GB")
                    if size and received != size:
                        raise OSError(f"cut short after {received:,} of {size:,} bytes")
            except (OSError, ValueError) as error:  # URLError is an OSError
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise  # the disk is the cause
                raise InputError(f"{url}: cannot be fetched: {error}; fetch it yourself and give its path") from None
    return target


def _extract_once(archive: Path, target: Path, sha256: str | None, what: str) -> None:
    """Extract the archive, unless an earlier run has done so; nothing is kept if it has another sha256."""
    with files.hold_lock(target.with_name(target.name + ".lock"), f"another process is extracting {archive}: waiting"):
        if not (target / MARKER).exists():
            with files.staged(target, many=True) as staging:
                digest, count = _extract(archive, staging)
                _check_sha256(what, digest, sha256)
                files.write_json(staging / MARKER, {"archive": str(archive), "sha256": digest, "files": count})
            logger.info("%s: %s files extracted to %s", archive, f"{count:,}", target)
    digest = str(files.read_json(target / MARKER)["sha256"])
    logger.info("%s: sha256 %s", archive, digest)
    _check_sha256(what, digest, sha256)


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes], count: Callable[[int], object]) -> None:
        self.file, self.count, self.digest, self.size = file, count, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        self.digest.update(block)
        self.size += len(block)
        self.count(len(block))
        return block


class _Bounded:
    """What an archive holds, members and their headers, refused where it grows without bounds."""

    def __init__(self, file: IO[bytes], archive: Path, packed: _Hashed) -> None:
        self.file, self.archive, self.packed, self.size = file, archive, packed, 0

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        self.size += len(block)
        if self.size > SMALL and self.size > MAX_GROWTH * self.packed.size:
            reason = f"grows to more than {MAX_GROWTH} times its size"
            raise InputError(f"{self.archive}: {reason}; nothing of the archive is kept")
        return block


def _extract(archive: Path, target: Path) -> tuple[str, int]:
    """Write the members below ``target``; returns (sha256 of the archive, number of files)."""
    from tqdm import tqdm

    total = count = 0
    with (
        archive.open("rb") as file,
        tqdm(total=archive.stat().st_size, desc=f"extracting {archive.name}", unit="B", unit_scale=True) as bar,
    ):
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        hashed = _Hashed(file, bar.update)
        stream = cast(IO[bytes], hashed)  # only its `read` is called
        # tarfile's own gzip does not compare checksums, and takes a damaged header for the end
        unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if packed else stream
        plain = cast(IO[bytes], _Bounded(unpacked, archive, hashed))
        try:
            with tarfile.open(fileobj=plain, mode="r|") as members:
                for member in members:
                    if member.isdir():
                        continue
                    count += 1
                    total += member.size
                    place = target / _check_member(archive, member, count, total)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    content = members.extractfile(member)
                    assert content is not None  # it is a regular file
                    with place.open("xb") as out:
                        shutil.copyfileobj(content, out, BLOCK)
            while block := plain.read(BLOCK):
                if block.strip(b"\0"):
                    raise tarfile.ReadError("damaged: there is data after its end")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise InputError(f"{archive}: not a whole tar archive ({error}); nothing of it is kept") from None
        except OSError as error:
            if error.errno is None:
                raise InputError(f"{archive}: damaged ({error}); nothing of it is kept") from None
            if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
                reason = f"a member is there twice, or its name is not possible ({error.strerror})"
                raise InputError(f"{archive}: {reason}; nothing of it is kept") from None
            raise StorageError(
                f"{target.parent}: {error.strerror}, while {archive} was extracted; nothing of it is kept; free the "
                "disk, or name another cache by HF_HOME=DIR"
            ) from error
        while stream.read(BLOCK):  # the sha256 includes the bytes after the tar's end
            pass
        return hashed.digest.hexdigest(), count


def _check_member(archive: Path, member: tarfile.TarInfo, count: int, total: int) -> str:
    """The member's relative path, or InputError."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    problem = None
    if not member.isreg() or member.issparse():
        problem = "a link, a device or something else that is not a plain file"
    elif member.name.startswith("/") or ".." in parts or not parts or "\\" in member.name:
        problem = "a path that leaves the archive's folder"
    elif parts[-1] == MARKER or not member.name.isprintable() or any("\udc80" <= c <= "\udcff" for c in member.name):
        problem = "a name that is refused"
    elif len(member.name.encode("utf-8", "surrogateescape")) > MAX_PATH:
        problem = f"a name of more than {MAX_PATH:,} bytes"
    elif member.size > MAX_MEMBER or total > MAX_TOTAL or count > MAX_MEMBERS:
        problem = "too large, or too many members, for such an archive"
    if problem:
        raise InputError(f"{archive}: member {member.name[:200]!a}: {problem}; nothing of the archive is kept")
    return "/".join(parts)
