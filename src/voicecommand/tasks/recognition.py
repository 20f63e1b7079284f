"""The parts that all tasks of transcripts share: their columns, the audio of rows, and what happens to long clips."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.errors import InputError
from voicecommand.evaluation.transcripts import TranscriptEvaluator
from voicecommand.models.families import check_extractor
from voicecommand.models.front import build_augmenter
from voicecommand.models.joining import join, place_windows
from voicecommand.tasks.base import Batch, Column, Columns, Encoded, NetworkTask, Row, Stage, Vocabulary, column_names
from voicecommand.tasks.classification import groups_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.audio.windows import Windows
    from voicecommand.evaluation.base import Evaluator
    from voicecommand.tasks.base import Rows


# Of audio in a batch that is written down: what the decoder reads of the encoder is kept for each of its layers.
SECONDS_AT_ONCE = 480


class Recogniser(NetworkTask["ProcessorMixin"]):
    """The parts of every task of transcripts: its columns, the audio of rows, and the windows of a batch."""

    name: ClassVar[str] = "speech_recognition"
    hub_tag: ClassVar[str] = "automatic-speech-recognition"
    head_weights: ClassVar[Mapping[str, float]] = {"transcript": 1.0}
    refused_tunings: ClassVar[Mapping[str, str]] = {"Decoder": NetworkTask.refused_tunings["Decoder"]}
    processor_class: ClassVar[str] = "AutoProcessor"
    max_seconds: float
    language: str

    @property
    def columns(self) -> Columns:
        return Columns(reads="audio", targets=("transcript",))

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        return (TranscriptEvaluator(self.language),)

    @property
    def most_answered(self) -> int:
        return max(1, int(SECONDS_AT_ONCE // self.max_seconds))

    @property
    def samples(self) -> int:
        """Of the longest clip that is read whole."""
        return round(self.max_seconds * SAMPLING_RATE)

    @abstractmethod
    def encode_labels(
        self, texts: Sequence[str], origins: Sequence[str], processor: ProcessorMixin, vocabulary: Vocabulary
    ) -> list[list[int]]:
        """What the network learns to write for each transcript.

        Raises:
            InputError: a transcript can't be learnt; it names the row.
        """

    def encode(self, rows: Rows, processor: ProcessorMixin, vocabulary: Vocabulary) -> Encoded:
        """`audio`, `length` in samples, `origin`, and `labels` if the rows have transcripts."""
        from datasets import Dataset, concatenate_datasets

        lengths, names = list(rows["length"][:]), column_names(rows)
        references: dict[str, list] = {}
        others: dict[str, list] = dict(groups_of(rows))
        if "transcript" in names:
            texts, origins = list(rows["transcript"][:]), list(rows["origin"][:])
            references = {"transcript": texts}
            others["labels"] = self.encode_labels(texts, origins, processor, vocabulary)
        cut = sum(length > self.samples for length in lengths)
        if isinstance(rows, Mapping):
            encoded: Rows = {"audio": rows["audio"], "length": lengths} | others
        else:
            encoded = rows.select_columns([name for name in ("audio", "length", "content", "origin") if name in names])
            if others:
                encoded = concatenate_datasets([encoded, Dataset.from_dict(others)], axis=1)
        limit = f"longer than {self.max_seconds:g} s: training leaves them out, and answers join overlapping windows"
        return Encoded(encoded, references, cut, limit if cut else "")

    def stages(self, train: Encoded) -> tuple[Stage, ...]:
        """One, of the clips that are read whole: a transcript can't be learnt from a part of its clip.

        Raises:
            InputError: no clip is.
        """
        fitting = [row for row, length in enumerate(train.lengths) if length <= self.samples]
        if not fitting:
            raise InputError(
                f"model.max_seconds={self.max_seconds:g}: every train recording is longer; cut them at their pauses"
            )
        if len(fitting) < len(train):
            train = train.select(fitting)
        return (Stage("", lambda model: model, train),)

    def build_augmenter(
        self, model: PreTrainedModel, augmentation: Augmentation, train: Encoded, seed: int
    ) -> nn.Module:
        return build_augmenter(model.config, augmentation, train.rows, seed)

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, ProcessorMixin]:
        model, processor = super().open(directory, vocabulary)
        check_extractor(cast(Any, processor).feature_extractor, "the saved feature extractor")
        return model, processor


def split_windows(rows: Sequence[Row], windows: Windows) -> Batch:
    """Rows -> a batch of the windows of their clips, one after another; a clip that is read whole has one.

    It has what `windows` makes of each, `starts` int64 `[windows]`, the samples before each in its clip, and `windows`
    int64 `[rows]`, the number of each clip.
    """
    clips = [cast(Any, row["audio"]) for row in rows]
    places = [place_windows(len(clip), windows.samples, SAMPLING_RATE) for clip in clips]
    cut = [
        row | {"audio": clip[start : start + windows.samples]}
        for row, clip, starts in zip(rows, clips, places, strict=True)
        for start in starts
    ]
    batch = windows(cut)
    batch["starts"] = torch.tensor([start for starts in places for start in starts])
    batch["windows"] = torch.tensor([len(starts) for starts in places])
    return batch


def join_windows(texts: Sequence[str], batch: Batch) -> dict[str, Column]:
    """The texts of the windows of a batch -> the columns transcript, windows, the number of those that it was joined
    from, and unmatched, the number of its joins where the texts had no word in common."""
    starts, lengths, counts = (batch[name].tolist() for name in ("starts", "lengths", "windows"))
    transcripts, unmatched, first = [], [], 0
    for count in counts:
        own = range(first, first + count)
        overlaps = [(starts[i] + lengths[i] - starts[i + 1]) / SAMPLING_RATE for i in own[:-1]]
        joined = join([texts[i] for i in own], overlaps)
        transcripts.append(joined.text if count > 1 else texts[first])
        unmatched.append(joined.unmatched)
        first += count
    return {"transcript": transcripts, "windows": counts, "unmatched": unmatched}
