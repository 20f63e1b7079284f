"""Figures in words, for a page, a card, a log or the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voicecommand.evaluation.base import Figure

FIGURE = {"value", "low", "high", "level", "method", "note"}  # a label may be called "low"
MEANINGS = {
    "macro_f1": "Macro F1 is the plain mean over the labels that occur in the split.",
    "ece": "ECE is the expected calibration error: the mean gap between confidence and accuracy over 15 bins.",
    "log_loss": "Log loss is in nats.",
    "wer": "WER is the word error rate: words inserted, deleted and substituted over the words that were said; it can "
    "exceed 100 %.",
    "cer": "CER is the same of characters.",
    "sentence_error_rate": "Sentence error rate is the share of examples with any wrong word.",
    "top_k_accuracy": "Top k accuracy: the label is one of the two most probable.",
}
SHORT_NAMES = {"f1": "F1", "ece": "ECE", "wer": "WER", "cer": "CER"}


def percent(share: float | None) -> str:
    """0.9312 -> "93.1 %"; None -> "-"."""
    return "-" if share is None else f"{100 * share:.1f} %"


def name_in_words(name: str) -> str:
    """ "macro_f1" -> "macro F1"."""
    return " ".join(SHORT_NAMES.get(word, word) for word in name.split("_"))


def title_in_words(name: str) -> str:
    """ "macro_f1" -> "Macro F1"."""
    words = name_in_words(name)
    return words[0].upper() + words[1:]


def number_in_words(figure: Figure, key: str) -> str:
    """The value, low or high of a figure, without its unit: 93.1 of a share, which is in percent."""
    return f"{figure[key]:.3g}" if "unit" in figure else f"{100 * figure[key]:.1f}"


def value_in_words(figure: Figure) -> str:
    """93.1 %, or "1.23 words" of a figure that is no share."""
    return f"{number_in_words(figure, 'value')} {figure.get('unit', '%')}".rstrip()


def range_in_words(figure: Figure) -> str:
    """91.0 to 94.8: the interval, in the unit of the value."""
    return f"{number_in_words(figure, 'low')} to {number_in_words(figure, 'high')}"


def format_figure(figure: Figure, method: bool = True) -> str:
    """93.1 % (91.0 to 94.8, bootstrap over 96 groups (template)); the method may be left out."""
    how = f", {figure['method']}" if method else ""
    return f"{value_in_words(figure)} ({range_in_words(figure)}{how})"


def figures_of(split: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures with an interval of a split of metrics.json, by name."""
    return {name: value for name, value in split.items() if isinstance(value, dict) and value.keys() >= FIGURE}


def numbers_of(split: Mapping[str, Any]) -> dict[str, float]:
    """The figures without an interval of a split of metrics.json, such as ECE, by name."""
    return {name: value for name, value in split.items() if isinstance(value, float)}


def false_accepts_of(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """The share of each out-of-scope split that is accepted, by split; empty where no threshold is known."""
    splits = metrics["rejection"]["splits"] if metrics["rejection"] else {}
    return {name: split["false_accepts_interval"] for name, split in splits.items() if "false_accepts" in split}


def names_of(splits: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of the figures, and of the numbers, that any of the splits has."""
    figures = dict.fromkeys(name for split in splits.values() for name in figures_of(split))
    numbers = dict.fromkeys(name for split in splits.values() for name in numbers_of(split))
    return list(figures), list(numbers)


def explain(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """What the names of figures and numbers mean, and what an interval says."""
    names = [name for part in names_of(splits) for name in part]
    said = [MEANINGS[name] for name in names if name in MEANINGS]
    said += dict.fromkeys(split["normaliser"] for split in splits.values() if "normaliser" in split)
    intervals = "Intervals cover 95 %; they hold for other examples of this kind, not for another training seed."
    return " ".join([*said, intervals])
