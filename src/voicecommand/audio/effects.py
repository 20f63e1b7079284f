"""Noise, filters, clipping and masks, on batches of waveforms and spectrograms."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SILENT = 1e-8  # mean square (-80 dB of full scale) below which a clip is silent
SPEECH_POWER = 10**-2.6  # of speech at its usual level, -26 dB of full scale (ITU-T P.56's level in P.800's tests)
BANDS = 8  # of the equaliser: an octave apart, the last at half of 16 kHz
LOWEST_BAND = 62.5  # Hz
SLOPE = 48.0  # dB an octave beyond a band limit
ROWS = 8  # transforms get a multiple of this many rows: how they round depends on the rows left over


def add_noise(waveforms: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Waveforms + noise, both float32 [b, n], at a signal-to-noise ratio of snr_db [b] over the first `lengths` [b]
    samples; see `mix_noise`."""
    rows, samples = waveforms.shape
    end = torch.full((rows,), samples) if lengths is None else lengths
    valid = is_between(torch.zeros_like(end), end, samples, waveforms.device)
    return mix_noise(waveforms, noise, torch.as_tensor(snr_db, device=waveforms.device), valid)


def mix_noise(waveforms: Tensor, noise: Tensor, snr_db: Tensor, valid: Tensor) -> Tensor:
    """Waveforms [b, n] plus noise [b, n], scaled so that the power of each clip is snr_db [b] above its noise.

    Both powers are means over the valid samples, bool [b, n]; the noise covers the whole window. A silent or constant
    clip gets the noise that speech at its usual level (-26 dB of full scale) would get; silent noise is not added.
    """
    speech, disturbance = power_of(waveforms, valid), power_of(noise, valid)
    highest, lowest = waveforms.masked_fill(~valid, -math.inf).amax(1), waveforms.masked_fill(~valid, math.inf).amin(1)
    is_silent = (speech < SILENT) | (highest - lowest < 2 * math.sqrt(SILENT))
    speech = torch.where(is_silent, SPEECH_POWER, speech)
    scale = torch.where(disturbance > 0, (speech / disturbance).sqrt() * from_db(-snr_db), 0.0)
    return waveforms + noise * scale[:, None]


def power_of(waveforms: Tensor, valid: Tensor) -> Tensor:
    """Mean square over the valid samples: [b, n], bool [b, n] -> [b].

    Summed in two steps, because the rounding of one sum over a long row depends on how threads share the batch.
    """
    squares = functional.pad(waveforms.square() * valid, (0, -waveforms.shape[1] % 256))
    return squares.view(len(waveforms), -1, 256).sum(-1).sum(-1) / valid.sum(-1).clamp(min=1)


