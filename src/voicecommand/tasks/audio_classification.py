"""Audio classification: the label of a spoken command, from its waveform.

There are four models: `AudioClassification` tunes a pretrained speech encoder, `BCResNet` trains a small network from
scratch, `MfccSvm` is the traditional model, `SpeechEmbeddingSvm` the hybrid one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.audio.windows import Windows
from voicecommand.errors import InputError
from voicecommand.models.families import (
    check_extractor,
    find_family,
    load_classifier,
    load_encoder,
    load_feature_extractor,
)
from voicecommand.models.front import Front, build_augmenter, build_front, build_windows, check_seconds
from voicecommand.tasks.base import (
    Batch,
    Collator,
    Columns,
    Decoding,
    Draws,
    Encoded,
    Raw,
    Row,
    Vocabulary,
    column_names,
)
from voicecommand.tasks.classification import (
    LabelEstimator,
    LabelNetwork,
    LabelTask,
    collate_labels,
    groups_of,
    name_labels,
    number_labels,
    references_of,
)
from voicecommand.tasks.teacher import check_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.models.audio_features import MfccFeatures, SpeechFeatures
    from voicecommand.models.tuning import Tuning
    from voicecommand.tasks.base import Rows

logger = logging.getLogger(__name__)
PADDED = 4  # clips that the effect of padding is measured on


def _encode_audio(rows: Rows, max_seconds: float | None, what: str, vocabulary: Vocabulary) -> Encoded:
    """`audio`, `length` in samples, `content` if the audio was prepared, labels and groups if the rows have them.

    Args:
        max_seconds: of a window; None if clips are read whole.
        what: a phrase for the log on what happens to longer clips.
    """
    from datasets import Dataset, concatenate_datasets

    lengths = list(rows["length"][:])
    samples = None if max_seconds is None else round(max_seconds * SAMPLING_RATE)
    cut = 0 if samples is None else sum(length > samples for length in lengths)
    others = number_labels(rows, vocabulary) | groups_of(rows)
    if isinstance(rows, Mapping):
        encoded: Rows = {"audio": rows["audio"], "length": lengths} | others
    else:
        encoded = rows.select_columns([name for name in ("audio", "length", "content") if name in column_names(rows)])
        if others:
            encoded = concatenate_datasets([encoded, Dataset.from_dict(others)], axis=1)
    return Encoded(encoded, references_of(rows), cut, f"longer than {max_seconds:g} s ({what})" if cut else "")


@dataclass(frozen=True)
class _AudioTask(LabelTask):
    """The parts that all four models share."""

    name: ClassVar[str] = "audio_classification"
    hub_tag: ClassVar[str] = "audio-classification"

    @property
    def columns(self) -> Columns:
        return Columns(reads="audio", targets=("label",))


class _WindowCollator:
    """Rows -> the batch of `Windows`, with the labels and weights of the rows."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __call__(self, rows: Sequence[Row]) -> Batch:
        return self.windows(rows) | collate_labels(rows)


class _AudioNetwork(LabelNetwork, _AudioTask):
    """The parts that both networks share: windows of `max_seconds`, augmentation and features on the device."""

    max_seconds: float
    processor_class: ClassVar[str] = "AutoFeatureExtractor"
    model_class: ClassVar[str] = "AutoModelForAudioClassification"

    def encode(self, rows: Rows, processor: FeatureExtractionMixin, vocabulary: Vocabulary) -> Encoded:
        what = "training uses their window with the most energy, answers are means over windows, weighted by energy"
        return _encode_audio(rows, self.max_seconds, what, vocabulary)

    def prepare(
        self, model: PreTrainedModel, tuning: Tuning, train: Encoded, processor: FeatureExtractionMixin
    ) -> nn.Module:
        """As `tuning` says; if padding changes a checkpoint's answers, the log says by how much."""
        if reason := find_family(model.config).padding(model.config):
            clips = Clips(train.rows)
            some = [clips[int(i)] for i in np.linspace(0, len(clips) - 1, min(PADDED, len(clips)))]
            front = build_front(model.config, processor, self.max_seconds)
            logger.info(
                "padding: %s; %d train clips padded to %g s have logits that differ by %.1f %% from unpadded ones",
                reason,
                len(some),
                self.max_seconds,
                100 * measure_padding(model, front, some, round(self.max_seconds * SAMPLING_RATE)),
            )
        return tuning.prepare(model)

    def build_augmenter(
        self, model: PreTrainedModel, augmentation: Augmentation, train: Encoded, seed: int
    ) -> nn.Module:
        return build_augmenter(model.config, augmentation, train.rows, seed)

    def build_collator(
        self, model: PreTrainedModel, processor: FeatureExtractionMixin, draws: Draws | None = None
    ) -> Collator:
        return _WindowCollator(build_windows(model.config, self.max_seconds, draws))

    def build_inputs(
        self, model: PreTrainedModel, processor: FeatureExtractionMixin, augmenter: nn.Module | None = None
    ) -> Front:
        return build_front(model.config, processor, self.max_seconds, augmenter)

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
        model, processor = super().open(directory, vocabulary)
        check_extractor(processor, "preprocessor_config.json")
        return model, processor

    def respond(self, model: nn.Module, to_inputs: nn.Module, batch: Batch, decoding: Decoding) -> Raw:
        """Logits, float32 `[clips, labels]`: means over the windows of a clip, weighted by their energy."""
        assert isinstance(to_inputs, Front)
        return to_inputs.average(model, batch).float()


