"""Raw rows of any source -> string columns under our names, or one error that names the bad rows."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from voicecommand.columns import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.errors import InputError, MissingColumn

Rows = dict[str, list[str]]
# Columns that are kept if the source has them. Whole numbers are accepted, as their digits, but not for texts.
OPTIONAL = ("id", *GROUP_COLUMNS, "response")
TEXTS = ("text", "response", "transcript")
SHOWN = 5
# The limits of a table, from any source; docs/data.md states them. A file within them is read in linear time.
MAX_COLUMNS = 1_000
MAX_CELL = 100_000  # characters
MAX_LABELS = 2_000  # the confusion matrix has as many rows and columns
NAME_SHOWN = 100  # characters of a name in a message
# Names of columns elsewhere, for hints.
USUAL = {
    "text": ("utterance", "sentence", "query", "phrase", "command", "request"),
    "label": ("intent", "category", "class", "target"),
    "audio": ("file_name", "path", "file", "clip"),
    "transcript": ("transcription", "sentence", "text", "normalized_text"),
}


@dataclass
class Table:
    """The rows of one file or hub split as they were written.

    Attributes:
        source: its name in messages and origins.
        names: its column names.
        rows: (row number, column name -> cell).
        bad: the problems of rows that could not be read, "source:row: problem".
        delimiter: the character between the cells of a CSV or TSV file.
        add_header: the shell command that puts a line HEADER above the names of such a file.
    """

    source: str
    names: list[str]
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    delimiter: str = ""
    add_header: str = ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``name`` most likely means, or None."""
    folded = {other.strip().casefold(): other for other in reversed(list(names))}
    matches = difflib.get_close_matches(name.strip().casefold(), folded, 1, 0.75)
    return folded[matches[0]] if matches else None


def quote(names: Iterable[str]) -> str:
    """Names as a list for a message, at most 20 of them."""
    quoted = [text if len(text) <= NAME_SHOWN else f"{text[:NAME_SHOWN]}..." for text in map(repr, names)]
    return ", ".join(quoted[:20]) + (f" and {len(quoted) - 20} more" if len(quoted) > 20 else "")


def read_map(column_map: Mapping[str, Any] | None, columns: Iterable[str]) -> dict[str, str]:
    """Our name -> name in the source, for the columns that ``data.column_map`` renames."""
    known = [*columns, *OPTIONAL]
    renamed = {str(key): str(value) for key, value in (column_map or {}).items() if value is not None}
    for name in renamed:
        # the yaml lists the columns of all tasks: those that this task does not read are ignored
        if name not in (*known, *TEXTS, "label", "audio"):
            raise InputError(f"data.column_map.{name}: no such column is read; there are {quote(known)}")
    return renamed


def locate(
    table: Table, columns: Iterable[str], renamed: Mapping[str, str], extra: Iterable[str] = ()
) -> dict[str, str]:
    """Our name -> name in the table, of the asked columns, and of the optional ones that the table has.

    Raises:
        InputError: a column is missing.
        MissingColumn: the column of texts is missing, and there is one of recordings, or the other way round.
    """
    columns = tuple(columns)
    found: dict[str, str] = {}
    missing: list[str] = []
    for name in dict.fromkeys((*columns, *OPTIONAL, *extra)):
        source = renamed.get(name, name)
        source = source if source in table.names else source.strip()
        if source in table.names:
            found[name] = source
        elif name in columns or name in renamed:
            missing.append(name)
    if missing:
        message = _explain_missing(table, missing, renamed, none=not found)
        for name, other in (("text", "audio"), ("audio", "text")):
            if name in missing and {other, renamed.get(other, other), *USUAL[other]} & {*table.names}:
                raise MissingColumn(message, name)
        raise InputError(message)
    return found


def _explain_missing(table: Table, missing: list[str], renamed: Mapping[str, str], none: bool) -> str:
    """The error of columns that a table lacks; `none`: it has none that is wanted, as if it had no header."""
    what = " and ".join(f"no column {renamed.get(name, name)!r} for {name}" for name in missing)
    may_lack_header = none and bool(table.add_header and table.rows)
    guessed = _guess_columns(table, missing) if may_lack_header else {}
    settings = []
    for name in missing:
        likely = (renamed.get(name, name), name, *USUAL.get(name, ()))
        meant = next((found for other in likely if (found := nearest(other, table.names))), guessed.get(name, "NAME"))
        settings.append(override(f"data.column_map.{name}", meant))
    hint = f"{'name it by' if settings[0].endswith('=NAME') else 'did you mean'} {' '.join(settings)}"
    if may_lack_header:
        places = {name: wanted for wanted, name in guessed.items()}
        header = [places.get(name, f"column{place}") for place, name in enumerate(table.names, start=1)]
        delimiter = table.delimiter.replace("\t", "\\t")
        command = table.add_header.replace("HEADER", delimiter.join(header))
        if any(cells[name] == name for _, cells in table.rows for name in table.names):
            return f"{table.source}: {what}; the first line looks like a row: add a header ({command})"
        hint += f", or, if the first line is a row, add a header ({command})"
    return f"{table.source}: {what}; the columns there are {quote(table.names)}: {hint}"


