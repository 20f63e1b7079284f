"""Atomic files and directories, whatever fails and whenever, with only one writer at a time."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import ROOT
from voicecommand import files
from voicecommand.errors import StorageError

Write = Callable[[Path, str], None]


def write_streamed(path: Path, content: str) -> None:
    with files.open_whole(path) as file:
        for character in content:
            file.write(character.encode())


def write_directory(path: Path, content: str) -> None:
    with files.staged(path) as staging:
        (staging / "deep").mkdir()
        (staging / "deep" / "weights").write_text(content)
        (staging / "deep" / "weights").chmod(0o600)


WRITERS: dict[str, Write] = {
    "bytes": lambda path, content: files.write_bytes(path, content.encode()),
    "text": files.write_text,
    "json": files.write_json,
    "streamed": write_streamed,
    "directory": write_directory,
}


def content_of(path: Path) -> bytes:
    return ((path / "deep" / "weights") if path.is_dir() else path).read_bytes()


class Disk:
    """What is asked of the disk, in order, as "fsync NAME" and "replace FROM TO"; and where it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failing = ""
        self.error: BaseException = OSError(errno.ENOSPC, "No space left on device")
        fsync, replace = os.fsync, os.replace

        def note(call: str, act: Callable[[], None]) -> None:
            self.calls.append(call)
            if self.failing and call.startswith(self.failing):
                self.failing = ""
                raise self.error
            act()

        def observed_fsync(number: int) -> None:
            note(f"fsync {Path(os.readlink(f'/proc/self/fd/{number}')).name}", lambda: fsync(number))

        def observed_replace(source: Path, target: Path) -> None:
            note(f"replace {Path(source).name} {Path(target).name}", lambda: replace(source, target))

        monkeypatch.setattr(os, "fsync", observed_fsync)
        monkeypatch.setattr(os, "replace", observed_replace)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that nothing but the test's files lies in."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_can_be_read_by_all_and_replaces_the_old(kind: str, place: Path) -> None:
    mask = os.umask(0o077)
    try:
        for content in ("old", "newer ü"):
            WRITERS[kind](place / "new folder" / "a", content)
    finally:
        os.umask(mask)
    path = place / "new folder" / "a"
    written = content_of(path)
    assert written == ('"newer ü"\n' if kind == "json" else "newer ü").encode()
    assert (path / "deep" / "weights" if path.is_dir() else path).stat().st_mode & 0o777 == 0o644
    assert os.listdir(place / "new folder") == ["a"]


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_folder_after(place: Path, disk: Disk) -> None:
    files.write_text(place / "a", "x")
    assert disk.calls == ["fsync .a.part", "replace .a.part a", "fsync place"]
    disk.calls.clear()
    files.write_bytes(place / "b", b"x", flush=False)
    assert disk.calls == ["replace .b.part b"]


def test_a_directory_is_on_the_disk_before_the_old_one_goes(place: Path, disk: Disk) -> None:
    write_directory(place / "m", "old")
    disk.calls.clear()
    write_directory(place / "m", "new")
    flushes, renames = disk.calls[:3], disk.calls[3:]
    assert flushes == ["fsync weights", "fsync m.part", "fsync deep"]
    assert renames == ["replace m .m.old", "replace m.part m", "fsync place"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("kind", "failing"),
    [(kind, call) for kind in WRITERS if kind != "directory" for call in ("fsync .a.part", "replace .a.part")]
    + [("directory", c) for c in ("fsync weights", "fsync a.part", "replace a ", "replace a.part", "fsync place")],
)
def test_a_write_that_fails_at_any_step_leaves_the_old_and_nothing_else(
    kind: str, failing: str, error: BaseException, place: Path, disk: Disk
) -> None:
    WRITERS[kind](place / "a", "old")
    old = content_of(place / "a")
    disk.failing, disk.error = failing, error
    expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        WRITERS[kind](place / "a", "new")
    assert not disk.failing, "the step was reached"
    assert content_of(place / "a") == old and os.listdir(place) == ["a"]
    if expected is StorageError:
        assert str(caught.value) == (
            f"cannot write {place / 'a'}: No space left on device; free the disk or name another directory"
        )


