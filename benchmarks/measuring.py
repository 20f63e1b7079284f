"""What the benchmarks share: medians with their spread, ratios, tables, the machine, results files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Student's t, two-sided 95 %, by degrees of freedom: the seeds of a comparison are few.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def use_checkout() -> None:
    """Let a benchmark import this checkout's library, also where it is not installed."""
    source = str(ROOT / "src")
    if source not in sys.path:
        sys.path.insert(0, source)
    # the programs that a benchmark starts find it too
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of `values`, and the values."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The spread of over[i] / under[i]: both were measured in round i, so a slow minute cancels out."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean of ours[i] - theirs[i] with its 95 % interval (paired t); no interval from a single pair."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, count = statistics.mean(differences), len(differences)
    if count < 2:
        return {"mean": mean, "low": None, "high": None, "pairs": count}
    half = T_95.get(count - 1, 1.96) * statistics.stdev(differences) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "pairs": count}


def format_spread(figure: dict[str, Any] | None, digits: int = 2, scale: float = 1.0) -> str:
    """`2.31 (2.20 to 2.40)`."""
    if figure is None:
        return "-"
    median, low, high = (f"{scale * figure[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table with aligned columns; the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def peak_memory_mb() -> float:
    """High-water mark of this process's resident memory in MB (ru_maxrss would inherit the parent's)."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def note(line: str) -> None:
    """A line on how far it is; the results go to standard output."""
    print(line, file=sys.stderr, flush=True)


def check_load() -> float:
    """How many processes want a core now; says so where they will disturb what is measured."""
    load = os.getloadavg()[0]
    if load > 0.5:
        note(f"load {load:.1f}: other processes are at work, so expect a wide spread")
    return load


def describe_machine(threads: int, load: float) -> dict[str, Any]:
    """Processor, cores, GPUs, versions, threads, load before; nothing that names a place or a time."""
    from voicecommand.run import machine

    facts = machine.describe_machine()
    return {**facts["hardware"], "threads": threads, "load": load, "versions": facts["versions"]}


def command_line(arguments: Sequence[str] | None = None, directories: Sequence[str] = ("--path", "--run")) -> str:
    """The command as a reader would repeat it: directories of this machine become DIR."""
    arguments = sys.argv if arguments is None else arguments
    words = ["python", f"benchmarks/{Path(arguments[0]).name}"]
    for i, word in enumerate(arguments[1:], start=1):
        name = word.split("=")[0]
        if arguments[i - 1] in (*directories, "--out"):
            word = "FILE" if arguments[i - 1] == "--out" else "DIR"
        elif name in (*directories, "--out") and "=" in word:
            word = f"{name}={'FILE' if name == '--out' else 'DIR'}"
        words.append(word)
    return " ".join(words)


def write_results(path: Path, content: dict[str, Any], printed: str) -> None:
    """`path` (JSON), and beside it what was printed (Markdown)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(printed.rstrip() + "\n", encoding="utf-8")


def rounded(content: Any) -> Any:
    """Six significant digits: more would be noise in a file that is kept."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    return content
