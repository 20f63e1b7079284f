"""What a recogniser may write if it knows a grammar: the tokens that may follow those that are written.

A sentence can be written in several ways, and the recogniser chooses: each word with or without a capital, after a
space, a hyphen or a comma; numbers in words or digits; a mark at the end or none. So the habits of its training text do
not count against a sentence, whether it was trained on subtitles or tuned on bare words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from voicecommand.data.grammar.automaton import State
from voicecommand.data.grammar.grammar import Grammar
from voicecommand.data.grammar.numbers import written_forms

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

Tokens = tuple[int, ...]
Spell = Callable[[str], Tokens]
FINISHED: State = -1  # the state after the last mark
MAX_KEPT = 100_000  # beginnings of texts whose states are remembered


@dataclass(frozen=True)
class Habits:
    """The ways in which a recogniser may write words.

    Attributes:
        first: what stands before the first word.
        between: what may stand before another word.
        after: what may stand after the last.
        with_capitals: whether a word may begin with a capital.
        with_digits: whether numbers may be in digits.
    """

    first: str
    between: tuple[str, ...]
    after: tuple[str, ...]
    with_capitals: bool
    with_digits: bool


TEXT = Habits(" ", (" ", "-", ", "), ("", ".", "?", "!"), with_capitals=True, with_digits=True)
WORDS = Habits("", (" ",), ("",), with_capitals=False, with_digits=False)


class TokenAutomaton:
    """The states of a grammar from token to token; made when they are reached, and kept.

    Args:
        grammar: what may be said.
        spell: the tokens of a piece of text, such as " Latte", "-ounce" or "."; empty if it can't be written.
        habits: which pieces may follow each other.

    Attributes:
        start: the state before the first token.
    """

    def __init__(self, grammar: Grammar, spell: Spell, habits: Habits = TEXT) -> None:
        self._words = grammar.automaton
        self._spell, self._habits = spell, habits
        self._spelt: dict[str, Tokens] = {}
        self._pieces: dict[State, set[tuple[Tokens, State]]] = {}
        # A state is what may come: the tokens to the end of a piece, and the state of the grammar after it.
        self._numbers: dict[frozenset[tuple[Tokens, State]], int] = {}
        self._states: list[frozenset[tuple[Tokens, State]]] = []
        self._arcs: dict[int, tuple[dict[int, int], bool]] = {}
        self.start = self._number({((), self._words.start)})

    def arcs(self, state: int) -> dict[int, int]:
        """The tokens that may follow, each with the state after it."""
        return self._expand(state)[0]

    def is_final(self, state: int) -> bool:
        """Whether the text may end here."""
        return self._expand(state)[1]

    def _expand(self, state: int) -> tuple[dict[int, int], bool]:
        if state not in self._arcs:
            after: dict[int, set[tuple[Tokens, State]]] = {}
            coming, is_final = set(self._states[state]), False
            waiting = list(coming)
            while waiting:
                tokens, place = waiting.pop()
                if tokens:
                    after.setdefault(tokens[0], set()).add((tokens[1:], place))
                elif place == FINISHED:
                    is_final = True
                else:
                    new = self._pieces_of(place) - coming
                    coming |= new
                    waiting += new
            self._arcs[state] = {token: self._number(after[token]) for token in sorted(after)}, is_final
        return self._arcs[state]

    def _number(self, coming: set[tuple[Tokens, State]]) -> int:
        key = frozenset(coming)
        if key not in self._numbers:
            self._numbers[key] = len(self._states)
            self._states.append(key)
        return self._numbers[key]

    def _pieces_of(self, place: State) -> set[tuple[Tokens, State]]:
        """The pieces of text that may follow a state of the grammar, each with the state after it."""
        if place not in self._pieces:
            found = {(self._tokens(mark), FINISHED) for mark in self._habits.after if self._words.is_final(place)}
            befores = (self._habits.first,) if place == self._words.start else self._habits.between
            for text, after in self._texts_of(place):
                found |= {(self._tokens(before + text), after) for before in befores}
            self._pieces[place] = {(tokens, after) for tokens, after in found if tokens or after == FINISHED}
        return self._pieces[place]

    def _texts_of(self, place: State) -> Iterator[tuple[str, State]]:
        """The next word as it may be written, or the next words that are one number, with the state after them."""
        for word, after in self._words.arcs(place).items():
            yield word, after
            if self._habits.with_capitals:
                yield word[:1].upper() + word[1:], after
        waiting: list[tuple[tuple[str, ...], State]] = [((), place)] if self._habits.with_digits else []
        while waiting:
            words, here = waiting.pop()
            for word, after in self._words.arcs(here).items():
                longer = (*words, word)
                if longer in _beginnings():
                    waiting.append((longer, after))
                    yield from ((digits, after) for digits in written_forms().get(longer, ()))

    def _tokens(self, text: str) -> Tokens:
        if text not in self._spelt:
            self._spelt[text] = self._spell(text) if text else ()
        return self._spelt[text]


@cache
def _beginnings() -> frozenset[tuple[str, ...]]:
    """What a number in words may begin with."""
    return frozenset(words[:count] for words in written_forms() for count in range(1, len(words) + 1))


class Confinement:
    """The `prefix_allowed_tokens_fn` of `generate` that lets a recogniser write sentences of a grammar only.

    Args:
        grammar: what may be said.
        tokenizer: of the recogniser; its tokens divide a text at spaces, as those of Whisper do.
        prefix: how many tokens every text begins with: the start, and those of language and task.
    """

    def __init__(self, grammar: Grammar, tokenizer: PreTrainedTokenizerBase, prefix: int) -> None:
        self.grammar = grammar
        self.tokens = TokenAutomaton(grammar, lambda text: spell(tokenizer, text))
        self._prefix = prefix
        self.end: Any = tokenizer.eos_token_id
        self._known: dict[Tokens, int | None] = {}

    def allowed(self, batch_id: int, input_ids: Tensor) -> list[int]:
        """The tokens that may follow a text, int64 `[n]` with its prefix; after the end only the end."""
        state = self._state(tuple(input_ids.tolist()[self._prefix :]))
        if state is None:
            return [self.end]
        tokens = list(self.tokens.arcs(state))
        return [*tokens, self.end] if self.tokens.is_final(state) else tokens

    def _state(self, written: Tokens) -> int | None:
        """The state after some tokens; None after the end."""
        if not written:
            return self.tokens.start
        if written not in self._known:
            if len(self._known) > MAX_KEPT:
                self._known.clear()
            before = self._state(written[:-1])
            self._known[written] = None if before is None else self.tokens.arcs(before).get(written[-1])
        return self._known[written]


def spell(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The tokens of a piece of text; empty if the tokenizer has none for a part of it."""
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (
        () if tokenizer.unk_token_id in tokens and tokenizer.unk_token_id != tokenizer.eos_token_id else tuple(tokens)
    )


