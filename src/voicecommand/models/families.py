"""What differs between the families of pretrained speech encoders."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.audio.features import MelBands, fit, to_float
from voicecommand.errors import InputError
from voicecommand.models.pretrained import load_pretrained

logger = logging.getLogger(__name__)
WAVEFORM_FAMILIES = ("wav2vec2", "hubert", "wavlm")
# Below it the convolutions of these families give fewer frames than their masks in training are long (10).
LEAST_SAMPLES = 4000
FRAME_SAMPLES = 400  # what their first frame sees
WHISPER_HOP = 320  # samples between frames of its encoder


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


def build_features(config: Any, feature_extractor: Any, max_seconds: float) -> WhisperFront | WaveformFront:
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


FIXED = ("whisper", "bcresnet")  # families whose batches are as wide as a window; the others' as their longest clip
INSTEAD = "use model=bcresnet, which needs no checkpoint, or model.checkpoint=DIR with a saved copy"
FAMILIES = ("whisper", "wav2vec2", "hubert", "wavlm")
MASKED = ("bcresnet", "whisper")  # families whose features are masked by what the collator drew


def load_feature_extractor(checkpoint: str, revision: str | None, max_seconds: float) -> Any:
    """The checkpoint's feature extractor, Whisper's for windows of `max_seconds`.

    Raises:
        InputError: it reads another rate than 16 kHz.
    """
    from transformers import AutoFeatureExtractor, WhisperFeatureExtractor

    processor = load_pretrained(AutoFeatureExtractor, checkpoint, revision, INSTEAD)
    rate = getattr(processor, "sampling_rate", "no")
    if rate != SAMPLING_RATE:
        raise InputError(f"model.checkpoint={checkpoint}: reads {rate} Hz; only {SAMPLING_RATE} Hz is supported")
    if isinstance(processor, WhisperFeatureExtractor):
        settings = processor.to_dict()
        kept = ("feature_size", "sampling_rate", "hop_length", "n_fft", "padding_value", "dither")
        processor = WhisperFeatureExtractor(
            **{name: settings[name] for name in kept if name in settings}, chunk_length=int(max_seconds)
        )
    return processor


def check_family(checkpoint: str, model_type: str, max_seconds: float) -> None:
    if model_type not in FAMILIES:
        raise InputError(f"model.checkpoint={checkpoint}: a {model_type} model; there are {', '.join(FAMILIES)}")
    if model_type == "whisper" and max_seconds != int(max_seconds):
        raise InputError(f"model.max_seconds={max_seconds}: Whisper takes whole seconds")


def cut_positions(encoder: Any, config: Any, max_seconds: float) -> None:
    """Whisper's encoder for windows of `max_seconds`: its first positions, 50 a second, instead of 30 s of them."""
    from torch import nn

    positions = 50 * int(max_seconds)
    weight = encoder.embed_positions.weight
    if len(weight) < positions:
        raise InputError(f"model.max_seconds={max_seconds}: the checkpoint has positions for {len(weight) // 50} s")
    cut = nn.Embedding(positions, weight.shape[1], _weight=weight.detach()[:positions].clone())
    cut.weight.requires_grad = weight.requires_grad
    encoder.embed_positions, encoder.max_source_positions = cut, positions
    config.max_source_positions = positions


def log_masks(config: Any) -> None:
    """`augment.masks` is for those that mask their features by it; the log says where it does nothing."""
    if config.model_type == "bcresnet" and not config.mask_bins and not config.mask_frames:
        logger.info("augment.masks: not used at width %g, as in the paper of BC-ResNet", config.width)
    elif config.model_type not in MASKED:
        share = getattr(config, "mask_time_prob", 0)
        logger.info("augment.masks: not used; a %s masks its own frames (mask_time_prob %g)", config.model_type, share)
