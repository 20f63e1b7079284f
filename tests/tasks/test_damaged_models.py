"""A saved model that is not as training left it is refused in one line, and a good one with a user's notes is not."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import damage
import voicecommand
from support import fit_estimator, run_and_read
from voicecommand import files
from voicecommand.errors import InputError, NonFiniteLoss
from voicecommand.run import manifest
from voicecommand.tasks import saved
from voicecommand.tasks.audio_classification import BCResNet
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.text_classification import EmbeddingSvm, TextClassification, TfidfSvm
from voicecommand.training import save

LABELS = ("call", "off", "on")
TEXTS = [f"{verb} the {thing}" for verb in LABELS for thing in ("lamp", "fan", "radio", "heater")]
CLIP = (9000 * np.sin(np.arange(8000) / 20)).astype(np.int16)
KINDS = ("text network", "estimator", "audio network")


def fit_rows() -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"text": TEXTS, "label": [text.split()[0] for text in TEXTS], "origin": TEXTS})


def save_network(task: Any, folder: Path) -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary(labels=LABELS)
    processor = task.load_processor(vocabulary)
    save.save(task.load_model(vocabulary, processor), task, processor, vocabulary, folder)


@pytest.fixture(scope="module")
def models(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each kind; the networks have random weights."""
    root = tmp_path_factory.mktemp("models")
    save_network(TextClassification(checkpoint=str(checkpoints["bert_uncased"])), root / "text network")
    save_network(BCResNet(), root / "audio network")
    parts = fit_estimator(TfidfSvm(), fit_rows())
    save.save(parts.model, parts.task, None, parts.vocabulary, root / "estimator")
    return {kind: root / kind for kind in KINDS}


@pytest.fixture
def copy(models: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(models[kind], tmp_path / "model"))


