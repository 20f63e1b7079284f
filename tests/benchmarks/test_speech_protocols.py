"""The protocols of benchmarks/speech_protocols.py on made vectors: who is heard when, and what is counted."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import measuring
import speech_protocols as protocols

from voicecommand.audio import clips as audio_clips
from voicecommand.tasks.audio_classification import MfccSvm

LABELS = ("alpha", "bravo", "charlie", "delta")
WIDTH = 8


def make_pool(spread: float = 0.3, labels: tuple[str, ...] = LABELS, speakers: int = 15, each: int = 2) -> Any:
    """Clips of well separated labels; the speakers are a third each in train, validation and test."""
    generator = np.random.default_rng(0)
    names = [(s, label) for s in range(speakers) for label in labels for _ in range(each)]
    centres = {label: 4 * np.eye(WIDTH)[i] for i, label in enumerate(labels)}
    vectors = np.stack([centres[label] + spread * generator.normal(size=WIDTH) for _, label in names])
    splits = [("train", "validation", "test")[s % 3] for s, _ in names]
    return protocols.Pool(
        MfccSvm(),
        vectors.astype(np.float32),
        np.array([label for _, label in names]),
        np.array([f"s{s}" for s, _ in names]),
        np.array(splits),
    )


def watch_fits(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The rows of every fit from now on."""
    fits: list[np.ndarray] = []
    fit = protocols.Pool.fit
    monkeypatch.setattr(protocols.Pool, "fit", lambda pool, rows, seed=0: fits.append(rows) or fit(pool, rows, seed))
    return fits


def test_few_examples_come_from_the_speakers_of_train_and_fewer_are_among_more() -> None:
    pool = make_pool()
    for drawn in protocols.draw_few(pool, (1, 3), 4):
        assert set(drawn[1]) < set(drawn[3])
        assert sorted(pool.labels[drawn[3]]) == sorted(LABELS * 3)
        assert "test" not in pool.splits[drawn[3]]
    first, second = (protocols.draw_few(pool, (3,), 2)[i][3].tolist() for i in (0, 1))
    assert first != second


def test_more_examples_are_worth_more_and_the_interval_holds_the_mean() -> None:
    curve = protocols.measure_few_shot(make_pool(spread=2.5), (1, 8), 3)["curve"]
    assert curve[0]["value"] < curve[1]["value"]
    for point in curve:
        assert point["low"] <= point["value"] <= point["high"]
        assert point["min"] <= point["value"] <= point["max"] and point["spread"] > 0
        assert point["method"] == "bootstrap over 5 groups (speaker)" and "fewer than 10" in point["note"]


def test_a_speaker_is_held_out_from_the_fit_that_scores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool()
    is_known = ~np.isin(pool.labels, ("alpha", "bravo"))
    fits = watch_fits(monkeypatch)
    held, scores = pool.judge(is_known)
    assert set(held) == set(scores) == set(protocols.SCORES)
    assert all(np.isfinite(values).all() and len(values) == len(pool.held) for values in held.values())
    everyone = set(pool.speakers[pool.held])
    *left_out, nobody = (everyone - set(pool.speakers[rows]) for rows in fits)
    assert not nobody and (pool.splits[pool.held] != "test").all()
    assert len(left_out) == protocols.FOLDS and set.union(*left_out) == everyone
    assert sum(map(len, left_out)) == len(everyone)
    assert all(is_known[rows].all() and (pool.splits[rows] != "test").all() for rows in fits)


