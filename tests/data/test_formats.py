"""Rasa's YAML, CLINC150's JSON, class labels of Parquet, shards of the hub, and other names of splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voicecommand.data.sources.file import load_files
from voicecommand.data.sources.hub import load_hub
from voicecommand.errors import InputError

COLUMNS = ("text", "label")
WHOLE = {"validation": 0, "test": 0}


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def load(name: str, content: str, **settings: Any) -> dict[str, list[tuple[str, str, str]]]:
    """Split -> (origin, text, label) of the rows of a file with this content."""
    Path(name).write_text(content, encoding="utf-8")
    data = load_files(COLUMNS, path=name, **{"split": WHOLE, **settings})
    return {split: list(zip(*(rows[c][:] for c in ("origin", *COLUMNS)), strict=True)) for split, rows in data.items()}


NLU = """version: "3.1"
nlu:
- intent: greet
  examples: |
    - hey [there](person)

    - I fly from [Berlin]{"entity": "city", "role": "from"} to [NY](city:New York)
- intent: faq/opening_hours
  examples:
  - text: |
      when do you open
    metadata: {sentiment: neutral}
  - text: |
      open [today][{"entity": "day"}, {"entity": "date"}]
- intent: 01
  examples: |
    - never mind
- synonym: credit
  examples: |
    - card
- lookup: banks
  examples: |
    - a bank
- regex: number
  examples: |
    - \\d+
responses:
  utter: hello
