"""Error rates of transcripts, against jiwer and against known values, and the evaluator of them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from voicecommand.errors import InputError
from voicecommand.evaluation import alignment
from voicecommand.evaluation.base import Answers
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
    assert list(counts[:3]) == [theirs.insertions, theirs.deletions, theirs.substitutions]
    assert counts[3] == theirs.hits + theirs.substitutions + theirs.deletions


def test_an_alignment_has_the_counted_errors_and_all_words_in_order() -> None:
    for reference, answer in zip(*random_texts(7), strict=True):
        pairs = alignment.align(reference.split(), answer.split())
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
        ("stop", "", [("stop", "")]),
        ("", "oh no", [("", "oh"), ("", "no")]),
    ],
)
def test_words_that_are_spelt_alike_stand_beside_each_other(reference: str, answer: str, wrong: list) -> None:
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
