"""Loaders and the split rule: cells stay as they are written, or are an error with file and line."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from voicecommand.data.sources.file import load_files
from voicecommand.data.sources.hub import load_hub
from voicecommand.data.splits import SplitRule, fill_missing
from voicecommand.data.text import normalise
from voicecommand.errors import InputError

COLUMNS = ("text", "label")
WHOLE = {"validation": 0, "test": 0}
# Cells that type-guessing readers turn into nulls, numbers and booleans.
TRICKY = [
    "None",
    "NA",
    "nan",
    "null",
    "007",
    "1e3",
    "yes",
    "no",
    "True",
    "",
    " padded ",
    'a "quoted", cell',
    "héllo",
]


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str | bytes) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return name


def load(path: str | None, columns: tuple[str, ...] = COLUMNS, **settings: Any) -> Any:
    return load_files(columns, path=path, **{"split": WHOLE, **settings})


def write_rows(name: str, rows: list[dict[str, str]]) -> str:
    suffix = Path(name).suffix
    if suffix == ".jsonl":
        return write(name, "".join(json.dumps(row) + "\n" for row in rows))
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), name)
        return name
    with open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return name


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_cell_stays_as_it_was_written(suffix: str) -> None:
    rows = [{"text": cell, "label": cell} for cell in TRICKY]
    train = load(write_rows(f"mine{suffix}", rows))["train"]
    assert train["text"][:] == TRICKY
    assert train["label"][:] == TRICKY


@pytest.mark.parametrize(("suffix", "first"), [(".csv", 2), (".tsv", 2), (".jsonl", 1), (".parquet", 1)])
def test_a_row_knows_its_file_and_line(suffix: str, first: int) -> None:
    train = load(write_rows(f"mine{suffix}", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]))["train"]
    assert train["origin"][:] == [f"mine{suffix}:{first}", f"mine{suffix}:{first + 1}"]
    assert train["id"][:] == [f"mine-{first}", f"mine-{first + 1}"]


def test_the_line_of_a_csv_row_counts_line_breaks_within_cells() -> None:
    train = load(write("a.csv", 'text,label\r\n"one\r\ntwo",x\r\nthree,y\r\n\r\n'))["train"]
    assert train["text"][:] == ["one\r\ntwo", "three"]
    assert train["origin"][:] == ["a.csv:2", "a.csv:4"]


def test_a_line_separator_within_a_json_text_is_not_a_new_line() -> None:
    train = load(write("a.jsonl", '{"text": "a\u2028b", "label": "x"}\n{"text": "c", "label": "y"}'))["train"]
    assert train["text"][:] == ["a\u2028b", "c"]


def test_a_byte_order_mark_is_not_part_of_the_first_column() -> None:
    assert load(write("a.csv", b"\xef\xbb\xbftext,label\na,x\n"))["train"]["text"][:] == ["a"]


def test_whole_numbers_in_json_are_labels_by_their_digits() -> None:
    assert load(write("a.jsonl", '{"text": "a", "label": 3}'))["train"]["label"][:] == ["3"]


def test_a_parquet_category_is_read_as_its_text() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array(["x", "y"]).dictionary_encode()
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.large_string()), "label": column}), "a.parquet")
    assert load("a.parquet")["train"]["label"][:] == ["x", "y"]


def test_columns_are_mapped_and_groups_and_ids_are_kept() -> None:
    file = write("a.csv", "utterance,intent,who,id,other\na,x,anna,7,z\n")
    names = {"text": "utterance", "label": "intent", "speaker": "who", "response": None}
    train = load(file, column_map=names)["train"]
    assert train[0] == {"id": "7", "origin": "a.csv:2", "text": "a", "label": "x", "speaker": "anna"}


def test_a_directory_gives_the_splits_that_its_files_are_named_by(caplog: pytest.LogCaptureFixture) -> None:
    write("d/train.jsonl", '{"text": "a", "label": "x"}')
    write("d/validation.csv", "text,label\nb,x\n")
    write("d/out_of_scope_test.tsv", "text\nc\n")
    write("d/README.md", "no data")
    write("d/notes.csv", "nor this")
    data = load("d")
    assert {name: rows["text"][:] for name, rows in data.items()} == {
        "train": ["a"],
        "validation": ["b"],
        "out_of_scope_test": ["c"],
    }
    assert data["out_of_scope_test"][0] == {
        "id": "out_of_scope_test-2",
        "origin": "d/out_of_scope_test.tsv:2",
        "text": "c",
        "label": "out_of_scope",
    }
    assert "d/notes.csv" in caplog.text


def test_files_are_given_one_a_split_and_evaluation_needs_no_train() -> None:
    file = write("later.csv", "text,label\na,x\n")
    data = load_files(COLUMNS, files={"train": None, "test": file})
    assert list(data) == ["test"]
    assert data["test"]["id"][:] == ["later-2"]


def test_a_single_file_named_by_a_split_is_that_split() -> None:
    assert list(load_files(COLUMNS, path=write("d/test.csv", "text,label\na,x\n"))) == ["test"]


def test_a_split_column_names_the_split_of_each_row() -> None:
    file = write("a.csv", "text,label,fold\na,x,train\nb,x,test\nc,y,train\nd,z,out_of_scope_test\n")
    data = load(file, split={**WHOLE, "column": "fold"})
    assert {name: rows["text"][:] for name, rows in data.items()} == {
        "train": ["a", "c"],
        "test": ["b"],
        "out_of_scope_test": ["d"],
    }
    assert data["out_of_scope_test"]["label"][:] == ["out_of_scope"]
    assert data["train"].column_names == ["id", "origin", "text", "label"]


def many(count: int) -> list[dict[str, str]]:
    return [{"text": f"command {i}", "label": str(i % 3), "speaker": f"s{i % 40}"} for i in range(count)]


def splits_of(data: Any) -> dict[str, str]:
    return {text: name for name, rows in data.items() for text in rows["text"][:]}


def test_missing_splits_come_out_of_train_in_the_declared_shares() -> None:
    data = load_files(COLUMNS, path=write_rows("a.jsonl", many(4000)))
    assert len(splits_of(data)) == 4000
    assert len(data["validation"]) / 4000 == pytest.approx(0.1, abs=0.02)
    assert len(data["test"]) / 4000 == pytest.approx(0.2, abs=0.02)


def test_rows_that_are_added_or_shuffled_move_no_other_row() -> None:
    before = splits_of(load_files(COLUMNS, path=write_rows("a.jsonl", many(200))))
    after = splits_of(load_files(COLUMNS, path=write_rows("b.csv", many(300)[::-1])))
    assert {text: after[text] for text in before} == before


def test_the_split_of_a_text_is_the_same_forever() -> None:
    wanted = {
        "Turn on the lights!": "test",
        "call mum": "train",
        "B": "validation",
        "c": "test",
        "stop": "train",
    }
    # other texts, so many that no label asks for more of it in a split
    rows = [{"text": text, "label": "0", "speaker": "s"} for text in wanted] + many(200)
    found = splits_of(load_files(COLUMNS, path=write_rows("a.jsonl", rows), split={"by": "text"}))
    assert {text: found[text] for text in wanted} == wanted


def test_spellings_of_one_sentence_share_a_split_and_other_sentences_do_not() -> None:
    assert normalise("Turn  ON, the light!") == normalise("turn on the light") == "turn on the light"
    assert normalise("ＯＮ") == "on"
    assert normalise("?!") != normalise("...")
    assert normalise("👍") != normalise("👎") and normalise("❤️") == normalise("❤") != normalise("☎️")
    assert normalise("की") != normalise("के"), "vowel signs are no punctuation"
    assert normalise(" \u200b\t") == ""


def test_a_given_test_split_leaves_its_share_in_train() -> None:
    rows = many(400)
    write_rows("d1.jsonl", rows)
    both = splits_of(load_files(COLUMNS, path="d1.jsonl"))
    os.mkdir("d")
    write_rows("d/train.jsonl", rows)
    write("d/test.jsonl", '{"text": "another", "label": "0"}')
    data = load_files(COLUMNS, path="d")
    assert data["test"]["text"][:] == ["another"]
    assert set(data["validation"]["text"]) == {text for text, name in both.items() if name == "validation"}


def test_a_group_stays_on_one_side_when_the_split_is_by_group() -> None:
    data = load_files(COLUMNS, path=write_rows("a.csv", many(400)), split={"by": "speaker"})
    speakers = [set(rows["speaker"]) for rows in data.values()]
    assert len(data) == 3 and sum(map(len, speakers)) == len(set.union(*speakers)) == 40


def test_any_column_can_decide_the_split_without_being_kept() -> None:
    rows = [{"text": str(i), "label": "x", "household": f"h{i % 20}"} for i in range(100)]
    data = load_files(COLUMNS, path=write_rows("a.csv", rows), split={"by": "household"})
    houses = [{int(text) % 20 for text in part["text"]} for part in data.values()]
    assert len(data) == 3 and sum(map(len, houses)) == 20
    assert "household" not in data["train"].column_names


def test_a_share_of_zero_makes_no_split() -> None:
    assert list(load_files(COLUMNS, path=write_rows("a.csv", many(50)), split={"test": 0})) == [
        "train",
        "validation",
    ]


OK = "text,label\na,x\n"
BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "too many cells": ("a.csv", "text,label\na,x\nb,y,z\n", r"a\.csv:3: 3 cells where the header has 2"),
    "too few cells": ("a.csv", "text,label\nb\n", r"a\.csv:2: 1 cells"),
    "a cell too many after a cell of two lines": ("a.csv", 'text,label\n"a\nb",x\nc\n', r"a\.csv:4: 1 cells"),
    "a blank line between rows": ("a.csv", "text,label\na,x\n\nb,y\n", r"a\.csv:3: a blank line"),
    "an open quote": ("a.csv", 'text,label\na,x\n"b,y\nc,z\n', r"a\.csv:3: .*quote"),
    "a quote within a quoted cell": (
        "a.csv",
        'text,label\n"so" he said,x\n',
        r"a\.csv:2: .*expected after",
    ),
    "a header that names a column twice": (
        "a.csv",
        "text,label,text\na,x,b\n",
        r"a\.csv:1: the header names 'text' twice",
    ),
    "a misspelt column": (
        "a.csv",
        "texts,label\na,x\n",
        r"no column 'text' .*'texts', 'label': .*column_map\.text=texts",
    ),
    "a missing column": ("a.csv", "text,other\na,x\n", r"no column 'label' .*data\.column_map\.label=NAME"),
    "no rows": ("a.csv", "text,label\n", r"a\.csv: no rows"),
    "an empty file": ("a.csv", "", r"a\.csv: the file is empty"),
    "a byte order mark only": ("a.jsonl", b"\xef\xbb\xbf\n", r"a\.jsonl: the file is empty"),
    "Latin-1": ("a.csv", "text,label\na,x\ncafé,y\n".encode("latin-1"), r"a\.csv:3: byte 0xe9 is not UTF-8"),
    "UTF-16 without a mark": ("a.csv", OK.encode("utf-16-le"), r"a\.csv:1: NUL bytes; .*iconv -f UTF-16LE"),
    "UTF-16 cut within a character": ("a.csv", OK.encode("utf-16")[:-1], r"a\.csv: begins as UTF-16"),
    "a NUL byte": ("a.jsonl", b'{"text": "a", "label": "x"}\n\0\n', r"a\.jsonl:2: a NUL byte"),
    "invalid JSON": ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
    "a JSON list of objects": (
        "a.jsonl",
        '[{"text": "a", "label": "x"}]',
        r"a\.jsonl:1: not a JSON object; one object a line",
    ),
    "a blank JSON line": (
        "a.jsonl",
        '{"text": "a", "label": "x"}\n\n{"text": "a", "label": "x"}',
        r"a\.jsonl:2: a blank line",
    ),
    "a JSON field twice": (
        "a.jsonl",
        '{"text": "a", "label": "x", "text": "b"}\n',
        r"a\.jsonl:1: the field 'text' is there twice",
    ),
    "a field that one row lacks": (
        "a.jsonl",
        '{"text": "a", "label": "x"}\n{"txt": "b", "label": "y"}',
        r"a\.jsonl:2: no field 'text' \(it has 'txt', 'label'\)",
    ),
    "a null text": ("a.jsonl", '{"text": null, "label": "x"}', r"a\.jsonl:1: 'text' is null, not a text"),
    "a null label": ("a.jsonl", '{"text": "a", "label": null}', r"a\.jsonl:1: 'label' is null"),
    "a number for a text": ("a.jsonl", '{"text": 5, "label": "x"}', r"a\.jsonl:1: 'text' is the number 5"),
    "a boolean label": ("a.jsonl", '{"text": "a", "label": true}', r"a\.jsonl:1: 'label' is true"),
    "a fraction for a label": (
        "a.jsonl",
        '{"text": "a", "label": 1.0}',
        r"a\.jsonl:1: 'label' is the number 1\.0",
    ),
    "a list for a label": ("a.jsonl", '{"text": "a", "label": ["x"]}', r"a\.jsonl:1: 'label' is a list"),
    "half a surrogate pair": ("a.jsonl", '{"text": "\\ud83d", "label": "x"}', r"a\.jsonl:1: .*surrogate"),
    "an id twice": ("a.csv", "id,text,label\n1,a,x\n1,b,y\n", r"a\.csv:3: the id '1' is also that of row 2"),
    "an empty id": ("a.csv", "id,text,label\n,a,x\n", r"a\.csv:2: the id is empty"),
    "a text that is called Parquet": ("a.parquet", OK, r"a\.parquet: not a whole Parquet file"),
    "an unknown ending": ("a.xlsx", "PK", r"a\.xlsx: files named \.xlsx are not read"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(case: str) -> None:
    name, content, message = BAD_FILES[case]
    with pytest.raises(InputError, match=message) as caught:
        load(write(name, content))
    assert "\n" not in str(caught.value)


def test_five_bad_rows_are_named_and_all_are_counted() -> None:
    file = write("a.csv", "text,label\n" + "b\n" * 7)
    with pytest.raises(InputError, match=r"^7 bad rows, none is dropped: a\.csv:2: .*a\.csv:6: [^;]*; and 2 more$"):
        load(file)


def test_a_null_in_parquet_is_refused_by_its_row() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", None], "label": ["x", "y"]}), "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet:2: 'text' is null"):
        load("a.parquet")


def test_a_parquet_file_cut_short_is_refused() -> None:
    data = Path(write_rows("a.parquet", many(100))).read_bytes()
    with pytest.raises(InputError, match=r"b\.parquet: not a whole Parquet file"):
        load(write("b.parquet", data[: len(data) // 2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"no data given: data\.path=FILE"),
        ({"path": "mine.csv", "files": {"test": "a.csv"}}, r"data\.path=mine\.csv .*\.test are both given"),
        ({"path": "mina.csv"}, r"mina\.csv: no such file or directory; did you mean mine\.csv"),
        ({"files": {"dev": "mine.csv"}}, r"data\.files\.dev: no such split"),
        ({"files": {"train": "folder.csv"}}, r"folder\.csv: a directory, where a file is needed"),
        ({"path": "pipe.csv"}, r"pipe\.csv: a pipe"),
        ({"path": "m" * 300 + ".csv"}, r"m\.csv: cannot be read: .*too long"),
        ({"path": "empty"}, r"empty: no file named by its split .*there is nothing"),
        ({"path": "dev"}, r"dev/dev\.csv and dev/val\.csv are both validation: keep one"),
        ({"path": "trian"}, r"trian/trian\.csv: no split has this name; rename it to train\.csv"),
        ({"path": "twice"}, r"twice/train\.csv and twice/train\.jsonl are both train"),
        ({"path": "mine.csv", "split": {"by": "speaker"}}, r"data\.split\.by=speaker: no such column"),
        ({"path": "groups.csv", "split": {"by": "speaker"}}, r"groups\.csv:3: speaker is empty"),
        ({"path": "mine.csv", "split": {"test": "much"}}, r"data\.split\.test='much' must be a share"),
        ({"path": "mine.csv", "split": {"test": 20}}, r"data\.split\.test=20 must be a share"),
        ({"path": "mine.csv", "split": {"test": 0.5, "validation": 0.5}}, r"leave nothing to train on"),
        ({"path": "mine.csv", "split": {"column": "labels"}}, r"did you mean data\.split\.column=label$"),
        ({"path": "mine.csv", "split": {"column": "label"}}, r"mine\.csv:2: label is 'x'; the splits are"),
        ({"path": "twins", "split": {"column": "fold"}}, r"data\.split\.column=fold is for a single file"),
        ({"path": "mine.csv", "column_map": {"labels": "x"}}, r"column_map\.labels: no such column is read"),
        ({"path": "mine.csv", "column_map": {"speaker": "who"}}, r"mine\.csv: no column 'who' for speaker"),
    ],
)  # fmt: skip
def test_a_wrong_setting_names_its_key(settings: dict[str, Any], message: str) -> None:
    write("mine.csv", OK)
    write("groups.csv", "text,label,speaker\na,x,anna\nb,x,\n")
    write("dev/train.csv", OK)
    write("dev/dev.csv", OK)
    write("dev/val.csv", OK)
    write("trian/trian.csv", OK)
    write("twice/train.csv", OK)
    write("twice/train.jsonl", '{"text": "a", "label": "x"}')
    write("twins/train.csv", OK)
    write("twins/test.csv", OK)
    for name in ("empty", "folder.csv"):
        os.mkdir(name)
    os.mkfifo("pipe.csv")
    with pytest.raises(InputError, match=message) as caught:
        load_files(COLUMNS, **settings)
    assert "\n" not in str(caught.value)


def test_what_may_not_be_read_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = _answer(PermissionError(errno.EACCES, "Permission denied"))
    write("d/train.csv", OK)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"d/train\.csv: cannot be read: Permission denied"):
        load("d")
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=r"d: cannot be listed: Permission denied"):
        load("d")


def test_filling_missing_splits_keeps_the_others_untouched() -> None:
    given = {"test": {"text": ["a"], "origin": ["f:1"]}}
    assert fill_missing(given, SplitRule()) is given


@pytest.fixture
def hub_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set as `save`d for the hub: Parquet files with a ClassLabel, and a split called heldout."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "intent": datasets.ClassLabel(names=["off", "on"])}
    )
    for name, size in {"train": 30, "heldout": 2}.items():
        rows = {"sentence": [f"{name} {i}" for i in range(size)], "intent": [i % 2 for i in range(size)]}
        target = tmp_path / "set" / "data" / f"{name}-00000-of-00001.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(target))
    files = "".join(f"  - {{split: {name}, path: data/{name}-*}}\n" for name in ("train", "heldout"))
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    return str(tmp_path / "set")


NAMES = {"text": "sentence", "label": "intent"}


def test_hub_data_comes_in_the_same_shape_with_label_names(hub_directory: str) -> None:
    data = load_hub(COLUMNS, path=hub_directory, column_map=NAMES, splits={"validation": "heldout"}, split=WHOLE)
    assert data["validation"]["text"][:] == ["heldout 0", "heldout 1"]
    assert data["validation"]["label"][:] == ["off", "on"]
    assert data["validation"]["origin"][:] == [f"{hub_directory}@main/heldout:{i}" for i in (0, 1)]
    assert len(data["train"]) == 30


def test_splits_that_the_hub_lacks_come_from_the_same_rule(hub_directory: str) -> None:
    data = load_hub(COLUMNS, path=hub_directory, column_map=NAMES)
    train = {name: [f"train {i}" for i in range(30)] for name in ("id", "origin", "text")}
    wanted = fill_missing({"train": train | {"label": ["off", "on"] * 15}}, SplitRule())
    assert data["test"]["text"][:] == wanted["test"]["text"] and len(wanted["test"]["text"]) > 0


def write_hub(directory: Path, rows: dict[str, list[Any]], features: Any) -> str:
    """As `datasets` saves it, which itself would encode the audio by torchcodec."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = directory / "sounds" / "train.parquet"
    target.parent.mkdir()
    pq.write_table(pa.Table.from_pydict(rows, schema=features.arrow_schema), target)
    return str(target.parent)


