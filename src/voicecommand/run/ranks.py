"""Ranks that watch one another: one that dies, hangs or fails ends the run on all of them, and is named.

Every rank has a connection to rank 0 and a thread that says once a second that the process lives and how far its
training is. A process that died closes its connection; one that is frozen says nothing; one that hangs says that it
stands still. The thread ends its process itself, because the main thread then waits in a collective for the lost rank.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from voicecommand.errors import LostRank
from voicecommand.run import processes

logger = logging.getLogger(__name__)
CONNECT_SECONDS = 30.0
BEAT_SECONDS = 1.0
# Time for the main thread to end by itself after another rank has failed, and to learn why a collective failed.
GRACE_SECONDS, VERDICT_SECONDS = 5.0, 3.0
COLLECTIVE = "the collective "  # at the start of a place
LAST_SECONDS = 6.0  # for writing down how the run ended, before the process ends without it


@dataclass
class _Peer:
    """Another rank, at the other end of a connection.

    Attributes:
        machine, pid: where its process is.
        silent: seconds of this process without a word from it.
        has_ended: it said so.
        still: how long its training has stood still in a step, seconds; 0 outside steps.
        place: of the code that its main thread runs.
        steps: how far it is; each batch and each step counts.
    """

    rank: int
    connection: socket.socket
    machine: str
    pid: int
    silent: float = 0.0
    has_ended: bool = False
    still: float = 0.0
    steps: int = 0
    place: str = ""
    unread: bytes = field(default=b"", repr=False)

    def say(self, **content: Any) -> None:
        """Send one message; a rank that is gone is found by reading."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(content).encode() + b"\n")

    def hear(self) -> list[dict[str, Any]] | None:
        """The messages that have come, or None at the end of the connection."""
        try:
            received = self.connection.recv(65536)
        except TimeoutError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self.unread = (self.unread + received).split(b"\n")
        return [json.loads(line) for line in lines]


