"""Ranks that watch one another: one that dies, hangs or fails ends the run on all of them, and is named.

Every rank has a connection to rank 0 and a thread that sends once a second how far its training is. A process
that died closes its connection; one that is frozen sends nothing; one that hangs sends that it stands still.
The thread ends its process itself, because the main thread then waits in a collective for the lost rank.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from voicecommand.errors import LostRank
from voicecommand.files import one_line
from voicecommand.run import connections, processes
from voicecommand.run.connections import Peer

BEAT_SECONDS = 1.0
# Time for the main thread to end by itself after another rank has failed, and to learn why a collective failed.
GRACE_SECONDS, CAUSE_SECONDS = 5.0, 3.0
COLLECTIVE = "the collective "  # at the start of a place
LAST_SECONDS = 6  # for writing down how the run ended, and for Python's own end, before the process ends without it


class _Watch:
    """The connections of this rank, and the thread that reads them.

    Args:
        peers: all ranks on rank 0, rank 0 on the others.
        timeout: seconds after which a rank counts as hung.

    Attributes:
        record: writes down how the run ended, and answers the line to print.
        has_left: the main thread ends the process, so that the thread must not.
        is_ending: the thread ends the process, so that the main thread must not.
        needs_cause: the main thread has failed, and waits to learn whether another rank is the cause.
        failure: of another rank.
        steps, in_step: see `note_progress`.
    """

    def __init__(self, peers: list[Peer], timeout: float) -> None:
        self.peers, self.timeout = peers, timeout
        self.record: Callable[[LostRank], str] = str
        self.has_left = self.is_ending = self.needs_cause = self.in_step = False
        self.lock = threading.Lock()  # of the two of them
        self.steps = 0
        self._own = Peer(processes.RANK, peers[0].connection, "", os.getpid())
        self.failure: LostRank | None = None
        self._until = 0.0  # when the main thread must have ended by itself after that
        self.thread = threading.Thread(target=self._run, name="ranks", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        before = beat = time.monotonic()
        while not self.has_left:
            running = [peer for peer in self.peers if not peer.has_ended]
            ready, _, _ = select.select([peer.connection for peer in running], [], [], BEAT_SECONDS / 2)
            for peer in running:
                if peer.connection in ready:
                    self._receive(peer)
            now = time.monotonic()
            # at most: a process that was frozen itself must not think that the others were
            passed, before = min(now - before, BEAT_SECONDS), now
            self._note_own_progress(passed)
            if now >= beat:
                beat = now + BEAT_SECONDS
                for peer in running:
                    peer.send(still=self._own.still, steps=self._own.steps, place=self._own.place)
            for peer in running:
                peer.silent += passed
            self._check(now)

    def _note_own_progress(self, passed: float) -> None:
        """See how far the main thread of this process is."""
        own, steps = self._own, self.steps
        own.still = own.still + passed if self.in_step and steps == own.steps else 0.0
        own.steps, own.place = steps, _find_place()

    def _receive(self, peer: Peer) -> None:
        messages = peer.receive()
        if messages is None and not peer.has_ended:
            self._end_all(peer, "has died: something killed it, such as a lack of memory")
        peer.silent = 0.0
        for message in messages or ():
            if "lost" in message:
                self._end(LostRank(message["lost"], message["code"]), is_quiet=message["rank"] != processes.RANK)
            elif "code" in message:
                peer.has_ended = True
                if message["code"] and self.failure is None:
                    self.failure = LostRank(f"rank {peer.rank}: {message['error']}", message["code"])
                    self._until = time.monotonic() + GRACE_SECONDS
            else:
                peer.still, peer.steps, peer.place = message["still"], message["steps"], message["place"]

    def _check(self, now: float) -> None:
        """End the process if another rank has failed or hangs."""
        if self.failure is not None and (self.needs_cause or now > self._until):
            self._end(self.failure, is_quiet=processes.RANK > 0)
        for peer in self.peers:
            if not peer.has_ended and peer.silent > self.timeout:
                self._end_all(peer, f"has not answered for {self.timeout:g} s (rank_timeout)")
        everyone = [self._own, *self.peers]
        if processes.RANK == 0 and min(peer.still for peer in everyone) > self.timeout:
            # the others wait for it in a collective; of two that are as far, it is the one outside collectives
            hung = min(everyone, key=lambda peer: (peer.steps, peer.place.startswith(COLLECTIVE), peer.rank))
            self._end_all(hung, f"has stood still for {self.timeout:g} s (rank_timeout) at {hung.place}")

    def _end_all(self, lost: Peer, how: str) -> None:
        """End all ranks because of one of them, which is killed if it is on this machine, or it would stay frozen."""
        error = LostRank(f"rank {lost.rank} {how}")
        self._send_lost(error, lost.rank)
        if lost.machine == connections.name_machine():
            with contextlib.suppress(OSError):
                os.kill(lost.pid, signal.SIGKILL)
        self._end(error)

    def _send_lost(self, error: LostRank, rank: int) -> None:
        for peer in self.peers:
            peer.send(lost=str(error), rank=rank, code=error.exit_code)

    def _end(self, error: LostRank, is_quiet: bool = False) -> None:
        """End this process without its main thread, after recording and printing how the run ended."""
        with self.lock:
            if self.has_left:
                return
            self.is_ending = True
        deadline = threading.Timer(LAST_SECONDS, os._exit, [error.exit_code])
        deadline.daemon = True
        deadline.start()
        self._send_lost(error, -1)
        if not is_quiet:
            line = str(error)
            with contextlib.suppress(Exception):  # nothing may keep the process from ending
                line = self.record(error)
            bars: Any = sys.modules.get("tqdm")
            start = "\n" if processes.RANK or (bars and bars.tqdm._instances) else ""  # below the bar
            with contextlib.suppress(OSError):  # not sys.stderr, whose lock the main thread may hold
                os.write(2, f"{start}{processes.name_rank()}error: {one_line(line)}\n".encode())
        os._exit(error.exit_code)


_watch: _Watch | None = None


def watch(timeout: float) -> None:
    """Begin to watch the other ranks; every rank must call it. It does nothing where there is only one.

    Args:
        timeout: seconds without a message from a rank, or without progress in a step, after which it counts as hung.
    """
    global _watch
    if processes.WORLD_SIZE == 1 or _watch is not None:
        return
    peers = connections.connect()
    if not peers:
        return
    _watch = _Watch(peers, timeout)
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a worker of a data loader: close its copies of the connections, which would seem to live on with it."""
    global _watch
    for peer in _watch.peers if _watch else ():
        peer.connection.close()
    _watch = None


