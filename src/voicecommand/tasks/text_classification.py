"""Text classification: the label of a written (or recognised) command.

Three ways to do it, one shape: `TextClassification` tunes a pretrained network, `TfidfSvm` is the traditional
way, `EmbeddingSvm` the hybrid one. conf/model/ names one of them and fills its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from voicecommand.classification import Classification, LinearClassification, class_weights, name_labels
from voicecommand.errors import InputError
from voicecommand.pretrained import load_pretrained, public_name

INSTEAD = "use model=bert (its weights come as a package) or model.checkpoint=DIR with a saved copy"


def load_tokenizer(checkpoint: str, revision: str | None) -> Any:
    """The checkpoint's tokenizer, padding on the right, with a padding token in any case."""
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, checkpoint, revision, INSTEAD)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what the library makes of a directory without its files
        raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: it has no tokenizer files")
    tokenizer.name_or_path = public_name(checkpoint)
    if tokenizer.pad_token is None:  # GPT-2 has none; padding is masked, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def check_positions(max_length: int, processor: Any, config: Any) -> None:
    """Refuse a length that the checkpoint has no positions for.

    Raises:
        InputError: it has fewer.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and min(max_length, processor.model_max_length) > positions:
        raise InputError(f"model.max_length={max_length}: the checkpoint reads {positions} tokens at most")


def encode_texts(texts: list[str], processor: Any, max_length: int) -> dict[str, list]:
    """Texts -> `input_ids` (cut to max_length tokens), `length` in tokens, and `truncated`: whether it was cut."""
    settings = {"return_attention_mask": False, "return_token_type_ids": False}
    ids = processor(texts, **settings)["input_ids"]
    limit = min(max_length, processor.model_max_length)
    cut = [len(row) > limit for row in ids]
    if any(cut):
        ids = processor(texts, truncation=True, max_length=limit, **settings)["input_ids"]
    return {"input_ids": ids, "length": [len(row) for row in ids], "truncated": cut}


def _check_length(max_length: Any) -> None:
    if not isinstance(max_length, int) or max_length < 3:
        raise InputError(f"model.max_length={max_length}: give at least 3 tokens")


@dataclass(frozen=True)
class _TextTask(Classification):
    """What the three ways share."""

    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    name: ClassVar[str] = "text_classification"


@dataclass(frozen=True)
class TextClassification(_TextTask):
    """A sequence-classification network of the hub's families, tuned on the commands.

    Args:
        checkpoint: hub id, directory, or `package://NAME/PATH`.
        revision: commit of the hub repository.
        max_length: tokens; longer texts are cut and counted.
        pretrained: False keeps the architecture and draws the weights anew.
        class_weights: see `class_weights`.
        licence: of the weights, for the model card.
    """

    checkpoint: str
    revision: str | None = None
    max_length: int = 128
    pretrained: bool = True
    class_weights: Any = None
    licence: str | None = None
    kind: ClassVar[Literal["network"]] = "network"

    def __post_init__(self) -> None:
        _check_length(self.max_length)

    def load_processor(self) -> Any:
        return load_tokenizer(self.checkpoint, self.revision)

    def preprocess(self, batch: dict[str, list], processor: Any) -> dict[str, list]:
        return encode_texts(batch["text"], processor, self.max_length)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification

        labels = name_labels(label_names)
        if self.pretrained:
            model = load_pretrained(
                AutoModelForSequenceClassification,
                self.checkpoint,
                self.revision,
                INSTEAD,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a head for other labels is replaced
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

    def build_collator(self, processor: Any) -> Any:
        """Rows -> padded int64 `input_ids` and `attention_mask` `[batch, longest]`, `labels` `[batch]` where given."""
        import torch

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            longest = max(len(row["input_ids"]) for row in rows)
            ids = torch.full((len(rows), longest), processor.pad_token_id, dtype=torch.long)
            mask = torch.zeros((len(rows), longest), dtype=torch.long)
            for i, row in enumerate(rows):
                ids[i, : len(row["input_ids"])] = torch.as_tensor(row["input_ids"])
                mask[i, : len(row["input_ids"])] = 1
            batch = {"input_ids": ids, "attention_mask": mask}
            if "labels" in rows[0]:
                batch["labels"] = torch.tensor([row["labels"] for row in rows])
            return batch

        return collate

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
    ) -> Any:
        """A `CommandTrainer` over the encoded `dataset` (train, validation)."""
        import torch

        from voicecommand.trainer import CommandTrainer
        from voicecommand.tuning import train_seen_rows

        weights = class_weights(self.class_weights, dataset["train"]["labels"], label_names)
        model = tuning.prepare(model)
        train_seen_rows(model, _seen_tokens(dataset["train"], processor))
        return CommandTrainer(
            model=model,
            args=args,
            train_dataset=dataset["train"],
            eval_dataset=dataset["validation"],
            data_collator=self.build_collator(processor),
            processing_class=processor,
            compute_metrics=self.build_metrics(label_names),
            callbacks=callbacks,
            tuning=tuning,
            class_weights=None if weights is None else torch.from_numpy(weights),
        )


def _seen_tokens(train: Any, processor: Any) -> Any:
    """Sorted ids of the tokens in train and of the padding, int64 `[seen]`."""
    import torch

    column = train.data.column("input_ids").combine_chunks()
    ids = np.unique(column.flatten().to_numpy(zero_copy_only=False))
    return torch.from_numpy(np.union1d(ids, [processor.pad_token_id]).astype(np.int64))


@dataclass(frozen=True)
class TfidfSvm(LinearClassification, _TextTask):
    """Word and character TF-IDF with a linear support vector machine (Joachims 1998), in scikit-learn.

    Args:
        word_ngrams, character_ngrams: (shortest, longest) n-gram.
        C: inverse strength of the regularisation.
        class_weights: see `class_weights`.
    """

    word_ngrams: tuple[int, int] = (1, 2)
    character_ngrams: tuple[int, int] = (2, 5)
    C: float = 1.0
    class_weights: Any = None
    kind: ClassVar[Literal["tfidf"]] = "tfidf"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("word_ngrams", "character_ngrams"):
            lengths = getattr(self, name)
            if not all(isinstance(n, int) for n in lengths) or len(lengths) != 2 or not 1 <= lengths[0] <= lengths[1]:
                raise InputError(f"model.{name}={list(lengths)}: give [shortest, longest], whole numbers from 1")

    def load_processor(self) -> None:
        return None

    def preprocess(self, batch: dict[str, list], processor: Any) -> dict[str, list]:
        """Texts as they are; `length` in characters. Nothing is ever cut."""
        texts = batch["text"]
        return {"text": texts, "length": [len(text) for text in texts], "truncated": [False] * len(texts)}

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from voicecommand.estimators import TfidfFeatures

        return TfidfFeatures(self.word_ngrams, self.character_ngrams)


@dataclass(frozen=True)
class EmbeddingSvm(LinearClassification, _TextTask):
    """A frozen pretrained encoder, the mean of its token vectors, and a linear support vector machine.

    Args:
        checkpoint, revision, max_length, licence: as for `TextClassification`.
        C, class_weights: as for `TfidfSvm`.
    """

    checkpoint: str
    revision: str | None = None
    max_length: int = 128
    C: float = 1.0
    class_weights: Any = None
    licence: str | None = None
    kind: ClassVar[Literal["embedding"]] = "embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_length(self.max_length)

    def load_processor(self) -> Any:
        return load_tokenizer(self.checkpoint, self.revision)

    def preprocess(self, batch: dict[str, list], processor: Any) -> dict[str, list]:
        return encode_texts(batch["text"], processor, self.max_length)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        import torch
        from transformers import AutoModel

        from voicecommand.estimators import EncoderFeatures

        encoder = load_pretrained(
            AutoModel, self.checkpoint, self.revision, INSTEAD, dtype=torch.float32, use_safetensors=True
        )
        check_positions(self.max_length, processor, encoder.config)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return EncoderFeatures(encoder, processor)
