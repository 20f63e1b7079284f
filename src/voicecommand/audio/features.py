"""Waveforms to features, in batches, on the waveforms' device.

`LogMel` is part of our own networks. The subclasses of `Inputs` make a network's inputs from a batch: `WhisperInputs`
and `WaveformInputs` give the same values as the feature extractors of transformers, which take one example at a time
(tests compare them), and `PlainInputs` is for a network that computes its own features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# With fewer samples, wav2vec 2.0 and the networks like it have fewer frames than one mask in training covers (10).
LEAST_SAMPLES = 4000
FRAME_SAMPLES = 400  # samples that their first frame is computed from


def to_float(waveforms: Tensor) -> Tensor:
    """float32 of the same shape: int16 divided by 32768, floats of any width converted."""
    return waveforms.float() / 32768 if waveforms.dtype == torch.int16 else waveforms.float()


def fit(waveforms: Tensor, samples: int) -> Tensor:
    """[b, n] padded with zeros or cut at its end: [b, samples]."""
    return functional.pad(waveforms, (0, samples - waveforms.shape[1]))


class MelBands(nn.Module):
    """Energy in mel bands: float32 [b, n] -> [b, frames, bins], one frame every `hop` samples, 1 + n // hop frames.

    The first frame is centred on the first sample, the ends are reflected and the window is a Hann window, as in
    `torch.stft`. Real transforms of the frames and one product with the filter bank are faster than `torch.stft` on a
    CPU.

    Args:
        bank: the mel filters, float [window // 2 + 1, bins].
        window, hop: samples.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, bank: np.ndarray, window: int, hop: int) -> None:
        super().__init__()
        self.hop, self._bank = hop, bank
        self.register_buffer("window", torch.empty(window), persistent=False)
        # each frequency has two rows, for the squares of its real and of its imaginary part
        self.register_buffer("bank", torch.empty(2 * bank.shape[0], bank.shape[1]), persistent=False)
        for name, value in self.constants().items():
            getattr(self, name).copy_(value)

    def constants(self) -> dict[str, Tensor]:
        """The content of the buffers by name: they are not saved, so `from_pretrained` has to fill them again."""
        bank = torch.from_numpy(self._bank).float().repeat_interleave(2, dim=0)
        return {"window": torch.hann_window(len(self.window), device="cpu"), "bank": bank}

    def forward(self, waveforms: Tensor) -> Tensor:
        size = len(self.window)
        padded = functional.pad(waveforms[:, None], (size // 2, size // 2), mode="reflect")[:, 0]
        spectra = torch.fft.rfft(padded.unfold(1, size, self.hop) * self.window.float())
        return torch.view_as_real(spectra).flatten(-2).square_() @ self.bank.float()


class LogMel(nn.Module):
    """Log energy in mel bands, ln(energy + 1e-6) over 0 to sampling_rate / 2: float32 [b, n] -> [b, bins, frames].

    Bins, windows of 30 ms and steps of 10 ms are those of BC-ResNet (arXiv:2106.04140); the filters are HTK's,
    triangles of height 1. Unlike there, the values are relative to the clip's maximum and limited to `range_db` below
    it, so that neither the level nor the noise of a microphone tells one recording from another. (Whisper does the
    same with 80 dB, arXiv:2212.04356.) The middle of the range is 0.

    Args:
        window_seconds, hop_seconds: of a frame, and between frames.
        range_db: from the maximum to the floor.
    """

    def __init__(
        self,
        sampling_rate: int,
        window_seconds: float = 0.03,
        hop_seconds: float = 0.01,
        bins: int = 40,
        range_db: float = 60.0,
    ) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__()
        window, hop = round(window_seconds * sampling_rate), round(hop_seconds * sampling_rate)
        bank = mel_filter_bank(window // 2 + 1, bins, 0.0, sampling_rate / 2, sampling_rate, mel_scale="htk")
        self.mel = MelBands(bank, window, hop)
        self.half_range = range_db * math.log(10) / 20  # of the range of energy, in natural logarithms

    def forward(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            logs = (self.mel(waveforms) + 1e-6).log().transpose(1, 2)
            middle = logs.amax((1, 2), keepdim=True) - self.half_range
            return (logs - middle).clamp(min=-self.half_range)


class Inputs(nn.Module):
    """Waveforms float32 or int16 `[b, n]` and lengths int64 `[b]` in samples -> the inputs of a network by name."""

    def pad(self, waveforms: Tensor) -> Tensor:
        """The samples that the network's frames cover: float32 `[b, n]`, padded with zeros or cut."""
        return to_float(waveforms)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


class PlainInputs(Inputs):
    """`input_values`, float32 `[b, n]`: the waveforms unchanged."""

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return {"input_values": waveforms}


class WhisperInputs(Inputs):
    """Whisper's `input_features`, float32 `[b, bins, samples / hop]`, as its feature extractor makes them.

    Clips are padded or cut to `samples` instead of 30 s; the model's positions have to be cut to match.

    Args:
        bank: float `[window // 2 + 1, bins]`, the extractor's `mel_filters`.
        window, hop: samples.
        samples: of a padded or cut clip.
    """

    def __init__(self, bank: np.ndarray, window: int, hop: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.mel = MelBands(bank, window, hop)

    def pad(self, waveforms: Tensor) -> Tensor:
        return fit(to_float(waveforms), self.samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        with torch.autocast(waveforms.device.type, enabled=False):
            bands = self.mel(self.pad(waveforms))[:, :-1].transpose(1, 2)
            logs = bands.clamp(min=1e-10).log10()
            logs = torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0)
            return {"input_features": ((logs + 4.0) / 4.0).contiguous()}


class WaveformInputs(Inputs):
    """`input_values` of wav2vec 2.0 and the networks like it, float32 `[b, n]`, and, if the network uses it,
    `attention_mask`, int64 `[b, n]`.

    If `normalizes`, each clip is scaled to a mean of 0 and a variance of 1 over its own samples; zeros follow its end.
    The extractor of transformers does the same for one clip. (In a batch without masks it normalises over the padding
    too.) A batch shorter than `LEAST_SAMPLES` is padded to it.
    """

    def __init__(self, normalizes: bool, uses_mask: bool) -> None:
        super().__init__()
        self.normalizes, self.uses_mask = normalizes, uses_mask

    def pad(self, waveforms: Tensor) -> Tensor:
        return fit(to_float(waveforms), max(waveforms.shape[1], LEAST_SAMPLES))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        values = self.pad(waveforms)
        positions = torch.arange(values.shape[1], device=values.device)
        inside = positions < lengths[:, None]
        if self.normalizes:
            count = lengths[:, None].clamp(min=1)
            values = values - (values * inside).sum(1, keepdim=True) / count
            variance = (values * inside).square().sum(1, keepdim=True) / count
            values = values / torch.sqrt(variance + 1e-7)
        inputs = {"input_values": values * inside}
        if self.uses_mask:
            # fewer samples make no frame, and transformers would mark every frame of such a clip as valid
            inputs["attention_mask"] = (positions < lengths[:, None].clamp(min=FRAME_SAMPLES)).long()
        return inputs
