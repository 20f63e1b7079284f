"""Commands with unknown labels: which are accepted, by which threshold, and how pairs are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from voicecommand.compare import rejection
from voicecommand.compare.pool import EstimatorPool

PoolMaker = Callable[..., EstimatorPool]


def test_unknown_commands_far_from_all_known_ones_are_refused(make_pool: PoolMaker, fits: list[np.ndarray]) -> None:
    pool = make_pool()
    found = rejection.measure_unknown(pool)
    assert len(found["pairs"]) == 6 and sum(found["chosen"].values()) == 6
    assert found["scores"]["mahalanobis"]["false_accepts"]["value"] == 0
    assert found["scores"]["mahalanobis"]["auroc_held_out"] > 0.99
    assert found["scores"]["chosen"]["recall"]["value"] > 0.7
    assert all((pool.splits[rows] != "test").all() for rows in fits)


def test_unknown_commands_that_sound_like_known_ones_are_accepted(make_pool: PoolMaker) -> None:
    pool = make_pool()
    sounding = pool.vectors.copy()  # bravo is said as charlie is, alpha as delta
    for one, other in (("bravo", "charlie"), ("alpha", "delta")):
        sounding[pool.labels == one] = sounding[pool.labels == other]
    found = rejection.measure_unknown(dataclasses.replace(pool, vectors=sounding))
    shares = dict(zip(found["pairs"], found["scores"]["mahalanobis"]["false_accepts"]["by_pair"], strict=True))
    assert shares["alpha bravo"] > 0.8 > 0.2 > shares["bravo charlie"]
    assert found["scores"]["mahalanobis"]["false_accepts"]["greatest"] == max(shares.values())


def test_a_mean_over_pairs_weighs_each_pair_alike() -> None:
    speakers = np.array(["s1", "s1", "s2", "s2"])
    accepted = np.array([[True, True, True, False], [False, False, False, False]])
    counted = np.array([[True, False, False, False], [True, True, True, True]])
    figure = rejection.mean_over_pairs(accepted, counted, speakers)
    assert figure["by_pair"] == [1.0, 0.0]
    assert (figure["value"], figure["least"], figure["greatest"]) == (0.5, 0.0, 1.0)
    assert figure["method"] == "bootstrap over 2 groups (speaker)"


def test_the_threshold_keeps_at_least_the_share_that_is_asked_for() -> None:
    scores = np.arange(100, dtype=np.float64)
    assert (scores >= rejection.threshold(scores)).mean() == 0.95
    assert (np.arange(10.0) >= rejection.threshold(np.arange(10.0))).sum() == 10


def test_the_table_has_a_row_for_each_model_and_score(make_pool: PoolMaker) -> None:
    measured = rejection.measure_unknown(make_pool())
    models = {"a": measured, "b": measured}
    rows = [[cell.strip() for cell in line.split("|")] for line in rejection.rejection_table(models).splitlines()[2:]]
    assert [(row[1], row[2]) for row in rows] == [(name, score) for name in models for score in measured["scores"]]
    said = rejection.describe(models)
    assert "a: held out in 5 folds; b: held out in 5 folds" in said and "all 6 pairs" in said
