"""Any problem of an audio file gives one line that names file and row, exit code 2, and no files.

The table is in bad_audio.py. Its cases go through the recipe's own entry, in this process; `REAL` names those that
also run as processes.
"""

from __future__ import annotations

import copy
import csv
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import bad_audio
from bad_audio import CASES, Case
from support import ROOT, run_recipe
from voicecommand import files
from voicecommand.audio import clips, decode
from voicecommand.data import prepared as data_prepared
from voicecommand.errors import InputError

TRAIN = ("model=bcresnet", "data=folder", "data.path=data", "runs=runs", "training=smoke", "num_proc=1", "threads=1")
REAL = {"empty file", "pipe", "3 hours", "1,024 channels", "NaN", "link outside the folder", "name that is not UTF-8"}
COMPOSED: dict[Any, Any] = {}


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    """Opening a pipe waits for ever: stop the test instead, but not a process that starts slowly on a busy machine."""

    def stop(*_: Any) -> None:
        raise TimeoutError("two minutes are over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _compose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all cases have the same words, which Hydra takes longer to compose than a run to refuse a clip."""

    def load_configuration(loader: Any, *asked: Any, **named: Any) -> Any:
        key = str((asked, named))
        if key not in COMPOSED:
            COMPOSED[key] = compose(loader, *asked, **named)
        return copy.deepcopy(COMPOSED[key])

    compose = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load_configuration)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an empty `data` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def set_the_scene(case: Case, at: Path) -> tuple[list[str], set[str]]:
    """Argv of the run, and the files that are there before it."""
    if os.geteuid() == 0 and not case.also_for_root:
        pytest.skip("root may read it")
    case.make(at / "data")
    return [*TRAIN, *case.overrides], files_under(at)


def files_under(path: Path) -> set[str]:
    """All but the lock of the prepared audio, which stays."""
    found = {os.fsencode(file.relative_to(path)).decode(errors="replace") for file in path.rglob("*")}
    return found - {"cache", "cache/sound", "cache/sound/.lock"}


def check_output(case: Case, code: int, output: str) -> None:
    lines = [line for line in output.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert code == 2, output
    assert len(lines) == 1, output
    assert lines[0].isprintable(), lines[0]
    assert re.search(case.pattern, lines[0]), f"{lines[0]!r} does not match {case.pattern!r}"
    assert "Traceback" not in output


def test_there_are_at_least_fifty_five_distinct_cases() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 55
    assert len({case.pattern + str(case.make) for case in CASES}) == len(CASES)
    assert len(REAL & {case.id for case in CASES}) == len(REAL) >= 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "_"))
def test_bad_sound_is_one_line_and_an_exit_code(
    case: Case, at: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv, before = set_the_scene(case, at)
    code = run_recipe("train", *argv)
    check_output(case, code, capfd.readouterr().err)
    assert files_under(at) == before, "no run directory, no prepared audio"


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.id in REAL], ids=lambda case: case.id)
def test_bad_sound_in_a_real_process(case: Case, at: Path) -> None:
    argv, before = set_the_scene(case, at)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(at / "home")}
    command = [sys.executable, str(ROOT / "recipes" / "train.py"), *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=at, env=environment, timeout=60)
    check_output(case, done.returncode, done.stderr)
    left = {name for name in files_under(at) - before if not (at / name).is_dir()}
    assert left <= {"home/datasets/voicecommand/sound/.lock"}, left


def test_the_folder_that_every_case_starts_from_trains(at: Path, cache: Path) -> None:
    bad_audio.good(at / "data")
    assert run_recipe("train", *TRAIN, "augment=none") == 0
    assert len(list(cache.rglob("*.arrow"))) == 3 and list(at.glob("runs/folder-*/*/model/model.safetensors"))


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


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "both"], ids=lambda case: case.id)
def test_what_comes_in_the_place_of_a_sound_after_the_loader_is_noticed_too(case: Case, at: Path, cache: Path) -> None:
    set_the_scene(case, at)
    with pytest.raises(InputError, match=case.pattern) as raised:
        data_prepared.prepare(load_table(at / "data"))
    assert str(raised.value).startswith("1 bad row, none is dropped: ")
    assert not list(cache.rglob("*.arrow")) and not list(cache.rglob("*.part"))


def test_clean_sound_of_every_kind_raises_no_alarm(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = bad_audio.clean_clips()
    assert len(clean) > 130
    rows = []
    for name, (data, _, _) in clean.items():
        (tmp_path / name).write_bytes(data)
        rows.append([f'"{name}"', "on"])
    bad_audio.write_table(tmp_path, rows)
    with caplog.at_level("WARNING"):
        prepared = data_prepared.prepare(load_table(tmp_path))["train"]
    assert not caplog.records
    assert prepared["resampled"][:] == [resampled for _, resampled, _ in clean.values()]
    assert prepared["downmixed"][:] == [downmixed for _, _, downmixed in clean.values()]
    for name, clip in zip(clean, clips.Clips(prepared), strict=True):
        expected = {"10 ms.wav": 160, "60 s.flac": 960_000}.get(name)
        assert len(clip) == expected if expected else 4000 <= len(clip) <= 36_000, name  # with an encoder's padding
        assert clip.std() > 500, name


@pytest.mark.parametrize("says_length", [True, False])
def test_a_small_file_of_much_silence_takes_little_memory(says_length: bool) -> None:
    data = bad_audio.silence_flac(10, says_length)
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            decode.read_audio(data)
        assert tracemalloc.get_traced_memory()[1] < 8e6  # 60 s of it, not 10 minutes
    finally:
        tracemalloc.stop()
