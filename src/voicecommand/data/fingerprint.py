"""A hash of what a data set says, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from voicecommand.columns import GROUP_COLUMNS

if TYPE_CHECKING:
    from datasets import DatasetDict

ALWAYS = ("content", "text", "label", *GROUP_COLUMNS)
# Audio stands in a data set as `content`, the sha256 of its file. What a row is called says nothing of what it holds.
NEVER = ("audio", "id", "origin")


def fingerprint(dataset: DatasetDict, columns: Iterable[str] = ()) -> dict[str, Any]:
    """What the data is, whatever it is called and wherever it lies: the columns of all rows in order.

    Args:
        dataset: what a loader returned.
        columns: what the task reads: each of them that is there is covered. Text, label and group columns always
            are, and of prepared audio the content of the files (``content``, their sha256); there a text that the
            task does not read is left out.

    Returns:
        {"fingerprint": hex, "splits": {name: {"rows": n, "sha256": hex}}}, the same on every machine and with
        every library version. Each value goes in with its length: no separator can make two data sets equal.
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
    name: str, dataset: DatasetDict, truncated: dict[str, int], columns: Iterable[str] = ()
) -> dict[str, Any]:
    """What run.json says of the data: its name, its fingerprint and, of each split, rows, hash and examples cut."""
    identity = fingerprint(dataset, columns)
    for split, content in identity["splits"].items():
        content["truncated"] = truncated.get(split, 0)
    return {"name": name, **identity}
