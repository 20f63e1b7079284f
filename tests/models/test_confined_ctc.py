"""Sentences of a grammar from the frames of a CTC head; likelihoods are compared with those of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from voicecommand.data.grammar.grammar import Grammar
from voicecommand.data.grammar.reading import read_grammar
from voicecommand.data.grammar.sampling import sample
from voicecommand.models.confined import WORDS, TokenAutomaton
from voicecommand.models.confined_ctc import search_frames

LETTERS = "_abcdefghijklmnopqrstuvwxyz' "  # the first is the blank


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Grammar, TokenAutomaton]:
    path = tmp_path / "g.yaml"
    path.write_text("expressions: {a: '[see] {thing} (off | on) [now]'}\nslots: {thing: [lamp, lamps, bee, twelve]}")
    grammar = read_grammar(path)
    return grammar, TokenAutomaton(grammar, lambda text: tuple(map(LETTERS.find, text)), WORDS)


def write(numbers: tuple[int, ...]) -> str:
    return "".join(LETTERS[number] for number in numbers)


def likelihood(log_probs: torch.Tensor, text: str) -> float:
    labels = torch.tensor([[LETTERS.find(letter) for letter in text]])
    length, frames = torch.tensor([len(text)]), torch.tensor([len(log_probs)])
    return -float(functional.ctc_loss(log_probs[:, None], labels, frames, length, reduction="none"))


def test_with_all_beginnings_followed_the_likelihoods_are_those_of_ctc(tokens: tuple[Grammar, TokenAutomaton]) -> None:
    grammar, automaton = tokens
    texts = sorted(sentence.text for sentence in sample(grammar, grammar.count()[0]))
    for seed in range(3):
        log_probs = torch.randn(24, len(LETTERS), generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
        found = search_frames(log_probs, automaton, blank=0, beams=10_000)
        assert sorted(write(text) for text, _ in found) == texts
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        for text, score in found:
            assert score == pytest.approx(likelihood(log_probs, write(text)), abs=1e-3)


def test_what_is_heard_is_written_and_what_is_no_sentence_becomes_the_nearest(
    tokens: tuple[Grammar, TokenAutomaton],
) -> None:
    for heard, expected in (("se_e  laammp__s  of_f", "see lamps off"), ("be_e om n_oow", "bee on now")):
        log_probs = torch.full((len(heard), len(LETTERS)), -6.0)
        log_probs[range(len(heard)), [LETTERS.find(letter) for letter in heard]] = 0.0
        found = search_frames(log_probs.log_softmax(-1), tokens[1], blank=0, beams=8)
        assert write(found[0][0]) == expected and len(found) <= 8


def test_a_clip_that_is_too_short_for_any_sentence_gives_none(tokens: tuple[Grammar, TokenAutomaton]) -> None:
    assert search_frames(torch.zeros(3, len(LETTERS)).log_softmax(-1), tokens[1], blank=0, beams=8) == []
