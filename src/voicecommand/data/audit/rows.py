"""Checks of single rows: empty and very long texts, silent, short and clipped recordings."""

from __future__ import annotations

from voicecommand.data.audit.problem import AuditedSplit, Problem, name_rows
from voicecommand.data.text import normalise

# A spoken command has a dozen words; the longest of 13,000 SNIPS requests has 35. A longer cell is likely a paragraph,
# or several lines after a quote that was not closed.
LONG_WORDS = 64
# A spoken command lasts one to three seconds; a recording of more than 10 s likely holds several commands, and no word
# is shorter than 0.1 s.
LONG_SECONDS, SHORT_SECONDS = 10.0, 0.1
# With a transcript a recording may hold any number of words; recognisers read 30 s at a time.
LONG_TRANSCRIBED_SECONDS = 30.0
NULL_LIKE = frozenset({"none", "null", "na", "n/a", "#n/a", "<na>", "nan", "nil", "undefined"})


def check_rows(split: AuditedSplit, columns: tuple[str, ...]) -> list[Problem]:
    """Empty, null-like and over-long cells of a split."""
    if not split.origins:
        return [Problem("error", "empty_split", f"the {split.name} split has no rows")]
    problems = []
    for column in columns:
        if column not in split.columns or (column == "transcript" and not split.in_scope):
            continue
        values = split.columns[column]
        empty = [row for row, value in enumerate(values) if not _visible(value)]
        if empty:
            problems.append(
                Problem("error", "empty", f"{len(empty):,} empty {column}(s) in {split.name}", name_rows(split, empty))
            )
        null = [row for row, value in enumerate(values) if value.strip().lower() in NULL_LIKE]
        if null:
            words = ", ".join(sorted({repr(values[row]) for row in null}))
            message = f"{len(null):,} {column}(s) in {split.name} look like a missing value: {words}"
            problems.append(Problem("warning", "null_like", message, name_rows(split, null)))
    if "text" in columns:
        texts = split.columns["text"]
        long = [row for row, text in enumerate(texts) if len(text) > LONG_WORDS and len(text.split()) > LONG_WORDS]
        if long:
            message = f"{len(long):,} texts in {split.name} have more than {LONG_WORDS} words"
            problems.append(Problem("warning", "over_long", message, name_rows(split, long)))
    return problems


def _visible(text: str) -> str:
    """The visible characters of a text; "" if there are none. Most texts need no normalising to tell."""
    return text.strip() if text.isascii() and text.isprintable() else normalise(text)


def check_audio(split: AuditedSplit) -> list[Problem]:
    """Silent, clipped, very short and very long recordings of a split."""
    if split.clips is None:
        return []
    from voicecommand.audio.clips import SAMPLING_RATE

    seconds = [length / SAMPLING_RATE for length in split.columns["length"]]
    most = LONG_TRANSCRIBED_SECONDS if "transcript" in split.columns else LONG_SECONDS
    chosen = {
        "silent": ("are silent (below -60 dB, or constant)", split.columns["silent"]),
        "clipped": ("are clipped: record them at a lower level", split.columns["clipped"]),
        "very_short": (f"are shorter than {SHORT_SECONDS:g} s", [s < SHORT_SECONDS for s in seconds]),
        "over_long": (f"are longer than {most:g} s", [s > most for s in seconds]),
    }
    problems = []
    for kind, (what, flags) in chosen.items():
        rows = [row for row, flag in enumerate(flags) if flag]
        if rows:
            message = f"{len(rows):,} recordings in {split.name} {what}"
            problems.append(Problem("warning", kind, message, name_rows(split, rows)))
    return problems
