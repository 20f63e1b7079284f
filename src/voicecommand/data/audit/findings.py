"""All checks of a data set, before any model sees it.

Errors make a training wrong or impossible; warnings are for a person to judge. Every problem names rows as
file:row. `recipes/audit.py` shows them all. Training runs the same checks first, except the search for nearly equal
recordings, which takes longer than some trainings.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from voicecommand.columns import HELD_OUT_IN
from voicecommand.data.audit.copies import find_duplicates, find_leaks, find_near, find_shared_groups
from voicecommand.data.audit.labels import check_labels, find_conflicts
from voicecommand.data.audit.problem import Findings, Problem, read_split
from voicecommand.data.audit.rows import check_audio, check_rows
from voicecommand.data.audit.transcripts import check_transcripts, find_disagreements
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)


def check(dataset: DatasetDict, columns: Iterable[str], required: Iterable[str] = ("train", "validation")) -> Findings:
    """Log counts and warnings, and stop at errors.

    Args:
        dataset: what a loader returned.
        columns: the columns that the task needs.
        required: the splits that the data must have; evaluation of a saved run needs fewer.

    Raises:
        InputError: one line with the first error and the number of others.
    """
    columns = tuple(columns)
    findings = inspect(dataset, columns, required, near=False)
    for split, labels in findings.counts.items():
        of_labels = f", {len(labels)} labels" if "label" in columns else ""
        logger.info("data %s: %s rows%s", split, f"{sum(labels.values()):,}", of_labels)
    for problem in findings.warnings:
        logger.warning("data: %s", problem.line(shown=1))
    if findings.errors:
        others = len(findings.errors) - 1
        more = f" (and {others} more error{'s' if others > 1 else ''}: recipes/audit.py lists all)" if others else ""
        raise InputError(f"{findings.errors[0].line()}{more}")
    return findings


def inspect(
    dataset: DatasetDict,
    columns: Iterable[str] = ("text", "label"),
    required: Iterable[str] = ("train", "validation"),
    near: bool = True,
) -> Findings:
    """Find all problems; none raises an error.

    Args:
        dataset: what a loader returned; audio is checked only if it has been prepared (`voicecommand.data.prepared`).
        columns: the columns that the task needs.
        required: the splits that the data must have.
        near: also look for recordings that are nearly the same, about 2 ms for each clip.
    """
    columns = tuple(columns)
    problems: list[Problem] = []
    has_folds = "train" in dataset and HELD_OUT_IN in dataset["train"].column_names
    for name in required:
        if name not in dataset and not (name == "validation" and has_folds):
            problems.append(
                Problem("error", "missing_split", f"no {name} split; there are {', '.join(dataset) or 'none'}")
            )
    splits = [read_split(name, dataset[name], columns) for name in dataset]
    for split in splits:
        problems += check_rows(split, columns)
        problems += check_audio(split)
    problems += find_duplicates(splits)
    problems += find_leaks(splits)
    if near:
        problems += find_near(splits)
    if "label" in columns:
        problems += check_labels(splits)
        problems += find_conflicts(splits)
    if "transcript" in columns:
        problems += [problem for split in splits for problem in check_transcripts(split)]
        problems += find_disagreements(splits)
    problems += find_shared_groups(splits)
    counts = {
        split.name: dict(sorted(Counter(split.columns.get("label", [""] * len(split.origins))).items()))
        for split in splits
    }
    problems.sort(key=lambda problem: problem.level)
    return Findings(counts, tuple(problems))


def format_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Rows per label and split as a text table, one label a line."""
    labels = sorted({label for split in counts.values() for label in split})
    lines = [["label", *counts]]
    lines += [[label, *(f"{split.get(label, 0):,}" for split in counts.values())] for label in labels]
    lines.append(["all", *(f"{sum(split.values()):,}" for split in counts.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )
