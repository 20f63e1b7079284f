"""A folder of recordings: subfolders named by label, or a metadata file that names each recording.

The layouts are those of the Hugging Face hub's audiofolder. Audio is not decoded here; bad names are errors.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicecommand.audio.forms import AUDIO_ENDINGS, find_converted, is_of_system, is_recording, refuse_unread
from voicecommand.columns import OUT_OF_SCOPE, SPLITS, find_splits
from voicecommand.data.paths import check_place, place_audio, to_relative
from voicecommand.data.sources.file import READERS, read_table, split_by_column
from voicecommand.data.splits import SplitRule, build, fill_missing, select
from voicecommand.data.table import OPTIONAL, Rows, quote, read_map, refuse, to_columns
from voicecommand.errors import InputError, MissingColumn

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
METADATA = tuple(f"metadata{ending}" for ending in READERS)


def load_folder(
    columns: tuple[str, ...] = ("audio", "label"),
    *,
    path: str,
    column_map: Mapping[str, str | None] | None = None,
    splits: Mapping[str, str | None] | None = None,
    split: Mapping[str, Any] | None = None,
) -> DatasetDict:
    """Read a data set from a folder of audio files.

    The folder, or each folder in it that is named by a split (train, validation, test, out_of_scope_test ..., or one of
    their other names, such as Training or dev), has either subfolders named by label with the recordings in them, or
    recordings anywhere and a metadata.csv (.tsv, .jsonl, .parquet) with their paths in the column ``file_name``. If a
    metadata file is above folders named by split, the first part of a path says the split.

    Args:
        columns: the columns that the task needs, such as ("audio", "label").
        path: the folder.
        column_map: our name -> name in the metadata; audio is called file_name there.
        splits: our split -> its folder, for those with another name.
        split: how missing splits are made, see ``SplitRule``; by speaker if the metadata has this column.

    Returns:
        Splits as `voicecommand.data` describes them; ``audio`` are paths. Origins are "metadata.csv:row", or the path
        of the recording if there is no metadata.

    Raises:
        InputError: there are no recordings, the layout is ambiguous, a column is missing, or rows or names are bad.
    """
    path = str(path)
    rule = SplitRule.of(split)
    renamed = {"audio": "file_name"} | read_map(column_map, columns)
    _log_passed(path)
    above = _find_metadata(path)
    # a column that says the split is right whatever the folders are called
    folders = {} if above and rule.column and not any((splits or {}).values()) else _find_splits(path, splits)
    if above and folders:
        below = [file for folder in folders.values() if (file := _find_metadata(folder))]
        if below:
            raise InputError(f"{above} and {below[0]} both name recordings: keep one of them")
    if above:
        tables = _read_above(path, above, folders, columns, renamed, rule)
    elif rule.column:
        raise InputError(f"data.split.column={rule.column} needs one metadata.csv for all recordings, in {path}")
    else:
        tables = {
            name: _read_folder(folder, name, columns, renamed, rule)
            for name, folder in (folders or {"train": path}).items()
        }
    logger.info("recordings in %s: %s", path, ", ".join(f"{name} {len(rows['id']):,}" for name, rows in tables.items()))
    tables = fill_missing(tables, rule)
    for part in tables.values():
        if rule.by and rule.by not in (*columns, *OPTIONAL):
            part.pop(rule.by, None)
    return build(tables)


def _log_passed(path: str) -> None:
    """Log how many hidden files and files of systems are passed over; a folder of them counts once."""
    passed = []
    for where, folders, names in os.walk(path):
        passed += [os.path.join(where, name) for name in (*folders, *names) if is_of_system(name)]
        folders[:] = [name for name in folders if not is_of_system(name)]
    if passed:
        logger.info(
            "%s: %s hidden files and files of a system are passed over: %s", path, f"{len(passed):,}", quote(passed[:3])
        )


def _list(folder: str) -> tuple[list[str], list[str]]:
    """The names of the (folders, files) in a folder, sorted, without hidden ones and those of a system.

    Raises:
        InputError: the folder can't be listed, or a name is not UTF-8.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, os.path.isdir(e.path)) for e in entries if not is_of_system(e.name))
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder (data.path, looked from {os.getcwd()})") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: a file, where a folder is needed; data=file reads a table of paths") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be listed: {error}") from None
    for name, _ in found:
        if any("\udc80" <= character <= "\udcff" for character in name):
            raise InputError(f"{folder}: the name {os.fsencode(name)!r} is not UTF-8: rename it (convmv does many)")
    return [name for name, is_folder in found if is_folder], [name for name, is_folder in found if not is_folder]