def test_a_block_that_fails_leaves_the_old_and_nothing_else(place: Path) -> None:
    write_streamed(place / "a", "old")
    write_directory(place / "b", "old")
    with pytest.raises(ZeroDivisionError), files.open_whole(place / "a") as file:
        file.write(b"half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), files.staged(place / "b") as staging:
        (staging / "weights").write_text("half")
        raise ZeroDivisionError
    assert [content_of(place / name) for name in "ab"] == [b"old", b"old"]
    assert sorted(os.listdir(place)) == ["a", "b"]


def test_a_pipe_is_written_to_and_stays(place: Path) -> None:
    pipe, others = place.with_name("pipe"), set(place.parent.iterdir())
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_text(pipe, "to the reader")
        assert os.read(reader, 100) == b"to the reader"
    finally:
        os.close(reader)
    assert pipe.is_fifo() and set(place.parent.iterdir()) == {*others, pipe}


def test_a_folder_that_can_not_be_made_is_a_storage_error(place: Path) -> None:
    (place / "file").write_text("x")
    for write in WRITERS.values():
        with pytest.raises(StorageError, match=r"cannot write .*/file/a: (File exists|Not a directory); name another"):
            write(place / "file" / "a", "x")


def test_what_a_killed_writer_left_is_written_over(place: Path) -> None:
    (place / ".a.part").write_text("a long half of another file")
    files.write_text(place / "a", "x")
    (place / "b.part").mkdir()
    (place / "b.part" / "half").write_text("x")
    write_directory(place / "b", "x")
    assert [content_of(place / name) for name in "ab"] == [b"x", b"x"]
    assert sorted(os.listdir(place)) == ["a", "b"] and os.listdir(place / "b") == ["deep"]


@pytest.mark.parametrize("killed_at", ["before", "between", "after"])
def test_a_directory_survives_a_kill_between_the_renames(killed_at: str, place: Path) -> None:
    """As the renames leave it, and then a call that fails: the old directory, or the new one, is there."""
    write_directory(place / "m", "old")
    if killed_at != "before":
        (place / "m").rename(place / ".m.old")
    if killed_at == "after":
        write_directory(place / "other", "new")
        (place / "other").rename(place / "m")
    with pytest.raises(ZeroDivisionError), files.staged(place / "m"):
        raise ZeroDivisionError
    assert content_of(place / "m") == (b"new" if killed_at == "after" else b"old")
    assert os.listdir(place) == ["m"]


def test_many_files_are_flushed_by_one_call(place: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: disk.calls.append("sync"))
    with files.staged(place / "m", many=True) as staging:
        (staging / "a").write_text("x")
    assert disk.calls == ["sync", "replace m.part m", "fsync place"]


PROGRAM = """
import sys, time
from pathlib import Path
from voicecommand import files
path, what = Path(sys.argv[1]), sys.argv[2]
if what == "write":
    with files.open_whole(path) as file:
        for _ in range(200):
            file.write(sys.argv[3].encode() * 100); file.flush(); time.sleep(0.0005)
else:
    with files.hold_lock(path, waiting="waiting"):
        print("held", flush=True); time.sleep(60)
"""


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True, env=environment)


def test_two_writers_of_one_file_leave_the_whole_of_one(place: Path) -> None:
    writers = [start(str(place / "a"), "write", letter) for letter in "xyz"]
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["", "", ""]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    content = (place / "a").read_text()
    assert len(content) == 20_000 and len(set(content)) == 1 and os.listdir(place) == ["a"]


def test_a_lock_is_held_by_one_process_and_freed_when_it_is_killed(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = place / "new folder" / ".lock"
    assert not files.is_locked(lock)
    holder = start(str(lock), "hold")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert files.is_locked(lock)
    with pytest.raises(BlockingIOError), files.hold_lock(lock):
        pass
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {holder.pid}"])
    began = time.monotonic()
    with caplog.at_level(logging.INFO), files.hold_lock(lock, waiting="another process is making it: waiting"):
        assert time.monotonic() - began > 0.2 and files.is_locked(lock)
    assert caplog.messages == ["another process is making it: waiting"]
    assert not files.is_locked(lock), "freed at the end of the block"
    holder.communicate(timeout=10)
    assert holder.returncode == -signal.SIGKILL and killer.wait(10) == 0


def test_json_comes_back_and_what_is_none_is_a_value_error(place: Path) -> None:
    files.write_json(place / "a.json", {"a": ["ü", None]})
    files.write_json(place / "b.json", {"a": ["ü", None]}, indent=None)
    assert files.read_json(place / "a.json") == files.read_json(place / "b.json") == {"a": ["ü", None]}
    assert (place / "b.json").read_text() == '{"a": ["ü", null]}'
    (place / "a.json").write_text("{")
    with pytest.raises(ValueError):
        files.read_json(place / "a.json")
