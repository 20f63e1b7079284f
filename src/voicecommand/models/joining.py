"""Clips that are longer than a recogniser's window: its overlapping windows, and their texts joined."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

OVERLAP = 0.25  # of a window, at least, with the one before it
MOST_OVERLAP = 3.0  # seconds that are asked for
WORDS_PER_SECOND, MORE_WORDS = 5, 2  # said in an overlap at most


class Joined(NamedTuple):
    """A text, the pairs of neighbouring windows whose texts had no word in common where they overlap, and all pairs."""

    text: str
    unmatched: int
    pairs: int


def place_windows(length: int, size: int, rate: int) -> list[int]:
    """The starts of as few windows of `size` samples as cover a clip of `length` samples; they are evenly apart and
    overlap by a quarter of a window or 3 s, whichever is less, or by more.

    Args:
        rate: samples of a second.
    """
    if length <= size:
        return [0]
    overlap = min(round(OVERLAP * size), round(MOST_OVERLAP * rate))
    count = math.ceil((length - overlap) / (size - overlap))
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def join(texts: Sequence[str], overlaps: Sequence[float]) -> Joined:
    """The texts of the windows of a clip as one.

    The end of a text and the beginning of the next are aligned so that most words agree, and the first one goes over
    into the second at the middle one of the words that agree, because words are cut at both edges of an overlap. Where
    no word agrees, the second text follows the whole first one.

    Args:
        overlaps: seconds that each window but the first has in common with the one before it, `[texts - 1]`.
    """
    words: list[str] = texts[0].split() if texts else []
    unmatched = 0
    for text, seconds in zip(texts[1:], overlaps, strict=True):
        following = text.split()
        most = math.ceil(WORDS_PER_SECOND * seconds) + MORE_WORDS
        tail, head = words[-most:], following[:most]
        pairs = align_ends([_plain(word) for word in tail], [_plain(word) for word in head])
        if not pairs and tail and head:
            unmatched += 1
        last, first = pairs[len(pairs) // 2] if pairs else (len(tail), 0)
        words = words[: len(words) - len(tail) + last] + following[first:]
    return Joined(" ".join(words), unmatched, max(0, len(texts) - 1))


def _plain(word: str) -> str:
    """A word without its case and the punctuation around it."""
    plain = "".join(c for c in word.casefold() if unicodedata.category(c)[0] not in "PS")
    return plain or word


def align_ends(tail: Sequence[str], head: Sequence[str]) -> list[tuple[int, int]]:
    """The places of the words that agree in the best alignment of the end of `tail` with the beginning of `head`; none
    if it has no more equal words than others.

    A word that agrees counts 1, one that has no partner -1, and two different ones from -1 to 1 by how alike they are
    spelt. The words of `tail` before the first one of `head`, and those of `head` after the last one of `tail`, count
    nothing (the overlap alignment of sequence assembly).
    """
    n, m = len(tail), len(head)
    alike = np.array([[2 * Levenshtein.normalized_similarity(a, b) - 1 for b in head] for a in tail]).reshape(n, m)
    best = np.zeros((n + 1, m + 1))
    best[0] = -np.arange(m + 1)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            best[i, j] = max(best[i - 1, j - 1] + alike[i - 1, j - 1], best[i - 1, j] - 1, best[i, j - 1] - 1)
    i, j = n, int(best[n].argmax())
    pairs = []
    while best[n].max() > 0 and i and j:
        if best[i, j] == best[i - 1, j - 1] + alike[i - 1, j - 1]:
            i, j = i - 1, j - 1
            if tail[i] == head[j]:
                pairs.append((i, j))
        elif best[i, j] == best[i - 1, j] - 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