def _find_splits(path: str, splits: Mapping[str, str | None] | None) -> dict[str, str]:
    """Split -> folder; empty if the folders are not named by splits."""
    there, _ = _list(path)
    named = {str(ours): str(theirs) for ours, theirs in (splits or {}).items() if theirs is not None}
    for ours, theirs in named.items():
        if ours not in SPLITS:
            raise InputError(f"data.splits.{ours}: no such split; the splits are {quote(SPLITS)}")
        if theirs not in there:
            raise InputError(f"data.splits.{ours}={theirs}: {path} has the folders {quote(there) or 'none'}")
    free = [name for name in there if name not in named.values()]
    remedy = "move one of them, or say which is what, as in data.splits.validation=dev data.splits.test=eval"
    chosen = find_splits(free, path, remedy) | named
    if not chosen:
        return {}
    for name in there:
        if name not in chosen.values():
            raise InputError(
                f"{os.path.join(path, name)}: beside folders named by a split ({quote(chosen.values())}): move it or "
                "rename it; if they are labels, name the recordings in a metadata.csv"
            )
    return {name: os.path.join(path, chosen[name]) for name in SPLITS if name in chosen}


def _find_metadata(folder: str) -> str | None:
    _, files = _list(folder)
    found = [os.path.join(folder, name) for name in files if name.lower() in METADATA]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} both name recordings: keep one of them")
    return found[0] if found else None


def _read_above(
    path: str,
    metadata: str,
    folders: dict[str, str],
    columns: tuple[str, ...],
    renamed: Mapping[str, str],
    rule: SplitRule,
) -> dict[str, Rows]:
    """The rows of a metadata file at the top: by its split column, by the first folder of its paths, or all as
    train."""
    table = read_table(metadata)
    if rule.column:
        tables = split_by_column(table, columns, renamed, rule.column, rule.by)
    else:
        extra = (rule.by,) if rule.by else ()
        rows = to_columns(table, columns, renamed, split="train", prefix="metadata", extra=extra)
        tables = {"train": rows}
        if folders:
            names = {os.path.basename(folder): split for split, folder in folders.items()}
            root = os.path.realpath(path)
            members: dict[str, list[int]] = {}
            for row, name in enumerate(rows.get("audio", [])):
                first = to_relative(name, root).removeprefix("./").split("/")[0]
                if first not in names:
                    raise InputError(
                        f"{rows['origin'][row]}: {name!r} lies in none of the folders named by a split "
                        f"({quote(names)}); data.split.column=NAME names a column that says the split"
                    )
                members.setdefault(names[first], []).append(row)
            tables = {split: select(rows, members[split]) for split in SPLITS if split in members}
            for split, part in tables.items():
                if split.startswith(OUT_OF_SCOPE) and "label" in part:
                    part["label"] = [OUT_OF_SCOPE] * len(part["label"])
    _place(tables, path)
    return tables


def _place(tables: dict[str, Rows], folder: str) -> None:
    """Prefix and check the paths, and warn about recordings that no row names."""
    named = set()
    for part in tables.values():
        if "audio" in part:
            place_audio(part, folder)
            named |= {os.path.normpath(name) for name in part["audio"]}
    unnamed = [path for path in _walk(folder) if os.path.normpath(path) not in named] if named else []
    if unnamed:
        shown = ", ".join(unnamed[:3])
        logger.warning(
            "%s: %s recordings that the metadata does not name are not read: %s", folder, len(unnamed), shown
        )


