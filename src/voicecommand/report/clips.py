"""The clips that report.html plays."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.classification import confused_examples
from voicecommand.evaluation.splits import choose_main_split
from voicecommand.files import write_bytes

CLIP_SECONDS = 10


def write_clips(
    directory: Path,
    predictions: Sequence[Answers],
    read: Callable[[str, int], NDArray[np.int16]],
    sampling_rate: int,
) -> None:
    """clips.parquet: the clips that report.html plays, and no file where there is nothing to play.

    They are the confused examples of the main split that the report shows: of the PAIRS most confused pairs the
    EXAMPLES_OF_A_PAIR surest mistakes, each up to CLIP_SECONDS. `read(split, row)` gives a clip, int16 [samples].
    """
    import pyarrow
    import pyarrow.parquet

    main = choose_main_split(predictions)
    clips = []
    for p in predictions:
        for row in confused_examples(p) if p.split == main else []:
            waveform = np.asarray(read(p.split, row))
            kept = waveform[: CLIP_SECONDS * sampling_rate]
            form, content = encode_clip(kept, sampling_rate)
            clip = {"split": p.split, "id": p.ids[row], "format": form, "audio": content}
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


def write_run_clips(directory: Path, predictions: list[Answers], dataset: Any) -> None:
    """The sound that report.html plays, of a data set that has sound."""
    has_labels = all("probabilities" in p.columns for p in predictions)
    if has_labels and any("audio" in rows.column_names for rows in dataset.values()):
        clips = {p.split: Clips(dataset[p.split]) for p in predictions}
        write_clips(directory, predictions, lambda split, row: clips[split][row], SAMPLING_RATE)
