"""Traditional and hybrid models: calibrated, repeatable, and saved without a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voicecommand
from damage import unseal
from support import fit_estimator
from voicecommand.errors import InputError
from voicecommand.models.estimator import Estimator
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.classification import to_probabilities
from voicecommand.tasks.text_classification import EmbeddingSvm, TfidfSvm
from voicecommand.training import save

VERBS = {"off": "turn off the {}", "on": "turn on the {}", "play": "play {}", "call": "call {}"}
THINGS = ["lights", "fan", "kitchen lights", "music", "jazz", "anna", "ben", "living room fan", "timer", "hall"]


def rows_of(labels: list[str], copies: int = 1, seed: int = 0, noise: float = 0.2) -> Any:
    """Commands, some of them with the verb of another label, so that a classifier is not always right."""
    from datasets import Dataset

    draws = np.random.default_rng(seed)
    pairs = [(label, thing) for label in labels for thing in THINGS for _ in range(copies)]
    texts = [
        VERBS[str(draws.choice(labels)) if draws.random() < noise else label].format(thing) for label, thing in pairs
    ]
    return Dataset.from_dict({"text": texts, "label": [label for label, _ in pairs], "origin": texts})


def fit(task: Any, rows: Any, labels: list[str] | None = None, seed: int = 0) -> tuple[Estimator, Any, Vocabulary]:
    parts = fit_estimator(task, rows, labels, seed)
    return parts.model, parts.encoded.rows, parts.vocabulary


@pytest.fixture(params=["tfidf", "bert_uncased", "gpt2"])
def task(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Any:
    return TfidfSvm() if request.param == "tfidf" else EmbeddingSvm(checkpoint=str(checkpoints[request.param]))


@pytest.mark.parametrize("labels", [["off", "on"], ["call", "off", "on", "play"]], ids=len)
def test_what_is_saved_gives_the_same_probabilities(task: Any, labels: list[str], tmp_path: Path) -> None:
    estimator, encoded, vocabulary = fit(task, rows_of(labels, copies=2))
    names = vocabulary.labels
    save.save(estimator, task, None, vocabulary, tmp_path / "model")
    opened = voicecommand.load(tmp_path)
    texts = rows_of(labels, copies=2)["text"][:]
    expected = to_probabilities(estimator(encoded))
    assert expected.shape == (len(texts), len(labels))
    np.testing.assert_allclose(opened.probabilities(texts), expected, atol=1e-6)
    assert [names[i] for i in expected.argmax(1)] == [a["label"] for a in opened.predict(texts)]
    accuracy = np.mean(expected.argmax(1) == np.asarray(encoded["labels"]))
    assert accuracy > 0.5, "columns belong to their labels; exchanged, they would be right only on the noise"
    kinds = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt"}, "no pickle"


def test_the_same_seed_gives_the_same_classifier(task: Any) -> None:
    rows = rows_of(["call", "off", "on"])
    first, second = (fit(task, rows, seed=1)[0] for _ in range(2))
    np.testing.assert_array_equal(first.coefficients, second.coefficients)
    assert first.temperature == second.temperature


def test_the_temperature_lowers_the_log_loss_on_examples_that_were_not_fitted() -> None:
    task, labels = TfidfSvm(), ["call", "off", "on", "play"]
    estimator, _, _ = fit(task, rows_of(labels, copies=3, noise=0.1))
    other = rows_of(labels, copies=3, seed=9, noise=0.1)
    truth = np.array([labels.index(name) for name in other["label"]])

    def log_loss(temperature: float) -> float:
        estimator.temperature = temperature
        p = to_probabilities(estimator(other))
        return -np.log(p[np.arange(len(truth)), truth]).mean()

    fitted = estimator.temperature
    assert log_loss(fitted) < min(log_loss(1.0), log_loss(fitted * 3), log_loss(fitted / 3))


@pytest.mark.parametrize("copies", [1, 8])
def test_separable_rows_do_not_make_probabilities_certain(copies: int, caplog: pytest.LogCaptureFixture) -> None:
    rows = rows_of(["call", "off", "on", "play"], copies=copies, noise=0.0)
    with caplog.at_level("WARNING"):
        estimator, encoded, _ = fit(TfidfSvm(), rows)
    n = len(rows)
    assert f"none of {n} held-out examples of train is wrong, too few" in caplog.text
    assert estimator.held_out is not None
    confidence = to_probabilities(estimator.held_out).max(axis=1)
    # as sure on average as n right answers allow: the next one is right with a chance of about (n + 1) / (n + 2)
    assert 1 - 4 / n < confidence.mean() < 1 - 0.25 / n
    assert to_probabilities(estimator(encoded)).max() < 1 - 1e-7


def test_a_fold_has_the_features_that_its_rows_alone_would_have() -> None:
    from voicecommand.models.text_features import TfidfFeatures

    rows = rows_of(["call", "off", "on"], noise=0.0)
    chosen = np.arange(0, len(rows), 2)
    features, alone = TfidfFeatures((1, 2), (2, 5)), TfidfFeatures((1, 2), (2, 5))
    refitted = features.refit(features.fit(rows), chosen)
    alone.fit(rows.select(chosen))
    expected = alone(rows)
    np.testing.assert_allclose((refitted @ refitted.T).toarray(), (expected @ expected.T).toarray(), atol=1e-5)
    assert features.width() > alone.width(), "the whole has terms that the fold lacks"


def test_folds_keep_a_template_on_one_side() -> None:
    """A template is one text many times: out of fold it is unknown, and the temperature says so."""
    labels = ["call", "off", "on"]
    draws = np.random.default_rng(0)
    words = [" ".join(draws.choice(list("abcdefghij"), 4)) for _ in range(30)]
    rows = rows_of(labels)
    rows = rows.from_dict({"text": words * 5, "label": [labels[i % 3] for i in range(30)] * 5, "origin": words * 5})
    loose, _, _ = fit(TfidfSvm(), rows)
    kept, _, _ = fit(TfidfSvm(), rows.add_column("template", words * 5))
    assert kept.temperature > 5 * loose.temperature


def test_a_label_with_a_single_example_is_learned_too() -> None:
    rows = rows_of(["off", "on"], noise=0.0).add_item({"text": "call anna", "label": "call", "origin": "x"})
    estimator, encoded, vocabulary = fit(TfidfSvm(), rows)
    assert vocabulary.labels[int(estimator(encoded)[-1].argmax())] == "call"
    assert np.isfinite(estimator.temperature)


def test_labels_with_one_example_keep_no_others_from_being_held_out() -> None:
    labels = [*np.repeat(["a", "b", "c"], 20), "once", "single", "rare", "lone", "sole"]
    rows = {"text": [f"{label} word {i % 7}" for i, label in enumerate(labels)], "label": labels}
    rows |= {"id": [str(i) for i in range(len(labels))], "origin": rows["text"]}
    model, _, _ = fit(TfidfSvm(), rows)
    assert model.held_out is not None
    known = ~np.isnan(model.held_out[:, 0])
    assert known.tolist() == [label in "abc" for label in labels]


def test_one_example_of_each_label_is_enough_to_fit() -> None:
    rows = rows_of(["off"]).from_dict({"text": ["turn off", "turn on"], "label": ["off", "on"], "origin": ["a", "b"]})
    estimator, encoded, _ = fit(TfidfSvm(), rows)
    assert estimator.temperature == 1.0, "nothing to calibrate on"
    assert estimator(encoded).argmax(1).tolist() == [0, 1]


def test_a_class_weight_moves_decisions_towards_its_label() -> None:
    rows = rows_of(["off", "on"], copies=3, noise=0.6)
    counts = []
    for weights in ({"off": 20.0, "on": 1.0}, None, {"off": 1.0, "on": 20.0}):
        estimator, encoded, _ = fit(TfidfSvm(class_weights=weights), rows)
        counts.append(int((estimator(encoded).argmax(1) == 1).sum()))
    assert counts[0] < counts[1] < counts[2]


def test_fitted_parameters_are_counted(checkpoints: dict[str, Path]) -> None:
    rows = rows_of(["call", "off", "on"])
    estimator, _, _ = fit(TfidfSvm(), rows)
    terms = estimator.features.width()
    assert estimator.count_parameters() == (4 * terms + 3, 4 * terms + 3)
    hybrid, _, _ = fit(EmbeddingSvm(checkpoint=str(checkpoints["bert_uncased"])), rows)
    encoder = sum(p.numel() for p in hybrid.features.encoder.parameters())
    assert hybrid.count_parameters() == (encoder + 3 * 33, 3 * 33)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def rewrite(path: Path, **tensors: np.ndarray) -> None:
    from safetensors.numpy import load_file, save_file

    save_file(load_file(path) | tensors, path)


def edit_task(directory: Path, **changes: Any) -> None:
    task = json.loads((directory / "voicecommand.json").read_text())["task"]
    edit_json(directory / "voicecommand.json", task=task | changes)


FOREIGN = {
    "a foreign kind of features": lambda d: edit_json(d / "features.json", kind="os.system"),
    "features that are no JSON": lambda d: (d / "features.json").write_text("cos\nsystem\n"),
    "features that are a list": lambda d: (d / "features.json").write_text("[]"),
    "fewer terms than weights": lambda d: edit_json(d / "features.json", terms={"word": ["a"], "char_wb": ["b"]}),
    "terms that are numbers": lambda d: edit_json(d / "features.json", terms=3),
    "no tensors": lambda d: (d / "estimator.safetensors").unlink(),
    "tensors cut short": lambda d: cut(d / "estimator.safetensors"),
    "weights of another shape": lambda d: rewrite(
        d / "estimator.safetensors", coefficients=np.zeros((2, 2), dtype=np.float32)
    ),
    "another task": lambda d: edit_task(d, **{"class": "TextClassification"}),
    "a class that is not there": lambda d: edit_task(d, **{"class": "pickle"}),
    "another number of labels": lambda d: edit_json(d / "voicecommand.json", vocabulary={"labels": ["a", "b"]}),
    "labels that are no names": lambda d: edit_json(d / "voicecommand.json", vocabulary={"labels": [1, 2, 3]}),
    "a threshold that is a word": lambda d: edit_json(d / "voicecommand.json", threshold="high"),
    "settings that are a list": lambda d: (d / "voicecommand.json").write_text("[1]"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_damaged_or_foreign_model_is_one_line(kind: str, tmp_path: Path) -> None:
    task = TfidfSvm()
    estimator, _, vocabulary = fit(task, rows_of(["call", "off", "on"]))
    save.save(estimator, task, None, vocabulary, tmp_path / "model")
    unseal(tmp_path / "model")  # a change that somebody has made on purpose
    voicecommand.load(tmp_path)
    FOREIGN[kind](tmp_path / "model")
    with pytest.raises(InputError, match="model: does not open: ") as error:
        voicecommand.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_text_without_a_known_term_is_judged_by_the_intercepts() -> None:
    estimator, _, _ = fit(TfidfSvm(), rows_of(["call", "off", "on"]).select(range(25)))
    logits = estimator({"text": ["ÿÿÿ"]})[0]
    np.testing.assert_allclose(logits, estimator.intercepts / estimator.temperature, rtol=1e-5)
    assert np.ptp(logits) > 0.01, "the rare label is the less likely one"


def test_features_of_an_encoder_are_the_means_of_each_text_alone(checkpoints: dict[str, Path]) -> None:
    import torch

    task = EmbeddingSvm(checkpoint=str(checkpoints["roberta"]))
    processor = task.load_processor(Vocabulary())
    features = task.load_model(Vocabulary(), processor)
    texts = ["turn on the kitchen lights please", "stop", "play some jazz", "call anna"]
    ids = [processor(text)["input_ids"] for text in texts]
    with torch.no_grad():
        alone = [features.encoder(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0) for row in ids]
    expected = torch.nn.functional.normalize(torch.stack(alone), dim=-1).numpy()
    np.testing.assert_allclose(features({"input_ids": ids}, batch_size=2), expected, atol=1e-5)
    assert abs(expected[0] - expected[1]).max() > 1e-2
