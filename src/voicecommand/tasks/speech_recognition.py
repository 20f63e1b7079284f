"""Speech recognition: the transcript of a spoken command, from its waveform, by a network of encoder and decoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.errors import InputError
from voicecommand.models.front import Front, build_front, build_windows, check_seconds
from voicecommand.models.recogniser import (
    clean_generation,
    encode_transcripts,
    load_recogniser,
    load_recogniser_processor,
    write_tokens,
)
from voicecommand.models.tokens import check_vocabulary
from voicecommand.tasks.base import (
    Batch,
    Collator,
    Column,
    Decoding,
    Draws,
    Loss,
    Raw,
    Row,
    Vocabulary,
)
from voicecommand.tasks.recognition import Recogniser, join_windows, split_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from voicecommand.audio.windows import Windows

logger = logging.getLogger(__name__)
WHOLE_SECONDS = 30  # that a Whisper reads as it was trained
LONGEST_TRANSCRIPT = 448  # tokens
IGNORED = -100  # a label that is no unit of the loss
WINDOWS = 64  # that are answered at once


class _Collator:
    """Rows -> the batch of `split_windows`, with `labels` int64 `[rows, longest]` (-100 is no label) and
    `decoder_input_ids` of the same shape, and in training `weight`."""

    def __init__(self, windows: Windows, start: int, pad: int) -> None:
        self.windows, self.start, self.pad = windows, start, pad

    def __call__(self, rows: Sequence[Row]) -> Batch:
        batch = split_windows(rows, self.windows)
        if "labels" in rows[0]:
            given = [torch.tensor(cast(list, row["labels"])) for row in rows]
            labels = nn.utils.rnn.pad_sequence(given, batch_first=True, padding_value=IGNORED)
            before = functional.pad(labels[:, :-1], (1, 0), value=self.start)
            batch |= {"labels": labels, "decoder_input_ids": before.where(before != IGNORED, self.pad)}
        if "weight" in rows[0]:
            batch["weight"] = torch.tensor([row["weight"] for row in rows])
        return batch


def _take(batch: Batch, windows: Tensor) -> Batch:
    """The audio of windows of a batch, by their numbers int64 `[n]`."""
    return {name: batch[name][windows] for name in ("waveforms", "lengths")}


class _Inputs(nn.Module):
    """A batch -> the network's inputs, and the waveforms. It also has the `prefix` that every text begins with."""

    def __init__(self, front: Front, prefix: Sequence[int]) -> None:
        super().__init__()
        self.front, self.prefix = front, list(prefix)

    def forward(self, batch: Batch) -> tuple[Batch, Tensor]:
        inputs, waveforms = self.front(batch)
        given = {name: batch[name] for name in ("decoder_input_ids",) if name in batch}
        return inputs | given, waveforms


