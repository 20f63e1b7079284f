"""The built-in list of words, and the reader of the corpus files."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import yaml

# The pure-Python parser takes most of a second for this corpus.
YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_words() -> list[str]:
    """Returns some 2,100 common English words, which similar-sounding ones are looked for in."""
    words: str = read_corpus("words.yaml")["words"]
    return words.split()


def normalise(text: str) -> str:
    """Lower case without punctuation: two texts that differ in these alone count as one."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


def read_corpus_text(name: str) -> str:
    corpus = resources.files("voicecommand.data").joinpath("corpus", name)
    return corpus.read_text(encoding="utf-8")


def read_corpus(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(read_corpus_text(name), Loader=YamlLoader)
    return content
