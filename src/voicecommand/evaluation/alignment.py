"""The words of references and answers side by side, and how many differ. Texts are split at white space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

ERRORS = ("insertions", "deletions", "substitutions")


class Pair(NamedTuple):
    """A word of a reference and the one written for it; empty where a word was inserted, or deleted."""

    reference: str
    answer: str

    @property
    def kind(self) -> str:
        """right, inserted, deleted or substituted."""
        if self.reference == self.answer:
            return "right"
        return "inserted" if not self.reference else "deleted" if not self.answer else "substituted"


def count_errors(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.int64]:
    """Of each text `[n, 4]`: the words inserted, deleted and substituted, and the words of the reference."""
    counts = np.zeros((len(references), 4), dtype=np.int64)
    for row, (reference, answer) in enumerate(zip(references, answers, strict=True)):
        said, written = reference.split(), answer.split()
        kinds = [] if said == written else [pair.kind for pair in align(said, written)]
        counts[row] = [*(kinds.count(kind) for kind in ("inserted", "deleted", "substituted")), len(said)]
    return counts


def count_character_errors(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.int64]:
    """Of each text `[n, 2]`: the characters that differ, and those of the reference; a space between words counts."""
    pairs = [
        (" ".join(reference.split()), " ".join(answer.split()))
        for reference, answer in zip(references, answers, strict=True)
    ]
    return np.array([(Levenshtein.distance(*pair), len(pair[0])) for pair in pairs], dtype=np.int64).reshape(-1, 2)


def word_error_rate(references: Sequence[str], answers: Sequence[str]) -> float:
    """The words inserted, deleted and substituted over the words of the references, of all texts together; the
    inserted words where the references have none."""
    pairs = [(r.split(), a.split()) for r, a in zip(references, answers, strict=True)]
    return sum(Levenshtein.distance(*pair) for pair in pairs) / max(1, sum(len(said) for said, _ in pairs))


def character_error_rate(references: Sequence[str], answers: Sequence[str]) -> float:
    """As `word_error_rate`, of characters."""
    errors, characters = count_character_errors(references, answers).sum(axis=0)
    return float(errors / max(1, characters))


def sentence_error_rate(references: Sequence[str], answers: Sequence[str]) -> float:
    """The share of the texts that differ in any word."""
    return float(np.mean([r.split() != a.split() for r, a in zip(references, answers, strict=True)]))


def align(reference: Sequence[str], answer: Sequence[str]) -> list[Pair]:
    """The words of both in order, with the fewest errors (Levenshtein 1966).

    Of several ways with the fewest, it is the one with most right words; then the one whose substituted words are spelt
    most alike.
    """
    most = len(reference) + len(answer) + 1
    error, change = most * most, most  # one error outweighs all changes, and one change all likeness
    costs: list[list[float]] = [[error * j for j in range(len(answer) + 1)]]
    for i, said in enumerate(reference, start=1):
        row: list[float] = [error * i]
        for j, written in enumerate(answer, start=1):
            both = 0 if said == written else error + change - Levenshtein.normalized_similarity(said, written)
            row.append(min(costs[-1][j - 1] + both, costs[-1][j] + error, row[-1] + error))
        costs.append(row)
    found: list[Pair] = []
    i, j = len(reference), len(answer)
    while i or j:
        if j and costs[i][j] == costs[i][j - 1] + error:
            pair, j = Pair("", answer[j - 1]), j - 1
        elif i and costs[i][j] == costs[i - 1][j] + error:
            pair, i = Pair(reference[i - 1], ""), i - 1
        else:
            pair, i, j = Pair(reference[i - 1], answer[j - 1]), i - 1, j - 1
        found.append(pair)
    return found[::-1]
