"""Sentences of a grammar, drawn so that few of them already have every value and every option."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.grammar import Expression, Grammar, Value
from voicecommand.data.grammar.parsing import SlotValue
from voicecommand.data.grammar.text import words_of
from voicecommand.errors import InputError

TRIES = 20  # draws for each sentence before the rest is made one after the other


@dataclass(frozen=True)
class Sentence:
    """A sentence with its meaning.

    Attributes:
        text: as the expression has it, with its case and punctuation.
        slots: in the order of the text, with their characters in it.
    """

    text: str
    slots: tuple[SlotValue, ...]
    expression: Expression

    @property
    def label(self) -> str:
        """Of its expression."""
        return self.expression.label

    @property
    def values(self) -> dict[str, str]:
        """Slot -> value."""
        return {slot.name: slot.value for slot in self.slots}


def draw(grammar: Grammar, seed: int = 0, split: str = "") -> Iterator[Sentence]:
    """Sentences without end, as `sample` draws them; some of them again."""
    draws = _Draws(grammar, seed, split)
    of_label = {label: [e for e in grammar.expressions if e.label == label] for label in grammar.labels}
    labels = list(of_label)
    while True:
        label = labels[draws.next("", len(labels))]
        expression = of_label[label][draws.next(("label", label), len(of_label[label]))]
        yield _render(expression, draws.pieces(expression.body))


def sample(grammar: Grammar, count: int, seed: int = 0, split: str = "", known: Iterable[str] = ()) -> list[Sentence]:
    """Sentences of different words.

    Each label is drawn equally often, so is each expression of a label, each option of a choice and each value of a
    slot: all of one are drawn, in a new order, before one of them is drawn again.

    Args:
        count: of sentences.
        seed: the same seed gives the same sentences on every machine.
        split: "train" or "test" leaves out the values that belong to the other one.
        known: texts that are not wanted.

    Raises:
        InputError: the grammar has fewer sentences.
    """
    drawn: dict[str, Sentence] = {}
    seen = {" ".join(words_of(text)) for text in known}
    first = islice(draw(grammar, seed, split), TRIES * count)
    rest = islice(_all_sentences(grammar, split), 100 * count + 10_000)
    for sentence in chain(first, rest):
        if len(drawn) == count:
            break
        if (words := " ".join(words_of(sentence.text))) not in seen:
            drawn.setdefault(words, sentence)
    if len(drawn) < count:
        raise InputError(f"{count:,} different sentences were asked for, and the grammar has only {len(drawn):,}")
    return list(drawn.values())


class _Draws:
    """Draws of each option in turn. Orders are from sha256, so that they are the same everywhere."""

    def __init__(self, grammar: Grammar, seed: int, split: str) -> None:
        self._grammar, self._seed, self._split = grammar, seed, split
        self._orders: dict[object, tuple[int, int, list[int]]] = {}  # key -> number of the deck, of the round, the rest

    def next(self, key: object, options: int) -> int:
        """The number of an option that is not drawn yet in this round."""
        number, turn, order = self._orders.get(key, (len(self._orders), 0, []))
        if not order:
            turn += 1
            name = f"{self._seed}/{number}/{turn}"
            order = sorted(range(options), key=lambda n: hashlib.sha256(f"{name}/{n}".encode()).digest())
        chosen = order.pop()
        self._orders[key] = (number, turn, order)
        return chosen

    def pieces(self, node: tree.Node) -> list[_Piece]:
        """What a part says this time."""
        if isinstance(node, tree.Text):
            return [node]
        if isinstance(node, tree.Sequence):
            return [piece for part in node.parts for piece in self.pieces(part)]
        if isinstance(node, tree.Choice):
            return self.pieces(node.options[self.next(node, len(node.options))])
        if isinstance(node, tree.Rule):
            return self.pieces(self._grammar.rules[node.name].body)
        values = _values_of(self._grammar, node.kind, self._split)
        value = values[self.next(("slot", node.kind), len(values))]
        return [(node.name, value, self.pieces(value.ways[self.next(value, len(value.ways))]))]


_Piece = tree.Text | tuple[str, Value, "list[_Piece]"]


def _values_of(grammar: Grammar, kind: str, split: str) -> Sequence[Value]:
    """The values of a slot in a split; all of them if none is for it."""
    values = grammar.slots[kind]
    return [value for value in values if not split or value.split in ("", split)] or values


def _all_sentences(grammar: Grammar, split: str) -> Iterator[Sentence]:
    """Every sentence, one after the other; one that can be built in two ways is there twice."""

    def every(node: tree.Node) -> Iterator[list[_Piece]]:
        if isinstance(node, tree.Text):
            yield [node]
        elif isinstance(node, tree.Choice):
            for option in node.options:
                yield from every(option)
        elif isinstance(node, tree.Rule):
            yield from every(grammar.rules[node.name].body)
        elif isinstance(node, tree.Slot):
            for value in _values_of(grammar, node.kind, split):
                for way in value.ways:
                    for pieces in every(way):
                        yield [(node.name, value, pieces)]
        elif node.parts:
            rest = tree.Sequence(node.parts[1:])
            yield from (first + after for first in every(node.parts[0]) for after in every(rest))
        else:
            yield []

    for expression in grammar.expressions:
        for pieces in every(expression.body):
            yield _render(expression, pieces)


def _render(expression: Expression, pieces: Sequence[_Piece]) -> Sentence:
    """The text of the pieces, with the places of the slots in it."""
    text, slots = "", list[SlotValue]()

    def add(piece: _Piece) -> None:
        nonlocal text
        if isinstance(piece, tree.Text):
            text += ("" if not text or piece.glued else " ") + piece.written
        else:
            name, value, inner = piece
            start = len(text) + bool(text)
            for each in inner:
                add(each)
            slots.append(SlotValue(name, value.text, start, len(text)))

    for piece in pieces:
        add(piece)
    return Sentence(text, tuple(slots), expression)
