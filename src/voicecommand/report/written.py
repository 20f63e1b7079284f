"""The files of an evaluation: metrics.json, predictions.parquet, confusion_matrix.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voicecommand.evaluation.answers import answer_columns
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Block, Matrix
from voicecommand.files import compact_json, write_bytes


def write_evaluation(
    directory: Path, splits: Sequence[Answers], metrics: dict[str, Any], blocks: Sequence[Block]
) -> None:
    """metrics.json, predictions.parquet and, of each matrix that the page shows, NAME.csv."""
    import pyarrow
    import pyarrow.parquet

    directory = Path(directory)
    sink = pyarrow.BufferOutputStream()
    threshold = (metrics["rejection"] or {}).get("threshold")
    columns = [answer_columns(p, threshold) for p in splits]
    names = dict.fromkeys(name for part in columns for name in part)
    sizes = [len(part["id"]) for part in columns]
    merged = {
        name: [cell for part, n in zip(columns, sizes, strict=True) for cell in part.get(name, [None] * n)]
        for name in names
    }
    kinds = {"accepted": pyarrow.bool_(), "group": pyarrow.string()}  # what may be null in every row
    table = {name: pyarrow.array(values, kinds.get(name)) for name, values in merged.items()}
    pyarrow.parquet.write_table(pyarrow.table(table), sink)
    write_bytes(directory / "predictions.parquet", sink.getvalue().to_pybytes())
    for block in blocks:
        if isinstance(block, Matrix):
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow([f"reference \\ {block.axes[1]}", *block.labels])
            writer.writerows([name, *row] for name, row in zip(block.labels, block.counts, strict=True))
            write_bytes(directory / f"{block.name}.csv", text.getvalue().encode())
    write_bytes(directory / "metrics.json", compact_json(metrics).encode())
