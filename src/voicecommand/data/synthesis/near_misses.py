"""Words and phrases that sound similar to given ones (light, night), for a class of commands to reject.

The similarity is an edit distance over eSpeak NG's phonemes; replacing a phoneme by a related one costs half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

from voicecommand.data.synthesis.speakers import transcribe
from voicecommand.data.synthesis.words import normalise, read_words
from voicecommand.errors import InputError

LEAST = 1.0  # at least one phoneme must differ: people might take a nearer one for the command
MOST = 0.5  # greatest distance, as a share of the phrase's phonemes
PARTS = 12  # candidate words for each half of a pair, and for each place in a phrase
CLOSE = 0.5  # cost of replacing a phoneme by a related one
# eSpeak's consonants by the way they are articulated; all other phonemes are vowels.
FAMILIES = ("p b", "t d t# ?", "k g", "f v T D", "s z S Z", "tS dZ", "m n N n-", "l r w j l# r- @L")
_FAMILY = {phoneme: number for number, family in enumerate(FAMILIES) for phoneme in family.split()}
Phonemes = tuple[str, ...]


def find_near_misses(phrases: Sequence[str], count: int, words: Sequence[str] | None = None) -> list[str]:
    """`count` texts that sound similar to one of the phrases but are not one, from each phrase in turn, nearest first.

    A candidate is a word, two words, or the phrase with one word replaced. Those that sound the same count as one, and
    none sounds the same as a phrase or contains one.

    Args:
        phrases: those of the labels.
        count: the number of texts.
        words: the words of candidates; None takes the built-in list of common English words.

    Raises:
        InputError: eSpeak NG is missing, or there are fewer near misses.
    """
    phrases = sorted({normalise(phrase) for phrase in phrases})
    listed = sorted({part for word in (read_words() if words is None else words) for part in normalise(word).split()})
    own = sorted({word for phrase in phrases for word in phrase.split()})
    phonemes_of = dict(zip([*listed, *own], map(tuple, transcribe([*listed, *own])), strict=True))
    whole = {phrase: tuple(p for word in phrase.split() for p in phonemes_of[word]) for phrase in phrases}
    listed = [word for word in listed if phonemes_of[word]]
    queues = [_rank(phrase, whole, listed, phonemes_of) for phrase in phrases]
    found: dict[Phonemes, str] = {}
    for rank in range(max(map(len, queues), default=0)):
        for queue in queues:
            if rank < len(queue) and len(found) < count:
                found.setdefault(queue[rank][1], queue[rank][0])
    if len(found) < count:
        raise InputError(
            f"data.unknown={count}: only {len(found)} words and phrases sound similar to yours; "
            "ask for fewer, or give more words by data.words=FILE"
        )
    return list(found.values())


def _rank(
    phrase: str, whole: dict[str, Phonemes], listed: Sequence[str], phonemes_of: dict[str, Phonemes]
) -> list[tuple[str, Phonemes]]:
    """The near misses of one phrase with their phonemes, nearest first.

    Args:
        whole: phrase -> its phonemes, of all phrases.
        listed: the words of candidates.
        phonemes_of: word -> its phonemes.
    """
    target = whole[phrase]
    spoken = phrase.split()
    candidates = [word for word in listed if _may_be_near(phonemes_of[word], target)]
    if len(spoken) <= 2:
        # two words: the phonemes are cut at every place, and each half gets the words that are nearest to it
        for cut in range(1, len(target)):
            halves = (_nearest(part, listed, phonemes_of) for part in (target[:cut], target[cut:]))
            candidates += [f"{first} {second}" for first, second in product(*halves)]
    # the phrase with one word replaced by the words that are nearest to it
    for place in range(len(spoken)) if len(spoken) > 1 else ():
        others = _nearest(phonemes_of[spoken[place]], [word for word in listed if word != spoken[place]], phonemes_of)
        candidates += [" ".join([*spoken[:place], word, *spoken[place + 1 :]]) for word in others]
    ranked = []
    for text in dict.fromkeys(candidates):
        phonemes = tuple(p for word in text.split() for p in phonemes_of[word])
        away = distance(phonemes, target)
        if away > MOST * len(target) or any(f" {other} " in f" {text} " for other in whole):
            continue
        if all(distance(phonemes, other) >= LEAST for other in whole.values()):
            ranked.append((away, text, phonemes))
    # First those with each new word at most twice, then the rest: beside "awake saw", "alarm saw" teaches more than
    # "awake say".
    fresh: list[tuple[str, Phonemes]] = []
    rest: list[tuple[str, Phonemes]] = []
    uses = Counter[str]()
    for _, text, phonemes in sorted(ranked):
        new = set(text.split()) - set(spoken)
        (fresh if all(uses[word] < 2 for word in new) else rest).append((text, phonemes))
        uses.update(new)
    return fresh + rest


def _nearest(part: Phonemes, listed: Iterable[str], phonemes_of: dict[str, Phonemes]) -> list[str]:
    """The PARTS words that are nearest to some phonemes."""
    near = [word for word in listed if _may_be_near(phonemes_of[word], part)]
    return sorted(near, key=lambda word: (distance(phonemes_of[word], part), word))[:PARTS]


def _may_be_near(phonemes: Phonemes, target: Phonemes) -> bool:
    """Whether the difference in length, a lower bound of the distance, allows it."""
    return abs(len(phonemes) - len(target)) <= MOST * len(target)


def distance(left: Phonemes, right: Phonemes) -> float:
    """The Levenshtein distance, where replacing a vowel by a vowel, or a consonant by one of its family, costs half.

    It is written here because rapidfuzz has one weight for all substitutions.
    """
    # `above` and `row` are two rows of the usual table: the distance of each prefix of `right` to a prefix of `left`
    above = [float(n) for n in range(len(right) + 1)]
    for i, a in enumerate(left, start=1):
        row = [float(i)]
        for j, b in enumerate(right, start=1):
            cost = 0.0 if a == b else CLOSE if _FAMILY.get(a) == _FAMILY.get(b) else 1.0
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost))
        above = row
    return above[-1]
