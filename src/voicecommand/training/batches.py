"""The batches of training and evaluation: of like length, the same for any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from voicecommand.audio.clips import Clips

# Examples are sorted by length inside windows of this many global batches: wide enough that batches need
# hardly any padding, narrow enough that an epoch's batches still differ from the last one's.
WINDOW = 50


class GroupedBatches(Sampler[list[int]]):
    """Batches of examples of like length, the same global batches for any split into ranks and accumulation.

    An epoch is cut into global batches of `batch_size x accumulation x world_size` examples. Each is cut into
    `accumulation` micro-batches, each of those into one part a rank, so that 1 x 16, 2 x 8 and 8 with an
    accumulation of 2 make the same optimizer steps. The examples that do not fill a global batch come last, in
    a smaller one; a rank left without an example there gets one that does not count, given as `~index`.

    Args:
        lengths: tokens (or samples) of each example, `[examples]`.
        batch_size: examples a rank takes at a time (`per_device_train_batch_size`).
        accumulation: micro-batches in an optimizer step (`gradient_accumulation_steps`).
        seed: the order of epoch e is drawn from (seed, e) alone.
        drop_last: leave out the smaller batch at the end of an epoch.
    """

    def __init__(
        self,
        lengths: Any,
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
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size * self.accumulation * self.world_size)
        last = 0 if self.drop_last else math.ceil(rest / (self.batch_size * self.world_size))
        return whole * self.accumulation + last

    def _global_batches(self) -> list[np.ndarray]:
        size = self.batch_size * self.accumulation * self.world_size
        draws = np.random.default_rng((self.seed, self.epoch))
        order = draws.permutation(len(self.lengths))
        whole = len(order) // size * size
        grouped = []
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
                share = math.ceil(len(micro) / self.world_size)
                mine = micro[self.rank * share : (self.rank + 1) * share].tolist()
                yield mine or [~int(micro[0])]


class EncodedRows(torch.utils.data.Dataset):
    """An encoded split by rows; sound comes as int16 views into its memory map."""

    def __init__(self, dataset: Any) -> None:
        has_sound = "audio" in dataset.column_names
        self.clips = Clips(dataset) if has_sound else None
        self.dataset = dataset.remove_columns("audio") if has_sound else dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        columns = self.dataset[indices]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if self.clips is not None:
            for row, index in zip(rows, indices, strict=True):
                row["audio"] = self.clips[index]
        return rows

    def __getitem__(self, key: Any) -> Any:
        return self.dataset[key] if isinstance(key, str) else self.__getitems__([key])[0]


class TrainingExamples(EncodedRows):
    """The encoded training split; an index `~i` is example i with a label that the loss leaves out.

    Each row names its `example` and the `epoch`, from which its augmentation is drawn.
    """

    def __init__(self, dataset: Any, batches: GroupedBatches) -> None:
        super().__init__(dataset)
        self.batches = batches

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = super().__getitems__([i if i >= 0 else ~i for i in indices])
        for row, index in zip(rows, indices, strict=True):
            row |= {"example": index if index >= 0 else ~index, "epoch": self.batches.epoch}
            if index < 0:
                row["labels"] = -100
        return rows


def lengths_of(dataset: Any) -> np.ndarray:
    """`length` of each example; a slice, because a column of `datasets` gives its values one by one otherwise."""
    return np.asarray(dataset["length"][:])


class LongestFirst(Sampler[int]):
    """Evaluation order: longest first, so that batches hardly pad and memory peaks at once."""

    def __init__(self, lengths: Any) -> None:
        self.order = np.argsort(-lengths, kind="stable")

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())