def _guess_columns(table: Table, missing: list[str]) -> dict[str, str]:
    """Wanted column -> name in a table of texts: the first one likely has the longest cells, the label the fewest
    different ones."""
    cells = {name: [row[name] for _, row in table.rows] for name in table.names}
    free = sorted(table.names, key=lambda name: -sum(map(len, cells[name])))
    names = [free[0], *sorted(free[1:], key=lambda name: len(set(cells[name])))]
    return dict(zip(missing, names, strict=False))


def override(key: str, value: str) -> str:
    """`key=value` as a shell and Hydra read it."""
    if re.fullmatch(r"[A-Za-z0-9_./-]+", value):
        return f"{key}={value}"
    return shlex.quote(f"{key}='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'")


def find_doubled(names: Iterable[str]) -> list[str]:
    """The names that are there more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def check_width(where: str, count: int) -> None:
    """Refuse a table with too many columns.

    Raises:
        InputError: there are more than MAX_COLUMNS.
    """
    if count > MAX_COLUMNS:
        raise InputError(f"{where}: {count:,} columns, and a table may have {MAX_COLUMNS:,}; leave out those unused")


def refuse(bad: list[str]) -> None:
    """Raise InputError if there are bad rows, with the first few of them."""
    if bad:
        more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        count = "1 bad row" if len(bad) == 1 else f"{len(bad):,} bad rows"
        raise InputError(f"{count}, none is dropped: {'; '.join(bad[:SHOWN])}{more}")


def to_columns(
    table: Table,
    columns: Iterable[str],
    renamed: Mapping[str, str],
    *,
    split: str,
    prefix: str,
    extra: Iterable[str] = (),
) -> Rows:
    """String columns of one table: id, origin, the asked ones and the optional ones that it has.

    Args:
        table: the rows as written.
        columns: what the task needs.
        renamed: our name -> name in the source.
        split: its name; an out-of-scope split needs no label column, and gets that label, and no transcripts, which
            then are empty.
        prefix: of ids, if the table has none.
        extra: further columns to keep if they exist.

    Raises:
        InputError: a column is missing, a cell is missing, too long or not a text, or there are too many labels.
    """
    columns = tuple(columns)
    is_outside = split.startswith(OUT_OF_SCOPE)
    out_of_scope = is_outside and "label" in columns
    has_none = is_outside and "transcript" in columns and renamed.get("transcript", "transcript") not in table.names
    asked = [n for n in columns if not (out_of_scope and n == "label") and not (has_none and n == "transcript")]
    found = locate(table, asked, {k: v for k, v in renamed.items() if not has_none or k != "transcript"}, extra)
    if out_of_scope:
        found.pop("label", None)
    names = list(dict.fromkeys(("id", "origin", *columns, *found)))
    result: Rows = {name: [] for name in names}
    seen: dict[str, int] = {}
    bad = list(table.bad)
    for row, cells in table.rows:
        values = {}
        problem = None
        for name, source in found.items():
            value = cells.get(source)
            if type(value) is not str:
                if source not in cells:
                    problem = f"no field {source!r} (it has {quote(cells)})"
                    break
                if type(value) is not int or name in TEXTS:
                    hint = (
                        "; write labels as texts or whole numbers" if type(value) is float and name == "label" else ""
                    )
                    problem = f"{source!r} is {_kind(value)}, not a text{hint}"
                    break
                value = str(value)
            elif len(value) > MAX_CELL:
                problem = f"{source!r} has {len(value):,} characters, and a cell may have {MAX_CELL:,}: shorten it"
                break
            elif not value.isascii() and not is_unicode(value):
                problem = f"{source!r} holds half of a surrogate pair, which is not a character"
                break
            values[name] = value
        if problem is None and "id" in found:
            problem = _check_id(values["id"], row, seen)
        if problem:
            bad.append(f"{table.source}:{row}: {problem}")
            continue
        values.setdefault("id", f"{prefix}-{row}")
        values["origin"] = f"{table.source}:{row}"
        if out_of_scope:
            values["label"] = OUT_OF_SCOPE
        if has_none:
            values["transcript"] = ""
        for name, values_of_column in result.items():
            values_of_column.append(values[name])
    refuse(bad)
    if not result["id"]:
        raise InputError(f"{table.source}: no rows")
    if (labels := len(set(result.get("label", ())))) > MAX_LABELS:
        hint = override("data.column_map.label", "NAME")
        raise InputError(
            f"{table.source}: {labels:,} different labels, and {MAX_LABELS:,} are possible; if {found['label']!r} is "
            f"not the column of labels, name it by {hint}"
        )
    return result


def _check_id(value: str, row: int, seen: dict[str, int]) -> str | None:
    if not value.strip():
        return "the id is empty"
    if value in seen:
        return f"the id {value!r} is also that of row {seen[value]}"
    seen[value] = row
    return None


def is_unicode(value: str) -> bool:
    """Whether a text is made of characters only: JSON can hold half of a surrogate pair."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return {"dict": "an object", "list": "a list", "bytes": "bytes"}.get(type(value).__name__, type(value).__name__)
