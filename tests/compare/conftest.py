"""Synthetic vectors of well separated labels, as a pool that an estimator is fitted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from voicecommand.compare.pool import EstimatorPool
from voicecommand.tasks.audio_classification import MfccSvm

LABELS = ("alpha", "bravo", "charlie", "delta")
WIDTH = 8
PoolMaker = Callable[..., EstimatorPool]


@pytest.fixture
def make_pool() -> PoolMaker:
    """Makes clips of LABELS, each `spread` about its centre; the 15 speakers are a third each in every split."""

    def make(spread: float = 0.3) -> EstimatorPool:
        generator = np.random.default_rng(0)
        names = [(s, label) for s in range(15) for label in LABELS for _ in range(2)]
        centres = {label: 4 * np.eye(WIDTH)[i] for i, label in enumerate(LABELS)}
        vectors = np.stack([centres[label] + spread * generator.normal(size=WIDTH) for _, label in names])
        return EstimatorPool(
            labels=np.array([label for _, label in names]),
            speakers=np.array([f"s{s}" for s, _ in names]),
            splits=np.array([("train", "validation", "test")[s % 3] for s, _ in names]),
            task=MfccSvm(),
            vectors=vectors.astype(np.float32),
        )

    return make


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The rows of every fit of an estimator."""
    found: list[np.ndarray] = []
    fit = EstimatorPool.fit
    monkeypatch.setattr(EstimatorPool, "fit", lambda pool, rows, seed=0: found.append(rows) or fit(pool, rows, seed))
    return found