def answer(folder: Path) -> Any:
    model = voicecommand.load(folder)
    return model.probabilities([CLIP] if model.task.columns.reads == "audio" else TEXTS)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        voicecommand.load(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    return str(error.value)


def test_the_list_of_damages_is_long_enough() -> None:
    assert len(damage.DAMAGES) >= 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", damage.DAMAGES)
def test_a_damaged_model_is_refused_in_one_line(name: str, kind: str, copy: Callable[[str], Path]) -> None:
    folder = copy(kind)
    damage.DAMAGES[name](folder)
    refused(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", damage.UNNOTICED_BY_A_MANIFEST)
def test_without_a_manifest_tensors_and_settings_are_checked(name: str, kind: str, copy: Callable[[str], Path]) -> None:
    folder = copy(kind)
    damage.UNNOTICED_BY_A_MANIFEST[name](folder)
    assert "does not open" in refused(folder) or "voicecommand.json" in refused(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_without_a_manifest_opens_with_one_line(
    kind: str, copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy(kind)
    before = answer(folder)
    assert not caplog.records
    damage.unseal(folder)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(answer(folder), before)
    assert [record.getMessage() for record in caplog.records if "no manifest" in record.getMessage()]
    assert len(caplog.records) == 1


ODD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a length of no token": ("text network", lambda d: damage.edit_task(d, max_length=0), "give 3 to 100,000"),
    "a length beyond all texts": ("text network", lambda d: damage.edit_task(d, max_length=10**9), "give 3 to 100,000"),
    "more tokens than the network has": ("text network", lambda d: add_tokens(d), "the tokenizer is another one"),
    "no tokenizer_config": ("text network", lambda d: (d / "tokenizer_config.json").unlink(), "tokenizer_config.json"),
    "a window of no second": ("audio network", lambda d: damage.edit_task(d, max_seconds=0), "give 0.1 to 30"),
    "a window of NaN": ("audio network", lambda d: damage.edit_task(d, max_seconds=float("nan")), "give 0.1 to 30"),
    "another sampling rate": (
        "audio network",
        lambda d: damage.edit_json(d / "preprocessor_config.json", sampling_rate=8000),
        "reads 8000 Hz",
    ),
    "a temperature of 0": ("estimator", lambda d: temperature(d, 0), "temperature is 0.0"),
    "a temperature below 0": ("estimator", lambda d: temperature(d, -1), "temperature is -1.0"),
    "a temperature of NaN": ("estimator", lambda d: temperature(d, float("nan")), "temperature is NaN"),
    "n-grams from 0": ("estimator", lambda d: ngrams(d, [0, 2]), "are not [shortest, longest]"),
    "a term twice": ("estimator", lambda d: double_a_term(d), "a term twice"),
}


def temperature(folder: Path, value: float) -> None:
    damage.edit_tensors(folder, lambda tensors: tensors["temperature"].fill_(value))


def ngrams(folder: Path, word: list[int]) -> None:
    content = json.loads((folder / "features.json").read_text())
    damage.edit_json(folder / "features.json", ngrams=content["ngrams"] | {"word": word})


def double_a_term(folder: Path) -> None:
    terms = json.loads((folder / "features.json").read_text())["terms"]
    terms["word"][1] = terms["word"][0]
    damage.edit_json(folder / "features.json", terms=terms)


def add_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zzzz"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused_without_a_manifest(name: str, copy: Callable[[str], Path]) -> None:
    kind, change, message = ODD[name]
    folder = copy(kind)
    damage.unseal(folder)
    change(folder)
    assert message in refused(folder)


def test_a_users_own_files_beside_the_model_do_not_matter(copy: Callable[[str], Path]) -> None:
    folder = copy("text network")
    (folder / "README.md").write_text("changed")
    for name in ("notes.txt", "LICENSE", ".gitattributes", "picture.png", ".cache/huggingface/x.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    answer(folder)
    (folder / "vocab.txt").write_text("x")  # which a tokenizer would read
    assert "vocab.txt was not there when the folder was written" in refused(folder)


def test_a_model_whose_record_names_a_manifest_is_refused_without_it(copy: Callable[[str], Path]) -> None:
    folder = copy("estimator")
    (folder / "manifest.json").unlink()
    assert "manifest.json is missing" in refused(folder)


def test_an_encoder_of_a_hybrid_model_is_checked_as_well(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = fit_estimator(EmbeddingSvm(checkpoint=str(checkpoints["bert_uncased"])), fit_rows())
    save.save(parts.model, parts.task, None, parts.vocabulary, tmp_path / "model")
    answer(tmp_path)
    encoder = tmp_path / "model" / "encoder"
    damage.BYTES["a bit flipped in the middle"](encoder / "model.safetensors")
    assert "encoder/model.safetensors has changed" in refused(tmp_path / "model")
    damage.unseal(tmp_path / "model")
    for change in damage.TENSORS.values():
        kept = (encoder / "model.safetensors").read_bytes()
        damage.edit_tensors(encoder, change)
        assert "does not open" in refused(tmp_path / "model")
        (encoder / "model.safetensors").write_bytes(kept)


def test_the_threshold_moves_and_the_model_stays_sealed(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("estimator")
    on = {"rule": "keep", "asked": 0.9, "splits": ["validation"], "examples": 9, "is_synthetic": False, "note": None}
    on["share"] = {"value": 1.0, "low": 0.7, "high": 1.0, "method": "Wilson", "note": None}
    saved.write_threshold(folder, {"threshold": 0.3, "set_on": on})
    assert voicecommand.load(folder).threshold == 0.3

    def stop(*paths: object) -> None:
        raise KeyboardInterrupt

    for step in ("replace", "fsync"):  # killed at any of the steps, the model opens with the old or the new one
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(files.os, step, stop)
            saved.write_threshold(folder, {"threshold": 0.4, "set_on": on})
        assert voicecommand.load(folder).threshold == 0.3
    damage.edit_json(folder / "voicecommand.json", threshold=0.9)
    assert "voicecommand.json: has changed since it was written" in refused(folder)
    with pytest.raises(InputError, match="has changed since it was written"):
        saved.write_threshold(folder, {"threshold": 0.4, "set_on": on})


def test_a_file_is_hashed_again_only_after_a_change(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("text network")
    hashed: list[str] = []
    digest = manifest.hashlib.file_digest

    def count(file: Any, kind: str) -> Any:
        hashed.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(manifest.hashlib, "file_digest", count)
    voicecommand.load(folder)
    assert "model.safetensors" in hashed
    hashed.clear()
    voicecommand.load(folder)
    assert not hashed
    os.utime(folder / "config.json", ns=(1, 1))
    voicecommand.load(folder)
    assert hashed == ["config.json"]


def test_the_model_of_an_unfinished_run_is_refused(copy: Callable[[str], Path], capfd: Any) -> None:
    folder = copy("estimator")
    status = folder.parent / "status.json"
    for state in ("running", "failed", "interrupted"):
        status.write_text(json.dumps({"state": state}))
        for place in (folder.parent, folder):
            with pytest.raises(InputError, match=rf"did not finish \(status.json: {state}\).*resume=true"):
                voicecommand.load(place)
    assert saved.load(folder, unfinished=True).label_names == list(LABELS), "training has just saved it"
    code, said = run_and_read(capfd, "predict", str(folder.parent), "turn it on")
    assert code == 2 and "did not finish" in said and said.count("\n") == 1
    status.write_text(json.dumps({"state": "finished"}))
    voicecommand.load(folder.parent)


# ---- answers that are no numbers ----


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_nan(kind: str, copy: Callable[[str], Path]) -> None:
    """Weights that are finite, and overflow in the sums."""
    folder = copy(kind)
    damage.unseal(folder)

    def grow(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if (tensor.is_floating_point() and tensor.ndim > 1) or name == "intercepts":
                tensor.fill_(3e38)
            if name == "temperature":
                tensor.fill_(1e-38)

    damage.edit_tensors(folder, grow)
    model = voicecommand.load(folder)
    commands = [CLIP, CLIP] if kind == "audio network" else ["call the lamp", "off"]
    with pytest.raises(NonFiniteLoss, match=r"^row 1: the model's output is NaN or infinite \(and for 1 more\): the w"):
        model.predict(commands)


def test_predict_names_the_line_of_an_answer_that_is_nan(
    copy: Callable[[str], Path], tmp_path: Path, capfd: Any
) -> None:
    folder = copy("text network")
    damage.unseal(folder)
    damage.edit_tensors(folder, lambda tensors: tensors["classifier.weight"].fill_(3e38))
    (tmp_path / "lines.txt").write_text("call the lamp\noff\n")
    code, said = run_and_read(capfd, "predict", str(folder), "--input", str(tmp_path / "lines.txt"))
    assert code == 3 and "lines.txt:1: the model's output is NaN or infinite" in said and "probability" not in said


def test_an_overflow_of_fp16_says_what_to_do(copy: Callable[[str], Path]) -> None:
    folder = copy("text network")
    damage.unseal(folder)
    damage.edit_tensors(folder, lambda tensors: tensors["classifier.weight"].fill_(1e5))
    voicecommand.load(folder).predict("off")
    with pytest.raises(NonFiniteLoss, match=r"fp16 overflows \(give precision=bf16 or fp32"):
        saved.load(folder, "fp16").predict("off")