def test_hub_sound_is_written_once_undecoded_under_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    there = write("there.wav", b"a recording of its own")
    features = datasets.Features(
        {"clip": datasets.Audio(), "other": datasets.Audio(), "label": datasets.Value("string")}
    )
    sounds = [{"bytes": b"not audio, and never decoded", "path": "a.FLAC"}, {"bytes": b"second", "path": None}]
    rows = [*sounds, sounds[0], {"bytes": None, "path": there}]
    directory = write_hub(tmp_path, {"clip": rows, "other": rows, "label": ["x"] * 4}, features)
    columns, names = ("audio", "label"), {"audio": "clip"}
    train = load_hub(columns, path=directory, column_map=names, split=WHOLE)["train"]
    first, second, third, fourth = train["audio"][:]
    assert Path(first).read_bytes() == sounds[0]["bytes"] and first == third and fourth == there
    digest = hashlib.sha256(b"not audio, and never decoded").hexdigest()
    assert first == f"{tmp_path}/cache/voicecommand/hub/{digest[:2]}/{digest}.flac"
    assert Path(second).read_bytes() == b"second" and Path(second).suffix == ""
    assert train["origin"][1] == f"{directory}@main/train:1" and set(train.column_names) == {"id", "origin", *columns}
    written = Path(first).stat().st_mtime_ns
    load_hub(columns, path=directory, column_map=names, split=WHOLE)
    assert Path(first).stat().st_mtime_ns == written


