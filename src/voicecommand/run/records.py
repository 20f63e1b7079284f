"""The records of a run: run.json, history.json, and the objective that a sweep compares."""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Iterator, Sequence
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
    record = read_json([run_directory], "run.json") or {}
    record |= {"command": command, "data": data}
    files.write_json(directory / "run.json", record)


def read_data(run: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The data in run.json, {} if it names no splits, and the columns that the task read of it.

    Raises:
        InputError: run.json is not valid JSON, or not of the types that a run writes.
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
    with reading(directory):
        metrics = read_json([directory], "metrics.json")
        objective = metrics.get("objective", {"metric": "macro_f1", "split": "validation"})
        metric, split = objective["metric"], objective["split"]
        figure = metrics["splits"][split][metric]
        value = float(figure["value"] if isinstance(figure, dict) else figure)
        return Objective(value, metric, split, objective.get("greater_is_better", True))


def read_json(places: Sequence[Path], name: str) -> Any:
    """The content of the first file `name` in `places`; None if there is none.

    Raises:
        InputError: it is not valid JSON, or not of the types that a run writes.
    """
    for place in places:
        path = place / name
        if path.exists():
            try:
                content = files.read_json(path)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: not valid JSON ({error}); write the run's files again") from error
            _check(path, content)
            return content
    return None


_NUMBER = (int, float)
_OF_SPLIT = {"rows": int, "sha256": str, "truncated": int, "limit": str, "trained_on": int, "unknown": dict}
# The types of what is read of run.json; null, or nothing, stands for what is not known.
_SECTIONS: dict[str, dict[str, Any]] = {
    "model": {
        **dict.fromkeys(("name", "checkpoint", "revision", "licence", "teacher", "tuning", "augment"), str),
        **dict.fromkeys(("parameters", "trainable_parameters", "size_bytes"), _NUMBER),
    },
    "training": {
        **dict.fromkeys(("samples_per_second", "startup_seconds", "train_seconds", "total_seconds"), _NUMBER),
        **dict.fromkeys(("peak_memory_mb", "peak_gpu_memory_mb", "steps", "epochs", "best_step"), _NUMBER),
    },
    "data": {"name": str, "columns": list, "fingerprint": str, "splits": dict},
    "hardware": {},
    "versions": {},
    "git": {"commit": str, "dirty": bool},
}
_TOP = {"task": str, "command": list, "working_directory": str, "example": str}


def _check(path: Path, content: Any) -> None:
    """Check the types of run.json, history.json or metrics.json, which may come from anywhere."""
    expected = {"run.json": dict, "metrics.json": dict, "history.json": list}.get(path.name)
    if expected is None:
        return
    problem = "" if isinstance(content, expected) else f"is no {'object' if expected is dict else 'list'}"
    if not problem and path.name == "history.json":
        problem = "" if all(isinstance(line, dict) for line in content) else "is no list of objects"
    if not problem and path.name == "run.json":
        problem = _find_problem(content)
    if problem:
        raise InputError(f"{path}: {problem}, so no run of ours wrote it; copy it again, or train the run again")


def _find_problem(record: dict[str, Any]) -> str:
    sections = {name: record.get(name) or {} for name in _SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, dict):
            return f"{name} is no object"
    for where, content, types in (("", record, _TOP), *((f"{n}.", sections[n], _SECTIONS[n]) for n in sections)):
        for key, kind in types.items():
            if content.get(key) is not None and not isinstance(content[key], kind):
                return f"{where}{key} is of another type"
    if not all(isinstance(name, str) for name in sections["data"].get("columns") or ()):
        return "data.columns is no list of names"
    for split, described in (sections["data"].get("splits") or {}).items():
        if not isinstance(described, dict) or not {"rows", "sha256"} <= described.keys():
            return f"data.splits.{split} lacks rows and sha256"
        for key, kind in _OF_SPLIT.items():
            if described.get(key) is not None and not isinstance(described[key], kind):
                return f"data.splits.{split}.{key} is of another type"
        if described["rows"] is None or described["sha256"] is None:
            return f"data.splits.{split} lacks rows and sha256"
        unknown = described.get("unknown") or {}
        if unknown and not (
            isinstance(unknown.get("count"), int) and isinstance(unknown.get("of"), int) and "unit" in unknown
        ):
            return f"data.splits.{split}.unknown is not complete"
    return ""


@contextlib.contextmanager
def reading(run: Path) -> Iterator[None]:
    """A block that only reads the records of a run and formats them: what they lack is bad input.

    Raises:
        InputError: a record lacks something, or has it in another type.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{run}: its records are not as a run writes them ({what}); train it again") from error
