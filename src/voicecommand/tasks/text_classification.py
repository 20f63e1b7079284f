"""Text classification: the label of a written (or recognised) command.

There are three models: `TextClassification` tunes a pretrained network, `TfidfSvm` is the traditional model,
`EmbeddingSvm` the hybrid one. A yaml in conf/model/ names one of them and its settings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voicecommand.errors import InputError
from voicecommand.models.pretrained import load_network, load_pretrained, public_name
from voicecommand.models.tokens import (
    INSTEAD,
    check_positions,
    check_vocabulary,
    encode_texts,
    load_tokenizer,
    seen_tokens,
)
from voicecommand.tasks.base import Batch, Collator, Columns, Decoding, Draws, Encoded, Raw, Row, Unknown, Vocabulary
from voicecommand.tasks.classification import (
    LabelEstimator,
    LabelNetwork,
    LabelTask,
    class_weights,
    collate_labels,
    groups_of,
    name_labels,
    number_labels,
    references_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from voicecommand.models.estimator import Estimator
    from voicecommand.models.text_features import EncoderFeatures, TfidfFeatures
    from voicecommand.models.tuning import Tuning
    from voicecommand.tasks.base import Rows


logger = logging.getLogger(__name__)
LONGEST_TEXT = 100_000  # tokens
HEAD_STARTS = ("auto", "fitted", "random")


def _check_length(max_length: object) -> None:
    if not isinstance(max_length, int) or not 3 <= max_length <= LONGEST_TEXT:
        raise InputError(f"model.max_length={max_length}: give 3 to {LONGEST_TEXT:,} tokens")


@dataclass(frozen=True)
class _TextTask(LabelTask):
    """The parts that all three models share."""

    name: ClassVar[str] = "text_classification"
    hub_tag: ClassVar[str] = "text-classification"

    @property
    def columns(self) -> Columns:
        return Columns(reads="text", targets=("label",))


def _to_rows(rows: Rows, columns: dict[str, list], vocabulary: Vocabulary) -> Rows:
    """Columns of model inputs, with labels and groups if the rows have them."""
    from datasets import Dataset

    columns |= number_labels(rows, vocabulary) | groups_of(rows)
    return columns if isinstance(rows, Mapping) else Dataset.from_dict(columns)


def _encode_tokens(rows: Rows, processor: PreTrainedTokenizerBase, max_length: int, vocabulary: Vocabulary) -> Encoded:
    """`input_ids` of each text and `length` in tokens."""
    columns = encode_texts(list(rows["text"][:]), processor, max_length)
    cut = sum(columns.pop("truncated"))
    limit = min(max_length, processor.model_max_length)
    special = processor.num_special_tokens_to_add()
    tokens = sum(max(length - special, 0) for length in columns["length"])
    unknown = Unknown(sum(columns.pop("unknown")), tokens, "tokens")
    encoded = _to_rows(rows, columns, vocabulary)
    return Encoded(encoded, references_of(rows), cut, f"longer than {limit} tokens, and cut to them", unknown)


class _Padding:
    """Rows -> `input_ids` and `attention_mask` int64 `[rows, longest]`, with the labels and weights of the rows."""

    def __init__(self, processor: PreTrainedTokenizerBase) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[Row]) -> Batch:
        ids: list[Any] = [row["input_ids"] for row in rows]
        padded = self.processor.pad({"input_ids": ids}, return_attention_mask=True, return_tensors="pt")
        return dict(padded) | collate_labels(rows)


class _Tokens(nn.Module):
    """A batch -> the network's inputs, and no waveforms."""

    def forward(self, batch: Batch) -> tuple[Batch, None]:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}, None


