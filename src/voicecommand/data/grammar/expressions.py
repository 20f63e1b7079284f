"""Expressions: words, `[optional]`, `(one | another)`, `{slot}`, `{slot:name}` and `<rule>`, read into a tree.

The same reader reads the notation of Picovoice's Rhino: `(optional)`, `[one, another]`, `$slot:name` and `@macro`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from voicecommand.data.grammar.text import has_digits, words_of

MAX_NESTING = 16  # levels of brackets in an expression
NAME = re.compile(r"[^\W\d][\w.-]*")


class Mistake(ValueError):
    """What is wrong in an expression, without its place."""


@dataclass(frozen=True, eq=False)
class Text:
    """What is written between two spaces, such as "I'd" or "lamp,".

    Attributes:
        written: with case and punctuation.
        words: as they are compared; none if it is punctuation only.
        glued: it follows what is before it without a space, as the comma in "{device}, now".
    """

    written: str
    words: tuple[str, ...]
    glued: bool = False


@dataclass(frozen=True, eq=False)
class Slot:
    """`{kind:name}`: a value of the slot `kind`, which the sentence has under `name`."""

    kind: str
    name: str


@dataclass(frozen=True, eq=False)
class Rule:
    """`<name>`: what the rule of that name says."""

    name: str


@dataclass(frozen=True, eq=False)
class Sequence:
    """Parts, one after the other; without parts, nothing."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Choice:
    """One of the options; of an optional part the first one is an empty sequence."""

    options: tuple[Sequence, ...]


Node = Text | Slot | Rule | Sequence | Choice


@dataclass(frozen=True)
class Notation:
    """How expressions are written.

    Attributes:
        token: a regular expression with the groups open, close, bar, kind, rule and text.
        optional: the bracket that opens an optional part; the other one opens a choice.
        bar_is_text: a bar outside brackets is punctuation.
    """

    token: re.Pattern[str]
    optional: str
    bar_is_text: bool = False


OURS = Notation(
    re.compile(
        r"(?P<open>[\[(])|(?P<close>[\])])|(?P<bar>\|)|\{(?P<kind>[^{}]*)\}|<(?P<rule>[^<>]*)>|(?P<text>[^\s\[\]()|{}<>]+)"
    ),
    optional="[",
)
RHINO = Notation(
    re.compile(
        r"(?P<open>[\[(])|(?P<close>[\])])|(?P<bar>,)|\$(?P<kind>[\w.:]*)|@(?P<rule>\w*)|(?P<text>[^\s\[\](),$@]+)"
    ),
    optional="(",
    bar_is_text=True,
)
CLOSING = {"(": ")", "[": "]", "": ""}


@dataclass
class _Open:
    """A bracket that is not closed yet, with the alternatives so far."""

    bracket: str
    options: list[list[Node]] = field(default_factory=lambda: [[]])


def read_expression(source: str, notation: Notation = OURS) -> Sequence:
    """The tree of an expression.

    Raises:
        Mistake: a bracket without its other half, an empty alternative, digits, a slot or rule without a name.
    """
    stack, place, glued = [_Open("")], 0, False
    while place < len(source):
        if source[place].isspace():
            place, glued = place + 1, False
            continue
        found = notation.token.match(source, place)
        if not found:
            raise Mistake(f"{source[place]!r} has no other half")
        kind, token = str(found.lastgroup), found[0]
        parts = stack[-1].options[-1]
        if kind == "open":
            _check_space(parts, glued, token)
            if len(stack) > MAX_NESTING:
                raise Mistake(f"brackets are nested deeper than {MAX_NESTING} levels; use rules")
            stack.append(_Open(token))
        elif kind == "close":
            parts = _close(stack, token, notation)
        elif kind == "bar" and not (notation.bar_is_text and len(stack) == 1):
            stack[-1].options.append([])
        elif kind in ("kind", "rule"):
            _check_space(parts, glued, token)
            parts.append(_reference(kind, found[kind], token))
        else:
            parts.append(_text(token, glued and bool(parts)))
        place, glued = found.end(), kind != "bar"
    if len(stack) > 1:
        raise Mistake(f"{stack[-1].bracket!r} is not closed")
    return _group(stack[0], optional=False)


def _check_space(parts: list[Node], glued: bool, token: str) -> None:
    last = parts[-1] if parts and glued else None
    if isinstance(last, Text) and last.words:
        raise Mistake(f"no space before {token!r}: a word can't be put together from parts")


def _close(stack: list[_Open], token: str, notation: Notation) -> list[Node]:
    """End the innermost bracket; its part is added to the one around it, whose parts are returned."""
    inner = stack.pop()
    if not stack or CLOSING[inner.bracket] != token:
        raise Mistake(f"{token!r} closes no bracket" if not inner.bracket else f"{inner.bracket!r} is not closed")
    parts = stack[-1].options[-1]
    parts.append(_group(inner, optional=inner.bracket == notation.optional))
    return parts


def _group(group: _Open, optional: bool) -> Sequence:
    """The alternatives of a bracket, or of a whole expression, as one part."""
    for parts in group.options:
        if not any(not isinstance(part, Text) or part.words for part in parts):
            raise Mistake("an empty alternative" if group.bracket else "an empty expression")
    options = [Sequence(tuple(parts)) for parts in group.options]
    if optional:
        options.insert(0, Sequence())
    return options[0] if len(options) == 1 else Sequence((Choice(tuple(options)),))


def _reference(kind: str, inner: str, token: str) -> Slot | Rule:
    name, _, other = inner.strip().partition(":")
    if not all(NAME.fullmatch(part) for part in (name, *([other] if ":" in inner else []))):
        raise Mistake(f"{token!r} has no name of letters, digits, '_', '.' and '-'")
    return Rule(name) if kind == "rule" else Slot(name, other or name)


def _text(token: str, glued: bool) -> Text:
    if has_digits(token):
        raise Mistake(f"digits in {token!r}: write numbers in words")
    words = tuple(words_of(token))
    if words and glued:
        raise Mistake(f"no space before {token!r}: a word can't be put together from parts")
    return Text(token, words, glued)


def written(node: Node) -> str:
    """The expression of a tree, in our notation."""
    if isinstance(node, Text):
        return node.written
    if isinstance(node, Slot):
        return f"{{{node.kind}}}" if node.kind == node.name else f"{{{node.kind}:{node.name}}}"
    if isinstance(node, Rule):
        return f"<{node.name}>"
    if isinstance(node, Choice):
        options = [written(option) for option in node.options if option.parts]
        return f"[{' | '.join(options)}]" if len(options) < len(node.options) else f"({' | '.join(options)})"
    text = ""
    for part in node.parts:
        text += ("" if not text or (isinstance(part, Text) and part.glued) else " ") + written(part)
    return text


def key_of(node: Slot | Rule) -> str:
    """The name of what a slot or rule stands for: `{kind}` or `<name>`."""
    return f"{{{node.kind}}}" if isinstance(node, Slot) else f"<{node.name}>"


def parts_of(node: Node) -> Iterator[Node]:
    """The node and everything in it, in order; what rules and slots say is not followed."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Sequence):
            stack += reversed(node.parts)
        elif isinstance(node, Choice):
            stack += reversed(node.options)