def test_hub_text_beside_sound_is_read_without_decoding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"clip": datasets.Audio(), "text": datasets.Value("string"), "label": datasets.Value("string")}
    )
    rows = {"clip": [{"bytes": b"no audio", "path": None}], "text": ["a"], "label": ["x"]}
    assert load_hub(COLUMNS, path=write_hub(tmp_path, rows, features), split=WHOLE)["train"]["text"][:] == ["a"]


def test_paths_of_sound_are_taken_from_a_directory_and_stay_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from voicecommand.data.sources import hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features({name: datasets.Value("string") for name in ("audio", "label")})
    directory = Path(write_hub(tmp_path, {"audio": ["a.wav"], "label": ["x"]}, features))
    (directory / "a.wav").write_bytes(b"a recording")
    assert load_hub(("audio", "label"), path=str(directory), split=WHOLE)["train"]["audio"][:] == [
        str(directory / "a.wav")
    ]
    (tmp_path / "out.wav").write_bytes(b"not theirs")
    for name, problem in (("../out.wav", "leaves the folder"), (str(tmp_path / "out.wav"), "is an absolute path")):
        rows = datasets.DatasetDict(train=datasets.Dataset.from_dict({"audio": [name], "label": ["x"]}, features))
        monkeypatch.setattr(hub, "_fetch", lambda *_, rows=rows: rows)
        with pytest.raises(InputError, match=rf"train:0: '{re.escape(name)}' {problem}"):
            load_hub(("audio", "label"), path=str(directory), split=WHOLE)
    with pytest.raises(InputError, match="'audio' holds paths, and the hub has no files for them"):
        load_hub(("audio", "label"), path="someone/some", revision="abc", split=WHOLE)


