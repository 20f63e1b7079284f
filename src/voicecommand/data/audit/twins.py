"""Near copies of recordings (twins): the same recording cut, encoded again, or at another level.

There are two steps. First, the log band energies around the two loudest moments of each clip are compared as vectors;
the loudest moments are the same in a copy that begins earlier or later. Second, the waveforms of clips with similar
vectors are correlated. Two takes of one word by one speaker have similar band energies, but their waveforms do not
correlate.

The thresholds come from 1,823 recordings of six keywords, in which all pairs of a label were correlated (at 2 kHz). The
correlation with the best match is above 0.95 for 322 clips, and below 0.85 for the others; this method finds those 322
and 7 more. In 3,000 spoken digits (6 speakers, 50 takes each, no copies) the greatest correlation is 0.854, and no
twins are found. Copies as MP3, in mu-law, in the telephone band, with a fifth of a second cut off, at a third of the
level or with noise at 20 dB are found; those with noise at 10 dB mostly are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 16_000
# The band energies: 32 frames of 32 ms, 16 ms apart, 16 bands from 300 Hz to 3.4 kHz, which every encoding preserves.
LOW, HIGH = 300, 3400
FRAME, HOP, FRAMES, BANDS = 512, 256, 32, 16
EDGES = np.round(np.geomspace(LOW, HIGH, BANDS + 1) / SAMPLING_RATE * FRAME).astype(int)
WINDOW = np.hanning(FRAME).astype(np.float32)
FLOOR = 1e-2  # 20 dB below the loudest band; lower energies are from the room or the encoder
ALIKE = 0.88  # least cosine of two vectors of band energies
CORRELATED = 0.88  # least correlation of two waveforms
BLOCK = 2048  # vectors that are compared with as many others at a time
SHORTEST = SAMPLING_RATE // 10  # samples; shorter clips are too short to tell recordings apart


class Clips(Protocol):
    """int16 [samples] each, as `audio.clips.Clips` has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[np.int16]: ...


def find_twins(clips: Clips, groups: Sequence[str] | None = None) -> list[list[int]]:
    """Sets of clips that are nearly the same recording.

    Args:
        clips: int16 [samples] at 16 kHz, read one at a time.
        groups: a name for each clip, such as its label; only clips with the same name are compared. The time grows
            with the square of the largest group.

    Returns:
        Each set as rising numbers, in the order of the first one. Clips of less than 0.1 s and silent ones are in none.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number in range(len(clips)):
        members[groups[number] if groups is not None else ""].append(number)
    # union-find: `first` leads from each clip to the first clip of its set, directly or through others
    first = list(range(len(clips)))

    def root(number: int) -> int:
        while first[number] != number:
            number = first[number]
        return number

    for numbers in members.values():
        for left, right in _alike(*_describe_all(clips, numbers)):
            a, b = sorted((root(left), root(right)))
            if a != b and correlate(clips[left], clips[right]) >= CORRELATED:
                first[b] = a
    sets: dict[int, list[int]] = defaultdict(list)
    for number in range(len(clips)):
        sets[root(number)].append(number)
    return [numbers for numbers in sets.values() if len(numbers) > 1]


def correlate(left: NDArray[np.int16], right: NDArray[np.int16]) -> float:
    """The largest correlation of two waveforms over all shifts, from 0 to 1.

    The derivatives are correlated, from 300 Hz to 3.4 kHz: hum is similar in all recordings of a room, and low
    frequencies in all takes of a voice. Shifts are circular; the end of the longer clip may wrap around.
    """
    size = 1 << max(len(left), len(right)).bit_length()  # a power of two
    hertz = np.arange(size // 2 + 1, dtype=np.float32) * (SAMPLING_RATE / size)
    weight = np.where((hertz >= LOW) & (hertz <= HIGH), hertz, np.float32(0))  # a derivative multiplies by frequency
    a, b = (np.fft.rfft(np.asarray(clip, np.float32), size) * weight for clip in (left, right))
    # Parseval's theorem: the product of the filtered waveforms' norms; rfft has half of the spectrum, hence the 2
    norm = 2 / size * float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.abs(np.fft.irfft(a * b.conj(), size)).max()) / norm if norm else 0.0


def _describe_all(clips: Clips, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(vectors float16 [n, FRAMES * BANDS] of length 1, the clip of each int64 [n])."""
    vectors: list[np.ndarray] = []
    owners: list[int] = []
    for number in numbers:
        waveform = np.asarray(clips[number], np.float32)
        if len(waveform) >= SHORTEST:
            found = [_describe(waveform, moment) for moment in _find_moments(waveform)]
            vectors += [vector for vector in found if vector is not None]
            owners += [number] * (len(vectors) - len(owners))
    empty = np.zeros((0, FRAMES * BANDS), np.float16)
    return (np.stack(vectors) if vectors else empty), np.array(owners, np.int64)


def _find_moments(waveform: np.ndarray) -> list[int]:
    """The middle samples of the two loudest stretches of 64 ms at least a quarter of a second apart.

    Loud is the energy from about 300 Hz to 2 kHz: of differences of means of four samples.
    """
    coarse = np.diff(waveform[: len(waveform) // 4 * 4].reshape(-1, 4).mean(axis=1))  # at 4 kHz
    energy = np.concatenate([[0.0], np.cumsum(coarse.astype(np.float64) ** 2)])
    width = min(256, len(coarse))
    power = energy[width:] - energy[:-width]  # of each stretch of `width` values
    moments = []
    for _ in range(2):
        at = int(power.argmax())
        if power[at] <= 0:
            break
        moments.append(4 * (at + width // 2))
        power[max(0, at - 1000) : at + 1000] = 0  # a quarter of a second on both sides
    return moments


def _describe(waveform: np.ndarray, moment: int) -> np.ndarray | None:
    """Log band energies around a moment as a vector of length 1; None if they hardly change.

    The mean of each band, which depends on the microphone, is subtracted.
    """
    size = HOP * (FRAMES - 1) + FRAME  # samples, from a waveform that is padded with zeros
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


def _alike(vectors: np.ndarray, owners: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of clips that have a pair of similar vectors, each pair once."""
    seen: set[tuple[int, int]] = set()
    # block by block: the whole matrix of cosines may not fit in memory
    for start in range(0, len(vectors), BLOCK):
        left = vectors[start : start + BLOCK].astype(np.float32)
        for other in range(start, len(vectors), BLOCK):
            right = vectors[other : other + BLOCK].astype(np.float32)
            for row, column in zip(*np.nonzero(left @ right.T >= ALIKE), strict=True):
                first, second = int(owners[start + row]), int(owners[other + column])
                pair = (min(first, second), max(first, second))
                if first != second and pair not in seen:
                    seen.add(pair)
                    yield pair
