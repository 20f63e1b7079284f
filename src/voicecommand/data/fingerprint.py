"""A hash of a data set's content, the same on every machine."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicecommand import files
from voicecommand.columns import GROUP_COLUMNS, HELD_OUT_IN
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)
TRAIN_ROWS = "train_rows.json"
ALWAYS = ("content", "text", "label", *GROUP_COLUMNS)
# Audio is represented by `content`, the sha256 of its file; names of rows and files are not content.
NEVER = ("audio", "id", "origin")


def fingerprint(dataset: DatasetDict, columns: Iterable[str] = ()) -> dict[str, Any]:
    """Hashes of the columns of all rows in order; names and places of files do not matter.

    Args:
        dataset: what a loader returned.
        columns: the columns that the task reads. Covered are those that the data has, always text, label and group
            columns, and for prepared audio the ``content`` of the files (their sha256); with audio, a text that the
            task does not read is left out.

    Returns:
        {"fingerprint": hex, "splits": {name: {"rows": n, "sha256": hex}}}, the same on every machine and with
        every library version. Each value is hashed with its length, so that no separator makes two data sets equal.
    """
    columns = tuple(columns)
    splits = {}
    for name in sorted(dataset):
        rows = dataset[name]
        names = _columns_of(rows, columns)
        digest = hashlib.sha256()
        _feed(digest, names)
        for values in zip(*(rows[column][:] for column in names), strict=True):
            _feed(digest, values)
        splits[name] = {"rows": len(rows), "sha256": digest.hexdigest()}
    whole = hashlib.sha256()
    for name, part in splits.items():
        _feed(whole, (name, str(part["rows"]), str(part["sha256"])))
    return {"fingerprint": whole.hexdigest(), "splits": {name: splits[name] for name in dataset}}


def describe_rows(dataset: DatasetDict, columns: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """What tells in words how data has changed, for each split: `rows`, a hash of each of the `columns`, a hash of the
    rows in any order (`sorted`), and the names of the `labels`.

    Args:
        dataset, columns: as for `fingerprint`.
    """
    found = {}
    for name, rows in dataset.items():
        kept = _columns_of(rows, tuple(columns))
        values = [rows[column][:] for column in kept]
        hashes = {column: _hash_values(column_values) for column, column_values in zip(kept, values, strict=True)}
        each = sorted(_hash_values(row) for row in zip(*values, strict=True))
        labels = sorted(set(values[kept.index("label")])) if "label" in kept else []
        found[name] = {"rows": len(rows), "columns": hashes, "sorted": _hash_values(each), "labels": labels}
    return found


def _columns_of(rows: Dataset, columns: tuple[str, ...]) -> list[str]:
    """The columns of a split that are part of its content."""
    asked = sorted({*columns} - {*ALWAYS, *NEVER})
    names = [column for column in (*ALWAYS, *asked) if column in rows.column_names]
    if "content" in names and "text" in names and "text" not in columns:
        names.remove("text")
    return names


def _hash_values(values: Iterable[str]) -> str:
    digest = hashlib.sha256()
    _feed(digest, values)
    return digest.hexdigest()[:16]


def _feed(digest: hashlib._Hash, values: Iterable[str]) -> None:
    encoded = [value.encode("utf-8") for value in values]
    digest.update(b"".join([b"%d:%b" % (len(value), value) for value in encoded]) + b"\n")


def write_train_rows(directory: Path, train: Dataset) -> None:
    """Write the hashes of the rows that a run is trained on into its directory, to recognise them in other data."""
    files.write_json(directory / TRAIN_ROWS, sorted(set(_hash_rows(train))), indent=None)


def count_train_rows(run: Path, dataset: DatasetDict) -> dict[str, int]:
    """Split -> the number of its rows that the run was trained on, whatever file they are in; logged where there are
    some. Empty for a run that does not say what it was trained on."""
    try:
        known = set(files.read_json(run / TRAIN_ROWS))
    except (OSError, ValueError, TypeError):
        return {}
    counts = {name: sum(row in known for row in _hash_rows(rows)) for name, rows in dataset.items()}
    for name, count in counts.items():
        if count:
            logger.warning(
                "%s: the model was trained on %d of these %d rows, so its figures are too good",
                name,
                count,
                len(dataset[name]),
            )
    return counts


def _hash_rows(rows: Dataset) -> list[str]:
    """The first 16 digits of the sha256 of each recording's file, or of each text."""
    column = "content" if "content" in rows.column_names else "text"
    return [hashlib.sha256(value.encode("utf-8")).hexdigest()[:16] for value in rows[column][:]]


def describe_data(
    name: str,
    dataset: DatasetDict,
    truncated: dict[str, int],
    columns: Iterable[str] = (),
) -> dict[str, Any]:
    """The data in run.json: its name, the columns that were read, its fingerprint and, for each split, rows, hash and
    truncated examples; and the number of folds if there are any."""
    read = [name for name in columns if any(name in rows.column_names for rows in dataset.values())]
    identity = fingerprint(dataset, read)
    for split, content in identity["splits"].items():
        content["truncated"] = truncated.get(split, 0)
    divided = [rows[HELD_OUT_IN][:] for rows in dataset.values() if HELD_OUT_IN in rows.column_names]
    folds = {number for column in divided for number in column} - {""}
    return {"name": name, "columns": read, **identity} | ({"folds": len(folds)} if folds else {})


def add(data: dict[str, Any], key: str, values: Mapping[str, object]) -> None:
    """Add what was found out about splits to their entries in the description of the data.

    Args:
        data: what `describe_data` returned.
        values: split -> value.
    """
    for split, value in values.items():
        data["splits"][split][key] = value


def find_changes(then: Mapping[str, Any], dataset: DatasetDict) -> list[str]:
    """What differs from the data of a run.json, a phrase for each split: "train 84 rows then, 104 now".

    Args:
        then: what `describe_data` returned, in a run of November 2026 without `columns`.
        dataset: what a loader returned; audio need not be decoded, but needs the column ``content``.
    """
    before = then["splits"]
    now = fingerprint(dataset, then.get("columns", ()))["splits"]
    found = []
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            found.append(f"{name} was {'not ' if old is None else ''}there then")
        elif old["sha256"] != new["sha256"]:
            found.append(f"{name} {old['rows']:,} rows then, {new['rows']:,} now")
    return found


def check_same(directory: Path, then: Mapping[str, Any], dataset: DatasetDict) -> None:
    """Refuse to show the result of a finished run for data that has changed since.

    Args:
        directory: of the run.
        then, dataset: as in `find_changes`.

    Raises:
        InputError: the data has changed; it names both ways on.
    """
    if changes := find_changes(then, dataset):
        raise InputError(
            f"{directory}: the data has changed since this run was trained ({', '.join(changes)}): overwrite=true "
            "trains again, and seed=N, runs=DIR or another name of the file makes a run beside it"
        )


def warn_of_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn if a split of a run's own data is not that of training: rows may be among those it was trained on.

    Args:
        then, now: the data in run.json, and what `describe_data` returned for the splits that are measured.
    """
    for name, split in now["splits"].items():
        before = (then.get("splits") or {}).get(name)
        if before is None or before["sha256"] != split["sha256"]:
            was = "not there" if before is None else f"{before['rows']:,} rows"
            logger.warning(
                "%s has changed since training (%s then, %s now): the model may have been trained on some of it",
                name,
                was,
                f"{split['rows']:,}",
            )