def is_watching() -> bool:
    """Whether this rank is connected with the others."""
    return _watch is not None


def record_with(record: Callable[[LostRank], str]) -> None:
    """Call `record(error)` before this process ends because of another rank; it answers the line to print."""
    if _watch is not None:
        _watch.record = record


def note_progress(in_step: bool) -> None:
    """Note that training goes on.

    Args:
        in_step: whether the next call must come within the time limit. False before what may take long: the first
            step, an evaluation, saving.
    """
    if _watch is not None:
        _watch.steps, _watch.in_step = _watch.steps + 1, in_step


def wait_for_cause() -> None:
    """After an error that another rank may have caused: if one did, this process ends here, and that rank is named."""
    if _watch is not None:
        _watch.needs_cause = True
        _watch.thread.join(CAUSE_SECONDS)
        if _watch.is_ending:
            _watch.thread.join()


def leave(code: int = 0, error: BaseException | None = None) -> bool:
    """Tell the other ranks that this one ends, and why; True if it need not print the error, because rank 0 does.

    The process must end soon after it: torch may wait for the other ranks when Python ends, and then an alarm ends it.
    """
    if _watch is None or _watch.has_left:
        return False
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LAST_SECONDS)
    with _watch.lock:
        _watch.has_left = not _watch.is_ending
    if _watch.is_ending:
        _watch.thread.join()
    message = " ".join(str(error or "").split())
    for peer in _watch.peers:
        peer.send(code=code, error=message)
    return not all(peer.has_ended for peer in _watch.peers) or str(_watch.failure) == f"rank 0: {message}"


def _find_place() -> str:
    """What the main thread runs: a collective, which waits for others, or the file and line of our code, or of any."""
    frame: types.FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    place = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if not place and ("/torch/distributed/" in name or name.endswith("/torch/autograd/graph.py")):  # DDP's backward
            return f"{COLLECTIVE}{frame.f_code.co_name}"
        is_ours = "/voicecommand/" in name
        if is_ours or not place:
            place = f"{'/'.join(name.split('/')[-2:])}:{frame.f_lineno}"
        if is_ours:
            break
        frame = frame.f_back
    return place
