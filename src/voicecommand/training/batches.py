"""Training batches: examples of about the same length, the same batches for any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

from voicecommand.tasks.base import Batch, Collator, Encoded, Row

# Examples are sorted by length within windows of this many global batches: wide enough that batches need hardly any
# padding, narrow enough that batches differ from epoch to epoch.
WINDOW = 50


class Uncounted(int):
    """The number of an example that only fills a batch, with no weight in the loss."""


class GroupedBatches(Sampler[list[int]]):
    """Batches of examples of about the same length: the same global batches for any number of ranks and any
    accumulation.

    An epoch is cut into global batches of `batch_size x accumulation x world_size` examples. Each is cut into
    `accumulation` micro-batches, and each of those into one part for each rank. So 1 rank x 16, 2 ranks x 8, and 8 with
    an accumulation of 2 make the same optimizer steps. The remaining examples come last, in a smaller global batch; a
    rank without an example in it gets one as `Uncounted`.

    Args:
        lengths: tokens (or samples) of each example, `[examples]`.
        batch_size: examples a rank takes at a time (`per_device_train_batch_size`).
        accumulation: micro-batches in an optimizer step (`gradient_accumulation_steps`).
        seed: the order of epoch e is drawn from (seed, e) only.
        drop_last: leave out the smaller batch at the end of an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.accumulation = batch_size, accumulation
        self.rank, self.world_size = rank, world_size
        self.seed, self.drop_last = seed, drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size * self.accumulation * self.world_size)
        last = 0 if self.drop_last else math.ceil(rest / (self.batch_size * self.world_size))
        return whole * self.accumulation + last

    def _global_batches(self) -> list[np.ndarray]:
        """The examples of each global batch of the epoch."""
        size = self.batch_size * self.accumulation * self.world_size
        draws = np.random.default_rng((self.seed, self.epoch))
        order = draws.permutation(len(self.lengths))
        whole = len(order) // size * size  # examples in full global batches
        grouped = []
        # shuffle all examples, sort each window by length, cut it into batches, and shuffle the batches
        for start in range(0, whole, size * WINDOW):
            window = order[start : min(start + size * WINDOW, whole)]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            grouped += [window[i : i + size] for i in range(0, len(window), size)]
        batches = [grouped[i] for i in draws.permutation(len(grouped))]
        return batches if self.drop_last or whole == len(order) else [*batches, order[whole:]]

    def __iter__(self) -> Iterator[list[int]]:
        step = self.batch_size * self.world_size
        for batch in self._global_batches():
            for start in range(0, len(batch), step):
                micro = batch[start : start + step]
                share = math.ceil(len(micro) / self.world_size)  # of each rank; the last ranks may get fewer, or none
                mine = micro[self.rank * share : (self.rank + 1) * share].tolist()
                yield mine or [Uncounted(micro[0])]


class TrainingExamples(torch.utils.data.Dataset):
    """The rows of the encoded training split, each with its `weight` in the loss, and its `example` number and the
    `epoch`, from which augmentation is drawn."""

    def __init__(self, encoded: Encoded, batches: GroupedBatches) -> None:
        self.read, self.count, self.batches = encoded.reader(), len(encoded), batches

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: list[int]) -> list[Row]:
        rows = self.read(indices)
        for row, index in zip(rows, indices, strict=True):
            weight = 0.0 if isinstance(index, Uncounted) else 1.0
            row |= {"example": int(index), "weight": weight, "epoch": self.batches.epoch}
        return rows

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]


@dataclass(frozen=True)
class Numbered:
    """A collator of training rows that adds `example` int64 `[rows]`, the numbers of the rows, to the batch."""

    collate: Collator

    def __call__(self, rows: Sequence[Row]) -> Batch:
        return self.collate(rows) | {"example": torch.tensor([row["example"] for row in rows])}
