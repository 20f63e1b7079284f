"""What is likely wrong with a usable grammar: values that slots share, expressions that can't be told apart, words that
nobody says."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import combinations, islice

from voicecommand.data.grammar import expressions as tree
from voicecommand.data.grammar.automaton import Automaton, State
from voicecommand.data.grammar.grammar import MAX_STATES, Expression, Grammar
from voicecommand.data.grammar.sampling import draw
from voicecommand.data.grammar.soundness import MANY
from voicecommand.data.grammar.text import words_of
from voicecommand.data.table import quote
from voicecommand.errors import InputError

DRAWN = 10  # sentences of each expression that are read back
MAX_PAIRS = 20_000  # states of two automata that are compared


def find_problems(grammar: Grammar) -> Iterator[str]:
    """Each problem in one line, with file:line."""
    yield from _unused(grammar)
    yield from _shared_values(grammar)
    yield from _alike(grammar)


def summarise(grammar: Grammar) -> str:
    """The labels, slots and number of sentences, over several lines."""
    counts = Counter(expression.label for expression in grammar.expressions)
    sentences, is_exact = grammar.count()
    number = f"{sentences:,}" if sentences < MANY else "more than 10^30"
    lines = [f"{label}: {count} expressions" for label, count in counts.items()]
    lines += [f"{{{kind}}}: {quote(value.text for value in values)}" for kind, values in grammar.slots.items()]
    ways = "different sentences" if is_exact else "ways through the expressions, so at most that many sentences"
    return "\n".join([*lines, f"{len(grammar.words):,} words, {number} {ways}"])


def compare_with_texts(grammar: Grammar, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What differs between a grammar and what is said, each in one line.

    Args:
        rows: (file:row, transcript).

    Raises:
        InputError: they share no word.
    """
    rows = list(rows)
    check_shared_words(grammar, (text for _, text in rows), "the grammar")
    said = {word for _, text in rows for word in words_of(text)}
    if unsaid := sorted(set(grammar.words) - said):
        yield f"{len(unsaid)} words of the grammar are in no text of the data: {quote(unsaid)}"
    if unknown := sorted(said - set(grammar.words)):
        yield f"{len(unknown)} words of the data are not in the grammar: {quote(unknown)}"
    outside = [(origin, text) for origin, text in rows if grammar.parse(text) is None]
    if outside:
        share = f"{len(outside):,} of {len(rows):,} texts are not of the grammar"
        yield f"{share}, such as {', '.join(f'{origin} {text!r}' for origin, text in outside[:3])}"


def check_shared_words(grammar: Grammar, texts: Iterable[str], name: str) -> None:
    """Refuse a grammar that has no word of the texts.

    Args:
        texts: transcripts of the data that the grammar is for.
        name: of the grammar, such as decode.grammar=FILE.

    Raises:
        InputError: no word of any text is in the grammar.
    """
    said = {word for text in texts for word in words_of(text)}
    if said and not said & set(grammar.words):
        raise InputError(
            f"{name}: shares no word with the transcripts of the data; the grammar has {quote(grammar.words[:5])} ..., "
            f"the data {quote(sorted(said)[:5])} ...: give the grammar of these commands"
        )


def _unused(grammar: Grammar) -> Iterator[str]:
    used = {
        tree.key_of(n) for p in grammar.parts for n in tree.parts_of(p.body) if isinstance(n, (tree.Slot, tree.Rule))
    }
    for key, origin in {part.key: part.origin for part in reversed(grammar.parts) if part.key}.items():
        if key not in used:
            yield f"{origin}: {key} is in no expression"


