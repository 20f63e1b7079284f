"""Noise, made from a seed or read from recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import to_int16
from voicecommand.audio.decode import read_audio
from voicecommand.audio.effects import SILENT
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
MADE_NOISE = {"white": 0.0, "pink": -0.5, "brown": -1.0}  # exponent of the amplitude over frequency
NOISE_KINDS = (*MADE_NOISE, "babble")
NOISE_SECONDS = 60  # of each kind in the bank, from which windows are cut
FOLDER_SECONDS = 1200  # as much of a folder of noise is kept in memory (77 MB)
VOICES = 6  # talking at once in babble


def make_noise(kind: str, samples: int, seed: int) -> NDArray[np.float32]:
    """Gaussian noise, float32 [samples] of root mean square 1: white, pink (-3 dB an octave) or brown (-6 dB).

    The spectrum is flat below 1/800 of the sampling rate (20 Hz at 16 kHz), or brown noise would be mere drift.
    Equal arguments give equal noise.
    """
    generator = np.random.Generator(np.random.Philox([seed, *kind.encode()]))
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    spectrum *= np.maximum(np.fft.rfftfreq(samples), 1 / 800) ** MADE_NOISE[kind]
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _level(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """int16 [samples] as float32 of root mean square 1; empty if it is silent."""
    waveform = np.asarray(clip) / 32768
    power = np.mean(waveform**2) if len(waveform) else 0.0
    level = waveform / np.sqrt(power) if power >= SILENT else waveform[:0]
    return level.astype(np.float32)


def _voiced(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """`_level` of a clip from its first loud sample (5 % of the loudest) to its last; pauses make poor babble."""
    loudness = np.abs(np.asarray(clip, dtype=np.float32))
    loud = np.flatnonzero(loudness >= 0.05 * loudness.max(initial=0))
    return _level(clip[loud[0] : loud[-1] + 1] if len(loud) else clip)


def make_babble(clips: Sequence[NDArray[np.int16]], samples: int, seed: int) -> NDArray[np.float32]:
    """Several voices at once, each a row of clips in drawn order at one level: float32 [samples]."""
    generator = np.random.Generator(np.random.Philox([seed, *b"babble"]))
    total = np.zeros(samples, dtype=np.float32)
    for _ in range(VOICES):
        filled = misses = 0
        while filled < samples:
            clip = _voiced(clips[int(generator.integers(len(clips)))]) if len(clips) else np.empty(0, np.float32)
            misses = 0 if len(clip) else misses + 1
            if misses == 100:
                raise InputError("augment.noise_kinds: babble needs training clips that are not silent; leave it out")
            part = clip[: samples - filled]
            total[filled : filled + len(part)] += part
            filled += len(part)
    return total / np.float32(math.sqrt(VOICES))


def join_recordings(recordings: Sequence[NDArray[np.int16]], most: int, folder: str) -> NDArray[np.float32]:
    """Recordings at one level, one after another, up to `most` samples."""
    parts: list[NDArray[np.float32]] = []
    filled = silent = 0
    for recording in recordings:
        if filled >= most:
            break
        parts.append(_level(recording[: most - filled]))
        filled += len(parts[-1])
        silent += not len(parts[-1])
    if not filled:
        raise InputError(f"augment.noise_folder={folder}: no recording that is not silent")
    left = len(recordings) - len(parts)
    logger.info("%s: %d recordings of noise; %d silent and %d beyond %d samples left out",
                folder, len(parts) - silent, silent, left, most)  # fmt: skip
    return np.concatenate(parts)


RECORDED_SECONDS = 1200  # as much of a recording of noise is used


def read_recording(path: str | None, columns: Sequence[str] = ("audio",)) -> tuple[str, NDArray[np.float32]] | None:
    """A recording of noise, or a folder of them one after the other: its name, and float32 [samples] of level 1.

    Args:
        path: None for no recording.
        columns: what the model to measure reads.

    Raises:
        InputError: the model reads no sound; nothing there, or nothing but silence; what `audio.read_audio` refuses.
    """
    if path is None:
        return None
    if "audio" not in columns:
        raise InputError(f"noise={path}: the run's model reads {columns[0]}; leave it out")
    from voicecommand.audio import clips as audio_clips
    from voicecommand.audio import decode

    place = Path(path)
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    parts, seconds = [], 0.0
    for file in files:
        waveform = decode.read_audio(file, max_seconds=RECORDED_SECONDS, name=f"noise={file}").waveform
        level = np.sqrt(np.mean(waveform**2)) if len(waveform) else 0.0
        if level > 1e-4:
            parts.append((waveform / level).astype(np.float32))
            seconds += len(waveform) / audio_clips.SAMPLING_RATE
        if seconds >= RECORDED_SECONDS:
            break
    if not parts:
        raise InputError(f"noise={path}: no recording that is not silent")
    logger.info("noise=%s: %d files, %.0f s", path, len(parts), seconds)
    return f"{place.stem} (recorded)", np.concatenate(parts)


SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def read_noise_folder(folder: str | None) -> Sequence[np.ndarray]:
    """The recordings of a folder of noise, int16 at 16 kHz, in order of their names; none where no folder is given."""
    if folder is None:
        return ()
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SOUNDS)
    if not paths:
        raise InputError(f"augment.noise_folder={folder}: no sound file there ({', '.join(SOUNDS)})")
    return [to_int16(read_audio(path, max_seconds=3600).waveform) for path in paths]
