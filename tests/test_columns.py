"""The names of the splits, as data sets write them."""

import pytest

from voicecommand.columns import SPLITS, find_splits, split_of
from voicecommand.errors import InputError


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train training Train TRAINING", "train"),
        ("validation dev val valid validate eval development Dev VAL", "validation"),
        ("test testing Test", "test"),
        ("oos_val oos-dev out_of_scope_eval ood_valid", "out_of_scope_validation"),
        ("oos_test OOS_Test out-of-scope-test", "out_of_scope_test"),
    ],
)
def test_common_names_of_a_split_mean_it(names, split):
    assert {split_of(name) for name in [split, *names.split()]} == {split}
    assert split_of(f" {split.replace('_', ' ')} ") == split


@pytest.mark.parametrize("name", ["", "lights_on", "tests2", "oos_train", "oos_", "oos_oos_val", "trainer", "value"])
def test_other_names_mean_no_split(name):
    assert split_of(name) is None


def test_names_of_splits_are_found_in_the_order_of_the_splits():
    found = find_splits(["oos_test", "readme", "dev", "Test", "train"], "here")
    assert list(found.items()) == [
        ("train", "train"), ("validation", "dev"), ("test", "Test"), ("out_of_scope_test", "oos_test")
    ]  # fmt: skip
    assert list(found) == [name for name in SPLITS if name in found]


def test_two_names_of_one_split_are_an_error_that_names_both():
    with pytest.raises(InputError, match=r"data/: 'dev' and 'validation' both mean validation: keep one of them"):
        find_splits(["dev", "train", "validation"], "data/")
