"""Texts as the words that are said, so that two spellings of one sentence compare equal. No word is left out.

English is written out: digits, times, money and symbols become the words by which they are read, in this direction
only, because a word like "oh" or "to" is not always a number. What can be read in several ways gets one reading:

- 1100 to 2099 without a comma is read as a year (1905 = nineteen oh five, 2000 = two thousand);
- a leading zero, or more than 6 digits without a comma, is read digit by digit;
- 7:00 is seven o'clock, or seven before am, pm; 19:00 is nineteen hundred;
- $5.50 is five dollars and fifty cents.

Different words for the same thing stay different: "half past seven" and "seven thirty", "oz" and "ounces", "don't" and
"do not", British and American spellings. For other languages only case, width, punctuation and white space are made
equal; in one that writes no space between words, the error rate of characters is the figure to read.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 1000, "hundred": 100}
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_MONEY = {"$": ("dollar", "cent"), "£": ("pound", "pence"), "€": ("euro", "cent")}
_FRACTIONS = {
    "1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters",
}  # fmt: skip
_SYMBOLS = str.maketrans({
    "%": " percent ", "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "°": " degrees ", "#": " number ",
    "¢": " cents ", "$": " dollars ", "£": " pounds ", "€": " euros ",
})  # fmt: skip
_SAME_WORDS = {"ok": "okay", "mr": "mister", "mrs": "missus", "dr": "doctor"}
_READ_ALOUD = "%&@#"  # punctuation to Unicode, words to a speaker
_APOSTROPHES = "\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`"

_WHOLE = r"(?<!\d)(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|\d+)"
_SMALL_NUMBER = rf"(?:{'|'.join([*_ONES[1:], *_TENS])})"
_ANY_NUMBER = rf"(?:{'|'.join([*_ONES, *_TENS, *_SCALES])})"

_IS_NUMERIC = re.compile(r"[\d%&@+=°#¢$£€]")
_ORDINAL = re.compile(rf"({_WHOLE})(?:st|nd|rd|th)\b")
_PRICE = re.compile(rf"([$£€]) ?({_WHOLE})(\.\d+)?(?: (hundred|thousand|(?:m|b|tr)illion)\b)?")
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])(?=( ?(?:[ap]\.? ?m\b|o'clock))?)")
_FRACTION = re.compile(r"(?<![\d/.])(?:(\d+) )?(1/2|[12]/3|[13]/4)(?![\d/.])")
_MINUS = re.compile(r"(?<![\w.)])-(?=\.?\d)")
_NUMBER = re.compile(rf"({_WHOLE})(?:\.(\d+))?|\.(\d+)")
_QUOTE = re.compile(r"(?<![^\W_])'|'(?![^\W_])")
_O_CLOCK = re.compile(r"\bo clock\b")
_INITIALS = re.compile(r"\b[a-z](?:\.[a-z])+\b\.?")
_AND = re.compile(rf"\b(hundred|thousand) and (?={_SMALL_NUMBER}\b(?! (?:hundred|thousand)\b))")
_HALF_OF_DAY = re.compile(rf"\b({_ANY_NUMBER}|o'clock) ([ap]) m\b")
_OH = re.compile(rf"\b({_ANY_NUMBER}) o (?={_ANY_NUMBER}\b)")


def describe_normaliser(language: str) -> str:
    """What `normalise` does to texts of this language, as one sentence for a report."""
    if _is_english(language):
        return (
            "Before they are compared, references and answers are normalised as English: lower case, no punctuation, no"
            " accents, and digits, times, money and symbols as the words they are read by (8 = eight, 1,000 = one"
            " thousand, 1st = first, 7:30 = seven thirty, 5 o'clock = five o'clock, $5 = five dollars, 50% = fifty"
            " percent); no word is left out, fillers such as um and oh count, and other words for the same thing"
            " (half past seven, oz and ounces, don't and do not) count as errors."
        )
    return (
        f"Before they are compared, references and answers are normalised (language: {language}): lower case, no"
        " punctuation; numbers stay as they are written, and no word is left out."
    )


@lru_cache(maxsize=65536)
def normalise(text: str, language: str = "en") -> str:
    """Words with one space between them, empty if the text has none.

    Args:
        language: a code or an English name, such as en, en-GB or english.
    """
    # NFKC makes 3½ 31/2
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text).lower().translate(_CHARACTERS)
    if _is_english(language):
        return _normalise_english(text)
    return " ".join(_words(text))


def _is_english(language: str) -> bool:
    return re.split("[-_]", language.lower())[0] in ("en", "english")


class _Characters(dict[int, str]):
    """A table for `str.translate`: apostrophes, hyphens and digits in one form, nothing invisible."""

    def __missing__(self, code: int) -> str:
        character, kind = chr(code), unicodedata.category(chr(code))
        if kind == "Nd":
            character = str(unicodedata.decimal(character))
        elif kind == "Pd" or character == "\N{MINUS SIGN}":
            character = "-"
        elif character in _APOSTROPHES:
            character = "'"
        elif character == "\N{FRACTION SLASH}":
            character = "/"
        elif kind[0] in "ZC":
            character = "" if kind == "Cf" else " "
        self[code] = character
        return character


class _Separators(dict[int, str]):
    """A table for `str.translate`: punctuation but apostrophes becomes a space, a symbol a word of its own."""

    def __missing__(self, code: int) -> str:
        character, kind = chr(code), unicodedata.category(chr(code))[0]
        if kind == "S" or character in _READ_ALOUD:
            character = f" {character} "
        elif kind == "P" and character != "'":
            character = " "
        self[code] = character
        return character


_CHARACTERS, _SEPARATORS = _Characters(), _Separators()


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, with apostrophes inside, and symbols; no other punctuation."""
    return _QUOTE.sub(" ", text.translate(_SEPARATORS)).split()


