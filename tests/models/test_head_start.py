"""A head that starts from the features of the frozen network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support import FAMILIES
from voicecommand.errors import InputError
from voicecommand.models import head_start
from voicecommand.models.tuning import Full
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.text_classification import TextClassification

TEXTS = ["turn on the light", "turn off the light", "play some music", "stop the music please"] * 3
LABELS = ["on", "off", "play", "stop"] * 3


def start(task: TextClassification, labels: list[str] = LABELS) -> tuple[Any, Any, Any, Any]:
    rows = {"text": TEXTS, "label": labels, "origin": TEXTS}
    vocabulary = task.learn(rows)  # type: ignore[arg-type]
    processor = task.load_processor(vocabulary)
    from datasets import Dataset

    encoded = task.encode(Dataset.from_dict(rows), processor, vocabulary)
    model = task.load_model(vocabulary, processor)
    model = task.prepare(model, Full(), encoded, processor)
    return model, encoded, processor, vocabulary


@pytest.mark.parametrize("family", FAMILIES)
def test_the_untrained_network_of_every_family_knows_its_training_rows(
    checkpoints: dict[str, Path], family: str
) -> None:
    torch.manual_seed(0)
    task = TextClassification(checkpoint=str(checkpoints[family]))
    model, encoded, processor, vocabulary = start(task)
    answers = Answerer(task, model.eval(), processor, vocabulary).answer_encoded(encoded)
    assert np.mean(np.array(answers.columns["label"]) == np.array(LABELS)) == 1.0


@pytest.mark.parametrize("family", ["bert_uncased", "roberta"])
def test_the_added_layer_is_the_normed_mean_over_the_tokens(checkpoints: dict[str, Path], family: str) -> None:
    task = TextClassification(checkpoint=str(checkpoints[family]), head_start="random")
    model, _, _, _ = start(task)
    model.eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 10, 11, model.config.pad_token_id, model.config.pad_token_id]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        before = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (before * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        layers = model.config.num_hidden_layers
        assert head_start.add_mean_layer(model)
        after = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    assert model.config.num_hidden_layers == layers + 1
    likeness = torch.cosine_similarity(after, mean - mean.mean(-1, keepdim=True))
    assert (likeness > 0.99).all(), likeness


def test_two_labels_get_the_probabilities_of_the_logistic_regression(checkpoints: dict[str, Path]) -> None:
    from sklearn.linear_model import LogisticRegression

    task = TextClassification(checkpoint=str(checkpoints["distilbert"]))
    labels = ["a", "b", "b", "a"] * 3
    model, encoded, processor, vocabulary = start(task, labels)
    answerer = Answerer(task, model.eval(), processor, vocabulary)
    probabilities = answerer.answer_encoded(encoded).columns["probabilities"]
    head, model.classifier = model.classifier, torch.nn.Identity()
    features = answerer.respond(encoded)
    model.classifier = head
    scaled = features / np.linalg.norm(features, axis=1).mean()
    expected = LogisticRegression(C=head_start.C, max_iter=1000).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_the_head_is_random_with_many_rows_or_without_pretrained_weights(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = str(checkpoints["bert_uncased"])
    with caplog.at_level(logging.INFO):
        start(TextClassification(checkpoint=place, pretrained=False))
        start(TextClassification(checkpoint=place, head_start="random"))
        with monkeypatch.context() as patch:
            patch.setattr(head_start, "FEW", 3)
            start(TextClassification(checkpoint=place))
        assert "head: starts" not in caplog.text
        start(TextClassification(checkpoint=place))
    assert "head: starts as logistic regression" in caplog.text and "fewer than 64 examples a label" in caplog.text


def test_auto_is_decided_once_for_all_folds(checkpoints: dict[str, Path]) -> None:
    from voicecommand.tasks.base import Encoded, Vocabulary

    task, two = TextClassification(checkpoint=str(checkpoints["bert_uncased"])), Vocabulary(labels=("a", "b"))
    rows = {count: Encoded({"length": [1] * count}) for count in (127, 128)}
    assert [task.settle(rows[count], two).head_start for count in (127, 128)] == ["fitted", "random"]
    assert task.settle(rows[128], two).settle(rows[127], two).head_start == "random"


def test_a_start_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.head_start=warm: give auto, fitted, random"):
        TextClassification(checkpoint="x", head_start="warm")


def test_the_saved_network_opens_with_the_stock_class(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    task = TextClassification(checkpoint=str(checkpoints["bert_uncased"]))
    model, encoded, processor, vocabulary = start(task)
    task.save(model, processor, tmp_path)
    opened = AutoModelForSequenceClassification.from_pretrained(str(tmp_path))
    ours = Answerer(task, model.eval(), processor, vocabulary).respond(encoded)
    theirs = Answerer(task, opened.eval(), processor, vocabulary).respond(encoded)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
