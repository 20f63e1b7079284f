"""Noise, generated from a seed or read from recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import SAMPLING_RATE, to_float, to_int16
from voicecommand.audio.decode import read_audio
from voicecommand.audio.effects import SILENT
from voicecommand.audio.forms import AUDIO_ENDINGS, is_of_system, refuse_unread
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
MADE_NOISE = {"white": 0.0, "pink": -0.5, "brown": -1.0}  # amplitude is frequency to this power
NOISE_KINDS = (*MADE_NOISE, "babble")
NOISE_SECONDS = 60  # of each kind in the bank, from which windows are cut
FOLDER_SECONDS = 1200  # of a folder of noise are kept in memory (77 MB)
FILE_SECONDS = 3600  # the longest recording of noise that is read
SHOWN = 3  # skipped files that the log names
VOICES = 6  # in babble


def make_noise(kind: str, samples: int, seed: int) -> NDArray[np.float32]:
    """Gaussian noise, float32 [samples] of root mean square 1: white, pink (-3 dB an octave) or brown (-6 dB).

    The spectrum is flat below 1/800 of the sampling rate (20 Hz at 16 kHz): otherwise brown noise would be mostly
    drift. Equal arguments give equal noise.
    """
    generator = np.random.Generator(np.random.Philox([seed, *kind.encode()]))
    # white noise, shaped in the frequency domain; without its mean
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    spectrum *= np.maximum(np.fft.rfftfreq(samples), 1 / 800) ** MADE_NOISE[kind]
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _level(waveform: NDArray[np.floating], least: float = SILENT) -> NDArray[np.float32]:
    """A waveform in [-1, 1] as float32 of root mean square 1; empty if its mean square is below `least`, or it is
    constant but for less than that."""
    power = np.mean(waveform**2) if len(waveform) and np.ptp(waveform) >= 2 * math.sqrt(least) else 0.0
    level = waveform / np.sqrt(power) if power >= least else waveform[:0]
    return level.astype(np.float32)


def _voiced(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """`_level` of a clip from its first to its last loud sample (5 % of the loudest), so that babble has no pauses."""
    loudness = np.abs(np.asarray(clip, dtype=np.float32))
    loud = np.flatnonzero(loudness >= 0.05 * loudness.max(initial=0))
    return _level((clip[loud[0] : loud[-1] + 1] if len(loud) else clip) / 32768)


# Babble is made in two ways, which draw differently. Replacing one by the other would change the weights of published
# runs, or the published robustness. They share only `_level`.


def make_babble(clips: Sequence[NDArray[np.int16]], samples: int, seed: int) -> NDArray[np.float32]:
    """The sum of VOICES voices, each a sequence of random clips at the same level: float32 [samples].

    For augmentation: a minute from which many windows are cut, from all training clips without their pauses.
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
    """The sum of VOICES other clips at the same level, each repeated from a random start: float32 [samples].

    For robustness: noise for clip `row`, from other clips and, where speakers are known, from other speakers.

    Raises:
        InputError: there is no other clip that is not silent.
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
    """Recordings scaled to the same level, one after another, up to `most` samples: float32 [samples].

    Raises:
        InputError: there are none, or only silent ones; it names `folder`.
    """
    parts: list[NDArray[np.float32]] = []
    filled = silent = 0
    for recording in recordings:
        if filled >= most:
            break
        parts.append(_level(recording[: most - filled] / 32768))
        filled += len(parts[-1])
        silent += not len(parts[-1])
    if not filled:
        raise InputError(f"augment.noise_folder={folder}: no recordings, or only silent ones")
    left = len(recordings) - len(parts)
    logger.info("%s: %d recordings of noise used; left out: %d silent, %d beyond the first %d samples",
                folder, len(parts) - silent, silent, left, most)  # fmt: skip
    return np.concatenate(parts)


def read_noise(path: str, key: str) -> Iterator[NDArray[np.float32]]:
    """The recordings of noise at `path`, float32 [samples] at 16 kHz, in order of their names.

    A file is read whatever its name. In a folder and its subfolders the files named like audio (`AUDIO_ENDINGS`) are
    read; a warning counts the others, except hidden ones and those of a system.

    Args:
        path: a file or a folder.
        key: the setting that errors name, such as "noise".

    Raises:
        InputError: there is no file, none named like audio, or one of a form that is not read; or as
            `audio.decode.read_audio`.
    """
    place = Path(path)
    found = [place]
    if place.is_dir():
        listed = [file for file in sorted(place.rglob("*")) if file.is_file()]
        listed = [file for file in listed if not any(map(is_of_system, file.relative_to(place).parts))]
        refuse_unread([str(file) for file in listed], str(place))
        found = [file for file in listed if file.suffix.lower() in AUDIO_ENDINGS]
        others = [str(file.relative_to(place)) for file in listed if file.suffix.lower() not in AUDIO_ENDINGS]
        if not found:
            raise InputError(f"{key}={path}: no audio file there ({', '.join(AUDIO_ENDINGS)})")
        if others:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            logger.warning("%s=%s: %d files skipped, their names have no audio ending (%s): %s%s",
                        key, path, len(others), ", ".join(AUDIO_ENDINGS), ", ".join(others[:SHOWN]), more)  # fmt: skip
    for file in found:
        yield read_audio(file, max_seconds=FILE_SECONDS, name=f"{key}={file}").waveform


def read_noise_folder(folder: str | None) -> Sequence[NDArray[np.int16]]:
    """The recordings of `augment.noise_folder`, int16 [samples] at 16 kHz each; none if it is not set."""
    return () if folder is None else [to_int16(waveform) for waveform in read_noise(folder, "augment.noise_folder")]


def read_recording(path: str | None, columns: Sequence[str] = ("audio",)) -> tuple[str, NDArray[np.float32]] | None:
    """The recorded noise for robustness: its name, and the recordings one after another, float32 [samples], each with
    a root mean square of 1.

    Args:
        path: a recording or a folder of them; None for none.
        columns: the columns that the measured model reads.

    Raises:
        InputError: the model reads no audio; all recordings are silent; or as `read_noise`.
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
        raise InputError(f"noise={path}: all recordings are silent")
    logger.info("noise=%s: %d files, %.0f s", path, len(parts), samples / SAMPLING_RATE)
    return f"{Path(path).stem} (recorded)", np.concatenate(parts)
