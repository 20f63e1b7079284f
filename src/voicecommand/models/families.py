"""The differences between the families of speech networks, as one `Family` each, and the loading of checkpoints.

A new family needs an entry in `_ENTRIES` and a yaml in conf/model/. No other file asks for the type of a network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.audio.effects import mask_spectrogram
from voicecommand.audio.features import Inputs, PlainInputs, WaveformInputs, WhisperInputs
from voicecommand.errors import InputError
from voicecommand.models.pretrained import load_network, load_pretrained, public_name

if TYPE_CHECKING:
    from transformers import (
        PretrainedConfig,
        PreTrainedModel,
        Wav2Vec2FeatureExtractor,
        WhisperFeatureExtractor,
    )
    from transformers.feature_extraction_utils import FeatureExtractionMixin

logger = logging.getLogger(__name__)
INSTEAD = "use model=bcresnet, which needs no checkpoint, or model.checkpoint=DIR with a saved copy"
WHISPER_HOP = 320  # samples between frames of Whisper's encoder
WHISPER_POSITIONS = SAMPLING_RATE // WHISPER_HOP  # of each second
# The widest masks of SpecAugment for pretrained encoders with 80 mel bins and 100 frames a second.
MASK_BINS, MASK_FRAMES = 16, 20
Batch = dict[str, Tensor]


def _load_auto_model() -> type[PreTrainedModel]:
    from transformers import AutoModel

    return cast("type[PreTrainedModel]", AutoModel)


def _ask_for_frames(encoder: PreTrainedModel, lengths: Tensor) -> Tensor:
    return cast("Callable[[Tensor], Tensor]", encoder._get_feat_extract_output_lengths)(lengths).long()


@dataclass(frozen=True)
class Family:
    """The properties of a family. The defaults are right for most.

    Args:
        model_type: of its configuration in transformers.
        title: its name in messages.
        inputs: configuration, feature extractor, max_seconds -> the module that makes the network's inputs.
        blocks: the attribute of the body that holds the stack of transformer blocks.
        body: the attribute of the classifier that holds all but the head; empty, or of a network without it, takes
            `base_model_prefix`.
        recogniser_processor: the class of transformers that joins its feature extractor and tokenizer, if its
            checkpoints have a decoder that writes text; otherwise empty.
        is_pretrained: whether it comes as a checkpoint; our own networks do not.
        is_fixed: whether every batch is as wide as the window; otherwise it is as wide as its longest clip.
        takes_whole_seconds: whether `max_seconds` must be whole.
        ends_with_norm: configuration -> whether the norm beside the blocks comes after them, not before.
        padding: configuration -> why zeros after a clip change its answer; empty if they do not.
        masks: the network's inputs, the draws `mask_bands` and `mask_times` -> the inputs of a training step; None if
            the network masks by itself.
        unused_masks: configuration -> why those draws are not used; empty if they are.
        fit_extractor: feature extractor, max_seconds -> the one for windows of that length.
        fit_encoder: encoder, its configuration, max_seconds: cuts the encoder to windows of that length, in place.
        take_encoder: the model of `AutoModel` -> the part that makes the frames.
        load_encoder_class: the class that opens that part after it was saved.
        count_frames: encoder, clip lengths int64 `[b]` in samples -> the frames of each clip, int64 `[b]`.
    """

    model_type: str
    title: str
    inputs: Callable[[PretrainedConfig, FeatureExtractionMixin, float], Inputs]
    blocks: str
    body: str = ""
    recogniser_processor: str = ""
    is_pretrained: bool = True
    is_fixed: bool = False
    takes_whole_seconds: bool = False
    ends_with_norm: Callable[[PretrainedConfig], bool] = lambda config: False
    padding: Callable[[PretrainedConfig], str] = lambda config: ""
    masks: Callable[[Batch, Batch], Batch] | None = None
    unused_masks: Callable[[PretrainedConfig], str] = lambda config: ""
    fit_extractor: Callable[[FeatureExtractionMixin, float], FeatureExtractionMixin] = lambda extractor, _: extractor
    fit_encoder: Callable[[nn.Module, PretrainedConfig, float], None] = lambda encoder, config, seconds: None
    take_encoder: Callable[[PreTrainedModel], PreTrainedModel] = lambda model: model
    load_encoder_class: Callable[[], type[PreTrainedModel]] = _load_auto_model
    count_frames: Callable[[PreTrainedModel, Tensor], Tensor] = _ask_for_frames


# ---- Whisper ----


def _whisper_inputs(config: PretrainedConfig, extractor: FeatureExtractionMixin, max_seconds: float) -> Inputs:
    whisper = cast("WhisperFeatureExtractor", extractor)
    samples = int(max_seconds) * whisper.sampling_rate
    return WhisperInputs(whisper.mel_filters, whisper.n_fft, whisper.hop_length, samples)


def _fit_whisper_extractor(extractor: FeatureExtractionMixin, max_seconds: float) -> FeatureExtractionMixin:
    from transformers import WhisperFeatureExtractor

    settings = extractor.to_dict()
    kept = ("feature_size", "sampling_rate", "hop_length", "n_fft", "padding_value", "dither")
    settings = {name: settings[name] for name in kept if name in settings}
    return WhisperFeatureExtractor(**settings, chunk_length=int(max_seconds))


def _cut_positions(encoder: nn.Module, config: PretrainedConfig, max_seconds: float) -> None:
    """Cut the encoder to the first positions, 50 for each second, of those for 30 s."""
    positions = WHISPER_POSITIONS * int(max_seconds)
    weight = cast(nn.Embedding, encoder.embed_positions).weight
    if len(weight) < positions:
        most = len(weight) // WHISPER_POSITIONS
        raise InputError(f"model.max_seconds={max_seconds}: the checkpoint has positions for {most} s")
    cut = nn.Embedding(positions, weight.shape[1], _weight=weight.detach()[:positions].clone())
    cut.weight.requires_grad = weight.requires_grad
    encoder.embed_positions, encoder.max_source_positions = cut, positions  # type: ignore[assignment]
    config.max_source_positions = positions


def _mask_features(inputs: Batch, masks: Batch) -> Batch:
    features = inputs["input_features"]
    masked = mask_spectrogram(features, masks["mask_bands"], masks["mask_times"], MASK_BINS, MASK_FRAMES)
    return inputs | {"input_features": masked}


def _load_whisper_encoder() -> type[PreTrainedModel]:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


# ---- wav2vec 2.0 and the networks like it ----


def uses_attention_mask(config: PretrainedConfig) -> bool:
    """Whether a checkpoint like wav2vec 2.0 needs a mask: those with layer norm in their convolutions do.

    Those with group norm (`feat_extract_norm="group"`: wav2vec2-base, hubert-base, wavlm-base) were trained with zeros
    after the clip and without a mask. Their statistics include the padding, which changes their answers a little.
    Source: documentation of `return_attention_mask` in transformers.Wav2Vec2FeatureExtractor.
    """
    return config.feat_extract_norm == "layer"


def _waveform_inputs(config: PretrainedConfig, extractor: FeatureExtractionMixin, max_seconds: float) -> Inputs:
    normalizes = bool(cast("Wav2Vec2FeatureExtractor", extractor).do_normalize)
    return WaveformInputs(normalizes, uses_attention_mask(config))


def _masked_inputs(config: PretrainedConfig, extractor: FeatureExtractionMixin, max_seconds: float) -> Inputs:
    return WaveformInputs(bool(cast("Wav2Vec2FeatureExtractor", extractor).do_normalize), uses_mask=True)


def _own_masks(config: PretrainedConfig) -> str:
    share = getattr(config, "mask_time_prob", 0)
    return f"not used; {config.model_type} masks its own frames (mask_time_prob {share:g})"


def _wav2vec2_kind(model_type: str, title: str) -> Family:
    return Family(
        model_type=model_type,
        title=title,
        inputs=_waveform_inputs,
        blocks="encoder.layers",
        ends_with_norm=lambda config: config.do_stable_layer_norm,  # then the blocks are pre-norm, with one at the end
        padding=lambda config: "" if uses_attention_mask(config) else "this checkpoint was pretrained without masks",
        unused_masks=_own_masks,
    )


# ---- the entries ----


def _unmasked_width(config: PretrainedConfig) -> str:
    masks = config.mask_bins or config.mask_frames
    return "" if masks else f"not used at width {config.width:g}, as in the paper of BC-ResNet"


_ENTRIES = (
    Family(
        model_type="whisper",
        title="Whisper",
        inputs=_whisper_inputs,
        blocks="layers",
        body="encoder",  # the classifier has no attribute of the name in base_model_prefix
        recogniser_processor="WhisperProcessor",
        is_fixed=True,
        takes_whole_seconds=True,
        ends_with_norm=lambda config: True,
        masks=_mask_features,
        fit_extractor=_fit_whisper_extractor,
        fit_encoder=_cut_positions,
        take_encoder=lambda model: model.get_encoder(),
        load_encoder_class=_load_whisper_encoder,
        count_frames=lambda encoder, lengths: (lengths + WHISPER_HOP - 1) // WHISPER_HOP,
    ),
    _wav2vec2_kind("wav2vec2", "wav2vec 2.0"),
    _wav2vec2_kind("hubert", "HuBERT"),
    _wav2vec2_kind("wavlm", "WavLM"),
    Family(
        model_type="data2vec-audio",
        title="data2vec",
        inputs=_masked_inputs,  # its convolutions always have layer norm
        blocks="encoder.layers",
        padding=lambda config: "the mask does not apply to this family's convolutions over positions",
        unused_masks=_own_masks,
    ),
    Family(
        model_type="bcresnet",
        title="BC-ResNet",
        inputs=lambda config, extractor, max_seconds: PlainInputs(),
        blocks="blocks",
        is_pretrained=False,
        is_fixed=True,
        masks=lambda inputs, masks: inputs | masks,
        unused_masks=_unmasked_width,
    ),
)
FAMILIES = {family.model_type: family for family in _ENTRIES}


def known_family(config: PretrainedConfig) -> Family | None:
    """The family of a configuration; None if it has no entry, such as networks of text."""
    return FAMILIES.get(config.model_type)


# Types of text networks whose layers are those of BERT, and the linear layer between the first token's vector and tanh.
_LIKE_BERT = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "xlm-roberta": "classifier.dense",
    "camembert": "classifier.dense",
}


def dense_of_bert(config: PretrainedConfig) -> str | None:
    """The name of the linear layer between the first token's vector and the tanh of a classifier of BERT's kind; None
    of another kind."""
    return _LIKE_BERT.get(config.model_type)


def is_own_network(model_type: object) -> bool:
    """Whether a network of that type is our own, and so has no checkpoint."""
    return any(family.model_type == model_type and not family.is_pretrained for family in FAMILIES.values())


def body_of(model: PreTrainedModel) -> str:
    """The attribute of a network that holds all but its head."""
    family = known_family(model.config)
    body = family.body if family else ""
    return body if body and hasattr(model, body) else model.base_model_prefix


def stacks_of(model: PreTrainedModel) -> list[str]:
    """The names of the stacks of blocks of a network of a known family, the lowest first: of its encoder, and of its
    decoder if it has one."""
    family, body = known_family(model.config), body_of(model)
    assert family is not None
    if hasattr(getattr(model, body, None), "decoder"):
        return [f"{body}.{part}.{family.blocks}" for part in ("encoder", "decoder")]
    return [f"{body}.{family.blocks}"]


def find_family(config: PretrainedConfig, checkpoint: str = "") -> Family:
    """The family of a configuration.

    Raises:
        InputError: it has no entry, or a checkpoint is named and the family has none.
    """
    family = known_family(config)
    if family is None or (checkpoint and not family.is_pretrained):
        known = ", ".join(family.model_type for family in FAMILIES.values() if family.is_pretrained)
        which = f"={checkpoint}" if checkpoint else ""
        raise InputError(f"model.checkpoint{which}: a {config.model_type} model; there are {known}")
    return family


def build_inputs(config: PretrainedConfig, extractor: FeatureExtractionMixin, max_seconds: float) -> Inputs:
    """The module that makes a network's inputs, for windows of `max_seconds`.

    Raises:
        InputError: the family has no entry, or can't have this length.
    """
    family = find_family(config)
    _check_seconds(family, max_seconds)
    return family.inputs(config, extractor, max_seconds)


def _check_seconds(family: Family, max_seconds: float) -> None:
    if family.takes_whole_seconds and (max_seconds < 1 or max_seconds != int(max_seconds)):
        raise InputError(f"model.max_seconds={max_seconds}: {family.title} takes whole seconds")


def log_masks(config: PretrainedConfig) -> None:
    """Log why augment.masks has no effect, if the family does not use its draws."""
    if reason := find_family(config).unused_masks(config):
        logger.info("augment.masks: %s", reason)


# ---- frames ----


def frame_mask(encoder: PreTrainedModel, lengths: Tensor, frames: int) -> Tensor:
    """bool `[b, frames]`: which frames of the last hidden state lie within clips of `lengths` int64 `[b]` samples.

    Every clip has at least one.
    """
    valid = find_family(encoder.config).count_frames(encoder, lengths)
    return torch.arange(frames, device=lengths.device) < valid.clamp(1, frames)[:, None]


def frame_amplitudes(waveforms: Tensor, frames: int) -> Tensor:
    """float32 `[b, frames]`: the loudness of each frame, from 1e-8 (silence) to 1.

    It is the standard deviation of the frame's part of the samples; the samples are cut evenly into as many parts as
    there are frames. Unlike the root mean square, it ignores a constant offset. A model's frames overlap, these parts
    do not.

    Args:
        waveforms: float32 `[b, n]`, as `Inputs.pad` gives them.
    """
    # the variance of a part is the mean of its squares less the square of its mean
    parts = functional.adaptive_avg_pool1d(torch.stack([waveforms, waveforms.square()], dim=1), frames)
    return (parts[:, 1] - parts[:, 0].square()).clamp(min=1e-16).sqrt()


# ---- checkpoints ----


def load_config(checkpoint: str, revision: str | None, max_seconds: float, **settings: object) -> PretrainedConfig:
    """A checkpoint's configuration with `settings`.

    Raises:
        InputError: there is no checkpoint, its family is unknown, or it can't be used with `max_seconds`.
    """
    from transformers import AutoConfig

    config: PretrainedConfig = load_pretrained(AutoConfig, checkpoint, revision, INSTEAD, **settings)
    _check_seconds(find_family(config, checkpoint), max_seconds)
    return config


def load_feature_extractor(checkpoint: str, revision: str | None, max_seconds: float) -> FeatureExtractionMixin:
    """A checkpoint's feature extractor, for windows of `max_seconds`.

    Raises:
        InputError: as `load_config`, or its sampling rate is not 16 kHz.
    """
    from transformers import AutoFeatureExtractor

    config = load_config(checkpoint, revision, max_seconds)
    extractor = load_pretrained(AutoFeatureExtractor, checkpoint, revision, INSTEAD)
    check_extractor(extractor, f"model.checkpoint={checkpoint}")
    return find_family(config).fit_extractor(extractor, max_seconds)


def check_extractor(extractor: FeatureExtractionMixin, what: str) -> None:
    """Check that a feature extractor reads audio as all of ours is.

    Raises:
        InputError: its sampling rate is not 16 kHz.
    """
    rate = getattr(extractor, "sampling_rate", "no")
    if rate != SAMPLING_RATE:
        raise InputError(f"{what}: reads {rate} Hz; only {SAMPLING_RATE} Hz is supported")


def load_classifier(
    checkpoint: str, revision: str | None, max_seconds: float, labels: dict[str, object]
) -> PreTrainedModel:
    """A checkpoint with a new head, in float32, for windows of `max_seconds`.

    Args:
        labels: the settings of its configuration for labels, `num_labels` and so on.

    Raises:
        InputError: as `load_config`.
    """
    from transformers import AutoModelForAudioClassification

    config = load_config(checkpoint, revision, max_seconds, **labels)
    family = find_family(config)
    model = load_network(
        AutoModelForAudioClassification,
        checkpoint,
        revision,
        INSTEAD,
        family.body,
        config=config,
        dtype=torch.float32,
    )
    family.fit_encoder(model.get_submodule(body_of(model)), model.config, max_seconds)
    model.name_or_path = model.config._name_or_path = public_name(checkpoint)
    return model


def load_encoder(checkpoint: str, revision: str | None, max_seconds: float) -> PreTrainedModel:
    """The part of a checkpoint that makes its frames, in float32, for windows of `max_seconds`.

    Raises:
        InputError: as `load_config`.
    """
    family = find_family(load_config(checkpoint, revision, max_seconds))
    model = load_network(_load_auto_model(), checkpoint, revision, INSTEAD, dtype=torch.float32)
    encoder = family.take_encoder(model)
    family.fit_encoder(encoder, encoder.config, max_seconds)
    encoder.name_or_path = encoder.config._name_or_path = public_name(checkpoint)
    return encoder
