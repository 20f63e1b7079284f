"""BC-ResNet (Kim et al., Interspeech 2021, arXiv:2106.04140): a small network for spoken keywords, from the waveform.

Inside, tensors are [channels, bins, batch x frames], not [batch, channels, bins, frames]. Then a convolution over
frequency is a matrix product for each channel, and batch norm normalises rows; both work on long contiguous rows. On
one CPU core a training step at width 1 takes 0.6 of the time of the same network of `Conv2d` and `BatchNorm2d`, because
depthwise convolutions are slow there.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForAudioClassification, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from voicecommand.audio.effects import mask_spectrogram
from voicecommand.audio.features import LogMel, MelBands, fit, to_float
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
BINS = 40
SUB_BANDS = 5  # of SubSpectralNorm
# (blocks, channels at width 1, stride over frequency, dilation over time) of the four stages
STAGES = ((2, 8, 1, 1), (2, 12, 2, 2), (4, 16, 2, 4), (4, 20, 1, 8))
# SpecAugment in the authors' code (github.com/Qualcomm-AI-research/bcresnet): width -> the widest mask in bins
MASKED_BINS = {1: 0, 1.5: 1, 2: 3, 3: 5, 6: 7}
MASKED_FRAMES = 20


class BCResNetConfig(PretrainedConfig):
    """The configuration of a BC-ResNet.

    Args:
        width: a factor of all numbers of channels; 1 to 8 in the paper, and 8 x width must be whole.
        seconds: every clip is padded with zeros, or cut, to this.
        sampling_rate: of the clips, Hz.
        dropout: share of channels dropped after each block's time convolution.
        mask_bins, mask_frames: widest masks of SpecAugment; None takes the paper's for the width.
        range_db: of the features, see `voicecommand.audio.features.LogMel`.

    Raises:
        InputError: a width or a length that cannot be built.
    """

    model_type = "bcresnet"

    width: float = 1.0
    seconds: float = 1.0
    sampling_rate: int = 16_000
    dropout: float = 0.1
    mask_bins: int | None = None
    mask_frames: int | None = None
    range_db: float = 60.0

    def __post_init__(self, **kwargs: Any) -> None:
        if not 0.5 <= self.width <= 16 or self.width * 8 != int(self.width * 8):
            raise InputError(f"model.width={self.width}: give 1 to 8 in steps of 0.125 (the paper: 1, 1.5, 2, 3, 6, 8)")
        if not 0.1 <= self.seconds <= 60:
            raise InputError(f"model.max_seconds={self.seconds}: give 0.1 to 60 seconds")
        if self.mask_bins is None:
            self.mask_bins = next((n for width, n in reversed(MASKED_BINS.items()) if width <= self.width), 0)
        if self.mask_frames is None:
            self.mask_frames = MASKED_FRAMES if self.width > 1 else 0
        super().__post_init__(**kwargs)

    @property
    def samples(self) -> int:
        """Samples of a padded or cut clip."""
        return round(self.seconds * self.sampling_rate)


class RowNorm(nn.Module):
    """Batch norm of `[rows, n]`: each row gets mean 0 and variance 1, then its scale and shift.

    Rows are channels, or channels x sub-bands in SubSpectralNorm (arXiv:2103.13620). Running statistics are computed as
    by `BatchNorm2d` (momentum 0.1, variance unbiased).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows))
        self.bias = nn.Parameter(torch.zeros(rows))
        self.register_buffer("running_mean", torch.zeros(rows))
        self.register_buffer("running_var", torch.ones(rows))
        self.eps, self.momentum = 1e-5, 0.1

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)  # products under autocast are in bf16 or fp16
        rows, n = x.shape
        if self.training:
            # group norm of one example whose groups are the rows: 1.7 times as fast as batch norm on a CPU
            y, mean, rstd = torch.native_group_norm(x[None], self.weight, self.bias, 1, rows, n, rows, self.eps)
            with torch.no_grad():
                # the kernel returns 1 / sqrt(biased variance + eps)
                variance = (rstd[0] ** -2 - self.eps) * (n / (n - 1))
                self.running_mean.lerp_(mean[0], self.momentum)
                self.running_var.lerp_(variance, self.momentum)
            return y[0]
        # in evaluation the norm is one multiplication and one addition for each row
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return torch.addcmul((self.bias - scale * self.running_mean)[:, None], x, scale[:, None])