@pytest.mark.parametrize("model", ["bcresnet", "bcresnet_made"])
def test_a_network_hears_neither_the_unknown_labels_nor_the_speakers_it_is_judged_on(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("alpha", "bravo", "charlie")
    tmp_path /= "keywords"
    # validation is test here; made speech has a directory of its own
    for split, speakers in (("train", range(10)), ("validation", range(10, 13)), ("../made/train", range(20, 24))):
        (tmp_path / split).mkdir(parents=True)
        rows = ["file_name,label,speaker"]
        for label, speaker in itertools.product(range(3), speakers):
            wave = 0.3 * np.sin(np.arange(6400) * (0.1 + 0.1 * label + 0.002 * speaker))
            audio_clips.write_wav(
                tmp_path / split / f"{label}-{speaker}.wav", audio_clips.to_int16(wave), audio_clips.SAMPLING_RATE
            )
            rows.append(f"{label}-{speaker}.wav,{names[label]},speaker {speaker}")
        (tmp_path / split / "metadata.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(protocols, "EPOCHS", {model: 1})
    monkeypatch.setattr(protocols, "MADE", 3)
    options = SimpleNamespace(path=str(tmp_path), checkpoint=None, made=str(tmp_path / "../made"))
    pool = protocols.load_pool(model, options)
    assert (pool.splits[pool.held] == "validation").all() and len(pool.held)
    fits: list[Any] = []
    fit = protocols.Hearing.fit
    monkeypatch.setattr(protocols.Hearing, "fit", lambda pool, rows: fits.append(fit(pool, rows)) or fits[-1])
    held, scores = pool.judge(pool.labels != "bravo")
    assert [len(held[name]) for name in protocols.SCORES] == [len(pool.held)] * 3
    assert [len(scores[name]) for name in protocols.SCORES] == [int((pool.splits == "test").sum())] * 3
    (trained,) = fits
    assert trained.names == ["alpha", "charlie"] and "bravo" not in pool.labels[trained.rows]
    made = [
        label
        for label, split in zip(pool.labels[trained.rows], pool.splits[trained.rows], strict=True)
        if split == "made"
    ]
    assert sorted(made) == (["alpha"] * 3 + ["charlie"] * 3 if model == "bcresnet_made" else [])
    assert set(pool.splits[trained.rows]) - {"made"} == {"train"}
    clips = pool.encoded.remove_columns("labels")
    expected = pool.task.decode(trained.estimator.predict(clips).predictions)
    np.testing.assert_allclose(trained.probabilities(np.arange(len(clips))), expected, atol=1e-5)


def test_unknown_commands_far_from_all_known_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = watch_fits(monkeypatch)
    pool = make_pool()
    found = protocols.measure_unknown(pool)
    assert len(found["pairs"]) == 6 and sum(found["chosen"].values()) == 6
    assert found["scores"]["mahalanobis"]["false_accepts"]["value"] == 0
    assert found["scores"]["mahalanobis"]["auroc_held_out"] > 0.95
    assert found["scores"]["chosen"]["recall"]["value"] > 0.7
    assert all((pool.splits[rows] != "test").all() for rows in fits)


def test_unknown_commands_that_sound_like_known_ones_are_accepted() -> None:
    pool = make_pool()
    sounding = pool.vectors.copy()  # bravo is said as charlie is, alpha as delta
    for one, other in (("bravo", "charlie"), ("alpha", "delta")):
        sounding[pool.labels == one] = sounding[pool.labels == other]
    found = protocols.measure_unknown(dataclasses.replace(pool, vectors=sounding))
    shares = dict(zip(found["pairs"], found["scores"]["mahalanobis"]["false_accepts"]["by_pair"], strict=True))
    assert shares["alpha bravo"] > 0.8 > 0.2 > shares["bravo charlie"]
    assert found["scores"]["mahalanobis"]["false_accepts"]["greatest"] == max(shares.values())


def test_a_mean_over_pairs_weighs_each_pair_alike() -> None:
    speakers = np.array(["s1", "s1", "s2", "s2"])
    accepted = np.array([[True, True, True, False], [False, False, False, False]])
    counted = np.array([[True, False, False, False], [True, True, True, True]])
    figure = protocols.mean_over_pairs(accepted, counted, speakers)
    assert figure["by_pair"] == [1.0, 0.0]
    assert (figure["value"], figure["least"], figure["greatest"]) == (0.5, 0.0, 1.0)
    assert figure["method"] == "bootstrap over 2 groups (speaker)"


def test_the_threshold_keeps_at_least_the_share_that_is_asked_for() -> None:
    scores = np.arange(100, dtype=np.float64)
    assert (scores >= protocols.threshold(scores)).mean() == 0.95
    assert (np.arange(10.0) >= protocols.threshold(np.arange(10.0))).sum() == 10


def test_the_report_has_every_protocol_with_its_command_and_what_was_measured_before() -> None:
    pool = make_pool()
    few = {"a": protocols.measure_few_shot(pool, (1, 2), 2), "b": protocols.measure_few_shot(pool, (1,), 2)}
    unknown = {"a": protocols.measure_unknown(pool)}
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
    few_rows = text.split("### Unknown")[0].splitlines()
    assert [line.split("|")[2].strip() for line in few_rows if line.startswith("| b")] == ["1"]
    assert protocols.few_shot_png(few).startswith(b"\x89PNG")