def unknown_words(grammar: Grammar, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The words of a grammar that a tokenizer can't write."""
    return [word for word in grammar.words if not spell(tokenizer, f" {word}")]


@dataclass(frozen=True)
class Written:
    """A sentence that was written.

    Attributes:
        tokens: after the prefix, with the end.
        score: the log-likelihood of the tokens.
    """

    tokens: Tokens
    score: float


@torch.inference_mode()
def search(model: Any, encoded: Tensor, prefix: Sequence[int], confinement: Confinement, beams: int) -> list[Written]:
    """The most likely sentences of one clip, best first, each in one of its spellings; none if no sentence can end.

    A beam search over the likelihoods of all tokens, not only of those that are allowed, so that scores can be compared
    with those of a free text. It ends when nothing that is open can become one of the best.

    Args:
        model: an encoder-decoder network, in eval mode.
        encoded: the encoder's output, `[frames, width]`.
        prefix: the tokens that every text begins with.
        beams: how many beginnings are followed; 1 is greedy. So many sentences are returned at most.
    """
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    tokens, end, device = confinement.tokens, confinement.end, encoded.device
    state = BaseModelOutput(last_hidden_state=encoded[None])
    cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
    given = torch.tensor([list(prefix)], device=device)
    open_: list[tuple[float, Tokens, int]] = [(0.0, (), tokens.start)]
    finished: list[Written] = []
    heard: list[tuple[Tensor, Tensor]] = []
    while len(prefix) + len(open_[0][1]) < model.config.max_target_positions:
        output = model(encoder_outputs=state, decoder_input_ids=given, past_key_values=cache, use_cache=True)
        likelihoods = output.logits[:, -1].float().log_softmax(-1).cpu()
        following: list[tuple[float, int, int, int]] = []
        for row, (score, written, place) in enumerate(open_):
            arcs = tokens.arcs(place)
            values = likelihoods[row, list(arcs)].tolist()
            following += [(score + v, row, t, after) for v, (t, after) in zip(values, arcs.items(), strict=True)]
            if tokens.is_final(place):
                finished.append(Written((*written, end), score + float(likelihoods[row, end])))
        finished = sorted(finished, key=lambda found: -found.score)[:beams]
        following = sorted(following, key=lambda step: (-step[0], step[1:3]))[:beams]
        if len(finished) == beams:
            following = [step for step in following if step[0] > finished[-1].score]
        if not following:
            break
        rows = torch.tensor([row for _, row, _, _ in following], device=device)
        open_ = [(score, (*open_[row][1], token), after) for score, row, token, after in following]
        given = torch.tensor([[token] for _, _, token, _ in following], device=device)
        heard = heard or [(layer.keys, layer.values) for layer in cache.cross_attention_cache.layers]
        cache.self_attention_cache.reorder_cache(rows)
        for layer, (keys, values) in zip(cache.cross_attention_cache.layers, heard, strict=True):
            # all beams hear the same clip: views of one row, where `reorder_cache` would copy it
            layer.keys, layer.values = (each.expand(len(rows), -1, -1, -1) for each in (keys, values))
    return finished
