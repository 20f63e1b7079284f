"""Commands to answer, as they come: lines, JSON objects and the rows of a table, from a file or standard input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import to_int16
from voicecommand.audio.decode import read_audio
from voicecommand.audio.forms import is_recording
from voicecommand.data.sources import file
from voicecommand.data.table import MAX_CELL, is_unicode, nearest, quote, refuse
from voicecommand.errors import InputError

PART = 128  # commands that are answered together, at most
CHUNK = 1 << 16  # bytes that are read together, at most
MAX_LINE = 1_000_000  # bytes
TABLES = (".csv", ".tsv")
FILES = (*TABLES, ".txt", ".jsonl", ".json", ".parquet")  # which nobody says as a command


@dataclass(frozen=True)
class Given:
    """One command.

    Args:
        command: the text, or int16 `[samples]` at 16 kHz of the audio file.
        cells: all fields of its row or object; of a plain line `{column: line}`.
        origin: the file and the line or row that it is from; of a command line, what was given.
    """

    command: str | NDArray[np.int16]
    cells: dict[str, object]
    origin: str


class Stream:
    """Commands in parts, in order.

    Args:
        source: the words of a command line; a file; or "-", which is standard input. A .csv or .tsv file is a table;
            every other one has a text or a JSON object in each line.
        column: of a table or an object, the one that holds the command.
        reads: what the model reads, "text" or "audio".

    Attributes:
        blank: how many blank lines, or rows of blank cells, were skipped so far.
    """

    def __init__(self, source: str | Sequence[str], column: str, reads: str) -> None:
        self.source, self.column, self.reads = source, column, reads
        self.blank = 0

    def __iter__(self) -> Iterator[list[Given]]:
        """As many commands together as are at hand, but at most PART.

        Raises:
            InputError: a line, a row or an audio file is bad, and the commands before it have been given; or the source
                can't be read, or has no command.
        """
        part: list[Given] = []
        empty, bad = True, None
        try:
            for given in self._read():
                if given is not None:
                    part.append(given)
                if part and (given is None or len(part) == PART):
                    yield part
                    part, empty = [], False
        except InputError as error:
            bad = error
        if part:
            yield part
        if bad is not None:
            raise bad
        if empty and not part:
            raise InputError(f"{_name(str(self.source))}: empty; give one command a line")

    def _read(self) -> Iterator[Given | None]:
        """The commands one by one; None where no other is at hand."""
        if not isinstance(self.source, str):
            for word in self.source:
                yield self._check({self.column: word}, "")
        elif self.source.lower().endswith(TABLES):
            yield from self._read_table(self.source)
        else:
            number = 0
            for lines in _chunks(self.source):
                for line in lines:
                    number += 1
                    if line.strip():
                        yield self._read_line(line, f"{_name(self.source)}:{number}", number)
                    else:
                        self.blank += 1
                yield None

    def _read_line(self, line: bytes, where: str, number: int) -> Given:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: not UTF-8; save it as UTF-8") from error
        if not text.lstrip().startswith("{"):
            return self._check({self.column: text}, where)
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: not a JSON object: {'nested too deep' if isinstance(error, RecursionError) else error}"
            ) from error
        return self._check(cells, where)

    def _read_table(self, source: str) -> Iterator[Given | None]:
        table = file.read_table(source)
        refuse(table.bad)
        if self.column not in table.names:
            hint = f"--column {nearest(self.column, table.names) or 'NAME'}"
            columns = quote(table.names)
            raise InputError(f"{source}: no column {self.column!r}; the columns there are {columns}: add {hint}")
        for row, cells in table.rows:
            if any(str(cell).strip() for cell in cells.values()):
                yield self._check(cells, f"{source}:{row}")
            else:
                self.blank += 1

    def _check(self, cells: dict[str, object], where: str) -> Given:
        """The command of a row's cells, read if it is an audio file."""
        before = f"{where}: " if where else ""
        text = cells.get(self.column)
        if not isinstance(text, str) or not text.strip():
            here = f"JSON objects with {self.column}, or of another field that --column names"
            raise InputError(f"{before}no {self.column}; give one command a line, or {here}")
        if len(text) > MAX_CELL:
            raise InputError(f"{before}{len(text):,} characters, and a command may have {MAX_CELL:,}: shorten it")
        if not is_unicode(text):
            raise InputError(f"{before}{text!r}: holds half of a surrogate pair, which is not a character")
        check_kind(text, self.reads, before)
        if self.reads == "audio":
            name = f"{before}{text if text.isprintable() else repr(text)}"
            return Given(to_int16(read_audio(text, name=name).waveform), cells, where or name)
        if text.lower().endswith(FILES) and Path(text).is_file():
            raise InputError(f"{before}{text}: is a file; give --input {text}")
        return Given(text, cells, where or repr(text))


def check_kind(command: str, reads: str, before: str) -> None:
    """Refuse a recording for a model that reads text, and a text for one that reads recordings.

    Args:
        command: a text or a path.
        reads: "text" or "audio".
        before: what the error begins with.

    Raises:
        InputError: it is one; the error names models that fit.
    """
    is_word = len(command.split()) == 1
    if reads == "text" and is_recording(command) and (is_word or Path(command).is_file()):
        problem = "is a recording, and this model reads text; for recordings train model=mfcc_svm or model=bcresnet"
    elif reads == "audio" and not (is_word or is_recording(command) or Path(command).exists()):
        problem = "no such file, and this model reads recordings; for texts train model=tfidf_svm or model=bert"
    else:
        return
    raise InputError(f"{before}{command if command.isprintable() else repr(command)}: {problem}")


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


def _chunks(source: str) -> Iterator[list[bytes]]:
    """The lines that are at hand: a pipe that waits for its next line keeps none back."""
    rest, number = b"", 1
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as opened:
            while data := opened.read1(CHUNK):
                *lines, rest = (rest + data).split(b"\n")
                number += len(lines)
                if len(rest) > MAX_LINE:
                    yield lines
                    raise InputError(
                        f"{_name(source)}:{number}: a line of more than {MAX_LINE:,} bytes; give one command a line"
                    )
                yield lines
    except OSError as error:
        raise InputError(f"--input {source}: {error.strerror}") from error
    if rest:
        yield [rest]
