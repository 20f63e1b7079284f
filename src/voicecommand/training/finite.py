"""A training stops at the first NaN or infinity, before anything of it is saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voicecommand.errors import NonFiniteLoss


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
