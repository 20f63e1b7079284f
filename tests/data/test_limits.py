"""No file makes the program grow: each limit is one line that says what, where and what to do, in linear time."""

# ruff: noqa: E501  (one case a line)

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voicecommand.data import stream, table
from voicecommand.data.sources import encoding, file, parquet
from voicecommand.data.sources.file import load_files
from voicecommand.errors import InputError

WIDE = 100_000


def write_parquet(path: Path, **columns: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns), path)


def write_growing(path: Path) -> None:
    """A megabyte of text that is stored once and stands in a million rows."""
    import pyarrow as pa

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1_000_000]))
    write_parquet(path, text=text, label=["a"] * 1_000_000)


def write_aliases(path: Path) -> None:
    lines = [f"{b}: &{b} [*{a},*{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    path.write_text("\n".join(["a: &a [x, x]", *lines, "nlu: *i"]))


def rows(count: int) -> str:
    return "".join(f"t{i},l{i}\n" for i in range(count))


LIMITS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "columns of a CSV file": (
        "a.csv", lambda p: p.write_text(",".join(map(str, range(WIDE))) + "\n"), r":1: 100,000 columns, .* 1,000; leave"),
    "columns of one name": ("a.csv", lambda p: p.write_text(",".join(["c"] * WIDE) + "\n"), r":1: 100,000 columns"),
    "a cell of a CSV file": (
        "a.csv", lambda p: p.write_text(f"text,label\n{'x' * 200_000},a\n"), r":2: a cell of more than 131,072 characters"),
    "quotes in a line": (
        "a.csv", lambda p: p.write_text("text,label\n" + '"a"b,' * WIDE + "\n"), r":2: a quote opens a cell"),
    "labels": ("a.csv", lambda p: p.write_text("text,label\n" + rows(50_000)), r": 50,000 different labels, and 2,000 are"),
    "fields of an object": (
        "a.jsonl", lambda p: p.write_text(json.dumps(dict.fromkeys(map(str, range(WIDE)), 1))), r":1: 100,000 columns"),
    "fields of all objects": (
        "a.jsonl", lambda p: p.write_text("\n".join(json.dumps({f"{i}-{j}": 1 for i in range(600)}) for j in range(9))),
        r":2: 1,200 columns"),
    "a field twice among many": (
        "a.jsonl", lambda p: p.write_text("{" + ",".join(f'"a{i % 50_000}": 1' for i in range(WIDE)) + "}"),
        r":1: the field 'a0' is there twice"),
    "a deep object": ("a.jsonl", lambda p: p.write_text('{"text": ' + "[" * WIDE), r":1: not JSON \(nested too deep\)"),
    "a deep list": ("a.json", lambda p: p.write_text("[" * WIDE + "]" * WIDE), r"a\.json: not JSON.*nested too deep"),
    "a long text": (
        "a.jsonl", lambda p: p.write_text(json.dumps({"text": "x" * 5_000_000, "label": "a"})),
        r":1: 'text' has 5,000,000 characters, and a cell may have 100,000: shorten it"),
    "a long name": ("a.jsonl", lambda p: p.write_text(json.dumps({"x" * 5_000_000: "a"})), r"no column 'text'"),
    "a Parquet file that grows": ("a.parquet", write_growing, r"more than 1,073,741,824 bytes of text when it is read"),
    "rows of a Parquet file": (
        "a.parquet", lambda p: write_parquet(p, text=["x"] * 600, label=["x"] * 600), r"600 rows of 2 columns, more than 1,000"),
    "columns of a Parquet file": (
        "a.parquet", lambda p: write_parquet(p, **{f"c{i}": [1] for i in range(2000)}), r"2,000 columns"),
    "aliases": ("a.yml", write_aliases, r"a\.yml:2: not YAML that can be read: an alias"),
    "a deep YAML file": ("a.yml", lambda p: p.write_text("nlu: " + "[" * WIDE), r"nested deeper than 32 levels"),
    "a large file": ("a.csv", lambda p: p.write_text("text,label\n" + rows(300_000)), r"bytes, and a file of text may have"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITS)
def test_a_file_beyond_a_limit_is_refused_in_one_short_line_and_at_once(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write, pattern = LIMITS[case]
    monkeypatch.setattr(parquet, "MAX_CELLS", 1_000 if case == "rows of a Parquet file" else parquet.MAX_CELLS)
    monkeypatch.setattr(encoding, "MAX_BYTES", 1_000_000 if case == "a large file" else encoding.MAX_BYTES)
    write(tmp_path / name)
    began = time.process_time()
    with pytest.raises(InputError, match=pattern) as caught:
        load_files(path=str(tmp_path / name))
    assert time.process_time() - began < 5
    assert len(str(caught.value)) < 4_000 and "\n" not in str(caught.value)


def test_what_is_within_the_limits_is_read(tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"text": [f"say {i} {'x' * 90_000}" for i in range(3)], "label": ["a", "b", "a"]})
    frame["label"] = frame["label"].astype("category")
    frame["other"], frame["nested"] = 1.5, [[1], [2], [3]]
    frame.to_parquet(tmp_path / "a.parquet")
    found = file.read_table(str(tmp_path / "a.parquet"))
    assert [cells["label"] for _, cells in found.rows] == ["a", "b", "a"]
    assert found.rows[0][1]["other"] == 1.5 and found.rows[0][1]["nested"] == []
    names = ["text", "label", *(f"c{i}" for i in range(table.MAX_COLUMNS - 2))]
    (tmp_path / "a.csv").write_text("\n".join(",".join(names) for _ in range(2)) + "\n")
    assert len(file.read_table(str(tmp_path / "a.csv")).names) == table.MAX_COLUMNS


def test_a_line_without_an_end_is_refused_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"one\ntwo\n" + b"x" * 50_000_000)
    given, began = [], time.process_time()
    with pytest.raises(InputError, match=r"in\.txt:3: a line of more than 1,000,000 bytes; give one command a line"):
        for part in stream.Stream(str(tmp_path / "in.txt"), "text", "text"):
            given += [one.command for one in part]
    assert given == ["one", "two"]
    assert time.process_time() - began < 2
    with pytest.raises(InputError, match="200,000 characters, and a command may have 100,000"):
        list(stream.Stream(["x" * 200_000], "text", "text"))


def test_the_documentation_states_the_limits() -> None:
    text = re.sub(r"\s+", " ", (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8"))
    for limit in (table.MAX_COLUMNS, table.MAX_CELL, table.MAX_LABELS, stream.MAX_LINE, parquet.MAX_CELLS):
        assert f"{limit:,}" in text
