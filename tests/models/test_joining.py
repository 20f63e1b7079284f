"""The windows of long clips, and their texts joined."""

from __future__ import annotations

import itertools

import pytest

from voicecommand.models.joining import Joined, align_ends, join, place_windows


@pytest.mark.parametrize(("length", "size"), [(100, 100), (101, 100), (175, 100), (176, 100), (1000, 64), (7, 1)])
def test_windows_cover_a_clip_evenly_and_overlap_by_a_quarter_at_least(length: int, size: int) -> None:
    starts = place_windows(length, size, rate=1000)
    assert starts[0] == 0 and starts[-1] + size >= length and (len(starts) == 1 or starts[-1] + size == length)
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert not steps or (max(steps) - min(steps) <= 1 and max(steps) <= round(0.75 * size) + 1)


def test_the_overlap_that_is_asked_for_is_3_s_at_most() -> None:
    assert place_windows(57, 30, rate=1) == [0, 27] and place_windows(58, 30, rate=1) == [0, 14, 28]


def test_texts_are_joined_at_the_middle_of_the_words_that_agree() -> None:
    first = "I would like a large cappuccino with two shots of ess"
    second = "pucino with two shots of espresso and milk."
    assert join([first, second], [3]) == Joined(
        "I would like a large cappuccino with two shots of espresso and milk.", unmatched=0, pairs=1
    )


def test_case_and_marks_do_not_keep_words_apart() -> None:
    assert join(["He came, he saw.", "He saw and conquered"], [2]).text == "He came, he saw and conquered"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["stop the dog", "the cat runs"], ("stop the dog the cat runs", 1)),  # one word that agrees, one that does not
        (["turn it on", "play music"], ("turn it on play music", 1)),
        (["", "play music"], ("play music", 0)),  # silence is no join that failed
        (["play", "", ""], ("play", 0)),
    ],
)
def test_where_no_words_agree_nothing_is_left_out_and_it_is_counted(texts: list[str], expected: tuple) -> None:
    assert join(texts, [2] * (len(texts) - 1))[:2] == expected


def test_words_outside_the_overlap_are_not_taken_for_those_in_it() -> None:
    text = " ".join(["one two three"] + [f"w{i}" for i in range(30)])
    assert join([text, "one two three four"], [1]) == Joined(f"{text} one two three four", unmatched=1, pairs=1)


def test_a_word_that_is_spelt_otherwise_does_not_break_an_alignment() -> None:
    assert align_ends(["my", "favourite", "colour", "is"], ["favorite", "colour", "is", "blue"]) == [(2, 1), (3, 2)]
