"""References ${...} of one value of a configuration to others, which may grow without bounds."""

from __future__ import annotations

import re
from typing import Any

from voicecommand.errors import InputError

MAX_REFERENCES = 1_000
PLAIN = re.compile(r"\$\{\s*(\.*)([^${}:]*)\}")  # ${a.b}, ${a[b]}, ${.b} from the parent, ${..b} from the one above
ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")

Path = tuple[str, ...]
# The text of each value by its path, and the paths of the values of each section.
Nodes = dict[Path, str | list[Path]]


def check(content: Any) -> None:
    """Check that no value refers to too many others, nor by references to values that refer to others again.

    Raises:
        InputError: a value stands for more than MAX_REFERENCES others; where there are references within others
            (`${a.${b}}`) or resolvers but `oc.env`, the product of the numbers of references in all values is.
    """
    nodes: Nodes = {}
    _collect(content, (), nodes)
    texts = {path: node for path, node in nodes.items() if isinstance(node, str)}
    is_plain = all("${" not in ENVIRONMENT.sub("", PLAIN.sub("", text)) for text in texts.values())
    counts: dict[Path, int] = {}
    product = 1
    for path, text in texts.items():
        product *= max(1, text.count("${"))
        try:
            count = _count(path, nodes, counts) if is_plain else product
        except RecursionError:  # a chain of a thousand
            count = MAX_REFERENCES + 1
        if count > MAX_REFERENCES:
            raise InputError(f"{'.'.join(path)}: too many references ${{...}} to other values; write the values out")


def _collect(node: Any, path: Path, nodes: Nodes) -> None:
    if path in nodes:
        raise InputError(f"{'.'.join(path)}: is there twice, as a number and as a text")
    if isinstance(node, dict | list):
        items = [(*path, str(key)) for key in (node if isinstance(node, dict) else range(len(node)))]
        nodes[path] = items
        for item, value in zip(items, node.values() if isinstance(node, dict) else node, strict=True):
            _collect(value, item, nodes)
    elif isinstance(node, str):
        nodes[path] = node


def _count(path: Path, nodes: Nodes, counts: dict[Path, int]) -> int:
    """How many references are followed for the value at a path, or for all values of a section; at least 1.

    A reference to itself counts as one: OmegaConf refuses it.
    """
    if path not in counts:
        counts[path] = 1
        node = nodes.get(path, [])
        parts = [_resolve(path, *found) for found in PLAIN.findall(node)] if isinstance(node, str) else node
        counts[path] = max(1, sum(_count(part, nodes, counts) for part in parts))
    return counts[path]


def _resolve(path: Path, dots: str, name: str) -> Path:
    """The path that a reference in the value at `path` names."""
    above = path[: -len(dots)] if dots else ()
    return (*above, *re.findall(r"[^.\[\]\s]+", name))
