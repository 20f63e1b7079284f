"""Parquet files; a column of class labels that `datasets` wrote becomes their names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voicecommand.data.sources.encoding import MAX_BYTES
from voicecommand.data.table import Table, check_width, find_doubled, quote
from voicecommand.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_CELLS = 20_000_000


def read_parquet(file: str) -> Table:
    """The rows of a file; the first is row 1.

    Class labels become their names, and -1, "no label", becomes null.

    Raises:
        InputError: it is no Parquet file, is too large when it is read, or two columns have one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        names = list(opened.schema_arrow.names)
        check_width(file, len(names))
        _check_size(file, opened)
        data = opened.read([name for name in names if _is_plain(opened.schema_arrow, name)])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else "unreadable"
        raise InputError(f"{file}: not a whole Parquet file: {reason}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: the name of a column is not UTF-8; is the file damaged?") from None
    # what is no text, number or date is refused where it is wanted, and not read
    unread = {name: _stand_in(opened.schema_arrow, name) for name in names if name not in data.column_names}
    try:
        rows = data.to_pylist() if data.column_names else [{} for _ in range(opened.metadata.num_rows)]
    except UnicodeDecodeError:
        raise InputError(f"{file}:{_find_undecodable(data)}: a text that is not UTF-8; is the file damaged?") from None
    table = Table(file, names, [(row, cells | unread) for row, cells in enumerate(rows, start=1)])
    for column, labels in _find_class_labels(data.schema).items():
        for row, cells in table.rows:
            number = cells[column]
            if number is not None and not -1 <= number < len(labels):
                table.bad.append(f"{file}:{row}: {column!r} is {number}, and the file names {len(labels)} labels")
            cells[column] = None if number is None or not 0 <= number < len(labels) else labels[number]
    return table


def _check_size(file: str, opened: pq.ParquetFile) -> None:
    """Refuse a file that would grow: a value that is stored once may stand for any number of rows.

    Raises:
        InputError: two columns have one name, or there are too many rows or bytes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema, rows = opened.schema_arrow, opened.metadata.num_rows
    if doubled := find_doubled(schema.names):
        raise InputError(f"{file}: the columns {quote(doubled)} are there twice")
    if rows * len(schema.names) > MAX_CELLS:
        raise InputError(f"{file}: {rows:,} rows of {len(schema.names):,} columns, more than {MAX_CELLS:,} cells")
    texts = [name for name in schema.names if _is_text(schema.field(name).type)]
    encoded = pq.ParquetFile(file, read_dictionary=texts)
    total = 0
    for group in range(encoded.num_row_groups):
        for name in texts:
            for chunk in encoded.read_row_group(group, [name]).column(name).chunks:
                if pa.types.is_dictionary(chunk.type):
                    lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
                else:
                    lengths = pc.binary_length(chunk)
                total += pc.sum(lengths).as_py() or 0
        if total > MAX_BYTES:
            raise InputError(f"{file}: more than {MAX_BYTES:,} bytes of text when it is read; train on a part of it")


def _find_undecodable(data: pa.Table) -> int:
    """The first row, from 1, with a text that is not UTF-8."""
    for row in range(data.num_rows):
        try:
            data.slice(row, 1).to_pylist()
        except UnicodeDecodeError:
            return row + 1
    return data.num_rows


def _is_plain(schema: pa.Schema, name: str) -> bool:
    """Whether the cells of a column are single values of bounded size, or texts."""
    import pyarrow.types as types

    kind = schema.field(name).type
    return bool(_is_text(kind) or types.is_primitive(kind) or types.is_null(kind))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind  # of categories
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _stand_in(schema: pa.Schema, name: str) -> object:
    """A value of the kind of a column that is not read."""
    import pyarrow.types as types

    kind = schema.field(name).type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return []
    return {} if types.is_nested(kind) else b""


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
