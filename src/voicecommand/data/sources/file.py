"""Rows from CSV, TSV, JSON lines and Parquet files, every cell as it was written.

No reader here guesses types: ``None``, ``007`` and ``yes`` stay texts. A bad row is an error that names file:line.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicecommand.columns import SPLITS
from voicecommand.data.paths import place_audio
from voicecommand.data.splits import SplitRule, build, fill_missing, select
from voicecommand.data.table import OPTIONAL, Rows, Table, nearest, quote, read_map, to_columns
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
# Other common names of the splits: a file with one is an error, because ignoring it would silently split train.
LIKELY_NAMES = {"training": "train", "testing": "test"} | dict.fromkeys(
    ("dev", "val", "valid", "validate", "eval"), "validation"
)


def load_files(
    columns: tuple[str, ...] = ("text", "label"),
    path: str | None = None,
    files: Mapping[str, str | None] | None = None,
    column_map: Mapping[str, str | None] | None = None,
    split: Mapping[str, Any] | None = None,
) -> DatasetDict:
    """Read a data set from files.

    Args:
        columns: the columns that the task needs, such as ("text", "label"). Cells of ``audio`` are paths of audio
            files, relative to the folder of the file that names them, and within it.
        path: a file, or a directory of files named by their split (``train.jsonl``, ``test.csv`` ...).
        files: or one file for each split. Without a train file no splits are made: such data is for evaluation.
        column_map: our name -> name in the files, for columns that have another name there.
        split: how missing splits are made, see ``SplitRule``; a file named by a split is that split.

    Returns:
        Splits of string columns: id, origin ("file:row", the header of a CSV file is row 1), the asked columns and, if
        the files have them, speaker, template and response. Out-of-scope files need no label. Audio is not read;
        ``audio`` is the path with its folder.

    Raises:
        InputError: there is no file, an unknown format, a missing column, or bad rows.
    """
    rule = SplitRule.of(split)
    renamed = read_map(column_map, columns)
    found = find_files(path, files)
    logger.info("data files: %s", ", ".join(f"{name} {file}" for name, file in found.items()))
    keep = (*columns, *OPTIONAL)
    if rule.column:
        if len(found) > 1:
            raise InputError(
                f"data.split.column={rule.column} is for a single file, and there are {quote(found.values())}"
            )
        (file,) = found.values()
        splits = split_by_column(read_table(file), columns, renamed, rule.column, rule.by)
    else:
        splits = {
            name: to_columns(
                read_table(file),
                columns,
                renamed,
                split=name,
                prefix=name if len(found) > 1 else Path(file).stem,
                extra=(rule.by,) if rule.by and name == "train" else (),
            )
            for name, file in found.items()
        }
    if "audio" in columns:
        folders = dict.fromkeys(splits, os.path.dirname(next(iter(found.values()))))
        folders |= {name: os.path.dirname(file) for name, file in found.items()}
        for name, table in splits.items():
            place_audio(table, folders[name])
    splits = fill_missing(splits, rule)
    for table in splits.values():
        if rule.by and rule.by not in keep:
            table.pop(rule.by, None)
    return build(splits)


def split_by_column(
    table: Table, columns: tuple[str, ...], renamed: Mapping[str, str], column: str, by: str | None
) -> dict[str, Rows]:
    """The rows of a single table by split, which a column names."""
    if column not in table.names:
        meant = nearest(column, table.names)
        hint = f": did you mean data.split.column={meant}" if meant else ""
        raise InputError(
            f"{table.source}: data.split.column={column}, and the columns there are {quote(table.names)}{hint}"
        )
    rows = to_columns(
        table,
        columns,
        {**renamed, "split": column},
        split="train",
        prefix=Path(table.source).stem,
        extra=("split", by) if by else ("split",),
    )
    members: dict[str, list[int]] = {}
    for row, name in enumerate(rows.pop("split")):
        if name not in SPLITS:
            raise InputError(f"{rows['origin'][row]}: {column} is {name!r}; the splits are {quote(SPLITS)}")
        members.setdefault(name, []).append(row)
    splits = {name: select(rows, members[name]) for name in members}
    for name, part in splits.items():
        if name.startswith("out_of_scope") and "label" in part:
            part["label"] = ["out_of_scope"] * len(part["label"])
    return splits


def find_files(path: str | None, files: Mapping[str, str | None] | None) -> dict[str, str]:
    """Split -> file, as the user gave it."""
    given = {str(name): str(file) for name, file in (files or {}).items() if file is not None}
    if path is not None and given:
        raise InputError(f"data.path={path} and data.files.{next(iter(given))} are both given: give one of them")
    if given:
        for name in given:
            if name not in SPLITS:
                raise InputError(f"data.files.{name}: no such split; the splits are {quote(SPLITS)}")
        return {name: given[name] for name in SPLITS if name in given}
    if path is None:
        raise InputError("no data given: data.path=FILE, data.path=DIR or data.files.train=FILE is needed")
    path = str(path)
    if not os.path.isdir(path):
        stem = Path(path).stem
        return {stem if stem in SPLITS else "train": path}
    return _find_in_directory(path)


def _find_in_directory(path: str) -> dict[str, str]:
    by_split: dict[str, str] = {}
    others = []
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be listed: {error.strerror}") from None
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in READERS or name.startswith("."):
            continue
        file = os.path.join(path, name)
        if stem in by_split:
            raise InputError(f"{by_split[stem]} and {file} are both {stem}: keep one, or name it by data.files.{stem}=")
        if stem in SPLITS:
            by_split[stem] = file
        else:
            others.append(file)
    for file in others:
        meant = LIKELY_NAMES.get(Path(file).stem.lower()) or nearest(Path(file).stem, SPLITS)
        if meant and meant not in by_split:
            raise InputError(
                f"{file}: no split has this name; rename it to {meant}{Path(file).suffix}, or give "
                f"data.files.train=FILE data.files.{meant}={file}"
            )
    if not by_split:
        raise InputError(
            f"{path}: no file named by its split (train, validation, test; {', '.join(READERS)}); "
            f"there is {quote(names) or 'nothing'}"
        )
    if others:
        logger.warning("not read, no split has their names: %s", ", ".join(others))
    return {name: by_split[name] for name in SPLITS if name in by_split}


def read_table(file: str) -> Table:
    """The rows of one file; the ending of its name says the format."""
    suffix = Path(file).suffix.lower()
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        parent = os.path.dirname(file) or "."
        meant = nearest(os.path.basename(file), os.listdir(parent)) if os.path.isdir(parent) else None
        hint = (
            f"; did you mean {os.path.join(os.path.dirname(file), meant)}" if meant else f" (looked from {os.getcwd()})"
        )
        raise InputError(f"{file}: no such file or directory{hint}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise InputError(f"{file}: {kind}, where a file is needed")
    if suffix not in READERS:
        raise InputError(
            f"{file}: files named {suffix or 'without an ending'} are not read; "
            "there are .csv, .tsv, .jsonl (one JSON object a line) and .parquet"
        )
    try:
        return READERS[suffix](file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def _read_text(file: str) -> str:
    """The file's text without its byte order mark, line ends unchanged."""
    data = Path(file).read_bytes()
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{file}: the file is empty")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file}:1: written in UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    place = data.find(b"\0")
    if place >= 0:
        raise InputError(f"{file}:{_line(data, place)}: a NUL byte; is this text? Save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}:{_line(data, error.start)}: byte 0x{error.object[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        ) from None


def _line(data: bytes, place: int) -> int:
    return len(data[:place].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))


