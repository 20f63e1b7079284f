"""Texts as the words that a grammar compares: without case and punctuation, and numbers in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from voicecommand.data.grammar.numbers import Words, readings

APOSTROPHES = "'\u2019\u02bc\uff07"
SYMBOLS = {"&": ("and",), "%": ("percent",), "+": ("plus",)}


class _Kinds(dict[int, str]):
    """Table for `str.translate`: a letter or mark becomes "a", a digit "0", and what joins them stays."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character in APOSTROPHES:
            kind = "'"
        elif category[0] in "LM":
            kind = "a"
        elif category == "Nd":
            kind = "0"
        else:
            kind = character if character in ".,:&%+" else " "
        self[code] = kind
        return kind


_KINDS = _Kinds()
# A number may have a point, commas or a colon within, and a percent sign; a word may have apostrophes.
_TOKEN = re.compile(r"0+(?:[.,:]0+)*%?|'?a+(?:'a+)*|[&%+]")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Token:
    """A word or number of a text.

    Attributes:
        ways: the ways to read it in words; one, except for numbers.
        start, end: its characters in the text.
    """

    ways: tuple[Words, ...]
    start: int
    end: int


def tokens_of(text: str) -> Iterator[Token]:
    """The words of a text, in order; punctuation is left out. A hyphen divides words."""
    kinds = text.translate(_KINDS)
    place = 0
    while found := _TOKEN.search(kinds, place):
        start, place = found.span()
        if found[0][0] == "0" and (ordinal := _ORDINAL.match(text, place)):
            place = ordinal.end()
        written = text[start:place]
        if found[0] in SYMBOLS:
            yield Token((SYMBOLS[found[0]],), start, place)
        elif found[0][0] == "0":
            digits = unicodedata.normalize("NFKC", written).lower()
            yield Token(tuple(readings(digits)) or ((digits,),), start, place)
        elif word := word_of(written):
            yield Token(((word,),), start, place)


def word_of(written: str) -> str:
    """A word as it is compared: in lower case, of usual width, with plain apostrophes within only."""
    folded = unicodedata.normalize("NFKC", written).casefold()
    return "".join("'" if character in APOSTROPHES else character for character in folded).strip("'")


def words_of(text: str) -> list[str]:
    """The words of a text without numbers; of a number its usual reading."""
    return [word for token in tokens_of(text) for word in token.ways[0]]


def has_digits(text: str) -> bool:
    """Whether a text has a digit of any script."""
    return any(character.isdecimal() for character in text)
