"""Grammar files: our own form, the context files of Picovoice's Rhino, and the training data of Rasa's NLU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.collected import Collected
from voicecommand.data.grammar.grammar import Expression, Grammar, Line, NamedRule, Value
from voicecommand.data.grammar.numbers import cardinals, ordinal
from voicecommand.data.grammar.rasa import read_rasa
from voicecommand.data.grammar.text import words_of
from voicecommand.data.nodes import fields_of, line_of, read_nodes
from voicecommand.data.table import nearest, quote
from voicecommand.errors import InputError

MAX_BYTES = 4_000_000  # of all files of a grammar
SECTIONS = ("expressions", "slots", "rules", "responses", "out_of_scope")
SPLITS = ("train", "test")  # of the values of a slot
# Slots that Rhino has built in.
RHINO_SLOTS = {
    "pv.SingleDigitInteger": [cardinals(number)[0] for number in range(10)],
    "pv.TwoDigitInteger": [cardinals(number)[0] for number in range(100)],
    "pv.Percent": [(*cardinals(number)[0], "percent") for number in range(101)],
    "pv.SingleDigitOrdinal": [ordinal(number) for number in range(1, 10)],
    "pv.TwoDigitOrdinal": [ordinal(number) for number in range(1, 100)],
}


def read_grammar(path: str | Path) -> Grammar:
    """The grammar of a file, or of all YAML files of a directory together.

    A file is in our form, which docs/grammar.md describes, or a context of Rhino, or training data of Rasa.

    Raises:
        InputError: it can't be read, is too large, or is no usable grammar; the file and line are named.
    """
    place = Path(path)
    names = sorted([*place.glob("*.yaml"), *place.glob("*.yml")]) if place.is_dir() else [place]
    try:
        size = sum(name.stat().st_size for name in names)
    except OSError as error:
        raise InputError(f"{path}: the grammar cannot be read: {error.strerror or error}") from None
    if not names:
        raise InputError(f"{path}: no .yaml file of a grammar is in this directory")
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes, and a grammar may have {MAX_BYTES:,}")
    reader = _Reader()
    for name in names:
        reader.read(str(name))
    return reader.build(str(path))


class _Reader(Collected):
    """Reads files into what they have together."""

    file = ""

    def read(self, file: str) -> None:
        """Add what a file has."""
        self.file = file
        try:
            sections = fields_of(file, read_nodes(file), self.bad)
        except OSError as error:
            raise InputError(f"{file}: the grammar cannot be read: {error.strerror or error}") from None
        if "context" in sections:
            return self._read_rhino(sections["context"])
        if "nlu" in sections:
            return read_rasa(file, self)
        for name, node in sections.items():
            if name not in SECTIONS:
                found = nearest(name, SECTIONS)
                hint = f"did you mean {found!r}?" if found else f"there are {quote(SECTIONS)}"
                self.bad.append(f"{file}:{line_of(node)}: no section {name!r} in a grammar; {hint}")
        self._read_expressions(sections.get("expressions"), tree.OURS)
        for kind, node in self._fields(sections.get("slots"), "slots"):
            self._read_slot(kind, node, tree.OURS)
        for name, node in self._fields(sections.get("rules"), "rules"):
            self._read_rule(name, node, tree.OURS)
        for label, node in self._fields(sections.get("responses"), "responses"):
            texts = self._texts(node, f"responses.{label}")
            self.responses.setdefault(label, []).extend(Line(text, f"{file}:{line}") for text, line in texts)
        for split, node in self._fields(sections.get("out_of_scope"), "out_of_scope"):
            if split not in ("validation", "test"):
                self.bad.append(f"{file}:{line_of(node)}: out_of_scope has validation and test, not {split!r}")
            topics = self.out_of_scope.setdefault(split, {})
            for topic, lines in self._fields(node, f"out_of_scope.{split}"):
                texts = self._texts(lines, f"out_of_scope.{split}.{topic}")
                topics.setdefault(topic, []).extend(Line(text, f"{file}:{line}") for text, line in texts)

    def _read_rhino(self, context: yaml.Node) -> None:
        sections = fields_of(self.file, context, self.bad)
        self._read_expressions(sections.get("expressions"), tree.RHINO)
        for kind, node in self._fields(sections.get("slots"), "slots"):
            self._read_slot(kind, node, tree.RHINO)
        for name, node in self._fields(sections.get("macros"), "macros"):
            self._read_rule(name, node, tree.RHINO)
        used = {n.kind for e in self.expressions for n in tree.parts_of(e.body) if isinstance(n, tree.Slot)}
        for kind in sorted(used & RHINO_SLOTS.keys() - self.slots.keys()):
            for words in RHINO_SLOTS[kind]:
                text = " ".join(words)
                self.slots.setdefault(kind, []).append(Value(text, (tree.read_expression(text),), f"{self.file}:1"))

    def _read_expressions(self, node: yaml.Node | None, notation: tree.Notation) -> None:
        for label, inner in self._fields(node, "expressions"):
            if not label.strip():
                self.bad.append(f"{self.file}:{line_of(inner)}: an empty label")
            is_grouped = isinstance(inner, yaml.MappingNode)
            for group, lines in self._fields(inner, f"expressions.{label}") if is_grouped else [("", inner)]:
                for text, line in self._texts(lines, f"expressions.{label}"):
                    if (body := self._expression(text, line, notation)) is not None:
                        self.expressions.append(Expression(label, text, body, f"{self.file}:{line}", group))

    def _read_rule(self, name: str, node: yaml.Node, notation: tree.Notation) -> None:
        """A rule is an expression, or a list of which each is one way to say it."""
        options = [self._expression(text, line, notation) for text, line in self._texts(node, name)]
        bodies = tuple(body for body in options if body is not None)
        if name in self.rules:
            self.bad.append(f"{self.file}:{line_of(node)}: the rule {name!r} is also in {self.rules[name].origin}")
        elif bodies:
            body = bodies[0] if len(bodies) == 1 else tree.Sequence((tree.Choice(bodies),))
            self.rules[name] = NamedRule(body, f"{self.file}:{line_of(node)}")

    def _read_slot(self, kind: str, node: yaml.Node, notation: tree.Notation) -> None:
        """A slot is a list of values, or such a list for each of SPLITS."""
        if kind in self.slots:
            self.bad.append(f"{self.file}:{line_of(node)}: the slot {kind!r} is also in {self.slots[kind][0].origin}")
            return
        by_split = fields_of(self.file, node, self.bad) if isinstance(node, yaml.MappingNode) else {"": node}
        if not by_split or (others := [split for split in by_split if split not in ("", *SPLITS)]):
            problem = f"a slot is a list of values, or has lists for train and test, not {quote(others) or 'nothing'}"
            self.bad.append(f"{self.file}:{line_of(node)}: {kind}: {problem}")
            return
        values: list[Value] = []
        for split, lines in by_split.items():
            items = lines.value if isinstance(lines, yaml.SequenceNode) else []
            if not items:
                self.bad.append(f"{self.file}:{line_of(lines)}: the slot {kind!r} has no list of values")
            values += [value for item in items if (value := self._value(kind, item, split, notation)) is not None]
        first: dict[str, Value] = {}
        for value in values:
            for said in (value.text, *map(tree.written, value.ways)):
                other = first.setdefault(" ".join(words_of(said)) or said, value)
                if other is not value:
                    self.bad.append(f"{value.origin}: {said!r} is in the slot {kind!r} twice, first at {other.origin}")
                    break
        self.slots[kind] = values

    def _value(self, kind: str, item: yaml.Node, split: str, notation: tree.Notation) -> Value | None:
        """An item of a list of values: the words, or `value: what is said for it`, which may be a list."""
        origin = f"{self.file}:{line_of(item)}"
        if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
            ((text, node),) = fields_of(self.file, item, self.bad).items()
            ways = [self._expression(way, line, notation) for way, line in self._texts(node, f"{kind}: {text}")]
        elif isinstance(item, yaml.ScalarNode):
            text = " ".join(item.value.split())
            ways = [self._expression(item.value, line_of(item), notation)]
            if any(
                not isinstance(node, (tree.Text, tree.Sequence)) for way in ways if way for node in tree.parts_of(way)
            ):
                self.bad.append(f"{origin}: {text!r} has no name: write `- NAME: {text!r}`, and answers have NAME")
        else:
            self.bad.append(f"{origin}: {kind}: a value is a text, or `VALUE: [what is said for it, ...]`")
            return None
        return Value(text, tuple(way for way in ways if way is not None), origin, split) if None not in ways else None

    def _expression(self, text: str, line: int, notation: tree.Notation) -> tree.Sequence | None:
        try:
            return tree.read_expression(text, notation)
        except tree.Mistake as mistake:
            shown = text if len(text) <= 60 else f"{text[:60]}..."
            self.bad.append(f"{self.file}:{line}: {mistake}, in {shown!r}")
            return None

    def _fields(self, node: yaml.Node | None, where: str) -> Iterator[tuple[str, yaml.Node]]:
        if node is not None and not isinstance(node, yaml.MappingNode):
            self.bad.append(f"{self.file}:{line_of(node)}: {where}: `name: ...` is needed in each line")
        yield from fields_of(self.file, node, self.bad).items()

    def _texts(self, node: yaml.Node, where: str) -> Iterator[tuple[str, int]]:
        """(text, line) of a list of texts, or of a text."""
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not items:
            self.bad.append(f"{self.file}:{line_of(node)}: {where}: the list is empty")
        for item in items:
            if isinstance(item, yaml.ScalarNode):
                yield str(item.value), line_of(item)
            else:
                self.bad.append(f"{self.file}:{line_of(item)}: {where}: a text is needed; put quotes around it")