def _shared_values(grammar: Grammar) -> Iterator[str]:
    """Values of two slots that are said the same; a value with brackets is left to `_alike`."""
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for kind, values in grammar.slots.items():
        for value in values:
            for way in value.ways:
                if all(isinstance(part, tree.Text) for part in way.parts):
                    said = " ".join(word for part in way.parts if isinstance(part, tree.Text) for word in part.words)
                    kinds[said].setdefault(kind, value.origin)
    for said, places in kinds.items():
        if len(places) > 1:
            kinds_in_words = " and ".join(f"{{{kind}}}" for kind in places)
            yield f"{list(places.values())[-1]}: {said!r} is a value of {kinds_in_words}"


def _alike(grammar: Grammar) -> Iterator[str]:
    """Pairs of expressions that have a sentence in common with two meanings, and expressions that are always so."""
    numbers = {expression: number for number, expression in enumerate(grammar.expressions)}
    overlaps: dict[Expression, dict[Expression, str]] = defaultdict(dict)
    for one, other, sentence in _common_sentences(grammar):
        overlaps[one][other] = overlaps[other][one] = sentence
    for expression, others in overlaps.items():
        where = f"{expression.origin}: {expression.source!r} ({expression.label})"
        if _is_within(grammar, [numbers[expression]], [numbers[other] for other in others]):
            named = " or ".join(f"{other.origin} ({other.label})" for other in list(others)[:3])
            yield f"{where} can never be told from {named}: each of its sentences means that too"
        else:
            for other, sentence in others.items():
                if numbers[expression] < numbers[other]:
                    yield f"{where} and {other.origin} ({other.label}) have a sentence in common: {sentence!r}"
    for expression in grammar.expressions:
        if sum(isinstance(node, tree.Slot) for node in tree.parts_of(expression.body)) > 1:
            alone = Grammar((expression,), grammar.slots, grammar.rules)
            for drawn in islice(draw(alone), DRAWN):
                if len(own := {parse.meaning for parse in alone.read(drawn.text)}) > 1:
                    yield f"{expression.origin}: {drawn.text!r} gives its slots in {len(own)} ways"
                    break


def _common_sentences(grammar: Grammar) -> Iterator[tuple[Expression, Expression, str]]:
    """Two expressions and a sentence of both, which means something else by each; the shortest one of each pair."""
    automaton = grammar.automaton
    before: dict[State, tuple[State, str]] = {automaton.start: (automaton.start, "")}
    seen: set[tuple[object, object]] = set()
    waiting = deque([automaton.start])
    while waiting and len(before) <= MAX_STATES:
        state = waiting.popleft()
        pairs = [pair for pair in combinations(automaton.meanings(state), 2) if pair not in seen]
        if pairs:
            sentence = _sentence(state, before)
            meanings: dict[Expression, set[object]] = defaultdict(set)
            for parse in grammar.read(sentence):
                meanings[parse.expression].add(parse.meaning)
            for one, other in combinations(meanings, 2):
                if meanings[one] != meanings[other] and (one, other) not in seen:
                    yield one, other, sentence
                seen |= {(one, other), *pairs}
        for word, after in automaton.arcs(state).items():
            if after not in before:
                before[after] = (state, word)
                waiting.append(after)


def _sentence(state: State, before: dict[State, tuple[State, str]]) -> str:
    """The words that led to a state."""
    words = []
    while before[state][1]:
        state, word = before[state]
        words.append(word)
    return " ".join(reversed(words))


def _is_within(grammar: Grammar, some: list[int], others: list[int]) -> bool:
    """Whether every sentence of some expressions is one of others too; False if that takes too long to tell."""
    inner, outer = Automaton(grammar.networks, some), Automaton(grammar.networks, others)
    seen = {(inner.start, outer.start)}
    waiting = list(seen)
    while waiting and len(seen) <= MAX_PAIRS:
        left, right = waiting.pop()
        if inner.is_final(left) and not outer.is_final(right):
            return False
        for word, after in inner.arcs(left).items():
            if (beside := outer.arcs(right).get(word)) is None:
                return False
            if (after, beside) not in seen:
                seen.add((after, beside))
                waiting.append((after, beside))
    return not waiting
