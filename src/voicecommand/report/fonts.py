"""Fonts of this machine that have the characters of a figure. None is downloaded.

matplotlib draws a character with the first family of a list that has it, and a box if none has. Its default list has
one family, DejaVu Sans, which lacks Chinese, Ethiopic, Hindi and most emoji.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)
LAST_RESORT = "Last Resort"  # draws a box for every character
SHOWN = 40  # characters that the warning names


def set_fonts(figure: Figure) -> None:
    """Give the texts of a figure families that have their characters; one warning names those that no font has."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    needed = {letter for text in texts for letter in text.get_text() if not letter.isascii() and _is_drawn(letter)}
    if not needed:
        return
    families, lacking = find_families(frozenset(needed))
    for text in texts:
        text.set_fontfamily(list(families))
    if lacking:
        _warn(lacking)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While a figure is drawn: matplotlib warns once a character that no font has, which `set_fonts` has named
    together, and once a text whose family has no regular weight."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph ")
            yield
    finally:
        log.setLevel(level)


@functools.cache
def find_families(needed: frozenset[str]) -> tuple[tuple[str, ...], str]:
    """(the families that have the characters together, matplotlib's default first; those that no font has, sorted).

    Of several families, the one with most of the characters comes first, then one without serifs.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    families = tuple(rcParams["font.family"])
    missing = needed - _find_characters(findfont(FontProperties()), needed)
    if missing:
        files: dict[str, str] = {}
        for entry in sorted(
            fontManager.ttflist, key=lambda entry: (entry.style != "normal", str(entry.weight) != "400")
        ):
            files.setdefault(entry.name, entry.fname)
        names = sorted(name for name in files if not name.startswith(LAST_RESORT))
        has = {name: _find_characters(files[name], missing) for name in names}
        while missing:
            best = min(names, key=lambda name: (-len(has[name] & missing), "Sans" not in name, name))
            if not has[best] & missing:
                break
            families, missing = (*families, best), missing - has[best]
    return families, "".join(sorted(missing))


def _find_characters(path: str, needed: frozenset[str]) -> frozenset[str]:
    """Those of the characters that a font has; none if it can't be opened."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(letter for letter in needed if font.get_char_index(ord(letter)))


def _is_drawn(letter: str) -> bool:
    """Whether a character is drawn: joiners, variation selectors and the like are not."""
    return unicodedata.category(letter) not in ("Cf", "Cc", "Zs") and not 0xFE00 <= ord(letter) <= 0xFE0F


@functools.cache
def _warn(lacking: str) -> None:
    """Once for the same characters: a report has several figures with the same labels."""
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    logger.warning(
        "figures show boxes for characters that no font of this machine has (install one that has them): %s%s",
        lacking[:SHOWN],
        more,
    )
