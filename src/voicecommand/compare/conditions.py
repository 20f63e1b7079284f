"""Ways of making audio worse: noise, band limits, clipping."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.noise import NOISE_KINDS

SNRS = (20, 10, 5, 0)  # dB
WRONG_WORDS = "recogniser errors"
BAND_LIMITS = {"telephone, 300 to 3,400 Hz": (300.0, 3400.0), "low pass, 4 kHz": (0.0, 4000.0)}
CLIPPED = (0.05, 0.2)  # of the samples


@dataclass(frozen=True)
class Condition:
    """One way of making the input worse: `make(row)` is the clip (float32 [samples]) or the text that is measured.

    `level` is dB of signal-to-noise ratio or a share, None where there is but one. `has_area`: the levels of this
    kind are an axis with an area. `word_error_rate` is the measured one of texts.
    """

    kind: str
    level: float | None
    unit: str
    make: Callable[[int], Any]
    has_area: bool = False
    word_error_rate: float | None = None


def generator_for(seed: int, *names: str) -> np.random.Generator:
    """The same for the same names, on every machine and for every model."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


def audio_conditions(
    clips: Sequence[NDArray[np.int16]],
    ids: Sequence[str],
    speakers: Sequence[str | None] | None,
    recording: tuple[str, NDArray[np.float32]] | None = None,
    seed: int = 0,
) -> list[Condition]:
    """Noise over SNRS, band limits and clipping.

    Clips are int16 [samples] at 16 kHz; what is made is float32 [samples] within -1 to 1.
    The signal-to-noise ratio is that of the whole clip, pauses included. Babble is of other clips of the split, by
    other speakers where they are known. `recording` is the name and the samples of real noise.
    """
    import torch

    from voicecommand.audio import effects
    from voicecommand.audio import noise as audio_noise
    from voicecommand.audio.clips import SAMPLING_RATE

    def clip(row: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(clips[row]).astype(np.float32) / 32768)[None]

    def finished(waveform: torch.Tensor) -> NDArray[np.float32]:
        # A sum beyond full scale is turned down, not cut off: clipping is measured by itself.
        scaled: NDArray[np.float32] = (waveform[0] / waveform.abs().max().clamp(min=1)).numpy()
        return scaled

    def noisy(kind: str, snr: float, row: int) -> NDArray[np.float32]:
        waveform = clip(row)
        generator, samples = generator_for(seed, kind, ids[row]), waveform.shape[1]
        if kind == "babble":
            noise = audio_noise.make_babble_of_others(row, samples, clips, speakers, generator)
        else:
            start = int(generator.integers(len(banks[kind])))
            noise = np.take(banks[kind], np.arange(start, start + samples), mode="wrap")
        return finished(effects.add_noise(waveform, torch.from_numpy(noise)[None], snr))

    def limited(low: float, high: float, row: int) -> NDArray[np.float32]:
        return finished(effects.band_limit(clip(row), low, high, SAMPLING_RATE))

    def clipped(share: float, row: int) -> NDArray[np.float32]:
        return finished(effects.clip(clip(row), share))

    length = audio_noise.NOISE_SECONDS * SAMPLING_RATE
    banks = {kind: audio_noise.make_noise(kind, length, seed) for kind in NOISE_KINDS if kind != "babble"}
    banks |= dict([recording]) if recording else {}
    kinds = [*NOISE_KINDS, *([recording[0]] if recording else [])]
    found = [Condition(kind, snr, "dB", partial(noisy, kind, snr), True) for kind in kinds for snr in SNRS]
    found += [Condition(name, None, "", partial(limited, low, high)) for name, (low, high) in BAND_LIMITS.items()]
    return found + [Condition("clipped samples", share, "share", partial(clipped, share)) for share in CLIPPED]
