"""Which split or fold a row belongs to: by hash, by label, and the same when rows are added."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any

import pytest

from voicecommand.columns import HELD_OUT_IN
from voicecommand.data.placing import fold, place, position
from voicecommand.data.splits import SplitRule, fill_missing
from voicecommand.data.table import Rows
from voicecommand.errors import InputError

RULE = SplitRule(stratify=True)
INTERVALS = RULE.intervals


def phrases(counts: dict[str, int], start: int = 0) -> dict[str, set[str]]:
    return {f"{label} {i}": {label} for label, n in counts.items() for i in range(start, start + n)}


def rows_of(labels: dict[str, set[str]], **more: list[str]) -> Rows:
    pairs = [(key, label) for key in labels for label in sorted(labels[key])]
    ids = [str(i) for i in range(len(pairs))]
    return {"id": ids, "origin": ids, "text": [k for k, _ in pairs], "label": [v for _, v in pairs]} | more


def count(labels: dict[str, set[str]], places: dict[str, Any]) -> dict[str, Counter[Any]]:
    counts: dict[str, Counter[Any]] = defaultdict(Counter)
    for key, own in labels.items():
        for label in own:
            counts[label][places[key]] += 1
    return counts


@pytest.mark.parametrize("n", [3, 4, 5, 8, 12, 20, 40])
def test_each_split_has_about_its_share_of_every_label(n: int) -> None:
    labels = phrases({f"label {i}": n for i in range(40)})
    slack = max(1, n / 10)
    for counted in count(labels, place(labels, INTERVALS)).values():
        assert max(1, 0.2 * n - slack) <= counted["test"] <= 0.2 * n + slack
        assert max(1, 0.1 * n - slack) <= counted["validation"] <= 0.1 * n + slack
        assert counted["train"] >= (1 if n == 3 else 2)


def test_large_data_are_split_by_the_intervals_only() -> None:
    labels = phrases({"a": 2000, "b": 300})
    for key, split in place(labels, INTERVALS).items():
        point = position(key)
        assert split == ("test" if point < 0.2 else "validation" if point < 0.2 + 0.1 else "train")


@pytest.mark.parametrize("size", [1, 2])
def test_a_label_with_fewer_than_three_texts_stays_in_train(size: int) -> None:
    labels = phrases({f"rare {i}": size for i in range(50)} | {"common": 50})
    counts = count(labels, place(labels, INTERVALS))
    assert all(counts[f"rare {i}"] == {"train": size} for i in range(50))


def test_added_rows_move_no_row_of_other_labels_and_hardly_any_of_their_own() -> None:
    before = phrases({f"label {i}": 12 for i in range(10)})
    after = before | phrases({"label 3": 10, "label 7": 10}, start=12)
    old, new = place(before, INTERVALS), place(after, INTERVALS)
    moved = [key for key in before if old[key] != new[key]]
    assert {label for key in moved for label in before[key]} <= {"label 3", "label 7"}
    assert len(moved) <= 4


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels = phrases({"a": 7, "b": 12, "c": 3})
    shuffled = dict(reversed(labels.items()))
    assert place(labels, INTERVALS) == place(shuffled, INTERVALS)
    assert fold(labels, 5) == fold(shuffled, 5)


def test_with_a_test_split_of_its_own_only_validation_is_taken() -> None:
    labels = phrases({f"label {i}": 6 for i in range(30)})
    counts = count(labels, place(labels, {"validation": INTERVALS["validation"]}))
    assert all(set(counted) == {"train", "validation"} and counted["validation"] == 1 for counted in counts.values())


def test_speakers_of_several_labels_stay_where_their_hash_is() -> None:
    labels = {f"speaker {i}": {"on", "off"} for i in range(12)}
    places = place(labels, INTERVALS)
    by_hash = [name for i in range(12) for name in ("test", "validation") if _falls(f"speaker {i}", name)]
    assert sorted(split for split in places.values() if split != "train") == sorted(by_hash)


def _falls(key: str, name: str) -> bool:
    low, high = INTERVALS[name]
    return low <= position(key) < high


def test_train_gets_a_speaker_of_a_label_that_it_would_lack() -> None:
    inside = [f"s{i}" for i in range(100) if position(f"s{i}") < 0.2]
    others = [f"s{i}" for i in range(100) if position(f"s{i}") > 0.5]
    labels = {key: {"on", "off"} for key in others[:10]} | {inside[0]: {"on", "rare"}, inside[1]: {"on", "rare"}}
    places = place(labels, INTERVALS)
    assert sorted([places[inside[0]], places[inside[1]]]) == ["test", "train"]


def test_every_label_is_in_train_even_where_splits_are_filled_by_single_speakers() -> None:
    for shift in range(30):
        names = [f"s{shift}-{i}" for i in range(4)]
        labels = dict(zip(names, ({"a"}, {"a", "b"}, {"b", "c"}, {"c", "a"}), strict=True))
        speakers = [name for name in names for _ in labels[name]]
        made = fill_missing({"train": rows_of(labels, speaker=speakers)}, SplitRule(by="speaker", stratify=True))
        assert set(made["train"]["label"]) == {"a", "b", "c"} and all(made[name]["id"] for name in made)


def test_labels_that_are_never_measured_are_named(caplog: pytest.LogCaptureFixture) -> None:
    fill_missing({"train": rows_of(phrases({"a": 400, "rare": 2}))}, RULE)
    assert "1 label(s) are never measured, all their rows are in train: 'rare'; bring 3 different texts" in caplog.text
    assert "too few" not in caplog.text


def test_a_small_test_split_is_told_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    fill_missing({"train": rows_of(phrases({"a": 20, "b": 20}))}, RULE)
    assert "rows, too few for figures to rely on: data.split.folds=5 trains and measures on all" in caplog.text


def test_rows_that_cannot_be_split_are_refused_and_the_remedy_works() -> None:
    train = rows_of(phrases({"a": 2, "b": 2}))
    with pytest.raises(InputError, match=r"4 different texts are too few to take test and validation .*folds=4 "):
        fill_missing({"train": train}, RULE)
    assert set(fill_missing({"train": train}, SplitRule(folds=4))["train"][HELD_OUT_IN]) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_have_equal_parts_of_every_label(folds: int) -> None:
    labels = phrases({"a": 23, "b": 11, "c": 8})
    held = fold(labels, folds)
    for label, counted in count(labels, held).items():
        assert max(counted.values()) - min(counted.values()) <= 1, label
    sizes = Counter(held.values())
    assert set(sizes) == set(range(1, folds + 1)) and max(sizes.values()) - min(sizes.values()) <= 1


def test_a_label_is_always_in_the_training_part_of_a_fold() -> None:
    labels = phrases({"a": 20, "two": 2, "one": 1}) | {"both": {"pair", "a"}, "other": {"pair"}}
    held = fold(labels, 5)
    for label in ("a", "two", "pair"):
        assert len({held[key] for key in labels if label in labels[key]}) > 1
    assert held["one 0"] == 0


def test_groups_are_held_out_whole() -> None:
    labels = {f"s{i}": {"on", "off"} for i in range(7)}
    speakers = [name for name in labels for _ in range(2)]
    made = fill_missing({"train": rows_of(labels, speaker=speakers)}, SplitRule(by="speaker", folds=3))
    where = defaultdict(set)
    for speaker, number in zip(speakers, made["train"][HELD_OUT_IN], strict=True):
        where[speaker].add(number)
    assert all(len(numbers) == 1 for numbers in where.values())
    assert set.union(*where.values()) == {"1", "2", "3"}


def test_folds_join_train_and_validation_and_leave_test() -> None:
    train, other = rows_of(phrases({"a": 6, "b": 6})), rows_of(phrases({"a": 2, "b": 2}, start=6))
    made = fill_missing({"train": train, "validation": other, "test": other}, SplitRule(folds=2))
    assert list(made) == ["train", "test"] and made["test"] is other
    assert len(set(made["train"]["id"])) == 16 and made["train"]["text"][12:] == other["text"]


def test_folds_name_the_labels_that_they_do_not_measure(caplog: pytest.LogCaptureFixture) -> None:
    fill_missing({"train": rows_of(phrases({"a": 9, "three": 3, "one": 1}))}, SplitRule(folds=5))
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "1 label(s) are not held out in every fold, they have too few texts: 'three'",
        "1 label(s) are trained on in every fold and never measured: 'one'; bring 2 different texts for each",
    ]


@pytest.mark.parametrize(
    ("folds", "counts", "message"),
    [
        (1, {"a": 9}, r"data\.split\.folds=1: give a whole number from 2"),
        (True, {"a": 9}, r"data\.split\.folds=True: give a whole number"),
        (5, {"a": 2, "b": 2}, r"folds=5: 4 different texts can't fill them: data\.split\.folds=4 trains"),
        (2, {"a": 1, "b": 1}, r"folds=2: 2 different texts can't fill them: bring more rows, at least 2 of each"),
    ],
)
def test_a_wrong_number_of_folds_is_refused(folds: int, counts: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fill_missing({"train": rows_of(phrases(counts))}, SplitRule(folds=folds))


def test_folds_refuse_to_join_tables_of_different_columns() -> None:
    train = rows_of(phrases({"a": 4}))
    with pytest.raises(InputError, match="only one of them has 'speaker'"):
        fill_missing({"train": train, "validation": train | {"speaker": ["s"] * 4}}, SplitRule(folds=2))