"""


def test_the_examples_of_rasas_intents_are_read_without_annotations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert load("nlu.yml", NLU)["train"] == [
        ("nlu.yml:5", "hey there", "greet"),
        ("nlu.yml:7", "I fly from Berlin to NY", "greet"),
        ("nlu.yml:10", "when do you open", "faq/opening_hours"),
        ("nlu.yml:13", "open today", "faq/opening_hours"),
        ("nlu.yml:17", "never mind", "01"),
    ]
    assert "4 annotations of entities became their plain text" in caplog.text
    assert (
        "passed over, because only the examples of intents are read: 1 synonym, 1 lookup, 1 regex, responses"
        in caplog.text
    )


HEAD = "nlu:\n- intent: greet\n  examples: |\n    - hey\n"
BAD_YAML = {
    "a line that is no example": (HEAD + "    you\n", r"a\.yml:5: an example begins with '- ': 'you'"),
    "an intent without examples": ("nlu:\n- intent: greet\n", r"a\.yml:2: no `examples: \|`"),
    "an empty block of examples": ("nlu:\n- intent: greet\n  examples: |\n", r"a\.yml:2: the intent 'greet' has no"),
    "folded examples": (HEAD.replace("|", ">"), r"a\.yml:2: no `examples: \|`"),
    "an unknown item": (HEAD + "- intents: x\n", r"a\.yml:5: an item without `intent:`; it has 'intents'"),
    "an intent named twice": (HEAD.replace("greet", "greet\n  intent: bye"), r"a\.yml:3: `intent:` is there twice"),
    "no list of intents": ("intents:\n- greet\n", r"a\.yml: no section `nlu:`"),
    "another YAML": ("a: [1\n", r"a\.yml:2: not YAML that can be read"),
    "a control character": ("nlu: \x01\n", r"a\.yml: not YAML that can be read: unacceptable character"),
    "an alias": ("a: &a [x, x]\nb: &b [*a, *a]\nnlu: *b\n", r"a\.yml:2: .*an alias"),
    "a key that is a list": (HEAD + "? [a]\n: b\n", r"a\.yml:5: a key that is no word"),
    "an object of Python": (
        "nlu: !!python/object/apply:os.system [touch bad]\n",
        r"a\.yml:1: an item without `intent:`",
    ),
    "nested flow": ("nlu: " + "[" * 500 + "]" * 500, r"a\.yml:1: .*nested deeper than 32 levels"),
    "nested blocks": ("".join(" " * i + "a:\n" for i in range(2000)), r"a\.yml:32: .*nested deeper"),
}


def test_a_text_of_many_brackets_is_read_at_once() -> None:
    import time

    start = time.perf_counter()
    for brackets in ("[" * 50_000, "[a][{" * 10_000):
        assert load("a.yml", HEAD + f"    - {brackets}\n")["train"][1][1] == brackets
    assert time.perf_counter() - start < 10, "the time grows with the square of the length"


@pytest.mark.parametrize("case", BAD_YAML)
def test_bad_or_hostile_yaml_is_refused_in_one_line(case: str) -> None:
    content, message = BAD_YAML[case]
    with pytest.raises(InputError, match=message) as caught:
        load("a.yml", content)
    assert "\n" not in str(caught.value) and not Path("bad").exists()


def test_the_splits_of_clinc150_are_read_and_what_is_out_of_scope_is_kept_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pairs = {
        "oos_val": [["what is love", "oos"]], "val": [["hi", "greet"]], "train": [["hello", "greet"], ["bye", "leave"]],
        "oos_test": [["who won", "oos"]], "test": [["ciao", "leave"]], "oos_train": [["why", "oos"]] * 3,
    }  # fmt: skip
    assert load("data_full.json", json.dumps(pairs)) == {
        "train": [("data_full.json/train:0", "hello", "greet"), ("data_full.json/train:1", "bye", "leave")],
        "validation": [("data_full.json/val:0", "hi", "greet")],
        "test": [("data_full.json/test:0", "ciao", "leave")],
        "out_of_scope_validation": [("data_full.json/oos_val:0", "what is love", "out_of_scope")],
        "out_of_scope_test": [("data_full.json/oos_test:0", "who won", "out_of_scope")],
    }
    assert "oos_train is not read, 3 rows: nothing out of scope is trained on" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a", "label": "x"}, {"text": "b", "label": 1}]',
        '[["a", "x"], ["b", 1]]',
        '{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n',
    ],
)
def test_other_forms_of_json_are_rows_of_train(content: str) -> None:
    assert [row[1:] for row in load("a.json", content)["train"]] == [("a", "x"), ("b", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"a\.json: rows are needed"),
        ("3", r"a\.json: rows are needed, .* there is 3"),
        ('{"text": "a"}', r"a\.json: rows are needed, .* there is an object of 'text'"),
        ("[]", r"a\.json: no rows"),
        ('{"train": [["a"]]}', r"a\.json/train:0: neither an object nor a pair"),
        ('{"train": [["a", "x"], ["a", null]]}', r"a\.json/train:1: 'label' is null"),
        ('{"val": [["a", "x"]], "dev": [["a", "x"]]}', r"a\.json: 'val' and 'dev' both mean validation"),
        ('{"train": [["a", "x"]],\n "train": []}', r"a\.json: the field 'train' is there twice"),
        ('[\n{"text": "a",}]', r"a\.json:2: not JSON"),
        ("[" * 100_000, r"a\.json: not JSON that can be read"),
    ],
)
def test_bad_json_is_refused_in_one_line(content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load("a.json", content)
    assert "\n" not in str(caught.value)


def test_a_file_of_several_splits_is_not_taken_for_one() -> None:
    Path("a.json").write_text('{"train": [["a", "x"]], "test": [["a", "x"]]}')
    with pytest.raises(
        InputError, match=r"a\.json: holds the splits 'train', 'test': data\.path=a\.json reads them all"
    ):
        load_files(COLUMNS, files={"test": "a.json"})


def write_class_labels(path: str, labels: list[int | None], **others: list[str]) -> None:
    import datasets

    features = {name: datasets.Value("string") for name in ("text", *others)}
    rows = {"text": [f"row {i}" for i in range(len(labels))], "label": labels, **others}
    features = datasets.Features({**features, "label": datasets.ClassLabel(names=["off", "on"])})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)


def test_class_labels_of_parquet_keep_their_names() -> None:
    write_class_labels("a.parquet", [1, 0])
    assert load_files(COLUMNS, path="a.parquet", split=WHOLE)["train"]["label"][:] == ["on", "off"]
    write_class_labels("a.parquet", [1, -1])
    with pytest.raises(InputError, match=r"a\.parquet:2: 'label' is null"):
        load_files(COLUMNS, path="a.parquet", split=WHOLE)


def test_numbers_as_labels_stay_as_they_are_written() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert [row[2] for row in load("a.csv", "text,label\na,01\nb,1\nc,1.0\n")["train"]] == ["01", "1", "1.0"]
    pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array([1, 2], pa.int8())}), "i.parquet")
    assert load_files(COLUMNS, path="i.parquet", split=WHOLE)["train"]["label"][:] == ["1", "2"]
    pq.write_table(pa.table({"text": ["a"], "label": [1.0]}), "f.parquet")
    with pytest.raises(InputError, match=r"'label' is the number 1\.0, not a text; write labels as texts or whole"):
        load_files(COLUMNS, path="f.parquet", split=WHOLE)


def test_a_part_of_a_hub_data_set_names_the_command_that_reads_all_of_it() -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "dev-00000-of-00001"):
        write_class_labels(f"set/data/{name}.parquet", [1, 0])
    shard = "set/data/train-00000-of-00002.parquet"
    for settings in ({"path": "set"}, {"path": "set/data"}, {"path": shard}, {"files": {"train": shard}}):
        with pytest.raises(InputError, match=r"set/data/.*: a part of .*: data=hub data\.path=set reads all its parts"):
            load_files(COLUMNS, **settings)
    data = load_hub(COLUMNS, path="set", split=WHOLE)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 4, "validation": 2}
    whole = load_files(COLUMNS, files={"test": "set/data/dev-00000-of-00001.parquet"})
    assert len(whole["test"]) == 2


def test_other_names_of_splits_are_understood_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    row = "text,label\na,x\n"
    for name in ("Training.csv", "dev.csv", "testing.csv", "oos_test.csv"):
        Path("d").mkdir(exist_ok=True)
        Path("d", name).write_text(row)
    assert list(load_files(COLUMNS, path="d")) == ["train", "validation", "test", "out_of_scope_test"]
    assert list(load_files(COLUMNS, path="d/dev.csv")) == ["validation"]
    part = load("a.csv", "text,label,part\na,x,Train\nb,x,val\nc,y,TRAIN\n", split={**WHOLE, "column": "part"})
    assert {name: [row[1] for row in rows] for name, rows in part.items()} == {"train": ["a", "c"], "validation": ["b"]}


def test_a_column_with_two_names_of_one_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.csv, column part: 'dev' and 'val' both mean validation: use one name"):
        load("a.csv", "text,label,part\na,x,dev\nb,x,val\n", split={**WHOLE, "column": "part"})


def test_two_splits_of_the_hub_that_mean_one_are_chosen_by_the_named_key() -> None:
    for name in ("train", "dev", "validation"):
        write_class_labels(f"set/{name}.parquet", [1, 0])
    Path("set/README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - {{split: {name}, path: {name}.parquet}}\n" for name in ("train", "dev", "validation"))
        + "---\n"
    )
    with pytest.raises(InputError, match=r"both mean validation: choose one by data\.splits\.validation=dev"):
        load_hub(COLUMNS, path="set")
    data = load_hub(COLUMNS, path="set", splits={"validation": "dev"}, split=WHOLE)
    assert data["validation"]["origin"][0] == "set@main/dev:0"
