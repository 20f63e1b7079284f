"""A grammar as YAML in our form, whatever form it was read from."""

from __future__ import annotations

import yaml

from voicecommand.data.grammar.expressions import written
from voicecommand.data.grammar.grammar import Expression, Grammar, Value


def to_yaml(grammar: Grammar) -> str:
    """The content of a grammar file with the same sentences, labels and slots."""
    content: dict[str, object] = {
        "expressions": {
            label: _grouped([expression for expression in grammar.expressions if expression.label == label])
            for label in grammar.labels
        },
        "slots": {kind: _by_split(values) for kind, values in grammar.slots.items()},
        "rules": {name: written(rule.body) for name, rule in grammar.rules.items()},
        "responses": {label: [line.text for line in lines] for label, lines in grammar.responses.items()},
        "out_of_scope": {
            split: {topic: [line.text for line in lines] for topic, lines in topics.items()}
            for split, topics in grammar.out_of_scope.items()
        },
    }
    content = {section: entries for section, entries in content.items() if entries}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)


def _grouped(expressions: list[Expression]) -> object:
    groups: dict[str, list[str]] = {}
    for expression in expressions:
        groups.setdefault(expression.group, []).append(written(expression.body))
    return groups[""] if list(groups) == [""] else groups


def _by_split(values: tuple[Value, ...]) -> object:
    splits: dict[str, list[object]] = {}
    for value in values:
        ways = [written(way) for way in value.ways]
        splits.setdefault(value.split, []).append(value.text if ways == [value.text] else {value.text: ways})
    return splits[""] if list(splits) == [""] else splits
