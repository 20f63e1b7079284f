"""The report and the model card of a run: reads files that a run left, writes files beside them.

`report.html` is one file: figures and clips inside as data, no script, no request to anywhere. Everything a user wrote
(texts, labels, names) is escaped by the template. A missing history, run.json or test split leaves a section
out, never an error.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation import arrays, confidence
from voicecommand.evaluation.blocks import Block
from voicecommand.evaluation.classification import EXAMPLES_OF_A_PAIR, PAIRS
from voicecommand.evaluation.intervals import FEW_GROUPS
from voicecommand.files import write_bytes
from voicecommand.report import figures
from voicecommand.report.card import card_context
from voicecommand.report.clips import CLIP_SECONDS, data_uri, read_clips
from voicecommand.report.facts import report_warnings, run_facts, run_title
from voicecommand.report.terminal import figures_of, format_by_group, format_figure, percent
from voicecommand.run.records import read_json

FALSE_ACCEPTS = 10
CURVE_POINTS = 401


def write_report(directory: Path, run_directory: Path | None = None, blocks: Sequence[Block] = ()) -> Path:
    """confusion_matrix.png and report.html from metrics.json, predictions.parquet and clips.parquet of `directory`.

    What describes the run (run.json, history.json) comes from `directory`, else from `run_directory`. Returns the
    path of report.html; a missing metrics.json is an InputError.
    `blocks` are what the evaluators show of the main split.
    """
    directory = Path(directory)
    places = [directory] + ([Path(run_directory)] if run_directory is not None else [])
    metrics = read_json([directory], "metrics.json")
    if metrics is None:
        raise InputError(f"{directory}: no metrics.json to report on; evaluate the run first")
    run = read_json(places, "run.json") or {}
    history = read_json(places, "history.json") or []
    rows = read_predictions(directory)
    images: dict[str, str | None] = {}
    main = metrics["splits"].get(metrics["main_split"])
    if main is not None and "confusion_matrix" in main:
        title = f"{metrics['main_split']}: {main['examples']:,} examples"
        png = figures.confusion_matrix_png(main["confusion_matrix"], main["labels"], title)
        write_bytes(directory / "confusion_matrix.png", png)
        images["matrix"] = data_uri(png)
        # Beyond 40 labels the page scrolls over the figure at 5/7 of its pixels: labels about 11 px high.
        large = len(main["labels"]) > figures.NUMBERED_LABELS
        images["matrix_width"] = str(int.from_bytes(png[16:20], "big") * 5 // 7) if large else None
    images |= _figures(metrics, rows, history, run)
    shown = [{"kind": type(block).__name__, "block": block} for block in blocks]
    html = render("page.html.j2", blocks=shown, **report_context(directory, metrics, rows, run, images))
    path = directory / "report.html"
    write_bytes(path, html.encode())
    return path


def write_model_card(run_directory: Path) -> Path:
    """model/README.md for the hub, from model/voicecommand.json, metrics.json and run.json; returns its path.

    Only voicecommand.json must be there (else InputError). No path of this machine goes onto the card.
    """
    run_directory = Path(run_directory)
    saved = read_json([run_directory / "model"], "voicecommand.json")
    if saved is None:
        raise InputError(f"{run_directory / 'model'}: no voicecommand.json, so no model to describe; train first")
    if "vocabulary" in saved:
        task = saved["task"]
        saved |= {
            "task": task["name"],
            "kind": "network" if task["is_network"] else "estimator",
            "label_names": saved["vocabulary"].get("labels", []),
            "max_length": task["settings"].get("max_length"),
            "hub_tag": task["hub_tag"],
        }
    run = read_json([run_directory], "run.json") or {}
    metrics = read_json([run_directory], "metrics.json")
    path = run_directory / "model" / "README.md"
    write_bytes(path, render("card.md.j2", **card_context(run_directory, saved, run, metrics)).encode())
    return path


def report_context(
    directory: Path,
    metrics: dict[str, Any],
    rows: list[dict[str, Any]],
    run: dict[str, Any],
    images: dict[str, Any],
) -> dict[str, Any]:
    """Everything the template shows, as plain strings, numbers and lists."""
    name = metrics["main_split"]
    any_main = metrics["splits"].get(name)
    main = any_main if any_main is not None and "confusion_matrix" in any_main else None
    clips = read_clips(directory)
    labels = [] if main is None else sorted(main["per_label"].items(), key=lambda item: (item[1]["f1"], item[0]))
    return {
        "title": run_title(directory, run),
        "main_name": name,
        "main": main,
        "any_main": any_main,
        "figures_of": figures_of,
        "metrics": metrics,
        "run": run,
        "images": images,
        "per_label": labels,
        "pairs": [] if main is None else confused_texts(main, name, rows, clips),
        "clips": clips,
        "clip_seconds": CLIP_SECONDS,
        "is_speech": any(row.get("seconds") is not None for row in rows),
        "by_group": (main or {}).get("by_group"),
        "by_seconds": (main or {}).get("by_seconds"),
        "few_groups": FEW_GROUPS,
        "shown_groups": figures.SHOWN_GROUPS,
        "format_by_group": format_by_group,
        "format_share": lambda share: format_figure(share | {"value": share["accuracy"]}, method=False),
        "seconds_range": figures.seconds_range,
        "false_accepts": false_accepts(rows),
        "facts": run_facts(run),
        "data_splits": (run.get("data") or {}).get("splits") or {},
        "data_name": (run.get("data") or {}).get("name"),
        "fingerprint": (run.get("data") or {}).get("fingerprint"),
        "warnings": report_warnings(metrics, run),
        "command": shlex.join(map(str, run["command"])) if run.get("command") else None,
        "percent": percent,
        "format_figure": format_figure,
    }


def read_predictions(directory: Path) -> list[dict[str, Any]]:
    """The rows of predictions.parquet, less the top five; `seconds` of clips only.

    None of them where the file is not there, or where the task has no labels.
    """
    import pyarrow.parquet

    path = Path(directory) / "predictions.parquet"
    if not path.exists():
        return []
    names = ["split", "id", "origin", "text", "label", "prediction", "probability", "accepted"]
    there = pyarrow.parquet.read_schema(path).names
    if "prediction" not in there:
        return []
    if "seconds" in there:
        names.append("seconds")
    return pyarrow.parquet.read_table(path, columns=names).to_pylist()


def confused_texts(
    main: dict[str, Any],
    split: str,
    rows: Sequence[dict[str, Any]],
    clips: dict[tuple[str, str], dict[str, Any]],
) -> list[dict[str, Any]]:
    """The ten most confused pairs with the texts and clips behind them, the surest mistakes first."""
    wrong: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["split"] == split and row["label"] != row["prediction"]:
            wrong.setdefault((row["label"], row["prediction"]), []).append(row)
    pairs = []
    for reference, guess, count in arrays.confused_pairs(main["confusion_matrix"], PAIRS):
        label, prediction = main["labels"][reference], main["labels"][guess]
        texts = sorted(wrong.get((label, prediction), []), key=lambda row: -row["probability"])
        support = main["per_label"][label]["support"]
        pairs.append(
            {
                "label": label,
                "prediction": prediction,
                "count": count,
                "support": support,
                "share": count / support,
                "texts": [row | {"clip": clips.get((split, row["id"]))} for row in texts[:EXAMPLES_OF_A_PAIR]],
                "more": max(0, len(texts) - EXAMPLES_OF_A_PAIR),
            }
        )
    return pairs


def false_accepts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The out-of-scope examples that were accepted with the highest confidence."""
    taken = [row for row in rows if row["label"] == OUT_OF_SCOPE and row["split"].startswith(OUT_OF_SCOPE)]
    return sorted((row for row in taken if row["accepted"]), key=lambda row: -row["probability"])[:FALSE_ACCEPTS]


