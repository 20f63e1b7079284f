"""CSV and TSV as spreadsheets and other tools save them: read, or the cause is named with a command that mends it."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from voicecommand.data.sources.file import load_files
from voicecommand.errors import InputError

WHOLE = {"validation": 0, "test": 0}


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(path: str, columns: tuple[str, ...] = ("text", "label"), **settings: Any) -> Any:
    return load_files(columns, path=path, **{"split": WHOLE, **settings})["train"]


def read(name: str, content: str | bytes, **settings: Any) -> list[tuple[str, str]]:
    """The (text, label) pairs of a file with this content."""
    Path(name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    rows = load(name, **settings)
    return list(zip(rows["text"][:], rows["label"][:], strict=True))


def refusal(name: str, content: str | bytes, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(name, content, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def run_remedy(message: str) -> None:
    """Run the shell command that the message names in brackets."""
    found = re.search(r"\(((?:iconv|LC_ALL=C sed) .*?)\)(?:, or|$)", message)
    assert found, message
    subprocess.run(["bash", "-c", found[1]], check=True)


def rows(count: int, delimiter: str = ",", **replaced: str) -> str:
    """A file of `count` rows; replaced lines are named by their row, as `r3="..."`."""
    lines = [f"say {i}{delimiter}{'ab'[i % 2]}" for i in range(count)]
    for name, line in replaced.items():
        lines[int(name[1:])] = line
    return "\n".join([f"text{delimiter}label", *lines, ""])


PAIRS = [(f"say {i}", "ab"[i % 2]) for i in range(10)]


@pytest.mark.parametrize("closing", ['say 6"\ta', "say 6\ta", 'say "6"\ta', '"say 6\ta'])
def test_a_lone_quote_in_a_tsv_file_is_a_character_and_no_row_is_lost(
    closing: str, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = read("a.tsv", rows(10, "\t", r3='"say 3\tb', r6=closing))
    assert pairs == [*PAIRS[:3], ('"say 3', "b"), *PAIRS[4:6], tuple(closing.split("\t")), *PAIRS[7:]]
    assert "a.tsv: quotes are read as characters" in caplog.text and "a.tsv:5" in caplog.text


def test_quotes_around_whole_tsv_cells_are_not_part_of_them() -> None:
    assert read("a.tsv", 'text\tlabel\n"say ""on"""\ta\n"off\tnow"\tb\n') == [('say "on"', "a"), ("off\tnow", "b")]


@pytest.mark.parametrize(
    ("closing", "problem"),
    [
        ('say 6",a', "swallows lines 6 to 8, which look like rows"),
        ("say 6,a", "never closes"),
        ('say "6",a', "goes on after its closing quote in line 8"),
    ],
)
def test_a_quote_that_swallows_csv_rows_is_refused_and_the_named_command_removes_it(closing: str, problem: str) -> None:
    message = refusal("my file.csv", rows(10, r3='"say 3,b', r6=closing))
    assert message.startswith("my file.csv:5: a quote opens a cell") and problem in message
    run_remedy(message)
    texts = load("my file.csv")["text"][:]
    assert len(texts) == 10 and texts[3:7] == ["say 3", "say 4", "say 5", closing.split(",")[0]]


def test_the_command_removes_the_quote_of_the_right_cell() -> None:
    message = refusal("a.csv", 'label,text\n"a","say on\nb,say off\na,say it"\n')
    assert message.startswith("a.csv:2: a quote opens a cell that swallows lines 3 to 4")
    run_remedy(message)
    assert load("a.csv")["text"][:] == ["say on", "say off", 'say it"']


def test_a_cell_of_several_lines_that_do_not_look_like_rows_is_read_and_named(caplog: pytest.LogCaptureFixture) -> None:
    content = 'text,label\n"turn on, please\nthe light",on\n"one\n\ntwo, three",two\nset 5" pipe,x\n'
    texts = ["turn on, please\nthe light", "one\n\ntwo, three", 'set 5" pipe']
    assert [text for text, _ in read("a.csv", content)] == texts
    assert "a.csv: rows with a cell of several lines: 2, a.csv:2, a.csv:4" in caplog.text


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('text,label\n"hello,greet\nset 5,5",size\nstop,halt\n', ("text", "label")),
        ('text,label\n"hello,greet\none,two,greet\nset it to 5",size\nstop,halt\n', ("text", "label")),
        ('text\n"how are, you\nbye\nstop it 5"\nnext\n', ("text",)),
    ],
)
def test_a_quote_that_takes_in_the_whole_row_it_begins_in_is_refused_too(
    content: str, columns: tuple[str, ...]
) -> None:
    Path("a.csv").write_text(content)
    with pytest.raises(InputError, match=r"^a\.csv:2: "):
        load("a.csv", columns)


