"""Rows from files: tables, JSON and the training data of Rasa, every cell as it was written.

No reader here guesses types: ``None``, ``007`` and ``yes`` stay texts. A bad row is an error that names file:line.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voicecommand.audio.forms import is_recording
from voicecommand.columns import OUT_OF_SCOPE, SPLITS, find_splits, split_of
from voicecommand.data.paths import place_audio
from voicecommand.data.sources.delimited import read_delimited
from voicecommand.data.sources.json_rows import read_lines, read_splits
from voicecommand.data.sources.parquet import read_parquet
from voicecommand.data.sources.rasa import read_nlu
from voicecommand.data.splits import SplitRule, build, fill_missing, select
from voicecommand.data.table import OPTIONAL, Rows, Table, nearest, override, quote, read_map, to_columns
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
Read = TypeVar("Read")
READERS: dict[str, Callable[[str], Table]] = {
    ".csv": partial(read_delimited, usual=","),
    ".tsv": partial(read_delimited, usual="\t"),
    ".jsonl": read_lines,
    ".parquet": read_parquet,
}
# Formats that only this source reads; a .json file may hold several splits.
ENDINGS = (*READERS, ".json", ".yml", ".yaml")
# A part of a split in the data sets of the hub.
SHARD = re.compile(r".+-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")


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
        path: a file, or a directory of files named by their split (``train.jsonl``, ``dev.csv`` ...); a .json file
            may hold several splits.
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
        folders = dict.fromkeys(splits, os.path.dirname(file))
    else:
        tables = _read(found, is_path=path is not None)
        splits = {
            name: to_columns(
                table,
                columns,
                renamed,
                split=name,
                prefix=name if len(tables) > 1 else Path(table.source).stem,
                extra=rule.extra(name),
            )
            for name, table in tables.items()
        }
        folders = {name: os.path.dirname(found.get(name, next(iter(found.values())))) for name in splits}
    if "audio" in columns:
        for name, rows in splits.items():
            place_audio(rows, folders[name])
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
    cells = rows.pop("split")
    named = find_splits(
        dict.fromkeys(cell.strip().casefold() for cell in cells), f"{table.source}, column {column}", "use one name"
    )
    members: dict[str, list[int]] = {split: [] for split in named}
    for row, cell in enumerate(cells):
        split = split_of(cell)
        if split is None:
            raise InputError(f"{rows['origin'][row]}: {column} is {cell!r}; the splits are {quote(SPLITS)}")
        members[split].append(row)
    splits = {name: select(rows, members[name]) for name in members}
    for name, part in splits.items():
        if name.startswith(OUT_OF_SCOPE) and "label" in part:
            part["label"] = [OUT_OF_SCOPE] * len(part["label"])
    return splits


def _read(found: Mapping[str, str], is_path: bool) -> dict[str, Table]:
    """The table of each split; a .json file that is the whole data (`is_path`) may hold several.

    Raises:
        InputError: a file of one split holds several.
    """
    (name, file), *others = found.items()
    if is_path and not others and Path(file).suffix.lower() == ".json":
        _check_file(file)
        tables = _open(file, read_splits)
        return {name: tables["train"]} if list(tables) == ["train"] else tables
    return {name: read_table(file) for name, file in found.items()}


def find_files(path: str | None, files: Mapping[str, str | None] | None) -> dict[str, str]:
    """Split -> file, as the user gave it."""
    given = {str(name): str(file) for name, file in (files or {}).items() if file is not None}
    if path is not None and given:
        raise InputError(f"data.path={path} and data.files.{next(iter(given))} are both given: give one of them")
    if given:
        for name in given:
            if name not in SPLITS:
                raise InputError(f"data.files.{name}: no such split; the splits are {quote(SPLITS)}")
        _refuse_shards([file for file in given.values() if "-of-00001" not in file])  # one of one is a whole split
        return {name: given[name] for name in SPLITS if name in given}
    if path is None:
        raise InputError("no data given: data.path=FILE, data.path=DIR or data.files.train=FILE is needed")
    path = str(path)
    if not os.path.isdir(path):
        _refuse_shards([path])
        return {split_of(Path(path).stem) or "train": path}
    return _find_in_directory(path)


def _find_in_directory(path: str) -> dict[str, str]:
    by_split: dict[str, str] = {}
    others = []
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be listed: {error.strerror}") from None
    files = [os.path.join(path, name) for name in names if not name.startswith(".")]
    files = [file for file in files if Path(file).suffix.lower() in ENDINGS]
    _refuse_shards(files)
    for file in files:
        split = split_of(Path(file).stem)
        if split is None:
            others.append(file)
        elif by_split.setdefault(split, file) != file:
            raise InputError(
                f"{by_split[split]} and {file} are both {split}: keep one of them, or leave out data.path and name a "
                f"file for each split by data.files.{split}={file}"
            )
    for file in others:
        meant = nearest(Path(file).stem, SPLITS)
        if meant and meant not in by_split:
            raise InputError(
                f"{file}: no split has this name; rename it to {meant}{Path(file).suffix}, or leave out data.path and "
                f"name a file for each split by data.files.{meant}={file}"
            )
    if not by_split:
        below = os.path.join(path, "data")
        _refuse_shards([os.path.join(below, name) for name in os.listdir(below)] if os.path.isdir(below) else [])
        hint = f"; data.path={others[0]} reads one file" if others else ""
        if any(is_recording(name) for _, _, below in os.walk(path) for name in below):
            hint += f"; it has recordings, which are read by data=folder {override('data.path', path)}"
        raise InputError(
            f"{path}: no file named by its split (train, validation, test; {', '.join(ENDINGS)}); "
            f"there is {quote(names) or 'nothing'}{hint}"
        )
    if others:
        logger.warning("not read, no split has their names: %s", ", ".join(others))
    return {name: by_split[name] for name in SPLITS if name in by_split}


def _refuse_shards(files: list[str]) -> None:
    """Raise InputError if a file is a part of a data set of the hub, which may have other parts and splits."""
    for file in files:
        if SHARD.fullmatch(os.path.basename(file)):
            folder = os.path.dirname(file) or "."
            if os.path.basename(os.path.abspath(folder)) == "data":  # the data set is the folder above
                folder = os.path.dirname(folder) or "."
            raise InputError(
                f"{file}: a part of a data set of the hub: data=hub data.path={folder} reads all its parts and splits"
            )


def read_table(file: str) -> Table:
    """The rows of one file; the ending of its name says the format.

    Raises:
        InputError: it can't be read, or holds several splits.
    """
    _check_file(file)
    suffix = Path(file).suffix.lower()
    if suffix in (".yml", ".yaml"):
        return _open(file, read_nlu)
    if suffix != ".json":
        return _open(file, READERS[suffix])
    tables = _open(file, read_splits)
    if len(tables) > 1 or "train" not in tables:
        raise InputError(f"{file}: holds the splits {quote(tables)}: data.path={file} reads them all")
    return tables["train"]


def _open(file: str, read: Callable[[str], Read]) -> Read:
    try:
        return read(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def _check_file(file: str) -> None:
    """Refuse what is no file with a known ending."""
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
    if suffix not in ENDINGS:
        spreadsheet = suffix in (".xlsx", ".xls", ".ods")
        hint = f": save it as CSV (soffice --headless --convert-to csv {shlex.quote(file)})" if spreadsheet else ""
        raise InputError(
            f"{file}: files named {suffix or 'without an ending'} are not read{hint}; "
            "there are .csv, .tsv, .jsonl, .json, .parquet and Rasa's .yml"
        )
