"""The clips that report.html plays."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.columns import CROSS_VALIDATION
from voicecommand.evaluation.blocks import Block, Examples
from voicecommand.files import write_bytes

if TYPE_CHECKING:
    from datasets import DatasetDict

CLIP_SECONDS = 10


def write_clips(
    directory: Path, blocks: Sequence[Block], read: Callable[[str, str], NDArray[np.int16]], sampling_rate: int
) -> None:
    """clips.parquet: the examples that the page shows, each up to CLIP_SECONDS; no file where it shows none.

    `read(split, id)` gives a clip, int16 [samples].
    """
    import pyarrow
    import pyarrow.parquet

    groups = [group for block in blocks if isinstance(block, Examples) for group in block.groups]
    shown = dict.fromkeys((example.split, example.id) for group in groups for example in group.examples)
    clips = []
    for split, name in shown:
        waveform = np.asarray(read(split, name))
        kept = waveform[: CLIP_SECONDS * sampling_rate]
        form, content = encode_clip(kept, sampling_rate)
        clip = {"split": split, "id": name, "format": form, "audio": content}
        clips.append(clip | {"seconds": len(waveform) / sampling_rate, "is_cut": len(kept) < len(waveform)})
    path = Path(directory) / "clips.parquet"
    if not clips:
        path.unlink(missing_ok=True)
        return
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(clips), sink, compression="none")
    write_bytes(path, sink.getvalue().to_pybytes())


def encode_clip(waveform: NDArray[np.int16], sampling_rate: int) -> tuple[str, bytes]:
    """("mp3", bytes), about 2 kB a second of speech, or ("wav", bytes) where libsndfile makes no MP3 of this rate."""
    import soundfile

    sink = io.BytesIO()
    try:
        soundfile.write(sink, waveform, sampling_rate, format="MP3", subtype="MPEG_LAYER_III")
        return "mp3", sink.getvalue()
    except (soundfile.LibsndfileError, ValueError):  # no such rate in MP3; a libsndfile before 1.1 has no MP3 at all
        sink = io.BytesIO()
        soundfile.write(sink, waveform, sampling_rate, format="WAV", subtype="PCM_16")
        return "wav", sink.getvalue()


MEDIA_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav"}


def read_clips(directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What clips.parquet holds by (split, id), each with its `source` for an audio element; empty without the file."""
    import pyarrow.parquet

    path = Path(directory) / "clips.parquet"
    clips = pyarrow.parquet.read_table(path).to_pylist() if path.exists() else []
    for clip in clips:
        clip["source"] = data_uri(clip.pop("audio"), MEDIA_TYPES[clip["format"]])
    return {(clip["split"], clip["id"]): clip for clip in clips}


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def write_run_clips(directory: Path, blocks: Sequence[Block], dataset: DatasetDict) -> None:
    """The clips that the page plays, of a data set that has audio."""
    if not any("audio" in rows.column_names for rows in dataset.values()):
        return

    @cache
    def clips_of(split: str) -> tuple[Clips, dict[str, int]]:
        rows = dataset["train" if split == CROSS_VALIDATION else split]
        return Clips(rows), {name: row for row, name in enumerate(rows["id"])}

    def read(split: str, name: str) -> NDArray[np.int16]:
        clips, rows = clips_of(split)
        return clips[rows[name]]

    write_clips(directory, blocks, read, SAMPLING_RATE)
