"""Ranks that watch one another, as small processes without torch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voicecommand import files
from voicecommand.run import connections

SRC = Path(__file__).parents[2] / "src"
# Two forked processes with a connection, as `ranks.watch` leaves them; each runs its own lines.
SCRIPT = """
import os, signal, socket, sys, time
from voicecommand.errors import InputError
from voicecommand.run import connections, exits, processes, ranks

first, second = socket.socketpair()
processes.WORLD_SIZE = 2
ranks.BEAT_SECONDS = 0.2
pids = [0, 0]
gate, opened = os.pipe()

def begin(rank):
    processes.RANK = rank
    own, other = (first, second) if rank == 0 else (second, first)
    other.close()
    own.settimeout(1)
    pid = int(os.read(gate, 8)) if rank == 0 else os.getppid()
    ranks._watch = ranks._Watch([connections.Peer(1 - rank, own, connections.name_machine(), pid)], {timeout})

def collective():
    time.sleep(60)

child = os.fork()
if child == 0:
    begin(1)
    {one}
    os._exit(0)
os.write(opened, b"%8d" % child)
begin(0)
{zero}
os._exit(0)
"""


def run_ranks(zero: str, one: str, timeout: float = 2.0) -> tuple[int, str, float]:
    """The exit code of rank 0, what both wrote to standard error, and the seconds from their connection."""
    script = SCRIPT.format(zero=zero, one=one, timeout=timeout)
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stderr, time.monotonic() - start


def test_a_rank_that_dies_ends_the_other_at_once_and_is_named() -> None:
    code, error, seconds = run_ranks("collective()", "os.kill(os.getpid(), signal.SIGKILL)", timeout=300)
    assert code == 5 and seconds < 20
    assert error == "error: rank 1 has died: something killed it, such as a lack of memory\n"


def test_a_frozen_rank_ends_the_other_after_the_time_limit_and_is_killed() -> None:
    code, error, seconds = run_ranks("collective()", "os.kill(os.getpid(), signal.SIGSTOP)")
    assert code == 5 and seconds < 20
    assert error == "error: rank 1 has not answered for 2 s (rank_timeout)\n"


def test_a_frozen_rank_0_is_named_by_the_others() -> None:
    _, error, _ = run_ranks("os.kill(os.getpid(), signal.SIGSTOP)", "collective()")
    assert error == "\nrank 1: error: rank 0 has not answered for 2 s (rank_timeout)\n"


def test_of_ranks_that_stand_still_in_a_step_the_one_behind_is_named() -> None:
    zero = "ranks.note_progress(True); ranks.note_progress(True); collective()"
    code, error, _ = run_ranks(zero, "ranks.note_progress(True); time.sleep(60)")
    assert code == 5
    assert error.startswith("error: rank 1 has stood still for 2 s (rank_timeout) at ")


@pytest.mark.parametrize("in_step", ["True", "False"])
def test_a_slow_rank_is_no_hung_one(in_step: str) -> None:
    """It goes on, or does what may take long."""
    one = f"""
    for _ in range(6):
        ranks.note_progress({in_step})
        time.sleep({"0.6" if in_step == "True" else "0.7"})
    ranks.leave()"""
    code, error, _ = run_ranks("ranks.note_progress(True); time.sleep(4); ranks.leave()", one)
    assert (code, error) == (0, "")


def test_an_error_of_another_rank_is_shown_with_its_rank_and_code() -> None:
    one = "sys.exit(exits.fail(InputError('no such file'), 2))"
    code, error, _ = run_ranks("collective()", one)
    assert (code, error) == (2, "error: rank 1: no such file\n")


def test_an_error_of_another_rank_is_shown_visibly_and_shortened() -> None:
    one = r"sys.exit(exits.fail(InputError('label \x1b[2J' + 'a' * 100_000), 2))"
    code, error, _ = run_ranks("collective()", one)
    assert (code, len(error)) == (2, len("error: ") + files.MAX_LINE + 1)
    assert error.startswith("error: rank 1: label \\u001b[2Jaaa") and error.endswith("a...\n")


def test_who_is_no_rank_of_the_run_is_not_connected_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    messages = (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"key": "\xc3\xa4", "rank": 1}\n', b"")
    callers = []
    for message in messages:
        callers.append(socket.create_connection(server.getsockname()))
        callers[-1].sendall(message)
        callers[-1].shutdown(socket.SHUT_WR)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(connections.processes, "WORLD_SIZE", 2)
    assert connections._accept(server, "the key") == []
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("first", [0, 1])
def test_an_error_of_all_ranks_is_shown_once(first: int) -> None:
    fail = "os._exit(exits.fail(InputError('no such file'), 2))"
    last = f"time.sleep(1); {fail}"
    code, error, _ = run_ranks(fail if first == 0 else last, last if first == 0 else fail)
    assert (code, error) == (2, "error: no such file\n")


def test_a_rank_that_has_finished_is_not_missed() -> None:
    assert run_ranks("time.sleep(3); ranks.leave()", "ranks.leave()")[:2] == (0, "")


def test_a_process_that_waits_at_its_very_end_is_ended() -> None:
    """torch may wait for other ranks when Python ends; there no code of ours runs any more."""
    zero = "ranks.LAST_SECONDS = 1; ranks.leave(2); collective()"
    code, _, seconds = run_ranks(zero, "ranks.leave()")
    assert code == -14 and seconds < 20


def test_ranks_that_were_frozen_together_go_on() -> None:
    """As a suspended machine: each was silent for longer than the time limit, by the clock of the other."""
    zero = """
if os.fork() == 0:
    os.kill(child, signal.SIGSTOP)
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(3)
    os.kill(os.getppid(), signal.SIGCONT)
    os.kill(child, signal.SIGCONT)
    os._exit(0)
time.sleep(5)
ranks.leave()"""
    assert run_ranks(zero, "time.sleep(5); ranks.leave()")[:2] == (0, "")


def test_a_worker_does_not_keep_the_connection_of_a_rank_that_died() -> None:
    one = """
    os.register_at_fork(after_in_child=ranks._forget)
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(30)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)"""
    code, error, seconds = run_ranks("collective()", one, timeout=300)
    assert (code, seconds < 20) == (5, True)
    assert "rank 1 has died" in error
