"""Text files as Unicode: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from voicecommand.errors import InputError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
MAX_BYTES = 1 << 30


def read_text(file: str) -> tuple[str, str]:
    """The file's text without its byte order mark, line ends unchanged, and its encoding.

    Raises:
        OSError: it can't be read.
        InputError: it is too large, empty, or not text in one of the encodings; the line and a command that
            converts it are named.
    """
    size = Path(file).stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{file}: {size:,} bytes, and a file of text may have {MAX_BYTES:,}; train on a part of it")
    data = Path(file).read_bytes()
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding, body = MARKS.get(mark, "utf-8"), data.removeprefix(mark)
    if encoding == "utf-8" and 4 * body.count(0) > len(body):
        wide = "UTF-16LE" if body[1::2].count(0) > body[::2].count(0) else "UTF-16BE"
        raise InputError(f"{file}:1: NUL bytes; if this is {wide}, convert it: {convert(file, wide)}")
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InputError(f"{file}: begins as {encoding[:6].upper()}, and is none: save it as UTF-8") from None
        line = _count_lines(body[: error.start].decode("latin-1"))
        raise InputError(
            f"{file}:{line}: byte 0x{body[error.start]:02x} is not UTF-8; if this is text of Windows or Latin-1, "
            f"convert it: {convert(file, 'WINDOWS-1252')}"
        ) from None
    if not text.strip():
        raise InputError(f"{file}: the file is empty")
    if "\0" in text:
        raise InputError(
            f"{file}:{_count_lines(text[: text.find(chr(0))])}: a NUL byte; is this text? Save it as UTF-8"
        )
    return text, encoding


def convert(file: str, encoding: str) -> str:
    """The shell command that writes the file in UTF-8 beside it."""
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(file)} > {shlex.quote(_beside(file))}"


def edit(file: str, encoding: str, script: str) -> str:
    """The shell command that applies a script of sed to the file; one that is not in UTF-8 is converted first."""
    if encoding == "utf-8":
        return f"LC_ALL=C sed -i '{script}' {shlex.quote(file)}"
    return f"{convert(file, encoding[:6].upper())} && LC_ALL=C sed -i '{script}' {shlex.quote(_beside(file))}"


def _beside(file: str) -> str:
    path = Path(file)
    return str(path.with_name(f"{path.stem}-utf8{path.suffix}"))


def _count_lines(before: str) -> int:
    """The line of what follows the text `before`, from 1."""
    return before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
