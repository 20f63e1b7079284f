"""A run directory: the lock that keeps it to one process, log.txt, and status.json."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import logging.handlers
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from voicecommand import files
from voicecommand.errors import InputError, LostRank, RunError, Stopped, StorageError
from voicecommand.run import checkpoints, inputs, processes, ranks, signals
from voicecommand.run.exits import describe_storage_error, find_place, is_storage_error
from voicecommand.run.logs import VisibleFormatter, early_records

logger = logging.getLogger(__name__)
# What a run writes before it has any work to lose.
FIRST_FILES = {".lock", "config.yaml", "inputs.json", "log.txt", "status.json"}
# What training writes last: a run that has all of it has its result.
RESULT = ("metrics.json", "report.html", "model/README.md")
SHOWN_SETTINGS = 3


class Run:
    """One run directory.

    Args:
        directory: of the run.
        resume: true continues from the newest checkpoint that verifies; auto also starts a run that is not there.
        overwrite: rename an existing directory and start again.
        keep_checkpoints: of a run that finishes; otherwise only its model is kept.
        allowed: what may differ in a resumed run: `world_size`.
        settings: of the run that decide the weights, to name those that an unfinished run beside it has otherwise.

    Attributes:
        resume: whether there is something to continue, and it was asked for.
        began_on: the number of processes that the run began on.
        facts: digests of what the run began with, for the manifests of its checkpoints.
        is_finished: the run is already finished.
        stop_requested: a signal asked to stop after the current step.
        can_save: whether training is in progress, so that a signal can wait for the end of a step; set by training.
        startup_seconds: of the process until the first fit of the run began; set by training.

    Raises:
        InputError: the directory is in use, or holds an unfinished run that can be continued and neither `resume` nor
            `overwrite` is set.
    """

    def __init__(
        self,
        directory: Path,
        resume: bool | str = False,
        overwrite: bool = False,
        keep_checkpoints: bool = False,
        allowed: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory, self.asked, self.overwrite = directory, resume, overwrite
        self.keep_checkpoints, self.allowed, self.settings = keep_checkpoints, tuple(allowed), settings or {}
        self.inputs: dict[str, Any] = {}
        self.started = time.time()
        self.stop_requested = self.can_save = False
        self._place: tuple[int, int] | None = None  # of the directory, once it is open
        self.startup_seconds: float | None = None
        verdict = processes.agree(self._inspect)
        if verdict["error"]:
            raise InputError(verdict["error"])
        self.is_finished: bool = verdict["state"] == "finished" and not overwrite
        self.resume: bool = verdict["resume"]
        self.began_on: int = verdict["began_on"]

    def _inspect(self) -> dict[str, Any]:
        status, where = read_status(self.directory), self.directory
        state = status.get("state", "absent")
        if state == "absent" and self._has_run():
            state = "finished" if all((where / name).is_file() for name in RESULT) else "unknown"
            counts = "; its result is there, so that it counts as finished" if state == "finished" else ""
            logger.warning("%s: status.json is missing or damaged%s", where, counts)
        auto, now = self.asked == "auto", processes.WORLD_SIZE
        resume = self.asked is True or (auto and state not in ("absent", "finished") and checkpoints.can_resume(where))
        last, began_on = self._world_sizes(status) if resume else (now, now)
        error = ""
        if not (isinstance(self.asked, bool) or auto):
            error = f"resume={self.asked}: give true, false or auto"
        elif unknown := sorted({*self.allowed} - {"world_size"}):
            error = f"resume_allow=[{','.join(unknown)}]: give [world_size] or []"
        elif self.asked and self.overwrite:
            error = f"resume={str(self.asked).lower()} and overwrite=true: give one of them"
        elif where.exists() and not where.is_dir():
            error = f"{where}: is a file, not a run directory; move it or give runs=DIR"
        elif is_locked(where):
            error = f"{where}: in use by another process; wait for it or change the configuration"
        elif self.overwrite or state == "finished":
            pass
        elif resume and state == "absent":
            error = f"resume=true: there is no run at {where}{self._nearest()}; leave resume out to start one"
        elif resume and last != now and "world_size" not in self.allowed:
            error = (
                f"{where}: ran on {last} processes, and these are {now}; resume it on {last}, or give"
                " resume_allow=[world_size], which keeps the global batch, but not every digit"
            )
        elif not resume and (not auto or state in ("absent", "unknown")) and self._holds_something(state):
            error = f"{where}: holds a run that did not finish; resume=true continues it, overwrite=true starts again"
        return {"state": state, "error": error, "resume": resume, "began_on": began_on}

    def _nearest(self) -> str:
        """Words on the unfinished run beside this one with the fewest other settings; "" if there is none."""
        found = []
        for path in self.directory.parent.glob("*/" + inputs.FILE):
            then = inputs.read(path.parent).get("configuration")
            if isinstance(then, dict) and read_status(path.parent).get("state") != "finished":
                found.append((inputs.find_setting_changes(then, self.settings), path.parent))
        found = [one for one in found if one[0]]
        if not found:
            return ""
        changes, path = min(found, key=lambda one: (len(one[0]), one[1]))
        more = f" and {len(changes) - SHOWN_SETTINGS} more" if len(changes) > SHOWN_SETTINGS else ""
        return f", and {path} has other settings: {'; '.join(changes[:SHOWN_SETTINGS])}{more}"

    def _has_run(self) -> bool:
        """Whether the directory has what only a run leaves there."""
        return (self.directory / "config.yaml").is_file() or (self.directory / checkpoints.FOLDER).is_dir()

    def _world_sizes(self, status: dict[str, Any]) -> tuple[int, int]:
        """The number of processes of the run when it ended, and when it began; of a lost record, the present one."""
        then = inputs.read(self.directory)
        last = status.get("world_size", then.get("world_size", processes.WORLD_SIZE))
        return last, then.get("world_size", last)

    def _holds_something(self, state: str) -> bool:
        """Whether starting again would lose work, or files that are not of a run."""
        if checkpoints.can_resume(self.directory):
            return True
        names = {path.name for path in self.directory.glob("*") if not files.is_half_written(path)}
        return state in ("absent", "unknown") and not names <= FIRST_FILES

    @contextlib.contextmanager
    def open(self, config_text: str, began_with: Mapping[str, Any] | None = None) -> Iterator[Run]:
        """Hold the directory's lock, write log.txt, and write how the run ended to status.json.

        If bad input ends the run, a new directory is removed again. What an unfinished run left that can't be continued
        is written over. At the end of a finished run its checkpoints are removed, unless they are to be kept.

        Args:
            config_text: the content of config.yaml.
            began_with: see `voicecommand.run.inputs`; a resumed run must have the same. Only rank 0 reads it.

        Raises:
            InputError: another process has taken the directory in the meantime, or what a resumed run began with has
                changed.
            Stopped: a signal came.
            StorageError: the directory can't be written.
        """
        if processes.RANK:
            ranks.record_with(partial(self._record_loss, log=None))
            try:
                with self._signals():
                    yield self
            finally:
                ranks.record_with(str)
            return
        is_new = not self.directory.exists()
        aside = self._move_aside() if self.overwrite and not is_new else None
        with self._locked():
            self._place = _identify(self.directory)
            handler: logging.Handler | None = None
            self._check_inputs(dict(began_with or {}))
            try:
                if not (is_new or aside or self.resume) and self._has_run():
                    logger.info("%s: a run that ended without a checkpoint starts again", self.directory)
                    checkpoints.remove(self.directory)
                files.write_text(self.directory / "config.yaml", config_text)
                inputs.write(self.directory, self.inputs)
                self._write_status("running", None)
                handler = self._log_file()
                ranks.record_with(partial(self._record_loss, log=handler))
                with self._signals():
                    yield self
                self.check_place()
                self._write_status("finished", 0)
            except BaseException as error:
                if isinstance(error, InputError) and (is_new or aside):
                    self._remove(aside)
                    raise
                with signals.handled(signals.ignore):  # it ends already
                    if not isinstance(error, RunError | KeyboardInterrupt):
                        ranks.wait_for_cause()
                    ending = self._ending(error)
                    self._record_end(ending, handler)
                if ending is error:
                    raise
                raise ending from error
            finally:
                ranks.record_with(str)
                if handler is not None:
                    logging.getLogger().removeHandler(handler)
                    with contextlib.suppress(OSError):  # a full disk
                        handler.close()
            if not self.keep_checkpoints:  # here, where a signal can't make an interrupted run of a finished one
                checkpoints.tidy(self.directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory's lock, which ends with the process, however that ends."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.hold_lock(self.directory / ".lock"))
            except BlockingIOError as error:
                raise InputError(f"{self.directory}: in use by another process; wait for it") from error
            if read_status(self.directory).get("state") == "finished":
                raise InputError(f"{self.directory}: another process has just finished it; the same command shows it")
            yield

    def _move_aside(self) -> Path:
        numbered = (self.directory.with_name(f"{self.directory.name}.old-{n}") for n in itertools.count(1))
        aside = next(path for path in numbered if not path.exists())
        try:
            self.directory.rename(aside)
        except OSError as error:
            raise StorageError(f"{self.directory}: can't be renamed: {error.strerror}") from error
        logger.info("the previous run is now at %s", aside)
        return aside

    def _remove(self, aside: Path | None) -> None:
        """Remove the directory and restore the one that was moved aside."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if aside is not None:
            aside.rename(self.directory)
            return
        with contextlib.suppress(OSError):  # runs/<data> and runs, if they are empty
            self.directory.parent.rmdir()
            self.directory.parent.parent.rmdir()

    def _ending(self, error: BaseException) -> BaseException:
        """The error to raise for `error`: Stopped for signals, StorageError for failures of the disk."""
        if isinstance(error, KeyboardInterrupt):
            return Stopped(f"{self.directory}: stopped by a signal; {self._way_on()}")
        if isinstance(error, RunError):
            return error
        if self._is_moved():
            return StorageError(self._moved)
        if is_storage_error(error):
            place = find_place(error)
            is_elsewhere = place is not None and not place.absolute().is_relative_to(self.directory.absolute())
            where = f"{self.directory}: {place}" if is_elsewhere else self.directory
            return StorageError(f"{where}: {describe_storage_error(error)}; {self._way_on()}")
        return error

    @property
    def _moved(self) -> str:
        return (
            f"{self.directory}: was removed or renamed while the run wrote to it; rename it back and give resume=true,"
            " or start again with the same command"
        )

    def _is_moved(self) -> bool:
        """Whether the directory is no longer the one that this process opened."""
        return self._place is not None and _identify(self.directory) != self._place

    def check_place(self) -> None:
        """Stop if the directory was removed or renamed: what is written would make another one with parts of the run.

        Raises:
            StorageError: it was.
        """
        if self._is_moved():
            raise StorageError(self._moved)

    def _check_inputs(self, now: dict[str, Any]) -> None:
        """Refuse to continue a run with other inputs than it began with, and say where the machine differs."""
        then = inputs.read(self.directory)
        is_older = self.resume and not (self.directory / inputs.FILE).exists()
        self.inputs = now | {"world_size": self.began_on, "is_older": then.get("is_older", is_older)}
        if not self.resume:
            return
        self.inputs["machine"] = then.get("machine", now.get("machine", {}))
        before = read_status(self.directory).get("fingerprint")  # of a run that began before December 2026
        if is_older and before not in (None, now.get("fingerprint")):
            raise InputError(
                f"{self.directory}: the data has changed since this run began; undo that to resume it, or"
                " overwrite=true trains again"
            )
        if changes := inputs.find_changes(then, now):
            raise InputError(
                f"{self.directory}: what this run began with has changed ({'; '.join(changes)}): undo that to resume"
                " it, or overwrite=true trains again"
            )
        if changes := inputs.find_machine_changes(then, now):
            logger.warning("since this run began: %s; the last digits of its result may differ", ", ".join(changes))

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest of each checkpoint says of the run."""
        return inputs.digests(self.inputs) | {"world_size": processes.WORLD_SIZE}

    @property
    def is_older(self) -> bool:
        """Whether the run began before December 2026, when checkpoints had no manifest."""
        return bool(self.inputs.get("is_older"))

    def _way_on(self) -> str:
        if checkpoints.can_resume(self.directory):
            return "resume=true continues it, overwrite=true starts again"
        return "there is no checkpoint to continue from: the same command starts again"

    def _record_end(self, error: BaseException, log: logging.Handler | None) -> None:
        """Write the error to log.txt (a bug with its traceback) and status.json; the program prints it."""
        code = error.exit_code if isinstance(error, RunError) else 1
        message = " ".join(str(error).split()) or type(error).__name__
        if log is not None:
            trace = None if isinstance(error, RunError) else (type(error), error, error.__traceback__)
            log.handle(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, trace))
        if not self._is_moved():
            with contextlib.suppress(OSError, StorageError):  # the disk may be what failed
                self._write_status("interrupted" if code == Stopped.exit_code else "failed", code, error=message[:500])

    def _record_loss(self, error: LostRank, log: logging.Handler | None) -> str:
        """As `_record_end`, from the thread that watches the ranks; without rank 0, rank 1 writes. Answers the line."""
        if processes.RANK <= 1:
            self._record_end(error, log)
        return f"{self.directory}: {error}; {self._way_on()}"

    def _write_status(self, state: str, code: int | None, **more: str) -> None:
        content = {"state": state, "exit_code": code, "world_size": processes.WORLD_SIZE, **more}
        if code is not None:
            content["ended"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        path = self.directory / "status.json"
        try:
            files.write_json(path, content)
        except StorageError:
            if code is None or not path.is_file():
                raise
            with path.open("r+b") as file:  # a full disk has room for it in its old place
                file.write(json.dumps(content).encode())
                file.truncate()

    def _log_file(self) -> logging.Handler:
        handler = _LogFile(self.directory / "log.txt", encoding="utf-8")
        handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for record in early_records.buffer:
            handler.handle(record)
        early_records.buffer.clear()
        logging.getLogger().addHandler(handler)
        return handler

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """A signal, or the end of the launcher, stops the run after the current training step; a second one, or one
        outside training, stops it immediately."""

        def ask(what: str, is_second: bool) -> None:
            if is_second or not self.can_save:
                raise KeyboardInterrupt(what)
            self.stop_requested = True
            logger.warning("%s: stopping after this step; a second signal stops immediately", what)

        with signals.handled(ask):
            yield

    def say_finished(self) -> None:
        """Log that the result is an old one."""
        logger.info("%s is finished, this is its result", self.directory)

    def check_stop(self) -> None:
        """Raise `Stopped` if a signal has asked for it, on any rank; every rank must call it."""
        self.stop_requested = processes.is_any(self.stop_requested)
        if self.stop_requested:
            saved = ", checkpoint saved" if checkpoints.can_resume(self.directory) else ""
            raise Stopped(f"{self.directory}: stopped by a signal{saved}; {self._way_on()}")


class _LogFile(logging.FileHandler):
    """log.txt. On a full disk, lines are lost; the run ends at the next file that it can't write, and says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is None or not is_storage_error(error):
            super().handleError(record)


def _identify(directory: Path) -> tuple[int, int] | None:
    """What stays the same of a directory that is renamed; None if there is none."""
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_locked(directory: Path) -> bool:
    """Whether a running process holds the lock of the run directory."""
    return files.is_locked(directory / ".lock")


def read_status(directory: Path) -> dict[str, Any]:
    """The content of status.json, or {}."""
    try:
        content = files.read_json(directory / "status.json")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
