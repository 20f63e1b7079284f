"""What the files of a run say, in words: title, tables of facts, warnings. Pure functions of parsed JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voicecommand.columns import CROSS_VALIDATION
from voicecommand.evaluation.threshold import threshold_warnings
from voicecommand.evaluation.words import false_accepts_of, figures_of, percent

# The share of a split that is unknown to the model, above which it is a warning. Names and emoji stay below it.
UNKNOWN_SHARE = 0.05


def run_title(directory: Path, run: dict[str, Any]) -> str:
    """ "bert (full) on commands", or the directory's name where run.json does not say."""
    model, data = run.get("model") or {}, run.get("data") or {}
    if not model.get("name"):
        return Path(directory).resolve().name
    tuning = f" ({model['tuning']})" if model.get("tuning") else ""
    return f"{model['name']}{tuning}" + (f" on {data['name']}" if data.get("name") else "")


def is_speech(record: dict[str, Any]) -> bool:
    """Whether run.json is of a task that reads audio; those of November 2026 may not name the columns."""
    columns = (record.get("data") or {}).get("columns")
    return "audio" in columns if columns else str(record.get("task", "")).startswith("audio")


def report_warnings(metrics: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    for name, split in metrics["splits"].items():
        notes = dict.fromkeys(figure["note"] for figure in figures_of(split).values() if figure["note"])
        found += [f"{name}: {note}." for note in notes]
        empty = [label for label, row in split.get("per_label", {}).items() if not row["support"]]
        if empty:
            found.append(f"{name} has no example of {len(empty)} of {len(split['labels'])} labels: {', '.join(empty)}.")
    accepted = false_accepts_of(metrics)
    found += [f"{name}, false accepts: {figure['note']}." for name, figure in accepted.items() if figure["note"]]
    found += not_measured(metrics, run)
    set_on = (metrics["rejection"] or {}).get("set_on")
    found += [f"{text[0].upper()}{text[1:]}." for text in threshold_warnings(set_on)]
    if metrics["main_split"] == "validation":
        did = ["set the threshold"] if metrics["rejection"] else []
        did += ["chose the checkpoint"] if (run.get("training") or {}).get("best_step") is not None else []
        what_for = f", which {' and also '.join(did)}" if did else ""
        found.append(f"No test split was read: the figures are of validation{what_for}.")
    what = "texts were cut at the longest length"  # of runs before December 2026, which do not say it
    if is_speech(run):
        what = (
            "clips are longer than the model's window: networks train on the loudest window of a clip, and an answer "
            "is the mean over sliding windows, weighted by their energy"
        )
    for name, split in ((run.get("data") or {}).get("splits") or {}).items():
        if split.get("truncated"):
            said = f"examples are {split['limit']}" if split.get("limit") else what
            found.append(f"{name}: {split['truncated']:,} of {split['rows']:,} {said}.")
        if split.get("trained_on"):
            known = f"{split['trained_on']:,} of {split['rows']:,} examples"
            found.append(f"{name}: the model was trained on {known}, so its figures are too good.")
        unknown = split.get("unknown") or {}
        if unknown and unknown["count"] > UNKNOWN_SHARE * unknown["of"]:
            share = f"{unknown['count']:,} of {unknown['of']:,} {unknown['unit']}"
            found.append(f"{name}: {share} are unknown to the model, which can't tell them apart.")
    if (run.get("git") or {}).get("dirty"):
        found.append("The code had changes that no commit holds when this ran.")
    return found


def not_measured(metrics: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Of a run with cross-validation: whose figures they are, as one sentence."""
    if CROSS_VALIDATION not in metrics["splits"]:
        return []
    folds = (run.get("data") or {}).get("folds", "several")
    own = "its own accuracy is not measured" if metrics["main_split"] == CROSS_VALIDATION else "test measures it"
    return [
        f"{CROSS_VALIDATION}: the figures are of {folds} models of the same recipe, each measured on examples that it "
        f"was not trained on. The saved model was trained on all of them, and {own}."
    ]


def run_facts(run: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tables of (name, value) on model, training and machine; what run.json does not say is left out."""
    model, training, hardware = (run.get(key) or {} for key in ("model", "training", "hardware"))
    total, trainable = model.get("parameters"), model.get("trainable_parameters")
    share = f" ({percent(trainable / total)})" if total and trainable is not None else ""
    if model.get("tuning") == "full" and total != trainable and not is_speech(run):
        share += "; embeddings of tokens that train lacks stay as they are"
    git = run.get("git") or {}
    commit = f"{git['commit']}{', with uncommitted changes' if git.get('dirty') else ''}" if git.get("commit") else None
    tables = {
        "Model": {
            "model": model.get("name"),
            "checkpoint": model.get("checkpoint"),
            "revision": model.get("revision"),
            "teacher": model.get("teacher"),
            "tuning": model.get("tuning"),
            "parameters": _number(total),
            "trainable": f"{_number(trainable)}{share}" if trainable is not None else None,
            "size on disk": _megabytes(model.get("size_bytes")),
        },
        "Training": {
            "samples per second": _number(training.get("samples_per_second")),
            "start-up": _seconds(training.get("startup_seconds")),
            "training": _seconds(training.get("train_seconds")),
            "in all": _seconds(training.get("total_seconds")),
            "peak memory": _unit(training.get("peak_memory_mb"), "MB"),
            "peak GPU memory": _unit(training.get("peak_gpu_memory_mb"), "MB"),
            "steps": _number(training.get("steps")),
            "epochs": _number(training.get("epochs")),
            "kept step": _number(training.get("best_step")),
            "seed": run.get("seed"),
        },
        "Machine and code": {
            "precision": _joined(run.get("precision"), run.get("precision_reason")),
            "processes": run.get("world_size"),
            "threads": run.get("threads"),
            **{
                name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else value
                for name, value in hardware.items()
            },
            "git": commit,
            "versions": ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items()),
        },
    }
    cleaned = (
        (title, [(k, str(v)) for k, v in rows.items() if v not in (None, "", [])]) for title, rows in tables.items()
    )
    return [(title, rows) for title, rows in cleaned if rows]


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.3g}"


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{_number(value)} {unit}"


def _seconds(value: float | None) -> str | None:
    if value is None or value < 120:
        return None if value is None else f"{value:.1f} s"
    return f"{value / 60:.1f} min"


def _megabytes(value: float | None) -> str | None:
    return None if value is None else f"{value / 1e6:,.1f} MB"


def _joined(value: Any, reason: Any) -> str | None:
    return None if value is None else f"{value} ({reason})" if reason else str(value)
