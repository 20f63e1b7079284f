"""The training data of Rasa's NLU in YAML: the examples of each intent, without their annotations of entities."""

from __future__ import annotations

import logging
import re

import yaml

from voicecommand.data.nodes import fields_of, line_of, read_nodes
from voicecommand.data.table import Table, quote
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
# Kinds of items that hold no examples of intents.
OTHERS = ("synonym", "regex", "lookup")
# [text](entity), [text](entity:value), [text]{"entity": ...}, [text][{"entity": ...}, ...], as Rasa's own parser.
# No part can match an opening bracket, so that a text of many brackets is read in one pass.
ENTITY = re.compile(
    r"\[(?P<text>[^\[\]]+)\](?:\((?P<name>[^()\[\]]+)\)|(?P<fields>\{[^{}]+\})|\[(?P<several>\{[^\[\]]*\})\])"
)


def read_nlu(file: str) -> Table:
    """The examples of all intents, with `text` and `label`, by their line in the file.

    The label is the whole name of the intent, also of a retrieval intent (`faq/opening_hours`). Synonyms, regular
    expressions and lookup tables are counted and not read, and so are the other sections of the file.

    Raises:
        InputError: it is not YAML, or has no section `nlu`.
    """
    table, others, sections = read_items(file)
    entities = 0
    for _, cells in table.rows:
        cells["text"], count = ENTITY.subn(lambda match: match["text"], cells["text"])
        entities += count
    passed_over = [f"{len(items)} {kind}" for kind, items in others.items()] + sections
    if entities:
        logger.info("%s: %s annotations of entities became their plain text", file, f"{entities:,}")
    if passed_over:
        logger.warning(
            "%s: passed over, because only the examples of intents are read: %s", file, ", ".join(passed_over)
        )
    return table


def read_items(file: str) -> tuple[Table, dict[str, list[dict[str, yaml.Node]]], list[str]]:
    """The examples of all intents as they are written; the items of each of OTHERS; the names of other sections.

    Raises:
        InputError: it is not YAML, or has no section `nlu`.
    """
    table = Table(file, ["text", "label"])
    sections = fields_of(file, read_nodes(file), table.bad)
    nlu = sections.pop("nlu", None)
    if not isinstance(nlu, yaml.SequenceNode):
        raise InputError(
            f"{file}: no section `nlu:` with a list of intents; YAML is read only as training data of Rasa's NLU"
        )
    others: dict[str, list[dict[str, yaml.Node]]] = {}
    for item in nlu.value:
        fields = fields_of(file, item, table.bad)
        kind = next((kind for kind in ("intent", *OTHERS) if kind in fields), None)
        if kind is None:
            table.bad.append(f"{file}:{line_of(item)}: an item without `intent:`; it has {quote(fields) or 'nothing'}")
        elif kind in OTHERS:
            others.setdefault(kind, []).append(fields)
        else:
            name, found = fields["intent"].value, read_examples(file, "intent", fields, table.bad)
            table.rows += [(row, {"text": text, "label": name}) for row, text in found]
    return table, others, [name for name in sections if name != "version"]


def read_examples(file: str, kind: str, fields: dict[str, yaml.Node], bad: list[str]) -> list[tuple[int, str]]:
    """(row, text) of the examples of an item: lines that begin with "- " of a block, or the items of a list.

    Args:
        kind: the field that names the item, such as "intent".
        fields: of the item.
        bad: gets the problems.
    """
    item, examples = fields[kind], fields.get("examples")
    found: list[tuple[int, str]] = []
    if isinstance(examples, yaml.ScalarNode) and examples.style == "|":
        for row, line in enumerate(examples.value.split("\n"), start=line_of(examples) + 1):
            if line.startswith("-"):
                found.append((row, line[1:].strip()))
            elif line.strip():
                bad.append(f"{file}:{row}: an example begins with '- ': {line.strip()[:40]!r}")
    elif isinstance(examples, yaml.SequenceNode):
        for example in examples.value:
            text = fields_of(file, example, bad).get("text", example)
            if isinstance(text, yaml.ScalarNode):
                found.append((line_of(text), text.value.strip().removeprefix("- ")))
            else:
                bad.append(f"{file}:{line_of(example)}: an example without `text:`")
    else:
        bad.append(f"{file}:{line_of(item)}: no `examples: |` with a line `- TEXT` for each example")
        return []
    if not found:
        bad.append(f"{file}:{line_of(item)}: the {kind} {item.value!r} has no examples")
    return found
