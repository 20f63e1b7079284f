"""A training stops at the first NaN or infinity, before anything of it is saved; one that ended at chance is named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from voicecommand.errors import NonFiniteLoss

AT_CHANCE = 0.95  # of the loss of guessing: a logged loss above it shows no learning


@dataclass
class _Seen:
    """A figure of a step, on its way to the CPU."""

    step: int
    examples: tuple[int, ...]
    kind: str
    value: Tensor
    arrived: torch.cuda.Event | None

    def read(self) -> float:
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.value)


class FiniteWatch:
    """Checks losses and norms of gradients.

    On the CPU each is checked at once. A GPU is not waited for: a figure is copied in the background, and checked when
    the next step has been queued, or at `flush`, which comes before every log, evaluation and checkpoint.

    Args:
        learning_rate: for the error.
        late: whether figures are checked a step late; by default on a CUDA device.
    """

    def __init__(self, learning_rate: float, device: torch.device, late: bool | None = None) -> None:
        self.learning_rate, self.late = learning_rate, device.type == "cuda" if late is None else late
        self.step = 0
        self.examples: tuple[int, ...] = ()
        self.seen: list[_Seen] = []

    def begin(self, step: int, examples: Sequence[int]) -> None:
        """Another batch: its step, and the numbers of its rows."""
        self.examples = (*self.examples, *examples) if step == self.step else tuple(examples)
        self.step = step

    def check(self, kind: str, value: Tensor | float) -> None:
        """Check a figure of the batch, a scalar.

        Raises:
            NonFiniteLoss: it, or one that was waited for, is NaN or infinite.
        """
        if not self.late or not isinstance(value, Tensor):
            if not math.isfinite(float(value)):
                self._stop(self.step, self.examples, kind, float(value))
            return
        before = [one for one in self.seen if one.step < self.step]
        self.seen = [one for one in self.seen if one.step >= self.step]
        self.seen.append(self._send(kind, value.detach()))
        self._read(before)

    def _send(self, kind: str, value: Tensor) -> _Seen:
        copy, arrived = value.clone(), None
        if value.device.type == "cuda":
            copy = torch.empty((), dtype=value.dtype, pin_memory=True)
            copy.copy_(value, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        return _Seen(self.step, self.examples, kind, copy, arrived)

    def flush(self) -> None:
        """Check what has not been checked yet.

        Raises:
            NonFiniteLoss: as in `check`.
        """
        seen, self.seen = self.seen, []
        self._read(seen)

    def _read(self, seen: Iterable[_Seen]) -> None:
        for one in seen:
            if not math.isfinite(value := one.read()):
                self._stop(one.step, one.examples, one.kind, value)

    def check_weights(self, model: nn.Module) -> None:
        """Check all weights that can be saved.

        Raises:
            NonFiniteLoss: one is NaN or infinite.
        """
        for name, tensor in model.state_dict().items():
            # a sum is NaN or infinite if an element is; it may be infinite otherwise, which the second look decides
            if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                raise NonFiniteLoss(f"step {self.step}: NaN or infinity in {name}; {self._remedy()}")

    def _stop(self, step: int, examples: tuple[int, ...], kind: str, value: float) -> None:
        raise NonFiniteLoss(f"step {step}: the {kind} is {value}; {self._remedy()}", examples)

    def _remedy(self) -> str:
        return (
            f"lower training.learning_rate (now {self.learning_rate:g}), try precision=fp32, or look for such numbers"
            " in the data"
        )


def advise_on_chance(history: Sequence[Mapping[str, float]], labels: Sequence[str]) -> list[str]:
    """A sentence if the training loss ended where guessing has it, as after a divergence that stayed finite.

    Args:
        history: the log of Trainer.
        labels: of the rows of train; their entropy is the loss of guessing. Without labels nothing is said.
    """
    found = [(row["step"], row["loss"]) for row in history if "loss" in row]
    counts = np.array(list(Counter(labels).values()), dtype=float)
    if not found or len(counts) < 2:
        return []
    shares = counts / counts.sum()
    chance = float(-(shares * np.log(shares)).sum())
    step, least = min(found, key=lambda entry: entry[1])
    last = found[-1][1]
    if last < AT_CHANCE * chance:
        return []
    if least < AT_CHANCE * chance:
        return [
            f"the training diverged: its loss was {least:.3f} at step {step:.0f} and ended at {last:.3f}, no better"
            f" than guessing ({chance:.3f}); lower training.learning_rate"
        ]
    return [
        f"the training loss ended at {last:.3f}, no better than guessing ({chance:.3f}): the network learnt nothing;"
        " lower training.learning_rate, or give it more steps"
    ]
