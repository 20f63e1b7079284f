"""The loss of a training step, of what a task says of its heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voicecommand.tasks.base import Batch, Loss

# With a teacher: both answers are softened by the temperature, and the targets keep this share of the loss.
TEMPERATURE, LABEL_SHARE = 2.0, 0.25


@dataclass(frozen=True)
class StepLoss:
    """For each head the sum over its units divided by their number in the global step; heads added with their weights.

    Of logits and targets a unit is `class weight x cross-entropy`, smoothed. With a teacher a quarter of it is that
    cross-entropy, the rest the divergence from the teacher's answers at temperature 2, times 4 (Hinton et al.,
    arXiv:1503.02531); the teacher hears the audio as augmentation left it (Beyer et al., arXiv:2106.05237). A row's
    `weight` in the batch multiplies its units.

    Args:
        head_weights: weight of each head.
        class_weights: head -> float32 `[classes]`.
        smoothing: of targets, `label_smoothing_factor`.
        teacher: waveforms float32 `[n, samples]` -> probabilities `[n, classes]`, or None.
    """

    head_weights: Mapping[str, float]
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    smoothing: float = 0.0
    teacher: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None

    def __call__(
        self, losses: Mapping[str, Loss], batch: Batch, heard: Tensor | None, counts: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss, a scalar. `counts`: head -> units in the global step; `heard`: float32 `[rows, samples]`."""
        parts = [
            weight * (self._units(head, losses[head], batch, heard).sum() / counts[head])
            for head, weight in self.head_weights.items()
        ]
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]

    def _units(self, head: str, loss: Loss, batch: Batch, heard: Tensor | None) -> Tensor:
        if loss.values is not None:
            values = loss.values
        else:
            logits, targets = loss.logits, loss.targets
            assert logits is not None and targets is not None
            values = functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=self.smoothing)
            if self.teacher is not None:
                assert heard is not None
                taught = self._divergence(logits.float(), heard) * (targets >= 0)
                values = LABEL_SHARE * values + (1 - LABEL_SHARE) * taught
            if head in self.class_weights:
                values = values * self.class_weights[head].to(values.device)[targets.clamp(min=0)]
        weights = batch["weight"] if loss.examples is None else batch["weight"][loss.examples]
        return values * weights

    def _divergence(self, logits: Tensor, heard: Tensor) -> Tensor:
        """Of the logits `[rows, classes]` from the teacher's answers to the waveforms `[rows, samples]`: `[rows]`."""
        assert self.teacher is not None
        answers = torch.from_numpy(self.teacher(heard.float().cpu().numpy()))
        taught = (answers.to(logits).clamp(min=1e-8).log() / TEMPERATURE).log_softmax(-1)
        learnt = (logits / TEMPERATURE).log_softmax(-1)
        return TEMPERATURE**2 * (taught.exp() * (taught - learnt)).sum(-1)