def _shifted(x: Tensor, steps: int) -> Tensor:
    """`x` moved by `steps` frames along its last dimension, filled with zeros."""
    return functional.pad(x, (steps, -steps)) if steps else x


def _over_frequency(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution over bins: [channels, bins, n] with weight [channels, 3] -> [channels, bins / stride, n].

    A convolution is linear, so its matrix consists of its results for the unit vectors.
    """
    units = torch.eye(x.shape[1], device=x.device, dtype=weight.dtype)[:, None]
    matrices = functional.conv1d(units, weight[:, None], stride=stride, padding=1)  # [bins, channels, bins / stride]
    return torch.bmm(matrices.permute(1, 2, 0), x)


def _over_time(x: Tensor, weight: Tensor, dilation: int, batch: int) -> Tensor:
    """Depthwise convolution over frames: [channels, n] with weight [channels, 3] -> [channels, n]."""
    frames = x.view(len(x), batch, -1)  # by example, so that no example is shifted into the next
    # the three taps are the frames shifted by one dilation each, [channels, 3, n]; the convolution is their product
    taps = torch.stack([_shifted(frames, step * dilation) for step in (1, 0, -1)], dim=1)
    return torch.bmm(weight[:, None], taps.view(len(x), 3, -1))[:, 0]


class BCResBlock(nn.Module):
    """Broadcasted residual: x + f2(x) + broadcast(f1(mean over frequency of f2(x))), [channels, bins, n] -> same shape.

    f2 is the convolution over frequency with its norm, f1 that over time with its norm, SiLU, mixing of channels and
    dropout. A transition block, where the number of channels changes, first mixes the channels, and leaves out x.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.is_transition = channels_in != channels
        self.stride, self.dilation, self.dropout = stride, dilation, dropout
        if self.is_transition:
            self.transition_weight = nn.Parameter(torch.empty(channels, channels_in))
            self.transition_norm = RowNorm(channels)
        self.frequency_weight = nn.Parameter(torch.empty(channels, 3))
        self.frequency_norm = RowNorm(channels * SUB_BANDS)
        self.time_weight = nn.Parameter(torch.empty(channels, 3))
        self.time_norm = RowNorm(channels)
        self.mixing_weight = nn.Parameter(torch.empty(channels, channels))

    def forward(self, x: Tensor, batch: int) -> Tensor:
        _, bins, n = x.shape
        y = x
        if self.is_transition:
            y = self.transition_norm(self.transition_weight @ x.flatten(1)).relu_().view(-1, bins, n)
        y = _over_frequency(y, self.frequency_weight, self.stride)
        channels = len(y)
        # SubSpectralNorm: neighbouring bins of a channel form SUB_BANDS rows, each with its own norm
        y = self.frequency_norm(y.view(channels * SUB_BANDS, -1)).view(channels, -1, n)

        z = self.time_norm(_over_time(y.mean(1), self.time_weight, self.dilation, batch))
        z = self.mixing_weight @ functional.silu(z)
        if self.training:  # whole channels of an example
            kept = functional.dropout(z.new_ones(channels, batch, 1), self.dropout)
            z = (z.view(channels, batch, -1) * kept).view(channels, n)
        if not self.is_transition:
            y = y + x
        return (y + z[:, None]).relu_()


class BCResNetTrunk(nn.Module):
    """The first convolution and the blocks: float32 [b, 40, frames] -> [20 x width, 5, b x frames]."""

    def __init__(self, config: BCResNetConfig) -> None:
        super().__init__()
        channels = int(16 * config.width)
        self.stem_weight = nn.Parameter(torch.empty(channels, 25))
        self.stem_norm = RowNorm(channels)
        blocks = []
        for count, base, stride, dilation in STAGES:
            for number in range(count):
                after = int(base * config.width)
                step = stride if number == 0 else 1
                blocks.append(BCResBlock(channels, after, step, dilation, config.dropout))
                channels = after
        self.blocks = nn.ModuleList(blocks)
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        rows = features.to(self.stem_weight.dtype).transpose(0, 1)
        # a 5x5 convolution with stride 2 over bins, as one matrix product with all 5x5 patches
        padded = functional.pad(rows, (2, 2, 0, 0, 2, 2))  # [44, b, frames + 4]
        patches = padded.unfold(0, 5, 2).unfold(2, 5, 1).permute(3, 4, 0, 1, 2)  # [5, 5, 20, b, frames]
        x = self.stem_norm(self.stem_weight @ patches.reshape(25, -1)).relu_()
        x = x.view(len(x), BINS // 2, -1)
        for block in self.blocks:
            x = block(x, len(features))
        return x


class BCResNetHead(nn.Module):
    """A 5x5 depthwise convolution, a mixing of channels, and the mean over frames: [20 x width, 5, b x frames] ->
    [b, 32 x width]."""

    def __init__(self, channels: int, width: float) -> None:
        super().__init__()
        self.depthwise_weight = nn.Parameter(torch.empty(channels, 25))
        self.mixing_weight = nn.Parameter(torch.empty(int(32 * width), channels))
        self.norm = RowNorm(int(32 * width))

    def forward(self, x: Tensor, batch: int) -> Tensor:
        channels = len(x)
        # the five columns of the kernel: each is a sum over the five bins, then a shift over frames
        by_frame = torch.bmm(self.depthwise_weight.view(channels, 5, 5), x).view(channels, 5, batch, -1).unbind(1)
        parts = [_shifted(part, 2 - k) for k, part in enumerate(by_frame)]
        summed = sum(parts[1:], start=parts[0])
        x = self.norm(self.mixing_weight @ summed.view(channels, -1)).relu_()
        return x.view(len(x), batch, -1).mean(2).T


class BCResNetForAudioClassification(PreTrainedModel):
    """The label of a clip from its waveform; after `import voicecommand.models` a stock `pipeline` opens it."""

    config_class = BCResNetConfig
    config: BCResNetConfig
    base_model_prefix = "bcresnet"
    main_input_name = "input_values"
    input_modalities = "audio"

    def __init__(self, config: BCResNetConfig) -> None:
        super().__init__(config)
        self.features = LogMel(config.sampling_rate, bins=BINS, range_db=config.range_db)
        self.bcresnet = BCResNetTrunk(config)
        self.head = BCResNetHead(self.bcresnet.channels, config.width)
        self.classifier = nn.Linear(int(32 * config.width), config.num_labels or 0)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Uniform in +- 1 / sqrt(inputs), torch's default for convolutions and linear layers."""
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 2:
                bound = parameter.shape[1] ** -0.5
                init.uniform_(parameter, -bound, bound)
        if isinstance(module, nn.Linear):
            init.uniform_(module.bias, -(module.in_features**-0.5), module.in_features**-0.5)
        elif isinstance(module, RowNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
        elif isinstance(module, MelBands):
            for name, value in module.constants().items():
                init.copy_(getattr(module, name), value)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        mask_bands: Tensor | None = None,
        mask_times: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits, float32 [b, labels], and the mean cross-entropy if labels, int64 [b], are given.

        Args:
            input_values: [b, n], int16 or float in [-1, 1], at `config.sampling_rate`; padded with zeros or cut to
                `config.seconds`, so that neither trailing zeros nor the other clips of a batch change an answer.
            attention_mask: ignored; stock callers may give it, but silence needs no mask here.
            mask_bands, mask_times: [b, k, 2] uniform in [0, 1), only in training: SpecAugment's draws, see
                `voicecommand.audio.effects.mask_spectrogram`.
        """
        if input_values.shape[1] > self.config.samples:
            _warn_cut(self.config.seconds)
        features = self.features(fit(to_float(input_values), self.config.samples))
        if mask_bands is not None and mask_times is not None:
            features = mask_spectrogram(
                features, mask_bands, mask_times, self.config.mask_bins or 0, self.config.mask_frames or 0
            )
        hidden = self.head(self.bcresnet(features), len(features))
        logits = self.classifier(hidden).float()
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


@functools.cache
def _warn_cut(seconds: float) -> None:
    """Warn once in a process; our own code cuts and counts clips before."""
    logger.warning("clips longer than %s s are cut at their end; cut them before to choose the part", seconds)


AutoConfig.register(BCResNetConfig.model_type, BCResNetConfig)


AutoModelForAudioClassification.register(BCResNetConfig, BCResNetForAudioClassification)
