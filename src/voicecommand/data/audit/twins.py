"""Nearly the same recording twice: cut, copied, encoded again or a little louder, it is still one recording.

Two steps. Around its two loudest moments each clip gives a picture of its band energies; places that are found in
the sound itself are the same in a copy that begins earlier or later. Clips with alike pictures are then laid over
each other, and are twins where the waveforms correlate. Two takes of one word by one speaker look alike, yet their
waveforms don't.

How the thresholds were found: in 1,823 recordings of six keywords, all pairs of a label were correlated (at 2 kHz).
Each clip's best match lies above 0.95 (322 clips), between 0.9 and 0.95 (0), 0.85 and 0.9 (0) or below; the way here
finds those 322 and 7 more. In 3,000 spoken digits (6 speakers, 50 takes each, none copied) the best pair reaches
0.854 and none counts as twins. Copies as MP3, in mu-law, in the telephone band, with a fifth of a second cut off, at
a third of the level or with noise at 20 dB are found; with noise at 10 dB they mostly aren't.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 16_000
# The picture: 32 frames of 32 ms, 16 ms apart, 16 bands from 300 Hz to 3.4 kHz, which every encoding keeps.
LOW, HIGH = 300, 3400
FRAME, HOP, FRAMES, BANDS = 512, 256, 32, 16
EDGES = np.round(np.geomspace(LOW, HIGH, BANDS + 1) / SAMPLING_RATE * FRAME).astype(int)
WINDOW = np.hanning(FRAME).astype(np.float32)
FLOOR = 1e-2  # 20 dB below the loudest band of the picture: what lies deeper is the room's, or the encoder's
ALIKE = 0.88  # cosine of two pictures
CORRELATED = 0.88  # of two waveforms
BLOCK = 2048
SHORTEST = SAMPLING_RATE // 10  # samples: too little to tell recordings apart


class Clips(Protocol):
    """int16 [samples] each, as `audio.clips.Clips` has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[np.int16]: ...


def find_twins(clips: Clips, groups: Sequence[str] | None = None) -> list[list[int]]:
    """Sets of clips that are nearly the same recording.

    Args:
        clips: int16 [samples] at 16 kHz, read one at a time.
        groups: a name for each clip, such as its label; only clips of one name are compared. The time grows with
            the square of the largest group.

    Returns:
        Each set as rising numbers, in the order of their first. Clips of less than 0.1 s and silent ones are in none.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number in range(len(clips)):
        members[groups[number] if groups is not None else ""].append(number)
    first = list(range(len(clips)))  # of the set that a clip is in

    def root(number: int) -> int:
        while first[number] != number:
            number = first[number]
        return number

    for numbers in members.values():
        for left, right in _alike(*_draw_all(clips, numbers)):
            a, b = sorted((root(left), root(right)))
            if a != b and correlate(clips[left], clips[right]) >= CORRELATED:
                first[b] = a
    sets: dict[int, list[int]] = defaultdict(list)
    for number in range(len(clips)):
        sets[root(number)].append(number)
    return [numbers for numbers in sets.values() if len(numbers) > 1]


def correlate(left: NDArray[np.int16], right: NDArray[np.int16]) -> float:
    """The largest correlation of two waveforms over all shifts, from 0 to 1.

    It is that of their derivatives from 300 Hz to 3.4 kHz: hum is alike in all recordings of a room, and low notes
    in all takes of a voice. Shifts are circular; what wraps around is the end of the longer clip.
    """
    size = 1 << max(len(left), len(right)).bit_length()
    hertz = np.arange(size // 2 + 1, dtype=np.float32) * (SAMPLING_RATE / size)
    weight = np.where((hertz >= LOW) & (hertz <= HIGH), hertz, np.float32(0))
    a, b = (np.fft.rfft(np.asarray(clip, np.float32), size) * weight for clip in (left, right))
    norm = 2 / size * float(np.linalg.norm(a) * np.linalg.norm(b))  # Parseval: that of the waveforms
    return float(np.abs(np.fft.irfft(a * b.conj(), size)).max()) / norm if norm else 0.0


def _draw_all(clips: Clips, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(pictures float16 [n, FRAMES * BANDS] of length 1, the clip of each int64 [n])."""
    pictures: list[np.ndarray] = []
    owners: list[int] = []
    for number in numbers:
        waveform = np.asarray(clips[number], np.float32)
        if len(waveform) >= SHORTEST:
            drawn = [_draw(waveform, moment) for moment in _find_moments(waveform)]
            pictures += [picture for picture in drawn if picture is not None]
            owners += [number] * (len(pictures) - len(owners))
    empty = np.zeros((0, FRAMES * BANDS), np.float16)
    return (np.stack(pictures) if pictures else empty), np.array(owners, np.int64)


def _find_moments(waveform: np.ndarray) -> list[int]:
    """The samples in the middle of the two loudest stretches of 64 ms that lie a quarter of a second apart, by the
    energy from about 300 Hz to 2 kHz: means of four samples and their differences."""
    coarse = np.diff(waveform[: len(waveform) // 4 * 4].reshape(-1, 4).mean(axis=1))
    energy = np.concatenate([[0.0], np.cumsum(coarse.astype(np.float64) ** 2)])
    width = min(256, len(coarse))
    power = energy[width:] - energy[:-width]
    moments = []
    for _ in range(2):
        at = int(power.argmax())
        if power[at] <= 0:
            break
        moments.append(4 * (at + width // 2))
        power[max(0, at - 1000) : at + 1000] = 0
    return moments


def _draw(waveform: np.ndarray, moment: int) -> np.ndarray | None:
    """Log band energies around a moment, each band less its mean (a microphone's colour), as a vector of length 1."""
    size = HOP * (FRAMES - 1) + FRAME
    start = moment - size // 2
    padded = np.zeros(size, np.float32)
    piece = waveform[max(0, start) : start + size]
    padded[max(0, -start) : max(0, -start) + len(piece)] = piece
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * WINDOW, axis=1)) ** 2
    bands = np.add.reduceat(power[:, : EDGES[-1]], EDGES[:-1], axis=1)
    logs = np.log(bands / (bands.max() or 1.0) + FLOOR)
    logs -= logs.mean(axis=0)
    norm = np.linalg.norm(logs)
    return (logs.ravel() / norm).astype(np.float16) if norm > 1e-3 else None


def _alike(pictures: np.ndarray, owners: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of clips with a pair of alike pictures, each once."""
    seen: set[tuple[int, int]] = set()
    for start in range(0, len(pictures), BLOCK):
        left = pictures[start : start + BLOCK].astype(np.float32)
        for other in range(start, len(pictures), BLOCK):
            right = pictures[other : other + BLOCK].astype(np.float32)
            for row, column in zip(*np.nonzero(left @ right.T >= ALIKE), strict=True):
                first, second = int(owners[start + row]), int(owners[other + column])
                pair = (min(first, second), max(first, second))
                if first != second and pair not in seen:
                    seen.add(pair)
                    yield pair
