"""Audio classification: the label of a spoken command, from its waveform.

Four ways to do it, one shape: `AudioClassification` tunes a pretrained speech encoder, `BCResNet` trains a small
network from scratch, `MfccSvm` is the traditional way, `SpeechEmbeddingSvm` the hybrid one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from voicecommand.audio.clips import SAMPLING_RATE, Clips
from voicecommand.audio.noise import read_noise_folder
from voicecommand.errors import InputError
from voicecommand.models.families import INSTEAD, check_family, cut_positions, load_feature_extractor, log_masks
from voicecommand.models.pretrained import load_pretrained, public_name
from voicecommand.tasks.classification import Classification, LinearClassification, class_weights, name_labels
from voicecommand.tasks.teacher import check_teacher, load_teacher

logger = logging.getLogger(__name__)
PADDED = 4  # clips that padding is measured on


def _check_seconds(name: str, value: Any, least: float = 0.1, most: float = 30) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"model.{name}={value}: give {least} to {most} seconds")


@dataclass(frozen=True)
class _AudioTask(Classification):
    """What all ways share."""

    columns: ClassVar[tuple[str, ...]] = ("audio", "label")
    name: ClassVar[str] = "audio_classification"


class _AudioNetwork(_AudioTask):
    """What the networks share: windows of `max_seconds`, augmentation and features on the device."""

    max_seconds: float
    kind: ClassVar[Literal["network"]] = "network"

    @property
    def samples(self) -> int:
        """Of a window; longer clips are cut to it in training and read window by window in evaluation."""
        return round(self.max_seconds * SAMPLING_RATE)

    def build_trainer(
        self,
        args: Any,
        model: Any,
        processor: Any,
        dataset: Any,
        label_names: list[str],
        tuning: Any = None,
        callbacks: list | None = None,
        seed: int = 0,
        augmentation: Any = None,
        *,
        teacher: Any = None,
    ) -> Any:
        """A `CommandTrainer` over the encoded `dataset` (train, validation).

        Raises:
            InputError: augmentation with persistent workers, whose epoch would stand still.
        """
        import torch

        from voicecommand.models.families import WAVEFORM_FAMILIES, uses_attention_mask
        from voicecommand.models.front import build_front, build_windows
        from voicecommand.training.trainer import CommandTrainer

        if augmentation is not None and args.dataloader_persistent_workers:
            raise InputError("training.dataloader_persistent_workers=true: not with augment; leave it out")
        augmenter = None if augmentation is None else _build_augmenter(augmentation, dataset["train"], seed)
        front = build_front(model.config, processor, self.max_seconds, augmenter)
        if augmentation is not None and augmentation.masks:
            log_masks(model.config)
        if model.config.model_type in WAVEFORM_FAMILIES and not uses_attention_mask(model.config):
            clips = Clips(dataset["train"])
            some = [clips[int(i)] for i in np.linspace(0, len(clips) - 1, min(PADDED, len(clips)))]
            logger.info(
                "padding: this checkpoint was pretrained without masks; %d train clips padded to %g s have logits that"
                " differ by %.1f %% from those of the clips alone",
                len(some),
                self.max_seconds,
                100 * measure_padding(model, front, some, self.samples),
            )
        weights = class_weights(self.class_weights, dataset["train"]["labels"][:], label_names)
        return CommandTrainer(
            model=tuning.prepare(model),
            args=args,
            train_dataset=dataset["train"],
            eval_dataset=dataset["validation"],
            data_collator=build_windows(model.config, self.max_seconds, augmentation, seed),
            processing_class=processor,
            compute_metrics=self.build_metrics(label_names),
            callbacks=callbacks,
            tuning=tuning,
            class_weights=None if weights is None else torch.from_numpy(weights),
            front=front,
            teacher=teacher,
        )


def measure_padding(model: Any, front: Any, clips: Sequence[np.ndarray], samples: int) -> float:
    """How much padding clips to a window of `samples` changes the logits: the norm of the difference over the norm of
    the logits of the clips alone, mean over the clips."""
    import torch

    from voicecommand.audio.windows import Windows

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        alone = torch.cat([front.average(model, Windows(samples, is_fixed=False)([{"audio": clip}])) for clip in clips])
        padded = front.average(model, Windows(samples)([{"audio": clip} for clip in clips]))
    model.train(was_training)
    return float(((padded - alone).norm(dim=1) / alone.norm(dim=1).clamp(min=1e-12)).mean())


def _build_augmenter(augmentation: Any, train: Any, seed: int) -> Any:
    recordings = read_noise_folder(augmentation.noise_folder)
    return augmentation.build(Clips(train), SAMPLING_RATE, seed, recordings)


def write_audio_samples(dataset: Any, augmentation: Any, directory: str) -> str:
    """A few training clips as they are and augmented, and a figure; answers a line that says where.

    Raises:
        InputError: no sound, or no augmentation.
    """
    from voicecommand.report import samples as report_samples

    if augmentation is None or "audio" not in dataset["train"].column_names:
        raise InputError(f"samples={directory}: needs data with sound and an augmentation; add augment=light")
    recordings = read_noise_folder(augmentation.noise_folder)
    clips: Any = Clips(dataset["train"])
    paths = report_samples.write_samples(clips, augmentation, SAMPLING_RATE, directory, recordings=recordings)
    return f"samples: {len(paths) - 1} clips, {paths[-1]}"


@dataclass(frozen=True)
class AudioClassification(_AudioNetwork):
    """A pretrained speech encoder (Whisper, wav2vec 2.0, HuBERT, WavLM) tuned on the commands.

    The hub has HuBERT and WavLM as .bin alone, which the library reads with `weights_only`; we save safetensors.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        max_seconds: of a window. Whisper's positions are cut to it, where the stock way pads to 30 s.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
        licence: of the weights, for the model card.
    """

    checkpoint: str
    revision: str | None = None
    max_seconds: float = 3
    class_weights: Any = None
    licence: str | None = None

    def __post_init__(self) -> None:
        _check_seconds("max_seconds", self.max_seconds)

    def load_processor(self) -> Any:
        return load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForAudioClassification

        config = load_pretrained(AutoConfig, self.checkpoint, self.revision, INSTEAD, **name_labels(label_names))
        check_family(self.checkpoint, config.model_type, self.max_seconds)
        model = load_pretrained(
            AutoModelForAudioClassification,
            self.checkpoint,
            self.revision,
            INSTEAD,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a head for other labels is replaced
        )
        if config.model_type == "whisper":
            cut_positions(model.encoder, model.config, self.max_seconds)
        model.name_or_path = model.config._name_or_path = public_name(self.checkpoint)
        return model


@dataclass(frozen=True)
class BCResNet(_AudioNetwork):
    """A small convolutional network for keywords, from scratch (Kim et al. 2021, arXiv:2106.04140).

    Args:
        width: channels relative to the smallest, 1 to 8.
        max_seconds: of a window.
        dropout: of the network.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
        teacher: directory of a trained run whose answers are learnt beside the labels, see `CommandTrainer`.
    """

    width: float = 1
    max_seconds: float = 2
    dropout: float = 0.1
    class_weights: Any = None
    teacher: str | None = None

    def __post_init__(self) -> None:
        _check_seconds("max_seconds", self.max_seconds)
        if not isinstance(self.width, int | float) or not 1 <= self.width <= 8:
            raise InputError(f"model.width={self.width}: give 1 to 8")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout={self.dropout}: give a number from 0 to below 1")
        if self.teacher is not None:
            check_teacher(self.teacher)  # before sound is decoded, which may take an hour

    def load_processor(self) -> Any:
        from transformers import Wav2Vec2FeatureExtractor

        return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, do_normalize=False, return_attention_mask=False)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from voicecommand.models.bcresnet import BCResNetConfig, BCResNetForAudioClassification

        config = BCResNetConfig(
            width=self.width, seconds=self.max_seconds, dropout=self.dropout, **name_labels(label_names)
        )
        return BCResNetForAudioClassification(config)

    def build_trainer(
        self, args: Any, model: Any, processor: Any, dataset: Any, label_names: list[str], *rest: Any, **settings: Any
    ) -> Any:
        """As that of any network of sound, with the teacher.

        Raises:
            InputError: also a teacher that can't teach these labels.
        """
        teacher = None if self.teacher is None else load_teacher(self.teacher, label_names)
        return super().build_trainer(args, model, processor, dataset, label_names, *rest, teacher=teacher, **settings)


@dataclass(frozen=True)
class MfccSvm(LinearClassification, _AudioTask):
    """Statistics of MFCC, spectrum, energy and speaking rate, and a support vector machine.

    Args:
        C: inverse strength of the regularisation.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
    """

    C: float = 0.003
    class_weights: Any = None
    kind: ClassVar[Literal["mfcc"]] = "mfcc"
    samples: ClassVar[None] = None  # clips are read whole

    def load_processor(self) -> None:
        return None

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from voicecommand.models.audio_features import MfccFeatures

        return MfccFeatures()


@dataclass(frozen=True)
class SpeechEmbeddingSvm(LinearClassification, _AudioTask):
    """Mean and deviation of a frozen speech encoder's frames, loud ones counting more, and a support vector machine.

    Args:
        checkpoint, revision, max_seconds, licence: as for `AudioClassification`.
        C, class_weights: as for `MfccSvm`.
    """

    checkpoint: str
    revision: str | None = None
    max_seconds: float = 3
    C: float = 0.01
    class_weights: Any = None
    licence: str | None = None
    kind: ClassVar[Literal["speech_embedding"]] = "speech_embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_seconds("max_seconds", self.max_seconds)

    @property
    def samples(self) -> int:
        return round(self.max_seconds * SAMPLING_RATE)

    def load_processor(self) -> Any:
        return load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModel

        from voicecommand.models.audio_features import SpeechFeatures

        config = load_pretrained(AutoConfig, self.checkpoint, self.revision, INSTEAD)
        check_family(self.checkpoint, config.model_type, self.max_seconds)
        encoder = load_pretrained(AutoModel, self.checkpoint, self.revision, INSTEAD, dtype=torch.float32)
        if config.model_type == "whisper":
            encoder = encoder.get_encoder()
            cut_positions(encoder, encoder.config, self.max_seconds)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return SpeechFeatures(encoder, processor, self.max_seconds)
