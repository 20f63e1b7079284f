"""A recogniser that is confined to a grammar writes its sentences, in every way that they can be written."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from voicecommand.data.grammar.grammar import Grammar
from voicecommand.data.grammar.reading import read_grammar
from voicecommand.data.grammar.sampling import sample
from voicecommand.models.confined import Confinement, spell, unknown_words

GRAMMAR = """
expressions:
  order: "<ask> (a | an) {size} {drink} [at {time}]"
  stop: "stop the music"
slots:
  size: [small, twelve ounce]
  drink: [latte, flat white, white]
  time: [seven thirty, seven]
rules: {ask: "(can I get | I'd like)"}
"""


@pytest.fixture(scope="module")
def tokenizer(checkpoints: dict[str, Path]) -> Any:
    """A small byte-level BPE, as Whisper has; its end is also the unknown token."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoints["gpt2"])


@pytest.fixture
def grammar(tmp_path: Path) -> Grammar:
    (tmp_path / "g.yaml").write_text(GRAMMAR)
    return read_grammar(tmp_path / "g.yaml")


def can_write(confinement: Confinement, tokens: list[int], end: int) -> bool:
    """Whether a text, which ends there, may be written token by token."""
    for number, token in enumerate([*tokens, end]):
        if token not in confinement.allowed(0, torch.tensor([9, *tokens[:number]])):
            return False
    return True


@pytest.mark.parametrize(
    ("text", "is_sentence"),
    [
        (" Can I get a twelve ounce latte?", True),
        (" can i get a 12-ounce latte", True),
        (" I'd like a small, flat-white at 7:30.", True),
        (" I'D like a Small Flat White at seven thirty!", False),
        (" I'd like a small White at seven", True),
        (" Stop the music.", True),
        (" Stop the music", True),
        (" Stop the", False),
        (" Stop the musical", False),
        (" Can I get a 7:30 latte", False),
        (" Can I get a latte", False),
        ("", False),
    ],
)
def test_a_sentence_may_be_written_with_capitals_hyphens_digits_and_marks(
    text: str, is_sentence: bool, grammar: Grammar, tokenizer: Any
) -> None:
    confinement = Confinement(grammar, tokenizer, prefix=1)
    assert can_write(confinement, list(spell(tokenizer, text)), tokenizer.eos_token_id) == is_sentence


def test_whatever_is_written_is_a_sentence_and_every_sentence_can_be_written(grammar: Grammar, tokenizer: Any) -> None:
    confinement = Confinement(grammar, tokenizer, prefix=2)
    draws, texts = random.Random(0), set()
    for _ in range(300):
        written = [9, 9]
        while written[-1] != tokenizer.eos_token_id:
            written.append(draws.choice(confinement.allowed(0, torch.tensor(written))))
        assert confinement.allowed(0, torch.tensor(written)) == [tokenizer.eos_token_id]
        parse = grammar.parse(tokenizer.decode(written[2:-1]))
        assert parse is not None, tokenizer.decode(written[2:-1])
        texts.add(parse.transcript)
    assert len(texts) > 20
    for sentence in sample(grammar, grammar.count()[0]):
        assert can_write(Confinement(grammar, tokenizer, 1), list(spell(tokenizer, f" {sentence.text}")), 0)


def test_two_words_that_are_written_the_same_are_both_followed(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "g.yaml").write_text("expressions: {a: '(one hundred | a hundred) (b | c)', b: 'one hundred d'}")
    confinement = Confinement(read_grammar(tmp_path / "g.yaml"), tokenizer, prefix=1)
    for text in (" 100 b", " 100 c", " 100 d", " a hundred b"):
        assert can_write(confinement, list(spell(tokenizer, text)), 0)
    assert not can_write(confinement, list(spell(tokenizer, " a hundred d")), 0)


def test_a_million_sentences_are_not_made(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "g.yaml").write_text("expressions: {a: '" + "(light | lamp) [now] " * 20 + "go'}")
    confinement = Confinement(read_grammar(tmp_path / "g.yaml"), tokenizer, prefix=1)
    assert can_write(confinement, list(spell(tokenizer, " light lamp now" + " lamp" * 18 + " go.")), 0)
    assert len(confinement.tokens._states) < 2_000


def test_words_that_a_tokenizer_can_not_write_are_named(
    tmp_path: Path, tokenizer: Any, checkpoints: dict[str, Path]
) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "g.yaml").write_text("expressions: {a: 'mix a light one'}")
    grammar = read_grammar(tmp_path / "g.yaml")
    assert unknown_words(grammar, tokenizer) == []
    letters = AutoTokenizer.from_pretrained(checkpoints["bert_cased"])  # its sentences have no x
    assert unknown_words(grammar, letters) == ["mix"]


@pytest.mark.parametrize("beams", [1, 3])
def test_the_stock_generate_writes_sentences_only(beams: int, grammar: Grammar, tokenizer: Any) -> None:
    from transformers import GenerationMixin, WhisperConfig, WhisperForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 1}
    size = {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 10,
    }  # fmt: skip
    config = WhisperConfig(vocab_size=len(tokenizer), **size, **ends, suppress_tokens=[], begin_suppress_tokens=None)
    model = WhisperForConditionalGeneration(config).eval()
    confinement = Confinement(grammar, tokenizer, prefix=1)
    texts = GenerationMixin.generate(
        model,
        encoder_outputs=BaseModelOutput(torch.randn(4, 10, 16)),
        decoder_input_ids=torch.ones(4, 1, dtype=torch.long),
        prefix_allowed_tokens_fn=confinement.allowed,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=80,
    )
    for text in tokenizer.batch_decode(texts[:, 1:], skip_special_tokens=True):
        assert grammar.parse(text) is not None, text
