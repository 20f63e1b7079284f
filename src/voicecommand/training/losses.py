"""The loss of a training step, from the losses of a task's heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voicecommand.tasks.base import Batch, Loss

# With a teacher: the logits of both are divided by the temperature, and the labels have this share of the loss.
TEMPERATURE, LABEL_SHARE = 2.0, 0.25


@dataclass(frozen=True)
class StepLoss:
    """The weighted sum over heads of each head's loss: the sum over its units divided by their number in the global
    step.

    The loss of a unit with logits and targets is `class weight x cross-entropy`, with label smoothing. With a teacher,
    the cross-entropy has a weight of 1/4, and 3/4 is the divergence from the teacher's answers at temperature 2, times
    4 (Hinton et al., arXiv:1503.02531); the teacher gets the augmented audio (Beyer et al., arXiv:2106.05237). The
    units of a row are multiplied by its `weight` in the batch.

    Args:
        head_weights: weight of each head.
        class_weights: head -> float32 `[classes]`.
        smoothing: `label_smoothing_factor`.
        teacher: waveforms float32 `[n, samples]` -> probabilities `[n, classes]`, or None.
    """

    head_weights: Mapping[str, float]
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    smoothing: float = 0.0
    teacher: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None

    def __call__(
        self, losses: Mapping[str, Loss], batch: Batch, waveforms: Tensor | None, counts: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            waveforms: float32 `[rows, samples]`, for a teacher.
            counts: head -> the number of its units in the global step.
        """
        parts = [
            weight * (self._units(head, losses[head], batch, waveforms).sum() / counts[head])
            for head, weight in self.head_weights.items()
        ]
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]

    def _units(self, head: str, loss: Loss, batch: Batch, waveforms: Tensor | None) -> Tensor:
        """The loss of each unit of a head, `[units]`; 0 for those that do not count."""
        if loss.values is not None:
            values = loss.values
        else:
            logits, targets = loss.logits, loss.targets
            assert logits is not None and targets is not None
            values = functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=self.smoothing)
            if self.teacher is not None:
                assert waveforms is not None
                taught = self._divergence(logits.float(), waveforms) * (targets >= 0)
                values = LABEL_SHARE * values + (1 - LABEL_SHARE) * taught
            if head in self.class_weights:
                values = values * self.class_weights[head].to(values.device)[targets.clamp(min=0)]
        weights = batch["weight"] if loss.examples is None else batch["weight"][loss.examples]
        return values * weights

    def _divergence(self, logits: Tensor, waveforms: Tensor) -> Tensor:
        """The divergence `[rows]` of logits `[rows, classes]` from the teacher's answers to `[rows, samples]`."""
        assert self.teacher is not None
        answers = torch.from_numpy(self.teacher(waveforms.float().cpu().numpy()))
        # the logarithms of the teacher's probabilities are its logits, up to a constant
        taught = (answers.to(logits).clamp(min=1e-8).log() / TEMPERATURE).log_softmax(-1)
        learnt = (logits / TEMPERATURE).log_softmax(-1)
        return TEMPERATURE**2 * (taught.exp() * (taught - learnt)).sum(-1)
