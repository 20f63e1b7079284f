"""A hash of what a data set says, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from voicecommand.columns import GROUP_COLUMNS

if TYPE_CHECKING:
    from datasets import DatasetDict

FINGERPRINT_COLUMNS = ("content", "text", "label", *GROUP_COLUMNS)


def fingerprint(dataset: DatasetDict) -> dict[str, Any]:
    """What the data is, apart from where it lay: text, label and group columns of all rows in order.

    Of prepared sound it is the content of the files (``content``, their sha256) instead of a text.

    Returns:
        {"fingerprint": hex, "splits": {name: {"rows": n, "sha256": hex}}}, the same on every machine and with
        every library version. Each value goes in with its length: no separator can make two data sets equal.
    """
    splits = {}
    for name in sorted(dataset):
        rows = dataset[name]
        names = [column for column in FINGERPRINT_COLUMNS if column in rows.column_names]
        if "content" in names and "text" in names:
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


def _feed(digest: Any, values: Iterable[str]) -> None:
    encoded = [value.encode("utf-8") for value in values]
    digest.update(b"".join([b"%d:%b" % (len(value), value) for value in encoded]) + b"\n")


def describe_data(name: str, dataset: DatasetDict, truncated: dict[str, int]) -> dict[str, Any]:
    """What run.json says of the data: its name, its fingerprint and, of each split, rows, hash and examples cut."""
    identity = fingerprint(dataset)
    for split, content in identity["splits"].items():
        content["truncated"] = truncated.get(split, 0)
    return {"name": name, **identity}
