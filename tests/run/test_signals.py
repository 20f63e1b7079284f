"""Requests to stop: signals, the launcher's end, and what workers of a data loader do with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicecommand.run import processes, signals

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def asked() -> Iterator[list[tuple[str, bool]]]:
    """What asks within `signals.handled`, in order, and whether it is the second request."""
    found: list[tuple[str, bool]] = []
    with signals.handled(lambda what, is_second: found.append((what, is_second))):
        yield found


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_each_signal_asks(name: str, asked: list[tuple[str, bool]]) -> None:
    send(getattr(signal, name))
    assert asked == [(name, False)]


def test_a_signal_that_the_launcher_passes_on_is_the_same_request(
    asked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    assert asked == [("SIGTERM", False)]
    monkeypatch.setattr(signals, "SAME_REQUEST", 0)
    send(signal.SIGINT)
    assert asked[1:] == [("SIGINT", True)]


def test_a_signal_while_the_handlers_are_set_asks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signals, "_watch_launcher", lambda: send(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt), signals.handled(signals.interrupt):
        raise AssertionError("the block begins")
    assert not signals._requests.asks
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled(signals.interrupt):
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# a parent, the launcher or none, which dies; the grandchild says whether it was asked to stop
ORPHAN = """
import os, subprocess, sys, time
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
    time.sleep(60)
from voicecommand.run import signals
with signals.handled(lambda what, is_second: (print(what, flush=True), os._exit(0))):
    print("ready", flush=True)
    time.sleep(4)
print("went on", flush=True)
"""


@pytest.mark.parametrize(
    ("variable", "says"),
    [("ACCELERATE_DYNAMO_MODE", "the launcher has ended"), ("TORCHELASTIC_RUN_ID", "the launcher has ended"),
     ("ACCELERATE_MIXED_PRECISION", "went on")],
)  # fmt: skip
def test_only_the_end_of_a_launcher_asks(variable: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE", "TORCHELASTIC"))}
    environment = clean | {"PYTHONPATH": str(SRC), variable: "default"}
    command = [sys.executable, str(tmp_path / "orphan.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout and parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.readline() == f"{says}\n"


def test_a_signal_and_the_end_of_the_launcher_are_one_request(
    asked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PARENT", -1)
    send(signal.SIGTERM)
    signals._wait_for_launcher()
    time.sleep(0.01)
    assert asked == [("SIGTERM", False)]


def test_after_the_end_of_the_launcher_the_first_signal_is_no_second_request(
    asked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PARENT", -1)
    signals._wait_for_launcher()
    time.sleep(0.01)
    send(signal.SIGTERM)
    assert asked == [("the launcher has ended", False), ("SIGTERM", False)]


@pytest.mark.parametrize(("to_all", "ends"), [(True, False), (False, True)])
def test_a_worker_stays_for_the_last_step_only_if_the_run_was_asked_too(
    to_all: bool, ends: bool, asked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "WORKER_SECONDS", 0.3)
    worker = os.fork()
    if worker == 0:
        time.sleep(1)
        os._exit(7)
    time.sleep(0.1)
    os.kill(worker, signal.SIGTERM)
    if to_all:
        send(signal.SIGTERM)
    _, status = os.waitpid(worker, 0)
    assert os.WIFSIGNALED(status) if ends else os.WEXITSTATUS(status) == 7
