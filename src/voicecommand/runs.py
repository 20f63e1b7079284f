"""A run directory from birth to end: who may write in it, its log, its marker, and how errors leave the program."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import logging.handlers
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from voicecommand import device
from voicecommand.errors import InputError, RunError, Stopped, StorageError

logger = logging.getLogger(__name__)

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
PACKAGES = (
    "voicecommand",
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "accelerate",
    "peft",
    "scikit-learn",
    "numpy",
)
RANK = int(os.environ.get("RANK", "0"))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))

_job_started: float | None = None
_early = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)


class _Terminal(logging.StreamHandler):
    """Lines that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(file=self.stream) if bars else contextlib.nullcontext():
            super().emit(record)


def set_up_logging() -> None:
    """Our lines and warnings of others to the terminal on rank 0; all kept for the run's log.txt."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == "voicecommand"]:
        root.removeHandler(handler)
    terminal = _Terminal(sys.stderr)
    terminal.setLevel(logging.INFO if RANK == 0 else logging.ERROR)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    for handler in (terminal, _early):
        handler.set_name("voicecommand")
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("voicecommand").setLevel(logging.INFO)
    # transformers reports every loading of weights and its missing head at length; we say what matters ourselves
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_MININTERVAL", "1")


def fail(error: BaseException, code: int) -> int:
    """One line on standard error; the run's marker was written by `Run.open`."""
    bars = sys.modules.get("tqdm")
    for bar in list(getattr(bars.tqdm, "_instances", ())) if bars else ():
        bar.close()  # else the line would begin where the bar ends
    if RANK == 0 or not isinstance(error, InputError):  # all ranks see the same bad input
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return code


def answer_exit_code(main: Callable[[], None]) -> int:
    """Call `main`; an error that a user can cause becomes one line and an exit code. Bugs keep their traceback."""
    try:
        main()
    except RunError as error:
        return fail(error, error.exit_code)
    except BrokenPipeError:  # whoever reads us has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return fail(Stopped("stopped by a signal; nothing was written"), Stopped.exit_code)
    except Exception as error:
        if not is_storage_error(error):
            raise
        where = getattr(error, "filename", None) or "storage"
        return fail(StorageError(f"{where}: {getattr(error, 'strerror', None) or error}"), StorageError.exit_code)
    return 0


def run_program(main: Callable[[], None]) -> None:
    """For recipes without a configuration: errors as one line, with their exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    code = answer_exit_code(main)
    if code:
        sys.exit(code)


def start_job(number: int) -> None:
    """Before each job of a multirun: forget what the job before left in the process."""
    global _job_started
    _early.buffer.clear()
    if number > 1:  # the job's own start-up and peak memory
        _job_started = time.time()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
    accelerate_state = sys.modules.get("accelerate.state")
    if number > 1 and accelerate_state is not None:
        accelerate_state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate_state.GradientState._reset_state()


def choose_precision(asked: str, bf16: bool | None, fp16: bool | None) -> tuple[bool, bool, str]:
    """(bf16, fp16, why). `auto` takes the quickest precision that this device computes natively.

    Raises:
        InputError: an unknown word, training.bf16/fp16 beside another precision, or fp16 on CPU.
    """
    if asked not in ("auto", "fp32", "bf16", "fp16"):
        raise InputError(f"precision={asked}: give auto, fp32, bf16 or fp16")
    if (fp16 or asked == "fp16") and not device.has_accelerator():
        which = "training.fp16=true" if fp16 else "precision=fp16"
        raise InputError(f"{which}: needs a GPU, and this run has none; give precision=auto, fp32 or bf16")
    if bf16 is not None or fp16 is not None:
        if asked != "auto":
            raise InputError(f"precision={asked} beside training.bf16 or training.fp16: give one of them")
        name = "bf16" if bf16 else "fp16" if fp16 else "fp32"
        return bool(bf16), bool(fp16), f"{name}: asked for by training.bf16 or training.fp16"
    reason = f"{asked}: asked for"
    if asked == "auto":
        asked, reason = device.native_precision()
    logger.info("precision %s", reason)
    return asked == "bf16", asked == "fp16", reason


def count_cores() -> int:
    """The cores that this process may use, shared among the local ranks; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(asked: int | None) -> int:
    """Torch's threads: the cores that this process may use, shared among the local ranks (a launcher sets 1).

    Raises:
        InputError: fewer than one.
    """
    import torch

    if asked is not None and asked < 1:
        raise InputError(f"threads={asked}: give at least 1")
    threads = asked or count_cores()
    torch.set_num_threads(threads)
    logger.info("threads %d", threads)
    return threads


