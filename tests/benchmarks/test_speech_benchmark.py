"""benchmarks/speech_training.py: what is compared, what it writes, and that its arms work on synthetic audio."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import speech_training


def trained(rate: float, memory: float = 1000, **parts: float) -> dict[str, Any]:
    """Two rounds of 32 examples, the second at half the rate, with `parts` as shares of the time."""
    rounds = []
    for seconds in (32 / rate, 64 / rate):
        timed = {name: share * seconds for name, share in ({"waiting": 0.1} | parts).items()}
        rounds.append({"examples": 32, "seconds": seconds, "parts": timed})
    return {"rounds": rounds, "peak_memory_mb": memory, "peak_gpu_memory_mb": None}


def test_ours_is_compared_with_stock_in_like_precision_and_with_stock_in_fp32() -> None:
    speed = {
        "stock fp32": trained(1),
        "ours fp32": trained(30, 250),
        "light fp32": trained(28),
        "stock bf16": trained(2),
        "ours bf16": trained(44),
    }
    summary = speech_training.summarise_whisper(speed)
    found = {(one["arm"], one["stock"]): one["ratio"]["median"] for one in summary["comparisons"]}
    assert found == {
        ("ours fp32", "stock fp32"): 30,
        ("light fp32", "stock fp32"): 28,
        ("ours bf16", "stock bf16"): 22,
        ("ours bf16", "stock fp32"): 44,
    }
    assert summary["comparisons"][0]["memory_ratio"] == 0.25
    assert summary["arms"]["ours fp32"]["waiting"]["median"] == pytest.approx(0.1)
    # the goal is of ours without augmentation
    goals = speech_training.goals({"whisper": summary})
    assert [value for _, value, _, _ in goals] == [30, 22, 44]


def test_the_parts_of_a_step_add_up_and_draws_count_as_augmentation() -> None:
    summary = speech_training.summarise_bcresnet(trained(100, features=0.1, augmentation=0.2, draws=0.02))
    parts = {name: one["median"] for name, one in summary["milliseconds_a_clip"].items()}
    assert parts["whole step"] == pytest.approx(15)
    assert sum(parts.values()) == pytest.approx(30)
    assert parts["network and optimizer"] == pytest.approx(0.6 * 15)
    assert summary["share"]["median"] == pytest.approx(0.32)


def content() -> dict[str, Any]:
    rates = {way: {"median": 30_000.0, "min": 1.0, "max": 1.0} for way in speech_training.WAYS}
    epochs = [{"clips": n, "resident_mb": mb, "peak_memory_mb": mb} for n, mb in ((500, 600.0), (5000, 720.0))]
    return {
        "data": "made tones",
        "checkpoint": "random weights",
        "machine": {"processor": "a processor", "cores": 2, "threads": 2, "load": 0.0},
        "settings": {"batch_size": 16, "max_seconds": 2},
        "minutes": 1.0,
        "whisper": speech_training.summarise_whisper({"stock fp32": trained(1), "ours fp32": trained(19)}),
        "bcresnet": speech_training.summarise_bcresnet(trained(100, features=0.1, augmentation=0.1, draws=0.01)),
        "input": {"clips_per_cpu_second": rates},
        "memory": {"epochs": epochs, "ratio": 1.2},
        "gpu": None,
    }


def test_the_report_says_which_goals_were_missed_and_that_there_is_no_gpu() -> None:
    printed = speech_training.report(content())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    met = {row[0]: row[-1] for row in rows if row[-1] in ("yes", "no")}
    assert met == {
        "Whisper, ours fp32 over stock fp32": "no",
        "features and augmentation, of BC-ResNet's step": "yes",
        "clips a CPU second, audio.Clips into batches": "yes",
        "clips a CPU second, the trainer's loader": "yes",
        "resident memory, 10 N clips over N": "no",
    }
    assert "No GPU here" in printed
    arms = {"Whisper tiny, bf16": speech_training.summarise_rounds(trained(900))}
    gpu = {"batch_size": 128, "arms": arms, "failed": ["BC-ResNet-8, bf16 compiled"]}
    printed = speech_training.report(content() | {"gpu": gpu})
    assert "No GPU here" not in printed
    assert "BC-ResNet-8, bf16 compiled: it failed" in printed
    assert "| waiting for data, Whisper tiny, bf16           |     0.10 |    at most 0.05 |  no |" in printed


def test_accuracy_is_compared_seed_by_seed_on_a_named_subset() -> None:
    runs = {
        arm: [{"accuracy": value, "train_seconds": 3.0} for value in values]
        for arm, values in (("ours", (0.95, 0.97)), ("stock", (0.97, 0.985)))
    }
    subsets = {split: {"clips": 200, "ids": f"hash of {split}"} for split in ("train", "test")}
    difference = {"mean": -0.0175, "low": None, "high": None}
    made = {**content(), "epochs": 4, "precision": "fp32", "runs": runs, "subsets": subsets, "test_was_read": 4}
    printed = speech_training.report_accuracy(made | {"difference": difference})
    assert "ours - stock: -1.75 points; goal: at least -1, not met" in printed
    assert "test hash of test; test was read 4 times" in printed
    printed = speech_training.report_accuracy(made | {"difference": difference | {"mean": -0.009}})
    assert "-0.90 points; goal: at least -1, met" in printed


def test_made_sounds_are_a_folder_data_set_whose_clips_all_differ(tmp_path: Path) -> None:
    from voicecommand.audio.decode import read_audio
    from voicecommand.data.sources.folder import load_folder

    rows = load_folder(("audio", "label"), path=str(speech_training.make_clips(tmp_path / "tones", 20)))
    assert {split: len(part) for split, part in rows.items()} == {"train": 20, "validation": 12, "test": 12}
    paths = [path for part in rows.values() for path in part["audio"]]
    clips = [read_audio(path) for path in paths]
    assert len({clip.waveform.tobytes() for clip in clips}) == len(paths)
    assert not any(clip.silent or clip.clipped for clip in clips)
    peaks = [np.abs(np.fft.rfft(clip.waveform)).argmax() for clip in clips]  # 1 s: the bin is the frequency
    labels = [int(label.removeprefix("tone ")) for part in rows.values() for label in part["label"]]
    assert np.abs(np.array(peaks) / labels - 1).max() < 0.11


def test_without_a_checkpoint_or_the_hub_whisper_has_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise OSError("out of reach")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(speech_training, "write_random_whisper", lambda directory, size: directory / size)
    recipe = {"checkpoint": "openai/whisper-tiny.en", "revision": "abc"}
    where, revision, what = speech_training.find_checkpoint(speech_training.parse([]), recipe, tmp_path)
    assert (where, revision) == (str(tmp_path / "whisper" / "tiny"), None)
    assert "random weights" in what
    assert "nor on the hub" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--checkpoint DIR"):
        speech_training.find_checkpoint(speech_training.parse(["--accuracy"]), recipe, tmp_path)


def write_small_whisper(directory: Path) -> Path:
    """The stock shape at a fraction of the size: 30 s of positions, 80 bins, one layer of 16."""
    import transformers as t

    torch.manual_seed(0)
    t.WhisperForAudioClassification(
        t.WhisperConfig(
            d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
            decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=50, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1, classifier_proj_size=8, num_labels=2,
        )
    ).save_pretrained(directory)  # fmt: skip
    t.WhisperFeatureExtractor().save_pretrained(directory)
    return directory


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What `speech_training.py` writes, its arms being real processes."""
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    checkpoint = write_small_whisper(tmp_path / "whisper-small")
    out = tmp_path / "results" / "speech.json"
    small = ["--rounds", "1", "--steps", "2", "--warmup", "1", "--batch-size", "4", "--threads", "1"]
    words = ["speech_training.py", "--checkpoint", str(checkpoint), "--out", str(out), *small, *arguments]
    monkeypatch.setattr(sys, "argv", words)
    assert speech_training.main() == 0
    assert str(tmp_path) not in out.read_text() + out.with_suffix(".md").read_text()
    return json.loads(out.read_text())


