"""The training data of Rasa's NLU as a grammar: each example is an expression, each entity a slot with its values."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.collected import Collected
from voicecommand.data.grammar.grammar import Expression, Value
from voicecommand.data.grammar.text import has_digits, words_of
from voicecommand.data.sources.rasa import ENTITY, read_examples, read_items

logger = logging.getLogger(__name__)
NO_TEXT = re.compile(r"[\[\](){}<>|]+")  # what has a meaning in our notation is punctuation in an example


def read_rasa(file: str, collected: Collected) -> None:
    """Add the examples of all intents, with the values of their entities.

    The values of a slot are those of its entity in all examples and in its lookup table. Synonyms are ways to say a
    value. Numbers are written in words, which is logged; regular expressions are counted and not read.

    Raises:
        InputError: it is not YAML, or has no section `nlu`.
    """
    table, others, sections = read_items(file)
    collected.bad += table.bad
    synonyms: dict[str, str] = {}
    for fields in others.get("synonym", ()):
        for _, text in read_examples(file, "synonym", fields, collected.bad):
            synonyms[text.casefold()] = str(fields["synonym"].value)
    slots = _Slots(file, synonyms)
    seen: set[tuple[str, str]] = set()
    for row, cells in table.rows:
        try:
            body = _read_example(cells["text"], f"{file}:{row}", slots)
        except tree.Mistake as mistake:
            collected.bad.append(f"{file}:{row}: {mistake}")
            continue
        source = tree.written(body)
        if (cells["label"], source.casefold()) not in seen:
            seen.add((cells["label"], source.casefold()))
            collected.expressions.append(Expression(cells["label"], source, body, f"{file}:{row}"))
    for fields in others.get("lookup", ()):
        kind = str(fields["lookup"].value)
        for row, text in read_examples(file, "lookup", fields, collected.bad) if kind in slots.values else ():
            slots.add(kind, text, None, f"{file}:{row}")
    collected.slots |= slots.build()
    logger.info("%s: %d examples became %d expressions", file, len(table.rows), len(seen))
    if slots.numbers:
        logger.info("%s: %d numbers are written in words, such as %r", file, len(slots.numbers), min(slots.numbers))
    passed_over = [f"{len(items)} {kind}" for kind, items in others.items() if kind == "regex"] + sections
    if passed_over:
        logger.warning("%s: passed over, because a grammar has no place for them: %s", file, ", ".join(passed_over))


class _Slots:
    """The values of all entities: kind -> value -> (ways to say it, place)."""

    def __init__(self, file: str, synonyms: dict[str, str]) -> None:
        self.values: dict[str, dict[str, tuple[dict[str, tree.Sequence], str]]] = defaultdict(dict)
        self.numbers: set[str] = set()
        self._file, self._synonyms = file, synonyms

    def add(self, kind: str, text: str, value: str | None, origin: str) -> None:
        value = value or self._synonyms.get(text.casefold()) or text
        known = next((other for other in self.values[kind] if other.casefold() == value.casefold()), value)
        ways = self.values[kind].setdefault(known, ({}, origin))[0]
        self._add_way(ways, text)

    def _add_way(self, ways: dict[str, tree.Sequence], text: str) -> None:
        body = self.sequence(text)
        ways.setdefault(" ".join(words_of(tree.written(body))), body)

    def sequence(self, text: str) -> tree.Sequence:
        """The words of a text, with numbers in words."""
        parts: list[tree.Node] = []
        for chunk in NO_TEXT.sub(" ", text).split():
            if has_digits(chunk):
                self.numbers.add(chunk)
                parts += [tree.Text(word, (word,)) for word in words_of(chunk)]
            else:
                words = tuple(words_of(chunk))
                parts.append(tree.Text(chunk, words, glued=not words and bool(parts)))
        return tree.Sequence(tuple(parts))

    def build(self) -> dict[str, list[Value]]:
        """The values, with the synonyms as further ways to say them."""
        built = {}
        for kind, values in self.values.items():
            for text, value in self._synonyms.items():
                for known, (ways, _) in values.items():
                    if known.casefold() == value.casefold():
                        self._add_way(ways, text)
            built[kind] = [Value(text, tuple(ways.values()), origin) for text, (ways, origin) in values.items()]
        return built


def _read_example(text: str, origin: str, slots: _Slots) -> tree.Sequence:
    """The expression of an example; an entity becomes a slot, and its text a value.

    Raises:
        Mistake: an entity can't be read, or the example has no words.
    """
    parts: list[tree.Node] = []
    names = Counter[str]()
    end = 0
    for found in ENTITY.finditer(text):
        parts += slots.sequence(text[end : found.start()]).parts
        kind, role, value = _entity(found)
        name = f"{kind}_{role}" if role else kind
        names[name] += 1
        slots.add(kind, found["text"], value, origin)
        parts.append(tree.Slot(kind, name if names[name] == 1 else f"{name}_{names[name]}"))
        end = found.end()
    parts += slots.sequence(text[end:]).parts
    if not any(isinstance(part, tree.Slot) or (isinstance(part, tree.Text) and part.words) for part in parts):
        raise tree.Mistake(f"no words in {text!r}")
    return tree.Sequence(tuple(parts))


def _entity(found: re.Match[str]) -> tuple[str, str, str | None]:
    """Entity, role or group, and value of an annotation."""
    if found["name"]:
        kind, _, value = found["name"].partition(":")
        fields: dict[str, object] = {"entity": kind.strip(), "value": value.strip() or None}
    else:
        written = found["fields"] or found["several"]
        try:
            fields = json.loads(written)
        except ValueError:
            raise tree.Mistake(f"not one entity in JSON: {written[:60]!r}") from None
    kind, value = fields.get("entity"), fields.get("value")
    if not isinstance(kind, str) or not tree.NAME.fullmatch(kind):
        raise tree.Mistake(f"an entity is named {kind!r}, and a slot has a name of letters, digits, '_', '.' and '-'")
    if not words_of(found["text"]):
        raise tree.Mistake(f"no words in the entity {found['text']!r}")
    return kind, str(fields.get("role") or fields.get("group") or ""), None if value is None else str(value)