def test_a_row_with_unquoted_commas_is_told_to_quote_them() -> None:
    message = refusal("a.csv", "text,label\nturn on, please,on\noff,off\n")
    assert "a.csv:2: 3 cells where the header has 2 (a cell that holds ',' needs quotes around it)" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text;label\nHallo, du;x\nTschüss;y\n"),
        ("a.csv", "text\tlabel\nHallo, du\tx\nTschüss\ty\n"),
        ("a.tsv", "text;label\nHallo, du;x\nTschüss;y\n"),
        ("a.csv", "sep=;\r\ntext;label\r\nHallo, du;x\r\nTschüss;y\r\n"),
        ("a.csv", 'sep=,\ntext,label\n"Hallo, du",x\nTschüss,y\n'),
        ("a.csv", 'text, label\n"Hallo, du", x\nTschüss, y\n'),
        ("a.csv", 'text,label\n"Hallo, du", x\nTschüss, y\n'),
        ("a.csv", "text;label;;\nHallo, du;x;;\nTschüss;y;;a note\n;;;\n;;;\n"),
        ("a.csv", '\ufefftext,label\n"Hallo, du",x\nTschüss,y\n'),
        ("a.csv", '\ufeff"text","label"\r"Hallo, du","x"\r"Tschüss","y"\r'),
        *(("a.csv", "text;label\nHallo, du;x\nTschüss;y\n".encode(code)) for code in ("utf-16", "utf-32")),
        ("a.csv", b"\xfe\xff" + "text,label\n\"Hallo, du\",x\nTschüss,y\n".encode("utf-16-be")),
    ],
)  # fmt: skip
def test_what_spreadsheets_save_is_read(name: str, content: str | bytes) -> None:
    assert read(name, content) == [("Hallo, du", "x"), ("Tschüss", "y")]


def test_json_lines_in_utf_16_are_read() -> None:
    assert read("a.jsonl", '{"text": "a", "label": "x"}\n'.encode("utf-16")) == [("a", "x")]


def test_rows_keep_their_line_below_a_line_that_names_the_separator() -> None:
    Path("a.csv").write_text("sep=;\ntext;label\na;x\n")
    assert load("a.csv")["origin"][:] == ["a.csv:3"]


def test_rows_of_empty_cells_at_the_end_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read("a.csv", "text;label\na;x\n;\n;\n\n")
    assert "a.csv: 2 rows of empty cells at its end are left out" in caplog.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("mark", "encoding"), [("", "utf-8"), ("\ufeff", "utf-8"), ("\ufeff", "utf-16-le")])
@pytest.mark.parametrize("text_first", [True, False])
def test_a_file_without_header_is_told_the_command_that_adds_one(
    delimiter: str, mark: str, encoding: str, text_first: bool
) -> None:
    pairs = [("turn on the light", "on"), ("make it dark", "off"), ("light please", "on")]
    lines = [delimiter.join(pair if text_first else pair[::-1]) for pair in pairs]
    message = refusal("a.csv", (mark + "\n".join([*lines, ""])).encode(encoding))
    assert (
        "a.csv: no column 'text' for text and no column 'label' for label; the first line looks like a row" in message
    )
    run_remedy(message)
    train = load("a-utf8.csv" if encoding == "utf-16-le" else "a.csv")
    assert list(zip(train["text"][:], train["label"][:], strict=True)) == pairs


def test_columns_of_other_names_are_guessed_and_the_override_works_when_pasted() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    content = "Äußerung (de);Absicht\nmach das Licht an;an\nmach das Licht aus;aus\n"
    message = refusal("a.csv", content)
    pasted = re.search(r"did you mean (.*), or, if the first line is a row", message)
    assert pasted
    parsed = [OverridesParser.create().parse_override(word) for word in shlex.split(pasted[1])]
    names = {override.key_or_group.removeprefix("data.column_map."): override.value() for override in parsed}
    assert names == {"text": "Äußerung (de)", "label": "Absicht"}
    assert read("a.csv", content, column_map=names)[0] == ("mach das Licht an", "an")


@pytest.mark.parametrize(
    ("content", "encoding"), [("text,label\nolé,x\n", "cp1252"), ("text,label\nolé,x\n", "utf-16-le")]
)
def test_other_encodings_are_told_the_command_that_converts_them(content: str, encoding: str) -> None:
    message = refusal("a.csv", content.encode(encoding))
    subprocess.run(["bash", "-c", message.split("convert it: ")[1]], check=True)
    assert load("a-utf8.csv")["text"][:] == ["olé"]