@dataclass(frozen=True)
class SpeechRecognition(Recogniser):
    """A pretrained network of encoder and decoder, such as Whisper (arXiv:2212.04356), tuned on the commands.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        language: of the transcripts, a code such as en.
        max_seconds: of the longest clip that is read whole. Below 30 the encoder's positions are cut to it.
        answered_in_training: clips of validation that are written down in each evaluation of a training, for the word
            error rate in its log; null takes all. The loss is of all clips, and so is every figure at the end.
        licence: of the weights, for the model card.
    """

    checkpoint: str
    revision: str | None = None
    language: str = "en"
    max_seconds: float = WHOLE_SECONDS
    answered_in_training: int | None = 100
    licence: str | None = None
    model_class: ClassVar[str] = "AutoModelForSpeechSeq2Seq"
    refused_tunings: ClassVar[Mapping[str, str]] = {
        "Head": "tuning=head: the network has no head, its decoder writes with the vectors that it reads; use "
        "tuning=decoder or last_layers",
    }

    def __post_init__(self) -> None:
        check_seconds("max_seconds", self.max_seconds, least=1, most=WHOLE_SECONDS)
        if not isinstance(self.language, str) or not self.language:
            raise InputError(f"model.language={self.language}: give a code such as en")
        most = self.answered_in_training
        if most is not None and (type(most) is not int or most < 1):
            raise InputError(f"model.answered_in_training={most}: give a number of clips from 1, or null for all")

    def load_processor(self, vocabulary: Vocabulary) -> ProcessorMixin:
        return load_recogniser_processor(self.checkpoint, self.revision, self.max_seconds, self.language)

    def encode_labels(
        self, texts: Sequence[str], origins: Sequence[str], processor: ProcessorMixin, vocabulary: Vocabulary
    ) -> list[list[int]]:
        labels = encode_transcripts(texts, processor)
        for origin, ids in zip(origins, labels, strict=True):
            if len(ids) > LONGEST_TRANSCRIPT:
                raise InputError(
                    f"{origin}: a transcript of {len(ids)} tokens, and the network writes {LONGEST_TRANSCRIPT} at most:"
                    " cut the recording in parts"
                )
        return labels

    def load_model(self, vocabulary: Vocabulary, processor: ProcessorMixin) -> PreTrainedModel:
        model = load_recogniser(self.checkpoint, self.revision, self.max_seconds, processor, self.language)
        if self.max_seconds < WHOLE_SECONDS:
            logger.warning(
                "the encoder is cut to %g s, which its checkpoint was not trained for: untuned it repeats itself",
                self.max_seconds,
            )
        else:
            logger.info(
                "the encoder reads %d s of every clip; model.max_seconds=8 cuts it, which is faster", WHOLE_SECONDS
            )
        return model

    def build_collator(self, model: PreTrainedModel, processor: ProcessorMixin, draws: Draws | None = None) -> Collator:
        windows = build_windows(model.config, self.max_seconds, draws)
        return _Collator(windows, model.config.decoder_start_token_id, model.config.pad_token_id)

    def build_inputs(
        self, model: PreTrainedModel, processor: ProcessorMixin, augmenter: nn.Module | None = None
    ) -> nn.Module:
        parts = cast(Any, processor)
        front = build_front(model.config, parts.feature_extractor, self.max_seconds, augmenter)
        return _Inputs(front, parts.tokenizer.prefix_tokens)

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, ProcessorMixin]:
        model, processor = super().open(directory, vocabulary)
        check_vocabulary(cast(Any, processor).tokenizer, model)
        clean_generation(model)
        return model, processor

    def losses(self, model: nn.Module, inputs: Batch, batch: Batch) -> dict[str, Loss]:
        """The cross-entropy of each token of the transcript, its end and what begins it included, as in the stock
        class."""
        labels = batch["labels"]
        logits: Tensor = model(**inputs, use_cache=False).logits
        rows = torch.arange(len(labels), device=labels.device).repeat_interleave(labels.shape[1])
        return {"transcript": Loss(logits=logits.flatten(0, 1), targets=labels.flatten(), examples=rows)}

    def count(self, batch: Batch) -> dict[str, int]:
        return {"transcript": int(((batch["labels"] >= 0) & (batch["weight"] > 0)[:, None]).sum())}

    def loss_sums(self, model: nn.Module, to_inputs: nn.Module, batch: Batch) -> Tensor:
        """Of clips that are read whole."""
        counts = batch["windows"]
        labels = batch["labels"].where((counts == 1)[:, None], IGNORED)
        firsts = _take(batch, counts.cumsum(0) - counts) | {"decoder_input_ids": batch["decoder_input_ids"]}
        logits: Tensor = model(**to_inputs(firsts)[0], use_cache=False).logits
        losses = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
        return torch.stack([losses.sum(1), (labels >= 0).sum(1)], dim=1)

    def respond(self, model: nn.Module, to_inputs: nn.Module, batch: Batch, decoding: Decoding) -> Raw:
        """Tokens int64 `[clips, most windows, longest]`, and float32 `[clips]`, their mean log-probability."""
        assert isinstance(to_inputs, _Inputs)
        network: Any = getattr(model, "get_base_model", lambda: model)()  # within LoRA
        encoder, pad, end = network.get_encoder(), network.config.pad_token_id, network.config.eos_token_id
        texts: list[Tensor] = []
        means, counts = [], []
        for numbers in torch.arange(len(batch["lengths"]), device=batch["lengths"].device).split(WINDOWS):
            own = _take(batch, numbers)
            encoded = encoder(**to_inputs.front(own)[0])
            seconds = own["lengths"] / SAMPLING_RATE
            tokens, scores = write_tokens(network, encoded, to_inputs.prefix, seconds, decoding.beams)
            texts += tokens
            means.append(scores)
            counts.append(1 + ((tokens != pad) & (tokens != end)).sum(1))  # with the end
        padded = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
        clips = padded.split(batch["windows"].tolist())
        own_means, own_counts = (torch.cat(part).split(batch["windows"].tolist()) for part in (means, counts))
        score = [(mean * count).sum() / count.sum() for mean, count in zip(own_means, own_counts, strict=True)]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=pad), torch.stack(score)

    def decode(
        self,
        raw: Raw | NDArray,
        batch: Batch,
        vocabulary: Vocabulary,
        processor: ProcessorMixin,
        decoding: Decoding,
    ) -> dict[str, Column]:
        """The columns of `join_windows`, and score: the mean log-probability of the tokens."""
        tokens, scores = cast("tuple[Tensor, Tensor]", raw)
        counts = batch["windows"].tolist()
        own = torch.cat([clip[:count] for clip, count in zip(tokens, counts, strict=True)])
        texts = cast(Any, processor).tokenizer.batch_decode(own, skip_special_tokens=True)
        return join_windows([text.strip() for text in texts], batch) | {"score": scores.tolist()}