def band_limit(waveforms: Tensor, low_hz: float, high_hz: float, sampling_rate: int) -> Tensor:
    """Waveforms [b, n] filtered to low_hz to high_hz: 48 dB an octave outside, no delay.

    A telephone is 300 to 3,400 Hz (ITU-T G.712).
    """
    samples = waveforms.shape[1]
    size = fft_size(samples + sampling_rate // 10)
    curve = band_db(octaves(size, sampling_rate, waveforms.device), torch.tensor([low_hz]), torch.tensor([high_hz]))
    return inverse_transform(transform(waveforms, size) * from_db(curve), size)[:, :samples].contiguous()


def clip(waveforms: Tensor, share: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Waveforms [b, n] clipped at the level that a `share` [b] (0 to 1) of the first `lengths` [b] samples exceeds."""
    samples = waveforms.shape[1]
    counted = torch.full((len(waveforms),), samples) if lengths is None else lengths.cpu()
    # with k samples to exceed the level, the level is the (k + 1)th greatest amplitude
    exceeding = (torch.as_tensor(share, dtype=torch.float64).cpu() * counted).round().long().clamp(max=samples - 1)
    loudest = waveforms.abs().topk(int(exceeding.max()) + 1).values
    level = loudest.gather(1, exceeding[:, None].to(waveforms.device))
    return torch.minimum(torch.maximum(waveforms, -level), level)


def mask_spectrogram(
    features: Tensor, mask_bands: Tensor, mask_times: Tensor, max_bins: float, max_frames: float
) -> Tensor:
    """SpecAugment without warping (arXiv:1904.08779): features [b, bins, frames], masked with the example's mean.

    Args:
        mask_bands, mask_times: [b, k, 2] uniform in [0, 1): the width of each mask as a share of its maximum, and
            its position; a width of 0 masks nothing.
        max_bins, max_frames: the widest mask; widths are whole numbers from 0 to this.
    """
    bands = _masked(mask_bands, features.shape[1], max_bins)
    times = _masked(mask_times, features.shape[2], max_frames)
    return torch.where(bands[:, :, None] | times[:, None, :], features.mean((1, 2), keepdim=True), features)


def _masked(drawn: Tensor, size: int, largest: float) -> Tensor:
    """[b, k, 2] uniform in [0, 1) -> bool [b, size]: the positions under any of the k masks."""
    widths = (drawn[..., 0] * (min(largest, size) + 1)).floor()
    starts = (drawn[..., 1] * (size - widths + 1)).floor()
    positions = torch.arange(size, device=drawn.device)
    return ((positions >= starts[..., None]) & (positions < (starts + widths)[..., None])).any(1)


def fft_size(samples: int) -> int:
    """The least even size of at least `samples` that a real FFT computes fast: twice a product of small primes."""
    from scipy.fft import next_fast_len

    size: int = next_fast_len((samples + 1) // 2, real=True) * 2
    return size


def transform(waveforms: Tensor, size: int) -> Tensor:
    """Real FFT of waveforms [b, n], zero-padded to `size` samples: complex64 [b, size / 2 + 1].

    Zero rows fill the batch up to a multiple of ROWS, so that a row is rounded the same in any batch.
    """
    rows = len(waveforms)
    return torch.fft.rfft(functional.pad(waveforms, (0, size - waveforms.shape[1], 0, -rows % ROWS)))[:rows]


def inverse_transform(spectra: Tensor, size: int) -> Tensor:
    """Waveforms float32 [b, size] of spectra [b, size / 2 + 1]; the inverse of `transform`, and padded as it is."""
    rows = len(spectra)
    return torch.fft.irfft(functional.pad(spectra, (0, 0, 0, -rows % ROWS)), size)[:rows]


def multiply_spectra(first: Tensor, second: Tensor) -> Tensor:
    """The product of two complex tensors by real products: the rounding of the complex kernel depends on how threads
    share the batch."""
    turned = torch.stack((-first.imag, first.real), -1)
    factors = torch.view_as_real(second)
    return torch.view_as_complex(torch.view_as_real(first) * factors[..., :1] + turned * factors[..., 1:])


def octaves(size: int, sampling_rate: int, device: torch.device) -> Tensor:
    """log2 of the frequency in Hz of each bin of a transform of `size` samples, [size / 2 + 1]."""
    # bin 0 has no logarithm: it counts as half a bin
    bins = torch.arange(size // 2 + 1, device=device, dtype=torch.float32).clamp(min=0.5)
    return (bins * (sampling_rate / size)).log2()


def band_db(octaves: Tensor, low_hz: Tensor, high_hz: Tensor) -> Tensor:
    """Gain in dB [b, bins] of band limits [b] in Hz; a low limit of 0 and a high limit of infinity have no effect."""
    low, high = (hz.log2()[:, None].to(octaves.device) for hz in (low_hz, high_hz))
    return -SLOPE * ((low - octaves).relu() + (octaves - high).relu())


def equaliser_db(octaves: Tensor, gains: Tensor) -> Tensor:
    """Gain in dB [b, bins]: the bands' gains [b, BANDS], interpolated linearly over log frequency."""
    position = (octaves - math.log2(LOWEST_BAND)).clamp(0, BANDS - 1)
    below = position.floor().long().clamp(max=BANDS - 2)
    return gains[:, below] + (gains[:, below + 1] - gains[:, below]) * (position - below)


def from_db(gain: Tensor) -> Tensor:
    """The amplitude factor of a gain in dB, 10 ** (gain / 20), of the same shape."""
    return (gain * (math.log(10) / 20)).exp()


def is_between(begin: Tensor, end: Tensor, samples: int, device: torch.device) -> Tensor:
    """Whether a sample is at or after begin [b] and before end [b], bool [b, samples]."""
    time = torch.arange(samples, device=device)
    return (time >= begin.to(device)[:, None]) & (time < end.to(device)[:, None])
