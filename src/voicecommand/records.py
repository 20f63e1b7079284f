"""The records of a run: run.json, history.json, the threshold of the model, and the last lines on the terminal."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from voicecommand import runs
from voicecommand.data.checks import fingerprint
from voicecommand.evaluation import format_summary

logger = logging.getLogger(__name__)


def write_record(
    run: runs.Run, record: dict, task: Any, trainer: Any, dataset: Any, truncated: dict[str, int], figures: dict
) -> dict[str, Any]:
    """run.json and history.json: what was run on what, and how it went. Answers its sections model and training."""
    record |= {"task": task.name} | runs.describe_machine()
    record["data"] = _describe_data(record.pop("data"), dataset, truncated)
    record["model"] = {
        "name": record.pop("model"),
        "checkpoint": getattr(task, "checkpoint", None),
        "revision": None if is_local(getattr(task, "checkpoint", None)) else getattr(task, "revision", None),
        "licence": getattr(task, "licence", None),
        "teacher": getattr(task, "teacher", None),
        "tuning": record.pop("tuning"),
        "augment": record.pop("augment"),
        "parameters": figures.pop("parameters"),
        "trainable_parameters": figures.pop("trainable_parameters"),
        "size_bytes": sum(p.stat().st_size for p in (run.directory / "model").rglob("*") if p.is_file()),
    }
    record["training"] = figures | {"total_seconds": round(time.time() - run.started, 2)}
    runs.write_json(run.directory / "run.json", record)
    state = getattr(trainer, "state", None)
    runs.write_json(run.directory / "history.json", [] if state is None else state.log_history)
    return {"model": record["model"], "training": record["training"]}


def write_evaluation_record(
    directory: Path, run_directory: Path, name: str, rows: Any, truncated: dict[str, int], command: list[str]
) -> None:
    """run.json of an evaluation: the run's own, with the data and the command of this measurement."""
    try:
        record = json.loads((run_directory / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    record |= {"command": command, "data": _describe_data(name, rows, truncated)}
    for split, cut in truncated.items():
        if cut:
            logger.warning("%s: %d of %d examples are longer than the model reads", split, cut, len(rows[split]))
    runs.write_json(directory / "run.json", record)


def is_local(checkpoint: str | None) -> bool:
    """Whether a checkpoint comes from this machine, where a revision of the hub means nothing."""
    return checkpoint is None or checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir()


def _describe_data(name: str, rows: Any, truncated: dict[str, int]) -> dict[str, Any]:
    identity = fingerprint(rows)
    for split, content in identity["splits"].items():
        content["truncated"] = truncated.get(split, 0)
    return {"name": name, **identity}


def write_threshold(directory: Path, metrics: dict[str, Any]) -> None:
    """Keep the rejection threshold with the model, so that predict and evaluate use it."""
    rejection = metrics["rejection"]
    if rejection is not None:
        path = directory / "voicecommand.json"
        saved = json.loads(path.read_text(encoding="utf-8"))
        saved |= {"threshold": rejection["threshold"], "threshold_keeps": rejection["keeps"]}
        runs.write_json(path, saved)


def format_result(directory: Path) -> str:
    """The last lines of a run on the terminal, read from its files."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    model = json.loads((directory / "run.json").read_text(encoding="utf-8"))["model"]
    at = f" at {model['revision'][:12]}" if model["revision"] else ""
    what = f"{model['checkpoint']}{at}" if model["checkpoint"] else "fitted on this data alone"
    if model.get("teacher"):
        what += f", taught by {model['teacher']}"
    return f"\n{model['name']} is {what}\n{format_summary(metrics)}\nreport: {directory / 'report.html'}"


def read_objective(directory: Path) -> float:
    """What a sweep compares: macro F1 on validation."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return metrics["splits"]["validation"]["macro_f1"]["value"]
