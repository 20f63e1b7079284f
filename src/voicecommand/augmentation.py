"""What is done to the sound of training examples: waveforms and drawn parameters in, waveforms out, in batches.

`Augmentation` says what may happen (conf/augment/*.yaml) and draws what does, `Augmenter` does it on the device.
In this order: speed, shift, room, equaliser and band limit, noise, gain, clipping. Noise comes after room and
microphone, so the drawn signal-to-noise ratio is that of the result, but for the samples that clipping takes.
Waveforms are float32 [b, n] within -1 to 1, zero beyond `lengths` [b]; the plain functions at the top measure
robustness with the same code.
"""

from __future__ import annotations

import io
import logging
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.errors import InputError

logger = logging.getLogger(__name__)

MADE_NOISE = {"white": 0.0, "pink": -0.5, "brown": -1.0}  # exponent of the amplitude over frequency
NOISE_KINDS = (*MADE_NOISE, "babble")
NOISE_SECONDS = 60  # of each kind in the bank, from which windows are cut
FOLDER_SECONDS = 1200  # as much of a folder of noise is kept in memory (77 MB)
VOICES = 6  # talking at once in babble
SILENT = 1e-8  # mean square (-80 dB of full scale) below which a clip is silent
SPEECH_POWER = 10**-2.6  # of speech at its usual level, -26 dB of full scale (ITU-T P.56's level in P.800's tests)
BANDS = 8  # of the equaliser: an octave apart, the last at half of 16 kHz
LOWEST_BAND = 62.5  # Hz
SLOPE = 48.0  # dB an octave beyond a band limit
HALF = 8  # taps on each side of the interpolator
BLOCK = 100  # samples that are interpolated at once: a whole number of periods, as speed is in whole percent
ROOM_GAP = 0.002  # seconds between the direct sound and the first reflections
ROOM_SHARE = 0.6  # of the reverberation time that is simulated: down to -36 dB
ROWS = 8  # transforms are made in multiples of so many: their rounding depends on the rows beyond one


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


