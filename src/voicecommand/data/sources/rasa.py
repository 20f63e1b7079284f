"""The training data of Rasa's NLU in YAML: the examples of each intent, without their annotations of entities."""

from __future__ import annotations

import logging
import re
from collections import Counter

import yaml

from voicecommand.data.sources.encoding import read_text
from voicecommand.data.table import Table, quote
from voicecommand.errors import InputError
from voicecommand.files import PlainYaml

logger = logging.getLogger(__name__)
# Kinds of items that hold no examples of intents.
OTHERS = ("synonym", "regex", "lookup")
# [text](entity), [text](entity:value), [text]{"entity": ...}, [text][{"entity": ...}, ...], as Rasa's own parser.
# No part can match an opening bracket, so that a text of many brackets is read in one pass.
ENTITY = re.compile(r"\[(?P<text>[^\[\]]+)\](?:\([^()\[\]]+\)|\{[^{}]+\}|\[\{[^\[\]]*\}\])")


def read_nlu(file: str) -> Table:
    """The examples of all intents, with `text` and `label`, by their line in the file.

    The label is the whole name of the intent, also of a retrieval intent (`faq/opening_hours`). Synonyms, regular
    expressions and lookup tables are counted and not read, and so are the other sections of the file.

    Raises:
        InputError: it is not YAML, or has no section `nlu`.
    """
    try:
        root = yaml.compose(read_text(file)[0], Loader=PlainYaml)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{file}:{line}: not YAML that can be read: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file}: not YAML that can be read: {' '.join(str(error).split())[:200]}") from None
    table = Table(file, ["text", "label"])
    sections = _fields(file, root, table.bad)
    nlu = sections.pop("nlu", None)
    if not isinstance(nlu, yaml.SequenceNode):
        raise InputError(
            f"{file}: no section `nlu:` with a list of intents; YAML is read only as training data of Rasa's NLU"
        )
    passed_over: Counter[str] = Counter()
    for item in nlu.value:
        fields = _fields(file, item, table.bad)
        kind = next((kind for kind in ("intent", *OTHERS) if kind in fields), None)
        if kind is None:
            table.bad.append(f"{file}:{_line(item)}: an item without `intent:`; it has {quote(fields) or 'nothing'}")
        elif kind in OTHERS:
            passed_over[kind] += 1
        else:
            _read_intent(file, fields, table)
    entities = 0
    for _, cells in table.rows:
        cells["text"], count = ENTITY.subn(lambda match: match["text"], cells["text"])
        entities += count
    others = [f"{count} {kind}" for kind, count in passed_over.items()] + [n for n in sections if n != "version"]
    if entities:
        logger.info("%s: %s annotations of entities became their plain text", file, f"{entities:,}")
    if others:
        logger.warning("%s: passed over, because only the examples of intents are read: %s", file, ", ".join(others))
    return table


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _fields(file: str, node: yaml.Node | None, bad: list[str]) -> dict[str, yaml.Node]:
    """The fields of a mapping; empty for another node."""
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            bad.append(f"{file}:{_line(key)}: a key that is no word")
            continue
        if key.value in fields:
            bad.append(f"{file}:{_line(key)}: `{key.value}:` is there twice")
        fields[str(key.value)] = value
    return fields


def _read_intent(file: str, fields: dict[str, yaml.Node], table: Table) -> None:
    """Add the examples of one intent: lines that begin with "- " of a block, or the items of a list."""
    intent, examples = fields["intent"], fields.get("examples")
    found: list[tuple[int, str]] = []
    if isinstance(examples, yaml.ScalarNode) and examples.style == "|":
        for row, line in enumerate(examples.value.split("\n"), start=_line(examples) + 1):
            if line.startswith("-"):
                found.append((row, line[1:].strip()))
            elif line.strip():
                table.bad.append(f"{file}:{row}: an example begins with '- ': {line.strip()[:40]!r}")
    elif isinstance(examples, yaml.SequenceNode):
        for item in examples.value:
            text = _fields(file, item, table.bad).get("text", item)
            if isinstance(text, yaml.ScalarNode):
                found.append((_line(text), text.value.strip().removeprefix("- ")))
            else:
                table.bad.append(f"{file}:{_line(item)}: an example without `text:`")
    else:
        table.bad.append(f"{file}:{_line(intent)}: no `examples: |` with a line `- TEXT` for each example")
        return
    if not found:
        table.bad.append(f"{file}:{_line(intent)}: the intent {intent.value!r} has no examples")
    table.rows += [(row, {"text": text, "label": intent.value}) for row, text in found]
