"""Encoder-decoder networks that write down speech: loading, the tokens of a transcript, and the writing itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from voicecommand.errors import InputError
from voicecommand.models.families import INSTEAD, find_family, load_config, load_feature_extractor
from voicecommand.models.pretrained import load_network, load_pretrained, public_name
from voicecommand.models.tokens import load_tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, ProcessorMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

# The most tokens that an answer may have: fast speech has 7 a second, and a network that repeats itself never ends.
TOKENS_PER_SECOND, GRACE = 12, 16
MULTILINGUAL_TOKENS = (
    51_865  # the least size of the vocabulary of a Whisper of many languages; those of one have 51,864
)
# The settings of generation_config.json that we read, or that the stock class needs.
KEPT = (
    "alignment_heads", "begin_suppress_tokens", "bos_token_id", "decoder_start_token_id", "eos_token_id",
    "is_multilingual", "lang_to_id", "language", "max_initial_timestamp_index", "max_length", "no_timestamps_token_id",
    "pad_token_id", "prev_sot_token_id", "return_timestamps", "suppress_tokens", "task", "task_to_id",
)  # fmt: skip
ROWS = 16  # whose logits over the vocabulary are held at once when texts are scored


def load_recogniser_processor(
    checkpoint: str, revision: str | None, max_seconds: float, language: str
) -> ProcessorMixin:
    """A checkpoint's feature extractor, for clips of `max_seconds`, and its tokenizer, for transcripts in `language`.

    Raises:
        InputError: as `load_feature_extractor` and `load_tokenizer`; it has no decoder, or does not write the language.
    """
    import transformers

    config = load_config(checkpoint, revision, max_seconds)
    family = find_family(config)
    if not config.is_encoder_decoder or not family.recogniser_processor:
        raise InputError(
            f"model.checkpoint={checkpoint}: {family.title} has no decoder, which writes the text; use "
            "model.checkpoint=openai/whisper-tiny.en or another Whisper"
        )
    tokenizer = load_tokenizer(checkpoint, revision)
    extractor = load_feature_extractor(checkpoint, revision, max_seconds)
    _set_language(tokenizer, checkpoint, language, _is_multilingual(checkpoint, revision, config))
    build: Any = getattr(transformers, family.recogniser_processor)
    return cast("ProcessorMixin", build(feature_extractor=extractor, tokenizer=tokenizer))


def _is_multilingual(checkpoint: str, revision: str | None, config: PretrainedConfig) -> bool:
    from transformers import GenerationConfig

    try:
        found = load_pretrained(GenerationConfig, checkpoint, revision, INSTEAD)
    except InputError:  # older checkpoints have no such file
        found = None
    return bool(getattr(found, "is_multilingual", config.vocab_size >= MULTILINGUAL_TOKENS))


def _set_language(tokenizer: PreTrainedTokenizerBase, checkpoint: str, language: str, is_multilingual: bool) -> None:
    """Make the tokenizer begin transcripts as the checkpoint does: with its language, if it has several."""
    if is_multilingual:
        try:
            cast(Any, tokenizer).set_prefix_tokens(language=language, task="transcribe")
        except (ValueError, KeyError) as error:
            raise InputError(
                f"model.language={language}: {checkpoint} does not know it; give a code such as en"
            ) from error
    elif language.lower() not in ("en", "english"):
        raise InputError(
            f"model.language={language}: {checkpoint} writes English only; give model.checkpoint=openai/whisper-tiny "
            "or another one of many languages"
        )


def load_recogniser(
    checkpoint: str, revision: str | None, max_seconds: float, processor: ProcessorMixin, language: str
) -> PreTrainedModel:
    """A checkpoint with its decoder, in float32, for clips of `max_seconds`.

    Raises:
        InputError: as `load_config`, or its weights are not whole.
    """
    from transformers import AutoModelForSpeechSeq2Seq

    config = load_config(checkpoint, revision, max_seconds)
    family = find_family(config)
    settings: dict[str, Any] = {"config": config, "dtype": torch.float32}
    model = load_network(AutoModelForSpeechSeq2Seq, checkpoint, revision, INSTEAD, **settings)
    family.fit_encoder(cast(Any, model).get_encoder(), model.config, max_seconds)
    model.name_or_path = model.config._name_or_path = public_name(checkpoint)
    clean_generation(model)
    _complete(model.generation_config, model.config, cast(Any, processor).tokenizer, language)
    return model


def clean_generation(model: PreTrainedModel) -> None:
    """Keep only the settings of writing in `KEPT`, of a checkpoint that may come from anybody: others would change what
    is written, or take any amount of memory."""
    from transformers import GenerationConfig

    given = model.generation_config.to_dict()
    model.generation_config = GenerationConfig(**{name: given[name] for name in KEPT if name in given})


def _complete(generation: Any, config: PretrainedConfig, tokenizer: Any, language: str) -> None:
    """Give the settings of writing, which are saved with the model, what older checkpoints lack, and the language."""
    special = {"no_timestamps_token_id": "<|notimestamps|>", "prev_sot_token_id": "<|startofprev|>"}
    known = {
        "decoder_start_token_id": config.decoder_start_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "max_length": config.max_target_positions,
        "is_multilingual": config.vocab_size >= MULTILINGUAL_TOKENS,
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in special.items()},
    }
    for name, value in known.items():
        if getattr(generation, name, None) is None:
            setattr(generation, name, value)
    if generation.is_multilingual:
        generation.language, generation.task = language, "transcribe"
    generation.forced_decoder_ids = None  # an older way to say the same


def encode_transcripts(texts: Sequence[str], processor: ProcessorMixin) -> list[list[int]]:
    """The tokens that the decoder learns to write for each text: without the one that it starts from, with the end.

    A text begins with a space, as those that Whisper was trained on. None is cut; the network writes
    `max_target_positions` tokens at most.
    """
    tokenizer: Any = cast(Any, processor).tokenizer
    start = len(tokenizer.prefix_tokens[:1])
    return [ids[start:] for ids in tokenizer([f" {text.strip()}" for text in texts])["input_ids"]] if texts else []


def write_tokens(
    model: Any, encoded: Any, prefix: Sequence[int], seconds: Tensor, beams: int = 1
) -> tuple[Tensor, Tensor]:
    """What the decoder writes for each clip.

    Args:
        model: the network, without an adapter around it.
        encoded: the encoder's output, `last_hidden_state` `[clips, frames, width]`.
        prefix: the tokens that every text begins with.
        seconds: float `[clips]`, the length of each clip, which limits its tokens.
        beams: of the search; 1 is greedy.

    Returns:
        tokens int64 `[clips, longest]`, without the prefix, with the end, then padding; and float32 `[clips]`, the mean
        log-probability of them.
    """
    from transformers import GenerationMixin, StoppingCriteriaList

    config: GenerationConfig = copy.deepcopy(model.generation_config)
    room = model.config.max_target_positions - len(prefix)
    limits = (GRACE + TOKENS_PER_SECOND * seconds).ceil().long().clamp(max=room)
    config.max_length, config.max_new_tokens = None, int(limits.max())
    config.num_beams, config.do_sample = beams, False
    start = torch.tensor([list(prefix)], device=seconds.device).expand(len(seconds), -1)
    stop = StoppingCriteriaList([_Limit(len(prefix) + limits)])
    written = GenerationMixin.generate(
        model,
        encoder_outputs=copy.copy(encoded),
        decoder_input_ids=start,
        generation_config=config,
        stopping_criteria=stop,
    )
    tokens = cast(Tensor, written)[:, len(prefix) :]
    inside = _until_end(tokens, limits, model.config.eos_token_id)
    tokens = tokens.where(inside, model.config.pad_token_id)
    return tokens, score_tokens(model, encoded, prefix, tokens, inside)


class _Limit:
    """A criterion of `generate`: the texts of each clip end at its own length, int64 `[clips]`."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        return input_ids.shape[1] >= self.lengths.repeat_interleave(len(input_ids) // len(self.lengths))


