"""A run directory from its first file to its last, and checkpoints that are complete or absent."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support import write_checkpoint
from voicecommand.errors import InputError, LostRank, NonFiniteLoss, Stopped, StorageError
from voicecommand.run import checkpoints, device, exits, finished, manifest, processes, ranks, records, signals
from voicecommand.run import directory as run_directory
from voicecommand.run.directory import is_locked

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "commands" / "bert-full-s1-00000000"


def status(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "status.json").read_text())


def leave(directory: Path, state: str, **more: Any) -> None:
    directory.mkdir(parents=True)
    (directory / "status.json").write_text(json.dumps({"state": state, **more}))
    (directory / "kept").write_text("x")


def test_a_run_is_marked_from_start_to_end(directory: Path) -> None:
    run = run_directory.Run(directory)
    assert not directory.exists(), "nothing is written before the run is opened"
    with run.open("seed: 1\n", {"base": {"model.safetensors": "1a2b"}}):
        assert status(directory) == {"state": "running", "exit_code": None, "world_size": 1}
        assert json.loads((directory / "inputs.json").read_text())["base"] == {"model.safetensors": "1a2b"}
        assert run_directory.is_locked(directory)
        logging.getLogger("voicecommand").warning("a line for the log")
    end = status(directory)
    assert abs(time.time() - datetime.fromisoformat(end.pop("ended")).timestamp()) < 60
    assert end == {"state": "finished", "exit_code": 0, "world_size": 1}
    assert not run_directory.is_locked(directory)
    assert (directory / "config.yaml").read_text() == "seed: 1\n"
    assert "WARNING voicecommand: a line for the log" in (directory / "log.txt").read_text()
    assert run_directory.Run(directory).is_finished


def test_an_unfinished_run_names_both_ways_on(directory: Path) -> None:
    leave(directory, "interrupted")
    write_checkpoint(directory / "checkpoints" / "checkpoint-1")
    with pytest.raises(InputError, match="did not finish; resume=true continues it, overwrite=true starts again"):
        run_directory.Run(directory)
    assert not run_directory.Run(directory, resume=True).is_finished
    with run_directory.Run(directory, resume=True).open(""):
        assert (directory / "kept").exists()


def test_files_without_a_marker_are_not_written_over(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="did not finish"):
        run_directory.Run(directory)


def test_overwrite_renames_what_was_there(directory: Path) -> None:
    leave(directory, "finished")
    for number in (1, 2):
        run = run_directory.Run(directory, overwrite=True)
        assert not run.is_finished
        with run.open(""):
            pass
        assert directory.with_name(f"{directory.name}.old-{number}").is_dir()
    assert (directory.with_name(f"{directory.name}.old-1") / "kept").exists()


def test_resume_asks_for_the_world_size_that_the_run_had(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(directory, "interrupted", world_size=2)
    with pytest.raises(InputError, match="ran on 2 processes, and these are 1; resume it on 2"):
        run_directory.Run(directory, resume=True)
    assert not run_directory.Run(directory, overwrite=True).is_finished


def test_a_directory_in_use_is_refused_whatever_is_asked(directory: Path) -> None:
    with run_directory.Run(directory).open(""):
        for settings in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="in use by another process"):
                run_directory.Run(directory, **settings)
        assert status(directory)["state"] == "running"


def test_of_two_that_start_together_one_goes_on(directory: Path) -> None:
    first, second, third = (run_directory.Run(directory) for _ in range(3))
    with first.open("first"):
        with pytest.raises(InputError, match="in use"), second.open("second"):
            raise AssertionError("two runs in one directory")
        assert (directory / "config.yaml").read_text() == "first"
    assert status(directory)["state"] == "finished", "the refused one must not mark what is not its own"
    with pytest.raises(InputError, match="another process has just finished it"), third.open("third"):
        raise AssertionError("a finished run was begun again")


def test_a_killed_run_holds_no_lock_and_counts_as_interrupted(directory: Path) -> None:
    code = (
        "import sys, time, pathlib; from voicecommand.run.directory import Run\n"
        "with Run(pathlib.Path(sys.argv[1])).open(''): print('open', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stdout.readline() == "open\n"
        with pytest.raises(InputError, match="in use by another process"):
            run_directory.Run(directory)
        process.kill()
        process.wait()
    assert status(directory)["state"] == "running"
    with run_directory.Run(directory).open(""):
        assert is_locked(directory), "it had nothing to lose, so it starts again"


@pytest.mark.parametrize(
    ("error", "raised", "state", "code"),
    [
        (NonFiniteLoss("nan"), NonFiniteLoss, "failed", 3),
        (StorageError("gone"), StorageError, "failed", 4),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "failed", 4),
        (Stopped("saved"), Stopped, "interrupted", 143),
        (KeyboardInterrupt(), Stopped, "interrupted", 143),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "failed", 1),
        (FileNotFoundError(errno.ENOENT, "a bug too"), FileNotFoundError, "failed", 1),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_how_a_run_ended_is_in_its_marker(
    error: BaseException, raised: type[BaseException], state: str, code: int, directory: Path
) -> None:
    with pytest.raises(raised), run_directory.Run(directory).open(""):
        raise error
    assert (status(directory)["state"], status(directory)["exit_code"]) == (state, code)
    assert ("Traceback" in (directory / "log.txt").read_text()) == (code == 1)
    assert not run_directory.is_locked(directory)


def test_bad_input_takes_its_own_new_directory_away(directory: Path) -> None:
    with pytest.raises(InputError), run_directory.Run(directory).open(""):
        raise InputError("wrong")
    assert not directory.parent.parent.exists()
    leave(directory, "finished")
    with pytest.raises(InputError), run_directory.Run(directory, overwrite=True).open(""):
        raise InputError("wrong")
    assert (directory / "kept").exists(), "the run that was renamed aside comes back"
    assert list(directory.parent.iterdir()) == [directory]


def test_a_signal_between_steps_asks_and_a_second_one_stops_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST", 0)
    run = run_directory.Run(directory)
    with pytest.raises(Stopped, match="stopped by a signal; resume=true continues it"), run.open(""):
        run.can_save = True
        write_checkpoint(directory / "checkpoints" / "checkpoint-1")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert run.stop_requested
        with pytest.raises(Stopped, match="saved; resume=true continues it"):
            run.check_stop()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        raise AssertionError("the second signal was ignored")
    assert status(directory)["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_where_nothing_can_be_saved_stops_at_once(directory: Path) -> None:
    with pytest.raises(Stopped), run_directory.Run(directory).open(""):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        raise AssertionError("the signal was ignored")


def test_a_signal_does_not_keep_a_run_from_writing_how_it_ended(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = run_directory.Run._write_status

    def write_slowly(run: run_directory.Run, state: str, code: int | None, **more: str) -> None:
        if state == "failed":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        write(run, state, code, **more)

    monkeypatch.setattr(run_directory.Run, "_write_status", write_slowly)

    def main() -> None:
        with run_directory.Run(directory).open(""):
            raise NonFiniteLoss("nan")

    assert exits.answer_exit_code(main) == 3
    assert status(directory)["state"] == "failed"


def test_a_rank_that_dies_after_the_end_of_a_run_does_not_change_how_it_ended(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[Any] = []
    monkeypatch.setattr(ranks, "record_with", records.append)
    with run_directory.Run(directory).open(""):
        assert records[0](LostRank("rank 1 has died")).startswith(f"{directory}: rank 1 has died; ")
        assert (status(directory)["state"], status(directory)["exit_code"]) == ("failed", 5)
    assert records[1:] == [str]
    assert status(directory)["state"] == "finished"


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("wrong"), 2), (NonFiniteLoss("nan"), 3), (StorageError("full"), 4), (Stopped("saved"), 143),
     (KeyboardInterrupt(), 143), (OSError(errno.EROFS, "Read-only file system", "x"), 4)],
    ids=repr,
)  # fmt: skip
def test_errors_leave_as_one_line_with_their_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    assert exits.answer_exit_code(main) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_a_storage_error_names_its_own_file_and_what_helps(directory: Path) -> None:
    for error, line in {
        OSError(
            errno.EACCES, "Permission denied", "noise/a.wav"
        ): f"{directory}: noise/a.wav: Permission denied; there",
        OSError(errno.ENOSPC, "Full", "/cache/a"): f"{directory}: /cache/a: Full; free the disk; there",
        OSError(errno.ENOSPC, "Full", str(directory / "a")): f"{directory}: Full; free the disk; there",
        OSError(errno.EROFS, "Read-only file system"): f"{directory}: Read-only file system; there",
    }.items():
        with pytest.raises(StorageError) as caught, run_directory.Run(directory).open(""):
            raise error
        assert str(caught.value).startswith(line)


def write_to_a_full_disk(module: str) -> None:
    """As code of `module` that writes to a file which is open already."""
    full = OSError(errno.ENOSPC, "No space left on device")
    exec("def write(error): raise error", scope := {"__name__": module})
    scope["write"](full)


@pytest.mark.parametrize(
    ("module", "named"),
    [("datasets.arrow_writer", "HF_DATASETS_CACHE"), ("huggingface_hub.file_download", "HF_HUB_CACHE"),
     ("other", None)],
)  # fmt: skip
def test_a_full_cache_is_named(
    module: str, named: str | None, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets
    import huggingface_hub

    caches = {**vars(datasets.config), **vars(huggingface_hub.constants)}
    place = caches[named] if named else "the disk"
    assert exits.answer_exit_code(lambda: write_to_a_full_disk(module)) == 4
    assert capsys.readouterr().err == f"error: {place}: No space left on device; free the disk\n"
    with pytest.raises(StorageError) as caught, run_directory.Run(directory).open(""):
        write_to_a_full_disk(module)
    where = f"{directory}: {place}" if named else directory
    assert str(caught.value).startswith(f"{where}: No space left on device; free the disk; there")


def test_what_ended_without_a_checkpoint_blocks_nothing(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StorageError), run_directory.Run(directory).open(""):
        raise StorageError("full")
    write_checkpoint(directory / "checkpoints" / "checkpoint-1", resumable=False)  # of save_only_model=true
    with caplog.at_level("INFO"), run_directory.Run(directory).open(""):
        assert not (directory / "checkpoints").exists()
    assert "a run that ended without a checkpoint starts again" in caplog.text
    assert status(directory)["state"] == "finished"


def test_resume_is_promised_only_where_something_was_saved(directory: Path) -> None:
    again = "no checkpoint to continue from: the same command starts again"
    with pytest.raises(Stopped, match=again) as caught, run_directory.Run(directory).open(""):
        raise KeyboardInterrupt
    assert "resume=true" not in str(caught.value)
    stage = directory / "checkpoints" / "head"
    stage.mkdir(parents=True)
    (stage / "finished").mkdir()
    manifest.write(stage / "finished", {"stage": "head"})
    with pytest.raises(InputError, match="resume=true continues it"):
        run_directory.Run(directory)


def test_a_finished_fold_is_something_to_continue_from(directory: Path) -> None:
    leave(directory, "interrupted")
    (directory / "folds/1/checkpoints").mkdir(parents=True)
    assert not checkpoints.can_resume(directory)
    (directory / "folds/1/model").mkdir()
    assert checkpoints.can_resume(directory)


@pytest.mark.parametrize("keep", [False, True])
def test_a_finished_run_keeps_its_checkpoints_only_if_asked_to(keep: bool, directory: Path) -> None:
    with run_directory.Run(directory, keep_checkpoints=keep).open(""):
        write_checkpoint(directory / "checkpoints" / "checkpoint-1")
    assert (directory / "checkpoints").exists() == keep
    assert run_directory.Run(directory).is_finished


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    exits.fail(InputError("two\n  lines"), 2)
    assert capsys.readouterr().err == "error: two lines\n"


def test_a_bug_leaves_with_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exits.answer_exit_code(main)


def test_another_world_size_than_was_launched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    processes.check_world_size(1)
    monkeypatch.setattr(processes, "WORLD_SIZE", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    processes.check_world_size(2)
    with pytest.raises(InputError, match="2 processes were asked for, but 1 would train together"):
        processes.check_world_size(1)


def test_precision_says_what_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.choose_precision("fp32", None, None) == (False, False, "fp32: asked for")
    assert device.choose_precision("auto", True, None)[:2] == (True, False)
    for bf16, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda bf16=bf16: bf16)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
        found = device.choose_precision("auto", None, None)
        assert found[:2] == (bf16, False) and found[2].startswith(f"{name}: this processor has ")
    with pytest.raises(InputError, match="give one of them"):
        device.choose_precision("fp32", True, None)


def test_cores_are_shared_among_the_local_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6))
    try:
        assert processes.set_threads(None) == 6
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setenv("MASTER_ADDR", "x")
        assert processes.set_threads(None) == torch.get_num_threads() == 3
        assert processes.set_threads(1) == 1
    finally:
        torch.set_num_threads(before)


def test_the_marker_survives_what_is_not_json(directory: Path) -> None:
    directory.mkdir(parents=True)
    assert run_directory.read_status(directory) == {}
    for content in ("", "[1]", "{"):
        (directory / "status.json").write_text(content)
        assert run_directory.read_status(directory) == {}


def test_a_lock_is_only_looked_at(directory: Path) -> None:
    """Asking must neither take the lock nor wait for it."""
    directory.mkdir(parents=True)
    assert not run_directory.is_locked(directory)
    with (directory / ".lock").open("w") as lock:
        assert not run_directory.is_locked(directory)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert run_directory.is_locked(directory)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {
                "objective": {"metric": "macro_f1", "split": "validation", "greater_is_better": True},
                "splits": {"validation": {"macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}}},
            },
            "macro F1 0.5000 on validation",
        ),
        (
            {
                "objective": {"metric": "loss", "split": "validation", "greater_is_better": False},
                "splits": {"validation": {"loss": 0.25}},
            },
            "loss 0.2500 on validation, lower is better",
        ),
        ({"splits": {"validation": {"macro_f1": {"value": 0.125}}}}, "macro F1 0.1250 on validation"),
    ],
    ids=["greater", "lower", "before November 2026"],
)
def test_the_objective_is_named_with_its_direction(content: dict[str, Any], line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert records.read_objective(tmp_path).line() == line


def test_a_character_that_the_terminal_lacks_is_shown_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sink, encoding="ascii"))
    assert exits.answer_exit_code(lambda: sys.stdout.write("f\u00fcr") and None) == 0
    assert sink.getvalue() == rb"f\xfcr"


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x"}, 3),
        ({"RANK": "3", "WORLD_SIZE": "4"}, 0),
        ({"RANK": "", "MASTER_ADDR": "x"}, 0),
        ({}, 0),
    ],
)
def test_a_rank_is_that_of_a_launcher(variables: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*processes.LAUNCHED, "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes._read_number("RANK", 0) == rank


# --- finished runs by name ---


def finish(path: Path, ended: str | None = None, state: str = "finished", seconds: float = 0) -> Path:
    """A run directory that ended at a time, or whose status.json is so many seconds old."""
    (path / "model").mkdir(parents=True)
    (path / "status.json").write_text(json.dumps({"state": state} | ({"ended": ended} if ended else {})))
    os.utime(path / "status.json", (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three finished runs: the newest is neither the last by name nor by the time of its file."""
    monkeypatch.chdir(tmp_path)
    year = datetime.now().year
    finish(Path("runs/commands/bert-full-s1-00000000"), f"{year + 2}-01-02T00:00:00+00:00", seconds=500)
    finish(Path("runs/commands/bert-full-s2-00000000"), f"{year + 2}-01-01T23:00:00-04:00", seconds=900)
    finish(Path("runs/file-a/tfidf_svm-s1-00000000"), seconds=5)
    finish(Path("runs/file-a/tfidf_svm-s1-00000000.old-1"), f"{year + 3}-01-01T00:00:00+00:00")
    finish(Path("runs/file-a/unfinished"), f"{year + 4}-01-01T00:00:00+00:00", state="failed")
    finish(Path("runs/file-a/broken"), "yesterday", seconds=1000)
    (Path("runs/file-a/broken/model")).rmdir()
    return Path("runs")