def _walk(folder: str) -> list[str]:
    """All files below a folder that are named like recordings, but not those that were converted; links to folders are
    not followed."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_of_system(name)]
        paths = [os.path.join(where, name) for name in sorted(names) if is_recording(name) and not is_of_system(name)]
        found += [path for path in paths if path.lower().endswith(AUDIO_ENDINGS) or not find_converted(path)]
    return found


def _read_folder(
    folder: str, split: str, columns: tuple[str, ...], renamed: Mapping[str, str], rule: SplitRule
) -> dict[str, list[str]]:
    """The rows of one split's folder."""
    metadata = _find_metadata(folder)
    if metadata:
        part = to_columns(read_table(metadata), columns, renamed, split=split, prefix=split, extra=rule.extra(split))
        _place({split: part}, folder)
        return part
    missing = [name for name in columns if name not in ("audio", "label")]
    if missing == ["transcript"] and split.startswith(OUT_OF_SCOPE):
        rows = _read_labels(folder, split)
        return rows | {"transcript": [""] * len(rows["id"])}
    if missing:
        reason = f"{folder}: the names of recordings say no {missing[0]}; a metadata.csv there can, beside file_name"
        raise MissingColumn(reason, missing[0])
    return _read_labels(folder, split)


def _read_labels(folder: str, split: str) -> Rows:
    """The recordings of subfolders named by label; in an out-of-scope split they may lie in the folder itself."""
    names, files = _list(folder)
    if "_background_noise_" in names and "testing_list.txt" in files:
        raise InputError(f"{folder}: this is Google Speech Commands; data=speech_commands knows its splits")
    out_of_scope = split.startswith(OUT_OF_SCOPE)
    rows: Rows = {"id": [], "origin": [], "audio": [], "label": []}
    root, inside = os.path.realpath(folder), dict[str, bool]()
    bad: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    converted: list[str] = []
    for label in ["", *names]:
        place = os.path.join(folder, label)
        below, members = _list(place) if label else ([], files)
        recordings, old = _find_recordings(place, members)
        converted += old
        others += [os.path.join(label, name) for name in members if not is_recording(name)]
        bad += [
            f"{os.path.join(place, name)}: a folder within the folder of a label; recordings must lie directly "
            "in their label's folder, or metadata.csv must name them"
            for name in below
        ]
        if label and not recordings:
            empty.append(label)
        for name in recordings:
            relative = os.path.join(label, name)
            path = os.path.join(folder, relative)
            problem = check_place(relative, path, root, inside)
            if not label and not out_of_scope:
                problem = "has no label: recordings must lie in folders named by label, or metadata.csv must say it"
            if problem:
                bad.append(f"{path}: {problem}")
            for column, value in (("id", relative), ("origin", path), ("audio", path), ("label", label)):
                rows[column].append(OUT_OF_SCOPE if out_of_scope and column == "label" else value)
    refuse(bad)
    refuse_unread(rows["audio"], folder)
    _report_others(folder, others, empty, converted)
    if not rows["id"]:
        tables = [name for name in files if Path(name).suffix in READERS]
        hint = f"; data=file reads {quote(tables)} with a column of paths" if tables else ""
        raise InputError(f"{folder}: no recordings ({', '.join(AUDIO_ENDINGS)}) in folders named by label{hint}")
    return rows


def _find_recordings(folder: str, names: list[str]) -> tuple[list[str], list[str]]:
    """The names of the (recordings, those of other forms that have been converted to one of them) in a folder."""
    recordings = [name for name in names if is_recording(name)]
    others = [name for name in recordings if not name.lower().endswith(AUDIO_ENDINGS)]
    converted = [name for name in others if find_converted(os.path.join(folder, name))]
    return [name for name in recordings if name not in converted], converted


def _report_others(folder: str, others: list[str], empty: list[str], converted: list[str]) -> None:
    if converted:
        count = f"{len(converted):,}"
        words = "recordings of other forms are not read: a converted one of the same name is beside each"
        logger.warning("%s: %s %s: %s", folder, count, words, quote(converted[:3]))
    if others:
        count = f"{len(others):,}"
        logger.warning("%s: %s files are not named like recordings, and not read: %s", folder, count, quote(others[:3]))
    if empty:
        logger.warning("%s: folders without a recording: %s", folder, quote(empty))
