"""Audio classification: the label of a spoken command, from its waveform.

Four ways to do it, one shape: `AudioClassification` tunes a pretrained speech encoder, `BCResNet` trains a small
network from scratch, `MfccSvm` is the traditional way, `SpeechEmbeddingSvm` the hybrid one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from voicecommand.audio import SAMPLING_RATE, Clips, read_audio, to_int16
from voicecommand.classification import Classification, LinearClassification, class_weights, name_labels
from voicecommand.errors import InputError
from voicecommand.pretrained import load_pretrained, public_name

logger = logging.getLogger(__name__)

INSTEAD = "use model=bcresnet, which needs no checkpoint, or model.checkpoint=DIR with a saved copy"
FAMILIES = ("whisper", "wav2vec2", "hubert", "wavlm")
MASKED = ("bcresnet", "whisper")  # families whose features are masked by what the collator drew
PADDED = 4  # clips that padding is measured on
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def _check_seconds(name: str, value: Any, least: float = 0.1, most: float = 30) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"model.{name}={value}: give {least} to {most} seconds")


def _load_feature_extractor(checkpoint: str, revision: str | None, max_seconds: float) -> Any:
    """The checkpoint's feature extractor, Whisper's for windows of `max_seconds`.

    Raises:
        InputError: it reads another rate than 16 kHz.
    """
    from transformers import AutoFeatureExtractor, WhisperFeatureExtractor

    processor = load_pretrained(AutoFeatureExtractor, checkpoint, revision, INSTEAD)
    rate = getattr(processor, "sampling_rate", "no")
    if rate != SAMPLING_RATE:
        raise InputError(f"model.checkpoint={checkpoint}: reads {rate} Hz; only {SAMPLING_RATE} Hz is supported")
    if isinstance(processor, WhisperFeatureExtractor):
        settings = processor.to_dict()
        kept = ("feature_size", "sampling_rate", "hop_length", "n_fft", "padding_value", "dither")
        processor = WhisperFeatureExtractor(
            **{name: settings[name] for name in kept if name in settings}, chunk_length=int(max_seconds)
        )
    return processor


def _check_family(checkpoint: str, model_type: str, max_seconds: float) -> None:
    if model_type not in FAMILIES:
        raise InputError(f"model.checkpoint={checkpoint}: a {model_type} model; there are {', '.join(FAMILIES)}")
    if model_type == "whisper" and max_seconds != int(max_seconds):
        raise InputError(f"model.max_seconds={max_seconds}: Whisper takes whole seconds")


def _cut_positions(encoder: Any, config: Any, max_seconds: float) -> None:
    """Whisper's encoder for windows of `max_seconds`: its first positions, 50 a second, instead of 30 s of them."""
    from torch import nn

    positions = 50 * int(max_seconds)
    weight = encoder.embed_positions.weight
    if len(weight) < positions:
        raise InputError(f"model.max_seconds={max_seconds}: the checkpoint has positions for {len(weight) // 50} s")
    cut = nn.Embedding(positions, weight.shape[1], _weight=weight.detach()[:positions].clone())
    cut.weight.requires_grad = weight.requires_grad
    encoder.embed_positions, encoder.max_source_positions = cut, positions
    config.max_source_positions = positions


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

        from voicecommand.features import WAVEFORM_FAMILIES, uses_attention_mask
        from voicecommand.front import build_front, build_windows
        from voicecommand.trainer import CommandTrainer

        if augmentation is not None and args.dataloader_persistent_workers:
            raise InputError("training.dataloader_persistent_workers=true: not with augment; leave it out")
        augmenter = None if augmentation is None else _build_augmenter(augmentation, dataset["train"], seed)
        front = build_front(model.config, processor, self.max_seconds, augmenter)
        if augmentation is not None and augmentation.masks:
            _say_who_masks(model.config)
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


def _check_teacher(run: str) -> None:
    """Raises InputError: no saved run there, or none of a network of sound."""
    from voicecommand import inference

    try:
        settings = inference.read_settings(run)
    except InputError as error:
        raise InputError(f"model.teacher={error}") from error
    if (settings["task"], settings["kind"]) != (_AudioTask.name, "network"):
        raise InputError(f"model.teacher={run}: not a network of sound; train one with model=whisper tuning=head")


