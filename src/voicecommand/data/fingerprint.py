"""A hash of a data set's content, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from voicecommand.columns import GROUP_COLUMNS, HELD_OUT_IN

if TYPE_CHECKING:
    from datasets import DatasetDict

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
    asked = sorted({*columns} - {*ALWAYS, *NEVER})
    splits = {}
    for name in sorted(dataset):
        rows = dataset[name]
        names = [column for column in (*ALWAYS, *asked) if column in rows.column_names]
        if "content" in names and "text" in names and "text" not in columns:
            names.remove("text")
        digest = hashlib.sha256()
        _feed(digest, names)
        for values in zip(*(rows[column][:] for column in names), strict=True):
            _feed(digest, values)
        splits[name] = {"rows": len(rows), "sha256": digest.hexdigest()}
    whole = hashlib.sha256()
    for name, part in splits.items():
        _feed(whole, (name, str(part["rows"]), str(part["sha256"])))
    return {"fingerprint": whole.hexdigest(), "splits": {name: splits[name] for name in dataset}}


def _feed(digest: hashlib._Hash, values: Iterable[str]) -> None:
    encoded = [value.encode("utf-8") for value in values]
    digest.update(b"".join([b"%d:%b" % (len(value), value) for value in encoded]) + b"\n")


def describe_data(
    name: str,
    dataset: DatasetDict,
    truncated: dict[str, int],
    columns: Iterable[str] = (),
    unknown: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The data in run.json: its name, its fingerprint and, for each split, rows, hash, truncated examples and, for
    texts, how much the model does not know; and the number of folds if there are any."""
    identity = fingerprint(dataset, columns)
    for split, content in identity["splits"].items():
        content["truncated"] = truncated.get(split, 0)
        if unknown and split in unknown:
            content["unknown"] = unknown[split]
    divided = [rows[HELD_OUT_IN][:] for rows in dataset.values() if HELD_OUT_IN in rows.column_names]
    folds = {number for column in divided for number in column} - {""}
    return {"name": name, **identity} | ({"folds": len(folds)} if folds else {})
