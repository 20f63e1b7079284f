"""Code that the benchmarks share: medians with their spread, ratios, the machine, results files."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SOURCE = str(ROOT / "src")
if SOURCE not in sys.path:
    sys.path.insert(0, SOURCE)  # this checkout's library, also where it is not installed

# What a benchmark takes from the library is imported where it is used: the arms' memory and start-up are measured.


def use_checkout() -> None:
    """Let the programs that a benchmark starts import this checkout's library too."""
    paths = [SOURCE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
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
    from voicecommand.compare.leaderboard import mean_over_seeds

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return {**mean_over_seeds(differences), "pairs": len(differences)}


def format_spread(figure: dict[str, Any] | None, digits: int = 2, scale: float = 1.0) -> str:
    """`2.31 (2.20 to 2.40)`."""
    if figure is None:
        return "-"
    median, low, high = (f"{scale * figure[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


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


def machine_line(machine: dict[str, Any]) -> str:
    """What `describe_machine` gave, in a line of the report."""
    gpus = "".join(f", {name}" for name in machine.get("gpus", []))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads{gpus},"
        f" load {machine['load']:.1f} before"
    )


def load_text_rows(path: str | None) -> Any:
    """DatasetDict of texts and labels: train, validation and test.jsonl in `path`, or the built-in commands."""
    if path:
        from voicecommand.data.sources.file import load_files

        return load_files(("text", "label"), path=path)
    from voicecommand.data.sources.commands import load_commands

    return load_commands(("text", "label"))


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
    from voicecommand import files

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, rounded(content))
    files.write_text(path.with_suffix(".md"), printed.rstrip() + "\n")


def rounded(content: Any) -> Any:
    """Six significant digits: more would be noise in a file that is kept."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    return content
