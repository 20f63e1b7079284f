"""Text classification: the label of a written (or recognised) command.

Three ways to do it, one shape: `TextClassification` tunes a pretrained network, `TfidfSvm` is the traditional
way, `EmbeddingSvm` the hybrid one. conf/model/ names one of them and fills its fields.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from voicecommand.errors import InputError

logger = logging.getLogger(__name__)

OFFLINE_HELP = "use model=bert (its weights come as a package) or model.checkpoint=DIR with a saved copy"


def resolve_checkpoint(checkpoint: str) -> str:
    """Where the weights are: a hub id or a directory as given, `package://NAME/PATH` as a directory in a package.

    The package is found, never imported.

    Raises:
        InputError: the package is not installed, or has no such directory.
    """
    if not checkpoint.startswith("package://"):
        if checkpoint.startswith((".", "/", "~")) and not Path(checkpoint).expanduser().is_dir():
            raise InputError(f"model.checkpoint={checkpoint}: no such directory")
        return str(Path(checkpoint).expanduser()) if checkpoint.startswith("~") else checkpoint
    name, _, inner = checkpoint.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} is not installed; run make setup")
    root = Path(spec.submodule_search_locations[0]).resolve()
    directory = (root / inner).resolve()
    if not directory.is_dir() or not directory.is_relative_to(root):
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} has no directory {inner!r}")
    return str(directory)


def load_pretrained(loader: Any, checkpoint: str, revision: str | None, **kwargs: Any) -> Any:
    """`loader.from_pretrained` with our rules: no remote code, and one line when the checkpoint can't be had.

    Raises:
        InputError: the hub is out of reach, or there is no such checkpoint, revision or file.
    """
    from safetensors import SafetensorError

    where = resolve_checkpoint(checkpoint)
    try:
        return loader.from_pretrained(where, revision=revision, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if not where or Path(where).is_dir():
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: {reason}") from error
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"model.checkpoint={checkpoint}{at}: not found on this machine, and the hub gave nothing"
            f" (out of reach, or no such checkpoint); {OFFLINE_HELP}"
        ) from error


def load_tokenizer(checkpoint: str, revision: str | None) -> Any:
    """The checkpoint's tokenizer, padding on the right, with a padding token in any case."""
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, checkpoint, revision)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what the library makes of a directory without its files
        raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: it has no tokenizer files")
    tokenizer.name_or_path = public_name(checkpoint)
    if tokenizer.pad_token is None:  # GPT-2 has none; padding is masked, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def public_name(checkpoint: str) -> str:
    """The name that saved files give for where the weights came from: a hub id, never a path of this machine."""
    return "" if checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir() else checkpoint


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


def class_weights(setting: Any, labels: Any, label_names: list[str]) -> np.ndarray | None:
    """Weight of each label in the loss, float32 `[labels]` with mean 1 over the training examples, or None.

    Args:
        setting: None; `auto` (inverse frequency, King and Zeng 2001); or a weight for each label by name.

    Raises:
        InputError: an unknown word, a label that is not in train or is left out, a weight that is not positive.
    """
    if setting is None or setting == "none":
        return None
    counts = np.bincount(np.asarray(labels), minlength=len(label_names))
    if setting == "auto":
        weights = counts.sum() / (len(label_names) * np.maximum(counts, 1))
    elif isinstance(setting, Mapping):
        setting = {str(name): weight for name, weight in setting.items()}
        unknown, missing = set(setting) - set(label_names), set(label_names) - set(setting)
        if unknown or missing:
            raise InputError(
                f"model.class_weights: has {sorted(setting)}, train has {label_names}; give one weight for each label"
            )
        for name, weight in setting.items():
            if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise InputError(f"model.class_weights.{name}={weight}: give a number above 0")
        weights = np.array([float(setting[name]) for name in label_names])
        weights = weights / ((weights * counts).sum() / counts.sum())
    else:
        raise InputError(f"model.class_weights={setting}: give auto, none, or label: weight pairs")
    return weights.astype(np.float32)


def _check_length(max_length: Any) -> None:
    if not isinstance(max_length, int) or max_length < 3:
        raise InputError(f"model.max_length={max_length}: give at least 3 tokens")


@dataclass(frozen=True)
class _TextTask:
    """What the three ways share."""

    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    name: ClassVar[str] = "text_classification"

    def build_metrics(self, label_names: list[str]) -> Any:
        """Scalars for Trainer's log: `EvalPrediction` with logits `[n, labels]` -> accuracy and macro F1."""
        from voicecommand.metrics import accuracy, macro_f1

        def compute(prediction: Any) -> dict[str, float]:
            predicted = np.argmax(prediction.predictions, axis=-1)
            references = prediction.label_ids
            return {
                "accuracy": accuracy(predicted, references),
                "macro_f1": macro_f1(predicted, references, len(label_names)),
            }

        return compute

    def decode(self, predictions: np.ndarray) -> np.ndarray:
        """Logits `[n, labels]` -> probabilities `[n, labels]`, float64, rows that sum to 1."""
        logits = np.asarray(predictions, dtype=np.float64)
        logits = logits - logits.max(axis=-1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=-1, keepdims=True)


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

        labels: dict[str, Any] = {
            "num_labels": len(label_names),
            "id2label": dict(enumerate(label_names)),
            "label2id": {name: i for i, name in enumerate(label_names)},
            "problem_type": "single_label_classification",
        }
        if self.pretrained:
            model = load_pretrained(
                AutoModelForSequenceClassification,
                self.checkpoint,
                self.revision,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a head for other labels is replaced
                **labels,
            )
        else:
            config = load_pretrained(AutoConfig, self.checkpoint, self.revision, **labels)
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


class _EstimatorTask(_TextTask):
    """The ways that are fitted in one go: a feature extractor that stays as it is, then a linear classifier."""

    C: float
    class_weights: Any

    def __post_init__(self) -> None:
        if not isinstance(self.C, int | float) or not 0 < self.C < float("inf"):
            raise InputError(f"model.C={self.C}: give a number above 0")

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
    ) -> Any:
        """An `Estimator` over the encoded `dataset`; `args`, `tuning` and `callbacks` are a network's."""
        from voicecommand.estimators import Estimator

        weights = class_weights(self.class_weights, dataset["train"]["labels"], label_names)
        return Estimator(model, dataset["train"], label_names, self.C, weights, seed)


@dataclass(frozen=True)
class TfidfSvm(_EstimatorTask):
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
class EmbeddingSvm(_EstimatorTask):
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

        encoder = load_pretrained(AutoModel, self.checkpoint, self.revision, dtype=torch.float32, use_safetensors=True)
        check_positions(self.max_length, processor, encoder.config)
        encoder.name_or_path = encoder.config._name_or_path = public_name(self.checkpoint)
        return EncoderFeatures(encoder, processor)
