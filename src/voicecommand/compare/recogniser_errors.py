"""Ways of making text worse: the wrong words of a speech recogniser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from voicecommand.compare.conditions import WRONG_WORDS, Condition, generator_for
from voicecommand.evaluation.transcripts import word_error_rate

ERROR_RATES = (0.0, 0.05, 0.1, 0.2, 0.3)  # of the words
SUBSTITUTED, DELETED = 0.6, 0.2  # of the wrong words, the rest are insertions: a choice, near what recognisers do
SIMILAR = 3  # a word is taken for one of so many
# A wide fold of English spelling into sound, after Soundex (Russell 1918) but with the first letter folded too.
SOUNDS = (
    ("^kn", "n"), ("^wr", "r"), ("^wh", "w"), ("ph", "f"), ("gh", ""), ("ck", "k"), ("qu", "kw"), ("x", "ks"),
    ("c(?=[eiy])", "s"), ("c", "k"), ("z", "s"), ("[aeiouy]+", "a"), (r"(.)\1+", r"\1"),
)  # fmt: skip


def text_conditions(texts: Sequence[str], ids: Sequence[str], corpus: Iterable[str], seed: int = 0) -> list[Condition]:
    """ERROR_RATES of wrong words, as a speech recogniser might leave them; `corpus` gives the words it knows."""
    errors = RecogniserErrors(corpus, seed)
    found = []
    for rate in ERROR_RATES:
        spoilt = [errors.spoil(text, identity, rate) for text, identity in zip(texts, ids, strict=True)]
        wer = word_error_rate(texts, spoilt)
        found.append(Condition(WRONG_WORDS, rate, "share", spoilt.__getitem__, True, wer))
    return found


class RecogniserErrors:
    """Wrong words as a recogniser makes them, from the words of the data itself.

    Of the errors, SUBSTITUTED are words that sound or are spelt like the one said, DELETED are missing words, the
    rest are words too many, drawn by how often they occur. At a higher rate the errors of a lower one are all there.
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
        """The text with about `rate` of its words wrong, never empty; `identity` (the row's id) is all it hangs on."""
        words = text.split()
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
        """Up to SIMILAR other words of the data, the nearest by sound and spelling first."""
        if word not in self.known:
            shared = Counter(other for pair in _pairs(word) for other in self.by_pair.get(pair, ()))
            shared.pop(word, None)
            near = sorted(shared, key=lambda other: (-shared[other], other))[:30]
            self.known[word] = sorted(near, key=lambda other: (_unlikeness(word, other), other))[:SIMILAR]
        return self.known[word]


def _core(word: str) -> str:
    """The word without case and punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", word.casefold())


def _sound(word: str) -> str:
    for spelt, said in SOUNDS:
        word = re.sub(spelt, said, word)
    return word


def _pairs(word: str) -> set[str]:
    """Neighbouring letters of the spelling and, marked, of the sound, ends included."""
    forms = (("", f"^{word}$"), ("~", f"^{_sound(word)}$"))
    return {mark + form[i : i + 2] for mark, form in forms for i in range(len(form) - 1)}


def _unlikeness(word: str, other: str) -> float:
    """0 to 1: the mean over spelling and sound of edits per letter."""
    forms = ((word, other), (_sound(word), _sound(other)))
    return sum(Levenshtein.distance(a, b) / max(len(a), len(b), 1) for a, b in forms) / 2
