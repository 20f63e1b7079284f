"""What makes a grammar unusable: names that are not there, circles, silence, endless sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.expressions import key_of
from voicecommand.data.table import SHOWN, nearest, quote
from voicecommand.errors import InputError

MANY = 10**30  # counts end here: a small file can have more sentences than a computer can count
MAX_WORDS = 200  # of a sentence; a recogniser writes at most 448 tokens
MAX_NESTED = 16  # rules in rules


@dataclass(frozen=True, eq=False)
class Part:
    """An expression, a rule, or a way to say a value of a slot.

    Attributes:
        origin: file:line.
        key: `<name>` of a rule, `{kind}` of a slot, empty for an expression.
    """

    body: tree.Sequence
    origin: str
    key: str = ""

    @property
    def what(self) -> str:
        """In words."""
        kinds = {"": "the expression", "<": f"the rule {self.key}", "{": f"a value of {self.key}"}
        return kinds[self.key[:1]]


@dataclass(frozen=True)
class Size:
    """How much a part says.

    Attributes:
        least, most: words, at most MANY.
        ways: to say it, at most MANY.
        slots: name -> how often a sentence may have it.
    """

    least: int = 0
    most: int = 0
    ways: int = 1
    slots: Counter[str] = field(default_factory=Counter)


def refuse(mistakes: Sequence[str]) -> None:
    """Raise InputError if there are mistakes, "file:line: mistake", with the first few of them."""
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN:,} more" if len(mistakes) > SHOWN else ""
        raise InputError("; ".join(mistakes[:SHOWN]) + more)


def put_in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts, each after those that it uses; the expressions, in their order, are the last.

    Raises:
        InputError: a slot or rule is not there; they use each other in a circle, or are nested too deep.
    """
    by_key: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_key[part.key].append(part)
    refuse([problem for part in parts for problem in _unknown(part, by_key.keys())])
    uses = {key: {key_of(node) for part in those for node in _references(part.body)} for key, those in by_key.items()}
    try:
        order = list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        circle = error.args[1][::-1]
        raise InputError(
            f"{by_key[circle[0]][0].origin}: {' -> '.join(circle)} is a circle: a sentence would never end"
        ) from None
    depth: dict[str, int] = {}
    for key in order:
        depth[key] = 1 + max((depth[other] for other in uses[key]), default=0)
        if depth[key] > MAX_NESTED:
            raise InputError(
                f"{by_key[key][0].origin}: {key or 'the expressions'}: nested deeper than {MAX_NESTED} rules"
            )
    order.sort(key=lambda key: key == "")
    return [part for key in order for part in by_key[key]]


def measure(parts: Iterable[Part]) -> list[Size]:
    """The size of each part, which comes after those that it uses."""
    known: dict[str, Size] = {}
    sizes = []
    for part in parts:
        sizes.append(_measure(part.body, known))
        known[part.key] = _either([known[part.key], sizes[-1]]) if part.key in known else sizes[-1]
    return sizes


def find_misfits(parts: Sequence[Part], sizes: Sequence[Size]) -> Iterator[str]:
    """Parts that may be silent or too long, slots within slots, and slots that a sentence may have twice."""
    for part, size in zip(parts, sizes, strict=True):
        where = f"{part.origin}: {part.what}"
        if not size.least and not part.key.startswith("<"):
            yield f"{where} may say nothing: all of its words are optional"
        if size.most > MAX_WORDS:
            yield f"{where} may have {size.most:,} words, and a sentence may have {MAX_WORDS}"
        if size.slots and part.key.startswith("{"):
            yield f"{where} has a slot within, {quote(size.slots)}: use a rule without slots"
        if twice := [name for name, count in size.slots.items() if count > 1]:
            name = twice[0]
            yield f"{where} may have the slot {name!r} twice: name them, as in {{{name}:first}} and {{{name}:second}}"


def _references(body: tree.Node) -> Iterator[tree.Slot | tree.Rule]:
    return (node for node in tree.parts_of(body) if isinstance(node, (tree.Slot, tree.Rule)))


def _unknown(part: Part, keys: Iterable[str]) -> Iterator[str]:
    for node in _references(part.body):
        if (key := key_of(node)) not in keys:
            what, known = ("slot", "{") if isinstance(node, tree.Slot) else ("rule", "<")
            names = [other[1:-1] for other in keys if other.startswith(known)]
            found = nearest(key[1:-1], names)
            hint = f"did you mean {found!r}?" if found else f"there are {quote(names)}" if names else "there are none"
            yield f"{part.origin}: no {what} {key[1:-1]!r} in {what}s:, {hint}"


def _measure(node: tree.Node, known: Mapping[str, Size]) -> Size:
    if isinstance(node, tree.Text):
        return Size(len(node.words), len(node.words))
    if isinstance(node, tree.Slot):
        size = known[key_of(node)]
        return Size(size.least, size.most, size.ways, Counter([node.name]))
    if isinstance(node, tree.Rule):
        return known[key_of(node)]
    if isinstance(node, tree.Choice):
        return _either([_measure(option, known) for option in node.options])
    least, most, ways, slots = 0, 0, 1, Counter[str]()
    for part in node.parts:
        size = _measure(part, known)
        least, most = min(MANY, least + size.least), min(MANY, most + size.most)
        ways = min(MANY, ways * size.ways)
        for name, count in size.slots.items():
            slots[name] = min(2, slots[name] + count)
    return Size(least, most, ways, slots)


def _either(sizes: Sequence[Size]) -> Size:
    slots = Counter[str]()
    for size in sizes:
        slots |= size.slots
    ways = min(MANY, sum(size.ways for size in sizes))
    return Size(min(size.least for size in sizes), max(size.most for size in sizes), ways, slots)
