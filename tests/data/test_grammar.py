"""Grammars: what is read, parsed, counted and drawn. Every way through is compared with sentences written out."""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, run_and_read
from voicecommand.data.grammar import checks, expressions, numbers
from voicecommand.data.grammar.automaton import Automaton
from voicecommand.data.grammar.grammar import MANY, Expression, Grammar, NamedRule, Value
from voicecommand.data.grammar.reading import read_grammar
from voicecommand.data.grammar.sampling import draw, sample
from voicecommand.data.grammar.writing import to_yaml
from voicecommand.data.sources.commands import CORPUS
from voicecommand.errors import InputError

ORDERS = ROOT.parent / "shared/data/orders"
needs_orders = pytest.mark.skipif(not ORDERS.is_dir(), reason="needs the recordings of orders")
SMALL = """
expressions:
  brew:
    - "<please> make [me] a {size} {drink}, will you?"
    - "a {drink} at {time}"
  stop: "(stop | no more) {drink}[ now]"
slots:
  size: [small, large, twelve ounce]
  drink:
    - latte
    - flat white: [flat white, white flat]
  time: [seven thirty, noon]
rules:
  please: "[please | could you]"
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "g.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def small(write: Any) -> Grammar:
    return read_grammar(write(SMALL))


def all_texts(node: Any, grammar: Grammar) -> list[str]:
    """Every text of a part, in lower case, written out."""
    if isinstance(node, expressions.Text):
        return [" ".join(node.words)]
    if isinstance(node, expressions.Slot):
        return [t for value in grammar.slots[node.kind] for way in value.ways for t in all_texts(way, grammar)]
    if isinstance(node, expressions.Rule):
        return all_texts(grammar.rules[node.name].body, grammar)
    if isinstance(node, expressions.Choice):
        return [text for option in node.options for text in all_texts(option, grammar)]
    products = itertools.product(*(all_texts(part, grammar) for part in node.parts))
    return [" ".join(" ".join(texts).split()) for texts in products]


def is_accepted(automaton: Automaton, text: str) -> bool:
    state: int | None = automaton.start
    for word in text.split():
        state = None if state is None else automaton.arcs(state).get(word)
    return state is not None and automaton.is_final(state)


def test_a_text_gets_its_label_its_slots_with_their_characters_and_its_words(small: Grammar) -> None:
    text = "Please make me a 12-ounce White Flat, will you?"
    parse = small.parse(text)
    assert parse and parse.label == "brew" and parse.values == {"size": "twelve ounce", "drink": "flat white"}
    assert [text[slot.start : slot.end] for slot in parse.slots] == ["12-ounce", "White Flat"]
    assert parse.transcript == "please make me a twelve ounce white flat will you" and not parse.others
    assert parse.expression.origin.endswith("g.yaml:4")


@pytest.mark.parametrize("text", ["", "make me a latte", "stop latte now please", "a latte at 7:31", "stop", "12"])
def test_a_text_that_is_no_sentence_has_no_parse(small: Grammar, text: str) -> None:
    assert small.parse(text) is None


def test_numbers_may_be_in_digits(small: Grammar) -> None:
    parse = small.parse("A latte at 7:30.")
    assert parse and parse.values == {"drink": "latte", "time": "seven thirty"}
    assert parse.transcript == "a latte at seven thirty"


@pytest.mark.parametrize(
    ("digits", "words"),
    [("12", "twelve"), ("105", "one hundred and five"), ("1930", "nineteen thirty"), ("7:05", "seven oh five"),
     ("9:00", "nine o'clock"), ("20%", "twenty percent"), ("2nd", "second"), ("12th", "twelfth"), ("3.5", "three point five"),
     ("911", "nine one one"), ("1,000", "a thousand"), ("90", "ninety")],
)  # fmt: skip
def test_a_number_is_read_as_it_is_said(digits: str, words: str) -> None:
    assert tuple(words.split()) in numbers.readings(digits)


def test_what_is_written_in_digits_is_read_back_as_the_same_words() -> None:
    forms = numbers.written_forms()
    assert forms["seven", "thirty"] == ("7:30",) and "21st" in forms["twenty", "first"]
    assert all(words in numbers.readings(digits) for words, each in forms.items() for digits in each)


def test_a_text_with_two_meanings_names_both(write: Any) -> None:
    grammar = read_grammar(write("expressions: {a: 'go {x}', b: 'go {y}'}\nslots: {x: [up, out], y: [out, in]}"))
    parse = grammar.parse("go out")
    assert parse and (parse.label, parse.values) == ("a", {"x": "out"})
    assert [(other.label, other.values) for other in parse.others] == [("b", {"y": "out"})]
    both_ways = read_grammar(write("expressions: {a: ['go {x}', 'go [now] {x}']}\nslots: {x: [up]}"))
    parse = both_ways.parse("go up")
    assert parse and not parse.others, "two expressions with one meaning"


def test_sentences_are_counted_without_making_them(small: Grammar, write: Any) -> None:
    texts = {text for expression in small.expressions for text in all_texts(expression.body, small)}
    assert small.count() == (len(texts), True)
    start = time.process_time()
    million = read_grammar(write("expressions: {a: '" + "(a | b) " * 20 + "[c] [d] end'}"))
    assert million.count() == (2**22, True)
    assert million.parse("a b " * 10 + "c end") is not None
    assert time.process_time() - start < 5


def test_rules_in_rules_never_grow(write: Any) -> None:
    rules = "\n".join(f"  r{n}: '(<r{n - 1}> [x] | y <r{n - 1}> | <r{n - 1}> z)'" for n in range(1, 14))
    grammar = read_grammar(write(f"expressions: {{a: '<r13> end'}}\nrules:\n  r0: '[w]'\n{rules}"))
    start = time.process_time()
    assert grammar.parse("y " * 6 + "w " + "z " * 6 + "end") is not None
    assert grammar.parse("y " * 6 + "w " + "z " * 8 + "end") is None
    assert is_accepted(grammar.automaton, "y " * 6 + "w " + "z " * 6 + "end")
    assert time.process_time() - start < 10
    alike = read_grammar(write("expressions: {a: '" + "(a | a | a | a) " * 150 + "'}"))
    assert alike.count() == (1, True)
    alike = read_grammar(write("expressions: {a: '" + "".join(f"(a{n} | b | [c]) " for n in "xyz" * 30) + "e'}"))
    assert alike.count()[0] == MANY or alike.count()[1]


def random_grammar(seed: int) -> Grammar:
    """A small grammar with optional, alternative and empty parts, rules in rules, and slots."""
    draws = random.Random(seed)

    def node(depth: int, names: list[str]) -> expressions.Node:
        kind = draws.choice(("text", "text", "sequence", "choice", "rule", "slot") if depth else ("text", "rule"))
        if kind == "sequence":
            return expressions.Sequence(tuple(node(depth - 1, names) for _ in range(draws.randint(0, 3))))
        if kind == "choice":
            options = [expressions.Sequence((node(depth - 1, names),)) for _ in range(draws.randint(1, 3))]
            return expressions.Choice((*options, *([expressions.Sequence()] if draws.random() < 0.4 else [])))
        if kind == "rule" and names:
            return expressions.Rule(draws.choice(names))
        if kind == "slot":
            return expressions.Slot("s", "s")
        word = draws.choice("abc")
        return expressions.Text(word, (word,))

    rules: dict[str, NamedRule] = {}
    for name in "pqr":
        rules[name] = NamedRule(expressions.Sequence((node(2, list(rules)),)), "f:1")
    values = tuple(Value(t, (expressions.read_expression(t),), "f:2") for t in ("a", "b c", "a b"))
    bodies = [expressions.Sequence((node(3, list(rules)), expressions.Text("e", ("e",)))) for _ in range(3)]
    labels = [Expression(f"l{n}", "", body, f"f:{n}") for n, body in enumerate(bodies)]
    return Grammar(tuple(labels), {"s": values}, rules)


def test_the_automaton_and_the_parse_accept_the_sentences_that_are_written_out_and_no_others() -> None:
    tried = 0
    for seed in range(150):
        try:
            grammar = random_grammar(seed)
        except InputError:  # a slot that a sentence may have twice
            continue
        by_label = {e.label: set(all_texts(e.body, grammar)) for e in grammar.expressions}
        texts = set().union(*by_label.values())
        if len(texts) > 2000:
            continue
        tried += 1
        assert grammar.count() == (len(texts), True), seed
        near = {
            " ".join(words) for text in texts for words in itertools.combinations(text.split(), len(text.split()) - 1)
        }
        for text in [*texts, *near]:
            assert is_accepted(grammar.automaton, text) == (text in texts), (seed, text)
            readings = {parse.label for parse in grammar.read(text)}
            assert readings == {label for label, own in by_label.items() if text in own}, (seed, text)
    assert tried > 60


def test_few_sentences_have_every_value_and_every_option(small: Grammar) -> None:
    sentences = sample(small, 12, seed=3)
    assert {s.label for s in sentences} == {"brew", "stop"}
    values = {(slot.name, slot.value) for s in sentences for slot in s.slots}
    assert values == {("size", "small"), ("size", "large"), ("size", "twelve ounce"), ("drink", "latte"),
                      ("drink", "flat white"), ("time", "seven thirty"), ("time", "noon")}  # fmt: skip
    assert {s.text.split()[0] for s in sentences} >= {"stop", "no", "a"}
    for sentence in sentences:
        parse = small.parse(sentence.text)
        assert parse and (parse.label, parse.slots) == (sentence.label, sentence.slots)
        assert parse.expression is sentence.expression


def test_the_same_seed_draws_the_same_and_another_seed_does_not(small: Grammar) -> None:
    texts = [[sentence.text for sentence in sample(small, 10, seed)] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 10


def test_all_sentences_can_be_drawn_and_one_more_is_refused(small: Grammar) -> None:
    count, _ = small.count()
    texts = {sentence.text for sentence in sample(small, count)}
    assert len(texts) == count
    with pytest.raises(InputError, match=rf"{count + 1} different sentences were asked for, .* has only {count}"):
        sample(small, count + 1)


def test_values_for_test_are_drawn_for_test_only(write: Any) -> None:
    grammar = read_grammar(write("expressions: {a: 'the {x}'}\nslots: {x: {train: [lamp, fan], test: [oven]}}"))
    assert {s.text for s in sample(grammar, 2, split="train")} == {"the lamp", "the fan"}
    assert [s.text for s in sample(grammar, 1, split="test")] == ["the oven"]
    assert grammar.parse("the oven") and grammar.count() == (3, True)


BAD = {
    "an unknown slot": ("expressions: {a: 'the {szie}'}\nslots: {size: [big]}", r"g\.yaml:1: no slot 'szie' in slots:, did you mean 'size'\?"),
    "an unknown rule": ("expressions: {a: 'the <x>'}", r"g\.yaml:1: no rule 'x' in rules:, there are none"),
    "a loop": ("expressions: {a: '<x>'}\nrules:\n  x: 'go <y>'\n  y: 'on [<x>]'", r"g\.yaml:\d: <[xy]> -> <[xy]> -> <[xy]> is a circle"),
    "a rule of itself": ("expressions: {a: '<x>'}\nrules:\n  x: 'go [<x>]'", r"g\.yaml:3: <x> -> <x> is a circle"),
    "a slot in a rule in a slot": ("expressions: {a: 'go {x}'}\nslots: {x: ['in <r>'], y: [b]}\nrules: {r: 'a {y}'}", r"'in <r>' has no name"),
    "a slot in a slot": ("expressions: {a: 'go {x}'}\nslots: {x: [v: 'in {y}'], y: [b]}", r"g\.yaml:2: a value of \{x\} has a slot within, 'y'"),
    "an empty alternative": ("expressions: {a: 'go (up | )'}", r"g\.yaml:1: an empty alternative, in 'go \(up \| \)'"),
    "an empty optional part": ("expressions: {a: 'go []'}", r"g\.yaml:1: an empty alternative"),
    "an alternative of punctuation": ("expressions: {a: 'go (up | !)'}", r"g\.yaml:1: an empty alternative"),
    "an empty expression": ("expressions: {a: ['go', '']}", r"g\.yaml:1: an empty expression"),
    "an expression that may be silent": ("expressions:\n  a: '[go] [now]'", r"g\.yaml:2: the expression may say nothing"),
    "a value with digits": ("expressions: {a: 'at {t}'}\nslots:\n  t:\n  - seven\n  - 7:30", r"g\.yaml:5: digits in '7:30': write numbers in words"),
    "digits in an expression": ("expressions: {a: 'go 2 times'}", r"g\.yaml:1: digits in '2'"),
    "a bracket without its other half": ("expressions: {a: 'go (up'}", r"g\.yaml:1: '\(' is not closed"),
    "a bracket that opens nothing": ("expressions: {a: 'go up)'}", r"g\.yaml:1: '\)' closes no bracket"),
    "crossed brackets": ("expressions: {a: 'go [(up] now)'}", r"g\.yaml:1: '\(' is not closed"),
    "half a slot": ("expressions: {a: 'go {up'}", r"g\.yaml:1: '\{' has no other half"),
    "a slot without a name": ("expressions: {a: 'go {}'}", r"g\.yaml:1: '\{\}' has no name"),
    "a word from parts": ("expressions: {a: 'turn[ing] it'}", r"g\.yaml:1: no space before '\['"),
    "letters after a slot": ("expressions: {a: 'two {x}s'}\nslots: {x: [lamp]}", r"g\.yaml:1: no space before 's'"),
    "deep brackets": (f"expressions: {{a: '{'(' * 40}a{')' * 40}'}}", r"g\.yaml:1: brackets are nested deeper than 16"),
    "deep rules": ("expressions: {a: '<r30>'}\nrules:\n  r0: a\n" + "".join(f"  r{n}: <r{n - 1}>\n" for n in range(1, 31)), r"nested deeper than 16 rules"),
    "a sentence without end": ("expressions: {a: '<r9>'}\nrules:\n  r0: a\n" + "".join(f"  r{n}: <r{n - 1}> <r{n - 1}>\n" for n in range(1, 10)), r"may have 512 words, and a sentence may have 200"),
    "one slot twice": ("expressions: {a: 'from {x} to {x}'}\nslots: {x: [b]}", r"g\.yaml:1: the expression may have the slot 'x' twice: name them, as in \{x:first\}"),
    "a value twice": ("expressions: {a: 'a {x}'}\nslots:\n  x:\n  - big\n  - Big", r"g\.yaml:5: 'Big' is in the slot 'x' twice, first at .*g\.yaml:4"),
    "a slot without values": ("expressions: {a: 'a {x}'}\nslots: {x: []}", r"g\.yaml:2: the slot 'x' has no list of values"),
    "a value with brackets and no name": ("expressions: {a: 'a {x}'}\nslots: {x: ['[big] cat']}", r"g\.yaml:2: '\[big\] cat' has no name: write `- NAME:"),
    "a slot with other splits": ("expressions: {a: 'a {x}'}\nslots: {x: {dev: [b]}}", r"g\.yaml:2: x: a slot is a list of values, or has lists for train and test, not 'dev'"),
    "an unknown section": ("expresions: {a: go}", r"g\.yaml:1: no section 'expresions' in a grammar; did you mean 'expressions'\?"),
    "no expressions": ("slots: {x: [b]}", r"g\.yaml: no expressions"),
    "no expressions of a label": ("expressions: {a: []}", r"g\.yaml:1: expressions\.a: the list is empty"),
    "an expression that is a mapping": ("expressions: {a: [{b: c}]}", r"g\.yaml:1: expressions\.a: a text is needed; put quotes around it"),
    "expressions that are a list": ("expressions: [go]", r"g\.yaml:1: expressions: `name: \.\.\.` is needed"),
    "a label twice": ("expressions:\n  a: go\n  a: up", r"g\.yaml:3: `a:` is there twice"),
    "aliases": ("a: &a [x, x]\nexpressions: {b: *a}", r"g\.yaml:2: .*an alias"),
    "two documents": ("expressions: {a: go}\n---\nb: c", r"g\.yaml:2: .*a second document"),
    "deep YAML": ("expressions: " + "[" * 5000, r"g\.yaml:1: .*nested deeper than 32 levels"),
    "no YAML": ("expressions: {a: [", r"g\.yaml:2: not YAML that can be read"),
    "a list": ("- go", r"g\.yaml: no expressions"),
    "an unknown split out of scope": ("expressions: {a: go}\nout_of_scope: {train: {x: [y]}}", r"g\.yaml:2: out_of_scope has validation and test, not 'train'"),
    "a large file": ("expressions: {a: go}\n#" + "x" * 4_000_000, r"g\.yaml: 4,000,\d+ bytes, and a grammar may have 4,000,000"),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize("case", BAD)
def test_a_bad_grammar_is_refused_in_one_line_with_its_place(case: str, write: Any, capfd: Any) -> None:
    content, message = BAD[case]
    path = write(content)
    with pytest.raises(InputError, match=message) as caught:
        read_grammar(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.yaml: the grammar cannot be read: No such file"):
        read_grammar(tmp_path / "x.yaml")
    with pytest.raises(InputError, match=r"no \.yaml file of a grammar is in this directory"):
        read_grammar(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\x00\x01")
    with pytest.raises(InputError, match=r"x\.yaml:1: "):
        read_grammar(tmp_path / "x.yaml")


def test_the_files_of_a_directory_are_one_grammar_and_define_a_name_once(write: Any, tmp_path: Path) -> None:
    write("expressions: {a: 'the {x}'}", "a.yaml")
    write("slots: {x: [lamp]}", "b.yaml")
    parse = read_grammar(tmp_path).parse("the lamp")
    assert parse and parse.values == {"x": "lamp"}
    write("slots: {x: [fan]}\nrules: {r: s}", "c.yaml")
    with pytest.raises(InputError, match=r"c\.yaml:1: the slot 'x' is also in .*b\.yaml:1"):
        read_grammar(tmp_path)


RHINO = """
context:
  expressions:
    setAlarm:
      - "[set, make] (a, an, the) @alarm for $pv.TwoDigitInteger:hours [hour, hours] (and $pv.TwoDigitInteger:minutes minutes)"
    paint:
      - "make $color:first and $color:second, please"
  slots:
    color: [red, light blue]
  macros:
    alarm: [alarm, "(wake up) call"]
