"""The records of a run: run.json, history.json, and the objective that a sweep compares."""

from __future__ import annotations

import glob
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from voicecommand import files
from voicecommand.errors import InputError
from voicecommand.evaluation.words import name_in_words
from voicecommand.run import directory as run_directory
from voicecommand.run import machine


def write_record(
    run: run_directory.Run, record: dict, settings: dict, data: dict, figures: dict, history: list[dict]
) -> dict[str, Any]:
    """Write run.json and history.json: the settings, the data, the machine and the figures of training.

    Returns:
        The sections `model` and `training` of run.json.
    """
    record |= {"task": settings["task"]} | machine.describe_machine()
    record["data"] = data
    record["model"] = {
        "name": record.pop("model"),
        "checkpoint": settings.get("checkpoint"),
        "revision": None if is_local(settings.get("checkpoint")) else settings.get("revision"),
        "licence": settings.get("licence"),
        "teacher": settings.get("teacher"),
        "tuning": record.pop("tuning"),
        "augment": record.pop("augment"),
        "parameters": figures.pop("parameters"),
        "trainable_parameters": figures.pop("trainable_parameters"),
        "size_bytes": sum(p.stat().st_size for p in (run.directory / "model").rglob("*") if p.is_file()),
    }
    record["training"] = figures | {"total_seconds": round(time.time() - run.started, 2)}
    files.write_json(run.directory / "run.json", record)
    files.write_json(run.directory / "history.json", history)
    return {"model": record["model"], "training": record["training"]}


def place_of(run: Path, kind: str, data: dict[str, Any], split: str) -> Path:
    """The directory of a measurement of a run, `evaluations` or `robustness`: each content of the data has its own."""
    return run / kind / f"{data['name']}-{split}-{data['fingerprint'][:8]}"


def find_places(run: Path, kind: str, data: str | None, split: str, file: str) -> list[Path]:
    """The directories of such measurements on data of this name (None: any) that have `file`, the newest last; those of
    November 2026 have no fingerprint in their names."""
    name = f"{'*' if data is None else glob.escape(data)}-{split}"
    found = [path for end in ("", f"-{'[0-9a-f]' * 8}") for path in (run / kind).glob(f"{name}{end}/{file}")]
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def write_evaluation_record(directory: Path, run_directory: Path, data: dict[str, Any], command: list[str]) -> None:
    """Write run.json of an evaluation: the run's own, with the data and the command of the evaluation."""
    try:
        record = files.read_json(run_directory / "run.json")
    except (OSError, ValueError):
        record = {}
    record |= {"command": command, "data": data}
    files.write_json(directory / "run.json", record)


def read_data(run: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The data in run.json, {} if it names no splits, and the columns that the task read of it.

    Raises:
        InputError: run.json is not valid JSON.
    """
    record = read_json([run], "run.json") or {}
    data: dict[str, Any] = record.get("data") or {}
    reads = "audio" if str(record.get("task", "")).startswith("audio") else "text"
    columns = data.get("columns") or (reads, "label")  # all tasks of November 2026 learn labels
    return (data if data.get("splits") else {}), tuple(columns)


def is_local(checkpoint: str | None) -> bool:
    """Whether a checkpoint comes from this machine, so that a revision of the hub does not apply."""
    return checkpoint is None or checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir()


class Objective(NamedTuple):
    """The figure that a sweep compares."""

    value: float
    metric: str
    split: str
    greater_is_better: bool

    def line(self) -> str:
        """Such as "macro F1 0.9123 on validation"; it says where lower is better."""
        name = name_in_words(self.metric)
        return f"{name} {self.value:.4f} on {self.split}{'' if self.greater_is_better else ', lower is better'}"


def read_objective(directory: Path) -> Objective:
    """The task's objective on validation, or macro F1 for a run made before November 2026."""
    metrics = files.read_json(directory / "metrics.json")
    objective = metrics.get("objective", {"metric": "macro_f1", "split": "validation"})
    metric, split = objective["metric"], objective["split"]
    figure = metrics["splits"][split][metric]
    value = float(figure["value"] if isinstance(figure, dict) else figure)
    return Objective(value, metric, split, objective.get("greater_is_better", True))


def read_json(places: Sequence[Path], name: str) -> Any:
    """The content of the first file `name` in `places`; None if there is none.

    Raises:
        InputError: it is not valid JSON.
    """
    for place in places:
        path = place / name
        if path.exists():
            try:
                return files.read_json(path)
            except ValueError as error:
                raise InputError(f"{path}: not valid JSON ({error}); write the run's files again") from error
    return None
