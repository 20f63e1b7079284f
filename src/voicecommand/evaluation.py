"""From predictions of whole splits to metrics with intervals, files and the lines on the terminal.

Pure functions of `Predictions`; only `write_evaluation` touches the disk. The content of metrics.json:

    {"format": 1, "main_split": "test",
     "splits": {NAME: {"examples", "labels", "accuracy", "macro_f1", "per_label", "ece", "log_loss",
                       "confusion_matrix",                         in-scope splits only
                       "by_group": {"column", "least", "groups": {NAME: SHARE}, "worst", "best", "gap",
                                    "few", "unknown"},             where speakers are known
                       "by_seconds": [{"from", "to", "examples", "accuracy"}]}},   where there are clips
     "rejection": {"threshold", "keeps", "splits": {NAME: {...}}}}  or null where no threshold is known

A figure with an interval is {"value", "low", "high", "level", "method", "groups", "note"}, all as shares; a SHARE
is {"accuracy", "low", "high", "examples"} with Wilson's interval.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voicecommand import metrics as m
from voicecommand.errors import InputError, StorageError

OUT_OF_SCOPE = "out_of_scope"
KEEP = 0.95
FEW_GROUPS = 10
FEW_EXAMPLES = 5  # the accuracy of a speaker with fewer says nothing: it is shown, but is neither worst nor best
SECONDS_BINS = 5
PAIRS = 10
EXAMPLES_OF_A_PAIR = 5
CLIP_SECONDS = 10
LINE_WIDTH = 120
MATRIX_LABELS = 30
MAIN_SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Predictions:
    """One evaluated split of n examples and K labels.

    `references` are int64 [n], all -1 in an out-of-scope split; `probabilities` float64 [n, K] with rows
    that sum to 1; `groups` [n] are the values of `group_column` (speaker, template), None where unknown;
    `seconds` [n] are the lengths of the clips, None for text.
    """

    split: str
    ids: list[str]
    origins: list[str]
    texts: list[str]
    references: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: list[str | None] | None
    group_column: str | None
    label_names: list[str]
    seconds: list[float] | None = None

    def __post_init__(self) -> None:
        n = len(self.references)
        columns = (self.ids, self.origins, self.texts, self.groups, self.seconds)
        lengths = [len(column) for column in columns if column is not None]
        if n == 0:
            raise InputError(f"split {self.split!r} has no examples to evaluate: name another split or data set")
        if self.probabilities.shape != (n, len(self.label_names)) or set(lengths) != {n}:
            raise ValueError(f"split {self.split!r}: columns of {n}, {lengths}, {self.probabilities.shape}")
        if not np.isfinite(self.probabilities).all():
            row = int(np.flatnonzero(~np.isfinite(self.probabilities).all(axis=1))[0])
            raise ValueError(f"split {self.split!r}: the probabilities of {self.origins[row]} are not finite")
        unknown = np.flatnonzero(self.references < 0)
        if 0 < len(unknown) < n:
            raise InputError(
                f"{self.origins[int(unknown[0])]}: a label in {self.split!r} that the model does not know "
                f"({len(unknown)} of {n} rows): train with it, or put these rows in an out_of_scope split"
            )

    @property
    def out_of_scope(self) -> bool:
        """Whether no example of this split carries a label of the model."""
        return bool((self.references < 0).all())

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable label of each example [n]; the first of equals."""
        return self.probabilities.argmax(axis=1)


def evaluate_predictions(
    splits: Sequence[Predictions], threshold: float | None = None, keep: float = KEEP, seed: int = 0
) -> dict[str, Any]:
    """The content of metrics.json; without a threshold it is taken from the validation split, if given."""
    in_scope = {p.split: p for p in splits if not p.out_of_scope}
    main = _main_split(splits)
    if threshold is None and "validation" in in_scope:
        threshold = m.acceptance_threshold(in_scope["validation"].probabilities, keep)
    rejection = None
    if threshold is not None:
        rejection = {
            "threshold": threshold,
            "keeps": keep,
            "splits": {p.split: _rejection(p, threshold, in_scope, seed) for p in splits},
        }
    return {
        "format": 1,
        "main_split": main,
        "splits": {name: _split_metrics(p, seed) for name, p in in_scope.items()},
        "rejection": rejection,
    }


