"""Mutated files through our own readers: the short form of benchmarks/fuzz.py, and what it has found."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from voicecommand.errors import InputError


@pytest.fixture(scope="module")
def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks" / "fuzz.py")
    assert spec and spec.loader
    module = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGETS = (
    "csv", "jsonl", "json", "parquet", "rasa", "wav", "sound", "config", "record", "status", "inputs", "manifest",
    "model", "metrics", "history",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused(name: str, fuzz: Any, tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    try:
        found = fuzz.fuzz(name, float(os.environ.get("FUZZ", "0.5")), 0, tmp_path)
    finally:
        logging.disable(logging.NOTSET)
    assert set(fuzz.TARGETS) == set(TARGETS)
    assert not found.crashes and not found.slow
    assert found.inputs > 1 and found.accepted >= 1


def test_the_fuzzer_finds_what_is_broken(fuzz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_at(path: Path) -> None:
        if b"\n" not in path.read_bytes()[:12]:
            raise ZeroDivisionError("a bug")

    monkeypatch.setitem(fuzz.TARGETS, "broken", fuzz.Target("a.csv", fuzz._csv, break_at, (b"\n",)))
    assert fuzz.fuzz("broken", 0.3, 0, tmp_path).crashes
    monkeypatch.setattr(fuzz, "SECONDS", -1.0)
    monkeypatch.setitem(fuzz.TARGETS, "slow", fuzz.Target("a.csv", fuzz._csv, Path.read_bytes, (b"\n",)))
    assert fuzz.fuzz("slow", 0.3, 0, tmp_path).slow


def test_the_same_seed_gives_the_same_inputs(fuzz: Any) -> None:
    import random

    first, second = (
        [fuzz.mutate(b"text,label\na,b\n", (b'"',), draw) for _ in range(50)]
        for draw in (random.Random(3), random.Random(3))
    )
    assert first == second and len(set(first)) > 40


def test_a_parquet_file_with_a_text_that_is_not_utf8_names_the_row(fuzz: Any, tmp_path: Path) -> None:
    content = fuzz._parquet()[0].replace("día on".encode(), b"d\xe5\xada on", 1)
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet:5: a text that is not UTF-8"):
        fuzz.TARGETS["parquet"].read(tmp_path / "a.parquet")


def test_a_parquet_file_with_a_column_whose_name_is_not_utf8_is_one_line(fuzz: Any, tmp_path: Path) -> None:
    content = fuzz._parquet()[0].replace(b"text", b"te\xfft")
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: the name of a column is not UTF-8; is the file damaged\?"):
        fuzz.TARGETS["parquet"].read(tmp_path / "a.parquet")
