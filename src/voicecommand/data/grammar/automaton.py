"""A finite automaton over words, made of one network for each rule, slot and the whole grammar.

It is never expanded: a network has as many nodes as its expression has words, and a rule that is used twice is there
once. A state is a set of (node, frame); a frame says where to go on when the rule that one is in ends. Rules that are
entered after the same words share a frame, so that the number of places stays within nodes times words. States are made
when they are reached, and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.expressions import key_of

State = int
Place = tuple[int, int]  # node, frame
OUTSIDE = 0  # the frame of the whole grammar


@dataclass(frozen=True)
class Call:
    """An arc that runs through another network: of a rule, or of a slot, whose value then has a name."""

    network: int
    target: int
    slot: str | None


class Networks:
    """The nodes of all networks; an arc leads to a node of a higher number.

    Args:
        bodies: name -> the alternatives of a network, each with what it means; those that it uses come before it, and
            the whole grammar is the last.
    """

    def __init__(self, bodies: Mapping[str, Sequence[tuple[tree.Node, object]]]) -> None:
        self.words: list[dict[str, list[int]]] = []
        self.calls: list[list[Call]] = []
        self.skips: list[list[int]] = []
        self.ends: dict[int, object] = {}
        self.starts: list[int] = []
        self.nullable: list[bool] = []
        self._numbers: dict[str, int] = {}
        self._closures: dict[int, set[int]] = {}
        for name, options in bodies.items():
            start = self._node()
            ends = []
            for body, meaning in options:
                first = self._node()
                self.skips[start].append(first)
                ends.append(self._add(body, first))
                self.ends[ends[-1]] = meaning
            self._numbers[name] = len(self.starts)
            self.starts.append(start)
            self.nullable.append(any(node in self.ends for node in self.closure(start)))
        self.top = len(self.starts) - 1

    def closure(self, node: int) -> set[int]:
        """The nodes that are reached from a node without a word, within its network."""
        if node not in self._closures:
            reached, waiting = set[int](), [node]
            while waiting:
                other = waiting.pop()
                if other not in reached:
                    reached.add(other)
                    waiting += self.skips[other]
                    waiting += [call.target for call in self.calls[other] if self.nullable[call.network]]
            self._closures[node] = reached
        return self._closures[node]

    def _node(self) -> int:
        self.words.append({})
        self.calls.append([])
        self.skips.append([])
        return len(self.words) - 1

    def _add(self, body: tree.Node, start: int) -> int:
        """Add the arcs of a part from a node on; the node at its end."""
        if isinstance(body, tree.Sequence):
            for part in body.parts:
                start = self._add(part, start)
            return start
        if isinstance(body, tree.Text):
            for word in body.words:
                end = self._node()
                self.words[start].setdefault(word, []).append(end)
                start = end
            return start
        if isinstance(body, tree.Choice):
            ends = []
            for option in body.options:
                first = self._node()
                self.skips[start].append(first)
                ends.append(self._add(option, first))
            end = self._node()
            for last in ends:
                self.skips[last].append(end)
            return end
        end = self._node()
        slot = body.name if isinstance(body, tree.Slot) else None
        self.calls[start].append(Call(self._numbers[key_of(body)], end, slot))
        return end


class Automaton:
    """The states of a grammar, from word to word.

    Args:
        networks: of the grammar.
        only: the numbers of the expressions that it has; None takes all.

    Attributes:
        start: the state before the first word.
    """

    def __init__(self, networks: Networks, only: Iterable[int] | None = None) -> None:
        self._networks = networks
        self._frames: dict[frozenset[Place], int] = {frozenset(): OUTSIDE}
        self._returns: list[frozenset[Place]] = [frozenset()]
        self._states: dict[frozenset[Place], State] = {}
        self._kernels: list[frozenset[Place]] = []
        self._arcs: dict[State, dict[str, frozenset[Place]]] = {}
        self._meanings: dict[State, list[object]] = {}
        start = networks.starts[networks.top]
        firsts = [start] if only is None else [networks.skips[start][number] for number in only]
        self.start = self._state(frozenset((node, OUTSIDE) for node in firsts))

    def arcs(self, state: State) -> dict[str, State]:
        """The words that may follow, in order, each with the state after it."""
        return {word: self._state(places) for word, places in self._expand(state).items()}

    def is_final(self, state: State) -> bool:
        """Whether a sentence may end here."""
        return bool(self.meanings(state))

    def meanings(self, state: State) -> list[object]:
        """What the expressions mean of which a sentence ends here."""
        self._expand(state)
        return self._meanings[state]

    def _state(self, places: frozenset[Place]) -> State:
        if places not in self._states:
            self._states[places] = len(self._kernels)
            self._kernels.append(places)
        return self._states[places]

    def _expand(self, state: State) -> dict[str, frozenset[Place]]:
        if state not in self._arcs:
            networks = self._networks
            places, ends = self._leave(self._kernels[state])
            self._meanings[state] = [networks.ends[node] for node in sorted(ends)]
            places |= self._enter(places)
            arcs: dict[str, set[Place]] = {}
            for node, frame in places:
                for word, targets in networks.words[node].items():
                    arcs.setdefault(word, set()).update((target, frame) for target in targets)
            self._arcs[state] = {word: frozenset(arcs[word]) for word in sorted(arcs)}
        return self._arcs[state]

    def _leave(self, places: Iterable[Place]) -> tuple[set[Place], set[int]]:
        """All places that are reached without a word by going on and by ending rules, and the ends of expressions."""
        networks, reached, waiting, ends = self._networks, set[Place](), list(places), set[int]()
        while waiting:
            node, frame = waiting.pop()
            if (node, frame) in reached:
                continue
            for other in networks.closure(node):
                reached.add((other, frame))
                if other in networks.ends:
                    waiting += self._returns[frame]
                    ends |= {other} if frame == OUTSIDE else set()
        return reached, ends

    def _enter(self, places: Iterable[Place]) -> set[Place]:
        """The places in the networks that are called from some places.

        A network comes after those that it uses, so that from the last to the first all callers of one are known when
        its frame is made. A network that may say nothing is passed over by `Networks.closure`.
        """
        networks, entered = self._networks, set[Place]()
        waiting: dict[int, set[Place]] = {}

        def note(node: int, frame: int) -> None:
            for call in networks.calls[node]:
                waiting.setdefault(call.network, set()).add((call.target, frame))

        for node, frame in places:
            note(node, frame)
        for network in reversed(range(networks.top)):
            if network in waiting:
                frame = self._frame(frozenset(waiting[network]))
                for node in networks.closure(networks.starts[network]):
                    entered.add((node, frame))
                    note(node, frame)
        return entered

    def _frame(self, returns: frozenset[Place]) -> int:
        if returns not in self._frames:
            self._frames[returns] = len(self._returns)
            self._returns.append(returns)
        return self._frames[returns]
