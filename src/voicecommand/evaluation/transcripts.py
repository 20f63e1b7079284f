"""The evaluator of transcripts: how many words, characters and sentences were written wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from voicecommand.errors import InputError
from voicecommand.evaluation import alignment
from voicecommand.evaluation.base import Answers, Figure
from voicecommand.evaluation.blocks import Block, Table
from voicecommand.evaluation.confused_words import confused_words, wrong_word_blocks
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.evaluation.normalise import describe_normaliser, normalise
from voicecommand.evaluation.words import format_figure, title_in_words

FIGURES = ("wer", "cer", "sentence_error_rate")
ERROR_WORDS = {"insertions": "inserted", "deletions": "left out", "substitutions": "taken for others"}


@dataclass(frozen=True)
class TranscriptEvaluator:
    """What a recogniser wrote, `columns["transcript"]`, against what was said, `references["transcript"]`.

    Word error rate (WER): the words inserted, deleted and substituted over the words of the references, of all examples
    together; it can exceed 1. Character error rate (CER): the same of characters, with the spaces between words.
    Sentence error rate: the share of examples with any wrong word. An example with an empty reference has no words, and
    those written for it count as inserted.

    Args:
        language: of the normaliser (`normalise`).
    """

    language: str = "en"

    name: ClassVar[str] = "transcripts"
    targets: ClassVar[tuple[str, ...]] = ("transcript",)
    primary_metric: ClassVar[str] = "wer"
    greater_is_better: ClassVar[bool] = False
    units_metric: ClassVar[str] = "wer"
    unit: ClassVar[str] = ""

    def quick(self, answers: Answers) -> dict[str, float]:
        texts = self._texts(answers)
        return {
            "wer": alignment.word_error_rate(*texts),
            "cer": alignment.character_error_rate(*texts),
            "sentence_error_rate": alignment.sentence_error_rate(*texts),
        }

    def score(self, answers: Answers) -> dict[str, Any]:
        """What metrics.json holds of a split.

        Returns:
            The figures, `errors` (the words of each kind of error, with their rate), `words` (of the references),
            `normaliser` (what it does), `as_written` (figures and errors without it) and `confused_words` (the most
            frequent errors).

        Raises:
            InputError: no reference has a word.
        """
        texts = self._texts(answers)
        counts = alignment.count_errors(*texts)
        found = _figures(*texts, answers)
        if note := _empty_references(counts):
            found["wer"]["note"] = "; ".join(filter(None, [found["wer"]["note"], note]))
        return found | {
            "words": int(counts[:, 3].sum()),
            "normaliser": describe_normaliser(self.language),
            "as_written": _figures(*_columns(answers), answers),
            "confused_words": confused_words(*texts),
        }

    def units(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The wrong words of each example, and the words of its reference."""
        counts = alignment.count_errors(*self._texts(answers)).astype(np.float64)
        return counts[:, :3].sum(axis=1), counts[:, 3]

    def blocks(self, scores: Mapping[str, Any], answers: Answers) -> list[Block]:
        """The figures with and without the normaliser, the words that were written wrongly, and where."""
        both = (scores, scores["as_written"])
        rows = [(title_in_words(name), *(format_figure(one[name], method=False) for one in both)) for name in FIGURES]
        rows += [
            (f"Words {ERROR_WORDS[name]}", *(_count_in_words(one["errors"][name]) for one in both))
            for name in alignment.ERRORS
        ]
        note = f"References of {answers.split} have {scores['words']:,} words."
        figures = Table("Errors of words", ("", "normalised", "as written"), tuple(rows), note)
        return [figures, *wrong_word_blocks(*self._texts(answers), scores["confused_words"], answers)]

    def _texts(self, answers: Answers) -> tuple[list[str], list[str]]:
        """The references and the answers, normalised."""
        references, written = ([normalise(text, self.language) for text in column] for column in _columns(answers))
        if not any(references):
            raise InputError(
                f"split {answers.split!r}: none of its {len(references)} transcripts has a word, so that there is no "
                "word error rate: give transcripts, or put these rows in an out_of_scope split"
            )
        return references, written


def _columns(answers: Answers) -> tuple[list[str], list[str]]:
    """The references and the answers as they are."""
    return list(answers.references["transcript"]), list(answers.columns["transcript"])


def _figures(references: Sequence[str], written: Sequence[str], answers: Answers) -> dict[str, Any]:
    """FIGURES with their intervals, and `errors`: the words of each kind of error, with their rate."""
    from voicecommand.evaluation.evaluate_metrics import compute_transcript_points

    points = compute_transcript_points(references, written)
    words, characters = (
        count(references, written) for count in (alignment.count_errors, alignment.count_character_errors)
    )
    wrong = words[:, :3].sum(axis=1)
    return {
        "wer": _ratio(wrong, words[:, 3], answers, points["wer"]),
        "cer": _ratio(characters[:, 0], characters[:, 1], answers, points["cer"]),
        "sentence_error_rate": _ratio(wrong > 0, None, answers, points["sentence_error_rate"]),
        "errors": {
            name: {"count": int(words[:, i].sum()), "rate": _ratio(words[:, i], words[:, 3], answers)}
            for i, name in enumerate(alignment.ERRORS)
        },
    }


def _count_in_words(error: Mapping[str, Any]) -> str:
    """12, 2.1 % (1.0 to 3.4)."""
    return f"{error['count']:,}, {format_figure(error['rate'], method=False)}"


def _ratio(counts: NDArray, totals: NDArray | None, answers: Answers, value: float | None = None) -> Figure:
    return ratio_with_interval(counts, totals, answers.groups, answers.group_column, value=value)


def _empty_references(counts: NDArray[np.int64]) -> str:
    """What the reader must know of references without a word, of `count_errors`; empty where there are none."""
    empty = counts[:, 3] == 0
    if not empty.any():
        return ""
    inserted = int(counts[empty, 0].sum())
    return (
        f"references without a word: {int(empty.sum())} of {len(counts)}; words written for them, which count as "
        f"insertions: {inserted}"
    )
