"""Noise, made from a seed or read from recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import SAMPLING_RATE, to_float, to_int16
from voicecommand.audio.decode import AUDIO_ENDINGS, read_audio
from voicecommand.audio.effects import SILENT
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
MADE_NOISE = {"white": 0.0, "pink": -0.5, "brown": -1.0}  # exponent of the amplitude over frequency
NOISE_KINDS = (*MADE_NOISE, "babble")
NOISE_SECONDS = 60  # of each kind in the bank, from which windows are cut
FOLDER_SECONDS = 1200  # as much of a folder of noise is kept in memory (77 MB)
FILE_SECONDS = 3600  # the longest recording of noise that is read
SHOWN = 3  # names of skipped files
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


def _level(waveform: NDArray[np.floating], least: float = SILENT) -> NDArray[np.float32]:
    """A waveform in [-1, 1] as float32 of root mean square 1; empty if its mean square is below `least`."""
    power = np.mean(waveform**2) if len(waveform) else 0.0
    level = waveform / np.sqrt(power) if power >= least else waveform[:0]
    return level.astype(np.float32)


def _voiced(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """`_level` of a clip from its first loud sample (5 % of the loudest) to its last; pauses make poor babble."""
    loudness = np.abs(np.asarray(clip, dtype=np.float32))
    loud = np.flatnonzero(loudness >= 0.05 * loudness.max(initial=0))
    return _level((clip[loud[0] : loud[-1] + 1] if len(loud) else clip) / 32768)


# Babble is made in two ways, which draw differently, so that one can't stand in for the other without changing either
# the weights of published runs or the published robustness. What both do is `_level`.


def make_babble(clips: Sequence[NDArray[np.int16]], samples: int, seed: int) -> NDArray[np.float32]:
    """Several voices at once, each a row of clips in drawn order at one level: float32 [samples].

    For augmentation: a minute from which many windows are cut, of all training clips without their pauses.
    """
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


def make_babble_of_others(
    row: int,
    samples: int,
    clips: Sequence[NDArray[np.int16]],
    speakers: Sequence[str | None] | None,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """VOICES other clips at once at one level, each begun somewhere and repeated: float32 [samples].

    For robustness: as long as clip `row`, and of other clips than it, by other speakers where they are known.

    Raises:
        InputError: no other clip to make babble of.
    """
    total, found = np.zeros(samples, dtype=np.float32), 0
    own = speakers[row] if speakers is not None else None
    others = own is not None and any(speaker != own for speaker in speakers or ())
    for other in generator.permutation(len(clips)):
        if other == row or (others and speakers is not None and speakers[other] == own):
            continue
        voice = _level(to_float(np.asarray(clips[other])), least=2**-30)  # one step of 16 bits
        if not len(voice):
            continue
        total += np.take(voice, np.arange(samples) + generator.integers(len(voice)), mode="wrap")
        found += 1
        if found == VOICES:
            break
    if not found:
        raise InputError("babble needs two clips that are not silent; measure on a larger split")
    return total


def join_recordings(recordings: Sequence[NDArray[np.int16]], most: int, folder: str) -> NDArray[np.float32]:
    """Recordings at one level, one after another, up to `most` samples."""
    parts: list[NDArray[np.float32]] = []
    filled = silent = 0
    for recording in recordings:
        if filled >= most:
            break
        parts.append(_level(recording[: most - filled] / 32768))
        filled += len(parts[-1])
        silent += not len(parts[-1])
    if not filled:
        raise InputError(f"augment.noise_folder={folder}: no recording that is not silent")
    left = len(recordings) - len(parts)
    logger.info("%s: %d recordings of noise; %d silent and %d beyond %d samples left out",
                folder, len(parts) - silent, silent, left, most)  # fmt: skip
    return np.concatenate(parts)


def read_noise(path: str, key: str) -> Iterator[NDArray[np.float32]]:
    """The recordings of noise at `path`, float32 [samples] at 16 kHz, in order of their names.

    A file is read whatever it is called. Of a folder, and of those in it, the files named like audio (`AUDIO_ENDINGS`)
    are read; how many others there are goes to the log, hidden ones aside.

    Args:
        path: a file or a folder.
        key: the setting that errors name, such as "noise".

    Raises:
        InputError: nothing there, nothing named like audio, or what `audio.decode.read_audio` refuses.
    """
    place = Path(path)
    found = [place]
    if place.is_dir():
        listed = sorted(file for file in place.rglob("*") if file.is_file() and not file.name.startswith("."))
        found = [file for file in listed if file.suffix.lower() in AUDIO_ENDINGS]
        others = [str(file.relative_to(place)) for file in listed if file.suffix.lower() not in AUDIO_ENDINGS]
        if not found:
            raise InputError(f"{key}={path}: no sound file there ({', '.join(AUDIO_ENDINGS)})")
        if others:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            logger.info("%s=%s: %d files skipped, which are not named like recordings (%s): %s%s",
                        key, path, len(others), ", ".join(AUDIO_ENDINGS), ", ".join(others[:SHOWN]), more)  # fmt: skip
    for file in found:
        yield read_audio(file, max_seconds=FILE_SECONDS, name=f"{key}={file}").waveform


def read_noise_folder(folder: str | None) -> Sequence[NDArray[np.int16]]:
    """The recordings of `augment.noise_folder`, int16 [samples] at 16 kHz each; none where it is not set."""
    return () if folder is None else [to_int16(waveform) for waveform in read_noise(folder, "augment.noise_folder")]


def read_recording(path: str | None, columns: Sequence[str] = ("audio",)) -> tuple[str, NDArray[np.float32]] | None:
    """The noise to measure robustness in: its name, and float32 [samples] of level 1, one recording after the other.

    Args:
        path: a recording or a folder of them; None for none.
        columns: what the model to measure reads.

    Raises:
        InputError: the model reads no audio; nothing but silence; what `read_noise` refuses.
    """
    if path is None:
        return None
    if "audio" not in columns:
        raise InputError(f"noise={path}: the run's model reads {columns[0]}; leave it out")
    parts, samples = [], 0
    for waveform in read_noise(path, "noise"):
        part = _level(waveform)
        if len(part):
            parts.append(part)
            samples += len(part)
        if samples >= FOLDER_SECONDS * SAMPLING_RATE:
            break
    if not parts:
        raise InputError(f"noise={path}: no recording that is not silent")
    logger.info("noise=%s: %d files, %.0f s", path, len(parts), samples / SAMPLING_RATE)
    return f"{Path(path).stem} (recorded)", np.concatenate(parts)
