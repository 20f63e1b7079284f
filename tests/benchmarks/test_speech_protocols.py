"""benchmarks/speech_protocols.py: what each model is given, and the report with what was measured before."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from support import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import measuring
import speech_protocols as protocols

from voicecommand.audio import clips as audio_clips
from voicecommand.compare import learning_curve, rejection
from voicecommand.compare.pool import EstimatorPool, NetworkPool
from voicecommand.tasks.audio_classification import MfccSvm

NAMES = ("alpha", "bravo", "charlie")


@pytest.mark.parametrize("model", ["mfcc_svm", "bcresnet", "bcresnet_made"])
def test_a_model_is_given_its_experiments_task_and_made_speech_only_by_its_name(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path /= "keywords"
    # validation is test here; made speech has a directory of its own
    for split, speakers in (("train", range(10)), ("validation", range(10, 13)), ("../made/train", range(20, 24))):
        (tmp_path / split).mkdir(parents=True)
        rows = ["file_name,label,speaker"]
        for label, speaker in itertools.product(range(3), speakers):
            wave = 0.3 * np.sin(np.arange(6400) * (0.1 + 0.1 * label + 0.002 * speaker))
            audio_clips.write_wav(tmp_path / split / f"{label}-{speaker}.wav", audio_clips.to_int16(wave), 16_000)
            rows.append(f"{label}-{speaker}.wav,{NAMES[label]},speaker {speaker}")
        (tmp_path / split / "metadata.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(protocols, "MADE", 3)
    options = SimpleNamespace(path=str(tmp_path), checkpoint=None, made=str(tmp_path / "../made"))
    pool = protocols.load_pool(model, options)
    splits = ["test", "train", "validation"]
    assert sorted(set(pool.splits)) == (["made", *splits] if model == "bcresnet_made" else splits)
    assert sorted(pool.labels[pool.splits == "made"]) == (sorted(NAMES * 3) if model == "bcresnet_made" else [])
    if model == "mfcc_svm":
        assert isinstance(pool, EstimatorPool) and pool.task == MfccSvm() and len(pool.vectors) == len(pool.labels)
    else:
        assert isinstance(pool, NetworkPool) and pool.task.max_seconds == protocols.WINDOW
        assert pool.augmentation is not None and pool.how.endswith(f"for {protocols.EPOCHS[model]} epochs")
        arguments = pool.build_arguments(tmp_path)
        assert (arguments.num_train_epochs, arguments.save_strategy) == (protocols.EPOCHS[model], "no")


def test_the_report_has_every_protocol_with_its_command_and_what_was_measured_before() -> None:
    generator = np.random.default_rng(0)
    names = [(s, label) for s in range(9) for label in (*NAMES, "delta") for _ in range(2)]
    pool = EstimatorPool(
        labels=np.array([label for _, label in names]),
        speakers=np.array([f"s{s}" for s, _ in names]),
        splits=np.array([("train", "validation", "test")[s % 3] for s, _ in names]),
        task=MfccSvm(),
        vectors=generator.normal(size=(len(names), 4)).astype(np.float32),
    )
    few = {"a": learning_curve.measure_few_shot(pool, (1, 2), 2), "b": learning_curve.measure_few_shot(pool, (1,), 2)}
    unknown = {"a": rejection.measure_unknown(pool)}
    content = protocols.merge({"gone": {}}, "few-shot", few)
    content = protocols.merge(content["protocols"], "unknown", unknown)
    content = protocols.merge(content["protocols"], "unknown", {"b": unknown["a"]})
    assert {name: list(part["models"]) for name, part in content["protocols"].items()} == {
        "few-shot": ["a", "b"],
        "unknown": ["a", "b"],
    }
    with_made = protocols.merge(content["protocols"], "unknown", {"bcresnet_made": unknown["a"]})
    before, after = protocols.report(measuring.rounded(with_made)).split("of made speech of each known label")
    assert "| bcresnet_made" in after and "| bcresnet_made" not in before and "| b " in before
    text = protocols.report(measuring.rounded(content))
    assert "of made speech" not in text
    assert text.count("### ") == 2 and text.count("unknown --path DIR --checkpoint DIR`") == 1