def test_latest_is_the_run_that_ended_last(runs: Path) -> None:
    assert finished.choose_run("latest") == runs / "commands/bert-full-s2-00000000"
    for path in (runs / "commands").iterdir():
        (path / "status.json").unlink()
    assert finished.choose_run("latest") == runs / "file-a/tfidf_svm-s1-00000000", "an older run has the file's time"
    (runs / "file-a/tfidf_svm-s1-00000000/status.json").unlink()
    with pytest.raises(InputError, match=r"^latest: no finished run in /.*/runs; train one, or give its directory$"):
        finished.choose_run("latest")


def test_a_pattern_names_one_finished_run(runs: Path) -> None:
    assert finished.choose_run("runs/file-*/*") == runs / "file-a/tfidf_svm-s1-00000000"
    with pytest.raises(InputError, match=r"2 finished runs match, the newest first: .*bert-full-s2.*, .*bert-full-s1"):
        finished.choose_run("runs/commands/*")
    with pytest.raises(InputError, match="no finished run matches"):
        finished.choose_run("runs/nothing/*")


def test_a_directory_is_itself_whatever_its_name(runs: Path) -> None:
    assert finished.choose_run("nowhere") == Path("nowhere")
    for name in ("latest", "runs/[1]"):
        Path(name).mkdir()
        assert finished.choose_run(name) == Path(name)


@pytest.mark.parametrize(
    ("message", "is_storage"),
    [("No space left on device (os error 28)", True), ("No such file or directory (os error 2)", False), ("28", False)],
)
def test_a_full_disk_is_known_by_the_number_that_tokenizers_give(message: str, is_storage: bool) -> None:
    error = Exception(message)  # which is all that they raise
    assert exits.is_storage_error(error) == is_storage
    if is_storage:
        assert exits.describe_storage_error(error) == f"{message}; free the disk"