@pytest.mark.slow
def test_a_small_run_measures_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, tmp_path, "--clips", "12", "--precisions", "fp32")
    assert found["checkpoint"] == "whisper-small"
    assert set(found["whisper"]["arms"]) == {"stock fp32", "ours fp32", "light fp32"}
    assert found["whisper"]["comparisons"][0]["ratio"]["median"] > 1
    assert 0 < found["bcresnet"]["share"]["median"] < 1
    rates = {way: one["median"] for way, one in found["input"]["clips_per_cpu_second"].items()}
    assert set(rates) == set(speech_training.WAYS)
    assert min(rates["clips"], rates["loader"]) > rates["extractor"]
    assert [one["clips"] for one in found["memory"]["epochs"]] == [12, 120]
    assert found["gpu"] is None


@pytest.mark.slow
def test_accuracy_is_that_of_both_arms_on_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ["--clips", "20", "--train-clips", "12", "--test-clips", "6", "--epochs", "1", "--precisions", "fp32"]
    found = run(monkeypatch, tmp_path, "--accuracy", *counts)
    assert found["subsets"]["train"]["ids"] != found["subsets"]["test"]["ids"]
    assert {split: one["clips"] for split, one in found["subsets"].items()} == {"train": 12, "test": 6}
    for runs in found["runs"].values():
        assert [one["steps"] for one in runs] == [3]
        assert runs[0]["accuracy"] == pytest.approx(runs[0]["right"] / 6, abs=1e-5)
    assert found["test_was_read"] == 2
