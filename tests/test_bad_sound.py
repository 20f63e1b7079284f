"""Whatever is wrong with a sound ends in one line that names file and row, in exit code 2 and in no prepared data.

The table is in bad_sounds.py. Here its cases go through functions: a loader and `prepare`.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bad_sounds
from bad_sounds import CASES, Case
from voicecommand import audio
from voicecommand.data import sound
from voicecommand.errors import InputError


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    """Opening a pipe waits for ever: stop the test instead."""

    def stop(*_: Any) -> None:
        raise TimeoutError("20 seconds are over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(audio, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def load_table(directory: Path) -> Any:
    """The rows of metadata.csv as a loader gives them, without its checks."""
    from datasets import Dataset, DatasetDict

    columns: dict[str, list[str]] = {"id": [], "origin": [], "audio": [], "label": []}
    with (directory / "metadata.csv").open(newline="") as file:
        for row, (name, label) in enumerate(csv.reader(file), start=1):
            if row > 1:
                values = (str(row), f"{directory}/metadata.csv:{row}", str(directory / name), label)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    return DatasetDict({"train": Dataset.from_dict(columns)})


def check_line(case: Case, error: InputError) -> None:
    assert error.exit_code == 2
    line = str(error)
    assert line.isprintable(), line
    assert re.search(case.pattern, line), f"{line!r} does not match {case.pattern!r}"


def prepared_files(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def test_there_are_at_least_fifty_five_distinct_cases() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 55
    assert len({case.pattern + str(case.make) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "both"], ids=lambda case: case.id)
def test_what_comes_in_the_place_of_a_sound_after_the_loader_is_noticed_too(
    case: Case, tmp_path: Path, cache: Path
) -> None:
    if os.geteuid() == 0 and not case.also_for_root:
        pytest.skip("root may read it")
    directory = tmp_path / "data"
    directory.mkdir()
    case.make(directory)
    with pytest.raises(InputError) as raised:
        sound.prepare(load_table(directory))
    check_line(case, raised.value)
    assert str(raised.value).startswith("1 bad row, none is dropped: ")
    assert not prepared_files(cache)


def load_and_prepare(directory: Path, overrides: tuple[str, ...] = ()) -> Any:
    """As a run does: the loader, the checks of the data, and `prepare`."""
    from voicecommand.data import checks, folder

    settings: dict[str, Any] = {}
    for word in overrides:
        key, value = word.removeprefix("data.").split("=")
        name, below = key.split(".")
        settings[name] = {below: value}
    dataset = folder.load_folder(("audio", "label"), str(directory), **settings)
    checks.check(dataset, ("audio", "label"))
    return sound.prepare(dataset)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "_"))
def test_a_bad_folder_is_one_line_and_leaves_nothing(case: Case, tmp_path: Path, cache: Path) -> None:
    if os.geteuid() == 0 and not case.also_for_root:
        pytest.skip("root may read it")
    directory = tmp_path / "data"
    directory.mkdir()
    case.make(directory)
    with pytest.raises(InputError) as raised:
        load_and_prepare(directory, case.overrides)
    check_line(case, raised.value)
    assert not prepared_files(cache)


@pytest.mark.parametrize("make", [bad_sounds.good, bad_sounds.good_clips])
def test_the_folder_that_every_case_starts_from_is_good(make: Any, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    prepared = load_and_prepare(tmp_path / "data")
    assert sum(len(split) for split in prepared.values()) == 2 * bad_sounds.CLIPS


def test_clean_sound_of_every_kind_raises_no_alarm(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = bad_sounds.clean_sounds()
    assert len(clean) > 130
    rows = []
    for name, (data, _, _) in clean.items():
        (tmp_path / name).write_bytes(data)
        rows.append([f'"{name}"', "on"])
    bad_sounds.write_table(tmp_path, rows)
    with caplog.at_level("WARNING"):
        prepared = sound.prepare(load_table(tmp_path))["train"]
    assert not caplog.records
    assert prepared["resampled"][:] == [resampled for _, resampled, _ in clean.values()]
    assert prepared["downmixed"][:] == [downmixed for _, _, downmixed in clean.values()]
    for name, clip in zip(clean, audio.Clips(prepared), strict=True):
        expected = {"10 ms.wav": 160, "60 s.flac": 960_000}.get(name)
        assert len(clip) == expected if expected else 4000 <= len(clip) <= 36_000, name  # with an encoder's padding
        assert clip.std() > 500, name


@pytest.mark.parametrize("says_length", [True, False])
def test_a_small_file_of_much_silence_takes_little_memory(says_length: bool) -> None:
    data = bad_sounds.silence_flac(10, says_length)
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            audio.read_audio(data)
        assert tracemalloc.get_traced_memory()[1] < 8e6  # 60 s of it, not 10 minutes
    finally:
        tracemalloc.stop()
