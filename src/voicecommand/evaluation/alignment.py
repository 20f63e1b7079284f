"""The words of references and answers side by side, and how many differ. Texts are split at white space.

Counts are those of the fewest insertions, deletions and substitutions (Levenshtein 1966), by rapidfuzz.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein, Opcodes

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
    columns = {"insert": 0, "delete": 1, "replace": 2}
    for row, (reference, answer) in enumerate(zip(references, answers, strict=True)):
        words = reference.split()
        counts[row, 3] = len(words)
        for edit in Levenshtein.editops(words, answer.split()):
            counts[row, columns[edit.tag]] += 1
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
    counts = count_errors(references, answers).sum(axis=0)
    return float(counts[:3].sum() / max(1, counts[3]))


def character_error_rate(references: Sequence[str], answers: Sequence[str]) -> float:
    """As `word_error_rate`, of characters."""
    errors, characters = count_character_errors(references, answers).sum(axis=0)
    return float(errors / max(1, characters))


def sentence_error_rate(references: Sequence[str], answers: Sequence[str]) -> float:
    """The share of the texts that differ in any word."""
    return float(np.mean([r.split() != a.split() for r, a in zip(references, answers, strict=True)]))


def align(reference: Sequence[str], answer: Sequence[str]) -> list[Pair]:
    """The words of both in order, with as many errors as `count_errors` counts.

    Of several ways with the fewest errors, substituted words are those that are spelt most alike.
    """
    found: list[Pair] = []
    for tag, i, j, k, m in _merged(Levenshtein.opcodes(reference, answer)):
        said, written = reference[i:j], answer[k:m]
        found += [Pair(word, word) for word in said] if tag == "equal" else _pair_alike(said, written)
    return found


def _merged(opcodes: Opcodes) -> list[tuple[str, int, int, int, int]]:
    """Neighbouring blocks that are not equal as one."""
    found: list[tuple[str, int, int, int, int]] = []
    for one in opcodes:
        if found and "equal" not in (one.tag, found[-1][0]):
            found[-1] = ("edit", found[-1][1], one.src_end, found[-1][3], one.dest_end)
        else:
            found.append((one.tag, one.src_start, one.src_end, one.dest_start, one.dest_end))
    return found


def _pair_alike(said: Sequence[str], written: Sequence[str]) -> list[Pair]:
    """Each word of the shorter side with one of the longer, in order, so that the pairs are most alike; the rest of the
    longer side is deleted, or inserted."""
    is_longer = len(written) > len(said)
    few, many = (said, written) if is_longer else (written, said)
    spare = len(many) - len(few)
    # best[i][j]: the likeness of the first i of few within the first i + j of many
    best = np.zeros((len(few) + 1, spare + 1))
    likeness = np.array([[Levenshtein.normalized_similarity(a, b) for b in many] for a in few])
    for i in range(1, len(few) + 1):
        for j in range(spare + 1):
            paired = best[i - 1, j] + likeness[i - 1, i + j - 1]
            best[i, j] = max(paired, best[i, j - 1]) if j else paired
    found: list[Pair] = []
    i, j = len(few), spare
    while i or j:
        if j and best[i, j] == best[i, j - 1]:
            pair, j = ("", many[i + j - 1]), j - 1
        else:
            pair, i = (few[i - 1], many[i + j - 1]), i - 1
        found.append(Pair(*(pair if is_longer else pair[::-1])))
    return found[::-1]
