"""Waveforms to features, in batches, on the device that the waveforms are on.

`LogMel` is part of our own networks. A front makes the inputs of a stock model as the library's feature extractor
does, which takes one example at a time; tests hold the two together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.errors import InputError

WAVEFORM_FAMILIES = ("wav2vec2", "hubert", "wavlm")
# Below it the convolutions of these families give fewer frames than their masks in training are long (10).
LEAST_SAMPLES = 4000
FRAME_SAMPLES = 400  # what their first frame sees
WHISPER_HOP = 320  # samples between frames of its encoder


def to_float(waveforms: Tensor) -> Tensor:
    """int16 samples divided by 32768, or floats of any width as they are: float32 of the same shape."""
    return waveforms.float() / 32768 if waveforms.dtype == torch.int16 else waveforms.float()


def fit(waveforms: Tensor, samples: int) -> Tensor:
    """[b, n] followed by zeros, or cut at its end: [b, samples]."""
    return functional.pad(waveforms, (0, samples - waveforms.shape[1]))


class MelBands(nn.Module):
    """Energy in mel bands: float32 [b, n] -> [b, frames, bins], one frame every `hop` samples, 1 + n // hop frames.

    The first frame's middle is the first sample; the ends are reflected and the window is Hann's, as in
    `torch.stft`. Real transforms of the frames and one product with the bank are faster than `torch.stft` on a CPU.

    Args:
        bank: float [window // 2 + 1, bins].
        window, hop: samples.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, bank: np.ndarray, window: int, hop: int) -> None:
        super().__init__()
        self.hop, self._bank = hop, bank
        self.register_buffer("window", torch.empty(window), persistent=False)
        # the real and the imaginary part of each frequency, squared, are two rows
        self.register_buffer("bank", torch.empty(2 * bank.shape[0], bank.shape[1]), persistent=False)
        for name, value in self.constants().items():
            getattr(self, name).copy_(value)

    def constants(self) -> dict[str, Tensor]:
        """What the buffers hold: they are not saved, so `from_pretrained` has to fill them again."""
        bank = torch.from_numpy(self._bank).float().repeat_interleave(2, dim=0)
        return {"window": torch.hann_window(len(self.window), device="cpu"), "bank": bank}

    def forward(self, waveforms: Tensor) -> Tensor:
        size = len(self.window)
        padded = functional.pad(waveforms[:, None], (size // 2, size // 2), mode="reflect")[:, 0]
        spectra = torch.fft.rfft(padded.unfold(1, size, self.hop) * self.window.float())
        return torch.view_as_real(spectra).flatten(-2).square_() @ self.bank.float()


class LogMel(nn.Module):
    """Log energy in mel bands, ln(energy + 1e-6) over 0 to sampling_rate / 2: float32 [b, n] -> [b, bins, frames].

    Bins, windows of 30 ms and steps of 10 ms are those of BC-ResNet (arXiv:2106.04140); the bank is HTK's, triangles
    of height 1. Other than there, a clip's values are relative to its loudest, and what lies more than `range_db`
    below is as quiet as that: neither the level nor a microphone's own noise is left to tell one recording from
    another. (Whisper does so at 80 dB, arXiv:2212.04356.) The middle of the range is 0.

    Args:
        window_seconds, hop_seconds: of a frame, and between frames.
        range_db: from the loudest value to the floor.
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


class WhisperFront(nn.Module):
    """Whisper's `input_features`, float32 [b, bins, seconds x 100], as its feature extractor makes them.

    Clips are padded or cut to `seconds` (a whole number, as in the extractor's `chunk_length`) instead of 30 s; the
    model's positions have to be cut to match (50 a second).
    """

    def __init__(self, feature_extractor: Any, seconds: int) -> None:
        super().__init__()
        if seconds != int(seconds) or seconds < 1:
            raise InputError(f"model.max_seconds={seconds}: Whisper takes whole seconds, 1 or more")
        self.samples = int(seconds) * feature_extractor.sampling_rate
        self.mel = MelBands(feature_extractor.mel_filters, feature_extractor.n_fft, feature_extractor.hop_length)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        with torch.autocast(waveforms.device.type, enabled=False):
            bands = self.mel(fit(to_float(waveforms), self.samples))[:, :-1].transpose(1, 2)
            logs = bands.clamp(min=1e-10).log10()
            logs = torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0)
            return {"input_features": ((logs + 4.0) / 4.0).contiguous()}


class WaveformFront(nn.Module):
    """`input_values` of wav2vec2, HuBERT and WavLM, float32 [b, n], and `attention_mask`, int64 [b, n], if it is used.

    Each clip has a mean of 0 and a variance of 1 over its own samples where the extractor says `do_normalize`, and
    zeros after its end: what the extractor gives for the clip alone. (In a batch without masks the extractor takes
    the padding for a part of the clip.) A batch shorter than `LEAST_SAMPLES` is padded to it.
    """

    def __init__(self, feature_extractor: Any, uses_mask: bool) -> None:
        super().__init__()
        self.normalize = bool(feature_extractor.do_normalize)
        self.uses_mask = uses_mask

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        values = fit(to_float(waveforms), max(waveforms.shape[1], LEAST_SAMPLES))
        positions = torch.arange(values.shape[1], device=values.device)
        inside = positions < lengths[:, None]
        if self.normalize:
            count = lengths[:, None].clamp(min=1)
            values = values - (values * inside).sum(1, keepdim=True) / count
            variance = (values * inside).square().sum(1, keepdim=True) / count
            values = values / torch.sqrt(variance + 1e-7)
        inputs = {"input_values": values * inside}
        if self.uses_mask:
            # the convolutions make nothing of fewer samples, and a clip of no frame would get the mask of a full one
            inputs["attention_mask"] = (positions < lengths[:, None].clamp(min=FRAME_SAMPLES)).long()
        return inputs


def uses_attention_mask(config: Any) -> bool:
    """Whether a checkpoint of `WAVEFORM_FAMILIES` wants a mask: those with layer norm in their convolutions do.

    Those with group norm (`feat_extract_norm="group"`: wav2vec2-base, hubert-base, wavlm-base) were trained on zeros
    after the clip and no mask; their statistics run over the padding, so that it changes their answer a little.
    Source: documentation of `return_attention_mask` in transformers.Wav2Vec2FeatureExtractor.
    """
    return config.feat_extract_norm == "layer"


def build_front(config: Any, feature_extractor: Any, max_seconds: float) -> WhisperFront | WaveformFront:
    """The front of a stock model.

    Args:
        config: the model's configuration; its `model_type` is whisper or one of `WAVEFORM_FAMILIES`.
        max_seconds: what Whisper's clips are padded or cut to; the others take any length.

    Raises:
        InputError: another family, or `max_seconds` is not whole for Whisper.
    """
    if config.model_type == "whisper":
        return WhisperFront(feature_extractor, max_seconds)  # type: ignore[arg-type]
    if config.model_type in WAVEFORM_FAMILIES:
        return WaveformFront(feature_extractor, uses_attention_mask(config))
    known = ", ".join(("whisper", *WAVEFORM_FAMILIES))
    raise InputError(f"model.checkpoint: no features are known for model type {config.model_type!r}; known: {known}")


def frame_mask(model: Any, lengths: Tensor, frames: int) -> Tensor:
    """bool [b, frames]: which frames of a stock model's last hidden state lie in a clip of `lengths` [b] samples.

    Whisper makes a frame of `WHISPER_HOP` samples; the other families' convolutions are asked. A clip has at least one.
    """
    if model.config.model_type == "whisper":
        valid = (lengths + WHISPER_HOP - 1) // WHISPER_HOP
    else:
        valid = model._get_feat_extract_output_lengths(lengths).long()
    return torch.arange(frames, device=lengths.device) < valid.clamp(1, frames)[:, None]


def frame_amplitudes(model: Any, waveforms: Tensor, frames: int) -> Tensor:
    """float32 [b, frames]: how loud each frame of a stock model's last hidden state is, from 1e-8 (silence) to 1.

    The standard deviation of its share of the samples: the batch is cut evenly into as many parts as there are frames.
    Unlike the root mean square, it does not hear a constant offset. A model's frames overlap; these parts do not.

    Args:
        waveforms: float32 [b, n], as given to the front.
    """
    whisper = model.config.model_type == "whisper"
    samples = frames * WHISPER_HOP if whisper else max(waveforms.shape[1], LEAST_SAMPLES)
    fitted = fit(waveforms, samples)
    parts = functional.adaptive_avg_pool1d(torch.stack([fitted, fitted.square()], dim=1), frames)
    return (parts[:, 1] - parts[:, 0].square()).clamp(min=1e-16).sqrt()
