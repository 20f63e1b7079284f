"""A saved run opened again with `voicecommand.load`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import voicecommand
from voicecommand.errors import InputError
from voicecommand.tasks import saved
from voicecommand.tasks.base import Decoding, Vocabulary
from voicecommand.tasks.text_classification import TextClassification

LABELS = ["call", "off", "on", "play", "set", "stop", "wake"]
SET_ON = {
    "rule": "keep",
    "asked": 0.95,
    "splits": ["validation"],
    "examples": 9,
    "share": {"value": 1.0, "low": 0.7, "high": 1.0, "method": "Wilson", "note": None},
    "is_synthetic": False,
    "note": None,
}
TEXTS = ["turn on the lights", "stop", "play some jazz in the living room", "", "call anna", "stop"]


@pytest.fixture
def run(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A run directory with a network of random weights, threshold 0.2."""
    torch.manual_seed(0)
    task = TextClassification(checkpoint=str(checkpoints["roberta"]))
    vocabulary = Vocabulary(labels=tuple(LABELS))
    processor = task.load_processor(vocabulary)
    task.load_model(vocabulary, processor).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    saved.write_settings(tmp_path / "model", task, vocabulary)
    saved.write_threshold(tmp_path / "model", {"threshold": 0.2, "set_on": SET_ON})
    return tmp_path


def test_probabilities_are_those_of_each_text_alone_in_the_order_given(run: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].numpy() for text in TEXTS]
    opened = voicecommand.load(run)
    for batch_size in (2, 64):
        opened.answerer.batch_size = batch_size
        found = opened.probabilities(TEXTS)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, alone, atol=1e-5)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    assert abs(found[0] - found[1]).max() > 1e-3, "the order can be told"


def test_an_answer_has_the_label_its_probability_the_top_five_and_whether_it_is_accepted(run: Path) -> None:
    opened = voicecommand.load(run)
    probabilities = opened.probabilities(TEXTS)
    threshold = float(np.median(probabilities.max(1)))
    opened.answerer.decoding = Decoding(threshold)
    answers = opened.predict(TEXTS)
    for row, answer in zip(probabilities, answers, strict=True):
        order = np.argsort(-row)[:5]
        assert answer["label"] == LABELS[order[0]] and answer["probability"] == row[order[0]]
        assert [a["label"] for a in answer["top_5"]] == [LABELS[i] for i in order]
        assert answer["accepted"] == (row.max() >= threshold)
    assert {a["accepted"] for a in answers} == {True, False}
    opened.answerer.decoding = Decoding()
    assert {a["accepted"] for a in opened.predict(TEXTS)} == {None}
    json.dumps(answers)


def test_no_texts_give_no_answers(run: Path) -> None:
    opened = voicecommand.load(run)
    assert opened.probabilities([]).shape == (0, len(LABELS))
    assert opened.predict([]) == []


def test_texts_beyond_what_the_checkpoint_reads_are_cut_and_counted(run: Path) -> None:
    opened = voicecommand.load(run)  # max_length 128, but the checkpoint reads 62 tokens
    long = "turn on the lights " * 40
    answered = opened.answer([long, "stop"])
    assert answered.truncated == 1 and answered.limit == "longer than 62 tokens, and cut to them"
    assert np.isfinite(opened.probabilities([long, "stop"])).all()


def test_a_run_in_the_home_directory_opens_by_its_tilde(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.parent))
    assert saved.find_run(f"~/{run.name}") == run


def test_a_run_and_its_model_folder_both_open(run: Path) -> None:
    a, b = voicecommand.load(run), voicecommand.load(run / "model")
    assert a.label_names == b.label_names == LABELS and a.threshold == 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "nowhere", "no such directory"),
        (lambda d: d, "has no model/voicecommand.json: not a finished run"),
    ],
)
def test_a_directory_without_a_model_is_an_error(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        voicecommand.load(make(tmp_path))


def relabel(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"id2label": {str(i): f"x{i}" for i in range(7)}}))


def foreign_code(directory: Path) -> None:
    """A config that asks for code from the directory, which must not run."""
    config = json.loads((directory / "config.json").read_text())
    code = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    (directory / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": code}))
    (directory / "evil.py").write_text("raise SystemExit('ran')")


def change(directory: Path, key: str, value: Any) -> None:
    saved = json.loads((directory / "voicecommand.json").read_text())
    (directory / "voicecommand.json").write_text(json.dumps(saved | {key: value}))


def change_settings(directory: Path, **settings: Any) -> None:
    task = json.loads((directory / "voicecommand.json").read_text())["task"]
    change(directory, "task", task | {"settings": task["settings"] | settings})


DAMAGE = {
    "weights cut short": lambda d: (d / "model.safetensors").write_bytes(b"short"),
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "weights as a pickle": lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
    "no config": lambda d: (d / "config.json").unlink(),
    "other labels": relabel,
    "foreign code": foreign_code,
    "no JSON": lambda d: (d / "voicecommand.json").write_text("{"),
    "no vocabulary": lambda d: change(d, "vocabulary", {}),
    "a vocabulary that is no list": lambda d: change(d, "vocabulary", {"labels": "abc"}),
    "a task outside tasks": lambda d: change(d, "task", {"file": "../run/machine", "class": "Run", "settings": {}}),
    "a class that is no task": lambda d: change(d, "task", {"file": "saved", "class": "CommandModel", "settings": {}}),
    "a setting that the task lacks": lambda d: change_settings(d, evil=1),
    "a setting of another type": lambda d: change_settings(d, max_length="many"),
    "a threshold set on half a record": lambda d: change(d, "threshold_set_on", {"rule": "keep", "note": None}),
    "a threshold that is no number": lambda d: change(d, "threshold", "0.5"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_one_line(kind: str, run: Path) -> None:
    DAMAGE[kind](run / "model")
    with pytest.raises(InputError, match="model: does not open: ") as error:
        voicecommand.load(run)
    assert "\n" not in str(error.value)


def test_a_run_opens_where_it_was_moved_to(run: Path, tmp_path: Path) -> None:
    before = voicecommand.load(run).probabilities(TEXTS)
    shutil.move(run / "model", tmp_path / "elsewhere")
    np.testing.assert_array_equal(voicecommand.load(tmp_path / "elsewhere").probabilities(TEXTS), before)