def _normalise_english(text: str) -> str:
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    if _IS_NUMERIC.search(text):
        text = _write_out(text)
    text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text)
    said = " ".join(_SAME_WORDS.get(word, word) for word in _words(text))
    said = said.replace("per cent", "percent")
    said = _O_CLOCK.sub("o'clock", said)
    said = _HALF_OF_DAY.sub(r"\1 \2m", said)
    said = _OH.sub(r"\1 oh ", said)
    return _AND.sub(r"\1 ", said)


def _write_out(text: str) -> str:
    """The text with digits and symbols as words."""
    text = _ORDINAL.sub(lambda match: f" {_ordinal(match[1])} ", text)
    text = _PRICE.sub(_price, text)
    text = _TIME.sub(_time, text)
    text = _FRACTION.sub(_fraction, text)
    text = _MINUS.sub(" minus ", text)
    text = _NUMBER.sub(lambda match: f" {_number(match[1] or '', match[2] or match[3] or '')} ", text)
    return text.translate(_SYMBOLS)


def _cardinal(number: int) -> str:
    """2021 -> "two thousand twenty one"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    name, size = next((name, size) for name, size in _SCALES.items() if number >= size)
    above, below = divmod(number, size)
    return f"{_cardinal(above)} {name}" + (f" {_cardinal(below)}" if below else "")


def _ordinal(digits: str) -> str:
    *before, last = _whole(digits.replace(",", "")).split()
    return " ".join([*before, _ORDINALS.get(last, re.sub("y$", "ie", last) + "th")])


def _whole(digits: str) -> str:
    """Digits as a number, read digit by digit where they are a code."""
    if len(digits) > 15 or (digits.startswith("0") and len(digits) > 1):
        return _digit_by_digit(digits)
    return _cardinal(int(digits))


def _digit_by_digit(digits: str) -> str:
    return " ".join(_ONES[int(digit)] for digit in digits)


def _number(whole: str, decimals: str) -> str:
    if not decimals and "," not in whole:
        if len(whole) > 6:
            return _digit_by_digit(whole)
        if len(whole) == 4 and (1100 <= int(whole) < 2000 or 2010 <= int(whole) < 2100):
            return _year(int(whole))
    parts = [_whole(whole.replace(",", ""))] if whole else []
    return " ".join([*parts, *(["point", _digit_by_digit(decimals)] if decimals else [])])


def _year(number: int) -> str:
    century, rest = divmod(number, 100)
    return f"{_cardinal(century)} " + ("hundred" if not rest else _minutes(rest))


def _minutes(number: int) -> str:
    return f"oh {_ONES[number]}" if number < 10 else _cardinal(number)


def _price(match: re.Match[str]) -> str:
    symbol, whole, decimals, scale = match.groups()
    large, small = _MONEY[symbol]
    one, many = f" {large} ", f" {large}s "
    if scale is None and decimals is not None and len(decimals) == 3:
        cents = int(decimals[1:])
        coins = small if small == "pence" or cents == 1 else f"{small}s"
        rest = f"and {_cardinal(cents)} {coins} " if cents else ""
        return f" {_whole(whole.replace(',', ''))}{one if whole == '1' else many}{rest}"
    said = " ".join(filter(None, [_number(whole, (decimals or "")[1:]), scale]))
    return f" {said}{one if said == 'one' else many}"


def _time(match: re.Match[str]) -> str:
    hour, minute, follows = int(match[1]), int(match[2]), match[3]
    if minute:
        return f" {_cardinal(hour)} {_minutes(minute)} "
    full = "" if follows else "o'clock" if hour <= 12 else "hundred"
    return f" {_cardinal(hour)} {full} "


def _fraction(match: re.Match[str]) -> str:
    whole, part = match.groups()
    said = _FRACTIONS[part]
    return f" {_number(whole, '')} and {said.replace('one ', 'a ')} " if whole else f" {said} "
