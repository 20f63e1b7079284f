"""From the answers to whole splits to metrics with intervals, and to what a page shows of them.

Pure functions of `Answers`. The content of metrics.json:

    {"format": 1, "objective": {"evaluator", "metric", "greater_is_better", "split"}, "main_split": "test",
     "splits": {NAME: {"examples", "labels", "accuracy", "macro_f1", "per_label", "ece", "log_loss",
                       "confusion_matrix",                         in-scope splits only
                       "by_group": {"column", "metric", "least", "groups": {NAME: SHARE}, "worst", "best",
                                    "gap", "few", "unknown"},      where speakers are known
                       "by_seconds": [{"from", "to", "examples", METRIC}]}},       where there are clips
     "rejection": {"threshold", "keeps", "splits": {NAME: {...}}},  or null where no threshold is known
     "advice": [SENTENCE, ...]}                                      of a training run: what to do next

A figure with an interval is {"value", "low", "high", "level", "method", "groups", "note"}, and "unit" if it is no
share; a SHARE is {METRIC, "low", "high", "examples"}. METRIC, such as accuracy, is the units_metric of the first
evaluator whose targets the split has; a unit of it stands in by_group, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voicecommand.evaluation import confidence
from voicecommand.evaluation.base import Answers, Evaluator
from voicecommand.evaluation.blocks import Block
from voicecommand.evaluation.confidence import KEEP, confidence_blocks, measure_rejection
from voicecommand.evaluation.slices import score_slices, slice_blocks

MAIN_SPLITS = ("test", "validation")


def evaluate(
    evaluators: Sequence[Evaluator],
    answers: Sequence[Answers],
    threshold: float | None = None,
) -> dict[str, Any]:
    """The content of metrics.json; without a threshold it is taken from the validation split, if given.

    An evaluator whose targets a split lacks is left out.
    """
    in_scope = {p.split: p for p in answers if not p.out_of_scope}
    first = evaluators[0]
    rejection = None
    if all("probabilities" in p.columns for p in answers):
        if threshold is None and "validation" in in_scope:
            threshold = confidence.acceptance_threshold(in_scope["validation"].probabilities)
        if threshold is not None:
            splits = {p.split: measure_rejection(p, threshold, in_scope) for p in answers}
            rejection = {"threshold": threshold, "keeps": KEEP, "splits": splits}
    return {
        "format": 1,
        "objective": {
            "evaluator": first.name,
            "metric": first.primary_metric,
            "greater_is_better": first.greater_is_better,
            "split": "validation",
        },
        "main_split": choose_main_split(answers),
        "splits": {name: _score(evaluators, p) for name, p in in_scope.items()},
        "rejection": rejection,
    }


def _score(evaluators: Sequence[Evaluator], p: Answers) -> dict[str, Any]:
    scores: dict[str, Any] = {"examples": len(p.ids)}
    used = _used(evaluators, p)
    for evaluator in used:
        scores |= evaluator.score(p)
    return scores | (score_slices(used[0], p) if used else {})


def build_blocks(
    evaluators: Sequence[Evaluator], answers: Sequence[Answers], metrics: Mapping[str, Any]
) -> list[Block]:
    """What the page shows of the main split: what the evaluators show, slices, and confidence."""
    found: list[Block] = []
    main = next((p for p in answers if p.split == metrics["main_split"]), None)
    if main is not None:
        scores, used = metrics["splits"][main.split], _used(evaluators, main)
        found = [block for evaluator in used for block in evaluator.blocks(scores, main)]
        found += slice_blocks(used[0], scores, main.split) if used else []
    if all("probabilities" in p.columns for p in answers):
        found += confidence_blocks(main, answers, metrics["rejection"])
    return found


def _used(evaluators: Sequence[Evaluator], p: Answers) -> list[Evaluator]:
    """Those whose targets the split has."""
    return [evaluator for evaluator in evaluators if set(evaluator.targets) <= set(p.references)]


def choose_main_split(splits: Sequence[Answers]) -> str | None:
    """The split that the report is about: test, else validation, else the first with labels of the model."""
    names = [p.split for p in splits if not p.out_of_scope]
    return next((name for name in (*MAIN_SPLITS, *names) if name in names), None)
