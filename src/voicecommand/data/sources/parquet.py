"""Parquet files; a column of class labels that `datasets` wrote becomes their names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voicecommand.data.table import Table, quote
from voicecommand.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(file: str) -> Table:
    """The rows of a file; the first is row 1.

    Class labels become their names, and -1, "no label", becomes null.

    Raises:
        InputError: it is no Parquet file, or two columns have one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else "unreadable"
        raise InputError(f"{file}: not a whole Parquet file: {reason}") from None
    names = list(data.column_names)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{file}: the columns {quote(doubled)} are there twice")
    table = Table(file, names, list(enumerate(data.to_pylist(), start=1)))
    for column, labels in _find_class_labels(data.schema).items():
        for row, cells in table.rows:
            number = cells[column]
            if number is not None and not -1 <= number < len(labels):
                table.bad.append(f"{file}:{row}: {column!r} is {number}, and the file names {len(labels)} labels")
            cells[column] = None if number is None or not 0 <= number < len(labels) else labels[number]
    return table


def _find_class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its labels, of the columns of whole numbers that `datasets` describes as class labels."""
    import pyarrow.types

    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features: dict[str, Any] = described["info"]["features"]
        labels = {name: feature.get("names") for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # written by another program
    return {
        name: [str(label) for label in names]
        for name, names in labels.items()
        if isinstance(names, list) and name in schema.names and pyarrow.types.is_integer(schema.field(name).type)
    }
