"""The normaliser of transcripts: one spelling of what is said, and nothing left out."""

from __future__ import annotations

import time

import pytest

from voicecommand.evaluation.normalise import describe_normaliser, normalise

SAME = [
    ("Turn the lights ON!", "turn the lights on"),
    ("Wake me at 7:30.", "wake me at seven thirty"),
    ("7:05", "seven o five"),
    ("7:00", "seven o'clock"),
    ("7:00 p.m.", "seven PM"),
    ("10:30am", "ten thirty a.m."),
    ("19:00 and 19:45", "nineteen hundred and nineteen forty-five"),
    ("5 o’clock", "five o'clock"),
    ("five o clock", "5 o'clock"),
    ("an 8 ounce cup, 20oz", "an eight ounce cup twenty oz"),
    ("21 or 1,000 or 1,234,567", "twenty-one or one thousand or one million two hundred thirty four thousand five "
     "hundred sixty seven"),
    ("205", "two hundred and five"),
    ("1999, 2000, 2005", "nineteen ninety nine two thousand two thousand five"),
    ("2024, 1905, 1500", "twenty twenty four nineteen oh five fifteen hundred"),
    ("007 and 5551234", "zero zero seven and five five five one two three four"),
    ("1st, 2nd, 3rd, 12th, 20th, 21st", "first second third twelfth twentieth twenty first"),
    ("3.5", "three point five"),
    ("-5°", "minus five degrees"),
    ("$5, $1, £2 and €3", "five dollars one dollar two pounds and three euros"),
    ("$5.50 or $1.01", "five dollars and fifty cents or one dollar and one cent"),
    ("$2 million", "two million dollars"),
    ("50% = 50 per cent", "fifty percent equals fifty percent"),
    ("½ cup, 3½ cups, 3 1/2 cups", "one half cup three and a half cups three and a half cups"),
    ("O.K., ok", "okay okay"),
    ("Mr. Quilter", "MISTER QUILTER"),
    ("a café", "a cafe"),
    ("don’t", "don't"),
    ("'quoted', the dogs' bowl", "quoted the dogs bowl"),
    ("zero\u200bwidth\u00a0space", "zerowidth space"),
]  # fmt: skip
DIFFERENT = [
    ("oh um no", "0 um no"),
    ("oh um no", "no"),
    ("half past seven", "7:30"),
    ("twelve ounces", "twelve oz"),
    ("don't", "do not"),
    ("a latte", "an latte"),
    ("one to one", "one two one"),
    ("between one hundred and two hundred", "between one hundred two hundred"),
    ("♪ la", "la"),
]


@pytest.mark.parametrize(("text", "other"), SAME)
def test_two_spellings_of_one_sentence_are_equal(text: str, other: str) -> None:
    assert normalise(text) == normalise(other)


@pytest.mark.parametrize(("text", "other"), DIFFERENT)
def test_other_words_stay_other_words(text: str, other: str) -> None:
    assert normalise(text) != normalise(other)


def test_whispers_own_mistakes_are_not_made_here() -> None:
    """Its normaliser makes "50 clock" and "0 no" of them."""
    assert normalise("Five o'clock.") == "five o'clock"
    assert normalise("Oh, um, no.") == "oh um no"


@pytest.mark.parametrize("text", [text for pair in SAME + DIFFERENT for text in pair])
@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_normalised_text_stays_as_it_is(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once == " ".join(once.split())


def test_a_text_without_words_is_empty() -> None:
    assert normalise(" ... ?! '") == ""
    assert normalise("", "ar") == ""


def test_english_has_several_names_and_other_languages_keep_their_numbers_and_marks() -> None:
    assert {normalise("8", name) for name in ("en", "en-GB", "en_us", "English")} == {"eight"}
    assert normalise("¿Qué? L’eau: 50%.", "fr") == "qué l'eau 50 %"
    assert normalise("شغّل ٣ أغانٍ، رجاءً!", "ar") == "شغّل 3 أغانٍ رجاءً"
    assert "numbers stay" in describe_normaliser("ar") and "7:30 = seven thirty" in describe_normaliser("en")
    assert describe_normaliser("en").count(". ") == 0, "one sentence"


@pytest.mark.parametrize("part", ["1,", "1,000", "9", "$1.1", "7:3", "1 ", "a.", "'", "one o "])
def test_the_time_for_a_text_grows_as_its_length(part: str) -> None:
    start = time.process_time()
    normalise(part * (20_000 // len(part)))
    assert time.process_time() - start < 2  # 0.1 s; a pattern that starts again at every character takes 10 s