def rejection_curve(rows: Sequence[dict[str, Any]], split: str, out_of_scope: str | None) -> dict[str, Any]:
    """Shares [t] over an even grid of thresholds; accuracy is NaN, a gap, where nothing is accepted."""
    grid = np.linspace(0, 1, CURVE_POINTS)
    scores = np.array([row["probability"] for row in rows if row["split"] == split])
    right = np.array([row["label"] == row["prediction"] for row in rows if row["split"] == split])
    taken = scores[None, :] >= grid[:, None]
    count, hits = taken.sum(axis=1), (taken & right).sum(axis=1)
    accurate = np.divide(hits, count, out=np.full(len(grid), np.nan), where=count > 0)
    curve = {"threshold": grid, "accepted": count / len(scores), "accuracy_accepted": accurate}
    outside = np.array([row["probability"] for row in rows if row["split"] == out_of_scope])
    if len(outside):
        curve["false_accepts"] = (outside[None, :] >= grid[:, None]).mean(axis=1)
    return curve


def _figures(
    metrics: dict[str, Any], rows: list[dict[str, Any]], history: list[dict[str, Any]], run: dict[str, Any]
) -> dict[str, str | None]:
    """Everything but the confusion matrix, as data URIs; None where there is nothing to draw."""
    split = metrics["main_split"]
    own = [row for row in rows if row["split"] == split]
    curves = figures.learning_curves_png(history, (run.get("training") or {}).get("best_step"))
    images = {"curves": curves, "reliability": None, "rejection": None, "groups": None, "seconds": None}
    main = metrics["splits"].get(split) or {}
    if "by_group" in main:
        images["groups"] = figures.groups_png(main["by_group"])
    if len(main.get("by_seconds", [])) > 1:
        images["seconds"] = figures.seconds_png(main["by_seconds"])
    if own:
        scores, right = (
            [row["probability"] for row in own],
            [row["label"] == row["prediction"] for row in own],
        )
        images["reliability"] = figures.reliability_png(confidence.reliability_bins(scores, right))
    if own and metrics["rejection"]:
        outside = sorted({row["split"] for row in rows if row["split"].startswith(OUT_OF_SCOPE)})
        partner = f"{OUT_OF_SCOPE}_{split}"
        other = partner if partner in outside else next(iter(outside), None)
        curve = rejection_curve(rows, split, other)
        images["rejection"] = figures.rejection_png(curve, metrics["rejection"]["threshold"], split, other)
    return {name: None if png is None else data_uri(png) for name, png in images.items()}


def render(template: str, **context: Any) -> str:
    """A template of this package; .html.j2 is escaped, .md.j2 is not."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["md"] = markdown
    source = files("voicecommand.report").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**context)


def markdown(text: str) -> str:
    """Text as it is, on one line of Markdown: no HTML, table bar, emphasis or link of the user's making."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*`\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", line)