def _until_end(tokens: Tensor, limits: Tensor, end: int) -> Tensor:
    """bool `[texts, n]`: the tokens up to the first end, and within the limit of their text."""
    before = functional.pad((tokens == end).cumsum(1), (1, 0))[:, :-1] == 0
    return before & (torch.arange(tokens.shape[1], device=tokens.device) < limits[:, None])


def score_tokens(model: Any, encoded: Any, prefix: Sequence[int], tokens: Tensor, inside: Tensor) -> Tensor:
    """The mean log-probability of each text, float32 `[texts]`.

    Args:
        tokens, inside: int64 and bool `[texts, n]`, the tokens after the prefix, and which of them count.
    """
    scores = []
    for rows in torch.arange(len(tokens), device=tokens.device).split(ROWS):
        own = tokens[rows]
        start = torch.tensor([list(prefix)], device=own.device).expand(len(own), -1)
        given = torch.cat([start, own[:, :-1]], dim=1)
        state = type(encoded)(last_hidden_state=encoded.last_hidden_state[rows])
        logits = model(encoder_outputs=state, decoder_input_ids=given, use_cache=False).logits[:, len(prefix) - 1 :]
        chosen = logits.float().log_softmax(-1).gather(-1, own[..., None])[..., 0]
        counts = inside[rows]
        scores.append((chosen * counts).sum(1) / counts.sum(1).clamp(min=1))
    return torch.cat(scores)
