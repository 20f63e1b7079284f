"""Figures in words, for a page, a card, a log or the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voicecommand.evaluation.base import Figure

SHORT_NAMES = {"f1": "F1", "ece": "ECE", "wer": "WER"}


def percent(share: float | None) -> str:
    """0.9312 -> "93.1 %"; None -> "-"."""
    return "-" if share is None else f"{100 * share:.1f} %"


def name_in_words(name: str) -> str:
    """ "macro_f1" -> "macro F1"."""
    return " ".join(SHORT_NAMES.get(word, word) for word in name.split("_"))


def value_in_words(figure: Figure) -> str:
    """93.1 %, or "1.23 words" of a figure that is no share."""
    return f"{figure['value']:.3g} {figure['unit']}" if "unit" in figure else percent(figure["value"])


def range_in_words(figure: Figure) -> str:
    """91.0 to 94.8: the interval, in the unit of the value."""
    if "unit" in figure:
        return f"{figure['low']:.3g} to {figure['high']:.3g}"
    return f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}"


def format_figure(figure: Figure, method: bool = True) -> str:
    """93.1 % (91.0 to 94.8, bootstrap over 96 groups (template)); the method may be left out."""
    how = f", {figure['method']}" if method else ""
    return f"{value_in_words(figure)} ({range_in_words(figure)}{how})"


def figures_of(split: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures with an interval of a split of metrics.json, by name."""
    return {name: value for name, value in split.items() if isinstance(value, dict) and "low" in value}


def numbers_of(split: Mapping[str, Any]) -> dict[str, float]:
    """The figures without an interval of a split of metrics.json, such as ECE, by name."""
    return {name: value for name, value in split.items() if isinstance(value, float)}
