"""A grammar: the sentences that a device knows, each with its label and slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar import soundness
from voicecommand.data.grammar.automaton import Automaton, Networks, State
from voicecommand.data.grammar.expressions import key_of
from voicecommand.data.grammar.parsing import Reader, SlotValue
from voicecommand.data.grammar.soundness import MANY, Part
from voicecommand.data.table import quote
from voicecommand.errors import InputError

MAX_STATES = 100_000  # of the automaton, to count different sentences


@dataclass(frozen=True, eq=False)
class Expression:
    """One of the expressions of a label.

    Attributes:
        source: as it is written.
        origin: file:line.
        group: the name under which the file has it, within its label; empty if it has none.
    """

    label: str
    source: str
    body: tree.Sequence
    origin: str
    group: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    """A value of a slot.

    Attributes:
        text: the value in an answer.
        ways: what is said for it.
        origin: file:line.
        split: "train" or "test" if synthetic speech has it there only; otherwise empty.
    """

    text: str
    ways: tuple[tree.Sequence, ...]
    origin: str
    split: str = ""


@dataclass(frozen=True, eq=False)
class NamedRule:
    """What `<name>` stands for, and its file:line."""

    body: tree.Sequence
    origin: str


@dataclass(frozen=True)
class Line:
    """A text with its file:line."""

    text: str
    origin: str


@dataclass(frozen=True)
class Parse:
    """What a text means.

    Attributes:
        slots: in the order of the text, with their characters in it.
        transcript: its words, in lower case, without punctuation, numbers in words.
        expression: the first one that reads the text so.
        others: the other meanings of an ambiguous text, at most 7.
    """

    label: str
    slots: tuple[SlotValue, ...]
    transcript: str
    expression: Expression = field(repr=False)
    others: tuple[Parse, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """Slot -> value."""
        return {slot.name: slot.value for slot in self.slots}

    @property
    def meaning(self) -> tuple[object, ...]:
        """Equal for two parses with the same label and values."""
        return (self.label, *sorted(self.values.items()))


@dataclass(frozen=True, eq=False)
class Grammar:
    """The expressions of all labels, with the slots and rules that they use.

    Args:
        expressions: in the order of the file.
        slots: kind -> its values.
        rules: by name.
        responses: label -> what a device may answer.
        out_of_scope: split -> topic -> texts that are no command.

    Raises:
        InputError: an unknown slot or rule, rules in a circle, an expression that may be silent or is too long, a slot
            that a sentence may have twice.
    """

    expressions: tuple[Expression, ...]
    slots: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    rules: Mapping[str, NamedRule] = field(default_factory=dict)
    responses: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    out_of_scope: Mapping[str, Mapping[str, tuple[Line, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        soundness.refuse(list(soundness.find_misfits(self.parts, soundness.measure(self.parts))))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the file."""
        return tuple(dict.fromkeys(expression.label for expression in self.expressions))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All values, rules and expressions, each after those that it uses."""
        values = [
            Part(way, value.origin, f"{{{kind}}}")
            for kind, those in self.slots.items()
            for value in those
            for way in value.ways
        ]
        rules = [Part(rule.body, rule.origin, f"<{name}>") for name, rule in self.rules.items()]
        return tuple(soundness.put_in_order([*values, *rules, *(Part(e.body, e.origin) for e in self.expressions)]))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words, sorted."""
        nodes = (node for part in self.parts for node in tree.parts_of(part.body))
        return tuple(sorted({word for node in nodes if isinstance(node, tree.Text) for word in node.words}))

    @cached_property
    def networks(self) -> Networks:
        """The nodes and arcs of all slots, rules and expressions."""
        bodies: dict[str, list[tuple[tree.Node, object]]] = {part.key: [] for part in self.parts}
        for name, rule in self.rules.items():
            bodies[f"<{name}>"].append((rule.body, None))
        for kind, values in self.slots.items():
            bodies[f"{{{kind}}}"] += [(way, value.text) for value in values for way in value.ways]
        bodies[""] += [(expression.body, expression) for expression in self.expressions]
        return Networks(bodies)

    @cached_property
    def automaton(self) -> Automaton:
        """The states of the grammar from word to word; made when they are reached, and kept."""
        return Automaton(self.networks)

    def parse(self, text: str) -> Parse | None:
        """What a text means, or None if it is not a sentence of the grammar. Case and punctuation are ignored, numbers
        may be in digits. Of several meanings the first in the order of the file is taken, and it has the others."""
        parses: dict[tuple[object, ...], Parse] = {}
        for parse in self.read(text):
            parses.setdefault(parse.meaning, parse)
        if not parses:
            return None
        first, *others = parses.values()
        return replace(first, others=tuple(others))

    def read(self, text: str) -> list[Parse]:
        """Every way to read a text, at most 8: also by several expressions that mean the same."""
        parses = []
        for reading in Reader(self.networks, text).read():
            assert isinstance(reading.meaning, Expression)
            words = " ".join(reading.words)
            parses.append(Parse(reading.meaning.label, reading.slots, words, reading.meaning))
        return parses

    def count(self) -> tuple[int, bool]:
        """The number of different sentences, without making them, and whether it is exact.

        If the automaton has more than MAX_STATES states, it is the number of ways through the expressions instead, at
        most MANY: a sentence then counts as often as it can be built.
        """
        automaton, counts = self.automaton, dict[State, int]()
        waiting = [automaton.start]
        while waiting:
            state = waiting[-1]
            after = list(automaton.arcs(state).values())
            if missing := [other for other in after if other not in counts]:
                waiting += missing
            else:
                counts[waiting.pop()] = int(automaton.is_final(state)) + sum(counts[other] for other in after)
            if len(counts) + len(waiting) > MAX_STATES:
                sizes = zip(self.parts, soundness.measure(self.parts), strict=True)
                return min(MANY, sum(size.ways for part, size in sizes if not part.key)), False
        return counts[automaton.start], True

    def without(
        self, *, label: str | None = None, slot: str | None = None, value: str | None = None, origin: str | None = None
    ) -> Grammar:
        """The grammar without a label, a slot, a value of it, or the expressions at `origin` (file:line).

        What can't be said any more goes too: an expression that needs the slot, or one option of it.

        Raises:
            InputError: there is no such thing, or nothing is left.
        """
        slots = dict(self.slots)
        if slot is not None:
            kept = () if value is None else tuple(each for each in slots.get(slot, ()) if each.text != value)
            if slot not in slots or len(kept) == len(slots[slot]):
                what = f"slot {slot!r}" if value is None else f"value {value!r} of a slot {slot!r}"
                raise InputError(f"the grammar has no {what}; its slots are {quote(slots)}")
            slots |= {slot: kept}
        sayable = {f"{{{kind}}}" for kind, values in slots.items() if values}
        rules: dict[str, NamedRule] = {}
        for key in dict.fromkeys(part.key for part in self.parts if part.key.startswith("<")):
            rule = self.rules[key[1:-1]]
            if (body := _prune(rule.body, sayable)) is not None:
                rules[key[1:-1]] = replace(rule, body=body)
                sayable.add(key)
        expressions = [
            replace(expression, body=body)
            for expression in self.expressions
            if expression.label != label and expression.origin != origin
            if (body := _prune(expression.body, sayable)) is not None
        ]
        if not expressions:
            raise InputError("no sentence of the grammar would be left")
        if slot is None and len(expressions) == len(self.expressions):
            raise InputError(f"the grammar has no label {label!r}, or no expression at {origin}")
        slots = {kind: values for kind, values in slots.items() if values}
        return replace(self, expressions=tuple(expressions), slots=slots, rules=rules)

    def near_misses(self) -> Iterator[tuple[str, Grammar]]:
        """The grammar without each value of a slot, and without each expression, in turn, with the name of what it
        lacks: sentences that have it are out of that grammar, and near to what is in it."""
        for kind, values in self.slots.items():
            for value in values:
                yield f"{kind}={value.text}", self.without(slot=kind, value=value.text)
        for origin in dict.fromkeys(expression.origin for expression in self.expressions):
            if any(expression.origin != origin for expression in self.expressions):
                yield origin, self.without(origin=origin)


def _prune(body: tree.Sequence, sayable: set[str]) -> tree.Sequence | None:
    """What is left of a part if only these slots and rules can be said; None if it can't be said any more."""
    parts: list[tree.Node] = []
    for part in body.parts:
        kept: tree.Node | None = part
        if isinstance(part, (tree.Slot, tree.Rule)):
            kept = part if key_of(part) in sayable else None
        elif isinstance(part, tree.Sequence):
            kept = _prune(part, sayable)
        elif isinstance(part, tree.Choice):
            options = tuple(option for each in part.options if (option := _prune(each, sayable)) is not None)
            kept = tree.Choice(options) if options else None
            if options and not any(option.parts for option in options):
                continue  # of an optional part nothing is left
        if kept is None:
            return None
        parts.append(kept)
    return tree.Sequence(tuple(parts))