"""


def test_a_context_of_rhino_is_read(write: Any) -> None:
    grammar = read_grammar(write(RHINO))
    parse = grammar.parse("Set the wake up call for 12 hours and 30 minutes")
    assert parse and (parse.label, parse.values) == ("setAlarm", {"hours": "twelve", "minutes": "thirty"})
    parse = grammar.parse("make red and light blue please")
    assert parse and parse.values == {"first": "red", "second": "light blue"}
    assert grammar.parse("make a call for one hour") and not grammar.parse("make red and please")
    with pytest.raises(InputError, match=r"g\.yaml:4: no slot 'colour' in slots:, did you mean 'color'\?"):
        read_grammar(write("context:\n  expressions:\n    a:\n    - the $colour:c\n  slots:\n    color: [red]"))
    with pytest.raises(InputError, match=r"g\.yaml:4: '\$:x' has no name"):
        read_grammar(write("context:\n  expressions:\n    a:\n    - the $:x"))


NLU = """version: "3.1"
nlu:
- intent: fly
  examples: |
    - I fly from [Berlin]{"entity": "city", "role": "from"} to [NY](city:New York)
    - I fly from [Rome]{"entity": "city", "role": "from"} to [Big Apple](city)
    - take [me](person) and [you](person) there at [7:30](time)
