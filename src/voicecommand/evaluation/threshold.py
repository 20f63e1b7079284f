"""The threshold of rejection: by which rule it is chosen, on how many examples, and what so many can say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.errors import InputError
from voicecommand.evaluation.arrays import confidence
from voicecommand.evaluation.base import Answers, Figure
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.evaluation.words import format_figure

KEEP = 0.95
FEW = 10  # fewer examples below the threshold (or wrongly above it), or wrong answers, say little


@dataclass(frozen=True)
class Rule:
    """The settings `reject.keep` and `reject.false_accepts`; with neither, `KEEP` of the in-scope commands are kept.

    Args:
        keep: share of in-scope commands that are accepted.
        false_accepts: share of out-of-scope commands that are accepted.

    Raises:
        InputError: both are given, or one is no share.
    """

    keep: float | None = None
    false_accepts: float | None = None

    def __post_init__(self) -> None:
        if self.keep is not None and self.false_accepts is not None:
            raise InputError(
                f"reject.keep={self.keep} and reject.false_accepts={self.false_accepts}: one threshold cannot be set by"
                " both; leave one of them out"
            )
        for name in ("keep", "false_accepts"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(f"reject.{name}={value}: give a share of the commands between 0 and 1, such as 0.95")

    @property
    def is_given(self) -> bool:
        """Whether one of them was set."""
        return self.keep is not None or self.false_accepts is not None

    @property
    def name(self) -> str:
        """The name of the setting that decides."""
        return "keep" if self.false_accepts is None else "false_accepts"

    @property
    def asked(self) -> float:
        """Its value."""
        return self.false_accepts if self.false_accepts is not None else KEEP if self.keep is None else self.keep

    def __str__(self) -> str:
        return f"reject.{self.name}={self.asked:g}"

    def check_saving(self, save: bool) -> None:
        """Stop where there is no threshold to save.

        Raises:
            InputError: `save` without a rule.
        """
        if save and not self.is_given:
            raise InputError(f"save=true: which threshold? add reject.keep={KEEP:g} or reject.false_accepts=0.03")

    def check(self, splits: Iterable[str], split: str) -> None:
        """Stop before anything is trained or answered if the data lack the examples that the rule needs.

        Args:
            split: the in-scope split that the threshold is to be set on.

        Raises:
            InputError: it names the missing split.
        """
        if self.false_accepts is not None and (needed := f"{OUT_OF_SCOPE}_{split}") not in splits:
            raise InputError(
                f"{self}: needs requests that fit no label, and the data has no split {needed}; add it, or give"
                f" reject.keep={KEEP:g}"
            )


@dataclass(frozen=True)
class HeldOut:
    """Answers to rows of train, each by a model that was not fitted on it: float64 and bool `[n]`, groups `[n]`, and
    whether all of them are synthetic speech."""

    confidence: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    groups: Sequence[str | None] | None = None
    is_synthetic: bool = False


def keep_share(scores: ArrayLike, keep: float, least: float = 0.0) -> float:
    """The threshold that a further score like these [n] reaches with the chance `keep`.

    It is their quantile at rank (n + 1)(1 - keep), interpolated (type 6 of Hyndman and Fan 1996; Weibull): the share
    of new scores above the k-th lowest of n is (n + 1 - k) / (n + 1) on average. Where n is too small for such a
    quantile, it lies between `least`, the lowest possible score, and the lowest of them.
    """
    rising = np.concatenate([[least], np.sort(np.asarray(scores, dtype=np.float64))])
    return float(np.interp(len(rising) * (1 - keep), np.arange(len(rising)), rising))


def accept_share(scores: ArrayLike, share: float, most: float = 1.0) -> float:
    """The threshold that a further score like these [n] reaches with the chance `share`, as `keep_share` from above;
    at most `share` of these reach it."""
    values = np.asarray(scores, dtype=np.float64)
    falling = np.concatenate([[most], -np.sort(-values)])
    threshold = float(np.interp(len(falling) * share, np.arange(len(falling)), falling))
    while np.mean(values >= threshold) > share:  # ties
        threshold = float(np.nextafter(threshold, 2.0))
    return threshold


def choose_threshold(
    rule: Rule, inside: Answers | None, outside: Answers | None, held_out: HeldOut | None = None
) -> dict[str, Any]:
    """A threshold, and what it was set on.

    Args:
        inside: the in-scope split to set it on.
        outside: the out-of-scope split, which only `false_accepts` needs.
        held_out: of an estimator: more in-scope examples, which train holds; not used if they are synthetic speech and
            the split is of people.

    Returns:
        threshold; rule (keep or false_accepts) and asked, its value; splits (names), examples and errors (wrong
        answers among them, None of out-of-scope ones); share: the `Figure` of what the rule asks for; is_synthetic:
        whether the examples are synthetic speech; note: why not to trust it, or None.

    Raises:
        InputError: the rule needs the other split.
    """
    is_of_outside = rule.name == "false_accepts"
    if is_of_outside:
        if outside is None:
            raise InputError(f"{rule}: needs requests that fit no label; add an out_of_scope split")
        scores = confidence(outside.probabilities)
        threshold = accept_share(scores, rule.asked)
        groups, errors, used, splits = outside.groups, None, outside, [outside.split]
    else:
        if inside is None:
            raise InputError(f"{rule}: needs requests with labels of the model; name another split")
        used, splits, groups = inside, [inside.split], inside.groups
        scores, is_right = confidence(inside.probabilities), inside.predicted == inside.label_ids
        if held_out is not None and held_out.is_synthetic == inside.is_synthetic:
            splits = ["train (held out in turn)", *splits]
            scores = np.concatenate([held_out.confidence, scores])
            is_right = np.concatenate([held_out.is_right, is_right])
            known = groups is not None and held_out.groups is not None
            groups = [*(held_out.groups or ()), *(groups or ())] if known else None
        errors = int((~is_right).sum())
        threshold = keep_share(scores, rule.asked, 1 / len(inside.label_names))
    share = ratio_with_interval(scores >= threshold, None, groups, used.group_column if groups is not None else None)
    return {
        "threshold": threshold,
        "rule": rule.name,
        "asked": rule.asked,
        "splits": splits,
        "examples": len(scores),
        "errors": errors,
        "share": share,
        "is_synthetic": used.is_synthetic,
        "note": _note(len(scores), rule.asked if is_of_outside else 1 - rule.asked, errors),
    }


def describe_threshold(threshold: float | None, inside: Answers | None, outside: Answers | None) -> dict[str, Any]:
    """The threshold, and the figures `kept` and `false_accepts` that it gives; None without the examples."""

    def share(p: Answers | None) -> Figure | None:
        if p is None or threshold is None:
            return None
        return ratio_with_interval(confidence(p.probabilities) >= threshold, None, p.groups, p.group_column)

    return {"threshold": threshold, "kept": share(inside), "false_accepts": share(outside)}


def _note(examples: int, tail: float, errors: int | None) -> str | None:
    """Why a threshold with `tail` of so many examples on its smaller side is uncertain."""
    needed, notes = math.ceil(1 / tail - 1 - 1e-9), []
    if examples < needed:
        notes.append(f"{examples} examples are too few to set it (at least {needed}, better {FEW * (needed + 1)})")
    elif examples * tail < FEW:
        count = max(1, round(examples * tail))
        notes.append(f"it rests on {count} of {examples} examples, the most extreme")
    if errors is not None and errors < FEW:
        wrong = f"only {errors} of {examples:,} answers {'is' if errors == 1 else 'are'}"
        wrong = wrong if errors else f"none of {examples:,} answers is"
        notes.append(f"{wrong} wrong, too few to say how many wrong answers it refuses")
    return "; ".join(notes) or None


def format_threshold(threshold: float) -> str:
    """0.612, or 0.99997: rounded down, with so many digits that not all are nines."""
    for digits in range(3, 16):
        cut = math.floor(threshold * 10**digits + 1e-9)
        if threshold >= 1 or cut < 10**digits - 1:
            break
    return f"{cut / 10**digits:.{digits}f}"


def setting_in_words(set_on: Mapping[str, Any]) -> str:
    """Such as "reject.keep=0.95 of 104 examples of validation: keeps 96.2 % (90.5 to 98.5, Wilson)"."""
    rule = f"reject.{set_on['rule']}={set_on['asked']:g}"
    where = f"{set_on['data']}, " if set_on.get("data") else ""
    what = "keeps" if set_on["rule"] == "keep" else "accepts wrongly"
    share = format_figure(set_on["share"])
    return f"{rule} of {set_on['examples']:,} examples of {where}{' and '.join(set_on['splits'])}: {what} {share}"


def threshold_warnings(set_on: Mapping[str, Any] | None, run: str = "RUN") -> list[str]:
    """What a reader must know of the threshold, as sentences without a full stop."""
    if set_on is None:
        return []
    found = [f"threshold: {set_on['note']}"] if set_on["note"] else []
    if set_on["share"]["note"]:
        found.append(f"threshold: {set_on['share']['note']}")
    if set_on["is_synthetic"]:
        found.append(
            "the threshold was set on synthetic speech and is not for real people yet: with about 50 recordings,"
            f" python recipes/evaluate.py run={run} data=folder data.path=RECORDINGS reject.keep={KEEP:g} save=true"
            " moves it"
        )
    return found


def moved_in_words(rejection: Mapping[str, Any]) -> list[str]:
    """The old threshold of an evaluation with another one, and what it does to the same examples; empty if none."""
    before = rejection.get("before")
    if before is None:
        return []
    old = "none" if before["threshold"] is None else format_threshold(before["threshold"])
    parts = [
        f"{what} {format_figure(before[key])}"
        for key, what in (("kept", "keeps"), ("false_accepts", "accepts wrongly"))
        if before[key] is not None
    ]
    now = "it is saved with the run" if rejection["is_saved"] else "not saved; save=true writes it to the run"
    new = format_threshold(rejection["threshold"])
    return [f"threshold before: {old} ({'; '.join(parts) or 'accepts all'})", f"threshold now: {new}, {now}"]
