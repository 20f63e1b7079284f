"""Requests to stop: SIGTERM, SIGINT, SIGHUP, and the end of the launcher."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import termios
import threading
import time
import types
from collections.abc import Callable, Iterator

from voicecommand.run import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A signal so many seconds after the first is the same request: a scheduler signals every process of a job, and the
# launcher among them passes its own on.
SAME_REQUEST = 1.0
WORKER_SECONDS = 5.0  # in which the process itself takes a signal that one of its workers got too
RUNNING, STOPPING, ENDED = range(3)
POLL_SECONDS = 0.5  # how often the launcher is looked for

Ask = Callable[[str, bool], None]  # (what asks, whether it is the second request)


class _Requests:
    """The requests of this process so far.

    Attributes:
        asks: who is asked, innermost last.
        first: the time of the first signal (monotonic), or None.
        launcher_ended: the thread that watches the launcher has just seen it end.
        is_asked: somebody was asked already.
    """

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.stage = mmap.mmap(-1, 1)  # a byte that the workers of a data loader, which are forked, see too
        self.reset()

    def reset(self) -> None:
        self.process, self.stage[0] = os.getpid(), RUNNING
        self.first: float | None = None
        self.launcher_ended = self.is_asked = False

    def take(self, number: int, frame: types.FrameType | None) -> None:
        """The handler of the signals."""
        if os.getpid() != self.process:
            self._take_in_worker(number)
            return
        self.stage[0] = STOPPING
        if number == signal.SIGHUP:
            _leave_terminal()
        what, is_second = signal.Signals(number).name, False
        if self.launcher_ended:
            self.launcher_ended = False
            what = "the launcher has ended"
            if self.is_asked:
                return
        else:
            now = time.monotonic()
            is_second = self.first is not None
            if self.first is not None and now - self.first < SAME_REQUEST:
                return
            self.first = now
        self.is_asked = True
        self.asks[-1](what, is_second)

    def _take_in_worker(self, number: int) -> None:
        """A worker stays until the step is saved if the signal went to the whole group; otherwise it ends."""
        until = time.monotonic() + WORKER_SECONDS
        while self.stage[0] == RUNNING and time.monotonic() < until:
            time.sleep(0.01)
        if self.stage[0] != STOPPING:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


_requests = _Requests()


@contextlib.contextmanager
def handled(ask: Ask) -> Iterator[None]:
    """Within the block, requests to stop call `ask(what, is_second)` in the main thread.

    A SIGHUP that was ignored when the process started (`nohup`) stays ignored. In another thread than the main one
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    is_first = not _requests.asks
    _requests.asks.append(ask)  # before the handlers, which call it
    try:
        if is_first:
            _requests.reset()
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.getsignal(number)
                    signal.signal(number, _requests.take)
            _watch_launcher()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requests.asks.pop()
        if not _requests.asks:
            _requests.stage[0] = ENDED  # from here on workers end when they are told to


def prepare_worker(number: int) -> None:
    """Take the signals of a group in a worker of a data loader too, where torch would let SIGTERM end it and with it
    the step that is to be saved."""
    if _requests.asks:
        signal.signal(signal.SIGTERM, _requests.take)


def interrupt(what: str, is_second: bool) -> None:
    """Stop at once, as Ctrl-C does."""
    raise KeyboardInterrupt(what)


def ignore(what: str, is_second: bool) -> None:
    """Go on with ending."""


def _watch_launcher() -> None:
    """Ask this process to stop when its launcher ends, however that ends: a launcher of one process is killed by the
    first signal and passes nothing on."""
    if processes.is_launched() and not any(thread.name == "launcher" for thread in threading.enumerate()):
        threading.Thread(target=_wait_for_launcher, name="launcher", daemon=True).start()


def _wait_for_launcher() -> None:
    while os.getppid() == processes.PARENT:
        time.sleep(POLL_SECONDS)
    if _requests.asks:
        _requests.launcher_ended = True
        # to the main thread itself, so that a wait in it is interrupted
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _leave_terminal() -> None:
    """Write to nowhere instead of to a terminal that is gone, where each write is an error."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            number = stream.fileno() if stream else -1
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == 5:  # EIO; a file or a pipe answers ENOTTY
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        except (OSError, ValueError):
            pass
