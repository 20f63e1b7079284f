"""The rows of `leaderboard` as Markdown: a data set's results, notes on their intervals, accuracy in noise."""

from __future__ import annotations

from collections.abc import Sequence

from voicecommand.compare.leaderboard import BESIDE, NOISE_DB, Row
from voicecommand.compare.tables import Interval, interval, markdown_table, points, with_interval
from voicecommand.evaluation.words import name_in_words

CROSSED = "over labels too"  # the column of the interval over speakers and labels


def quality(row: Row) -> float:
    """The mean test figure, by which the best row is the greatest; the least for a row without one."""
    if not row["test"]:
        return float("-inf")
    return row["test"]["value"] if row["greater_is_better"] else -row["test"]["value"]


def format_rows(rows: Sequence[Row]) -> str:
    """The rows of one data set in Markdown, those of each metric for itself."""
    metrics = dict.fromkeys(row["metric"] for row in rows)
    return "\n\n".join(_format_rows([row for row in rows if row["metric"] == metric]) for metric in metrics)


def _format_rows(rows: Sequence[Row]) -> str:
    """Rows of one metric: without a teacher, with each teacher, the method of intervals, noise."""
    metric, beside = rows[0]["metric"], BESIDE.get(rows[0]["metric"], ())
    header = ["model", "tuning", f"test {name_in_words(metric)} %", "95 % interval"]
    has_speakers = any(crossed(row) for row in rows)
    header += [CROSSED] * has_speakers
    header += ["seeds from, to", *(f"{name_in_words(name)} %" for name in beside)]
    header += ["validation %", "trainable parameters", "seconds", "test read"]
    taught: dict[str | None, list[list[object]]] = {
        row["runs"][0]["teacher"]: [] for row in rows if row["runs"][0].get("teacher")
    }
    others: list[list[object]] = []
    for row in rows:
        taught.get(row["runs"][0].get("teacher"), others).append(result_cells(row, has_speakers))
    parts = [markdown_table(header, others)]
    for teacher, cells in taught.items():
        parts += [f"Taught by the run {teacher}, whose weights are pretrained; one teacher for all seeds:"]
        parts += [markdown_table(header, cells)]
    methods = sorted({row["test"]["method"] for row in rows if row["test"]})
    method = f"Interval of the mean over seeds: {'; '.join(methods)}." if methods else ""
    parts += [method + format_notes(rows), noise_table(rows)]
    return "\n\n".join(filter(None, parts))


def crossed(row: Row) -> Interval | None:
    """The interval over speakers and labels; None if there are no speakers."""
    return row["test"].get("crossed") if row["test"] else None


def result_cells(row: Row, has_speakers: bool) -> list[object]:
    """The cells of a row; `has_speakers` says whether the table has the column CROSSED."""
    test = row["test"]
    return [
        row["model"],
        row["tuning"] or "-",
        points(test["value"] if test else None),
        interval(test),
        *([interval(crossed(row))] if has_speakers else []),
        f"{points(test['seed_min'])}, {points(test['seed_max'])}" if test else "-",
        *(points(test["beside"][name] if test else None) for name in BESIDE.get(row["metric"], ())),
        points(row["validation"]),
        f"{row['trainable_parameters']:,}",
        f"{row['train_seconds']:.3g}",
        row["test_reads"],
    ]


def format_notes(rows: Sequence[Row]) -> str:
    """Notes on the intervals, each with the rows that it is about, unless it is about all."""
    concerned: dict[str, list[str]] = {}
    tested = [row for row in rows if row["test"]]
    for row in tested:
        notes = (row["test"]["note"] if row["test"] else None) or ""
        for each in filter(None, notes.split("; ")):
            name = row["model"] + (f" {row['tuning']}" if row["tuning"] else "")
            concerned.setdefault(each, []).append(name)
    parts = []
    for each, names in concerned.items():
        parts.append(each if len(names) == len(tested) else f"{each} ({', '.join(names)})")
    return f" Note: {'; '.join(parts)}." if parts else ""


def noise_table(rows: Sequence[Row]) -> str:
    """The table of the figure in noise, in recorded noise if there is any; "" if no row was measured in noise."""
    measured = [(row, figures) for row in rows if (figures := row.get("robustness"))]
    if not measured:
        return ""
    kinds = list(dict.fromkeys(each["kind"] for _, figures in measured for each in figures["noise"]))
    kinds = [kind for kind in kinds if kind.endswith("(recorded)")] or kinds[:1]
    metric = name_in_words(rows[0]["metric"])
    header = [f"in noise, test {metric} %", "tuning", "clean", *(f"{k}, {db} dB" for k in kinds for db in NOISE_DB)]
    lines = []
    for row, figures in measured:
        at = {(each["kind"], each["db"]): each for each in figures["noise"]}
        cells = [with_interval(at.get((kind, db))) for kind in kinds for db in NOISE_DB]
        clean, score = with_interval(figures["clean"]), with_interval(figures["score"])
        lines.append([row["model"], row["tuning"] or "-", clean, *cells, score])
    over = ", ".join(measured[0][1]["score_over"])
    legend = f"Score: area under {metric} from 0 to 20 dB, mean of {over} noise. Intervals: means of the seeds' own."
    return f"{markdown_table([*header, 'score'], lines)}\n\n{legend}"
