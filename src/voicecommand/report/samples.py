"""Training clips before and after augmentation, to listen to and look at."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voicecommand.audio.augmentation import Augmentation
from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.audio.noise import read_noise_folder
from voicecommand.errors import InputError
from voicecommand.files import open_whole, write_bytes
from voicecommand.report.figures import new_figure, to_png


def write_dataset_samples(dataset: Any, augmentation: Augmentation | None, directory: str) -> str:
    """A few training clips as they are and augmented, and a figure; answers a line that says where.

    Raises:
        InputError: no audio, or no augmentation.
    """
    if augmentation is None or "audio" not in dataset["train"].column_names:
        raise InputError(f"samples={directory}: needs data with audio and an augmentation; add augment=light")
    recordings = read_noise_folder(augmentation.noise_folder)
    clips: Any = Clips(dataset["train"])
    paths = write_samples(clips, augmentation, SAMPLING_RATE, directory, recordings=recordings)
    return f"samples: {len(paths) - 1} clips, {paths[-1]}"


def write_samples(
    clips: Sequence[NDArray[np.int16]],
    augmentation: Augmentation,
    sampling_rate: int,
    directory: str | PathLike[str],
    count: int = 6,
    recordings: Sequence[NDArray[np.int16]] = (),
) -> list[Path]:
    """Leave `count` clips as they are and augmented (16-bit WAV), and a figure of them all, augmented.png.

    Args:
        clips: int16 [samples] each; taken evenly from all of them.
        recordings: as in `Augmentation.build`.

    Returns:
        The files' paths, the figure last.
    """
    examples = sorted({int(i) for i in np.linspace(0, len(clips) - 1, count)})
    originals = [np.asarray(clips[i]) for i in examples]
    lengths = torch.tensor([len(clip) for clip in originals])
    waveforms = torch.zeros(len(originals), int(lengths.max()))
    for row, clip in zip(waveforms, originals, strict=True):
        row[: len(clip)] = torch.from_numpy(clip.astype(np.float32) / 32768)
    draws = augmentation.draw(seed=0, epoch=0, examples=examples)
    augmenter = augmentation.build(clips, sampling_rate, seed=0, recordings=recordings)
    augmented = augmenter(waveforms, lengths, {name: torch.from_numpy(value) for name, value in draws.items()})

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for i, original, changed in zip(examples, waveforms, augmented, strict=True):
        for name, waveform in (("original", original), ("augmented", changed)):
            files.append(directory / f"{i:05d}_{name}.wav")
            _write_wav(files[-1], waveform, sampling_rate)
    titles = [f"clip {i}: {_in_words(draws, row, augmenter.kinds)}" for row, i in enumerate(examples)]
    files.append(directory / "augmented.png")
    write_bytes(files[-1], _samples_png(waveforms, augmented, titles, sampling_rate))
    return files


def _write_wav(path: Path, waveform: Tensor, sampling_rate: int) -> None:
    with open_whole(path) as target, wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes((waveform.clamp(-1, 1) * 32767).round().numpy().astype("<i2").tobytes())


def _in_words(draws: dict[str, NDArray[np.float32]], row: int, kinds: Sequence[str]) -> str:
    """What was drawn for one clip, in the order in which it is done."""
    one = {name: values[row] for name, values in draws.items()}
    kind = kinds[int(one["noise_kind"] * len(kinds))] if kinds else ""
    words = {
        f"speed {one['speed_percent']:.0f} %": one["speed_percent"] != 100,
        f"shift {1000 * one['shift_seconds']:+.0f} ms": one["shift_seconds"],
        f"room {one['reverb_seconds']:.2f} s, direct {one['reverb_direct_db']:+.0f} dB": one["reverb_seconds"],
        "equaliser": one["equaliser_db"].any(),
        f"{one['band_low_hz']:.0f} to {one['band_high_hz']:.0f} Hz": one["band_low_hz"],
        f"{kind} noise, SNR {one['noise_snr_db']:.0f} dB": np.isfinite(one["noise_snr_db"]),
        f"gain {one['gain_db']:+.0f} dB": one["gain_db"],
        f"clipped {100 * one['clipping_share']:.1f} %": one["clipping_share"],
    }
    return "; ".join(word for word, done in words.items() if done) or "nothing"


def _samples_png(originals: Tensor, augmented: Tensor, titles: Sequence[str], sampling_rate: int) -> bytes:
    """A row a clip: waveform and spectrogram (0 to -80 dB of the row's loudest), before and after."""
    figure = new_figure(13, 2.1 * len(titles) + 0.4)
    window = round(0.025 * sampling_rate)
    seconds = originals.shape[1] / sampling_rate
    parts = figure.subfigures(len(titles), 1, squeeze=False)[:, 0]
    for row, part in enumerate(parts):
        part.suptitle(titles[row], fontsize=9, x=0.01, ha="left")
        axes = part.subplots(1, 4, width_ratios=[2, 3, 2, 3])
        for side, (name, waveform) in enumerate((("original", originals[row]), ("augmented", augmented[row]))):
            left, right = axes[2 * side : 2 * side + 2]
            left.plot(np.arange(len(waveform)) / sampling_rate, waveform.numpy(), linewidth=0.4, color="#2563a8")
            left.set(xlim=(0, seconds), ylim=(-1, 1), yticks=(-1, 0, 1))
            spectrum = torch.stft(waveform, 512, window // 2, window, torch.hann_window(window), return_complex=True)
            level = (20 * spectrum.abs().clamp(min=1e-7).log10()).numpy()
            limits = (0, seconds, 0, sampling_rate / 2000)
            right.imshow(
                level - level.max(), vmin=-80, vmax=0, origin="lower", aspect="auto", extent=limits, cmap="magma"
            )
            right.set_ylabel("kHz", fontsize=7)
            for axis in (left, right):
                axis.tick_params(labelsize=7, length=2)
                if row == 0:
                    axis.set_title(name, fontsize=9)
                if row == len(titles) - 1:
                    axis.set_xlabel("seconds", fontsize=7)
    return to_png(figure, dpi=110)
