"""Windows of clips: their starts, and the collator that makes a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def loudest(waveform: np.ndarray, size: int) -> int:
    """The start of the window of ``size`` samples with the most energy; of several, the first."""
    if size >= len(waveform):
        return 0
    # the energy of a window is the difference of two cumulative sums
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    return int(np.argmax(energy[size:] - energy[:-size]))


def cut_windows(length: int, size: int) -> list[int]:
    """The starts of windows of ``size`` that cover ``length`` samples: half a window apart, the last one at the end."""
    if length <= size:
        return [0]
    return [*range(0, length - size, max(1, size // 2)), length - size]


DRAW = "draw_"


@dataclass
class Windows:
    """Rows -> a batch: `waveforms` int16 `[windows, samples]` and `lengths` int64 `[windows]`.

    A training example (its row has an `epoch`) gives one window, of a longer clip the one with the most energy, and
    `draw_*` float32 `[clips, ...]`, its augmentation draws. In evaluation a longer clip gives a window every half a
    window, the last one at its end, and `windows` int64 `[clips]` counts them.

    Args:
        samples: of a window.
        is_fixed: whether every batch has that width; otherwise it is as wide as its longest clip.
        draws: epoch, examples -> their augmentation draws by name; or None.
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
    """The augmentation draws of a batch. Augmentation reads them on the CPU, so they should stay there."""
    return {name: value for name, value in batch.items() if name.startswith(DRAW)}
