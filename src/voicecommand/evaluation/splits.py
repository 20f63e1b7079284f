"""From the answers to whole splits to metrics with intervals, and to what a page shows of them.

Pure functions of `Answers`. The content of metrics.json:

    {"format": 1, "objective": {"evaluator", "metric", "greater_is_better", "split"}, "main_split": "test",
     "splits": {NAME: {"examples", "labels", "accuracy", "macro_f1", "per_label", "ece", "log_loss",
                       "confusion_matrix",                         in-scope splits only, of labels
                       "wer", "cer", "sentence_error_rate", "errors", "words", "normaliser", "as_written",
                       "confused_words",                           of transcripts (`transcripts`)
                       "by_group": {"column", "metric", "is_of_examples", "least", "groups": {NAME: SHARE},
                                    "worst", "best", "gap", "few", "unknown"},      where speakers are known
                       "by_seconds": [{"from", "to", "examples", METRIC}]}},       where there are clips
     "rejection": {"threshold", "set_on", "splits": {NAME: {...}},  or null where no threshold is known
                   "before", "is_saved"},       of an evaluation with another threshold than the run's
     "advice": [SENTENCE, ...]}                 of a training run: what to do next

A figure with an interval is {"value", "low", "high", "level", "method", "groups", "note"}, and "unit" if it is no
share; a SHARE is {METRIC, "low", "high", "examples"}. METRIC, such as accuracy, is the units_metric of the first
evaluator whose targets the split has; a unit of it stands in by_group, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voicecommand.columns import CROSS_VALIDATION, OUT_OF_SCOPE
from voicecommand.evaluation.base import Answers, Evaluator
from voicecommand.evaluation.blocks import Block
from voicecommand.evaluation.confidence import confidence_blocks, measure_rejection
from voicecommand.evaluation.slices import score_slices, slice_blocks
from voicecommand.evaluation.threshold import HeldOut, Rule, choose_threshold, describe_threshold

MAIN_SPLITS = ("test", CROSS_VALIDATION, "validation")
THRESHOLD_SPLITS = (CROSS_VALIDATION, "validation")  # where the threshold of a new run is set


def evaluate(
    evaluators: Sequence[Evaluator],
    answers: Sequence[Answers],
    threshold: float | None = None,
    set_on: Mapping[str, Any] | None = None,
    rule: Rule | None = None,
    held_out: HeldOut | None = None,
    move_on: str | None = None,
) -> dict[str, Any]:
    """The content of metrics.json. An evaluator whose targets a split lacks is left out.

    Args:
        threshold, set_on: the run's threshold, and what `choose_threshold` said of it. Without a threshold it is chosen
            here, on cross-validation or validation if given.
        rule: by which a threshold is chosen.
        held_out: of an estimator: more examples to choose it on.
        move_on: the split on which a given rule chooses another threshold than the run's.

    Raises:
        InputError: the rule needs a split that is not given.
    """
    in_scope = {p.split: p for p in answers if not p.out_of_scope}
    first = evaluators[0]
    rejection = None
    if all("probabilities" in p.columns for p in answers):
        rejection = _reject(answers, in_scope, threshold, set_on, rule or Rule(), held_out, move_on)
    return {
        "format": 1,
        "objective": {
            "evaluator": first.name,
            "metric": first.primary_metric,
            "greater_is_better": first.greater_is_better,
            "split": CROSS_VALIDATION if CROSS_VALIDATION in in_scope else "validation",
        },
        "main_split": choose_main_split(answers),
        "splits": {name: _score(evaluators, p) for name, p in in_scope.items()},
        "rejection": rejection,
    }


def _reject(
    answers: Sequence[Answers],
    in_scope: dict[str, Answers],
    threshold: float | None,
    set_on: Mapping[str, Any] | None,
    rule: Rule,
    held_out: HeldOut | None,
    move_on: str | None,
) -> dict[str, Any] | None:
    """The section `rejection`; None where no threshold is known and none can be chosen."""
    before, is_moved = threshold, move_on is not None and rule.is_given
    name = move_on if is_moved else next((split for split in THRESHOLD_SPLITS if split in in_scope), None)
    beside = "validation" if name == CROSS_VALIDATION else name
    outside = next((p for p in answers if p.split == f"{OUT_OF_SCOPE}_{beside}"), None)
    if name is not None and (is_moved or threshold is None):
        more = None if name == CROSS_VALIDATION else held_out  # the rows of train are in it already
        set_on = choose_threshold(rule, in_scope.get(name), outside, more)
        threshold = float(set_on["threshold"])
    if threshold is None:
        return None
    splits = {p.split: measure_rejection(p, threshold, in_scope) for p in answers}
    found: dict[str, Any] = {"threshold": threshold, "set_on": set_on, "splits": splits}
    if is_moved:
        found |= {"before": describe_threshold(before, in_scope.get(str(name)), outside), "is_saved": False}
    return found


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
    """The split that the report is about: test, else cross-validation or validation, else the first with labels of the
    model."""
    names = [p.split for p in splits if not p.out_of_scope]
    return next((name for name in (*MAIN_SPLITS, *names) if name in names), None)
