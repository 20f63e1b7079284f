"""The machine, and a run's use of it: versions, hardware, git state, memory, seconds."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from voicecommand.run.logs import early_records

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
_job_started: float | None = None


def start_job(number: int) -> None:
    """Before each job of a multirun: reset the state that the previous job left in the process."""
    global _job_started
    early_records.buffer.clear()
    if number > 1:  # start-up and peak memory are measured for each job
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


def describe_machine() -> dict[str, Any]:
    """Versions, hardware and git state, for run.json."""
    import torch

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    hardware: dict[str, Any] = {"processor": processor, "cores": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        hardware["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"versions": describe_versions(), "hardware": hardware, "git": _git_state()}


def describe_versions() -> dict[str, str]:
    """The versions of Python and of the packages that are there."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _git_state() -> dict[str, Any] | None:
    def git(*words: str) -> str:
        root = Path(__file__).resolve().parent
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return (
            {"commit": commit, "dirty": bool(git("--no-optional-locks", "status", "--porcelain"))} if commit else None
        )
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_mb() -> float:
    """Peak resident memory of this process, or of the current job of a multirun, in MB."""
    with contextlib.suppress(OSError, StopIteration):  # ru_maxrss would include the parent process's peak
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def process_seconds() -> float:
    """Seconds since this process, or the current job of a multirun, began."""
    import psutil

    return time.time() - (_job_started or psutil.Process().create_time())
