"""Speech recognition: labels, loss, writing, saved models and the recipes, on a tiny Whisper with random weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import DatasetDict

import voicecommand
from support import Parts, build_parts, find_run, run_and_read
from voicecommand.data import prepared
from voicecommand.data.sources import folder
from voicecommand.models.recogniser import GRACE, TOKENS_PER_SECOND
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.speech_recognition import SpeechRecognition
from voicecommand.training import save


@pytest.fixture(scope="module")
def sounds(recordings: Path) -> DatasetDict:
    return prepared.prepare(folder.load_folder(("audio", "transcript"), path=str(recordings)))


def build(recogniser: Path, sounds: DatasetDict, output: Path, tuning: Any = None, **arguments: Any) -> Parts:
    from transformers import TrainingArguments, set_seed

    set_seed(0)
    task = SpeechRecognition(checkpoint=str(recogniser), max_seconds=arguments.pop("max_seconds", 2))
    settings = {
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 4, "max_steps": 2, "learning_rate": 1e-2,
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no",
        "seed": 3,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(output), **(settings | arguments))
    return build_parts(task, sounds, args, tuning)


def test_labels_leave_out_the_token_that_the_decoder_starts_from_and_keep_the_end(
    recogniser: Path, sounds: DatasetDict
) -> None:
    task = SpeechRecognition(checkpoint=str(recogniser), max_seconds=2)
    processor: Any = task.load_processor(Vocabulary())
    encoded = task.encode(sounds["train"], processor, Vocabulary())
    labels, tokenizer = encoded.rows["labels"][0], processor.tokenizer
    assert tokenizer.convert_ids_to_tokens([labels[0], labels[-1]]) == ["<|notimestamps|>", "<|endoftext|>"]
    assert tokenizer.decode(labels, skip_special_tokens=True).strip() == sounds["train"]["transcript"][0]
    assert encoded.references == {"transcript": sounds["train"]["transcript"][:]}


def test_the_loss_of_a_batch_is_that_of_the_stock_class(recogniser: Path, sounds: DatasetDict, tmp_path: Path) -> None:
    parts = build(recogniser, sounds, tmp_path)
    batch = next(iter(parts.trainer.get_train_dataloader()))
    inputs, _ = parts.trainer.to_inputs(batch)
    loss = parts.task.losses(parts.model, inputs, batch)["transcript"]
    ours = (
        torch.nn.functional.cross_entropy(loss.logits, loss.targets, reduction="sum")
        / parts.task.count(batch)["transcript"]
    )
    stock = parts.model(input_features=inputs["input_features"], labels=batch["labels"]).loss
    torch.testing.assert_close(ours, stock)


def test_a_step_is_the_same_however_its_16_examples_are_divided(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    states = []
    for size, accumulation in ((16, 1), (8, 2), (4, 4)):
        parts = build(
            recogniser, sounds, tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation
        )
        parts.trainer.train()
        losses = [row["loss"] for row in parts.trainer.state.log_history if "loss" in row]
        states.append((losses, {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}))
    for losses, weights in states[1:]:
        assert losses == pytest.approx(states[0][0], rel=1e-5)
        torch.testing.assert_close(weights, states[0][1], rtol=1e-4, atol=1e-5)


def test_the_loss_of_validation_is_the_mean_over_all_its_tokens(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    parts = build(recogniser, sounds, tmp_path)
    figures = parts.trainer.validate(parts.model)
    answerer = Answerer(parts.task, parts.model, parts.processor, parts.vocabulary, batch_size=6)
    encoded = parts.encoded["validation"]
    batch = answerer.collate(encoded.reader()(range(len(encoded))))
    with torch.no_grad():
        inputs = answerer.to_inputs(batch)[0]["input_features"]
        expected = parts.model.eval()(input_features=inputs, labels=batch["labels"]).loss
    assert figures["loss"] == pytest.approx(float(expected), rel=1e-5) and figures["wer"] > 0


def test_answers_do_not_depend_on_the_batch_and_are_those_of_the_pipeline(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    from transformers import pipeline

    parts = build(recogniser, sounds, tmp_path / "out")
    parts.trainer.train()
    vocabulary = Vocabulary()
    save.save(parts.model, parts.task, parts.processor, vocabulary, tmp_path / "model")
    model = voicecommand.load(tmp_path / "model")
    clips = [np.asarray(audio, dtype=np.int16) for audio in sounds["test"]["audio"][:]]
    together = model(clips)

    def most(clip: np.ndarray) -> int:  # the bound on the tokens of a clip
        return math.ceil(GRACE + TOKENS_PER_SECOND * len(clip) / 16_000)

    stock = pipeline("automatic-speech-recognition", model=str(tmp_path / "model"), device="cpu")
    for clip, answer in zip(clips, together, strict=True):
        apart = model(clip)
        assert answer["transcript"] == apart["transcript"] and answer["score"] == pytest.approx(
            apart["score"], rel=1e-4
        )
        features = stock.feature_extractor(clip / 32768, sampling_rate=16_000, return_tensors="pt").input_features
        ids = stock.model.generate(features, max_new_tokens=most(clip))
        assert stock.tokenizer.decode(ids[0], skip_special_tokens=True).strip() == answer["transcript"]
        text = stock({"raw": clip / 32768, "sampling_rate": 16_000}, generate_kwargs={"max_new_tokens": most(clip)})[
            "text"
        ]
        assert text.strip() and answer["score"] < 0


@pytest.mark.slow
def test_the_recipes_train_measure_and_answer(
    recogniser: Path, recordings: Path, tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ("data=folder", f"data.path={recordings}", "threads=1")
    code, output = run_and_read(
        capfd, "train", "model=whisper_asr", f"model.checkpoint={recogniser}", "model.max_seconds=2", *data,
        "training.max_steps=3", "precision=fp32", "training.report_to=none", "model.answered_in_training=4",
    )  # fmt: skip
    assert code == 0, output
    assert "in training 4 of its 6 rows are answered" in output
    run = find_run(tmp_path / "runs")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["objective"]["metric"] == "wer" and set(metrics["splits"]) == {"validation", "test"}
    assert run_and_read(capfd, "evaluate", f"run={run}")[0] == 0
    again = json.loads(next(run.glob("evaluations/*/metrics.json")).read_text())
    assert again["splits"]["test"]["wer"] == metrics["splits"]["test"]["wer"]
    clip = next((recordings / "test").glob("*.wav"))
    code, output = run_and_read(capfd, "predict", str(run), str(clip))
    assert code == 0 and {"transcript", "score"} <= set(json.loads(output.splitlines()[0]))
    assert run_and_read(capfd, "robustness", f"run={run}")[0] == 0
    card = (run / "model/README.md").read_text()
    assert 'pipeline("automatic-speech-recognition"' in card and "WER" in card
