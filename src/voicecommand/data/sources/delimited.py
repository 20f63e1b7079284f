"""CSV and TSV files: the separator and the quoting that they use. No row is merged with another unseen.

A quote that opens and never closes swallows the lines after it, up to the next quote. So a cell of several lines is
accepted, with a warning, only if its lines do not look like rows. In a TSV file whose lines are all whole rows, such a
quote is a character like others.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from dataclasses import dataclass

from voicecommand.data.sources.encoding import edit, read_text
from voicecommand.data.table import SHOWN, Table, check_width, find_doubled, quote
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# Lines whose number of cells must agree for another separator than the usual one to be believed.
LINES_TO_AGREE = 20
LINE_SEARCHED = 10_000  # characters of a line in which the quote that opens a cell is looked for


@dataclass(frozen=True)
class _Format:
    """How the cells of a file are written.

    Args:
        delimiter: the character between cells.
        skips_blank: a blank after the delimiter is not part of the cell.
        has_quotes: a quote at the start of a cell is not part of it, and ends at the next single one.
    """

    delimiter: str
    skips_blank: bool = False
    has_quotes: bool = True

    def count(self, line: str) -> int:
        """The number of cells of one line if quotes were characters; a blank after a comma is prose."""
        blank = "" if self.skips_blank or self.delimiter == "\t" else "(?! )"
        return len(re.findall(re.escape(self.delimiter) + blank, line)) + 1


@dataclass(frozen=True)
class _Record:
    """The cells of one row, and its first and last line in the file, from 1."""

    first: int
    last: int
    cells: list[str]


class _QuoteError(Exception):
    """A quoted cell that ends wrongly: (format, first line, last line, reason; "" if it swallows lines)."""


def read_delimited(file: str, usual: str) -> Table:
    """The rows of a file.

    Args:
        usual: the delimiter that its ending promises; another one is used if the first line has only that one.

    Raises:
        InputError: a quote is wrong, or two columns have one name.
    """
    text, encoding = read_text(file)
    lines = list(io.StringIO(text, newline=""))
    named = re.fullmatch(r"sep=([,;|\t])\s*", lines[0], flags=re.IGNORECASE)  # Excel's line, which is no row
    start = 1 if named else 0
    form = _Format(named[1] if named else _find_delimiter(lines, usual))
    if form.delimiter != usual:
        logger.info("%s: the cells are separated by %s", file, DELIMITERS[form.delimiter])
    try:
        form, records = _parse(file, lines, start, form)
    except _QuoteError as error:
        _, first, last, reason = error.args
        if "field limit" in reason and first == last:
            limit = f"{csv.field_size_limit():,}"
            raise InputError(f"{file}:{first}: a cell of more than {limit} characters: shorten it") from None
        first, script, problem = _explain(lines, *error.args)
        remedy = f"remove it ({edit(file, encoding, script)}), or double each quote within the cell and close it"
        raise InputError(f"{file}:{first}: a quote opens a cell {problem}: {remedy}") from None
    table = _to_table(file, form, records)
    # a byte order mark stays in front of the header
    table.add_header = edit(file, encoding, f"{start + 1}s/^\\(\\xEF\\xBB\\xBF\\)\\?/&HEADER\\n/")
    table.delimiter = form.delimiter
    return table


def _find_delimiter(lines: list[str], usual: str) -> str:
    """The delimiter: the usual one unless only another one separates the cells of the first lines."""
    shown = [line for line in lines if line.strip()][:LINES_TO_AGREE]
    counts = {d: [_count_cells(line, d) for line in shown] for d in DELIMITERS}
    agree = [d for d, found in counts.items() if found[0] > 1 and len(set(found)) == 1]
    if usual in agree:
        return usual
    others = agree or ([] if counts[usual][0] > 1 else [d for d, found in counts.items() if found[0] > 1])
    return max(others, key=lambda d: counts[d][0], default=usual)


def _count_cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # a cell of more than 131,072 characters, which is an error later
        return 0


def _parse(file: str, lines: list[str], start: int, form: _Format) -> tuple[_Format, list[_Record]]:
    """The records of the file, the header first, and how they are written.

    Raises:
        _QuoteError: a quote swallows lines, never closes, or closes before the cell ends.
    """
    try:
        records = _read(lines, start, form)
        if _has_blanks(records):
            form = _Format(form.delimiter, skips_blank=True)
            logger.info("%s: a blank follows each %s, and is not part of the cells", file, DELIMITERS[form.delimiter])
            records = _read(lines, start, form)
        merged = next((record for record in records[1:] if _looks_like_rows(record, lines, form, records[0])), None)
        if merged:
            raise _QuoteError(form, merged.first, merged.last, "")
    except _QuoteError:
        literal = _Format(form.delimiter, has_quotes=False)
        records = _read(lines, start, literal) if form.delimiter == "\t" else []
        widths = {len(record.cells) for record in records if record.cells}
        if len(widths) != 1 or widths == {1}:
            raise
        quoted = [f"{file}:{record.first}" for record in records if any('"' in cell for cell in record.cells)]
        logger.warning(
            "%s: quotes are read as characters, because a cell begins with one that does not close; rows with quotes: "
            "%d, %s", file, len(quoted), ", ".join(quoted[:SHOWN]),
        )  # fmt: skip
        form = literal
    return form, records


def _read(lines: list[str], start: int, form: _Format) -> list[_Record]:
    reader = csv.reader(
        lines[start:],
        delimiter=form.delimiter,
        skipinitialspace=form.skips_blank,
        quoting=csv.QUOTE_MINIMAL if form.has_quotes else csv.QUOTE_NONE,
        strict=True,
    )
    records: list[_Record] = []
    first = start + 1
    try:
        for cells in reader:
            records.append(_Record(first, start + reader.line_num, cells))
            first = start + reader.line_num + 1
    except csv.Error as error:
        raise _QuoteError(form, first, start + reader.line_num, str(error)) from None
    return records


def _has_blanks(records: list[_Record]) -> bool:
    """Whether a blank follows every delimiter, of the header or of all rows."""
    rows = [record.cells for record in records if len(record.cells) > 1]
    return any(part and all(cell[:1] == " " for cells in part for cell in cells[1:]) for part in (rows[:1], rows[1:]))


def _looks_like_rows(record: _Record, lines: list[str], form: _Format, header: _Record) -> bool:
    """Whether a record of several lines would be several rows, if its quotes were characters: a line before its last is
    a whole row. The last line of a cell of several lines, with the cells after it, always looks like one. In a file of
    one column every line is a row."""
    columns = len(header.cells)
    if record.first == record.last:
        return False
    return columns == 1 or any(form.count(line) == columns for line in lines[record.first - 1 : record.last - 1])


def _explain(lines: list[str], form: _Format, first: int, last: int, reason: str) -> tuple[int, str, str]:
    """(line, script of sed that removes the wrong quote, what the quote does)."""
    line, delimiter = lines[first - 1], re.escape(form.delimiter)
    before = f"(?:^|{delimiter}{' *' if form.skips_blank else ''})"
    if len(line) > LINE_SEARCHED:
        line = ""
    # without the cells that end in this line, the first quote at the start of a cell is the one that stays open
    closed = re.compile(rf'{before}"(?:[^"]|"")*"(?={delimiter}|[\r\n]|$)')
    opening = re.search(f'{before}"', closed.sub(lambda match: " " * len(match[0]), line))
    number = line[: opening.end()].count('"') if opening else 1
    script = f's/"//{number if number > 1 else ""}'
    if not reason:
        lines_after = f"lines {first + 1} to {last}, which look like rows"
        problem = f"that swallows {lines_after if last > first + 1 else f'line {last}, which looks like a row'}"
    elif "field limit" in reason:
        problem = f"of more than {csv.field_size_limit():,} characters, or never closes"
    elif "end of data" in reason:
        problem = "and never closes"
    else:
        problem = f"that goes on after its closing quote{f' in line {last}' if last > first else ''} ({reason})"
        script = script if last > first else 's/"//g'
    return first, f"{first}{script}", problem


def _to_table(file: str, form: _Format, records: list[_Record]) -> Table:
    table = Table(file, [])
    rows = list(records)
    while len(rows) > 1 and not any(cell.strip() for cell in rows[-1].cells):
        rows.pop()  # at the end they are harmless; between rows something may be lost
    if empty := sum(len(record.cells) > 1 for record in records[len(rows) :]):
        logger.info("%s: %d rows of empty cells at its end are left out", file, empty)
    long: list[str] = []
    for record in rows:
        row, cells = record.first, record.cells
        if not cells or (len(table.names) > 1 and len(cells) == 1 and not cells[0].strip()):
            table.bad.append(f"{file}:{row}: a blank line")
        elif not table.names:
            table.names = _check_header(file, row, cells)
        elif len(cells) != len(table.names):
            hint = ""
            if len(cells) > len(table.names) and form.has_quotes and form.delimiter != "\t":
                hint = f" (a cell that holds {DELIMITERS[form.delimiter]} needs quotes around it)"
            table.bad.append(f"{file}:{row}: {len(cells)} cells where the header has {len(table.names)}{hint}")
        else:
            table.rows.append((row, dict(zip(table.names, cells, strict=True))))
            if record.last > row and any("\n" in cell or "\r" in cell for cell in cells):
                long.append(f"{file}:{row}")
    if long:
        shown = ", ".join(long[:SHOWN]) + (f" and {len(long) - SHOWN:,} more" if len(long) > SHOWN else "")
        logger.warning("%s: rows with a cell of several lines: %d, %s", file, len(long), shown)
    return table


def _check_header(file: str, row: int, cells: list[str]) -> list[str]:
    """The names of the columns; those without one are called by their place."""
    names = [cell.strip() or f"(column {place})" for place, cell in enumerate(cells, start=1)]
    check_width(f"{file}:{row}", len(names))
    if doubled := find_doubled(names):
        raise InputError(f"{file}:{row}: the header names {quote(doubled)} twice")
    return names
