"""The files of an evaluation: metrics.json, predictions.parquet, confusion_matrix.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voicecommand.evaluation.answers import Predictions, prediction_columns, prediction_schema
from voicecommand.files import compact_json, write_bytes


def write_evaluation(directory: Path, splits: Sequence[Predictions], metrics: dict[str, Any]) -> None:
    """metrics.json, predictions.parquet and, of the main split if there is one, confusion_matrix.csv."""
    import pyarrow
    import pyarrow.parquet

    directory = Path(directory)
    sink = pyarrow.BufferOutputStream()
    threshold = (metrics["rejection"] or {}).get("threshold")
    columns = [prediction_columns(p, threshold) for p in splits]
    schema = prediction_schema()
    if any(p.seconds is not None for p in splits):
        schema = schema.append(pyarrow.field("seconds", pyarrow.float64()))
    merged = {name: [cell for part in columns for cell in part[name]] for name in schema.names}
    pyarrow.parquet.write_table(pyarrow.table(merged, schema=schema), sink)
    write_bytes(directory / "predictions.parquet", sink.getvalue().to_pybytes())
    if metrics["main_split"] is not None:
        main = metrics["splits"][metrics["main_split"]]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["reference \\ prediction", *main["labels"]])
        writer.writerows([name, *row] for name, row in zip(main["labels"], main["confusion_matrix"], strict=True))
        write_bytes(directory / "confusion_matrix.csv", text.getvalue().encode())
    write_bytes(directory / "metrics.json", compact_json(metrics).encode())