class _Watch:
    """The connections of this rank, and the thread that reads them.

    Args:
        peers: all ranks on rank 0, rank 0 on the others.
        timeout: seconds after which a rank counts as hung.

    Attributes:
        record: writes down how the run ended, and answers the line to print.
        has_left: the main thread ends the process, so that the thread must not.
        is_ending: the thread ends the process, so that the main thread must not.
        needs_verdict: the main thread has failed, and waits to learn whether another rank is the cause.
        failure: of another rank.
        steps, in_step: see `note_progress`.
    """

    def __init__(self, peers: list[_Peer], timeout: float) -> None:
        self.peers, self.timeout = peers, timeout
        self.record: Callable[[LostRank], str] = str
        self.has_left = self.is_ending = self.needs_verdict = self.in_step = False
        self.lock = threading.Lock()  # of the two of them
        self.steps = 0
        self._own = _Peer(processes.RANK, peers[0].connection, "", os.getpid())
        self.failure: LostRank | None = None
        self._until = 0.0  # when the main thread must have ended by itself after that
        self.thread = threading.Thread(target=self._run, name="ranks", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        before = beat = time.monotonic()
        while not self.has_left:
            living = [peer for peer in self.peers if not peer.has_ended]
            ready, _, _ = select.select([peer.connection for peer in living], [], [], BEAT_SECONDS / 2)
            for peer in living:
                if peer.connection in ready:
                    self._hear(peer)
            now = time.monotonic()
            # at most: a process that was frozen itself must not think that the others were
            passed, before = min(now - before, BEAT_SECONDS), now
            self._look(passed)
            if now >= beat:
                beat = now + BEAT_SECONDS
                for peer in living:
                    peer.say(still=self._own.still, steps=self._own.steps, place=self._own.place)
            for peer in living:
                peer.silent += passed
            self._judge(now)

    def _look(self, passed: float) -> None:
        """See how far the main thread of this process is."""
        own, steps = self._own, self.steps
        own.still = own.still + passed if self.in_step and steps == own.steps else 0.0
        own.steps, own.place = steps, _find_place()

    def _hear(self, peer: _Peer) -> None:
        messages = peer.hear()
        if messages is None and not peer.has_ended:
            self._lose(peer, "has died: something killed it, such as a lack of memory")
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

    def _judge(self, now: float) -> None:
        """End the process if another rank has failed or hangs."""
        if self.failure is not None and (self.needs_verdict or now > self._until):
            self._end(self.failure, is_quiet=processes.RANK > 0)
        for peer in self.peers:
            if not peer.has_ended and peer.silent > self.timeout:
                self._lose(peer, f"has not answered for {self.timeout:g} s (rank_timeout)")
        everyone = [self._own, *self.peers]
        if processes.RANK == 0 and min(peer.still for peer in everyone) > self.timeout:
            # the others wait for it in a collective; of two that are as far, it is the one outside collectives
            hung = min(everyone, key=lambda peer: (peer.steps, peer.place.startswith(COLLECTIVE), peer.rank))
            self._lose(hung, f"has stood still for {self.timeout:g} s (rank_timeout) at {hung.place}")

    def _lose(self, lost: _Peer, how: str) -> None:
        """End all ranks because of one of them, which is killed if it is on this machine, or it would stay frozen."""
        error = LostRank(f"rank {lost.rank} {how}")
        self._tell(error, lost.rank)
        if lost.machine == _name_machine():
            with contextlib.suppress(OSError):
                os.kill(lost.pid, signal.SIGKILL)
        self._end(error)

    def _tell(self, error: LostRank, rank: int) -> None:
        for peer in self.peers:
            peer.say(lost=str(error), rank=rank, code=error.exit_code)

    def _end(self, error: LostRank, is_quiet: bool = False) -> None:
        """End this process without its main thread, after recording and printing how the run ended."""
        with self.lock:
            if self.has_left:
                return
            self.is_ending = True
        deadline = threading.Timer(LAST_SECONDS, os._exit, [error.exit_code])
        deadline.daemon = True
        deadline.start()
        self._tell(error, -1)
        if not is_quiet:
            line = str(error)
            with contextlib.suppress(Exception):  # nothing may keep the process from ending
                line = self.record(error)
            bars: Any = sys.modules.get("tqdm")
            start = "\n" if processes.RANK or (bars and bars.tqdm._instances) else ""  # below the bar
            with contextlib.suppress(OSError):  # not sys.stderr, whose lock the main thread may hold
                os.write(2, f"{start}{processes.name_rank()}error: {line}\n".encode())
        os._exit(error.exit_code)


_watch: _Watch | None = None


def watch(timeout: float) -> None:
    """Begin to watch the other ranks; every rank must call it. It does nothing where there is only one.

    Args:
        timeout: seconds without a word from a rank, or without progress in a step, after which it counts as hung.
    """
    global _watch
    if processes.WORLD_SIZE == 1 or _watch is not None:
        return
    server: socket.socket | None = None

    def listen() -> tuple[int, str]:
        nonlocal server
        is_local = processes.is_one_machine()
        if not is_local and socket.has_dualstack_ipv6():
            server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            server = socket.create_server(("127.0.0.1" if is_local else "", 0))
        return server.getsockname()[1], secrets.token_hex(16)

    port, key = processes.agree(listen)
    peers = _accept(server, key) if server else _connect(port, key)
    missing = processes.agree(lambda: sorted({*range(1, processes.WORLD_SIZE)} - {peer.rank for peer in peers}))
    if missing:
        ranks = ", ".join(map(str, missing))
        logger.warning(
            "rank %s can't reach rank 0 at port %d: that a rank dies or hangs is noticed by torch only", ranks, port
        )
        return
    _watch = _Watch(peers, timeout)
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a worker of a data loader: close its copies of the connections, which would seem to live on with it."""
    global _watch
    for peer in _watch.peers if _watch else ():
        peer.connection.close()
    _watch = None


def _accept(server: socket.socket, key: str) -> list[_Peer]:
    """The connections of all other ranks, as many as come in time."""
    peers: list[_Peer] = []
    until = time.monotonic() + CONNECT_SECONDS
    with server:
        while len(peers) < processes.WORLD_SIZE - 1 and (left := until - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError, ValueError, KeyError):  # a stranger is no rank
                connection = server.accept()[0]
                peers.append(_greet(connection, key))
    return peers


def _connect(port: int, key: str) -> list[_Peer]:
    where = "127.0.0.1" if processes.is_one_machine() else os.environ["MASTER_ADDR"]
    with contextlib.suppress(OSError, ValueError, KeyError):
        return [_greet(socket.create_connection((where, port), timeout=CONNECT_SECONDS), key)]
    return []


def _greet(connection: socket.socket, key: str) -> _Peer:
    """Tell each other who is at the ends of a connection.

    Raises:
        OSError, ValueError, KeyError: at the other end is no rank of this run.
    """
    connection.settimeout(CONNECT_SECONDS / 3)
    greeting = {"key": key, "rank": processes.RANK, "machine": _name_machine(), "pid": os.getpid()}
    received = b""
    if processes.RANK:
        connection.sendall(json.dumps(greeting).encode() + b"\n")
    while not received.endswith(b"\n") and len(received) < 1000:
        part = connection.recv(1)
        if not part:
            raise ValueError("the connection has ended")
        received += part
    other = json.loads(received)
    if not hmac.compare_digest(str(other["key"]), key):
        connection.close()
        raise ValueError("a stranger")
    if not processes.RANK:
        connection.sendall(json.dumps(greeting).encode() + b"\n")
    connection.settimeout(BEAT_SECONDS)
    return _Peer(int(other["rank"]), connection, other["machine"], int(other["pid"]))


def is_watching() -> bool:
    """Whether this rank is connected with the others."""
    return _watch is not None


def record_with(record: Callable[[LostRank], str]) -> None:
    """Call `record(error)` before this process ends because of another rank; it answers the line to print."""
    if _watch is not None:
        _watch.record = record


def note_progress(in_step: bool) -> None:
    """Say that training goes on.

    Args:
        in_step: whether the next call must come within the time limit. False before what may take long: the first
            step, an evaluation, saving.
    """
    if _watch is not None:
        _watch.steps, _watch.in_step = _watch.steps + 1, in_step


def await_verdict() -> None:
    """After an error that another rank may have caused: if one did, this process ends here, and that rank is named."""
    if _watch is not None:
        _watch.needs_verdict = True
        _watch.thread.join(VERDICT_SECONDS)
        if _watch.is_ending:
            _watch.thread.join()


def leave(code: int = 0, error: BaseException | None = None) -> bool:
    """Tell the other ranks that this one ends, and why; True if it need not print the error, because rank 0 does."""
    if _watch is None or _watch.has_left:
        return False
    with _watch.lock:
        _watch.has_left = not _watch.is_ending
    if _watch.is_ending:
        _watch.thread.join()
    message = " ".join(str(error or "").split())
    for peer in _watch.peers:
        peer.say(code=code, error=message)
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


def _name_machine() -> str:
    """Of two processes with the same name, either can end the other by its number."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return secrets.token_hex(8)
