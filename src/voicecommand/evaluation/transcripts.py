"""Word error rate."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substituted, deleted and inserted words over the words that were said, of all texts together."""
    pairs = [(said.split(), heard.split()) for said, heard in zip(references, hypotheses, strict=True)]
    return sum(Levenshtein.distance(*pair) for pair in pairs) / max(1, sum(len(said) for said, _ in pairs))