@pytest.mark.parametrize(
    ("column", "message"),
    [([None], r"@main/train:0: 'audio' is null"), ([3.5], r"'audio' holds Value\('float64'\), not audio")],
)
def test_hub_columns_that_hold_no_sound_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: list[Any], message: str
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    feature = datasets.Audio(decode=False) if column == [None] else datasets.Value("float64")
    features = datasets.Features({"audio": feature, "label": datasets.Value("string")})
    with pytest.raises(InputError, match=message):
        load_hub(("audio", "label"), path=write_hub(tmp_path, {"audio": column, "label": ["x"]}, features), split=WHOLE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            r"no column 'text' for text and no column 'label' for label; the columns there are 'sentence', 'intent': "
            r"did you mean data\.column_map\.text=sentence data\.column_map\.label=intent$",
        ),
        ({"splits": {"test": "tests"}}, r"data\.splits\.test=tests: .* has the splits 'train', 'heldout'"),
        ({"splits": {"dev": "train"}}, r"data\.splits\.dev: no such split"),
        ({"name": "french"}, r"configuration french: cannot be loaded: .*not found"),
        ({"revision": 12}, r"data\.revision=12 was read as a number"),
    ],
)
def test_a_wrong_hub_setting_names_its_key(hub_directory: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_hub(COLUMNS, path=hub_directory, **settings)
    assert "\n" not in str(caught.value)


def test_a_missing_class_label_is_refused_by_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["off", "on"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=rows))
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}@abc/train:1: 'label' is null")):
        load_hub(COLUMNS, path=str(tmp_path), revision="abc")


