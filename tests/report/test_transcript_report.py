"""The files of a recogniser's evaluation: page, card, terminal, predictions."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.splits import build_blocks, evaluate
from voicecommand.evaluation.transcripts import TranscriptEvaluator
from voicecommand.report import clips, facts, terminal, written
from voicecommand.report import page as report_page

PAIRS = [
    ("turn on the light", "Turn on the light."),
    ("a dark roast please", "A dark rose, please"),
    ("play <script>alert('text')</script> music", "play <img src=x onerror=alert(1)> music"),
    ("stop the timer now", "stop timer right now"),
]
LIMIT = "longer than 8 s: answers are of their first part"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of a recogniser, with its page and its card."""
    directory = tmp_path_factory.mktemp("run")
    answers = [answers_of("validation", 1), answers_of("test", 8)]
    evaluators = (TranscriptEvaluator(),)
    metrics = evaluate(evaluators, answers)
    blocks = build_blocks(evaluators, answers, metrics)
    written.write_evaluation(directory, answers, metrics, blocks)
    clips.write_clips(directory, blocks, lambda _, name: np.full(8000, len(name), dtype=np.int16), 16_000)
    split = {"rows": 32, "sha256": "ab", "truncated": 2, "limit": LIMIT}
    run = {
        "task": "speech_recognition",
        "data": {"name": "orders", "columns": ["audio", "transcript"], "splits": {"test": split}},
        "model": {"name": "asr", "checkpoint": None, "tuning": "full", "parameters": 9, "trainable_parameters": 8},
    }
    history = [{"eval_loss": 1.0, "eval_wer": 0.5, "step": 10}, {"eval_loss": 0.8, "eval_wer": 0.25, "step": 20}]
    task = {"name": "speech_recognition", "hub_tag": "automatic-speech-recognition", "reads": "audio"}
    task |= {"is_network": True, "settings": {"language": "en"}}
    (directory / "run.json").write_text(json.dumps(run))
    (directory / "history.json").write_text(json.dumps(history))
    (directory / "model").mkdir()
    saved = {"format": 2, "task": task, "vocabulary": {}, "threshold": None}
    (directory / "model" / "voicecommand.json").write_text(json.dumps(saved))
    report_page.write_report(directory, blocks)
    report_page.write_model_card(directory)
    return directory


def answers_of(split: str, times: int) -> Answers:
    references, texts = map(list, zip(*PAIRS * times, strict=True))
    ids = [f"{split}-{i}" for i in range(len(references))]
    return Answers(
        split, ids, ids, references, {"transcript": references}, {"transcript": texts},
        groups=[f"speaker {i % 11}" for i in range(len(ids))], group_column="speaker", seconds=[0.5] * len(ids),
    )  # fmt: skip


class Words(HTMLParser):
    """The kind and the text of each word of the aligned examples, and all tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[list[str]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.attributes |= given.keys()
        if given.get("title") and given["title"] == given.get("class"):
            self.words.append([str(given["title"])])

    def handle_data(self, data: str) -> None:
        if self.words and data.strip():
            self.words[-1].append(data.replace("\N{NO-BREAK SPACE}", " "))


@pytest.fixture(scope="module")
def html(directory: Path) -> str:
    return (directory / "report.html").read_text()


def test_reference_and_answer_stand_word_by_word_with_a_sign_for_each_kind_of_error(html: str) -> None:
    words = [word[:3] for word in Words(html).words]
    assert ["substituted", "roast", "\N{NOT EQUAL TO} rose"] in words
    assert ["right", "dark", "dark"] in words
    assert ["inserted", "+ right"] in words
    assert ["deleted", "the", "\N{MINUS SIGN}"] in words
    assert "24 of 24 examples" not in html and "20 of 24 examples of test with a wrong word" in html
    assert "and 4 more in predictions.parquet" in html


def test_transcripts_of_a_user_are_shown_and_never_run(html: str) -> None:
    found = Words(html)
    assert not found.tags & {"script", "img onerror"} and "onerror" not in found.attributes
    assert "&lt;" in html and ["right", "<", "<"] in [word[:3] for word in found.words]


def test_every_example_can_be_heard(html: str) -> None:
    assert html.count("<audio controls") == 20


def contrast(one: str, other: str) -> float:
    """Of two colours #rrggbb (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, light = sorted(luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("kind", ["substituted", "inserted", "deleted"])
def test_the_colours_of_words_can_be_read(html: str, kind: str) -> None:
    (background,) = re.findall(rf"\.{kind} {{ background: (#\w{{6}})", html)
    (colour,) = re.findall(rf"\.{kind} \.sign {{ color: (#\w{{6}})", html)
    (ink,) = re.findall(r"--ink: (#\w{6})", html)
    assert contrast(colour, background) >= 4.5 and contrast(ink, background) >= 4.5


def test_page_and_card_say_what_the_normaliser_does_and_what_was_cut(directory: Path, html: str) -> None:
    card = (directory / "model" / "README.md").read_text()
    for text in (html, card):
        assert text.count("references and answers are normalised as English") == 1
        assert f"test: 2 of 32 examples are {LIMIT}." in text
        assert "embeddings of tokens" not in text
    assert "validation WER, %" in html


def test_the_matrix_of_words_has_its_files(directory: Path) -> None:
    rows = list(csv.reader((directory / "confused_words.csv").read_text().splitlines()))
    assert rows[0][0] == "reference \\ written" and "roast" in rows[0] and len(rows) == len(rows[0])
    with Image.open(directory / "confused_words.png") as image:
        assert image.width > 400


def test_predictions_hold_what_was_said_and_what_was_written(directory: Path) -> None:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(directory / "predictions.parquet").to_pylist()
    assert [(row["reference_transcript"], row["transcript"]) for row in rows[:4]] == PAIRS
    assert {row["group"] for row in rows} >= {"speaker 0"} and len(rows) == 36


def test_the_card_has_the_word_error_rate_as_the_hub_reads_it(directory: Path) -> None:
    from huggingface_hub import ModelCard

    text = (directory / "model" / "README.md").read_text()
    data: Any = ModelCard(text).data
    assert (data.pipeline_tag, data.language) == ("automatic-speech-recognition", "en")
    results = {r.metric_type: (r.task_type, r.metric_value, r.dataset_split) for r in data.eval_results}
    value = json.loads((directory / "metrics.json").read_text())["splits"]["test"]["wer"]["value"]
    assert results["wer"] == ("automatic-speech-recognition", pytest.approx(value, abs=1e-4), "test")
    assert 'pipeline("automatic-speech-recognition"' in text and "classify" not in text and "labels" not in text
    assert "It has no threshold" in text and "\n\n\n" not in text


def test_the_terminal_has_the_figures_and_the_words_that_are_most_often_wrong(directory: Path) -> None:
    metrics = json.loads((directory / "metrics.json").read_text())
    lines = terminal.format_summary(metrics).splitlines()
    assert any(line.startswith("test ") and " WER " in line and "over 11 groups (speaker)" in line for line in lines)
    assert any(line.startswith("words of test that are most often wrong: ") for line in lines)
    assert any(re.fullmatch(r" +8 x roast +taken for rose", line) for line in lines)
    assert any(re.fullmatch(r" +8 x right +inserted", line) for line in lines)


def test_a_task_that_reads_audio_is_known_by_its_columns() -> None:
    assert facts.is_speech({"task": "speech_recognition", "data": {"columns": ["audio", "transcript"]}})
    assert not facts.is_speech({"task": "audio_of_text", "data": {"columns": ["text"]}})
    assert facts.is_speech({"task": "audio_classification"}), "a run of November 2026"