- intent: 01
  examples: |
    - never (ever) mind 2 things
- synonym: New York
  examples: |
    - big apple
- lookup: city
  examples: |
    - Cairo
- lookup: banks
  examples: |
    - a bank
- regex: number
  examples: |
    - \\d+
"""


def test_training_data_of_rasa_becomes_expressions_with_slots(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    grammar = read_grammar(write(NLU, "nlu.yml"))
    assert [(e.label, e.source) for e in grammar.expressions] == [
        ("fly", "I fly from {city:city_from} to {city}"),
        ("fly", "take {person} and {person:person_2} there at {time}"),
        ("01", "never ever mind two things"),
    ]
    assert [value.text for value in grammar.slots["city"]] == ["Berlin", "New York", "Rome", "Cairo"]
    parse = grammar.parse("I fly from Cairo to big apple")
    assert parse and parse.values == {"city_from": "Cairo", "city": "New York"}
    parse = grammar.parse("take you and me there at 7:30")
    assert parse and parse.values == {"person": "you", "person_2": "me", "time": "7:30"}
    assert "4 examples became 3 expressions" in caplog.text
    assert "2 numbers are written in words, such as '2'" in caplog.text
    assert "passed over, because a grammar has no place for them: 1 regex" in caplog.text


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ('[a]{"entity": 3}', r"nlu\.yml:4: an entity is named 3, and a slot has a name"),
        ("[a]{entity: x}", r"nlu\.yml:4: not one entity in JSON: '\{entity: x\}'"),
        ('[a][{"entity": "x"}, {"entity": "y"}]', r"nlu\.yml:4: not one entity in JSON"),
        ("[!](x)", r"nlu\.yml:4: no words in the entity '!'"),
        ("?!", r"nlu\.yml:4: no words in '\?!'"),
    ],
)
def test_bad_entities_of_rasa_are_refused_with_their_line(example: str, message: str, write: Any) -> None:
    with pytest.raises(InputError, match=message):
        read_grammar(write(f"nlu:\n- intent: a\n  examples: |\n    - {example}\n", "nlu.yml"))


@pytest.mark.parametrize("content", [SMALL, RHINO, NLU])
def test_every_form_is_written_in_ours_and_means_the_same(content: str, write: Any) -> None:
    grammar = read_grammar(write(content))
    again = read_grammar(write(to_yaml(grammar), "again.yaml"))
    assert again.count() == grammar.count() and again.labels == grammar.labels
    for sentence in sample(grammar, 12):
        parses = grammar.parse(sentence.text), again.parse(sentence.text)
        assert parses[0] and parses[1] and parses[0].meaning == parses[1].meaning


def test_without_a_value_a_slot_a_label_or_an_expression_its_sentences_are_out(small: Grammar) -> None:
    texts = ["make a small latte will you", "make a small flat white will you", "a latte at noon", "stop latte"]
    assert all(map(small.parse, texts))
    for kept, grammar in {
        (0, 2, 3): small.without(slot="drink", value="flat white"),
        (2, 3): small.without(slot="size"),
        (0, 1, 2): small.without(label="stop"),
        (0, 1, 3): small.without(origin=small.expressions[1].origin),
    }.items():
        assert [number for number, text in enumerate(texts) if grammar.parse(text)] == list(kept)
    for wrong in ({"slot": "roast"}, {"slot": "size", "value": "tiny"}, {"label": "go"}, {"origin": "x:1"}):
        with pytest.raises(InputError, match="the grammar has no"):
            small.without(**wrong)
    with pytest.raises(InputError, match="no sentence of the grammar would be left"):
        small.without(slot="drink")


def test_an_optional_part_that_needs_what_is_gone_goes_and_the_rest_stays(write: Any) -> None:
    grammar = read_grammar(write("expressions: {a: 'go [to {x}] (now | by {x:then})'}\nslots: {x: [town]}"))
    left = grammar.without(slot="x")
    assert left.count() == (1, True) and left.parse("go now")


def test_near_misses_lack_each_value_and_each_expression_in_turn(small: Grammar) -> None:
    names = [name for name, _ in small.near_misses()]
    assert names[:4] == ["size=small", "size=large", "size=twelve ounce", "drink=latte"]
    assert len(names) == 7 + 3
    text = "make a large latte will you"
    assert [name for name, grammar in small.near_misses() if grammar.parse(text) is None] == [
        "size=large", "drink=latte", small.expressions[0].origin,
    ]  # fmt: skip


def test_the_problems_of_a_usable_grammar_are_named(write: Any, small: Grammar) -> None:
    assert list(checks.find_problems(small)) == []
    grammar = read_grammar(
        write(
            "expressions:\n"
            "  on:\n  - turn [the] {device} on\n  - put on the {room} light\n"
            "  off:\n  - turn (the | a) lamp on\n  - put on the kitchen light\n"
            "  both: make {size} {roast} coffee\n"
            "slots:\n  device: [lamp, fan]\n  room: [kitchen, hall]\n"
            "  size: [small, medium, medium small]\n  roast: [medium, small medium]\n  unused: [x]\nrules: {r: s}\n"
        )
    )
    found = "\n".join(checks.find_problems(grammar))
    for problem in (
        r"g.yaml:14: {unused} is in no expression",
        r"g.yaml:15: <r> is in no expression",
        r"g.yaml:13: 'medium' is a value of {size} and {roast}",
        r"have a sentence in common: 'turn the lamp on'",
        r"'put on the kitchen light' (off) can never be told from",
        r"g.yaml:8: 'make medium small medium coffee' gives its slots in 2 ways",
    ):
        assert problem in found
    assert "'put on the {room} light' (on) can never" not in found


def test_a_grammar_and_data_without_a_word_in_common_are_refused(small: Grammar) -> None:
    checks.check_shared_words(small, ["turn a lamp on"], "decode.grammar=g.yaml")
    with pytest.raises(InputError, match=r"decode\.grammar=g\.yaml: shares no word with the transcripts"):
        checks.check_shared_words(small, ["open the door", "close it"], "decode.grammar=g.yaml")


def test_the_corpus_is_a_grammar_whose_sentences_are_parsed() -> None:
    corpus = read_grammar(CORPUS)
    assert len(corpus.labels) == 8 and corpus.count()[0] > 100_000
    for sentence in itertools.islice(draw(corpus), 200):
        parse = corpus.parse(sentence.text)
        meanings = {each.meaning for each in (parse, *parse.others)} if parse else set()
        assert (sentence.label, *sorted(sentence.values.items())) in meanings, sentence


def test_the_recipe_shows_checks_samples_parses_and_imports(write: Any, tmp_path: Path, capfd: Any) -> None:
    path = write(RHINO)
    code, printed = run_and_read(capfd, "grammar", str(path), "--output", str(tmp_path / "ours.yaml"))
    assert code == 0 and "paint: 1 expressions" in printed and "0 warnings" in printed
    code, printed = run_and_read(capfd, "grammar", str(tmp_path / "ours.yaml"), "--sample", "3", "--seed", "5")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 0 and [set(row) for row in rows] == [{"transcript", "label", "slots"}] * 3
    code, printed = run_and_read(capfd, "grammar", str(path), "--parse", "make red and red please")
    assert code == 0 and json.loads(printed)["slots"][0] == {"name": "first", "value": "red", "start": 5, "end": 8}
    code, printed = run_and_read(capfd, "grammar", str(path), "--parse", "make tea")
    assert code == 0 and json.loads(printed) is None
    data = write("transcript\nmake red and red please\nmake a green tea\n", "a.csv")
    code, printed = run_and_read(capfd, "grammar", str(path), "--data", str(data))
    assert code == 0 and "2 words of the data are not in the grammar: 'green', 'tea'" in printed
    assert "1 of 2 texts are not of the grammar, such as" in printed


def test_the_recipe_ends_with_2_and_one_line_and_writes_nothing(write: Any, tmp_path: Path, capfd: Any) -> None:
    path = write("expressions: {a: 'the {x}'}")
    code, printed = run_and_read(capfd, "grammar", str(path), "--output", str(tmp_path / "ours.yaml"))
    assert code == 2 and len(printed.splitlines()) == 1 and "g.yaml:1: no slot 'x'" in printed
    assert not (tmp_path / "ours.yaml").exists()
    path = write("expressions: {a: 'the x'}")
    code, printed = run_and_read(capfd, "grammar", str(path), "--sample", "2")
    assert code == 2 and "2 different sentences were asked for, and the grammar has only 1" in printed


@needs_orders
def test_the_published_grammar_of_orders_reads_every_transcript_as_its_slots() -> None:
    import csv

    grammar = read_grammar(ORDERS / "coffee_maker.yaml")
    assert grammar.count() == (120_130_920, True) and len(grammar.expressions) == 80
    for split in ("train", "validation"):
        with (ORDERS / split / "metadata.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                parse = grammar.parse(row["transcript"])
                assert parse and parse.values == json.loads(row["slots"]) and not parse.others
