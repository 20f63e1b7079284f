"""What the files of a grammar have together."""

from __future__ import annotations

from dataclasses import dataclass, field

from voicecommand.data.grammar.grammar import Expression, Grammar, Line, NamedRule, Value
from voicecommand.data.grammar.soundness import refuse
from voicecommand.data.table import MAX_LABELS
from voicecommand.errors import InputError


@dataclass
class Collected:
    """The parts of a grammar so far, and the problems of all files, "file:line: problem"."""

    bad: list[str] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    slots: dict[str, list[Value]] = field(default_factory=dict)
    rules: dict[str, NamedRule] = field(default_factory=dict)
    responses: dict[str, list[Line]] = field(default_factory=dict)
    out_of_scope: dict[str, dict[str, list[Line]]] = field(default_factory=dict)

    def build(self, path: str) -> Grammar:
        """The grammar of all files.

        Raises:
            InputError: there are problems.
        """
        refuse(self.bad)
        if not self.expressions:
            raise InputError(f"{path}: no expressions: a grammar has `expressions:` with a list for each label")
        if (labels := len({expression.label for expression in self.expressions})) > MAX_LABELS:
            raise InputError(f"{path}: {labels:,} labels, and {MAX_LABELS:,} are possible")
        return Grammar(
            tuple(self.expressions),
            {kind: tuple(values) for kind, values in self.slots.items()},
            self.rules,
            {label: tuple(lines) for label, lines in self.responses.items()},
            {
                split: {topic: tuple(lines) for topic, lines in topics.items()}
                for split, topics in self.out_of_scope.items()
            },
        )