def _load_teacher(run: str, label_names: list[str]) -> Any:
    """Waveforms float32 `[n, samples]` -> the probabilities `[n, labels]` of a trained network, labels in our order.

    It computes in bf16 where the device does so natively, whatever the student's precision.

    Raises:
        InputError: it does not open, or knows other labels.
    """
    import torch

    from voicecommand import device, inference

    try:
        teacher = inference.load(run)
    except InputError as error:
        raise InputError(f"model.teacher={error}") from error
    if teacher.label_names != label_names:
        raise InputError(f"model.teacher={run}: knows {teacher.label_names}, train has {label_names}")
    precision = "bf16" if device.native_precision()[0] == "bf16" else "fp32"
    logger.info("teacher: %s, %s parameters, in %s", run, f"{teacher.model.num_parameters():,}", precision)

    def answer(waveforms: np.ndarray) -> np.ndarray:
        with torch.autocast(teacher.model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return teacher.probabilities(list(waveforms))

    return answer


def measure_padding(model: Any, front: Any, clips: Sequence[np.ndarray], samples: int) -> float:
    """How much padding clips to a window of `samples` changes the logits: the norm of the difference over the norm of
    the logits of the clips alone, mean over the clips."""
    import torch

    from voicecommand.front import Windows

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        alone = torch.cat([front.average(model, Windows(samples, is_fixed=False)([{"audio": clip}])) for clip in clips])
        padded = front.average(model, Windows(samples)([{"audio": clip} for clip in clips]))
    model.train(was_training)
    return float(((padded - alone).norm(dim=1) / alone.norm(dim=1).clamp(min=1e-12)).mean())


def _say_who_masks(config: Any) -> None:
    """`augment.masks` is for those that mask their features by it; the log says where it does nothing."""
    if config.model_type == "bcresnet" and not config.mask_bins and not config.mask_frames:
        logger.info("augment.masks: not used at width %g, as in the paper of BC-ResNet", config.width)
    elif config.model_type not in MASKED:
        share = getattr(config, "mask_time_prob", 0)
        logger.info("augment.masks: not used; a %s masks its own frames (mask_time_prob %g)", config.model_type, share)


def _build_augmenter(augmentation: Any, train: Any, seed: int) -> Any:
    recordings = _read_folder(augmentation.noise_folder)
    return augmentation.build(Clips(train), SAMPLING_RATE, seed, recordings)


def write_samples(dataset: Any, augmentation: Any, directory: str) -> str:
    """A few training clips as they are and augmented, and a figure; answers a line that says where.

    Raises:
        InputError: no sound, or no augmentation.
    """
    from voicecommand import augmentation as effects

    if augmentation is None or "audio" not in dataset["train"].column_names:
        raise InputError(f"samples={directory}: needs data with sound and an augmentation; add augment=light")
    recordings = _read_folder(augmentation.noise_folder)
    clips: Any = Clips(dataset["train"])
    paths = effects.write_samples(clips, augmentation, SAMPLING_RATE, directory, recordings=recordings)
    return f"samples: {len(paths) - 1} clips, {paths[-1]}"


def _read_folder(folder: str | None) -> Sequence[np.ndarray]:
    """The recordings of a folder of noise, int16 at 16 kHz, in order of their names; none where no folder is given."""
    if folder is None:
        return ()
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SOUNDS)
    if not paths:
        raise InputError(f"augment.noise_folder={folder}: no sound file there ({', '.join(SOUNDS)})")
    return [to_int16(read_audio(path, max_seconds=3600).waveform) for path in paths]


@dataclass(frozen=True)
class AudioClassification(_AudioNetwork):
    """A pretrained speech encoder (Whisper, wav2vec 2.0, HuBERT, WavLM) tuned on the commands.

    The hub has HuBERT and WavLM as .bin alone, which the library reads with `weights_only`; we save safetensors.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        max_seconds: of a window. Whisper's positions are cut to it, where the stock way pads to 30 s.
        class_weights: see `voicecommand.classification.class_weights`.
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
        return _load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForAudioClassification

        config = load_pretrained(AutoConfig, self.checkpoint, self.revision, INSTEAD, **name_labels(label_names))
        _check_family(self.checkpoint, config.model_type, self.max_seconds)
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
            _cut_positions(model.encoder, model.config, self.max_seconds)
        model.name_or_path = model.config._name_or_path = public_name(self.checkpoint)
        return model


@dataclass(frozen=True)
class BCResNet(_AudioNetwork):
    """A small convolutional network for keywords, from scratch (Kim et al. 2021, arXiv:2106.04140).

    Args:
        width: channels relative to the smallest, 1 to 8.
        max_seconds: of a window.
        dropout: of the network.
        class_weights: see `voicecommand.classification.class_weights`.
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
            _check_teacher(self.teacher)  # before sound is decoded, which may take an hour

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
        teacher = None if self.teacher is None else _load_teacher(self.teacher, label_names)
        return super().build_trainer(args, model, processor, dataset, label_names, *rest, teacher=teacher, **settings)


@dataclass(frozen=True)
class MfccSvm(LinearClassification, _AudioTask):
    """Statistics of MFCC, spectrum, energy and speaking rate, and a support vector machine.

    Args:
        C: inverse strength of the regularisation.
        class_weights: see `voicecommand.classification.class_weights`.
    """

    C: float = 0.003
    class_weights: Any = None
    kind: ClassVar[Literal["mfcc"]] = "mfcc"
    samples: ClassVar[None] = None  # clips are read whole

    def load_processor(self) -> None:
        return None

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from voicecommand.estimators import MfccFeatures

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
        return _load_feature_extractor(self.checkpoint, self.revision, self.max_seconds)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModel

        from voicecommand.estimators import SpeechFeatures

        config = load_pretrained(AutoConfig, self.checkpoint, self.revision, INSTEAD)
        _check_family(self.checkpoint, config.model_type, self.max_seconds)
        encoder = load_pretrained(AutoModel, self.checkpoint, self.revision, INSTEAD, dtype=torch.float32)
        if config.model_type == "whisper":
            encoder = encoder.get_encoder()
            _cut_positions(encoder, encoder.config, self.max_seconds)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return SpeechFeatures(encoder, processor, self.max_seconds)