def _main_split(splits: Sequence[Predictions]) -> str | None:
    """The split that the report is about: test, else validation, else the first with labels of the model."""
    names = [p.split for p in splits if not p.out_of_scope]
    return next((name for name in (*MAIN_SPLITS, *names) if name in names), None)


def _split_metrics(p: Predictions, seed: int) -> dict[str, Any]:
    matrix = m.confusion_matrix(p.predicted, p.references, len(p.label_names))
    return {
        "examples": len(p.references),
        "labels": list(p.label_names),
        "accuracy": figure_with_interval("accuracy", p.predicted, p.references, p.groups, p.group_column, seed),
        "macro_f1": figure_with_interval("macro_f1", p.predicted, p.references, p.groups, p.group_column, seed),
        "per_label": m.per_label(p.predicted, p.references, p.label_names),
        "ece": m.expected_calibration_error(p.probabilities, p.references),
        "log_loss": m.log_loss(p.probabilities, p.references),
        "confusion_matrix": matrix.tolist(),
        **({"by_group": _by_group(p)} if p.groups is not None and p.group_column == "speaker" else {}),
        **({"by_seconds": _by_seconds(p, seed)} if p.seconds is not None else {}),
    }


def _by_group(p: Predictions) -> dict[str, Any]:
    """Accuracy of every speaker, lowest first, with the worst, the best and the gap between them.

    Speakers of fewer than FEW_EXAMPLES examples stay in `groups`, and together in `few`; `worst` and `best` are
    among the others, None where there are no others. `unknown` are the examples without a speaker.
    """
    assert p.groups is not None
    hits: dict[str | None, list[bool]] = {}
    for group, right in zip(p.groups, (p.predicted == p.references).tolist(), strict=True):
        hits.setdefault(group, []).append(right)
    unknown = hits.pop(None, [])
    shares = {str(group): _share(rights) for group, rights in hits.items()}
    shares = dict(sorted(shares.items(), key=lambda item: (item[1]["accuracy"], -item[1]["examples"], item[0])))
    enough = [group for group, share in shares.items() if share["examples"] >= FEW_EXAMPLES]
    few = [right for rights in hits.values() if len(rights) < FEW_EXAMPLES for right in rights]
    worst, best = (enough[0], enough[-1]) if enough else (None, None)
    return {
        "column": p.group_column,
        "least": FEW_EXAMPLES,
        "groups": shares,
        "worst": worst,
        "best": best,
        "gap": shares[best]["accuracy"] - shares[worst]["accuracy"] if worst and best else None,
        "few": _share(few) | {"groups": len(shares) - len(enough)} if few else None,
        "unknown": _share(unknown) if unknown else None,
    }


def _share(rights: list[bool]) -> dict[str, Any]:
    low, high = m.wilson(sum(rights), len(rights))
    return {"accuracy": sum(rights) / len(rights), "low": low, "high": high, "examples": len(rights)}