@dataclass(frozen=True)
class TextClassification(LabelNetwork, _TextTask):
    """A sequence-classification network from the hub, tuned on the commands.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        max_length: tokens; longer texts are cut and counted.
        pretrained: False keeps the architecture and starts from random weights.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
        head_start: `random` weights, as in the stock class; `fitted` to the frozen network's features
            (`voicecommand.models.head_start`); or `auto`: fitted if the checkpoint is pretrained and train has few
            examples of each label.
        licence: of the weights, for the model card.
    """

    checkpoint: str
    revision: str | None = None
    max_length: int = 128
    pretrained: bool = True
    class_weights: object = None
    head_start: str = "auto"
    licence: str | None = None
    processor_class: ClassVar[str] = "AutoTokenizer"
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def __post_init__(self) -> None:
        _check_length(self.max_length)
        if self.head_start not in HEAD_STARTS:
            raise InputError(f"model.head_start={self.head_start}: give {', '.join(HEAD_STARTS)}")

    def load_processor(self, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.checkpoint, self.revision)

    def encode(self, rows: Rows, processor: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> Encoded:
        return _encode_tokens(rows, processor, self.max_length, vocabulary)

    def load_model(self, vocabulary: Vocabulary, processor: PreTrainedTokenizerBase) -> PreTrainedModel:
        from transformers import AutoConfig, AutoModelForSequenceClassification

        labels = name_labels(vocabulary.labels)
        if self.pretrained:
            model = load_network(
                AutoModelForSequenceClassification,
                self.checkpoint,
                self.revision,
                INSTEAD,
                dtype=torch.float32,
                use_safetensors=True,
                **labels,
            )
        else:
            config = load_pretrained(AutoConfig, self.checkpoint, self.revision, INSTEAD, **labels)
            model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        if model.config.pad_token_id is None:
            model.config.pad_token_id = processor.pad_token_id
        check_positions(self.max_length, processor, model.config)
        model.name_or_path = model.config._name_or_path = public_name(self.checkpoint)
        return model

    def prepare(
        self, model: PreTrainedModel, tuning: Tuning, train: Encoded, processor: PreTrainedTokenizerBase
    ) -> nn.Module:
        """As `tuning` says; of a trainable embedding, only the rows of tokens that occur in train are trained."""
        from voicecommand.models.embeddings import train_seen_rows

        self._start_head(model, train, processor)
        prepared = tuning.prepare(model)
        train_seen_rows(prepared, seen_tokens(train.rows, processor))
        return prepared

    def settle(self, train: Encoded, vocabulary: Vocabulary) -> Self:
        """`head_start=auto` is fitted if the checkpoint is pretrained and train has few examples of each label."""
        from voicecommand.models import head_start

        if self.head_start != "auto":
            return self
        few = self.pretrained and head_start.has_few(len(train), len(vocabulary.labels))
        if few:
            logger.info("model.head_start=fitted: train has fewer than %d examples a label", head_start.FEW)
        return replace(self, head_start="fitted" if few else "random")

    def _start_head(self, model: PreTrainedModel, train: Encoded, processor: PreTrainedTokenizerBase) -> None:
        """Fit a new head to the features of the frozen network, if `head_start` or the number of rows says so."""
        from voicecommand.models import head_start
        from voicecommand.run.device import find_device
        from voicecommand.tasks.predicting import Answerer

        labels = np.asarray(train.rows["labels"][:])
        names = tuple((model.config.id2label or {}).values())
        if self.settle(train, Vocabulary(labels=names)).head_start == "random":
            return
        model.to(find_device()).eval()  # type: ignore[arg-type]
        weights = class_weights(self.class_weights, labels, names)
        added = head_start.add_mean_layer(model)
        answerer = Answerer(self, model, processor, Vocabulary(labels=names))
        if head_start.fit_head(model, labels, weights, lambda: answerer.respond(train)):
            logger.info(
                "head: starts as logistic regression on the frozen network's features%s",
                ", the mean over tokens that one more layer makes" if added else "",
            )

    def build_collator(
        self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, draws: Draws | None = None
    ) -> Collator:
        return _Padding(processor)

    def build_inputs(
        self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, augmenter: nn.Module | None = None
    ) -> nn.Module:
        return _Tokens()

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, processor = super().open(directory, vocabulary)
        check_vocabulary(processor, model)
        check_positions(self.max_length, processor, model.config)
        return model, processor

    def respond(self, model: nn.Module, to_inputs: nn.Module, batch: Batch, decoding: Decoding) -> Raw:
        """Logits, float32 `[rows, labels]`."""
        logits: Tensor = model(**to_inputs(batch)[0]).logits
        return logits.float()


@dataclass(frozen=True)
class TfidfSvm(LabelEstimator, _TextTask):
    """Word and character TF-IDF with a linear support vector machine (Joachims 1998), in scikit-learn.

    Args:
        word_ngrams, character_ngrams: (shortest, longest) n-gram.
        C: inverse strength of the regularisation.
        class_weights: see `voicecommand.tasks.classification.class_weights`.
    """

    word_ngrams: tuple[int, int] = (1, 2)
    character_ngrams: tuple[int, int] = (2, 5)
    C: float = 1.0
    class_weights: object = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("word_ngrams", "character_ngrams"):
            lengths = getattr(self, name)
            if not all(isinstance(n, int) for n in lengths) or len(lengths) != 2 or not 1 <= lengths[0] <= lengths[1]:
                raise InputError(f"model.{name}={list(lengths)}: give [shortest, longest], whole numbers from 1")

    def encode(self, rows: Rows, processor: None, vocabulary: Vocabulary) -> Encoded:
        """The texts, never cut, and their `length` in characters."""
        texts = list(rows["text"][:])
        encoded = _to_rows(rows, {"text": texts, "length": [len(text) for text in texts]}, vocabulary)
        return Encoded(encoded, references_of(rows))

    def count_unknown(self, model: Estimator, encoded: Encoded) -> Unknown:
        """The texts that have no n-gram of train."""
        features: Any = model.features
        known = features(encoded.rows).getnnz(axis=1) if len(encoded) else []
        return Unknown(sum(int(count == 0) for count in known), len(encoded), "texts")

    def load_model(self, vocabulary: Vocabulary, processor: None) -> TfidfFeatures:
        from voicecommand.models.text_features import TfidfFeatures

        return TfidfFeatures(self.word_ngrams, self.character_ngrams)

    def load_features(self, directory: Path, tensors: dict[str, NDArray]) -> TfidfFeatures:
        from voicecommand.models.text_features import TfidfFeatures

        return TfidfFeatures.load(directory, tensors)


@dataclass(frozen=True)
class EmbeddingSvm(LabelEstimator, _TextTask):
    """A frozen pretrained encoder, the mean of its token vectors, and a linear support vector machine.

    Args:
        checkpoint, revision, max_length, licence: as for `TextClassification`.
        C, class_weights: as for `TfidfSvm`.
    """

    checkpoint: str
    revision: str | None = None
    max_length: int = 128
    C: float = 1.0
    class_weights: object = None
    licence: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_length(self.max_length)

    def load_processor(self, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.checkpoint, self.revision)

    def encode(self, rows: Rows, processor: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> Encoded:
        return _encode_tokens(rows, processor, self.max_length, vocabulary)

    def load_model(self, vocabulary: Vocabulary, processor: PreTrainedTokenizerBase) -> EncoderFeatures:
        from transformers import AutoModel

        from voicecommand.models.text_features import EncoderFeatures

        encoder = load_network(
            AutoModel, self.checkpoint, self.revision, INSTEAD, dtype=torch.float32, use_safetensors=True
        )
        check_positions(self.max_length, processor, encoder.config)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return EncoderFeatures(encoder, processor)

    def load_features(self, directory: Path, tensors: dict[str, NDArray]) -> EncoderFeatures:
        from voicecommand.models.text_features import EncoderFeatures

        return EncoderFeatures.load(directory, tensors)
