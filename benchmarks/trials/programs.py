"""A recipe run in a forked child of this process, which has the imports done, or by the real command."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import pkgutil
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from measuring import ROOT, SOURCE

Change = Callable[[int], None]  # rank -> nothing: what a trial changes in a child before its training begins
# What must be set before torch or a Hugging Face library is imported: no GPU, no network, one thread.
ENVIRONMENT = {
    "ACCELERATE_USE_CPU": "true",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONUNBUFFERED": "1",
}
LAUNCH = [
    sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no",
]  # fmt: skip
# What a training imports late, apart from the library itself.
ALSO_IMPORTED = (
    "accelerate", "datasets", "hydra._internal.core_plugins.basic_launcher", "matplotlib.backends.backend_agg",
    "matplotlib.figure", "narwhals", "peft", "sklearn.calibration", "sklearn.linear_model", "torch.distributed",
    "transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert",
    "transformers.models.wav2vec2.feature_extraction_wav2vec2",
)  # fmt: skip
NOT_SET_UP = 71  # exit code of a child in which the trial's change failed
LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def prepare(cache: Path) -> None:
    """Set the environment of this process and of all that it starts; before anything heavy is imported."""
    for name in LAUNCHER:
        os.environ.pop(name, None)
    for number in (signal.SIGINT, signal.SIGHUP):  # which a shell ignores for what it runs in the background
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.update(ENVIRONMENT, HF_HOME=str(cache), HF_DATASETS_CACHE=str(cache / "datasets"))
    paths = [SOURCE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    sys.path.append(str(ROOT / "recipes"))


class SetUpError(Exception):
    """A trial could not be made: what it changes is not there any more. It says nothing about the run."""


@dataclass
class Program:
    """A program that was started: its processes and what they print.

    Args:
        pids: of the processes that this process started, in the order of their ranks.
        log: the file with standard output and standard error of all of them.
        codes: exit codes by pid; minus the signal where one ended it.
    """

    pids: list[int]
    log: Path
    codes: dict[int, int] = field(default_factory=dict)

    def is_running(self) -> bool:
        for pid in self.pids:
            if pid not in self.codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return len(self.codes) < len(self.pids)

    def wait(self, seconds: float = 180.0) -> list[int]:
        """The exit codes, in the order of the ranks.

        Raises:
            TimeoutError: it did not end in time; then it was killed.
            SetUpError: the trial's change could not be made.
        """
        end = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"did not end within {seconds:.0f} s: {self.last_line()}")
            time.sleep(0.005)
        if NOT_SET_UP in self.codes.values():
            raise SetUpError(self.last_line())
        return [self.codes[pid] for pid in self.pids]

    def kill(self) -> None:
        """kill -9 to its processes and all that they have started."""
        for pid in self.pids:
            if pid not in self.codes:
                kill_all({pid, *descendants(pid)})
        while self.is_running():
            time.sleep(0.005)

    def text(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def last_line(self) -> str:
        lines = [line for line in re.split(r"[\r\n]+", self.text()) if line.strip()]
        return lines[-1].strip()[:300] if lines else ""

    def error_lines(self) -> list[str]:
        return [line for line in re.split(r"[\r\n]+", self.text()) if line.startswith("error: ")]


def fork(recipe: str, argv: Sequence[str], log: Path, ranks: int = 1, change: Change | None = None) -> Program:
    """`python recipes/<recipe>.py <argv>` in a forked child for each rank, all in a process group of their own."""
    port = _free_port() if ranks > 1 else 0
    sys.stdout.flush()
    sys.stderr.flush()
    pids = []
    for rank in range(ranks):
        pid = os.fork()
        if not pid:
            os.setpgid(0, pids[0] if pids else 0)
            _run_child(recipe, argv, log, rank, ranks, port, change)
        pids.append(pid)
        with suppress(OSError):  # the child may have done it, or ended
            os.setpgid(pid, pids[0])
    return Program(pids, log)


def _run_child(
    recipe: str, argv: Sequence[str], log: Path, rank: int, ranks: int, port: int, change: Change | None
) -> NoReturn:
    code = 1  # as of a program that ends with a traceback
    try:
        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for target in (1, 2):
            os.dup2(number, target)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if ranks > 1:
            values = ("127.0.0.1", port, rank, rank, ranks, ranks)
            os.environ.update(zip(LAUNCHER, map(str, values), strict=True))
            from voicecommand.run import processes

            processes.RANK, processes.WORLD_SIZE = rank, ranks
        if change is not None:
            code = NOT_SET_UP
            change(rank)
            code = 1
        code = run_recipe(recipe, argv)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # not the parent's own exit handlers


def run_recipe(recipe: str, argv: Sequence[str]) -> int:
    """The exit code of `python recipes/<recipe>.py <argv>`, run in this process."""
    path = ROOT / "recipes" / f"{recipe}.py"
    spec = importlib.util.spec_from_file_location(f"recipe_{recipe}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.argv = [str(path), *argv]
    spec.loader.exec_module(module)
    try:
        module.exits.run_program(module.main) if recipe == "predict" else module.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def start(
    recipe: str, argv: Sequence[str], log: Path, ranks: int = 0, before: Sequence[str] = (), **variables: str
) -> Program:
    """The real command: `python recipes/<recipe>.py` (0 ranks), or accelerate launch with so many ranks.

    Args:
        before: words before the command, such as `nohup`.
    """
    launch = [sys.executable] if not ranks else [*LAUNCH, "--num_processes", str(ranks)]
    if ranks > 1:
        launch += ["--multi_gpu", "--main_process_port", "0"]
    command = [*before, *launch, str(ROOT / "recipes" / f"{recipe}.py"), *argv]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **variables},
            process_group=0,
        )  # fmt: skip
    process.returncode = 0  # `Program` waits for it
    return Program([process.pid], log)


def import_all() -> None:
    """Import all that a training imports, so that a forked child begins with its work."""
    import voicecommand

    for module in pkgutil.walk_packages(voicecommand.__path__, "voicecommand."):
        importlib.import_module(module.name)
    for name in ALSO_IMPORTED:
        importlib.import_module(name)
    import torch

    from voicecommand.report import page

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    page.write_report = page.write_model_card = _write_nothing  # half the time of a tiny training
    gc.collect()
    gc.freeze()  # children neither collect nor copy it


def _write_nothing(*_: object) -> None:
    """In place of the page and the card."""


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started and that still run, with theirs."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return set()


def still_running(pids: set[int]) -> set[int]:
    """Of these processes, those that run (a zombie does not)."""
    import psutil

    found = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.add(pid)
    return found


def kill_all(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