def _by_seconds(p: Predictions, seed: int) -> list[dict[str, Any]]:
    """Accuracy by clip length, in up to SECONDS_BINS bins [from, to) of about equal size; the last holds its `to`.

    The bounds between bins are quantiles, rounded to 0.1 s or, where that would leave fewer bins, 0.01 s.
    """
    seconds = np.asarray(p.seconds, dtype=np.float64)
    bins = max(1, min(SECONDS_BINS, len(seconds) // FEW_EXAMPLES))
    quantiles = np.quantile(seconds, np.arange(1, bins) / bins)
    inner, fine = (np.unique(np.round(quantiles, digits)) for digits in (1, 2))
    if len(np.unique(np.searchsorted(inner, seconds, "right"))) < len(
        np.unique(np.searchsorted(fine, seconds, "right"))
    ):
        inner = fine
    place = np.searchsorted(inner, seconds, side="right")
    bounds = np.array([seconds.min(), *inner, seconds.max()])
    found = []
    for i in np.unique(place):
        own = place == i
        groups = None if p.groups is None else [g for g, taken in zip(p.groups, own, strict=True) if taken]
        figure = figure_with_interval("accuracy", p.predicted[own], p.references[own], groups, p.group_column, seed)
        low, high = max(bounds[i], bounds[0]), min(bounds[i + 1], bounds[-1])
        found.append({"from": float(low), "to": float(high), "examples": int(own.sum()), "accuracy": figure})
    return found


def _rejection(p: Predictions, threshold: float, in_scope: dict[str, Predictions], seed: int) -> dict[str, Any]:
    """What the threshold does to a split; AUROC is against the in-scope split of the same name."""
    scores = m.confidence(p.probabilities)
    taken = scores >= threshold
    if p.out_of_scope:
        # "Accuracy" of taken against all ones is the share taken, with the interval that belongs to it.
        share = figure_with_interval("accuracy", taken, np.ones(len(taken)), p.groups, p.group_column, seed)
        partner = in_scope.get(p.split.removeprefix(OUT_OF_SCOPE + "_"))
        return {
            "examples": len(taken),
            "false_accepts": share["value"],
            "false_accepts_interval": share,
            "auroc": None if partner is None else m.auroc(m.confidence(partner.probabilities), scores),
        }
    kept = m.accuracy(p.predicted[taken], p.references[taken]) if taken.any() else None
    return {"examples": len(taken), "accepted": float(taken.mean()), "accuracy_accepted": kept}


def figure_with_interval(
    name: str,
    predictions: Any,
    references: Any,
    groups: Sequence[str | None] | None,
    group_column: str | None,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy or macro F1 with its 95 % interval.

    With groups: percentile bootstrap over groups, a row without a group standing alone. Without: Wilson for
    accuracy, bootstrap over examples for macro F1, which is not a share. `note` says when not to trust it.
    """
    value = {"accuracy": m.accuracy, "macro_f1": m.macro_f1}[name](predictions, references)
    statistic = {"accuracy": m.accuracy_of_counts, "macro_f1": m.macro_f1_of_counts}[name]
    names, method = _resampled(groups, group_column, len(references))
    if names is None and name == "accuracy":
        right = int(np.sum(np.asarray(predictions) == np.asarray(references)))
        (low, high), method = m.wilson(right, len(references)), "Wilson"
    else:
        low, high = m.group_bootstrap(statistic, predictions, references, names, seed=seed)
    return _figure(value, low, high, method, names)


def mean_with_interval(
    values: NDArray[np.float64], groups: Sequence[str | None] | None, group_column: str | None, seed: int = 0
) -> dict[str, Any]:
    """The mean of one number per example [n] with the bootstrap interval that `figure_with_interval` would give."""
    names, method = _resampled(groups, group_column, len(values))
    low, high = m.mean_bootstrap(values, names, seed=seed)
    return _figure(float(np.mean(values)), low, high, method, names)


def _resampled(
    groups: Sequence[str | None] | None, group_column: str | None, examples: int
) -> tuple[list[str] | None, str]:
    """What a bootstrap draws: the group of each example (or None: examples), and that in words."""
    if groups is None:
        return None, f"bootstrap over {examples} examples"
    names = [f"row {i} alone" if group is None else f"group {group}" for i, group in enumerate(groups)]
    count = len(set(names))
    return names, f"bootstrap over {count} {'group' if count == 1 else 'groups'} ({group_column})"


def _figure(value: float, low: float, high: float, method: str, names: list[str] | None) -> dict[str, Any]:
    count = None if names is None else len(set(names))
    notes = []
    if count is not None and count < FEW_GROUPS:
        notes.append(f"fewer than {FEW_GROUPS} groups: the true interval is wider")
    if low == high:
        notes.append("every resample gave the same value: a bootstrap cannot say how far off it is")
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": m.LEVEL,
        "method": method,
        "groups": count,
        "note": "; ".join(notes) or None,
    }


def write_evaluation(directory: Path, splits: Sequence[Predictions], metrics: dict[str, Any]) -> None:
    """metrics.json, predictions.parquet and, of the main split if there is one, confusion_matrix.csv."""
    import pyarrow
    import pyarrow.parquet

    directory = Path(directory)
    sink = pyarrow.BufferOutputStream()
    threshold = (metrics["rejection"] or {}).get("threshold")
    columns = [prediction_columns(p, threshold) for p in splits]
    schema = _prediction_schema()
    if any(p.seconds is not None for p in splits):
        schema = schema.append(pyarrow.field("seconds", pyarrow.float64()))
    merged = {name: [cell for part in columns for cell in part[name]] for name in schema.names}
    pyarrow.parquet.write_table(pyarrow.table(merged, schema=schema), sink)
    write_atomically(directory / "predictions.parquet", sink.getvalue().to_pybytes())
    if metrics["main_split"] is not None:
        main = metrics["splits"][metrics["main_split"]]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["reference \\ prediction", *main["labels"]])
        writer.writerows([name, *row] for name, row in zip(main["labels"], main["confusion_matrix"], strict=True))
        write_atomically(directory / "confusion_matrix.csv", text.getvalue().encode())
    write_atomically(directory / "metrics.json", _compact_json(metrics).encode())


def _prediction_schema() -> Any:
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    top = pyarrow.list_(pyarrow.struct([("label", text), ("probability", number)]))
    names = dict.fromkeys(("split", "id", "origin", "text", "label", "prediction"), text)
    return pyarrow.schema(names | {"probability": number, "top_5": top, "accepted": pyarrow.bool_(), "group": text})


def prediction_columns(p: Predictions, threshold: float | None) -> dict[str, list[Any]]:
    """The columns of predictions.parquet for one split; `accepted` is null where no threshold is known."""
    scores, names = m.confidence(p.probabilities), p.label_names
    order = np.argsort(-p.probabilities, axis=1, kind="stable")[:, :5]
    values = np.take_along_axis(p.probabilities, order, axis=1)
    top = [
        [{"label": names[i], "probability": float(v)} for i, v in zip(ids, row, strict=True)]
        for ids, row in zip(order, values, strict=True)
    ]
    return {
        "split": [p.split] * len(scores),
        "id": list(p.ids),
        "origin": list(p.origins),
        "text": list(p.texts),
        "label": [OUT_OF_SCOPE if i < 0 else names[i] for i in p.references],
        "prediction": [names[i] for i in p.predicted],
        "probability": scores.tolist(),
        "top_5": top,
        "accepted": [None if threshold is None else bool(score >= threshold) for score in scores],
        "group": [None] * len(scores) if p.groups is None else list(p.groups),
        "seconds": [None] * len(scores) if p.seconds is None else list(p.seconds),
    }


def write_clips(
    directory: Path,
    predictions: Sequence[Predictions],
    read: Callable[[str, int], NDArray[np.int16]],
    sampling_rate: int,
) -> None:
    """clips.parquet: the clips that report.html plays, and no file where there is nothing to play.

    They are the confused examples of the main split that the report shows: of the PAIRS most confused pairs the
    EXAMPLES_OF_A_PAIR surest mistakes, each up to CLIP_SECONDS. `read(split, row)` gives a clip, int16 [samples].
    """
    import pyarrow
    import pyarrow.parquet

    main = _main_split(predictions)
    clips = []
    for p in predictions:
        for row in confused_examples(p) if p.split == main else []:
            waveform = np.asarray(read(p.split, row))
            kept = waveform[: CLIP_SECONDS * sampling_rate]
            form, content = encode_clip(kept, sampling_rate)
            clip = {"split": p.split, "id": p.ids[row], "format": form, "audio": content}
            clips.append(clip | {"seconds": len(waveform) / sampling_rate, "is_cut": len(kept) < len(waveform)})
    path = Path(directory) / "clips.parquet"
    if not clips:
        path.unlink(missing_ok=True)
        return
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(clips), sink, compression="none")
    write_atomically(path, sink.getvalue().to_pybytes())


def confused_examples(p: Predictions) -> list[int]:
    """Rows of the mistakes that the report shows: pair by pair, the surest first."""
    scores, found = m.confidence(p.probabilities), []
    for reference, guess, _ in m.confused_pairs(
        m.confusion_matrix(p.predicted, p.references, len(p.label_names)), PAIRS
    ):
        rows = np.flatnonzero((p.references == reference) & (p.predicted == guess))
        found += rows[np.argsort(-scores[rows], kind="stable")][:EXAMPLES_OF_A_PAIR].tolist()
    return found


def encode_clip(waveform: NDArray[np.int16], sampling_rate: int) -> tuple[str, bytes]:
    """("mp3", bytes), about 2 kB a second of speech, or ("wav", bytes) where libsndfile makes no MP3 of this rate."""
    import soundfile

    sink = io.BytesIO()
    try:
        soundfile.write(sink, waveform, sampling_rate, format="MP3", subtype="MPEG_LAYER_III")
        return "mp3", sink.getvalue()
    except (soundfile.LibsndfileError, ValueError):  # no such rate in MP3; a libsndfile before 1.1 has no MP3 at all
        sink = io.BytesIO()
        soundfile.write(sink, waveform, sampling_rate, format="WAV", subtype="PCM_16")
        return "wav", sink.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """The whole file (mode 0644) or none of it and a StorageError: written beside, flushed, renamed."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)
        staged.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; free the disk or name another directory") from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def _compact_json(metrics: dict[str, Any]) -> str:
    """Indented JSON with each list of whole numbers (a row of the matrix) on one line; NaN is an error."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    # No string can match: inside one, JSON writes a line break as \\n.
    return re.sub(r"\[\n[\d,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def percent(share: float | None) -> str:
    """0.9312 -> "93.1 %"; None -> "-"."""
    return "-" if share is None else f"{100 * share:.1f} %"


def format_figure(figure: dict[str, Any], method: bool = True) -> str:
    """93.1 % (91.0 to 94.8, bootstrap over 96 groups (template)); the method may be left out."""
    how = f", {figure['method']}" if method else ""
    return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f}{how})"


def format_by_group(by_group: dict[str, Any]) -> str:
    """speakers: worst anna 74.0 % of 50, best ben 98.0 % of 50, gap 24.0 points; 2 with fewer than 5 examples ..."""

    def of(share: dict[str, Any]) -> str:
        return f"{percent(share['accuracy'])} of {share['examples']}"

    groups, worst, best = by_group["groups"], by_group["worst"], by_group["best"]
    parts = []
    if worst is not None and worst != best:
        gap = f"gap {100 * by_group['gap']:.1f} points"
        parts.append(f"worst {worst} {of(groups[worst])}, best {best} {of(groups[best])}, {gap}")
    elif worst is not None:
        parts.append(f"{worst} {of(groups[worst])}")
    if by_group["few"]:
        few = by_group["few"]
        parts.append(f"{few['groups']} with fewer than {by_group['least']} examples, together {of(few)}")
    if by_group["unknown"]:
        parts.append(f"{by_group['column']} unknown {of(by_group['unknown'])}")
    return f"{len(groups)} {by_group['column']}{'' if len(groups) == 1 else 's'}: {'; '.join(parts)}"


def format_summary(metrics: dict[str, Any]) -> str:
    """The last lines on the terminal: figures of each split, rejection, the main confusion matrix."""
    lines = []
    width = max((len(name) for name in metrics["splits"]), default=0)
    for name, split in metrics["splits"].items():
        figures = [split["accuracy"], split["macro_f1"]]
        same = figures[0]["method"] == figures[1]["method"]
        f1 = format_figure(figures[1], method=not same)
        lines.append(f"{name:<{width}}  accuracy {format_figure(figures[0])}  macro F1 {f1}")
        notes = dict.fromkeys(figure["note"] for figure in figures if figure["note"])
        lines += [f"{'':<{width}}  note: {note}" for note in notes]
        if "by_group" in split:
            lines.append(f"{'':<{width}}  {format_by_group(split['by_group'])}")
    lines += _rejection_lines(metrics["rejection"])
    if metrics["main_split"] is not None:
        main = metrics["splits"][metrics["main_split"]]
        lines += [
            "",
            *format_confusion_matrix(main["confusion_matrix"], main["labels"], metrics["main_split"]),
        ]
    return "\n".join(lines)


def _rejection_lines(rejection: dict[str, Any] | None) -> list[str]:
    if rejection is None:
        return []
    lines = [f"rejects below {rejection['threshold']:.3f} (keeps {percent(rejection['keeps'])} of validation)"]
    for name, split in rejection["splits"].items():
        if "false_accepts" in split:
            auroc = "-" if split["auroc"] is None else f"{split['auroc']:.3f}"
            share = split["false_accepts_interval"]
            note = f"; note: {share['note']}" if share["note"] else ""
            lines.append(f"  {name}: accepts {format_figure(share)} wrongly, AUROC {auroc}{note}")
        else:
            kept, right = percent(split["accepted"]), percent(split["accuracy_accepted"])
            lines.append(f"  {name}: accepts {kept}, {right} of them right")
    return lines


def format_confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], split: str) -> list[str]:
    """Text lines of at most 120 columns: the matrix, or its ten largest errors where it cannot fit.

    Rows are references, columns predictions; columns bear label names where they fit, else the row numbers.
    """
    names = [" ".join(label.split())[:40] for label in labels]
    cell = max(len(f"{max(map(max, matrix))}"), len(f"{len(names)}")) + 2
    head = max(map(len, names)) + len(f"{len(names)}") + 2
    title = f"confusion matrix of {split}: rows are labels, columns predictions"
    named = [max(cell, len(name) + 2) for name in names]
    if head + sum(named) <= LINE_WIDTH:
        widths, heads = named, names
    elif len(names) <= MATRIX_LABELS and head + cell * len(names) <= LINE_WIDTH:
        widths, heads = [cell] * len(names), [str(i + 1) for i in range(len(names))]
        title += ", numbered as the rows"
    else:
        return _pair_lines(matrix, names, split)
    lines = [title, " " * head + "".join(f"{text:>{w}}" for text, w in zip(heads, widths, strict=True))]
    digits = len(str(len(names)))
    for i, row in enumerate(matrix):
        cells = "".join(f"{count or '.':>{w}}" for count, w in zip(row, widths, strict=True))
        lines.append(f"{i + 1:>{digits}} {names[i]:<{head - digits - 1}}{cells}")
    return lines


def _pair_lines(matrix: Sequence[Sequence[int]], names: Sequence[str], split: str) -> list[str]:
    pairs = m.confused_pairs(matrix)
    where = f"the full {len(names)} x {len(names)} matrix is in confusion_matrix.csv"
    if not pairs:
        return [f"no errors on {split}; {where}"]
    lines = [f"most confused pairs of {split} ({where})"]
    width = max(len(names[reference]) for reference, _, _ in pairs)
    lines += [f"{count:>6} x {names[reference]:<{width}} taken for {names[guess]}" for reference, guess, count in pairs]
    return lines
