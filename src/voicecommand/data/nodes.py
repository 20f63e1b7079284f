"""A YAML file of data as nodes that know their lines."""

from __future__ import annotations

import yaml

from voicecommand.data.sources.encoding import read_text
from voicecommand.errors import InputError
from voicecommand.files import compose_yaml


def read_nodes(file: str) -> yaml.Node | None:
    """The root of a YAML file.

    Raises:
        OSError: it can't be read.
        InputError: it is not text, not YAML, nested too deep, or has aliases.
    """
    try:
        return compose_yaml(read_text(file)[0])
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{file}:{line}: not YAML that can be read: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file}: not YAML that can be read: {' '.join(str(error).split())[:200]}") from None


def line_of(node: yaml.Node) -> int:
    """The line at which a node begins, from 1."""
    return int(node.start_mark.line) + 1


def fields_of(file: str, node: yaml.Node | None, bad: list[str]) -> dict[str, yaml.Node]:
    """The fields of a mapping; empty for another node. Appends to `bad` keys that are no word or are there twice."""
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            bad.append(f"{file}:{line_of(key)}: a key that is no word")
            continue
        if key.value in fields:
            bad.append(f"{file}:{line_of(key)}: `{key.value}:` is there twice")
        fields[str(key.value)] = value
    return fields
