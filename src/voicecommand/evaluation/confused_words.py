"""Which words a recogniser writes wrongly, and in which examples: as plain data, and as blocks of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from voicecommand.evaluation.alignment import Pair, align
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Block, Example, ExampleGroup, Examples, Matrix, Notes, Table
from voicecommand.evaluation.words import percent

PAIRS = 15  # the most frequent errors in the table
MATRIX_WORDS = 10
EXAMPLES = 20
LONGEST = 80  # words of an example that are shown, of a recogniser that repeats itself
NOTHING, OTHERS = "(nothing)", "(other words)"  # in the place of words, which have no brackets


def confused_words(references: Sequence[str], written: Sequence[str]) -> dict[str, Any]:
    """The PAIRS most frequent errors of normalised texts, the first of equals by the alphabet.

    Returns:
        `pairs`: `reference` and `answer` (empty where a word was inserted, or left out) and `count`, each with how
        often the reference was `said`; `kinds` and `errors`: how many pairs and errors there are in all.
    """
    counts = _count_pairs(references, written)
    wrong = _wrong(counts)
    said = Counter(word for text in references for word in text.split())
    return {
        "pairs": [
            {"reference": pair.reference, "answer": pair.answer, "count": count, "said": said[pair.reference]}
            for pair, count in wrong[:PAIRS]
        ],
        "kinds": len(wrong),
        "errors": sum(count for _, count in wrong),
    }


def wrong_word_blocks(
    references: Sequence[str], written: Sequence[str], confused: dict[str, Any], answers: Answers
) -> list[Block]:
    """The table and the matrix of `confused_words`, and the examples with most wrong words; of normalised texts."""
    title = "Words most often confused"
    if not confused["pairs"]:
        return [Notes(title, (f"No wrong word on {answers.split}.",))]
    rows = tuple(
        (
            pair["reference"] or "(nothing)",
            pair["answer"] or "(nothing)",
            pair["count"],
            f"{pair['said']:,} ({percent(pair['count'] / pair['said'])})" if pair["said"] else "-",
        )
        for pair in confused["pairs"]
    )
    shown = sum(pair["count"] for pair in confused["pairs"])
    note = f"{shown:,} of {confused['errors']:,} errors: the {len(rows)} most frequent of {confused['kinds']:,} kinds."
    if shown == confused["errors"]:
        note = f"All {shown:,} errors."
    return [
        Table(title, ("said", "written", "times", "of times said"), rows, note, numbers=(2, 3)),
        _matrix(_count_pairs(references, written), answers.split),
        _worst_examples(references, written, answers),
    ]


def _count_pairs(references: Sequence[str], written: Sequence[str]) -> Counter[Pair]:
    """How often each word was written for each."""
    counts: Counter[Pair] = Counter()
    for reference, answer in zip(references, written, strict=True):
        counts.update(align(reference.split(), answer.split()))
    return counts


def _wrong(counts: Counter[Pair]) -> list[tuple[Pair, int]]:
    return sorted(((p, n) for p, n in counts.items() if p.kind != "right"), key=lambda item: (-item[1], item[0]))


def _matrix(counts: Counter[Pair], split: str) -> Matrix:
    """The words that are most often written for each other; all others are in two more rows and columns."""
    found: dict[str, None] = {}
    for pair, _ in _wrong(counts):
        together = found | (dict.fromkeys(pair) if pair.kind == "substituted" else {})
        if len(together) > MATRIX_WORDS:
            break
        found = together
    labels = (*sorted(found), OTHERS, NOTHING)
    number = {word: i for i, word in enumerate(labels)} | {"": len(labels) - 1}
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for pair, count in counts.items():
        if pair.kind != "right" or pair.reference in number:
            table[tuple(number.get(word, number[OTHERS]) for word in pair)] += count
    note = (
        "Rows are words that were said, columns words that were written for them. Darker is more; the scale is a "
        f"square root, so that rare errors show. {NOTHING} was said where a word was inserted, and written where one "
        f"was left out; {OTHERS} written for {OTHERS} are errors only. The counts are also in confused_words.csv."
    )
    return Matrix(
        f"Words of {split} that are confused",
        "confused_words",
        labels,
        tuple(tuple(row) for row in table.tolist()),
        note,
        ("said", "written"),
        "words",
    )


def _worst_examples(references: Sequence[str], written: Sequence[str], p: Answers) -> Examples:
    """The EXAMPLES with most wrong words, of as many those with the shorter reference first."""
    found = []
    for row, (reference, answer) in enumerate(zip(references, written, strict=True)):
        pairs = tuple(align(reference.split(), answer.split()))
        if wrong := sum(pair.kind != "right" for pair in pairs):
            found.append((-wrong, len(reference.split()), row, pairs))
    found.sort(key=lambda one: one[:3])
    shown = []
    for wrong, words, row, pairs in found[:EXAMPLES]:
        said = f"{-wrong} wrong of {words} said"
        said += f"; the first {LONGEST} are shown" if len(pairs) > LONGEST else ""
        shown.append(Example(p.split, p.ids[row], p.origins[row], p.texts[row], said, pairs[:LONGEST]))
    detail = f"{len(shown)} of {len(found)} examples of {p.split} with a wrong word"
    group = ExampleGroup("Most wrong words first", detail, tuple(shown), len(found) - len(shown))
    what = "texts" if p.seconds is None else "clips"
    return Examples(
        "Examples with wrong words",
        (group,),
        f"What was said, and under it what was written, word by word as they were compared, and the {what}.",
    )
