"""The parts that all tasks of transcripts share: their columns, the audio of rows, and what happens to long clips."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import nn

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.errors import InputError
from voicecommand.evaluation.transcripts import TranscriptEvaluator
from voicecommand.models.families import check_extractor
from voicecommand.models.front import build_augmenter
from voicecommand.tasks.base import Columns, Encoded, NetworkTask, Stage, Vocabulary, column_names
from voicecommand.tasks.classification import groups_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.evaluation.base import Evaluator
    from voicecommand.tasks.base import Rows


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
        limit = f"longer than {self.max_seconds:g} s: training leaves them out, and answers are of their first part"
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
