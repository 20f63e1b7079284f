"""The checks that training and recipes/audit.py share: each problem is found, by row, and nothing else is."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voicecommand import files
from voicecommand.data.audit.findings import check, format_counts, inspect
from voicecommand.data.audit.problem import Findings
from voicecommand.data.audit.twins import find_twins
from voicecommand.data.fingerprint import fingerprint
from voicecommand.data.splits import build
from voicecommand.errors import InputError

COLUMNS = ("text", "label")
ROOT = Path(__file__).parents[2]

Rows = list[tuple[str, ...]]
# Nothing is wrong with it: three rows a label, every label in every split.
CLEAN: dict[str, Rows] = {
    "train": [(f"{word} {thing}", word) for word in ("open", "close") for thing in ("door", "lid", "box")],
    "validation": [("open it", "open"), ("close it", "close")],
    "test": [("open that", "open"), ("close that", "close")],
}


def dataset(splits: dict[str, Rows], columns: tuple[str, ...] = COLUMNS) -> Any:
    return build(
        {
            name: {
                "id": [f"{name}-{row}" for row in range(len(rows))],
                "origin": [f"{name}.csv:{row + 2}" for row in range(len(rows))],
                **{column: [row[i] for row in rows] for i, column in enumerate(columns)},
            }
            for name, rows in splits.items()
        }
    )


def inspect_with(**more: Rows) -> Findings:
    """What is found in CLEAN with further rows, by split."""
    return inspect(dataset({name: CLEAN.get(name, []) + more.get(name, []) for name in (CLEAN | more)}))


def lines(findings: Findings) -> list[tuple[str, str, str]]:
    return [(problem.level, problem.kind, problem.line()) for problem in findings.problems]


def test_clean_data_has_no_problems() -> None:
    assert lines(inspect_with()) == []


LONG = " ".join(f"w{i}" for i in range(65))
# What is added to the clean data -> the only problems: level, kind, a part of the line.
CASES: dict[str, tuple[dict[str, Rows], list[tuple[str, str, str]]]] = {
    "an empty text": (
        {"train": [(" \u200b", "open")]},
        [("error", "empty", "1 empty text(s) in train (train.csv:8)")],
    ),
    "an empty label": (
        {"train": [("a", " "), ("b", " ")], "validation": [("c", " ")], "test": [("d", " ")]},
        [("error", "empty", "2 empty label(s) in train (train.csv:8, train.csv:9)")] + [("error", "empty", "")] * 2,
    ),
    "a null-like text": (
        {"test": [("NaN", "open")]},
        [("warning", "null_like", "1 text(s) in test look like a missing value: 'NaN' (test.csv:4)")],
    ),
    "a paragraph": (
        {"train": [(LONG, "open"), (LONG.removesuffix(" w64"), "open")]},
        [("warning", "over_long", "1 texts in train have more than 64 words (train.csv:8)")],
    ),
    "a repeated text": (
        {"train": [("open door", "open"), ("Open, door!", "open")]},
        [
            (
                "warning",
                "duplicates_within",
                "2 texts in train repeat an earlier one (1 to the letter) (train.csv:8",
            )
        ],
    ),
    "a test text that is in train": (
        {"test": [("open DOOR", "open")]},
        [("warning", "duplicates_across", "(0 of them to the letter) (test.csv:4 = train.csv:2)")],
    ),
    "one text with two labels": (
        {"test": [("open door", "close")]},
        [
            ("warning", "duplicates_across", ""),
            (
                "warning",
                "conflicting_labels",
                "1 texts have more than one label (train.csv:2 open / test.csv:4 close)",
            ),
        ],
    ),
    "a test label that train lacks": (
        {"test": [("open up", "opens")]},
        [
            (
                "error",
                "unknown_label",
                "test has labels that train lacks: 'opens'; did you mean 'open' (test.csv:4)",
            ),
            ("warning", "label_typo", ""),
        ],
    ),
    "a train label that no other split has": (
        {"train": [("stop", "stop"), ("halt", "stop")]},
        [
            ("warning", "absent_label", "1 of 3 train labels have no row in validation: 'stop'"),
            ("warning", "absent_label", "in test"),
        ],
    ),
    "a label with one train row": (
        {"train": [("stop", "stop")], "validation": [("halt", "stop")], "test": [("stop it", "stop")]},
        [
            (
                "warning",
                "rare_label",
                "1 of 3 labels have fewer than 5 train rows, where 3 is usual: 'stop' (1); bring more, or let them "
                "count more by model.class_weights=auto (train.csv:8)",
            )
        ],
    ),
    "labels of which one has twenty times the rows of another": (
        {"train": [(f"open door number {n} of {n * n}", "open") for n in range(57)]},
        [
            ("warning", "rare_label", "1 of 2 labels have fewer than 5 train rows, where 31.5 is usual: 'close' (3)"),
            (
                "warning",
                "uneven_labels",
                "labels are uneven in train: 'open' has 60 rows and 'close' 3; bring more of the rare ones, or let "
                "them count more by model.class_weights=auto",
            ),
        ],
    ),
    "a label in other letters": (
        {split: [(f"{split} a", "Close"), (f"{split} b", "Close")] for split in CLEAN},
        [("warning", "label_typo", "label 'close' may be a misspelling of 'Close'")],
    ),
    "an out-of-scope text that is trained on": (
        {"out_of_scope_test": [("Open door", "out_of_scope"), ("sing", "out_of_scope")]},
        [
            (
                "warning",
                "out_of_scope_in_train",
                "1 texts of out_of_scope_test are also in train, with a label (out",
            )
        ],
    ),
    "the reserved label in train": (
        {split: [(f"{split} a", "out_of_scope"), (f"{split} b", "out_of_scope")] for split in CLEAN},
        [("error", "reserved_label", "2 train rows have the label 'out_of_scope'")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_problem_is_found_by_its_rows_and_nothing_else_is(case: str) -> None:
    more, wanted = CASES[case]
    found = lines(inspect_with(**more))
    assert [line[:2] for line in found] == [line[:2] for line in wanted]
    for (_, _, line), (_, _, part) in zip(found, wanted, strict=True):
        assert part in line


def test_labels_that_are_alike_but_both_common_or_numbered_are_no_slips() -> None:
    labels = ["turn_on"] * 30 + ["turn_off"] * 30 + ["level_1"] * 60 + ["level_2"] * 2 + ["yes", "yet"] * 2
    rows = [(f"text {i}", label) for i, label in enumerate(labels)]
    found = inspect(dataset({"train": rows, "validation": [(f"v{text}", label) for text, label in rows]}))
    assert "label_typo" not in {problem.kind for problem in found.problems}


def test_a_rare_label_a_letter_off_may_be_a_slip() -> None:
    rows = [(f"text {i}", label) for i, label in enumerate(["set_timer"] * 20 + ["set_tmier"] * 2 + ["stop"] * 9)]
    found = inspect(
        dataset({"train": rows, "validation": [(f"v{text}", label) for text, label in rows[:19] + rows[-9:]]})
    )
    assert [problem.kind for problem in found.problems] == ["absent_label", "rare_label", "label_typo"]
    message = "label 'set_tmier' may be a misspelling of 'set_timer' (2 and 39 rows) (train"
    assert found.problems[2].line().startswith(message)


def test_one_label_only_is_an_error() -> None:
    found = inspect(dataset({"train": [("a", "x"), ("b", "x")], "validation": [("c", "x")]}))
    assert lines(found) == [("error", "one_label", "train has one label only, 'x': nothing to tell apart")]


def test_a_missing_or_empty_split_is_an_error_unless_it_is_not_required() -> None:
    found = inspect(dataset({"train": CLEAN["train"], "validation": []}))
    assert lines(found) == [("error", "empty_split", "the validation split has no rows")]
    only_test = dataset({"test": CLEAN["test"]})
    assert [problem.kind for problem in inspect(only_test).problems] == ["missing_split"] * 2
    assert inspect(only_test, required=("test",)).problems == ()


def test_texts_in_place_of_labels_are_noticed() -> None:
    rows = [(str(i % 3), f"what a sentence, number {i:04d}") for i in range(30)]
    assert "many_labels" in {problem.kind for problem in inspect(dataset({"train": rows, "validation": rows})).problems}


def test_a_speaker_on_both_sides_is_a_warning() -> None:
    splits = {
        "train": [("a", "x", "anna"), ("b", "y", "ben"), ("c", "x", "ben"), ("d", "y", "ben")],
        "validation": [("e", "x", "carl"), ("f", "y", "anna")],
    }
    found = inspect(dataset(splits, (*COLUMNS, "speaker")))
    assert [problem.kind for problem in found.problems] == ["shared_group"]
    assert found.problems[0].line().startswith("1 speaker(s) of validation are also in train")
    assert found.problems[0].origins == ("validation.csv:3",)


def test_rows_are_counted_per_label_and_split() -> None:
    found = inspect_with(train=[("open it up", "open")])
    assert found.counts == {
        "train": {"close": 3, "open": 4},
        "validation": {"close": 1, "open": 1},
        "test": {"close": 1, "open": 1},
    }
    assert format_counts(found.counts).splitlines() == [
        "label  train  validation  test",
        "close      3           1     1",
        "open       4           1     1",
        "all        7           2     2",
    ]


def test_training_logs_counts_and_warnings_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check(dataset(CLEAN | {"test": [*CLEAN["test"], ("Open door", "open")]}), COLUMNS)
    assert "data train: 6 rows, 2 labels" in caplog.text
    assert "1 of 3 test texts are also in train" in caplog.text


def test_training_stops_at_errors_with_the_first_and_their_number() -> None:
    bad = dataset({"train": [("", "x"), ("b", "x")], "validation": [("c", "z")]})
    with pytest.raises(
        InputError, match=r"^1 empty text\(s\) in train \(train\.csv:2\) \(and 2 more errors: "
    ) as caught:
        check(bad, COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_problem_with_many_rows_names_five_and_counts_the_rest() -> None:
    (problem,) = inspect_with(train=[("", "open")] * 7).errors
    assert problem.line().endswith("train.csv:12 and 2 more)") and len(problem.origins) == 7


def test_a_task_without_labels_is_checked_for_its_texts_only() -> None:
    rows = dataset({"train": [("a", ""), ("a", "")], "validation": [("b", "")]}, ("text", "response"))
    assert [problem.kind for problem in inspect(rows, ("text",)).problems] == ["duplicates_within"]
    assert [problem.kind for problem in inspect(rows, ("text", "response")).errors] == ["empty"] * 2


def test_the_fingerprint_is_that_of_the_content_alone() -> None:
    data = dataset(CLEAN)
    moved = data.map(lambda row: {"id": "new " + row["id"], "origin": "elsewhere:1"})
    assert fingerprint(moved) == fingerprint(data)
    order = dict(reversed(CLEAN.items()))
    assert fingerprint(dataset(order))["fingerprint"] == fingerprint(data)["fingerprint"]
    changed = dataset(CLEAN | {"test": [("open that", "close"), ("close that", "close")]})
    assert fingerprint(changed)["fingerprint"] != fingerprint(data)["fingerprint"]
    assert fingerprint(changed)["splits"]["train"] == fingerprint(data)["splits"]["train"]
    assert fingerprint(dataset(CLEAN | {"train": CLEAN["train"][::-1]})) != fingerprint(data)


def test_the_fingerprint_is_the_same_forever() -> None:
    split = hashlib.sha256("4:text5:label\n4:héy1:x\n".encode()).hexdigest()
    assert fingerprint(dataset({"train": [("héy", "x")]})) == {
        "fingerprint": hashlib.sha256(f"5:train1:164:{split}\n".encode()).hexdigest(),
        "splits": {"train": {"rows": 1, "sha256": split}},
    }


@pytest.mark.parametrize("column", ["transcript", "response", "slots", "history"])
def test_the_fingerprint_covers_every_column_that_the_task_reads(column: str) -> None:
    columns = ("text", "label", column)
    data, other = (
        dataset({"train": [("open it", "open", value), ("close it", "close", "b")]}, columns) for value in "ax"
    )
    plain = fingerprint(data.remove_columns(column))
    assert fingerprint(data, columns) != fingerprint(other, columns)
    assert fingerprint(data, columns[::-1]) == fingerprint(data, columns)
    assert fingerprint(data, ("text", "label")) == fingerprint(other) == plain, "that of a task that reads labels stays"


def test_the_fingerprint_of_recordings_covers_their_transcripts() -> None:
    said = {name: [f"word {i}" for i in range(len(clips))] for name, clips in CLEAN_SOUND.items()}
    other = said | {"train": [*said["train"][:-1], "another"]}
    read = ("audio", "transcript")
    prints = [fingerprint(sounds(CLEAN_SOUND, transcript=texts, text=texts), read) for texts in (said, other)]
    assert prints[0] != prints[1]
    assert prints[0] == fingerprint(sounds(CLEAN_SOUND, transcript=said), read), "a text that is not read is left out"
    both = [fingerprint(sounds(CLEAN_SOUND, text=texts), ("audio", "text")) for texts in (said, other)]
    assert both[0] != both[1]


def test_fifteen_thousand_rows_are_checked_within_a_second() -> None:
    rows = [(f"please do the thing number {i} in the living room", f"label_{chr(97 + i % 26)}") for i in range(15_000)]
    data = dataset({"train": rows, "validation": rows[:500]})
    start = time.process_time()
    inspect(data)
    fingerprint(data)
    assert time.process_time() - start < 1


SOUND = ("audio", "label")


def voice(seed: int, seconds: float = 1.0) -> Any:
    """Something like a word: bursts of harmonics of a gliding pitch, with pauses, int16 at 16 kHz."""
    draw = np.random.default_rng(seed)
    time_of = np.arange(int(seconds * 16_000)) / 16_000
    pitch = np.cumsum(draw.uniform(90, 250) * (1 + 0.3 * np.sin(2 * np.pi * draw.uniform(0.5, 3) * time_of))) / 16_000
    wave = sum(draw.uniform(0.1, 1) * np.sin(2 * np.pi * n * pitch + draw.uniform(0, 6)) for n in range(1, 15))
    loudness = np.interp(time_of, np.linspace(0, seconds, 9), [0, *draw.uniform(0, 1, 7) ** 2, 0])
    return (wave * loudness * 1500 + draw.normal(0, 10, len(time_of))).astype(np.int16)


def sounds(splits: dict[str, list[Any]], **columns: Any) -> Any:
    """A prepared data set: {split: clips}, labels a and b in turn; ``columns`` replace those of all rows by split."""
    import pyarrow as pa
    from datasets import Dataset, DatasetDict

    made = {}
    for name, clips in splits.items():
        values = {
            "id": [f"{name}-{row}" for row in range(len(clips))],
            "origin": [f"{name}.csv:{row + 2}" for row in range(len(clips))],
            "label": ["ab"[row % 2] for row in range(len(clips))],
            "content": [hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips],
            "length": [len(clip) for clip in clips],
            "silent": [not clip.any() for clip in clips],
            "clipped": [bool((clip == 32767).sum() > 3) for clip in clips],
            **{column: by_split[name] for column, by_split in columns.items()},
        }
        values["audio"] = pa.array(list(clips), pa.list_(pa.int16()))
        made[name] = Dataset(pa.table(values))
    return DatasetDict(made)


CLEAN_SOUND = {"train": [voice(i) for i in range(8)], "validation": [voice(i) for i in range(8, 12)]}


def kinds(data: Any, columns: tuple[str, ...] = SOUND, **settings: Any) -> list[str]:
    return [problem.kind for problem in inspect(data, columns, **settings).problems]


def test_clean_recordings_have_no_problems() -> None:
    assert lines(inspect(sounds(CLEAN_SOUND), SOUND)) == []


def test_takes_of_one_voice_that_differ_a_little_are_no_twins() -> None:
    """The same word again: the harmonics drift against each other, as in any second take."""
    takes = [voice(1)]
    for seed in range(5):
        draw = np.random.default_rng(seed)
        stretched = np.interp(np.linspace(0, len(takes[0]) - 1, int(16_000 * draw.uniform(0.93, 0.97))),
                              np.arange(len(takes[0])), takes[0])  # fmt: skip
        takes.append(stretched.astype(np.int16))
    assert find_twins(takes) == []


def as_mp3(clip: Any) -> Any:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, clip, 16_000, format="MP3")
    file.seek(0)
    return soundfile.read(file, dtype="int16")[0]


def with_noise(clip: Any) -> Any:
    level = np.sqrt(np.mean(clip.astype(float) ** 2)) / 10  # 20 dB below
    return (clip + np.random.default_rng(0).normal(0, level, len(clip))).astype(np.int16)


COPIES = {
    "later": lambda clip: np.concatenate([np.zeros(1234, np.int16), clip]),
    "cut at both ends": lambda clip: clip[1001:-1500],
    "softer": lambda clip: (clip * 0.3).astype(np.int16),
    "upside down": lambda clip: -clip,
    "as MP3": as_mp3,
    "with noise at 20 dB": with_noise,
}


@pytest.mark.parametrize("copy", COPIES)
def test_nearly_the_same_recording_is_found_in_a_split_and_across(copy: str) -> None:
    other = COPIES[copy](CLEAN_SOUND["train"][2])
    within = inspect(sounds(CLEAN_SOUND | {"train": [*CLEAN_SOUND["train"], other]}), SOUND)
    assert [problem.kind for problem in within.problems] == ["near_within"]
    assert "2 recordings in train are nearly the same as others there (1 different ones)" in within.problems[0].line()
    assert within.problems[0].origins == ("train.csv:4", "train.csv:10")
    across = inspect(sounds(CLEAN_SOUND | {"validation": [*CLEAN_SOUND["validation"], other]}), SOUND)
    assert [problem.kind for problem in across.problems] == ["near_across"]
    assert across.problems[0].line() == (
        "1 of 5 validation recordings are nearly the same as one in train (validation.csv:6 = train.csv:4)"
    )


def test_training_leaves_the_search_for_twins_to_the_audit(caplog: pytest.LogCaptureFixture) -> None:
    twins = [*CLEAN_SOUND["train"], COPIES["softer"](CLEAN_SOUND["train"][0])]
    check(sounds(CLEAN_SOUND | {"train": twins}), SOUND)
    assert "nearly" not in caplog.text


def test_twins_are_looked_for_within_a_label() -> None:
    clips = [voice(0), voice(0)[100:]]
    assert find_twins(clips) == [[0, 1]] and find_twins(clips, ["a", "b"]) == []
    assert find_twins([clips[0][:1000], clips[0][:1000], clips[0] * 0, clips[0] * 0]) == []


def test_three_copies_are_one_set_of_twins() -> None:
    clips = [voice(0), voice(1), voice(0)[900:], voice(0)[:-900]]
    assert find_twins(clips) == [[0, 2, 3]]


def test_the_same_recording_twice_is_found_by_its_samples_and_counted_by_its_bytes() -> None:
    first = CLEAN_SOUND["train"][0]
    clips = CLEAN_SOUND | {"train": [*CLEAN_SOUND["train"], first], "validation": [*CLEAN_SOUND["validation"], first]}
    content = {name: [f"{name} {row}" for row in range(len(rows))] for name, rows in clips.items()}
    content["validation"][4] = "train 0"
    found = inspect(sounds(clips, content=content), SOUND)
    assert [problem.kind for problem in found.problems] == ["duplicates_within", "duplicates_across"]
    assert found.problems[0].line().startswith("1 recordings in train repeat an earlier one (0 byte for byte)")
    assert found.problems[1].line() == (
        "1 of 5 validation recordings are also in train (1 of them byte for byte) (validation.csv:6 = train.csv:2)"
    )


def test_one_recording_with_two_labels_is_named() -> None:
    clips = CLEAN_SOUND | {"train": [*CLEAN_SOUND["train"], voice(50), CLEAN_SOUND["train"][0]]}
    found = inspect(sounds(clips), SOUND)
    assert [problem.kind for problem in found.problems] == ["duplicates_within", "conflicting_labels"]
    assert found.problems[1].line() == "1 recordings have more than one label (train.csv:2 a / train.csv:11 b)"


@pytest.mark.parametrize(
    ("clip", "kind", "message"),
    [
        (np.zeros(16_000, np.int16), "silent", "1 recordings in train are silent"),
        (np.concatenate([voice(60), np.full(9, 32767, np.int16)]), "clipped", "1 recordings in train are clipped"),
        (voice(60)[:1500], "very_short", "1 recordings in train are shorter than 0.1 s"),
        (voice(60, 10.5), "over_long", "1 recordings in train are longer than 10 s"),
    ],
)
def test_odd_recordings_are_warned_of(clip: Any, kind: str, message: str) -> None:
    found = inspect(sounds(CLEAN_SOUND | {"train": [*CLEAN_SOUND["train"], clip]}), SOUND)
    assert [(problem.level, problem.kind) for problem in found.problems] == [("warning", kind)]
    assert found.problems[0].line().startswith(message) and found.problems[0].origins == ("train.csv:10",)


def test_silent_recordings_are_nobodys_duplicates() -> None:
    silence = np.zeros(16_000, np.int16)
    clips = {name: [*rows, silence, silence] for name, rows in CLEAN_SOUND.items()}
    assert kinds(sounds(clips)) == ["silent", "silent"]


def test_a_speaker_in_two_splits_of_recordings_is_a_warning() -> None:
    speakers = {"train": list("ttttuuuu"), "validation": list("vvtv")}
    found = inspect(sounds(CLEAN_SOUND, speaker=speakers), SOUND)
    assert [problem.kind for problem in found.problems] == ["shared_group"]
    assert found.problems[0].origins == ("validation.csv:4",)


def test_sound_is_judged_by_its_sound_and_text_by_its_text() -> None:
    texts = {name: ["say it"] * len(clips) for name, clips in CLEAN_SOUND.items()}
    data = sounds(CLEAN_SOUND, text=texts)
    assert kinds(data) == []
    assert {"duplicates_within", "duplicates_across"} <= set(kinds(data, ("text", "label")))
    assert kinds(data.remove_columns(["audio", "content"]), SOUND) == []


def test_a_recording_without_its_transcript_is_an_error() -> None:
    said = {"train": ["word"] * 8, "validation": ["word", " \u200b", "NULL", "word"]}
    for column in ("transcript", "text"):
        found = inspect(sounds(CLEAN_SOUND, **{column: said}), ("audio", column))
        (error, warning) = lines(found)
        assert error == ("error", "empty", f"1 empty {column}(s) in validation (validation.csv:3)")
        assert warning[1:] == (
            "null_like",
            f"1 {column}(s) in validation look like a missing value: 'NULL' (validation.csv:4)",
        )


HEARD = ("audio", "transcript")


def spoken(**changed: list[str]) -> dict[str, list[str]]:
    """A transcript for each clip of CLEAN_SOUND, those of the given splits as given."""
    return {name: [f"word {i}" for i in range(len(clips))] for name, clips in CLEAN_SOUND.items()} | changed


def test_more_text_than_the_recording_has_time_for_is_a_warning() -> None:
    fast = "turn on all of the lights in the kitchen now"
    found = inspect(sounds(CLEAN_SOUND, transcript=spoken(validation=["open", fast, "close", "stop"])), HEARD)
    (problem,) = lines(found)
    assert problem[:2] == ("warning", "fast_transcript") and problem[2].startswith("1 transcripts in validation have")
    assert found.problems[0].origins == ("validation.csv:3",)
    slower = {name: [voice(1, 2.0) if name == "validation" and i == 1 else clip for i, clip in enumerate(clips)]
              for name, clips in CLEAN_SOUND.items()}  # fmt: skip
    assert not inspect(sounds(slower, transcript=spoken(validation=["open", fast, "close", "stop"])), HEARD).problems


def test_one_recording_with_two_transcripts_is_a_warning_with_its_rows() -> None:
    clips = CLEAN_SOUND | {"validation": [*CLEAN_SOUND["validation"][:3], CLEAN_SOUND["train"][0]]}
    data = sounds(clips, transcript=spoken(validation=["a", "b", "c", "word one"]))
    problems = {problem.kind: problem for problem in inspect(data, HEARD).problems}
    assert problems["conflicting_transcripts"].origins == ("train.csv:2 / validation.csv:5",)
    assert "duplicates_across" in problems
    same = sounds(clips, transcript=spoken(validation=["a", "b", "c", "Word 0!"]))
    assert "conflicting_transcripts" not in kinds(same, HEARD)


def test_a_recording_that_fits_no_command_needs_no_transcript() -> None:
    clips = CLEAN_SOUND | {"out_of_scope_test": [voice(20), voice(21)]}
    said = spoken() | {"out_of_scope_test": ["", "hello"]}
    assert not inspect(sounds(clips, transcript=said), HEARD).problems


def test_a_long_recording_is_one_command_too_many_or_one_long_transcript() -> None:
    clips = CLEAN_SOUND | {"validation": [*CLEAN_SOUND["validation"][:3], voice(9, 12.0)]}
    assert kinds(sounds(clips)) == ["over_long"]
    assert kinds(sounds(clips, transcript=spoken()), HEARD) == []


def test_the_fingerprint_of_recordings_is_that_of_their_files() -> None:
    data = sounds(CLEAN_SOUND)
    texts = {name: [f"text {i}" for i in range(len(clips))] for name, clips in CLEAN_SOUND.items()}
    assert fingerprint(sounds(CLEAN_SOUND, text=texts)) == fingerprint(data)
    assert fingerprint(data.remove_columns("audio")) == fingerprint(data)
    other = {name: [f"{i}" for i in range(len(clips))] for name, clips in CLEAN_SOUND.items()}
    assert fingerprint(sounds(CLEAN_SOUND, content=other)) != fingerprint(data)


def run_audit(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    spec = importlib.util.spec_from_file_location("audit_recipe", ROOT / "recipes" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["recipes/audit.py", *overrides])
    try:
        module.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_splits(directory: Path, splits: dict[str, Rows]) -> Path:
    for name, rows in splits.items():
        content = "".join(f"{text},{label}\n" for text, label in rows)
        (directory / f"{name}.csv").write_text("text,label\n" + content, encoding="utf-8")
    return directory


def test_the_audit_of_sound_data_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splits(tmp_path, CLEAN | {"test": [*CLEAN["test"], ("OPEN DOOR", "open")]})
    assert run_audit(monkeypatch, "data=file", f"data.path={tmp_path}") == 0
    printed = capsys.readouterr().out
    assert "label  train  validation  test\nclose      3           1     1" in printed
    assert f"({tmp_path}/test.csv:4 = {tmp_path}/train.csv:2)" in printed
    assert "0 errors, 1 warnings; fingerprint " in printed


def test_the_audit_of_bad_data_names_all_errors_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splits(tmp_path, CLEAN | {"test": [("a", "shut"), ("", "open")]})
    assert run_audit(monkeypatch, "data=file", f"data.path={tmp_path}") == 2
    printed = capsys.readouterr()
    assert f"error: 1 empty text(s) in test ({tmp_path}/test.csv:3)" in printed.out
    assert f"error: test has labels that train lacks: 'shut' ({tmp_path}/test.csv:2)" in printed.out
    assert "2 error(s), named above" in printed.err


def test_the_audit_of_a_malformed_file_ends_with_2_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("text,label\na\n", encoding="utf-8")
    assert run_audit(monkeypatch, "data=file", f"data.path={tmp_path}/a.csv") == 2
    assert f"{tmp_path}/a.csv:2: 1 cells where the header has 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["banking77", "snips"])
def test_a_named_data_set_reads_a_directory_and_asks_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splits(tmp_path, CLEAN)
    assert run_audit(monkeypatch, f"data={name}", f"data.path={tmp_path}") == 0
    assert run_audit(monkeypatch, f"data={name}") == 2
    assert "data.path" in capsys.readouterr().err


SOURCE = """
from voicecommand.audio.clips import write_wav
from voicecommand.data.splits import build
import numpy as np

