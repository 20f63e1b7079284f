"""JSON: one object a line, a list of rows, or lists of rows by split as CLINC150 has them."""

from __future__ import annotations

import json
import logging
from typing import Any

from voicecommand.columns import OUT_OF_SCOPE, find_splits, split_of
from voicecommand.data.sources.encoding import read_text
from voicecommand.data.table import Table, check_width, find_doubled, quote
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)


def read_lines(file: str) -> Table:
    """The rows of a file with one JSON object a line; the first is row 1.

    Raises:
        InputError: no line is a JSON object.
    """
    table = Table(file, [])
    names: dict[str, None] = {}
    # not str.splitlines, which also splits at characters that JSON allows within a text
    for row, line in enumerate(read_text(file)[0].rstrip().split("\n"), start=1):
        try:
            cells = json.loads(line, object_pairs_hook=_unique)
        except _TwiceError as error:
            table.bad.append(f"{file}:{row}: the field {error.args[0]!r} is there twice")
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else _reason(error)
            table.bad.append(f"{file}:{row}: {f'not JSON ({reason})' if line.strip() else 'a blank line'}")
        else:
            if isinstance(cells, dict):
                table.rows.append((row, cells))
                names.update(dict.fromkeys(cells))
                check_width(f"{file}:{row}", len(names))
            else:
                table.bad.append(f"{file}:{row}: not a JSON object; one object a line is needed")
    table.names = list(names)
    if not table.rows:
        raise InputError(f"{table.bad[0]}; .jsonl files hold one JSON object a line, .json files a list of them")
    return table


def read_splits(file: str) -> dict[str, Table]:
    """Split -> rows of a .json file.

    It holds a list of rows, which is train; an object of such lists by split, as CLINC150's; or one object a line. A
    row is an object or a pair [text, label]; the first of a list is row 0. Rows out of scope for training
    (CLINC150's ``oos_train``) are counted and not read, because nothing out of scope is trained on.

    Raises:
        InputError: it is not JSON, or has none of these forms.
    """
    try:
        content = json.loads(read_text(file)[0], object_pairs_hook=_unique)
    except _TwiceError as error:
        raise InputError(f"{file}: the field {error.args[0]!r} is there twice in one object") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # a second object, so that these are lines
            return {"train": read_lines(file)}
        raise InputError(f"{file}:{error.lineno}: not JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON that can be read ({_reason(error)})") from None
    if isinstance(content, list):
        return {"train": _to_table(file, content)}
    fields = content if isinstance(content, dict) else {}
    lists = {name: rows for name, rows in fields.items() if isinstance(rows, list)}
    for name, rows in fields.items():
        if split_of(name) and not isinstance(rows, list):
            raise InputError(f"{file}/{name}: a list of rows is needed, and there is {type(rows).__name__}")
    splits = find_splits(lists, file)
    if not splits:
        there = f"an object of {quote(content)}" if isinstance(content, dict) else repr(content)[:40]
        raise InputError(
            f"{file}: rows are needed, a list of objects or of [text, label] pairs, or such lists by split "
            f'({{"train": [...], "test": [...]}}); there is {there}'
        )
    unread = {name: lists.get(name, []) for name in fields if name not in splits.values()}
    for name, rows in unread.items():
        why = ": nothing out of scope is trained on" if name in ("oos_train", f"{OUT_OF_SCOPE}_train") else ""
        logger.warning("%s: %s is not read, %s rows%s", file, name, f"{len(rows):,}", why)
    return {split: _to_table(f"{file}/{name}", lists[name]) for split, name in splits.items()}


def _to_table(source: str, rows: list[Any]) -> Table:
    table = Table(source, [])
    names: dict[str, None] = {}
    for row, cells in enumerate(rows):
        if isinstance(cells, list) and len(cells) == 2:
            cells = dict(zip(("text", "label"), cells, strict=True))
        if isinstance(cells, dict):
            table.rows.append((row, cells))
            names.update(dict.fromkeys(cells))
            check_width(f"{source}:{row}", len(names))
        else:
            table.bad.append(f"{source}:{row}: neither an object nor a pair [text, label]")
    table.names = list(names)
    if not table.rows:
        raise InputError(table.bad[0] if table.bad else f"{source}: no rows")
    return table


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


class _TwiceError(Exception):
    """A JSON object names a field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise _TwiceError(find_doubled(name for name, _ in pairs)[0])
    return cells