def measure_padding(model: PreTrainedModel, front: Front, clips: Sequence[NDArray[np.int16]], samples: int) -> float:
    """The effect of padding clips to a window of `samples` on the logits: the norm of the difference over the norm of
    the logits without padding, mean over the clips."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        plain = torch.cat([front.average(model, Windows(samples, is_fixed=False)([{"audio": clip}])) for clip in clips])
        padded = front.average(model, Windows(samples)([{"audio": clip} for clip in clips]))
    model.train(was_training)
    return float(((padded - plain).norm(dim=1) / plain.norm(dim=1).clamp(min=1e-12)).mean())


@dataclass(frozen=True)
class AudioClassification(_AudioNetwork):
    """A pretrained speech encoder of one of `voicecommand.models.families`, tuned on the commands.

    The hub has some checkpoints only as .bin, which transformers reads with `weights_only`; we save safetensors.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        max_seconds: of a window. The positions of Whisper are cut to it; transformers would pad every clip to 30 s.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
        licence: of the weights, for the model card.
    """

    checkpoint: str
    revision: str | None = None
    max_seconds: float = 3
    class_weights: object = None
    licence: str | None = None

    def __post_init__(self) -> None:
        check_seconds("max_seconds", self.max_seconds)

    def load_processor(self, vocabulary: Vocabulary) -> FeatureExtractionMixin:
        return load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, vocabulary: Vocabulary, processor: FeatureExtractionMixin) -> PreTrainedModel:
        return load_classifier(self.checkpoint, self.revision, self.max_seconds, name_labels(vocabulary.labels))


@dataclass(frozen=True)
class BCResNet(_AudioNetwork):
    """A small convolutional network for keywords, from scratch (Kim et al. 2021, arXiv:2106.04140).

    Args:
        width: channels relative to the smallest, 1 to 8.
        max_seconds: of a window.
        dropout: of the network.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
        teacher: directory of a trained run; its answers are learnt with the labels (`voicecommand.training.losses`).
    """

    width: float = 1
    max_seconds: float = 2
    dropout: float = 0.1
    class_weights: object = None
    teacher: str | None = None

    def __post_init__(self) -> None:
        check_seconds("max_seconds", self.max_seconds)
        if not isinstance(self.width, int | float) or not 1 <= self.width <= 8:
            raise InputError(f"model.width={self.width}: give 1 to 8")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout={self.dropout}: give a number from 0 to below 1")
        if self.teacher is not None:
            check_teacher(self.teacher)  # before audio is decoded, which may take an hour

    def load_processor(self, vocabulary: Vocabulary) -> FeatureExtractionMixin:
        from transformers import Wav2Vec2FeatureExtractor

        return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, do_normalize=False, return_attention_mask=False)

    def load_model(self, vocabulary: Vocabulary, processor: FeatureExtractionMixin) -> PreTrainedModel:
        from voicecommand.models.bcresnet import BCResNetConfig, BCResNetForAudioClassification

        config = BCResNetConfig(
            width=self.width, seconds=self.max_seconds, dropout=self.dropout, **name_labels(vocabulary.labels)
        )
        return BCResNetForAudioClassification(config)


@dataclass(frozen=True)
class MfccSvm(LabelEstimator, _AudioTask):
    """Statistics of MFCC, spectrum, energy and speaking rate, and a support vector machine.

    Args:
        C: inverse strength of the regularisation.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
    """

    C: float = 0.003
    class_weights: object = None

    def encode(self, rows: Rows, processor: None, vocabulary: Vocabulary) -> Encoded:
        """Whole clips, never cut."""
        return _encode_audio(rows, None, "", vocabulary)

    def load_model(self, vocabulary: Vocabulary, processor: None) -> MfccFeatures:
        from voicecommand.models.audio_features import MfccFeatures

        return MfccFeatures()

    def load_features(self, directory: Path, tensors: dict[str, NDArray]) -> MfccFeatures:
        from voicecommand.models.audio_features import MfccFeatures

        return MfccFeatures.load(directory, tensors)


@dataclass(frozen=True)
class SpeechEmbeddingSvm(LabelEstimator, _AudioTask):
    """Mean and deviation of a frozen speech encoder's frames, weighted by loudness, and a support vector machine.

    Args:
        checkpoint, revision, max_seconds, licence: as for `AudioClassification`.
        C, class_weights: as for `MfccSvm`.
    """

    checkpoint: str
    revision: str | None = None
    max_seconds: float = 3
    C: float = 0.01
    class_weights: object = None
    licence: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds("max_seconds", self.max_seconds)

    def encode(self, rows: Rows, processor: FeatureExtractionMixin, vocabulary: Vocabulary) -> Encoded:
        what = "their features are means over windows, weighted by loudness"
        return _encode_audio(rows, self.max_seconds, what, vocabulary)

    def load_processor(self, vocabulary: Vocabulary) -> FeatureExtractionMixin:
        return load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, vocabulary: Vocabulary, processor: FeatureExtractionMixin) -> SpeechFeatures:
        from voicecommand.models.audio_features import SpeechFeatures

        encoder = load_encoder(self.checkpoint, self.revision, self.max_seconds)
        return SpeechFeatures(encoder, processor, self.max_seconds)

    def load_features(self, directory: Path, tensors: dict[str, NDArray]) -> SpeechFeatures:
        from voicecommand.models.audio_features import SpeechFeatures

        return SpeechFeatures.load(directory, tensors)
