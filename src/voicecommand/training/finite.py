"""A training stops at the first NaN or infinity, before anything of it is saved; one that ended at chance is named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from voicecommand.errors import NonFiniteLoss

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from voicecommand.tasks.base import Encoded, Task

AT_CHANCE = 0.95  # of the loss of guessing: a logged loss above it shows no learning


@dataclass
class _Seen:
    """A figure of a step, and this rank's part of it; on a GPU they are on their way to the CPU."""

    step: int
    examples: tuple[int, ...]
    kind: str
    values: Tensor | tuple[float, float]
    arrived: torch.cuda.Event | None = None

    def read(self) -> tuple[float, float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.values[0]), float(self.values[1])


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

    def check(self, kind: str, value: Tensor | float, own: Tensor | None = None) -> None:
        """Check a figure of the step, a scalar that is the same on all ranks, so that they stop together.

        Args:
            own: this rank's part of it, which says whether its rows are the cause; None if all ranks' are.

        Raises:
            NonFiniteLoss: it, or one that was waited for, is NaN or infinite.
        """
        if not self.late or not isinstance(value, Tensor):
            self._read([_Seen(self.step, self.examples, kind, (float(value), float(value if own is None else own)))])
            return
        before = [one for one in self.seen if one.step < self.step]
        self.seen = [one for one in self.seen if one.step >= self.step]
        self.seen.append(self._send(kind, torch.stack([value, value if own is None else own]).detach()))
        self._read(before)

    def _send(self, kind: str, values: Tensor) -> _Seen:
        copy, arrived = values, None
        if values.device.type == "cuda":
            copy = torch.empty(2, dtype=values.dtype, pin_memory=True)
            copy.copy_(values, non_blocking=True)
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
            value, own = one.read()
            if not math.isfinite(value):
                examples = () if math.isfinite(own) else one.examples
                raise NonFiniteLoss(f"step {one.step}: the {one.kind} is {value}; {self._remedy()}", examples)

    def check_weights(self, model: nn.Module) -> None:
        """Check all weights that training may have changed.

        Raises:
            NonFiniteLoss: one is NaN or infinite.
        """
        for name, tensor in _list_changing(model):
            # a sum is NaN or infinite if an element is; it may be infinite otherwise, which the second look decides
            if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                raise NonFiniteLoss(f"step {self.step}: NaN or infinity in {name}; {self._remedy()}")

    def _remedy(self) -> str:
        return (
            f"lower training.learning_rate (now {self.learning_rate:g}), try precision=fp32, or look for such numbers"
            " in the data"
        )


def _list_changing(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters, and the buffers that are saved. `state_dict` would make tables anew."""
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield name, buffer


def advise_on_chance(
    history: Sequence[Mapping[str, float]], task: Task, train: Encoded, args: TrainingArguments | None
) -> list[str]:
    """A sentence if the training loss ended where guessing has it, as after a divergence that stayed finite.

    Args:
        history: the log of Trainer.
        task: with class weights or a teacher, the loss is another, and nothing is said.
        train: its labels. The loss of guessing is that of the best answer that is the same for every row: the entropy
            of their shares, after smoothing. Without labels nothing is said.
        args: None for an estimator.
    """
    settings = task.describe()
    if args is None or settings.get("class_weights") or settings.get("teacher"):
        return []
    labels, smoothing = train.references.get("label", []), args.label_smoothing_factor
    found = [(row["step"], row["loss"]) for row in history if "loss" in row]
    counts = np.array(list(Counter(labels).values()), dtype=float)
    if not found or len(counts) < 2:
        return []
    shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
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
