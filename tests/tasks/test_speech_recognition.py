"""Speech recognition: labels, loss, writing, saved models and the recipes, on a tiny Whisper with random weights."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file

import voicecommand
from support import LAUNCH, Parts, build_parts, find_run, run_and_read, start_training, write_recogniser
from voicecommand.data import prepared
from voicecommand.data.sources import folder
from voicecommand.errors import InputError
from voicecommand.models.joining import join, place_windows
from voicecommand.models.recogniser import GRACE, TOKENS_PER_SECOND
from voicecommand.models.tuning import Decoder, Full, LastLayers, Lora
from voicecommand.tasks.base import Decoding, Vocabulary
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.speech_recognition import SpeechRecognition
from voicecommand.training import save

TUNINGS = {"full": Full(), "decoder": Decoder(), "last_layers": LastLayers(1), "lora": Lora(r=2)}


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


def test_a_longer_clip_is_answered_by_the_joined_texts_of_its_windows(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    parts = build(recogniser, sounds, tmp_path)
    parts.trainer.train()
    answerer = Answerer(parts.task, parts.model, parts.processor, parts.vocabulary)
    long = np.concatenate([np.asarray(audio, dtype=np.int16) for audio in sounds["train"]["audio"][:5]])
    starts = place_windows(len(long), 32_000, 16_000)
    assert len(starts) > 2
    windows = [long[start : start + 32_000] for start in starts]
    rows = {"audio": [long, long[:8000], *windows], "length": [len(long), 8000] + [32_000] * len(windows)}
    found = answerer.answer(rows)
    overlaps = [2 - (b - a) / 16_000 for a, b in itertools.pairwise(starts)]
    texts, expected = found.columns["transcript"], join(found.columns["transcript"][2:], overlaps)
    assert texts[0] == expected.text and found.columns["windows"][:2] == [len(starts), 1]
    assert found.columns["unmatched"][0] == expected.unmatched
    assert found.truncated == 1 and "join overlapping windows" in found.limit
    assert min(found.columns["score"][2:]) <= found.columns["score"][0] <= max(found.columns["score"][2:])


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


@pytest.mark.parametrize("name", ["full", "decoder", "last_layers", "lora"])
def test_each_tuning_trains_what_it_says_and_is_saved_as_the_stock_class(
    name: str, recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    from transformers import AutoModelForSpeechSeq2Seq

    parts = build(recogniser, sounds, tmp_path / "out", TUNINGS[name])
    before = {key: tensor.clone() for key, tensor in parts.model.state_dict().items()}
    parts.trainer.train()
    save.save(parts.trainer.model, parts.task, parts.processor, parts.vocabulary, tmp_path / "model")
    after = AutoModelForSpeechSeq2Seq.from_pretrained(str(tmp_path / "model")).state_dict()
    plain = {key.replace("base_model.model.", "").replace("base_layer.", ""): value for key, value in before.items()}
    changed = {key for key, tensor in after.items() if not torch.equal(tensor, plain[key])}
    assert changed, "something is trained"
    encoder = {key for key in changed if ".encoder." in key}
    if name == "decoder":
        assert not encoder and any("embed_tokens" in key for key in changed)
    elif name == "last_layers":
        top = ("model.decoder.layers.1.", "model.decoder.layer_norm.")
        assert changed and all(key.startswith(top) for key in changed)
    else:
        assert encoder and any(".decoder." in key for key in changed)
    opened = voicecommand.load(tmp_path / "model")
    assert opened(np.zeros(16_000, dtype=np.int16))["score"] < 0


def test_a_clip_longer_than_the_window_is_counted_and_not_trained_on(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = r"model\.max_seconds=1: every train recording is longer"
    with caplog.at_level("WARNING"), pytest.raises(InputError, match=problem):
        build(recogniser, sounds, tmp_path, max_seconds=1)
    assert "validation: 6 of 6 examples are longer than 1 s" in caplog.text
    clip = np.asarray(sounds["train"]["audio"][0], dtype=np.int16)
    mixed = {"audio": [clip[:12_000], clip], "length": [12_000, len(clip)], "transcript": ["on", "off"]}
    rows = mixed | {"origin": ["a.csv:2", "a.csv:3"]}
    task = SpeechRecognition(checkpoint=str(recogniser), max_seconds=1)
    encoded = task.encode(rows, task.load_processor(Vocabulary()), Vocabulary())
    (stage,) = task.stages(encoded)
    assert encoded.truncated == 1 and len(stage.train) == 1 and stage.train.references == {"transcript": ["on"]}


def test_the_bound_on_the_tokens_of_an_answer_follows_its_clip(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    parts = build(recogniser, sounds, tmp_path)
    end = parts.model.config.eos_token_id
    parts.model.generation_config.suppress_tokens = [end]  # it would write for ever
    answerer = Answerer(parts.task, parts.model.eval(), parts.processor, parts.vocabulary)
    rows = [{"audio": np.ones(length, dtype=np.int16), "length": length} for length in (8_000, 32_000)]
    for beams in (1, 2):
        tokens, scores = parts.task.respond(
            parts.model, answerer.to_inputs, answerer.collate(rows), Decoding(beams=beams)
        )
        written = (tokens != end).sum((1, 2)).tolist()
        assert written == [GRACE + TOKENS_PER_SECOND // 2, GRACE + 2 * TOKENS_PER_SECOND]
        assert scores.isfinite().all()


def test_a_checkpoint_of_many_languages_begins_with_the_language_and_saves_it(tmp_path: Path) -> None:
    checkpoint = write_recogniser(tmp_path / "many", ["en", "zh", "de"])
    task = SpeechRecognition(checkpoint=str(checkpoint), max_seconds=2, language="de")
    processor: Any = task.load_processor(Vocabulary())
    rows = {"audio": [np.zeros(8_000, np.int16)], "length": [8_000], "transcript": ["licht an"], "origin": ["a:1"]}
    labels = task.encode(rows, processor, Vocabulary()).rows["labels"][0]
    assert processor.tokenizer.convert_ids_to_tokens(labels[:3]) == ["<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    model = task.load_model(Vocabulary(), processor)
    save.save(model, task, processor, Vocabulary(), tmp_path / "model")
    kept = json.loads((tmp_path / "model/generation_config.json").read_text())
    assert (kept["language"], kept["task"]) == ("de", "transcribe")
    with pytest.raises(InputError, match=r"model\.language=xx: \S+ does not know it"):
        SpeechRecognition(checkpoint=str(checkpoint), max_seconds=2, language="xx").load_processor(Vocabulary())


@pytest.mark.slow
def test_an_untuned_checkpoint_is_a_run_that_needs_no_train_split(
    recogniser: Path, recordings: Path, tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(recordings, tmp_path / "whole")
    shutil.copytree(recordings, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/train")
    words = ("model=whisper_asr", f"model.checkpoint={recogniser}", "model.max_seconds=2", "tuning=none", "threads=1")
    words += ("data=folder", "data.path=data", "training.report_to=none")
    code, output = run_and_read(capfd, "train", *words)
    assert code == 0 and "0 (0.00 %)" in output, output
    run = find_run(tmp_path / "runs")
    record = json.loads((run / "run.json").read_text())
    assert record["training"]["steps"] == 0 and record["model"]["trainable_parameters"] == 0
    saved_tensors = load_file(run / "model/model.safetensors")
    original = load_file(recogniser / "model.safetensors")
    differing = [name for name, tensor in saved_tensors.items() if not torch.equal(tensor, original[name])]
    assert not differing
    assert run_and_read(capfd, "train", *words)[0] == 0, "the finished run is shown again"
    code, output = run_and_read(capfd, "evaluate", f"run={run}", "split=all", "data=folder", "data.path=whole")
    assert code == 0, output
    (metrics,) = run.glob("evaluations/folder-whole-all-*/metrics.json")
    figures = json.loads(metrics.read_text())
    assert figures["splits"]["all"]["examples"] == 30 and figures["main_split"] == "all"


@pytest.mark.slow
def test_two_ranks_train_and_measure_as_one(recogniser: Path, recordings: Path, tmp_path: Path) -> None:
    words = ["model=whisper_asr", f"model.checkpoint={recogniser}", "model.max_seconds=2", "data=folder", "threads=1"]
    words += [f"data.path={recordings}", "precision=fp32", "training.max_steps=3", "training.report_to=none"]
    words += ["training.logging_steps=1", "augment=none", "training.learning_rate=1e-3", "num_proc=1"]
    figures, weights = [], []
    for name, program, size in (("one", [sys.executable], 8), ("two", LAUNCH, 4)):
        done = start_training(
            program, [*words, f"training.per_device_train_batch_size={size}", f"runs={tmp_path / name}"],
            ACCELERATE_USE_CPU="true",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = find_run(tmp_path / name)
        metrics = json.loads((run / "metrics.json").read_text())
        history = json.loads((run / "history.json").read_text())
        logged = [(row.get("loss"), row.get("eval_loss"), row.get("eval_wer")) for row in history]
        figures.append((metrics["splits"], logged))
        weights.append(load_file(run / "model/model.safetensors"))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)
    assert [split["examples"] for split in figures[0][0].values()] == [6, 6]
    assert figures[0][0] == figures[1][0], "every clip is counted once"
    for one, two in zip(figures[0][1], figures[1][1], strict=True):
        assert [value for value in one if value is not None] == pytest.approx(
            [value for value in two if value is not None], rel=1e-3
        )


def test_clips_of_30_seconds_are_answered_16_at_once_and_shorter_ones_more(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    parts = build(recogniser, sounds, tmp_path)
    given = (parts.model, parts.processor, parts.vocabulary)
    assert Answerer(parts.task, *given, batch_size=64).batch_size == 64
    assert Answerer(replace(parts.task, max_seconds=30), *given, batch_size=64).batch_size == 16


def test_settings_of_writing_from_elsewhere_do_not_change_what_is_written(
    recogniser: Path, sounds: DatasetDict, tmp_path: Path
) -> None:
    shutil.copytree(recogniser, tmp_path / "other")
    path = tmp_path / "other/generation_config.json"
    settings = {"num_return_sequences": 3, "num_beams": 4, "repetition_penalty": 9.0, "cache_implementation": "static"}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings | {"min_new_tokens": 40}))
    clip = np.asarray(sounds["test"]["audio"][0], dtype=np.int16)
    texts = []
    for name, checkpoint in (("one", recogniser), ("two", tmp_path / "other")):
        parts = build(checkpoint, sounds, tmp_path)
        save.save(parts.model, parts.task, parts.processor, Vocabulary(), tmp_path / name)
        texts.append(voicecommand.load(tmp_path / name)(clip))
    assert texts[0] == texts[1]
    kept = json.loads((tmp_path / "two/generation_config.json").read_text())
    assert kept.get("num_beams") in (None, 1) and "no_timestamps_token_id" in kept
