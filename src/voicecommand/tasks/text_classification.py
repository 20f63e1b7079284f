"""Text classification: the label of a written (or recognised) command.

Three ways to do it, one shape: `TextClassification` tunes a pretrained network, `TfidfSvm` is the traditional
way, `EmbeddingSvm` the hybrid one. conf/model/ names one of them and fills its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from voicecommand.errors import InputError
from voicecommand.models.pretrained import load_pretrained, public_name
from voicecommand.models.tokens import INSTEAD, check_positions, encode_texts, load_tokenizer, seen_tokens
from voicecommand.tasks.classification import Classification, LinearClassification, class_weights, name_labels


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

        from voicecommand.models.embeddings import train_seen_rows
        from voicecommand.training.trainer import CommandTrainer

        weights = class_weights(self.class_weights, dataset["train"]["labels"], label_names)
        model = tuning.prepare(model)
        train_seen_rows(model, seen_tokens(dataset["train"], processor))
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
        from voicecommand.models.text_features import TfidfFeatures

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

        from voicecommand.models.text_features import EncoderFeatures

        encoder = load_pretrained(
            AutoModel, self.checkpoint, self.revision, INSTEAD, dtype=torch.float32, use_safetensors=True
        )
        check_positions(self.max_length, processor, encoder.config)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return EncoderFeatures(encoder, processor)
