"""Connections between the ranks: each has one to rank 0, over which JSON messages of one line are sent."""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from voicecommand.run import processes

logger = logging.getLogger(__name__)
CONNECT_SECONDS = 30.0
SEND_SECONDS = 1.0  # for one message; a rank that does not read has died or is frozen
MAX_HANDSHAKE = 1_000  # bytes
NO_RANK = (OSError, ValueError, KeyError, TypeError)  # what `_handshake` raises: the other end is no rank of this run


@dataclass
class Peer:
    """Another rank, at the other end of a connection.

    Attributes:
        machine, pid: where its process is.
        silent: seconds of this process without a message from it.
        has_ended: it sent that.
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

    def send(self, **content: Any) -> None:
        """Send one message; that a rank is gone is found by reading."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(content).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
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


def connect() -> list[Peer]:
    """The ranks that this one is connected with: all others on rank 0, rank 0 on the others. Every rank must call it.

    Empty on every rank, after a warning, if one of them can't be reached.
    """
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
    peers = _accept(server, key) if server else _open(port, key)
    missing = processes.agree(lambda: sorted({*range(1, processes.WORLD_SIZE)} - {peer.rank for peer in peers}))
    if not missing:
        return peers
    ranks = ", ".join(map(str, missing))
    logger.warning(
        "rank %s can't reach rank 0 at port %d: that a rank dies or hangs is noticed by torch only", ranks, port
    )
    return []


def _accept(server: socket.socket, key: str) -> list[Peer]:
    """The connections of all other ranks, as many as come in time."""
    peers: list[Peer] = []
    until = time.monotonic() + CONNECT_SECONDS
    with server:
        while len(peers) < processes.WORLD_SIZE - 1 and (left := until - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(*NO_RANK):
                connection = server.accept()[0]
                peers.append(_handshake(connection, key))
    return peers


def _open(port: int, key: str) -> list[Peer]:
    where = "127.0.0.1" if processes.is_one_machine() else os.environ["MASTER_ADDR"]
    with contextlib.suppress(*NO_RANK):
        return [_handshake(socket.create_connection((where, port), timeout=CONNECT_SECONDS), key)]
    return []


def _handshake(connection: socket.socket, key: str) -> Peer:
    """Exchange which ranks are at the ends of a connection.

    Raises:
        OSError, ValueError, KeyError, TypeError: at the other end is no rank of this run; the connection is closed.
    """
    try:
        other = _exchange(connection, key)
        return Peer(int(other["rank"]), connection, other["machine"], int(other["pid"]))
    except NO_RANK:
        connection.close()
        raise


def _exchange(connection: socket.socket, key: str) -> dict[str, Any]:
    """Send who this rank is, and receive who the other is; rank 0 sends after it has seen the key of the run."""
    connection.settimeout(CONNECT_SECONDS / 3)
    own = {"key": key, "rank": processes.RANK, "machine": name_machine(), "pid": os.getpid()}
    received = b""
    if processes.RANK:
        connection.sendall(json.dumps(own).encode() + b"\n")
    while not received.endswith(b"\n") and len(received) < MAX_HANDSHAKE:
        part = connection.recv(1)
        if not part:
            raise ValueError("the connection has ended")
        received += part
    other: dict[str, Any] = json.loads(received)
    if not hmac.compare_digest(str(other["key"]).encode(), key.encode()):
        raise ValueError("its key is not that of this run")
    if not processes.RANK:
        connection.sendall(json.dumps(own).encode() + b"\n")
    connection.settimeout(SEND_SECONDS)
    return other


def name_machine() -> str:
    """Of two processes with the same name, either can end the other by its number."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return secrets.token_hex(8)