def test_hub_data_with_none_of_our_splits_says_which_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(full=rows))
    with pytest.raises(InputError, match=r"none of its splits 'full' is named .*data\.splits\.train=NAME"):
        load_hub(COLUMNS, path=str(tmp_path))


def _answer(error: Exception) -> Any:
    def ask(*_: Any, **__: Any) -> Any:
        raise error

    return ask


def hub_error(kind: str) -> Exception:
    import datasets
    from huggingface_hub import errors

    classes = {
        "revision": errors.RevisionNotFoundError,
        "repository": errors.RepositoryNotFoundError,
        "data set": datasets.exceptions.DatasetNotFoundError,
        "script": RuntimeError,
        "connection": OSError,
    }
    # Made without __init__: the hub's errors want a response of whatever HTTP library it uses.
    return classes[kind].__new__(classes[kind], f"no\nsuch {kind}")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("revision", r"data set someone/some, revision abc: the hub has no such revision"),
        ("repository", r"the hub has no such data set, .*data=file data\.path=FILE"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", _answer(hub_error(kind)))
    with pytest.raises(InputError, match=message) as caught:
        load_hub(COLUMNS, path="someone/some", revision="abc")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("data set", r"the hub has no such data set"),
        ("script", r"cannot be loaded: no such script; data=file"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", _answer(hub_error(kind)))
    with pytest.raises(InputError, match=message) as caught:
        load_hub(COLUMNS, path=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_not_the_hubs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", _answer(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        load_hub(COLUMNS, path=str(tmp_path))


def test_a_hub_out_of_reach_is_asked_once_and_files_are_named_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", _answer(hub_error("connection")))
    with pytest.raises(InputError, match=r"the hub cannot be reached.*data=file data\.path=FILE"):
        load_hub(COLUMNS, path="someone/some")
    assert constants.HF_HUB_OFFLINE is False
