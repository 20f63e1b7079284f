"""What the model card for the hub says; `report.write_model_card` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from voicecommand.files import read_json
from voicecommand.report.facts import is_speech, report_warnings, run_facts, run_title
from voicecommand.report.terminal import figures_of, format_by_group, format_figure, percent

LICENSE = "apache-2.0"


def card_context(
    directory: Path, saved: dict[str, Any], run: dict[str, Any], metrics: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything the card shows; `saved` is voicecommand.json, `metrics` None if not evaluated."""
    import yaml

    name = metrics["main_split"] if metrics else None
    main = metrics["splits"].get(name) if metrics else None
    main = main if main is not None and "confusion_matrix" in main else None
    title = run_title(directory, run)
    front = _front_matter(title, saved, run, name, main)
    return {
        "front_matter": yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        "title": title,
        "what": _what(saved, run),
        "network": is_network(saved),
        "is_speech": is_speech(saved),
        "pipeline_task": _pipeline_tag(saved),
        "is_own_network": _is_own_network(Path(directory)),
        "labels": saved["label_names"],
        "threshold": saved.get("threshold"),
        "keeps": saved.get("threshold_keeps"),
        "metrics": metrics,
        "has_labels": main is not None or bool(saved["label_names"]),
        "figures_of": figures_of,
        "main": main,
        "main_name": name,
        "data_name": (run.get("data") or {}).get("name"),
        "training": _training(run),
        "limits": _limits(saved, run, metrics),
        "percent": percent,
        "format_figure": format_figure,
    }


def _front_matter(
    title: str, saved: dict[str, Any], run: dict[str, Any], split: str | None, main: dict[str, Any] | None
) -> dict[str, Any]:
    """What the hub reads: licence, tags, library, base model, and the main split's figures."""
    model, data = run.get("model") or {}, run.get("data") or {}
    network = is_network(saved)
    front: dict[str, Any] = {
        "license": model.get("licence") or ("other" if model.get("checkpoint") else LICENSE),
        "library_name": "transformers" if network else "voicecommand",
        "pipeline_tag": _pipeline_tag(saved),
        "tags": ["voicecommand", "voice-commands", "keyword-spotting" if is_speech(saved) else "intent-classification"],
        "metrics": ["accuracy", "f1"],
    }
    checkpoint = str(model.get("checkpoint") or "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) and not Path(checkpoint).exists():
        front["base_model"] = checkpoint
    if main is not None:
        dataset = {
            "name": data.get("name") or "unnamed",
            "type": data.get("name") or "unnamed",
            "split": split,
        }
        figures = [("accuracy", "Accuracy", main["accuracy"]), ("f1", "Macro F1", main["macro_f1"])]
        front["model-index"] = [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": _pipeline_tag(saved), "name": _pipeline_tag(saved).replace("-", " ").title()},
                        "dataset": dataset,
                        "metrics": [{"type": t, "name": n, "value": round(f["value"], 4)} for t, n, f in figures],
                    }
                ],
            }
        ]
    return front


def _what(saved: dict[str, Any], run: dict[str, Any]) -> str:
    model = run.get("model") or {}
    kind = "network" if is_network(saved) else "traditional or hybrid model"
    form = "as sound of 16 kHz" if is_speech(saved) else "as text"
    origin = f" It starts from {checkpoint_name(model['checkpoint'])}." if model.get("checkpoint") else ""
    if model.get("teacher"):
        origin += f" It was taught by the run {checkpoint_name(model['teacher'])}."
    what = f"sorts a short command, {form}, into {len(saved['label_names'])} labels"
    if not saved["label_names"]:
        what = f"answers a short command, {form} (task: {saved['task'].replace('_', ' ')})"
    return f"A {kind} that {what}.{origin} Trained with voicecommand."


def _pipeline_tag(saved: dict[str, Any]) -> str:
    fallback = "audio-classification" if is_speech(saved) else "text-classification"
    return str(saved.get("hub_tag", fallback))


def _is_own_network(directory: Path) -> bool:
    """Whether the saved model is of a type that only `import voicecommand.models` makes known to transformers."""
    try:
        kind = read_json(directory / "model" / "config.json")["model_type"]
    except (OSError, ValueError, KeyError):
        return False
    return (Path(__file__).parents[1] / "models" / f"{kind}.py").is_file()


def is_network(saved: dict[str, Any]) -> bool:
    """Whether plain transformers opens the saved model; otherwise voicecommand.load does."""
    return saved["kind"] == "network"


def checkpoint_name(checkpoint: str) -> str:
    """The checkpoint as others may read it: of a local path only the last part."""
    local = checkpoint.startswith(("/", ".", "~")) or "\\" in checkpoint or Path(checkpoint).exists()
    return re.split(r"[/\\]", checkpoint.rstrip("/\\"))[-1] if local else checkpoint


def _training(run: dict[str, Any]) -> list[tuple[str, str]]:
    data = run.get("data") or {}
    rows = [("data", data.get("name")), ("fingerprint of the data", data.get("fingerprint"))]
    sizes = (f"{name} {split['rows']:,}" for name, split in (data.get("splits") or {}).items() if "rows" in split)
    rows.append(("examples", ", ".join(sizes)))
    wanted = (
        "tuning",
        "revision",
        "parameters",
        "trainable",
        "size on disk",
        "training",
        "epochs",
        "steps",
        "seed",
        "precision",
        "versions",
    )
    for _, facts in run_facts(run):
        rows += [("time" if key == "training" else key, value) for key, value in facts if key in wanted]
    return [(key, str(value)) for key, value in rows if value] or [("record", "no run.json was kept")]


def _limits(saved: dict[str, Any], run: dict[str, Any], metrics: dict[str, Any] | None) -> list[str]:
    """General limits and those that this run's own figures show."""
    known = ["It knows the labels above and no other: what it does not reject, it sorts into one of them."]
    found = [
        *(known if saved["label_names"] else []),
        "The figures hold for data like the one it was measured on; other languages, accents, "
        f"{'rooms, microphones' if is_speech(saved) else 'recognisers'} and devices were not measured.",
    ]
    if saved.get("max_length"):
        found.append(f"Texts are cut at {saved['max_length']} tokens.")
    if metrics is None:
        return [*found, "It was not evaluated."]
    main = metrics["splits"].get(metrics["main_split"]) or {}
    if "by_group" in main:
        found.append(f"On {metrics['main_split']}, {format_by_group(main['by_group'])}.")
    oos = [
        s["false_accepts"] for s in (metrics["rejection"] or {"splits": {}})["splits"].values() if "false_accepts" in s
    ]
    if oos:
        found.append(f"At the threshold it still accepts up to {percent(max(oos))} of the out-of-scope requests tried.")
    else:
        found.append("What it does with out-of-scope requests was not measured.")
    return found + report_warnings(metrics, run)