def add_noise(waveforms: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Waveforms + noise, both float32 [b, n], at a signal-to-noise ratio of snr_db [b] over the first `lengths` [b].

    The noise covers the whole window. A silent clip gets the noise that speech at its usual level (-26 dB of full
    scale) would; noise that is silent there is left out.
    """
    rows, samples = waveforms.shape
    end = torch.full((rows,), samples) if lengths is None else lengths
    valid = _between(torch.zeros_like(end), end, samples, waveforms.device)
    return _add_noise(waveforms, noise, torch.as_tensor(snr_db, device=waveforms.device), valid)


def _add_noise(waveforms: Tensor, noise: Tensor, snr_db: Tensor, valid: Tensor) -> Tensor:
    speech, disturbance = _power(waveforms, valid), _power(noise, valid)
    speech = torch.where(speech < SILENT, SPEECH_POWER, speech)
    scale = torch.where(disturbance > 0, (speech / disturbance).sqrt() * _from_db(-snr_db), 0.0)
    return waveforms + noise * scale[:, None]


def _power(waveforms: Tensor, valid: Tensor) -> Tensor:
    """Mean square over the valid samples: [b, n], bool [b, n] -> [b].

    Summed in two steps, because one sum over a long row rounds by how threads share a batch.
    """
    squares = functional.pad(waveforms.square() * valid, (0, -waveforms.shape[1] % 256))
    return squares.view(len(waveforms), -1, 256).sum(-1).sum(-1) / valid.sum(-1).clamp(min=1)


def band_limit(waveforms: Tensor, low_hz: float, high_hz: float, sampling_rate: int) -> Tensor:
    """Waveforms [b, n] without what lies below low_hz and above high_hz: 48 dB an octave, no delay.

    A telephone is 300 to 3,400 Hz (ITU-T G.712).
    """
    samples = waveforms.shape[1]
    size = _fft_size(samples + sampling_rate // 10)
    curve = _band_db(_octaves(size, sampling_rate, waveforms.device), torch.tensor([low_hz]), torch.tensor([high_hz]))
    return _inverse(_transform(waveforms, size) * _from_db(curve), size)[:, :samples].contiguous()


def clip(waveforms: Tensor, share: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Waveforms [b, n] cut off at the level that a `share` [b] (0 to 1) of the first `lengths` [b] samples exceeds."""
    samples = waveforms.shape[1]
    counted = torch.full((len(waveforms),), samples) if lengths is None else lengths.cpu()
    exceeding = (torch.as_tensor(share, dtype=torch.float64).cpu() * counted).round().long().clamp(max=samples - 1)
    loudest = waveforms.abs().topk(int(exceeding.max()) + 1).values
    level = loudest.gather(1, exceeding[:, None].to(waveforms.device))
    return torch.minimum(torch.maximum(waveforms, -level), level)


def mask_spectrogram(
    features: Tensor, mask_bands: Tensor, mask_times: Tensor, max_bins: float, max_frames: float
) -> Tensor:
    """SpecAugment without warping (arXiv:1904.08779): features [b, bins, frames] with masks of the example's mean.

    Args:
        mask_bands, mask_times: [b, k, 2] uniform in [0, 1): the width of each mask as a share of its maximum, and
            where it lies; a width of 0 masks nothing.
        max_bins, max_frames: the widest mask; widths are whole numbers from 0 to it.
    """
    bands = _masked(mask_bands, features.shape[1], max_bins)
    times = _masked(mask_times, features.shape[2], max_frames)
    return torch.where(bands[:, :, None] | times[:, None, :], features.mean((1, 2), keepdim=True), features)


def _masked(drawn: Tensor, size: int, largest: float) -> Tensor:
    """[b, k, 2] uniform in [0, 1) -> bool [b, size]."""
    widths = (drawn[..., 0] * (min(largest, size) + 1)).floor()
    starts = (drawn[..., 1] * (size - widths + 1)).floor()
    positions = torch.arange(size, device=drawn.device)
    return ((positions >= starts[..., None]) & (positions < (starts + widths)[..., None])).any(1)


# --- frequency ---------------------------------------------------------------------------------------------------


def _fft_size(samples: int) -> int:
    from scipy.fft import next_fast_len

    size: int = next_fast_len((samples + 1) // 2, real=True) * 2
    return size


def _transform(waveforms: Tensor, size: int) -> Tensor:
    """rfft of each row, zero-padded to `size`, rounded alike whatever the other rows and their number."""
    rows = len(waveforms)
    return torch.fft.rfft(functional.pad(waveforms, (0, size - waveforms.shape[1], 0, -rows % ROWS)))[:rows]


def _inverse(spectra: Tensor, size: int) -> Tensor:
    rows = len(spectra)
    return torch.fft.irfft(functional.pad(spectra, (0, 0, 0, -rows % ROWS)), size)[:rows]


def _multiply(first: Tensor, second: Tensor) -> Tensor:
    """Complex product in steps of real ones: the kernel for complex numbers rounds by how threads share a batch."""
    turned = torch.stack((-first.imag, first.real), -1)
    factors = torch.view_as_real(second)
    return torch.view_as_complex(torch.view_as_real(first) * factors[..., :1] + turned * factors[..., 1:])


def _octaves(size: int, sampling_rate: int, device: torch.device) -> Tensor:
    """log2 of the frequency in Hz of each bin of a transform of `size` samples."""
    bins = torch.arange(size // 2 + 1, device=device, dtype=torch.float32).clamp(min=0.5)
    return (bins * (sampling_rate / size)).log2()


def _band_db(octaves: Tensor, low_hz: Tensor, high_hz: Tensor) -> Tensor:
    """Gain in dB [b, bins] of band limits [b]; 0 and infinity limit nothing."""
    low, high = (hz.log2()[:, None].to(octaves.device) for hz in (low_hz, high_hz))
    return -SLOPE * ((low - octaves).relu() + (octaves - high).relu())


def _equaliser_db(octaves: Tensor, gains: Tensor) -> Tensor:
    """Gain in dB [b, bins]: straight lines over log frequency between the bands' gains [b, BANDS]."""
    position = (octaves - math.log2(LOWEST_BAND)).clamp(0, BANDS - 1)
    below = position.floor().long().clamp(max=BANDS - 2)
    return gains[:, below] + (gains[:, below + 1] - gains[:, below]) * (position - below)


def _from_db(gain: Tensor) -> Tensor:
    return (gain * (math.log(10) / 20)).exp()


# --- what is drawn -----------------------------------------------------------------------------------------------

Range = tuple[float, float]
EFFECTS = ("speed", "shift", "reverb", "equaliser", "band_limit", "noise", "gain", "clipping")
# What each range must stay within.
RANGES: dict[str, Range] = {
    "speed_range": (0.5, 2),
    "shift_seconds": (-10, 10),
    "reverb_seconds": (0.02, 3),
    "reverb_direct_db": (-20, 40),
    "band_low_hz": (0, 24_000),
    "band_high_hz": (1, 24_000),
    "noise_snr_db": (-40, 100),
    "gain_db": (-60, 60),
    "clipping_share": (0, 0.9),
}


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training example. A bare name is the probability (0 to 1), beside it what is drawn from.

    Raises:
        InputError: a value out of its range.
    """

    speed: float = 0.0
    speed_range: Range = (0.85, 1.15)  # above 1 is faster and higher; in whole percent
    shift: float = 0.0
    shift_seconds: Range = (-0.1, 0.1)  # above 0 is later
    reverb: float = 0.0
    reverb_seconds: Range = (0.1, 0.5)  # until the room's sound has fallen by 60 dB
    reverb_direct_db: Range = (0.0, 12.0)  # the direct sound over the room's
    equaliser: float = 0.0
    equaliser_db: float = 6.0  # each of 8 bands gains between minus and plus this
    band_limit: float = 0.0
    band_low_hz: Range = (50.0, 400.0)
    band_high_hz: Range = (3000.0, 7000.0)
    noise: float = 0.0
    noise_snr_db: Range = (0.0, 30.0)
    noise_kinds: Sequence[str] = NOISE_KINDS
    noise_folder: str | None = None  # of recordings, which are one kind more
    gain: float = 0.0
    gain_db: Range = (-12.0, 6.0)
    clipping: float = 0.0
    clipping_share: Range = (0.001, 0.05)  # of the samples that are cut off
    masks: int = 0  # SpecAugment: so many of bands, and so many of times

    def __post_init__(self) -> None:
        for name in EFFECTS:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment.{name}={getattr(self, name)}: a probability; give 0 to 1")
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
                hint = f"[least, most] within {lowest} to {highest}"
                raise InputError(f"augment.{name}={list(value)}: give {hint}")
        kinds = self.noise_kinds
        if isinstance(kinds, str) or not isinstance(kinds, Sequence):
            raise InputError(f"augment.noise_kinds={kinds}: give a list of {', '.join(NOISE_KINDS)}")
        if unknown := [kind for kind in kinds if kind not in NOISE_KINDS]:
            raise InputError(f"augment.noise_kinds: no {unknown[0]}; there are {', '.join(NOISE_KINDS)}")
        if self.noise and not kinds and not self.noise_folder:
            raise InputError("augment.noise_kinds=[]: name kinds of noise, give augment.noise_folder, or set noise=0")
        if not 0 <= self.equaliser_db <= 40:
            raise InputError(f"augment.equaliser_db={self.equaliser_db}: give 0 to 40 dB")
        if not 0 <= self.masks <= 100:
            raise InputError(f"augment.masks={self.masks}: give a whole number from 0 to 100")

    def draw(self, seed: int, epoch: int, examples: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """The parameters of some examples (their numbers in the training split) in one epoch.

        A function of seed, epoch and example alone (numpy's Philox with seed and epoch as its key and the example
        in its counter): order, batches, workers, ranks and a resumed run change nothing. Each parameter has its
        own place in the stream, so one probability does not change what is drawn for another.

        Returns:
            float32 [b] by name, `equaliser_db` [b, 8], and where masks > 0 `mask_bands` and `mask_times`
            [b, masks, 2] for `mask_spectrogram`. What does not happen is neutral: speed_percent 100,
            reverb_seconds 0, noise_snr_db infinite and so on.
        """
        streams = (np.random.Philox(key=[seed, epoch], counter=[0, example, 0, 0]) for example in examples)
        count = len(EFFECTS) + 12 + BANDS + 4 * self.masks
        uniform = np.stack([np.random.Generator(stream).random(count, dtype=np.float32) for stream in streams])
        happens = dict(zip(EFFECTS, uniform.T, strict=False))
        value = uniform[:, len(EFFECTS) :].T

        def drawn(effect: str, limits: Range, place: int, otherwise: float) -> NDArray:
            values = limits[0] + (limits[1] - limits[0]) * value[place]
            return np.where(happens[effect] < getattr(self, effect), values, otherwise)

        draws = {
            "speed_percent": np.round(100 * drawn("speed", self.speed_range, 0, 1.0)),
            "shift_seconds": drawn("shift", self.shift_seconds, 1, 0.0),
            "reverb_seconds": drawn("reverb", self.reverb_seconds, 2, 0.0),
            "reverb_direct_db": drawn("reverb", self.reverb_direct_db, 3, 0.0),
            "reverb_offset": value[4],
            "band_low_hz": drawn("band_limit", self.band_low_hz, 5, 0.0),
            "band_high_hz": drawn("band_limit", self.band_high_hz, 6, math.inf),
            "noise_snr_db": drawn("noise", self.noise_snr_db, 7, math.inf),
            "noise_kind": value[8],
            "noise_offset": value[9],
            "gain_db": drawn("gain", self.gain_db, 10, 0.0),
            "clipping_share": drawn("clipping", self.clipping_share, 11, 0.0),
        }
        gains = self.equaliser_db * (2 * value[12 : 12 + BANDS].T - 1)
        draws["equaliser_db"] = np.where((happens["equaliser"] < self.equaliser)[:, None], gains, 0.0)
        if self.masks:
            masks = value[12 + BANDS :].T.reshape(len(uniform), 2, self.masks, 2)
            draws["mask_bands"], draws["mask_times"] = masks[:, 0], masks[:, 1]
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in draws.items()}

    def build(
        self,
        clips: Sequence[NDArray[np.int16]] | None,
        sampling_rate: int,
        seed: int,
        recordings: Sequence[NDArray[np.int16]] = (),
    ) -> Augmenter:
        """The module that does it, with a minute of each kind of noise made from `seed`.

        Args:
            clips: int16 [samples] each, the training clips that babble is made of; None if babble is not wanted.
            recordings: int16 [samples] each, the files of `noise_folder`, at the same rate: one kind more.

        Raises:
            InputError: nothing to make a wanted kind of noise of.
        """
        samples = NOISE_SECONDS * sampling_rate
        bank: dict[str, NDArray[np.float32]] = {}
        if self.noise:
            for kind in self.noise_kinds:
                made = kind in MADE_NOISE
                bank[kind] = make_noise(kind, samples, seed) if made else _babble(clips or (), samples, seed)
            if self.noise_folder is not None:
                bank["folder"] = _joined(recordings, FOLDER_SECONDS * sampling_rate, self.noise_folder)
            minutes = ", ".join(f"{kind} {len(noise) / sampling_rate:.0f} s" for kind, noise in bank.items())
            logger.info("noise for augmentation: %s", minutes)
        return Augmenter(self, bank, sampling_rate, seed)


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


def _babble(clips: Sequence[NDArray[np.int16]], samples: int, seed: int) -> NDArray[np.float32]:
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


def _joined(recordings: Sequence[NDArray[np.int16]], most: int, folder: str) -> NDArray[np.float32]:
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


# --- what is done ------------------------------------------------------------------------------------------------


class Augmenter(nn.Module):
    """Does to waveforms what was drawn. Made by `Augmentation.build`; its noise moves with it between devices."""

    def __init__(
        self, augmentation: Augmentation, bank: dict[str, NDArray[np.float32]], sampling_rate: int, seed: int
    ) -> None:
        super().__init__()
        self.sampling_rate = sampling_rate
        self.kinds = list(bank)
        self.kind_samples = [len(noise) for noise in bank.values()]
        self.room_samples = math.ceil(ROOM_SHARE * augmentation.reverb_seconds[1] * sampling_rate)
        low, high = (round(100 * factor) for factor in augmentation.speed_range)
        self.slowest, self.span = min(low, 100), max(high, 100) + 2 * HALF
        noise = np.concatenate([*bank.values(), np.empty(0, np.float32)])
        self.noise: Tensor
        self.room: Tensor
        self.interpolators: Tensor
        self.register_buffer("noise", torch.from_numpy(noise), persistent=False)
        room = make_noise("white", 10 * self.room_samples, seed)
        self.register_buffer("room", torch.from_numpy(room), persistent=False)
        interpolators = np.stack([_interpolator(p, self.span) for p in range(self.slowest, max(high, 100) + 1)])
        self.register_buffer("interpolators", torch.from_numpy(interpolators), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Augmented waveforms, a new float32 [b, n].

        A clip that is faster, slower, shifted or in a room ends elsewhere, and noise fills the whole window; what
        leaves the window is cut (a clip that became too long for it, at both ends alike). Beyond that, samples
        that were zero padding stay zero. On a CPU a row does not depend on the others, bit for bit.

        Args:
            waveforms: float32 [b, n] within -1 to 1, zero beyond lengths [b].
            draws: of `Augmentation.draw`, as tensors; fastest on the CPU, wherever the waveforms are.
        """
        drawn = {name: value.cpu() for name, value in draws.items()}
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms, begin, end = self._move(waveforms, lengths.cpu(), drawn)
            self._filter(waveforms, begin, end, drawn)
            self._disturb(waveforms, begin, end, drawn)
            gain = _from_db(drawn["gain_db"]).to(waveforms.device)
            loudest = (
                torch.linalg.vector_norm(waveforms, math.inf, dim=1) * gain
            )  # a level beyond full scale is turned down, not cut off
            waveforms *= (gain / loudest.clamp(min=1))[:, None]
            rows = drawn["clipping_share"].nonzero()[:, 0].to(waveforms.device)
            if len(rows):
                waveforms[rows] = clip(waveforms[rows], drawn["clipping_share"][drawn["clipping_share"] > 0])
        return waveforms

    def _move(self, waveforms: Tensor, lengths: Tensor, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Speed and shift: the moved waveforms [b, n], and where each clip now begins and ends, int64 [b].

        A hundred samples at speed p/100 need p samples of the clip and a few on both sides, with the same weights
        each time: blocks are gathered and multiplied by the matrix of their speed.
        """
        device, (rows, samples) = waveforms.device, waveforms.shape
        percent = drawn["speed_percent"].long()
        overflow = (_ceil_divide(lengths * 100, percent) - samples).clamp(min=0) / 2
        later = ((drawn["shift_seconds"].double() * self.sampling_rate - overflow) * percent / 100).round().long()
        blocks = torch.arange(math.ceil(samples / BLOCK))
        starts = (blocks * percent[:, None] - later[:, None] - HALF).clamp(-self.span, samples) + self.span
        windows = functional.pad(waveforms, (self.span, self.span)).unfold(1, self.span, 1)
        gathered = windows[torch.arange(rows, device=device)[:, None], starts.to(device)]
        moved = gathered[..., HALF : HALF + BLOCK]
        changed = (percent != 100).nonzero()[:, 0]
        if len(changed):
            moved = moved.contiguous()
            matrices = self.interpolators[(percent[changed] - self.slowest).to(device)]
            moved[changed.to(device)] = torch.bmm(gathered[changed.to(device)], matrices)
        begin = _ceil_divide(later * 100, percent)
        end = _ceil_divide((later + lengths) * 100, percent)
        return moved.reshape(rows, -1)[:, :samples].contiguous(), begin, end

    def _filter(self, waveforms: Tensor, begin: Tensor, end: Tensor, drawn: dict[str, Tensor]) -> None:
        """Room, equaliser and band limit in one transform, in place."""
        device, samples = waveforms.device, waveforms.shape[1]
        in_room = drawn["reverb_seconds"] > 0
        shaped = (drawn["equaliser_db"] != 0).any(1) | (drawn["band_low_hz"] > 0) | drawn["band_high_hz"].isfinite()
        rows = (in_room | shaped).nonzero()[:, 0]
        if not len(rows):
            return
        size = _fft_size(samples + self.room_samples)
        octaves = _octaves(size, self.sampling_rate, device)
        spectra = _transform(waveforms[rows.to(device)], size)
        curve = _equaliser_db(octaves, drawn["equaliser_db"][rows].to(device))
        curve += _band_db(octaves, drawn["band_low_hz"][rows], drawn["band_high_hz"][rows])
        torch.view_as_real(spectra).mul_(_from_db(curve)[..., None])
        rooms = in_room[rows].nonzero()[:, 0].to(device)
        if len(rooms):
            responses = _transform(self._rooms({name: value[in_room] for name, value in drawn.items()}), size)
            spectra[rooms] = _multiply(spectra[rooms], responses)
        filtered = _inverse(spectra, size)[:, :samples]
        # A filter without delay also rings before and after the clip; a room sounds on.
        heard = _between(begin[rows], end[rows].where(~in_room[rows], torch.tensor(samples)), samples, device)
        waveforms[rows.to(device)] = filtered.mul_(heard)

    def _rooms(self, drawn: dict[str, Tensor]) -> Tensor:
        """Impulse responses [b, room_samples]: the direct sound, then noise that decays by 60 dB in reverb_seconds.

        Polack's model of late reverberation (1988), without single early reflections.
        """
        device = self.room.device
        starts = (drawn["reverb_offset"].double() * (len(self.room) - self.room_samples)).long().to(device)
        time = torch.arange(self.room_samples, device=device) / self.sampling_rate
        decay = (-math.log(1000) * time / drawn["reverb_seconds"].to(device)[:, None]).exp() * (time > ROOM_GAP)
        late = self.room.unfold(0, self.room_samples, 1)[starts] * decay
        power = _power(late, torch.ones_like(late, dtype=torch.bool)) * self.room_samples
        late *= (_from_db(-drawn["reverb_direct_db"]).to(device) / power.sqrt())[:, None]
        late[:, 0] = 1
        return late

    def _disturb(self, waveforms: Tensor, begin: Tensor, end: Tensor, drawn: dict[str, Tensor]) -> None:
        """Noise at the drawn ratio, from the drawn place of the bank, in place."""
        device, samples = waveforms.device, waveforms.shape[1]
        rows = drawn["noise_snr_db"].isfinite().nonzero()[:, 0]
        if not len(rows):
            return
        kinds = (drawn["noise_kind"][rows] * len(self.kinds)).long()
        kind_samples = torch.tensor(self.kind_samples)
        starts = (kind_samples.cumsum(0) - kind_samples)[kinds]
        room = kind_samples[kinds] - samples
        offsets = (drawn["noise_offset"][rows].double() * (room + 1).clamp(min=1)).long()
        if (room >= 0).all():
            noise = self.noise.unfold(0, samples, 1)[(starts + offsets).to(device)]
        else:  # a kind shorter than the window begins again
            places = (offsets[:, None] + torch.arange(samples)) % kind_samples[kinds][:, None] + starts[:, None]
            noise = self.noise[places.to(device)]
        valid, ratio = _between(begin[rows], end[rows], samples, device), drawn["noise_snr_db"][rows].to(device)
        waveforms[rows.to(device)] = _add_noise(waveforms[rows.to(device)], noise, ratio, valid)


def _between(begin: Tensor, end: Tensor, samples: int, device: torch.device) -> Tensor:
    """Which of `samples` lie from begin [b] to before end [b], bool [b, samples]."""
    time = torch.arange(samples, device=device)
    return (time >= begin.to(device)[:, None]) & (time < end.to(device)[:, None])


def _ceil_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    return -(-numerator // denominator)


def _interpolator(percent: int, span: int) -> NDArray[np.float32]:
    """The weights [span, BLOCK] that turn `span` samples of a clip into BLOCK samples at speed percent/100.

    A sinc of 2 * HALF taps under a Hann window, cut off just below half of the lower of both rates (see J. O.
    Smith, Digital Audio Resampling Home Page); each output's weights sum to 1.
    """
    places = HALF + np.arange(BLOCK) * percent / 100
    distance = np.arange(span)[:, None] - places
    cutoff = 0.95 * min(1.0, 100 / percent)
    window = np.where(np.abs(distance) < HALF, np.cos(np.pi * distance / (2 * HALF)) ** 2, 0.0)
    weights = np.sinc(cutoff * distance) * window
    return (weights / weights.sum(0)).astype(np.float32)


# --- to listen to and look at ------------------------------------------------------------------------------------


def write_samples(
    clips: Sequence[NDArray[np.int16]],
    augmentation: Augmentation,
    sampling_rate: int,
    directory: str | PathLike[str],
    count: int = 6,
    recordings: Sequence[NDArray[np.int16]] = (),
) -> list[Path]:
    """Leave `count` clips as they are and augmented (16-bit WAV), and a figure of them all, augmented.png.

    Args:
        clips: int16 [samples] each; taken evenly from all of them.
        recordings: as in `Augmentation.build`.

    Returns:
        The files' paths, the figure last.
    """
    examples = sorted({int(i) for i in np.linspace(0, len(clips) - 1, count)})
    originals = [np.asarray(clips[i]) for i in examples]
    lengths = torch.tensor([len(clip) for clip in originals])
    waveforms = torch.zeros(len(originals), int(lengths.max()))
    for row, clip in zip(waveforms, originals, strict=True):
        row[: len(clip)] = torch.from_numpy(clip.astype(np.float32) / 32768)
    draws = augmentation.draw(seed=0, epoch=0, examples=examples)
    augmenter = augmentation.build(clips, sampling_rate, seed=0, recordings=recordings)
    augmented = augmenter(waveforms, lengths, {name: torch.from_numpy(value) for name, value in draws.items()})

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for i, original, changed in zip(examples, waveforms, augmented, strict=True):
        for name, waveform in (("original", original), ("augmented", changed)):
            files.append(directory / f"{i:05d}_{name}.wav")
            _write_wav(files[-1], waveform, sampling_rate)
    titles = [f"clip {i}: {_in_words(draws, row, augmenter.kinds)}" for row, i in enumerate(examples)]
    files.append(directory / "augmented.png")
    files[-1].write_bytes(_samples_png(waveforms, augmented, titles, sampling_rate))
    return files


def _write_wav(path: Path, waveform: Tensor, sampling_rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes((waveform.clamp(-1, 1) * 32767).round().numpy().astype("<i2").tobytes())


def _in_words(draws: dict[str, NDArray[np.float32]], row: int, kinds: Sequence[str]) -> str:
    """What was drawn for one clip, in the order in which it is done."""
    one = {name: values[row] for name, values in draws.items()}
    kind = kinds[int(one["noise_kind"] * len(kinds))] if kinds else ""
    words = {
        f"speed {one['speed_percent']:.0f} %": one["speed_percent"] != 100,
        f"shift {1000 * one['shift_seconds']:+.0f} ms": one["shift_seconds"],
        f"room {one['reverb_seconds']:.2f} s, direct {one['reverb_direct_db']:+.0f} dB": one["reverb_seconds"],
        "equaliser": one["equaliser_db"].any(),
        f"{one['band_low_hz']:.0f} to {one['band_high_hz']:.0f} Hz": one["band_low_hz"],
        f"{kind} noise, SNR {one['noise_snr_db']:.0f} dB": np.isfinite(one["noise_snr_db"]),
        f"gain {one['gain_db']:+.0f} dB": one["gain_db"],
        f"clipped {100 * one['clipping_share']:.1f} %": one["clipping_share"],
    }
    return "; ".join(word for word, done in words.items() if done) or "nothing"


def _samples_png(originals: Tensor, augmented: Tensor, titles: Sequence[str], sampling_rate: int) -> bytes:
    """A row a clip: waveform and spectrogram (0 to -80 dB of the row's loudest), before and after."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 2.1 * len(titles) + 0.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    window = round(0.025 * sampling_rate)
    seconds = originals.shape[1] / sampling_rate
    parts = figure.subfigures(len(titles), 1, squeeze=False)[:, 0]
    for row, part in enumerate(parts):
        part.suptitle(titles[row], fontsize=9, x=0.01, ha="left")
        axes = part.subplots(1, 4, width_ratios=[2, 3, 2, 3])
        for side, (name, waveform) in enumerate((("original", originals[row]), ("augmented", augmented[row]))):
            left, right = axes[2 * side : 2 * side + 2]
            left.plot(np.arange(len(waveform)) / sampling_rate, waveform.numpy(), linewidth=0.4, color="#2563a8")
            left.set(xlim=(0, seconds), ylim=(-1, 1), yticks=(-1, 0, 1))
            spectrum = torch.stft(waveform, 512, window // 2, window, torch.hann_window(window), return_complex=True)
            level = (20 * spectrum.abs().clamp(min=1e-7).log10()).numpy()
            limits = (0, seconds, 0, sampling_rate / 2000)
            right.imshow(
                level - level.max(), vmin=-80, vmax=0, origin="lower", aspect="auto", extent=limits, cmap="magma"
            )
            right.set_ylabel("kHz", fontsize=7)
            for axis in (left, right):
                axis.tick_params(labelsize=7, length=2)
                if row == 0:
                    axis.set_title(name, fontsize=9)
                if row == len(titles) - 1:
                    axis.set_xlabel("seconds", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
