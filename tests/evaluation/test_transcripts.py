"""Error rates of transcripts, against jiwer and against known values, and the evaluator of them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from voicecommand.errors import InputError
from voicecommand.evaluation import alignment
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Bars, Block, Examples, Matrix, Notes, Table
from voicecommand.evaluation.confused_words import EXAMPLES, NOTHING, OTHERS
from voicecommand.evaluation.evaluate_metrics import compute_transcript_points
from voicecommand.evaluation.splits import build_blocks, evaluate
from voicecommand.evaluation.transcripts import TranscriptEvaluator


def transcribed(pairs: list[tuple[str, str]], split: str = "test", **given: Any) -> Answers:
    """Answers of (reference, what was written)."""
    references, written = map(list, zip(*pairs, strict=True))
    n = len(pairs)
    names = [f"{split}-{i}" for i in range(n)]
    columns = {"transcript": written}
    return Answers(split, names, names, references, {"transcript": references}, columns, **given)


def blocks_of(answers: Answers) -> list[Block]:
    evaluator = TranscriptEvaluator()
    return build_blocks([evaluator], [answers], evaluate([evaluator], [answers]))


def random_texts(seed: int, count: int = 200) -> tuple[list[str], list[str]]:
    """Texts, and the same with wrong words; some are empty."""
    draw, words = random.Random(seed), ["turn", "on", "off", "the", "a", "light", "lights", "in", "kitchen", "please"]
    references = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(count)]
    written = []
    for text in references:
        spoilt: list[str] = []
        for word in text.split():
            spoilt += draw.choice([[word], [word], [word], [], [draw.choice(words)], [word, draw.choice(words)]])
        written.append(" ".join(spoilt))
    return references, written


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_agree_with_jiwer(seed: int) -> None:
    jiwer = pytest.importorskip("jiwer")
    references, written = random_texts(seed)
    points, theirs = compute_transcript_points(references, written), jiwer.process_words(references, written)
    assert points["wer"] == pytest.approx(theirs.wer)
    assert points["cer"] == pytest.approx(jiwer.cer(references, written))
    wrong = sum(r != w for r, w in zip(references, written, strict=True)) / len(references)
    assert points["sentence_error_rate"] == pytest.approx(wrong)
    counts = alignment.count_errors(references, written).sum(axis=0)
    assert counts[:3].sum() == theirs.insertions + theirs.deletions + theirs.substitutions
    assert counts[3] == theirs.hits + theirs.substitutions + theirs.deletions
    assert counts[2] <= theirs.substitutions, "of the ways with the fewest errors, that with most right words"


def test_an_alignment_has_the_counted_errors_and_all_words_in_order() -> None:
    from rapidfuzz.distance import Levenshtein

    for reference, answer in zip(*random_texts(7), strict=True):
        pairs = alignment.align(reference.split(), answer.split())
        wrong = sum(pair.kind != "right" for pair in pairs)
        assert wrong == Levenshtein.distance(reference.split(), answer.split())
        kinds = [pair.kind for pair in pairs]
        counts = alignment.count_errors([reference], [answer])[0]
        assert [kinds.count(kind) for kind in ("inserted", "deleted", "substituted")] == list(counts[:3])
        assert " ".join(pair.reference for pair in pairs if pair.reference) == reference
        assert " ".join(pair.answer for pair in pairs if pair.answer) == answer


@pytest.mark.parametrize(
    ("reference", "answer", "wrong"),
    [
        ("a large latte please", "late please", [("a", ""), ("large", ""), ("latte", "late")]),
        ("latte please", "a large late please", [("", "a"), ("", "large"), ("latte", "late")]),
        ("a small espresso", "a expresso", [("small", ""), ("espresso", "expresso")]),
        ("stop the timer now", "stop timer right now", [("the", ""), ("", "right")]),
        ("stop", "", [("stop", "")]),
        ("", "oh no", [("", "oh"), ("", "no")]),
    ],
)
def test_right_words_and_words_spelt_alike_stand_beside_each_other(reference: str, answer: str, wrong: list) -> None:
    pairs = alignment.align(reference.split(), answer.split())
    assert [tuple(pair) for pair in pairs if pair.kind != "right"] == wrong


def test_the_rate_is_of_all_words_together_and_can_exceed_one() -> None:
    evaluator = TranscriptEvaluator()
    answers = transcribed([("stop", "please do stop now"), ("turn on the light", "turn on the light")])
    assert evaluator.quick(answers)["wer"] == evaluator.score(answers)["wer"]["value"] == 3 / 5
    errors, words = evaluator.units(answers)
    assert (errors.tolist(), words.tolist()) == ([3, 0], [1, 4])
    loud = evaluator.score(transcribed([("stop", "oh stop it now")]))
    assert loud["wer"]["value"] == 3 and loud["sentence_error_rate"]["value"] == 1


def test_spelling_is_no_error_but_for_the_figures_as_written() -> None:
    scores = TranscriptEvaluator().score(transcribed([("wake me at 7:30", "Wake me at seven thirty.")]))
    assert scores["wer"]["value"] == scores["cer"]["value"] == scores["sentence_error_rate"]["value"] == 0
    assert scores["as_written"]["wer"]["value"] == 3 / 4 and scores["as_written"]["sentence_error_rate"]["value"] == 1
    assert "7:30 = seven thirty" in scores["normaliser"]
    other = TranscriptEvaluator("ar").score(transcribed([("8 lights", "eight lights")]))
    assert other["wer"]["value"] == 1 / 2


def test_words_written_for_an_empty_reference_count_as_inserted_and_the_reader_is_told() -> None:
    scores = TranscriptEvaluator().score(transcribed([("", "thank you"), ("stop the music", "stop music"), ("", "")]))
    assert scores["wer"]["value"] == 3 / 3 and scores["words"] == 3
    assert {name: error["count"] for name, error in scores["errors"].items()} == {
        "insertions": 2, "deletions": 1, "substitutions": 0,
    }  # fmt: skip
    assert "without a word: 2 of 3; words written for them, which count as insertions: 2" in scores["wer"]["note"]
    assert scores["sentence_error_rate"]["value"] == pytest.approx(2 / 3), "nothing for nothing is right"


def test_a_split_without_any_word_is_refused() -> None:
    with pytest.raises(InputError, match=r"split 'test': none of its 2 transcripts has a word"):
        TranscriptEvaluator().score(transcribed([("", "oh"), ("...", "")]))


def test_intervals_are_over_speakers_and_their_number_is_printed() -> None:
    pairs = [("turn on the light", "turn on the light"), ("turn it off", "turn of")] * 12
    speakers = [f"speaker {i // 2}" for i in range(24)]
    scores = TranscriptEvaluator().score(transcribed(pairs, groups=speakers, group_column="speaker"))
    for figure in (*(scores[name] for name in ("wer", "cer", "sentence_error_rate")), scores["as_written"]["wer"]):
        assert figure["method"] == "bootstrap over 12 groups (speaker)" and figure["groups"] == 12
        assert figure["low"] <= figure["value"] <= figure["high"]
    alone = TranscriptEvaluator().score(transcribed(pairs))
    assert alone["wer"]["method"] == "bootstrap over 24 examples" and alone["sentence_error_rate"]["method"] == "Wilson"
    assert alone["wer"]["low"] < alone["wer"]["value"] < alone["wer"]["high"]


def test_a_recogniser_has_an_objective_without_labels_or_a_threshold() -> None:
    answers = [transcribed([("turn on the light", "turn the light")] * 8, split) for split in ("validation", "test")]
    metrics = evaluate([TranscriptEvaluator()], answers)
    assert metrics["objective"] == {
        "evaluator": "transcripts", "metric": "wer", "greater_is_better": False, "split": "validation",
    }  # fmt: skip
    assert metrics["rejection"] is None and metrics["main_split"] == "test"
    assert np.isclose(metrics["splits"]["test"]["wer"]["value"], 0.25)
    assert build_blocks([TranscriptEvaluator()], answers, metrics)


CONFUSED = [
    *[("dark roast please", "dark rose please")] * 3,
    *[("an iced mocha", "an ice mocha")] * 2,
    ("dark roast please", "dark roast"),
    ("dark roast please", "dark roast please now"),
    ("dark roast please", "dark roast please"),
]


def test_the_words_most_often_confused_come_first_with_how_often_they_were_said() -> None:
    answers = transcribed(CONFUSED)
    confused = TranscriptEvaluator().score(answers)["confused_words"]
    assert [(p["reference"], p["answer"], p["count"], p["said"]) for p in confused["pairs"]] == [
        ("roast", "rose", 3, 6), ("iced", "ice", 2, 2), ("", "now", 1, 0), ("please", "", 1, 6),
    ]  # fmt: skip
    assert (confused["kinds"], confused["errors"]) == (4, 7)
    table = next(block for block in blocks_of(answers) if isinstance(block, Table) and "confused" in block.title)
    assert table.rows[0] == ("roast", "rose", 3, "6 (50.0 %)")
    assert table.rows[2] == (NOTHING, "now", 1, "-") and table.rows[3][1] == NOTHING


def test_the_matrix_of_words_has_every_pair_of_its_words_and_every_error() -> None:
    matrix = next(block for block in blocks_of(transcribed(CONFUSED)) if isinstance(block, Matrix))
    assert matrix.name == "confused_words" and matrix.labels == ("ice", "iced", "roast", "rose", OTHERS, NOTHING)
    counts = {
        (said, written): count
        for said, row in zip(matrix.labels, matrix.counts, strict=True)
        for written, count in zip(matrix.labels, row, strict=True)
        if count
    }
    assert counts == {
        ("roast", "rose"): 3, ("roast", "roast"): 3, ("iced", "ice"): 2, (NOTHING, OTHERS): 1, (OTHERS, NOTHING): 1,
    }  # fmt: skip


def test_a_matrix_of_many_confused_words_stays_small_and_loses_no_error() -> None:
    pairs = [(f"alpha{chr(97 + i)} x", f"beta{chr(97 + i)} x") for i in range(20)]
    matrix = next(block for block in blocks_of(transcribed(pairs)) if isinstance(block, Matrix))
    assert len(matrix.labels) == 12 and sum(map(sum, matrix.counts)) == 20


def test_the_worst_examples_come_first_and_their_number_is_stated() -> None:
    pairs = [("turn on the light", "turn on the light"), ("stop", "drop"), *[("go up now", "go down then")] * 30]
    block = next(block for block in blocks_of(transcribed(pairs)) if isinstance(block, Examples))
    (group,) = block.groups
    assert group.detail == f"{EXAMPLES} of 31 examples of test with a wrong word" and group.more == 31 - EXAMPLES
    assert [example.id for example in group.examples] == [f"test-{i}" for i in range(2, 2 + EXAMPLES)]
    assert group.examples[0].words == "2 wrong of 3 said"
    assert [tuple(pair) for pair in group.examples[0].pairs] == [("go", "go"), ("up", "down"), ("now", "then")]


def test_of_a_recogniser_that_repeats_itself_only_the_first_words_are_shown() -> None:
    block = next(block for block in blocks_of(transcribed([("stop", "stop " * 300)])) if isinstance(block, Examples))
    (example,) = block.groups[0].examples
    assert len(example.pairs) == 80 and example.words == "299 wrong of 1 said; the first 80 are shown"


def test_without_a_wrong_word_there_is_a_sentence_instead() -> None:
    blocks = blocks_of(transcribed([("turn on", "Turn on.")] * 3))
    assert any(isinstance(block, Notes) and block.lines == ("No wrong word on test.",) for block in blocks)
    assert not any(isinstance(block, Matrix | Examples) for block in blocks)


def test_slices_are_of_words_and_their_bars_fill_the_width() -> None:
    pairs = [("turn on the light", "turn off the light"), ("stop", "stop")] * 10
    given = {"groups": ["ann"] * 10 + ["ben"] * 10, "group_column": "speaker", "seconds": [1.0, 3.0] * 10}
    answers = transcribed(pairs, **given)
    scores = evaluate([TranscriptEvaluator()], [answers])["splits"]["test"]
    assert scores["by_group"]["groups"]["ann"]["wer"] == 5 / 25 and scores["by_group"]["metric"] == "wer"
    assert [row["wer"]["value"] for row in scores["by_seconds"]] == [0.25, 0]
    bars = [block for block in blocks_of(answers) if isinstance(block, Bars)]
    assert max(bar.high for bar in bars[0].bars if bar.high is not None) == 1, "a small rate is seen, too"
