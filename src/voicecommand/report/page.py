"""The report and the model card of a run: reads files that a run left, writes files beside them.

`report.html` is one file: figures and clips inside as data, no script, no request to anywhere. Everything a user wrote
(texts, labels, names) is escaped by the template. The page shows blocks and knows no task. A missing history, run.json
or test split leaves a section out, never an error.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation import words
from voicecommand.evaluation.blocks import Block, Curves, Matrix, Series
from voicecommand.files import visible, write_bytes
from voicecommand.report import figures
from voicecommand.report.card import card_context
from voicecommand.report.clips import CLIP_SECONDS, data_uri, read_clips
from voicecommand.report.facts import report_warnings, run_facts, run_title
from voicecommand.run.records import read_json


@dataclass
class Section:
    """Blocks under one heading, each with its kind and, where it is drawn, its picture as a data URI."""

    title: str
    anchor: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> list[list[dict[str, Any]]]:
        """The blocks, charts that follow each other side by side."""
        found: list[list[dict[str, Any]]] = []
        for block in self.blocks:
            beside = bool(found) and block["kind"] == found[-1][-1]["kind"] == "Curves"
            if beside:
                found[-1].append(block)
            else:
                found.append([block])
        return found


def write_report(directory: Path, blocks: Sequence[Block], run_directory: Path | None = None) -> Path:
    """report.html from metrics.json and clips.parquet of `directory` and what the evaluators show, and NAME.png of
    each matrix.

    What describes the run (run.json, history.json) comes from `directory`, else from `run_directory`.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no metrics.json.
    """
    directory = Path(directory)
    places = [directory] + ([Path(run_directory)] if run_directory is not None else [])
    metrics = read_json([directory], "metrics.json")
    if metrics is None:
        raise InputError(f"{directory}: no metrics.json to report on; evaluate the run first")
    run = read_json(places, "run.json") or {}
    history = read_json(places, "history.json") or []
    curves = learning_curves(metrics, history, (run.get("training") or {}).get("best_step"))
    sections = build_sections([*blocks, *curves])
    for shown in (shown for section in sections for shown in section.blocks if isinstance(shown["block"], Matrix)):
        write_bytes(directory / f"{shown['block'].name}.png", shown["png"])
    html = render("page.html.j2", **report_context(directory, metrics, sections, run))
    path = directory / "report.html"
    write_bytes(path, html.encode())
    return path


def write_model_card(run_directory: Path) -> Path:
    """model/README.md for the hub, from model/voicecommand.json, metrics.json and run.json; returns its path.

    No path of this machine goes onto the card.

    Raises:
        InputError: there is no model/voicecommand.json; the other two may be missing.
    """
    run_directory = Path(run_directory)
    saved = read_json([run_directory / "model"], "voicecommand.json")
    if saved is None:
        raise InputError(f"{run_directory / 'model'}: no voicecommand.json, so no model to describe; train first")
    run = read_json([run_directory], "run.json") or {}
    metrics = read_json([run_directory], "metrics.json")
    path = run_directory / "model" / "README.md"
    write_bytes(path, render("card.md.j2", **card_context(run_directory, saved, run, metrics)).encode())
    return path


def report_context(
    directory: Path, metrics: dict[str, Any], sections: Sequence[Section], run: dict[str, Any]
) -> dict[str, Any]:
    """Everything the template shows, as plain strings, numbers and lists."""
    name, data = metrics["main_split"], run.get("data") or {}
    return {
        "title": run_title(directory, run),
        "main_name": name,
        "main": metrics["splits"].get(name),
        "splits": metrics["splits"],
        "false_accepts": _false_accepts(metrics),
        "run": run,
        "sections": sections,
        "clips": read_clips(directory),
        "clip_seconds": CLIP_SECONDS,
        "facts": run_facts(run),
        "data_splits": data.get("splits") or {},
        "data_name": data.get("name"),
        "fingerprint": data.get("fingerprint"),
        "warnings": report_warnings(metrics, run),
        "advice": metrics.get("advice", []),
        "command": shlex.join(map(str, run["command"])) if run.get("command") else None,
        "words": words,
    }


def _false_accepts(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figure of the out-of-scope split that belongs to the main split; without a main split, of each one."""
    found, main = words.false_accepts_of(metrics), metrics["main_split"]
    return {name: figure for name, figure in found.items() if main is None or name == f"{OUT_OF_SCOPE}_{main}"}


def build_sections(blocks: Sequence[Block]) -> list[Section]:
    """Blocks by section, pictures drawn: a block without a title belongs to the section before it."""
    sections: list[Section] = []
    for block in blocks:
        if block.title or not sections:
            sections.append(Section(block.title, f"section-{len(sections) + 1}"))
        shown: dict[str, Any] = {"kind": type(block).__name__, "block": block}
        if isinstance(block, Matrix):
            png = figures.matrix_png(block)
            # Beyond 40 labels the page scrolls over the figure at 5/7 of its pixels: labels about 11 px high.
            large = len(block.labels) > figures.NUMBERED_LABELS
            width = int.from_bytes(png[16:20], "big") * 5 // 7 if large else None
            shown |= {"png": png, "image": data_uri(png), "width": width}
        elif isinstance(block, Curves):
            shown |= {"image": data_uri(figures.curves_png(block)), "alt": _in_words(block)}
        sections[-1].blocks.append(shown)
    return sections


def _in_words(block: Curves) -> str:
    return f"{', '.join(series.name for series in block.series)}; {block.y_label} over {block.x_label}"


def learning_curves(metrics: dict[str, Any], history: Sequence[dict[str, Any]], best_step: int | None) -> list[Curves]:
    """Both losses, and the objective on validation, over optimizer steps; nothing where nothing was logged."""
    metric = metrics["objective"]["metric"]
    measured = [split[metric] for split in metrics["splits"].values() if isinstance(split.get(metric), dict)]
    unit = next((figure["unit"] for figure in measured if "unit" in figure), None)

    def logged(key: str, scale: int = 1) -> dict[float, float]:
        return {row["step"]: scale * row[key] for row in history if row.get(key) is not None and "step" in row}

    training, validation, objective = logged("loss"), logged("eval_loss"), logged(f"eval_{metric}", 1 if unit else 100)
    losses = [
        *([Series("training", tuple(training), tuple(training.values()))] if training else []),
        *([Series("validation", tuple(validation), tuple(validation.values()), "marked")] if validation else []),
    ]
    found = [Curves("Learning curves", "optimizer step", "loss", tuple(losses))] if losses else []
    if objective:
        label = f"validation {words.name_in_words(metric)}, {unit or '%'}"
        series = Series("validation", tuple(objective), tuple(objective.values()), "marked")
        kept = (best_step, objective[best_step], "kept model") if best_step in objective else None
        title = "" if found else "Learning curves"
        found.append(Curves(title, "optimizer step", label, (series,), circled=kept))
    return found


def render(template: str, **context: Any) -> str:
    """A template of this package; .html.j2 is escaped, .md.j2 is not. Characters that hide or turn text are shown."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["md"] = markdown
    source = files("voicecommand.report").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**context)


def markdown(text: str) -> str:
    """Text as it is, on one line of Markdown: no HTML, table bar, emphasis or link of the user's making."""
    line = visible(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*`\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", line)
