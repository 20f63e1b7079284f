"""Word error rate."""

from __future__ import annotations

from collections.abc import Sequence


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substituted, deleted and inserted words over the words that were said, of all texts together."""
    pairs = [(said.split(), heard.split()) for said, heard in zip(references, hypotheses, strict=True)]
    return sum(edit_distance(*pair) for pair in pairs) / max(1, sum(len(said) for said, _ in pairs))


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions between two sequences (Levenshtein 1966)."""
    if first == second:
        return 0
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]