def _read_csv(file: str, delimiter: str = ",") -> Table:
    reader = csv.reader(io.StringIO(_read_text(file), newline=""), delimiter=delimiter, strict=True)
    table = Table(file, [])
    blank: list[int] = []
    start = 1
    try:
        for cells in reader:
            row, start = start, reader.line_num + 1
            if not cells:
                blank.append(row)
                continue
            # blank lines at the end of a file are harmless; between rows something may be lost
            table.bad += [f"{file}:{number}: a blank line" for number in blank]
            blank.clear()
            if not table.names:
                table.names = _check_header(file, row, cells)
            elif len(cells) != len(table.names):
                table.bad.append(f"{file}:{row}: {len(cells)} cells where the header has {len(table.names)}")
            else:
                table.rows.append((row, dict(zip(table.names, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{file}:{start}: {error} (a quote that never closes, perhaps)") from None
    return table


def _check_header(file: str, row: int, names: list[str]) -> list[str]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{file}:{row}: the header names {quote(doubled)} twice")
    return names


def _read_tsv(file: str) -> Table:
    return _read_csv(file, "\t")


def _read_jsonl(file: str) -> Table:
    table = Table(file, [])
    names: dict[str, None] = {}
    # not str.splitlines, which also splits at characters that JSON allows within a text
    for row, line in enumerate(_read_text(file).rstrip().split("\n"), start=1):
        try:
            cells = json.loads(line, object_pairs_hook=_unique)
        except _TwiceError as error:
            table.bad.append(f"{file}:{row}: the field {error.args[0]!r} is there twice")
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            table.bad.append(f"{file}:{row}: {f'not JSON ({reason})' if line.strip() else 'a blank line'}")
        else:
            if isinstance(cells, dict):
                table.rows.append((row, cells))
                names.update(dict.fromkeys(cells))
            else:
                table.bad.append(f"{file}:{row}: not a JSON object; one object a line is needed")
    table.names = list(names)
    if not table.rows:
        raise InputError(f"{table.bad[0]}; .jsonl files hold one JSON object a line")
    return table


class _TwiceError(Exception):
    """A JSON object names a field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return cells


def _read_parquet(file: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else "unreadable"
        raise InputError(f"{file}: not a whole Parquet file: {reason}") from None
    names = _check_header(file, 1, list(data.column_names))
    rows = enumerate(data.to_pylist(), start=1)
    return Table(file, names, list(rows))


READERS = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
