"""Models fitted on parts of the clips: which speakers and labels each of them has learnt from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import TrainingArguments

from voicecommand.audio import clips as audio_clips
from voicecommand.compare import pool as pool_module
from voicecommand.compare import rejection
from voicecommand.data.sources.folder import load_folder
from voicecommand.models.tuning import Full
from voicecommand.tasks.audio_classification import BCResNet
from voicecommand.tasks.base import Encoded
from voicecommand.training import fit

PoolMaker = Callable[..., pool_module.EstimatorPool]
NAMES = ("alpha", "bravo", "charlie")


def test_a_speaker_is_held_out_from_the_fit_that_scores_them(make_pool: PoolMaker, fits: list[np.ndarray]) -> None:
    pool = make_pool()
    is_known = ~np.isin(pool.labels, ("alpha", "bravo"))
    held, scores = rejection.score_apart(pool, is_known)
    assert set(held) == set(scores) == set(rejection.SCORES)
    assert all(np.isfinite(values).all() and len(values) == len(pool.held) for values in held.values())
    everyone = set(pool.speakers[pool.held])
    *left_out, nobody = (everyone - set(pool.speakers[rows]) for rows in fits)
    assert not nobody and (pool.splits[pool.held] != "test").all()
    assert len(left_out) == pool_module.FOLDS and set.union(*left_out) == everyone
    assert sum(map(len, left_out)) == len(everyone)
    assert all(is_known[rows].all() and (pool.splits[rows] != "test").all() for rows in fits)


def write_tones(directory: Path, speakers: range) -> None:
    """A tone of each label by each speaker, and metadata.csv."""
    directory.mkdir(parents=True)
    rows = ["file_name,label,speaker"]
    for label, speaker in itertools.product(range(len(NAMES)), speakers):
        wave = 0.3 * np.sin(np.arange(6400) * (0.1 + 0.1 * label + 0.002 * speaker))
        audio_clips.write_wav(directory / f"{label}-{speaker}.wav", audio_clips.to_int16(wave), 16_000)
        rows.append(f"{label}-{speaker}.wav,{NAMES[label]},speaker {speaker}")
    (directory / "metadata.csv").write_text("\n".join(rows) + "\n")


def build_network_pool(directory: Path) -> pool_module.NetworkPool:
    for split, speakers in (("train", range(6)), ("validation", range(6, 8)), ("test", range(8, 10))):
        write_tones(directory / "keywords" / split, speakers)
    write_tones(directory / "made" / "train", range(20, 22))
    columns = ("audio", "label")
    dataset = fit.prepare(load_folder(columns, path=str(directory / "keywords")), "audio", 1)
    made = load_folder(columns, path=str(directory / "made" / "train"), split={"validation": 0, "test": 0})
    dataset["made"] = fit.prepare(made, "audio", 1)["train"]

    def build_arguments(folder: Path) -> TrainingArguments:
        return TrainingArguments(str(folder), max_steps=2, report_to="none", disable_tqdm=True, use_cpu=True)

    return pool_module.build_network_pool(dataset, BCResNet(max_seconds=0.4), Full(), None, 1, build_arguments)


def test_a_network_hears_neither_the_unknown_labels_nor_the_speakers_it_is_judged_on(tmp_path: Path) -> None:
    pool = build_network_pool(tmp_path)
    fits, trained = pool.fit_apart(pool.labels != "bravo")
    assert isinstance(trained, pool_module.FittedNetwork) and [fitted for _, fitted in fits] == [trained]
    assert (pool.splits[pool.held] == "validation").all() and len(fits[0][0]) == len(pool.held) == 6
    assert trained.names == ["alpha", "charlie"]
    learnt = sorted(zip(pool.splits[trained.rows].tolist(), pool.labels[trained.rows].tolist(), strict=True))
    expected = {("made", "alpha"): 2, ("made", "charlie"): 2, ("train", "alpha"): 6, ("train", "charlie"): 6}
    assert learnt == sorted(itertools.chain(*([key] * count for key, count in expected.items())))


def test_a_networks_probabilities_are_those_of_its_own_answers(tmp_path: Path) -> None:
    pool = build_network_pool(tmp_path)
    trained = pool.fit(np.flatnonzero(pool.splits == "train"))
    clips = Encoded(pool.encoded.remove_columns("labels"))
    answered = trained.answerer.answer_encoded(clips).columns["probabilities"]
    np.testing.assert_allclose(trained.probabilities(np.arange(len(clips))), answered, atol=1e-5)
    scores = rejection.Scorer.of(trained).score(pool.test)
    assert all(values.shape == (len(pool.test),) and np.isfinite(values).all() for values in scores.values())