def load_tones(columns=("audio", "label"), *, folder: str, count: int = 4):
    splits = {}
    for split in ("train", "validation"):
        rows = {name: [] for name in ("id", "origin", "audio", "label")}
        for number in range(count):
            path = f"{folder}/{split}-{number}.wav"
            tone = 9000 * np.sin(np.arange(8000) * (0.1 + 0.01 * number + (split == "train")))
            write_wav(path, tone.astype(np.int16))
            for name, value in zip(rows, (f"{split}-{number}", path, path, "ab"[number % 2])):
                rows[name].append(value)
        splits[split] = rows
    return build(splits)
"""


def test_a_new_source_of_recordings_is_one_file_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voicecommand.config import groups
    from voicecommand.data import sources

    shutil.copytree(groups.CONF, tmp_path / "conf")
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    monkeypatch.setattr(files, "cache_directory", lambda: tmp_path / "cache")
    (tmp_path / "tones_of_ours.py").write_text(SOURCE)
    target = "voicecommand.data.sources.tones_of_ours.load_tones"
    (tmp_path / "conf" / "data" / "tones.yaml").write_text(f"_target_: {target}\nfolder: ???\ncount: 4\n")
    assert run_audit(monkeypatch, "data=tones", f"data.folder={tmp_path}", "data.count=6") == 0
    assert "label  train  validation\na          3           3\nb          3           3" in capsys.readouterr().out
