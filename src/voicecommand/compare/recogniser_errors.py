"""Texts with wrong words, as from a speech recogniser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from voicecommand.compare.conditions import WRONG_WORDS, Condition, generator_for
from voicecommand.evaluation.alignment import word_error_rate

ERROR_RATES = (0.0, 0.05, 0.1, 0.2, 0.3)  # of the words
SUBSTITUTED, DELETED = 0.6, 0.2  # of the wrong words, the rest are insertions; we chose shares close to recognisers'
SIMILAR = 3  # a word is replaced by one of this many
# A coarse map from English spelling to pronunciation, like Soundex (Russell 1918), but it also maps the first letter.
SOUNDS = (
    ("^kn", "n"), ("^wr", "r"), ("^wh", "w"), ("ph", "f"), ("gh", ""), ("ck", "k"), ("qu", "kw"), ("x", "ks"),
    ("c(?=[eiy])", "s"), ("c", "k"), ("z", "s"), ("[aeiouy]+", "a"), (r"(.)\1+", r"\1"),
)  # fmt: skip


def text_conditions(texts: Sequence[str], ids: Sequence[str], corpus: Iterable[str], seed: int = 0) -> list[Condition]:
    """A condition for each of ERROR_RATES of wrong words; `corpus` gives the words that may replace others."""
    errors = RecogniserErrors(corpus, seed)
    found = []
    for rate in ERROR_RATES:
        spoilt = [errors.spoil(text, identity, rate) for text, identity in zip(texts, ids, strict=True)]
        wer = word_error_rate(texts, spoilt)
        found.append(Condition(WRONG_WORDS, rate, "share", spoilt.__getitem__, True, wer))
    return found


class RecogniserErrors:
    """Wrong words as from a recogniser, taken from the words of the data.

    Of the errors, a share of SUBSTITUTED are words that sound or are spelt similarly, DELETED are missing words, and
    the rest are inserted words, drawn by their frequency. The errors at a rate include those at any lower rate.
    """

    def __init__(self, corpus: Iterable[str], seed: int = 0) -> None:
        self.seed = seed
        counts = Counter(core for text in corpus for word in text.split() if (core := _core(word)))
        self.words = sorted(counts)
        frequencies = np.array([counts[word] for word in self.words], dtype=np.float64)
        self.cumulative = np.cumsum(frequencies) / max(frequencies.sum(), 1)
        self.by_pair: dict[str, list[str]] = {}
        for word in self.words:
            for pair in _pairs(word):
                self.by_pair.setdefault(pair, []).append(word)
        self.known: dict[str, list[str]] = {}

    def spoil(self, text: str, identity: str, rate: float) -> str:
        """The text with a share of about `rate` of its words wrong, never empty; `identity` (the row's id) seeds it."""
        words = text.split()
        # three numbers for each word: whether it is wrong, the kind of error, and which word replaces or follows it
        draws = generator_for(self.seed, identity).random((len(words), 3))
        found = []
        for word, (happens, kind, which) in zip(words, draws, strict=True):
            if happens >= rate:
                found.append(word)
            elif kind < SUBSTITUTED and (near := self.similar(_core(word))):
                found.append(near[int(which * len(near))])
            elif kind >= SUBSTITUTED + DELETED:
                found += [word, self.words[int(np.searchsorted(self.cumulative, which, side="right"))]]
        return text if found == words else " ".join(found or words[:1])

    def similar(self, word: str) -> list[str]:
        """Up to SIMILAR other words of the data, the most similar in pronunciation and spelling first."""
        if word not in self.known:
            shared = Counter(other for pair in _pairs(word) for other in self.by_pair.get(pair, ()))
            shared.pop(word, None)
            # the 30 words with the most pairs of letters in common, then the nearest of them by edit distance
            near = sorted(shared, key=lambda other: (-shared[other], other))[:30]
            self.known[word] = sorted(near, key=lambda other: (_unlikeness(word, other), other))[:SIMILAR]
        return self.known[word]


def _core(word: str) -> str:
    """The word in lower case, without punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", word.casefold())


def _pronounce(word: str) -> str:
    """The pronunciation of a word by SOUNDS."""
    for spelt, said in SOUNDS:
        word = re.sub(spelt, said, word)
    return word


def _pairs(word: str) -> set[str]:
    """The pairs of neighbouring letters, with marks for the ends, of the spelling and, after a "~", of the
    pronunciation."""
    forms = (("", f"^{word}$"), ("~", f"^{_pronounce(word)}$"))
    return {mark + form[i : i + 2] for mark, form in forms for i in range(len(form) - 1)}


def _unlikeness(word: str, other: str) -> float:
    """The mean of edits per letter (0 to 1) of spelling and pronunciation."""
    forms = ((word, other), (_pronounce(word), _pronounce(other)))
    return sum(Levenshtein.distance(a, b) / max(len(a), len(b), 1) for a, b in forms) / 2