def check_world_size(actual: int) -> None:
    """Stop where other ranks train together than the launcher was asked for.

    Asked for several without --multi_gpu, accelerate starts one process: it has an address but no world size.
    """
    alone = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if actual != WORLD_SIZE or (alone and "WORLD_SIZE" not in os.environ):
        asked = WORLD_SIZE if "WORLD_SIZE" in os.environ else "several"
        raise InputError(
            f"{asked} processes were asked for, but {actual} would train together: on CPU launch with"
            " ACCELERATE_USE_CPU=true accelerate launch --multi_gpu (make train PROCESSES=2 does)"
        )


def agree(verdict: Any) -> Any:
    """Rank 0's verdict on every rank."""
    if WORLD_SIZE == 1:
        return verdict
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not device.has_accelerator())
    content = [verdict]
    broadcast_object_list(content)
    return content[0]


class Run:
    """One run directory.

    Args:
        directory: where.
        resume: go on from the newest complete checkpoint.
        overwrite: rename what is there aside and begin anew.

    Attributes:
        is_finished: the run that is asked for has been done already.
        stop_requested: a signal asked for a stop at the end of the step.
        can_save: between two steps of a training, where a stop can be waited for; set by the training.

    Raises:
        InputError: the directory is in use, or holds an unfinished run and neither was asked for.
    """

    def __init__(self, directory: Path, resume: bool = False, overwrite: bool = False) -> None:
        self.directory, self.resume, self.overwrite = directory, resume, overwrite
        self.started = time.time()
        self.stop_requested = self.can_save = False
        verdict = agree(self._inspect() if RANK == 0 else None)
        if verdict["error"]:
            raise InputError(verdict["error"])
        self.is_finished: bool = verdict["state"] == "finished" and not overwrite

    def _inspect(self) -> dict[str, str]:
        status = read_status(self.directory)
        state = status.get("state", "absent")
        where, world_size = self.directory, status.get("world_size", WORLD_SIZE)
        error = ""
        if self.resume and self.overwrite:
            error = "resume=true and overwrite=true: give one of them"
        elif self.directory.exists() and not self.directory.is_dir():
            error = f"{where}: is a file, not a run directory; move it or give runs=DIR"
        elif is_locked(self.directory):
            error = f"{where}: in use by another process; wait for it or change the configuration"
        elif self.overwrite or state == "finished":
            pass
        elif self.resume and state == "absent":
            error = f"resume=true: there is no run at {where}; leave resume out to start one"
        elif self.resume and world_size != WORLD_SIZE:
            error = f"{where}: ran on {world_size} processes, and these are {WORLD_SIZE}; resume it on {world_size}"
        elif not self.resume and (state != "absent" or (self.directory.is_dir() and any(self.directory.iterdir()))):
            error = f"{where}: holds a run that did not finish; resume=true goes on, overwrite=true starts anew"
        return {"state": state, "error": error}

    @contextlib.contextmanager
    def open(self, config_text: str) -> Iterator[Run]:
        """Hold the directory's lock, write its log, and mark how the run ended.

        A new directory in which nothing but bad input came to light is taken away again.

        Raises:
            InputError: another process took the directory meanwhile.
            Stopped: a signal came.
            StorageError: it can't be written.
        """
        if RANK:
            with self._signals():
                yield self
            return
        is_new = not self.directory.exists()
        aside = self._move_aside() if self.overwrite and not is_new else None
        lock = self._lock()
        handler: logging.Handler | None = None
        try:
            write_text(self.directory / "config.yaml", config_text)
            self._write_status("running", None)
            handler = self._log_file()
            with self._signals():
                yield self
            self._write_status("finished", 0)
        except BaseException as error:
            if isinstance(error, InputError) and (is_new or aside):
                self._take_away(aside)
                raise
            ending = self._ending(error)
            self._mark(ending, handler)
            if ending is error:
                raise
            raise ending from error
        finally:
            if handler is not None:
                logging.getLogger().removeHandler(handler)
                handler.close()
            lock.close()

    def _lock(self) -> Any:
        """The open lock file; the lock goes with the process, however that ends."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = (self.directory / ".lock").open("w")
        except OSError as error:
            raise StorageError(f"{self.directory}: can't be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise InputError(f"{self.directory}: in use by another process; wait for it") from error
        if read_status(self.directory).get("state") == "finished":
            lock.close()
            raise InputError(f"{self.directory}: another process has just finished it; the same command shows it")
        return lock

    def _move_aside(self) -> Path:
        numbered = (self.directory.with_name(f"{self.directory.name}.old-{n}") for n in itertools.count(1))
        aside = next(path for path in numbered if not path.exists())
        try:
            self.directory.rename(aside)
        except OSError as error:
            raise StorageError(f"{self.directory}: can't be renamed: {error.strerror}") from error
        logger.info("the run that was there is now %s", aside)
        return aside

    def _take_away(self, aside: Path | None) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        if aside is not None:
            aside.rename(self.directory)
            return
        with contextlib.suppress(OSError):  # runs/<data> and runs, where they were made for this and are empty
            self.directory.parent.rmdir()
            self.directory.parent.parent.rmdir()

    def _ending(self, error: BaseException) -> BaseException:
        """What is raised for `error`: signals and failures of the disk have a class of their own."""
        if isinstance(error, KeyboardInterrupt):
            return Stopped(f"{self.directory}: stopped by a signal; resume=true goes on, overwrite=true starts anew")
        if is_storage_error(error) and not isinstance(error, StorageError):
            return StorageError(f"{self.directory}: {' '.join(str(error).split())}")
        return error

    def _mark(self, error: BaseException, log: logging.Handler | None) -> None:
        """The end in log.txt (a bug with its traceback) and in the marker; the terminal hears it from the program."""
        code = error.exit_code if isinstance(error, RunError) else 1
        message = " ".join(str(error).split()) or type(error).__name__
        if log is not None:
            trace = None if isinstance(error, RunError) else (type(error), error, error.__traceback__)
            log.handle(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, trace))
        with contextlib.suppress(OSError):  # the disk may be what failed
            self._write_status("interrupted" if code == Stopped.exit_code else "failed", code, error=message[:500])

    def _write_status(self, state: str, code: int | None, **more: Any) -> None:
        content = {"state": state, "exit_code": code, "world_size": WORLD_SIZE, **more}
        write_json(self.directory / "status.json", content)

    def _log_file(self) -> logging.Handler:
        handler = logging.FileHandler(self.directory / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for record in _early.buffer:
            handler.handle(record)
        _early.buffer.clear()
        logging.getLogger().addHandler(handler)
        return handler

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for a stop at the end of a training step; a second one stops at once."""

        def ask(number: int, frame: Any) -> None:
            if self.stop_requested or not self.can_save:
                raise KeyboardInterrupt
            self.stop_requested = True
            name = signal.Signals(number).name
            logger.warning("%s: saving a checkpoint after this step; a second signal stops at once", name)

        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: signals stay the caller's
            pass
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def say_finished(self) -> None:
        """The result that follows is an old one: a run is known by its configuration, not by what its files hold."""
        logger.info(
            "%s is finished, this is its result; if the data changed, overwrite=true trains anew", self.directory
        )

    def check_stop(self) -> None:
        """Raise `Stopped` where a signal asked for it."""
        if self.stop_requested:
            raise Stopped(f"{self.directory}: stopped by a signal and saved; go on with resume=true")


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk is the cause; safetensors says so in words only."""
    if isinstance(error, OSError):
        return error.errno in STORAGE_ERRORS
    return type(error).__name__ == "SafetensorError" and any(
        word in str(error) for word in ("No space left", "File too large", "Read-only", "Permission denied", "quota")
    )


def is_locked(directory: Path) -> bool:
    """Whether a living process holds the run directory."""
    path = directory / ".lock"
    if not path.is_file():
        return False
    with path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def read_status(directory: Path) -> dict[str, Any]:
    """The marker of a run directory, or {}."""
    try:
        content = json.loads((directory / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a file beside it, then a rename."""
    staging = path.with_name(path.name + ".part")
    try:
        staging.write_text(text, encoding="utf-8")
        staging.replace(path)
    except OSError:
        staging.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def describe_machine() -> dict[str, Any]:
    """Versions, hardware and git state, for run.json."""
    import torch

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    hardware: dict[str, Any] = {"processor": processor, "cores": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        hardware["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"versions": versions, "hardware": hardware, "git": _git_state()}


def _git_state() -> dict[str, Any] | None:
    def git(*words: str) -> str:
        root = Path(__file__).resolve().parent
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else None
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_mb() -> float:
    """High-water mark of this process's resident memory, MB; since the job began in a multirun."""
    with contextlib.suppress(OSError, StopIteration):  # ru_maxrss would inherit the parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def process_seconds() -> float:
    """Seconds since this process, or in a multirun its current job, began."""
    import psutil

    return time.time() - (_job_started or psutil.Process().create_time())
