"""A run's figures as lines of text."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voicecommand.evaluation import arrays
from voicecommand.evaluation.slices import format_by_group
from voicecommand.evaluation.threshold import (
    format_threshold,
    moved_in_words,
    setting_in_words,
    threshold_warnings,
)
from voicecommand.evaluation.words import figures_of, format_figure, name_in_words, percent
from voicecommand.report.facts import is_speech, not_measured
from voicecommand.run.records import read_json, reading

LINE_WIDTH = 120
MATRIX_LABELS = 30
WORD_PAIRS = 10
EXAMPLE_LENGTH = 80  # characters of the text in the command to try


def format_summary(metrics: dict[str, Any], run: str = "RUN") -> str:
    """The last lines on the terminal: figures of each split, rejection, the main split's confusions.

    Args:
        run: the run directory, for the commands that the lines name.
    """
    lines = []
    width = max((len(name) for name in metrics["splits"]), default=0)
    for name, split in metrics["splits"].items():
        figures = list(figures_of(split).values())
        parts, before = [], None
        for key, figure in figures_of(split).items():
            parts.append(f"{name_in_words(key)} {format_figure(figure, method=figure['method'] != before)}")
            before = figure["method"]
        lines.append(f"{name:<{width}}  {'  '.join(parts)}")
        notes = dict.fromkeys(figure["note"] for figure in figures if figure["note"])
        lines += [f"{'':<{width}}  note: {note}" for note in notes]
        if "by_group" in split:
            lines.append(f"{'':<{width}}  {format_by_group(split['by_group'])}")
    lines += _rejection_lines(metrics["rejection"], shlex.quote(run))
    lines += [f"advice: {text}" for text in metrics.get("advice", [])]
    main = metrics["splits"].get(metrics["main_split"]) or {}
    if "confusion_matrix" in main:
        lines += [
            "",
            *format_confusion_matrix(main["confusion_matrix"], main["labels"], metrics["main_split"]),
        ]
    if "confused_words" in main:
        lines += ["", *format_confused_words(main["confused_words"], metrics["main_split"])]
    return "\n".join(lines)


def _rejection_lines(rejection: dict[str, Any] | None, run: str) -> list[str]:
    if rejection is None:
        return []
    set_on = rejection.get("set_on")  # runs before December 2026 have none
    how = "" if set_on is None else f" ({setting_in_words(set_on)})"
    lines = [f"rejects below {format_threshold(rejection['threshold'])}{how}"]
    lines += [f"  {text}" for text in (*moved_in_words(rejection), *threshold_warnings(set_on, run))]
    for name, split in rejection["splits"].items():
        if "false_accepts" in split:
            auroc = "-" if split["auroc"] is None else f"{split['auroc']:.3f}"
            share = split["false_accepts_interval"]
            note = f"; note: {share['note']}" if share["note"] else ""
            lines.append(f"  {name}: accepts {format_figure(share)} wrongly, AUROC {auroc}{note}")
        else:
            kept, right = percent(split["accepted"]), percent(split["accuracy_accepted"])
            of_right = f"; keeps {percent(split['right_kept'])} of the right ones" if "right_kept" in split else ""
            lines.append(f"  {name}: accepts {kept}, {right} of them right{of_right}")
    return lines


def format_confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], split: str) -> list[str]:
    """Text lines of at most 120 columns: the matrix, or its ten largest errors where it cannot fit.

    Rows are references, columns predictions; columns bear label names where they fit, else the row numbers.
    """
    names = [" ".join(label.split())[:40] for label in labels]
    cell = max(len(f"{max(map(max, matrix))}"), len(f"{len(names)}")) + 2
    head = max(map(len, names)) + len(f"{len(names)}") + 2
    title = f"confusion matrix of {split}: rows are labels, columns predictions"
    named = [max(cell, len(name) + 2) for name in names]
    if head + sum(named) <= LINE_WIDTH:
        widths, heads = named, names
    elif len(names) <= MATRIX_LABELS and head + cell * len(names) <= LINE_WIDTH:
        widths, heads = [cell] * len(names), [str(i + 1) for i in range(len(names))]
        title += ", numbered as the rows"
    else:
        return _pair_lines(matrix, names, split)
    lines = [title, " " * head + "".join(f"{text:>{w}}" for text, w in zip(heads, widths, strict=True))]
    digits = len(str(len(names)))
    for i, row in enumerate(matrix):
        cells = "".join(f"{count or '.':>{w}}" for count, w in zip(row, widths, strict=True))
        lines.append(f"{i + 1:>{digits}} {names[i]:<{head - digits - 1}}{cells}")
    return lines


def _pair_lines(matrix: Sequence[Sequence[int]], names: Sequence[str], split: str) -> list[str]:
    pairs = arrays.confused_pairs(matrix)
    where = f"the full {len(names)} x {len(names)} matrix is in confusion_matrix.csv"
    if not pairs:
        return [f"no errors on {split}; {where}"]
    lines = [f"most confused pairs of {split} ({where})"]
    width = max(len(names[reference]) for reference, _, _ in pairs)
    lines += [f"{count:>6} x {names[reference]:<{width}} taken for {names[guess]}" for reference, guess, count in pairs]
    return lines


def format_confused_words(confused: dict[str, Any], split: str) -> list[str]:
    """The WORD_PAIRS most frequent errors of a recogniser."""
    if not confused["pairs"]:
        return [f"no wrong word on {split}"]
    pairs = confused["pairs"][:WORD_PAIRS]
    errors = sum(pair["count"] for pair in pairs)
    lines = [f"words of {split} that are most often wrong: {errors:,} of {confused['errors']:,} errors"]
    width = max(len(pair["reference"] or pair["answer"]) for pair in pairs)
    for pair in pairs:
        word, what = pair["reference"] or pair["answer"], f"taken for {pair['answer']}"
        if not (pair["reference"] and pair["answer"]):
            what = "left out" if pair["reference"] else "inserted"
        lines.append(f"{pair['count']:>6} x {word:<{width}} {what}")
    return lines


def format_result(directory: Path) -> str:
    """The last lines of a run on the terminal, read from its files.

    Raises:
        InputError: one of them is not as a run writes it.
    """
    with reading(directory):
        return _format_result(directory)


def _format_result(directory: Path) -> str:
    metrics, record = read_json([directory], "metrics.json"), read_json([directory], "run.json")
    model = record["model"]
    at = f" at {model['revision'][:12]}" if model["revision"] else ""
    what = f"{model['checkpoint']}{at}" if model["checkpoint"] else "fitted on this data only"
    if model.get("teacher"):
        what += f", taught by {model['teacher']}"
    lines = [f"{model['name']} is {what}", format_summary(metrics, str(directory)), *not_measured(metrics, record)]
    saved, then = read_json([directory / "model"], "voicecommand.json"), metrics["rejection"]
    if then and saved.get("threshold_set_on") and saved["threshold"] != then["threshold"]:
        now = f"{format_threshold(saved['threshold'])} ({setting_in_words(saved['threshold_set_on'])})"
        lines.append(f"its threshold was moved after training and is now {now}")
    lines.append(f"report: {directory / 'report.html'}")
    return "\n".join(["", *lines, f"try it: {predict_command(directory, record)}"])


def predict_command(directory: Path, record: dict[str, Any]) -> str:
    """The command that answers an example by the run in `directory`, to be pasted into the shell that runs this."""
    example = record.get("example") or ("clip.wav" if is_speech(record) else "turn the lights off")
    if not is_speech(record):
        example = " ".join(example.split())[:EXAMPLE_LENGTH]
    found = shutil.which("python")
    is_on_path = found is not None and Path(found).parent == Path(sys.executable).parent
    python = "python" if is_on_path else sys.executable
    words = [python, str(Path(sys.argv[0]).with_name("predict.py")), str(directory)]
    return shlex.join([*words, *(["--"] if example.startswith("-") else []), example])
