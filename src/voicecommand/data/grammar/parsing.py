"""What a text means by a grammar: every way to read it, for a limited number of meanings."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

from voicecommand.data.grammar.automaton import Networks
from voicecommand.data.grammar.text import tokens_of

MEANINGS = 8  # kept for each place; more are as ambiguous as these


@dataclass(frozen=True)
class SlotValue:
    """A slot of a sentence.

    Attributes:
        name: of the slot in the expression.
        value: as the grammar has it.
        start, end: the characters of the text that say it.
    """

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class Reading:
    """One way to read a text: what its network means, its slots, and its words as the grammar has them."""

    meaning: object
    slots: tuple[SlotValue, ...]
    words: tuple[str, ...]


class Lattice:
    """The words of a text between numbered places; a number in digits has several ways from its start to its end.

    Attributes:
        arcs: place -> (word, next place).
        starts: place -> the character at which a slot begins that begins there.
        ends: place -> the character at which one ends that ends there.
        last: the place after the last word.
    """

    def __init__(self, text: str) -> None:
        self.arcs: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self.starts, self.ends, self.last = {0: 0}, {0: 0}, 0
        for token in tokens_of(text):
            begin, free = self.last, self.last + 1
            self.starts[begin] = token.start
            self.last = begin + 1 + sum(len(words) - 1 for words in token.ways)
            for words in token.ways:
                place = begin
                for number, word in enumerate(words):
                    target = self.last if number == len(words) - 1 else free
                    free += target == free
                    self.arcs[place].append((word, target))
                    self.starts[target], self.ends[target] = token.start, token.end
                    place = target


class Reader:
    """Reads one text.

    Args:
        networks: of the grammar.
        text: in any case and punctuation; numbers may be in digits.
    """

    def __init__(self, networks: Networks, text: str) -> None:
        self._networks = networks
        self._lattice = Lattice(text)
        self._known: dict[tuple[int, int], dict[int, list[Reading]]] = {}

    def read(self) -> list[Reading]:
        """The readings of the whole text, in the order of the grammar."""
        return self._read(self._networks.top, 0).get(self._lattice.last, [])

    def _read(self, network: int, begin: int) -> dict[int, list[Reading]]:
        """What a network can mean from a place on, by the place at which it ends."""
        if (network, begin) in self._known:
            return self._known[network, begin]
        nodes, lattice = self._networks, self._lattice
        found: dict[int, list[Reading]] = defaultdict(list)
        cells = {(begin, nodes.starts[network]): [Reading(None, (), ())]}
        # an arc leads to a later place, or to a higher node of the same place
        waiting = list(cells)

        def go(place: int, node: int, readings: list[Reading]) -> None:
            if (place, node) not in cells:
                cells[place, node] = []
                heapq.heappush(waiting, (place, node))
            _merge(cells[place, node], readings)

        while waiting:
            place, node = heapq.heappop(waiting)
            before = cells.pop((place, node))
            if node in nodes.ends:
                _merge(found[place], [Reading(nodes.ends[node], r.slots, r.words) for r in before])
            for target in nodes.skips[node]:
                go(place, target, before)
            for word, after in lattice.arcs.get(place, ()) if nodes.words[node] else ():
                for target in nodes.words[node].get(word, ()):
                    go(after, target, [Reading(None, r.slots, (*r.words, word)) for r in before])
            for call in nodes.calls[node]:
                for after, inner in self._read(call.network, place).items():
                    go(after, call.target, self._join(before, inner, call.slot, place, after))
        self._known[network, begin] = found
        return found

    def _join(
        self, before: list[Reading], inner: list[Reading], slot: str | None, place: int, after: int
    ) -> list[Reading]:
        joined = []
        for first in before:
            for second in inner:
                slots = second.slots
                if slot is not None:
                    span = (self._lattice.starts[place], self._lattice.ends[after])
                    slots = (SlotValue(slot, str(second.meaning), *span),)
                joined.append(Reading(None, first.slots + slots, first.words + second.words))
        return joined


def _merge(known: list[Reading], new: list[Reading]) -> None:
    """Add the readings that mean something else than those that are known, up to the limit."""
    meanings = {(reading.meaning, reading.slots) for reading in known}
    for reading in new:
        if len(known) < MEANINGS and (reading.meaning, reading.slots) not in meanings:
            meanings.add((reading.meaning, reading.slots))
            known.append(reading)
