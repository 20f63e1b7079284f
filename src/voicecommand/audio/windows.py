"""Windows of clips: where they start, and the collator that makes a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def loudest(waveform: np.ndarray, size: int) -> int:
    """The start of the window of ``size`` samples with the most energy; the first of equals."""
    if size >= len(waveform):
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    return int(np.argmax(energy[size:] - energy[:-size]))


def cut_windows(length: int, size: int) -> list[int]:
    """The starts of windows of ``size`` that cover ``length`` samples: half a window apart, the last at the end."""
    if length <= size:
        return [0]
    return [*range(0, length - size, max(1, size // 2)), length - size]


DRAW = "draw_"


@dataclass
class Windows:
    """Rows -> a batch: `waveforms` int16 `[windows, samples]` and `lengths` int64 `[windows]`.

    A training example (it names its `epoch`) gives one window, the loudest where the clip is longer, and
    `draw_*` float32 `[clips, ...]`, what was drawn for its augmentation. In evaluation a longer clip gives
    windows every half a window, the last one at its end, and `windows` int64 `[clips]` counts them.

    Args:
        samples: of a window.
        is_fixed: whether every batch has that width; else it is as wide as its longest clip.
        draws: epoch, examples -> what augmentation draws for them, by name; or None.
    """

    samples: int
    is_fixed: bool = True
    draws: Callable[[int, Sequence[int]], dict[str, NDArray[np.float32]]] | None = None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = {}
        training = "epoch" in rows[0]
        cuts: list[np.ndarray] = []
        counts = []
        for row in rows:
            clip = np.asarray(row["audio"], dtype=np.int16)
            if len(clip) <= self.samples:
                starts = [0]
            else:
                starts = [loudest(clip, self.samples)] if training else cut_windows(len(clip), self.samples)
            cuts += [clip[start : start + self.samples] for start in starts]
            counts.append(len(starts))
        if not training:
            batch["windows"] = torch.tensor(counts)
        width = self.samples if self.is_fixed else max(map(len, cuts))
        waveforms = np.zeros((len(cuts), width), dtype=np.int16)
        for waveform, cut in zip(waveforms, cuts, strict=True):
            waveform[: len(cut)] = cut
        batch["waveforms"] = torch.from_numpy(waveforms)
        batch["lengths"] = torch.tensor([len(cut) for cut in cuts])
        if training and self.draws is not None:
            drawn = self.draws(int(rows[0]["epoch"]), [int(row["example"]) for row in rows])
            batch |= {DRAW + name: torch.from_numpy(values) for name, values in drawn.items()}
        return batch


def take_draws(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What was drawn for a batch; augmentation reads it on the CPU, and so it best stays there."""
    return {name: value for name, value in batch.items() if name.startswith(DRAW)}
