"""Words and phrases that sound nearly like given ones, for a class of what must not be taken for a command.

Nearness is an edit distance over eSpeak NG's phonemes, in which related sounds cost half (light, night).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

from voicecommand.data.synthesis.speakers import transcribe
from voicecommand.data.synthesis.words import normalise, read_words
from voicecommand.errors import InputError

LEAST = 1.0  # a whole sound at least must differ: what is nearer might be taken for the command by anybody
MOST = 0.5  # share of the sounds that may differ
PARTS = 12  # words that each half of a pair, and each place in a phrase, is filled with
CLOSE = 0.5  # what a related sound costs
# eSpeak's phonemes by the way they are made; a vowel is whatever stands in none of these.
FAMILIES = ("p b", "t d t# ?", "k g", "f v T D", "s z S Z", "tS dZ", "m n N n-", "l r w j l# r- @L")
_FAMILY = {phoneme: number for number, family in enumerate(FAMILIES) for phoneme in family.split()}
Phonemes = tuple[str, ...]


def find_near_misses(phrases: Sequence[str], count: int, words: Sequence[str] | None = None) -> list[str]:
    """`count` texts that sound like one of the phrases but are none, each phrase's nearest in turn.

    A candidate is a word, two words, or the phrase with one word replaced; two that sound alike count as one, and
    none sounds like a phrase or contains one.

    Args:
        phrases: what is said for the labels.
        count: how many.
        words: what candidates are made of; None takes the built-in list of common English words.

    Raises:
        InputError: eSpeak NG is missing, or there are fewer near misses than that.
    """
    phrases = sorted({normalise(phrase) for phrase in phrases})
    listed = sorted({part for word in (read_words() if words is None else words) for part in normalise(word).split()})
    own = sorted({word for phrase in phrases for word in phrase.split()})
    sounds = dict(zip([*listed, *own], map(tuple, transcribe([*listed, *own])), strict=True))
    whole = {phrase: tuple(p for word in phrase.split() for p in sounds[word]) for phrase in phrases}
    listed = [word for word in listed if sounds[word]]
    queues = [_rank(phrase, whole, listed, sounds) for phrase in phrases]
    found: dict[Phonemes, str] = {}
    for rank in range(max(map(len, queues), default=0)):
        for queue in queues:
            if rank < len(queue) and len(found) < count:
                found.setdefault(queue[rank][1], queue[rank][0])
    if len(found) < count:
        raise InputError(
            f"data.unknown={count}: only {len(found)} words and phrases sound like yours; "
            "ask for fewer, or give more words by data.words=FILE"
        )
    return list(found.values())


def _rank(
    phrase: str, whole: dict[str, Phonemes], listed: Sequence[str], sounds: dict[str, Phonemes]
) -> list[tuple[str, Phonemes]]:
    """The near misses of one phrase with their sounds, nearest first."""
    target = whole[phrase]
    spoken = phrase.split()
    candidates = [word for word in listed if _may_be_near(sounds[word], target)]
    if len(spoken) <= 2:
        for cut in range(1, len(target)):
            halves = (_nearest(part, listed, sounds) for part in (target[:cut], target[cut:]))
            candidates += [f"{first} {second}" for first, second in product(*halves)]
    for place in range(len(spoken)) if len(spoken) > 1 else ():
        others = _nearest(sounds[spoken[place]], [word for word in listed if word != spoken[place]], sounds)
        candidates += [" ".join([*spoken[:place], word, *spoken[place + 1 :]]) for word in others]
    ranked = []
    for text in dict.fromkeys(candidates):
        sound = tuple(p for word in text.split() for p in sounds[word])
        away = distance(sound, target)
        if away > MOST * len(target) or any(f" {other} " in f" {text} " for other in whole):
            continue
        if all(distance(sound, other) >= LEAST for other in whole.values()):
            ranked.append((away, text, sound))
    # Each word twice at most, then the rest: "awake saw" and "awake say" teach less than "alarm saw" beside it.
    fresh: list[tuple[str, Phonemes]] = []
    rest: list[tuple[str, Phonemes]] = []
    uses = Counter[str]()
    for _, text, sound in sorted(ranked):
        new = set(text.split()) - set(spoken)
        (fresh if all(uses[word] < 2 for word in new) else rest).append((text, sound))
        uses.update(new)
    return fresh + rest


def _nearest(part: Phonemes, listed: Iterable[str], sounds: dict[str, Phonemes]) -> list[str]:
    near = [word for word in listed if _may_be_near(sounds[word], part)]
    return sorted(near, key=lambda word: (distance(sounds[word], part), word))[:PARTS]


def _may_be_near(sound: Phonemes, target: Phonemes) -> bool:
    return abs(len(sound) - len(target)) <= MOST * len(target)


def distance(left: Phonemes, right: Phonemes) -> float:
    """Edit distance; replacing a vowel by a vowel, or a consonant by one of its family, costs half.

    Ours, because rapidfuzz has one weight for all substitutions.
    """
    above = [float(n) for n in range(len(right) + 1)]
    for i, a in enumerate(left, start=1):
        row = [float(i)]
        for j, b in enumerate(right, start=1):
            cost = 0.0 if a == b else CLOSE if _FAMILY.get(a) == _FAMILY.get(b) else 1.0
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost))
        above = row
    return above[-1]
