"""The built-in list of words, and the lists of what people say around a command."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import yaml


def read_words() -> list[str]:
    """About 2,100 common English words, among which near misses are searched."""
    words: str = read_lists("words.yaml")["words"]
    return words.split()


def normalise(text: str) -> str:
    """The text in lower case without punctuation: texts that differ only in these count as the same."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


def read_lists(name: str) -> dict[str, Any]:
    """The content of a yaml file of voicecommand/data/synthesis."""
    text = resources.files("voicecommand.data.synthesis").joinpath(name).read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content
