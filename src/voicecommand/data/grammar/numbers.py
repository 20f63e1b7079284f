"""English numbers in words and in digits: "seven thirty" and "7:30"."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from voicecommand.evaluation.normalise import normalise

Words = tuple[str, ...]


def cardinals(number: int) -> list[Words]:
    """The ways to say a number from 0 to 9,999, the usual one first: (one, hundred, five), (one, hundred, and, five),
    (a, hundred, five) ...; above 1,000 also as a year, (nineteen, oh, five)."""
    said = [_usual(f"{number:,}")]
    if number > 100 and number % 100:
        last = len(_usual(str(number % 100)))
        said += [(*words[:-last], "and", *words[-last:]) for words in said]
    if said[0][0] == "one" and number >= 100:
        said += [("a", *words[1:]) for words in said]
    century, year = divmod(number, 100)
    if number >= 1100 and century % 10:
        said += [(*_usual(str(century)), *tail) for tail in (_minutes(year) if year else [("hundred",)])]
    return said


def ordinal(number: int) -> Words:
    """The ordinal number of 1 to 99: (twenty, first)."""
    return _usual(f"{number}{_suffix(number)}")


def _usual(digits: str) -> Words:
    return tuple(normalise(digits).split())


def _minutes(number: int) -> list[Words]:
    """Two digits as in a time or a year: (thirty,), (oh, five)."""
    return [(zero, *_usual(str(number))) for zero in ("oh", "o", "zero")] if number < 10 else cardinals(number)


def _suffix(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def readings(digits: str) -> list[Words]:
    """The ways to say a number in digits, the usual one first: "12", "1,000", "7:30", "3.5", "20%", "2nd", "911".

    Empty for other forms; a number that is too large is said digit by digit.
    """
    plain = digits.replace(",", "")
    if plain.isdecimal():
        said = cardinals(int(plain)) if len(plain) < 5 else []
        return said + ([tuple(word for digit in plain for word in _usual(digit))] if len(plain) > 1 else [])
    if plain.endswith("%"):
        return [(*words, *sign) for words in readings(plain[:-1]) for sign in (("percent",), ("per", "cent"))]
    whole, _, part = plain.partition(":")
    if whole.isdecimal() and len(part) == 2 and part.isdecimal() and int(whole) < 24 and int(part) < 60:
        hour = cardinals(int(whole))[0]
        tails = _minutes(int(part)) if int(part) else [(), ("o'clock",)]
        return [(*hour, *tail) for tail in tails]
    whole, _, part = plain.partition(".")
    if whole.isdecimal() and part.isdecimal():
        after = tuple(word for digit in part for word in _usual(digit))
        return [(*words, "point", *after) for words in readings(whole)]
    number = plain[:-2]
    if number.isdecimal() and len(number) < 3 and plain.endswith(_suffix(int(number))) and int(number):
        return [ordinal(int(number))]
    return []


@cache
def written_forms() -> dict[Words, tuple[str, ...]]:
    """Words -> the ways to write them in digits: (seven, thirty) -> ("7:30",). Of numbers up to 999, years from 1900
    to 2099, percentages, ordinals, and times of day."""
    numbers = [str(number) for number in (*range(1000), *range(1900, 2100))]
    numbers += [f"{number}%" for number in range(101)] + [f"{n}{_suffix(n)}" for n in range(1, 100)]
    numbers += [f"{hour}:{minute:02}" for hour in range(24) for minute in range(60)]
    forms: dict[Words, list[str]] = defaultdict(list)
    for digits in numbers:
        for words in readings(digits):
            forms[words].append(digits)
    return {words: tuple(digits) for words, digits in forms.items()}
