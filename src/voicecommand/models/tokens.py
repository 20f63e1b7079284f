"""Tokenizers, and texts as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from voicecommand.errors import InputError
from voicecommand.models.pretrained import has_vocabulary, load_pretrained, public_name

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

INSTEAD = "use model=bert (its weights come as a package) or model.checkpoint=DIR with a saved copy"


def load_tokenizer(checkpoint: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, which pads on the right, and always has a padding token.

    Raises:
        InputError: there is no such checkpoint, or it has no tokenizer files.
    """
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, checkpoint, revision, INSTEAD)
    if not has_vocabulary(tokenizer):
        raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: it has no tokenizer files")
    tokenizer.name_or_path = public_name(checkpoint)
    if tokenizer.pad_token is None:  # as of GPT-2; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def check_positions(max_length: int, processor: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Check that the checkpoint has positions for a length.

    Raises:
        InputError: it has fewer.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and min(max_length, processor.model_max_length) > positions:
        raise InputError(f"model.max_length={max_length}: the checkpoint reads {positions} tokens at most")


def check_vocabulary(processor: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Check that a saved network has a vector for each token of its tokenizer.

    Raises:
        ValueError: it has fewer.
    """
    vectors = cast("Tensor", model.get_input_embeddings().weight).shape[0]
    if len(processor) > vectors:
        raise ValueError(f"the tokenizer is another one: it has {len(processor)} tokens, the network {vectors}")


def encode_texts(texts: list[str], processor: PreTrainedTokenizerBase, max_length: int) -> dict[str, list]:
    """Texts -> `input_ids` (cut to max_length tokens), `length` in tokens, `truncated`: whether it was cut, and
    `unknown`: how many of its tokens stand for text that the tokenizer does not know."""
    settings = {"return_attention_mask": False, "return_token_type_ids": False}
    ids = processor(texts, **settings)["input_ids"]
    limit = min(max_length, processor.model_max_length)
    cut = [len(row) > limit for row in ids]
    if any(cut):
        ids = processor(texts, truncation=True, max_length=limit, **settings)["input_ids"]
    unknown = processor.unk_token_id
    if unknown in (processor.bos_token_id, processor.eos_token_id, processor.cls_token_id, processor.pad_token_id):
        unknown = None  # such a tokenizer, as that of GPT-2, works on bytes and knows everything
    counts = [0 if unknown is None else row.count(unknown) for row in ids]
    return {"input_ids": ids, "length": [len(row) for row in ids], "truncated": cut, "unknown": counts}


def seen_tokens(train: Dataset, processor: PreTrainedTokenizerBase) -> Tensor:
    """Sorted ids of the tokens in train and of the padding, int64 `[seen]`."""
    import torch

    column = train.with_format("arrow")["input_ids"][:]  # of the selected rows only, which `train.data` is not
    ids = np.unique(column.combine_chunks().flatten().to_numpy(zero_copy_only=False))
    return torch.from_numpy(np.union1d(ids, [processor.pad_token_id]).astype(np.int64))
