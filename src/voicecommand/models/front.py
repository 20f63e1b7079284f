"""From clips to the inputs of a speech network: windows in the data loader, augmentation and features on the device.

The loader moves only int16 samples and a few drawn numbers. `Windows` is the collator, `Front` the part on the device;
training, evaluation and `voicecommand.load` all use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.audio.features import Inputs
from voicecommand.audio.noise import read_noise_folder
from voicecommand.audio.windows import DRAW, Windows, take_draws
from voicecommand.errors import InputError
from voicecommand.models.families import Family, build_inputs, find_family, log_masks

if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    from voicecommand.audio.augmentation import Augmentation


def build_front(
    config: PretrainedConfig,
    processor: FeatureExtractionMixin,
    max_seconds: float,
    augmenter: nn.Module | None = None,
) -> Front:
    """The `Front` of a network of that configuration."""
    return Front(find_family(config), build_inputs(config, processor, max_seconds), augmenter)


def build_windows(
    config: PretrainedConfig,
    max_seconds: float,
    draws: Callable[[int, Sequence[int]], dict[str, NDArray[np.float32]]] | None = None,
) -> Windows:
    """The `Windows` of a network of that configuration."""
    return Windows(round(max_seconds * SAMPLING_RATE), find_family(config).is_fixed, draws)


def build_augmenter(config: PretrainedConfig, augmentation: Augmentation, rows: Any, seed: int) -> nn.Module:
    """The module that applies the draws to the rows of a prepared split, of a network of that configuration."""
    if augmentation.masks:
        log_masks(config)
    recordings = read_noise_folder(augmentation.noise_folder)
    clips: Any = Clips(rows)
    return augmentation.build(clips, SAMPLING_RATE, seed, recordings)


def check_seconds(name: str, value: object, least: float = 0.1, most: float = 30) -> None:
    """Check a setting of a model in seconds.

    Raises:
        InputError: it is not from `least` to `most`.
    """
    if not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"model.{name}={value}: give {least} to {most} seconds")


class Front(nn.Module):
    """A batch of `Windows` -> the network's inputs, on the device, in float32.

    Args:
        family: for its `masks`.
        features: waveforms float32 `[b, n]`, lengths int64 `[b]` -> the network's inputs.
        augmenter: applies the draws (`voicecommand.audio.augmentation.Augmenter`), or None.
    """

    def __init__(self, family: Family, features: Inputs, augmenter: nn.Module | None = None) -> None:
        super().__init__()
        self.masks, self.features, self.augmenter = family.masks, features, augmenter

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The network's inputs, and the augmented waveforms, float32 `[b, n]`."""
        draws = {name.removeprefix(DRAW): value for name, value in take_draws(batch).items()}
        device = batch["waveforms"].device
        masks: dict[str, Tensor] = {
            name: draws.pop(name).to(device) for name in ("mask_bands", "mask_times") if name in draws
        }
        lengths = batch["lengths"]
        with torch.autocast(lengths.device.type, enabled=False), torch.no_grad():
            waveforms = batch["waveforms"].float() / 32768
            if draws and self.augmenter is not None:
                waveforms = self.augmenter(waveforms, lengths, draws)
                lengths = torch.full_like(lengths, waveforms.shape[1])  # noise fills the window
            inputs = self.features(waveforms, lengths)
            if masks and self.masks is not None:
                inputs = self.masks(inputs, masks)
        return inputs, waveforms

    def average(self, model: Any, batch: dict[str, Tensor], most: int = 64) -> Tensor:
        """Logits `[clips, labels]`: the weighted mean over the windows of each clip; batches have at most `most`
        windows.

        The weight of a window is its energy (the variance of its samples): training uses only the window with the most
        energy, and logits for silence mean nothing. Chosen on held-out speakers of keywords' train (docs/results.md).
        """
        names = ("waveforms", "lengths")
        logits = [
            model(**self({name: batch[name][start : start + most] for name in names})[0]).logits.float()
            for start in range(0, len(batch["waveforms"]), most)
        ]
        # of int16 samples; windows of silence have the same weight of 1
        energies = batch["waveforms"].float().var(dim=1, correction=0).clamp(min=1)
        counts = batch["windows"].tolist()
        weighted = torch.cat(logits) * energies[:, None]  # not a matrix product, which autocast would round to bfloat16
        parts = zip(weighted.split(counts), energies.split(counts), strict=True)
        return torch.stack([part.sum(0) / weights.sum() for part, weights in parts])
