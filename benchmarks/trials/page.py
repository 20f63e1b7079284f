"""The scoreboard on the terminal, and docs/reliability.md."""

from __future__ import annotations

from typing import Any

from measuring import machine_line

from voicecommand.compare.tables import markdown_table

INTRODUCTION = """# Reliability

Can a long run be trusted to this? `make chaos` kills, stops, damages and starves trainings on purpose, and compares
what comes out with a training that nobody disturbed. This page is what it found; `make chaos` writes it again from
`benchmarks/results/chaos.json`.

"Exactly" means: the weights, the predictions, the losses of every step and the number of steps are the same to the
last bit. The trainings are tiny (a BERT of one layer and a BC-ResNet, 12 steps, a checkpoint every third), and run on
a CPU.

Each row is also run with something broken on purpose, to show that the row would notice it.
"""
LIMITS = """## What this does not show

- A machine that loses its power. `kill -9` leaves what was written in the memory of the kernel. Checkpoints are flushed
  to the disk before they count, but no power was cut here.
- GPUs, network file systems, more than one machine.
- A resumed run is exact on the same versions of the libraries and the same kind of processor. Other versions are said
  in the log, and the run goes on.
"""


def scoreboard(rows: dict[str, dict[str, Any]]) -> str:
    """A line for each row."""
    lines = []
    for row in rows.values():
        parts = ", ".join(f"{held}/{tried} {name}" for name, (held, tried) in row["parts"].items() if name)
        skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
        lines.append([row["title"], f"{row['held']} of {row['tried']}{skipped}", parts, noticed(row), seconds(row)])
    return markdown_table(["what was done", "held", "of which", "broken on purpose", "time"], lines)


def noticed(row: dict[str, Any]) -> str:
    broken = row["sabotage"]
    if broken is None:
        return "not tried"
    return f"{broken['what']}: {'noticed' if broken['noticed'] else 'NOT NOTICED'}"


def seconds(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.0f} s" if row["seconds"] < 100 else f"{row['seconds'] / 60:.0f} min"


def cost_lines(cost: dict[str, Any] | None) -> str:
    """What it costs where nothing goes wrong."""
    if cost is None:
        return ""
    lines = []
    for part, name in (("train", "training, without saving"), ("save", "saving")):
        ratio, mean = cost[part]["ratio"], cost[part]["mean"]
        interval = "-" if mean["low"] is None else f"{mean['low']:.3f} to {mean['high']:.3f}"
        lines.append([name, f"{ratio['median']:.3f}", f"{mean['mean']:.3f}", interval])
    about = (
        f"CPU-seconds of this version divided by those of the version before checkpoints were verified, in"
        f" {cost['pairs']} interleaved pairs of trainings (BERT of 6 layers, 22.7 M parameters); the interval is that"
        " of the mean (95 %, Student's t)."
    )
    table = markdown_table(["", "median", "mean", "interval"], lines)
    return f"## What it costs\n\n{about}\n\n{table}\n\n`{cost['command']}`"


def write_page(content: dict[str, Any]) -> str:
    """The text of docs/reliability.md."""
    rows = content["rows"]
    parts = [INTRODUCTION.strip(), scoreboard(rows)]
    if short := [row["title"] for row in rows.values() if row["form"] == "short"]:
        parts.append(
            f"{'All rows' if len(short) == len(rows) else '; '.join(short)}: some of the trials only. The descriptions"
            " below are of all trials, which `make chaos CHAOS=full` makes."
        )
    if len({row["code"] for row in rows.values()}) > 1:
        parts.append("Not all rows were measured on the same version of the code.")
    parts += [f"On {machine_line(content['machine'])}:\n\n```text\n{content['command']}\n```", "## The rows"]
    for row in rows.values():
        text = f"**{row['title'][0].upper()}{row['title'][1:]}.** {row['about']}"
        if row["failures"]:
            listed = "\n".join(f"- {one['trial']}: {one['answer']}" for one in row["failures"])
            text += f"\n\nNot held:\n\n{listed}"
        parts.append(text)
    parts += [cost_lines(content.get("cost")), LIMITS.strip()]
    return "\n\n".join(filter(None, parts)) + "\n"
