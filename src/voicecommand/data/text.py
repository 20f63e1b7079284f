"""The normalised form of texts, without differences in case, width, punctuation and white space."""

from __future__ import annotations

import unicodedata


class _Fold(dict[int, str]):
    """Table for ``str.translate``: characters of the given Unicode categories become a space."""

    def __init__(self, categories: str) -> None:
        super().__init__()
        self._categories = categories

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character)[0] in self._categories else character
        return self[code]


# Marks (M) stay, because they are vowels in many scripts; the regular expression `\W` would drop them.
_PUNCTUATION = _Fold("PSZC")
_SPACE = _Fold("ZC")
# They choose between two pictures of one character, as after a heart, and are no characters of their own.
_SPACE.update(dict.fromkeys((0xFE0E, 0xFE0F), ""))


def normalise(text: str) -> str:
    """Fold case, width, punctuation and white space, so that two spellings of one sentence compare equal.

    A text of only punctuation or emoji keeps it; the result is empty only if the text has no visible character.
    The split rule depends on this function: changing it moves rows between splits.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.translate(_PUNCTUATION).split())
    # marks without a letter are what is left of an emoji
    if any(not unicodedata.category(character).startswith("M") for character in words.replace(" ", "")):
        return words
    return " ".join(folded.translate(_SPACE).split())
