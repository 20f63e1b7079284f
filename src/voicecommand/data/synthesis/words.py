"""The built-in list of words, and the readers of the corpus files."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import yaml

# The C parser: the pure-Python one takes most of a second for this corpus.
YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_words() -> list[str]:
    """About 2,100 common English words, among which near misses are searched."""
    words: str = read_corpus("words.yaml")["words"]
    return words.split()


def normalise(text: str) -> str:
    """The text in lower case without punctuation: texts that differ only in these count as the same."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


def read_corpus_text(name: str) -> str:
    """The text of a file of voicecommand/data/corpus."""
    corpus = resources.files("voicecommand.data").joinpath("corpus", name)
    return corpus.read_text(encoding="utf-8")


def read_corpus(name: str) -> dict[str, Any]:
    """The content of a yaml file of voicecommand/data/corpus."""
    content: dict[str, Any] = yaml.load(read_corpus_text(name), Loader=YamlLoader)
    return content
