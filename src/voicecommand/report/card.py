"""What the model card for the hub says; `report.write_model_card` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from voicecommand.evaluation import words
from voicecommand.evaluation.slices import format_by_group
from voicecommand.evaluation.threshold import format_threshold, setting_in_words
from voicecommand.files import read_json
from voicecommand.report.facts import not_measured, report_warnings, run_facts, run_title

LICENSE = "apache-2.0"
# the hub's names of metrics, where they are not ours
HUB_METRICS = {"macro_f1": "f1", "matthews_corrcoef": "matthews_correlation"}
HUB_TAGS = {"text_classification": ["intent-classification"], "audio_classification": ["keyword-spotting"]}


def card_context(
    directory: Path, saved: dict[str, Any], run: dict[str, Any], metrics: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything the card shows; `saved` is voicecommand.json (format 2), `metrics` None if not evaluated."""
    import yaml

    metrics = _at_saved_threshold(metrics, saved)
    name = metrics["main_split"] if metrics else None
    main = metrics["splits"].get(name) if metrics else None
    task, labels = saved["task"], saved["vocabulary"].get("labels", [])
    title = run_title(directory, run)
    front = _front_matter(title, saved, run, name, main)
    return {
        "front_matter": yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        "title": title,
        "what": _what(saved, run),
        "is_network": task["is_network"],
        "is_speech": task["reads"] == "audio",
        "pipeline_task": task["hub_tag"],
        "is_own_network": _is_own_network(Path(directory)),
        "labels": labels,
        "threshold": None if saved.get("threshold") is None else format_threshold(saved["threshold"]),
        "set_on": None if saved.get("threshold_set_on") is None else setting_in_words(saved["threshold_set_on"]),
        "metrics": metrics,
        "main": main,
        "main_name": name,
        "not_measured": not_measured(metrics, run) if metrics else [],
        "data_name": (run.get("data") or {}).get("name"),
        "training": _training(run),
        "limits": _limits(saved, run, metrics),
        "words": words,
    }


def _at_saved_threshold(metrics: dict[str, Any] | None, saved: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics without what the threshold of training did, if the model has another one by now."""
    threshold = saved.get("threshold")
    if not metrics or not metrics["rejection"] or metrics["rejection"]["threshold"] == threshold:
        return metrics
    return metrics | {
        "rejection": {"threshold": threshold, "set_on": saved.get("threshold_set_on"), "splits": {}},
    }


def _front_matter(
    title: str, saved: dict[str, Any], run: dict[str, Any], split: str | None, main: dict[str, Any] | None
) -> dict[str, Any]:
    """What the hub reads: licence, tags, library, base model, and the main split's figures."""
    model, data = run.get("model") or {}, run.get("data") or {}
    task = saved["task"]
    figures = [] if main is None else [(HUB_METRICS.get(n, n), n, f) for n, f in words.figures_of(main).items()]
    front: dict[str, Any] = {
        **({"language": language} if (language := task["settings"].get("language")) else {}),
        "license": model.get("licence") or ("other" if model.get("checkpoint") else LICENSE),
        "library_name": "transformers" if task["is_network"] else "voicecommand",
        "pipeline_tag": task["hub_tag"],
        "tags": ["voicecommand", "voice-commands", *HUB_TAGS.get(task["name"], [])],
        "metrics": [metric for metric, _, _ in figures],
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
        front["model-index"] = [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": task["hub_tag"], "name": task["hub_tag"].replace("-", " ").title()},
                        "dataset": dataset,
                        "metrics": [
                            {"type": metric, "name": words.title_in_words(name), "value": round(figure["value"], 4)}
                            for metric, name, figure in figures
                        ],
                    }
                ],
            }
        ]
    return front


def _what(saved: dict[str, Any], run: dict[str, Any]) -> str:
    model, task = run.get("model") or {}, saved["task"]
    kind = "network" if task["is_network"] else "traditional or hybrid model"
    form = "as audio of 16 kHz" if task["reads"] == "audio" else "as text"
    origin = f" It starts from {checkpoint_name(model['checkpoint'])}." if model.get("checkpoint") else ""
    if model.get("teacher"):
        origin += f" It was taught by the run {checkpoint_name(model['teacher'])}."
    labels = saved["vocabulary"].get("labels", [])
    what = f"sorts a short command, {form}, into {len(labels)} labels"
    if not labels:
        what = f"answers a short command, {form} (task: {task['name'].replace('_', ' ')})"
    return f"A {kind} that {what}.{origin} Trained with voicecommand."


def _is_own_network(directory: Path) -> bool:
    """Whether the saved model is of a type that only `import voicecommand.models` makes known to transformers."""
    try:
        kind = read_json(directory / "model" / "config.json")["model_type"]
    except (OSError, ValueError, KeyError):
        return False
    return (Path(__file__).parents[1] / "models" / f"{kind}.py").is_file()


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
    others = "rooms, microphones" if saved["task"]["reads"] == "audio" else "recognisers"
    known = ["It knows the labels above and no other: what it does not reject, it sorts into one of them."]
    found = [
        *(known if saved["vocabulary"].get("labels") else []),
        "The figures hold for data like the one it was measured on; other languages, accents, "
        f"{others} and devices were not measured.",
    ]
    if length := saved["task"]["settings"].get("max_length"):
        found.append(f"Texts are cut at {length} tokens.")
    if metrics is None:
        return [*found, "It was not evaluated."]
    main = metrics["splits"].get(metrics["main_split"]) or {}
    if "by_group" in main:
        found.append(f"On {metrics['main_split']}, {format_by_group(main['by_group'])}.")
    if accepted := [figure["value"] for figure in words.false_accepts_of(metrics).values()]:
        most = words.percent(max(accepted))
        found.append(f"At the threshold it still accepts up to {most} of the out-of-scope requests tried.")
    elif saved.get("threshold") is None:
        found.append("It has no threshold: it answers whatever it is given, also what is no command.")
    else:
        found.append("What it does with out-of-scope requests at this threshold was not measured.")
    return found + report_warnings(metrics, run)
