"""From clips to what a model of sound takes: windows on the loader's side, augmentation and features on the device.

The loader moves int16 samples and a few drawn numbers, nothing else. `Windows` is the collator, `Front` the part
on the device; training, evaluation and `voicecommand.load` all go through them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.audio.effects import mask_spectrogram
from voicecommand.audio.windows import DRAW, Windows
from voicecommand.models import families
from voicecommand.models.families import FIXED

# The widest masks of SpecAugment for pretrained encoders, of 80 mel bins and 100 frames a second.
MASK_BINS, MASK_FRAMES = 16, 20


class _Waveforms(nn.Module):
    """The inputs of a network whose features are its own."""

    def forward(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return {"input_values": waveforms}


def build_front(config: Any, processor: Any, max_seconds: float, augmenter: nn.Module | None = None) -> Front:
    """The `Front` of a network of that configuration."""
    if config.model_type == "bcresnet":
        return Front(_Waveforms(), augmenter, masks_itself=True)
    return Front(families.build_features(config, processor, max_seconds), augmenter)


def build_windows(config: Any, max_seconds: float, augmentation: Any = None, seed: int = 0) -> Windows:
    """The `Windows` of a network of that configuration."""
    return Windows(round(max_seconds * SAMPLING_RATE), config.model_type in FIXED, augmentation, seed)


class Front(nn.Module):
    """A batch of `Windows` -> the model's inputs, on the device, in float32.

    Args:
        features: waveforms float32 `[b, n]`, lengths int64 `[b]` -> the model's inputs.
        augmenter: does what was drawn (`voicecommand.audio.augmentation.Augmenter`), or None.
        masks_itself: whether the model takes `mask_bands` and `mask_times` and masks its own features.
    """

    def __init__(self, features: nn.Module, augmenter: nn.Module | None = None, masks_itself: bool = False) -> None:
        super().__init__()
        self.features, self.augmenter, self.masks_itself = features, augmenter, masks_itself

    @staticmethod
    def take_draws(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What was drawn for a batch; it is read on the CPU, and so best stays there."""
        return {name: value for name, value in batch.items() if name.startswith(DRAW)}

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The network's inputs, and the waveforms that it heard, float32 `[b, n]`."""
        draws = {name.removeprefix(DRAW): value for name, value in self.take_draws(batch).items()}
        device = batch["waveforms"].device
        masks = {name: draws.pop(name).to(device) for name in ("mask_bands", "mask_times") if name in draws}
        lengths = batch["lengths"]
        with torch.autocast(lengths.device.type, enabled=False), torch.no_grad():
            waveforms = batch["waveforms"].float() / 32768
            if draws and self.augmenter is not None:
                waveforms = self.augmenter(waveforms, lengths, draws)
                lengths = torch.full_like(lengths, waveforms.shape[1])  # noise fills the window
            inputs = self.features(waveforms, lengths)
            if masks and self.masks_itself:
                inputs |= masks
            elif masks and "input_features" in inputs:
                inputs["input_features"] = mask_spectrogram(
                    inputs["input_features"], masks["mask_bands"], masks["mask_times"], MASK_BINS, MASK_FRAMES
                )
        return inputs, waveforms

    def average(self, model: Any, batch: dict[str, Tensor], most: int = 64) -> Tensor:
        """Logits `[clips, labels]`, the mean over the windows of each clip; `most` windows go through at a time.

        A window weighs as much as its energy (the variance of its samples): training has seen the loudest alone, and
        what a network makes of silence is no answer. Chosen on held-out speakers of keywords' train (docs/results.md).
        """
        names = ("waveforms", "lengths")
        logits = [
            model(**self({name: batch[name][start : start + most] for name in names})[0]).logits.float()
            for start in range(0, len(batch["waveforms"]), most)
        ]
        energies = batch["waveforms"].float().var(dim=1, correction=0).clamp(min=1)  # of int16; silence counts alike
        counts = batch["windows"].tolist()
        weighed = torch.cat(logits) * energies[:, None]  # no matrix product: autocast would round it to bfloat16
        parts = zip(weighed.split(counts), energies.split(counts), strict=True)
        return torch.stack([part.sum(0) / weights.sum() for part, weights in parts])
