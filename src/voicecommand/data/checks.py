"""What can be wrong with a data set before any model sees it, and the data set's fingerprint.

Errors make a training wrong or impossible; warnings are for a person to judge. Every problem names rows as
file:row. `recipes/audit.py` shows them all, training runs the same checks first, but for the search for nearly
equal recordings, which takes longer than some trainings.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from voicecommand.data.splits import GROUP_COLUMNS, OUT_OF_SCOPE, normalise
from voicecommand.data.table import nearest
from voicecommand.data.twins import find_twins
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

# A spoken command has a dozen words; the longest of 13,000 SNIPS requests has 35. Longer than this, and it is
# likely that a cell holds a paragraph or that a quote swallowed lines.
LONG_WORDS = 64
# A spoken command lasts one to three seconds; what is longer than 10 s likely holds several, and no word is shorter
# than 0.1 s.
LONG_SECONDS, SHORT_SECONDS = 10.0, 0.1
NULL_LIKE = frozenset({"none", "null", "na", "n/a", "#n/a", "<na>", "nan", "nil", "undefined"})
# A label this rare beside one spelled nearly the same is likely a slip: at most 3 rows or 5 % of the other's.
RARE_ROWS, RARE_SHARE = 3, 0.05
SHOWN = 5
FINGERPRINT_COLUMNS = ("content", "text", "label", *GROUP_COLUMNS)
SOUND_COLUMNS = ("content", "length", "silent", "clipped")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        level: "error" or "warning".
        kind: a short fixed name, such as "duplicates_across".
        message: one line with both sides and the count.
        origins: the rows, as "file:row".
    """

    level: str
    kind: str
    message: str
    origins: tuple[str, ...] = ()

    def line(self, shown: int = SHOWN) -> str:
        """The message and its first rows."""
        if not self.origins:
            return self.message
        more = f" and {len(self.origins) - shown:,} more" if len(self.origins) > shown else ""
        return f"{self.message} ({', '.join(self.origins[:shown])}{more})"


@dataclass(frozen=True)
class Findings:
    """What `inspect` found. ``counts`` is split -> label -> rows (label "" where the task has none)."""

    counts: dict[str, dict[str, int]]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == "warning"]


@dataclass(frozen=True)
class _Split:
    """The columns of one split as lists, and what makes two rows equal.

    Attributes:
        keys: each text in its normalised form; of prepared sound a hash of its samples, "" for silence.
        exact: what makes them equal to the letter, or byte for byte.
        clips: the waveforms of prepared sound.
    """

    name: str
    origins: list[str]
    columns: dict[str, list[Any]]
    keys: list[str]
    exact: list[str]
    clips: Any = None

    @property
    def what(self) -> str:
        return "texts" if self.clips is None else "recordings"

    @property
    def how(self) -> str:
        return "to the letter" if self.clips is None else "byte for byte"

    @property
    def in_scope(self) -> bool:
        return not self.name.startswith(OUT_OF_SCOPE)


def check(dataset: DatasetDict, columns: Iterable[str], required: Iterable[str] = ("train", "validation")) -> Findings:
    """Log counts and warnings, and stop at errors.

    Args:
        dataset: what a loader returned.
        columns: the columns that the task needs.
        required: the splits that must be there; evaluation of a saved run needs fewer.

    Raises:
        InputError: one line with the first error and the number of others.
    """
    findings = inspect(dataset, columns, required, near=False)
    for split, labels in findings.counts.items():
        logger.info("data %s: %s rows, %d labels", split, f"{sum(labels.values()):,}", len(labels))
    for problem in findings.warnings:
        logger.warning("data: %s", problem.line(shown=1))
    if findings.errors:
        others = len(findings.errors) - 1
        more = f" (and {others} more error{'s' if others > 1 else ''}: recipes/audit.py lists all)" if others else ""
        raise InputError(f"{findings.errors[0].line()}{more}")
    return findings


def inspect(
    dataset: DatasetDict,
    columns: Iterable[str] = ("text", "label"),
    required: Iterable[str] = ("train", "validation"),
    near: bool = True,
) -> Findings:
    """Look for every problem, raise for none.

    Args:
        dataset: what a loader returned; sound is looked at when it has been prepared (`voicecommand.data.sound`).
        columns: the columns that the task needs.
        required: the splits that must be there.
        near: also look for recordings that are nearly the same, some 2 ms for each clip.
    """
    columns = tuple(columns)
    problems: list[Problem] = []
    for name in required:
        if name not in dataset:
            problems.append(
                Problem("error", "missing_split", f"no {name} split; there are {', '.join(dataset) or 'none'}")
            )
    splits = [_read_split(name, dataset[name], columns) for name in dataset]
    for split in splits:
        problems += _check_rows(split, columns)
        problems += _check_sounds(split)
    problems += _find_duplicates(splits)
    problems += _find_leaks(splits)
    if near:
        problems += _find_near(splits)
    if "label" in columns:
        problems += _check_labels(splits)
        problems += _find_conflicts(splits)
    problems += _find_shared_groups(splits)
    counts = {
        split.name: dict(sorted(Counter(split.columns.get("label", [""] * len(split.origins))).items()))
        for split in splits
    }
    problems.sort(key=lambda problem: problem.level)
    return Findings(counts, tuple(problems))


def format_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Rows per label and split as a text table, one label a line."""
    labels = sorted({label for split in counts.values() for label in split})
    lines = [["label", *counts]]
    lines += [[label, *(f"{split.get(label, 0):,}" for split in counts.values())] for label in labels]
    lines.append(["all", *(f"{sum(split.values()):,}" for split in counts.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def _read_split(name: str, rows: Any, asked: tuple[str, ...]) -> _Split:
    # A slice reads a column at once; iterating over it would decode row by row, 80 times slower.
    wanted = ("text", "label", "response", *GROUP_COLUMNS, *SOUND_COLUMNS)
    columns = {column: rows[column][:] for column in wanted if column in rows.column_names}
    origins = rows["origin"][:]
    if "audio" in asked and set(SOUND_COLUMNS) <= columns.keys():
        from voicecommand.audio import Clips

        clips = Clips(rows)
        return _Split(name, origins, columns, _hash_samples(clips, columns), columns["content"], clips)
    texts = columns.get("text", []) if "text" in asked else []
    return _Split(name, origins, columns, [normalise(text) for text in texts], texts)


def _hash_samples(clips: Any, columns: Mapping[str, list[Any]]) -> list[str]:
    """Equal for recordings of equal samples, whatever their files; "" for silence, which is nobody's recording."""
    return [
        "" if silent else hashlib.blake2b(clips[row], digest_size=16).hexdigest()
        for row, silent in enumerate(columns["silent"])
    ]


def _rows(split: _Split, rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(split.origins[row] for row in rows)


def _check_rows(split: _Split, columns: tuple[str, ...]) -> list[Problem]:
    """Each split by itself: empty, null-like and over-long cells."""
    if not split.origins:
        return [Problem("error", "empty_split", f"the {split.name} split has no rows")]
    problems = []
    for column in columns:
        if column not in split.columns:
            continue
        values = split.columns[column]
        blank = split.keys if column == "text" else [value.strip() for value in values]
        empty = [row for row, value in enumerate(blank) if not value]
        if empty:
            problems.append(
                Problem("error", "empty", f"{len(empty):,} empty {column}(s) in {split.name}", _rows(split, empty))
            )
        null = [row for row, value in enumerate(values) if value.strip().lower() in NULL_LIKE]
        if null:
            words = ", ".join(sorted({repr(values[row]) for row in null}))
            message = f"{len(null):,} {column}(s) in {split.name} look like a missing value: {words}"
            problems.append(Problem("warning", "null_like", message, _rows(split, null)))
    if "text" in columns:
        texts = split.columns["text"]
        long = [row for row, text in enumerate(texts) if len(text) > LONG_WORDS and len(text.split()) > LONG_WORDS]
        if long:
            message = f"{len(long):,} texts in {split.name} have more than {LONG_WORDS} words"
            problems.append(Problem("warning", "over_long", message, _rows(split, long)))
    return problems


def _check_sounds(split: _Split) -> list[Problem]:
    """Each split's recordings by themselves: silent, clipped, very short and very long ones."""
    if split.clips is None:
        return []
    from voicecommand.audio import SAMPLING_RATE

    seconds = [length / SAMPLING_RATE for length in split.columns["length"]]
    chosen = {
        "silent": ("are silent (below -60 dB)", split.columns["silent"]),
        "clipped": ("are clipped: record them at a lower level", split.columns["clipped"]),
        "very_short": (f"are shorter than {SHORT_SECONDS:g} s", [s < SHORT_SECONDS for s in seconds]),
        "over_long": (f"are longer than {LONG_SECONDS:g} s", [s > LONG_SECONDS for s in seconds]),
    }
    problems = []
    for kind, (what, flags) in chosen.items():
        rows = [row for row, flag in enumerate(flags) if flag]
        if rows:
            message = f"{len(rows):,} recordings in {split.name} {what}"
            problems.append(Problem("warning", kind, message, _rows(split, rows)))
    return problems


class _Chosen:
    """Some clips of several splits as one sequence."""

    def __init__(self, clips: list[tuple[_Split, int]]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Any:
        split, row = self.clips[number]
        return split.clips[row]


def _find_near(splits: list[_Split]) -> list[Problem]:
    """Recordings of a label that are nearly the same, within a split and between train and another."""
    # Of equal recordings the first stands for all of a split: they have a line of their own.
    firsts = [
        (split, row)
        for split in splits
        if split.clips is not None and split.in_scope
        for row in sorted(dict(reversed([(key, row) for row, key in enumerate(split.keys) if key])).values())
    ]
    labels = [split.columns["label"][row] if "label" in split.columns else "" for split, row in firsts]
    within: dict[str, list[int]] = defaultdict(list)
    groups: Counter[str] = Counter()
    across: dict[str, list[str]] = defaultdict(list)
    for numbers in find_twins(_Chosen(firsts), labels):
        members: dict[str, list[tuple[_Split, int]]] = defaultdict(list)
        for number in numbers:
            members[firsts[number][0].name].append(firsts[number])
        for name, clips in members.items():
            if len(clips) > 1:
                within[name] += [row for _, row in clips]
                groups[name] += 1
            if name != "train" and "train" in members:
                left, row = members["train"][0]
                across[name] += [
                    f"{split.origins[other]} = {left.origins[row]}"
                    for split, other in clips
                    if not any(split.keys[other] == left.keys[same] for left, same in members["train"])
                ]
    problems = []
    for split in splits:
        rows = sorted(within[split.name])
        if rows:
            message = (
                f"{len(rows):,} recordings in {split.name} are nearly the same as others there "
                f"({groups[split.name]:,} different ones): a split at random would have them on both sides"
            )
            problems.append(Problem("warning", "near_within", message, _rows(split, rows)))
        if across[split.name]:
            message = (
                f"{len(across[split.name]):,} of {len(split.keys):,} {split.name} recordings are nearly the same "
                "as one in train"
            )
            problems.append(Problem("warning", "near_across", message, tuple(across[split.name])))
    return problems


def _find_duplicates(splits: list[_Split]) -> list[Problem]:
    """The same text or recording twice, within a split and between two in-scope splits, as written and normalised."""
    problems = []
    firsts: dict[str, dict[str, int]] = {}
    for split in splits:
        first: dict[str, int] = {}
        repeats = [row for row, key in enumerate(split.keys) if key and first.setdefault(key, row) != row]
        firsts[split.name] = first
        if repeats:
            values = [value for value, key in zip(split.exact, split.keys, strict=True) if key]
            exact = len(values) - len(set(values))
            message = f"{len(repeats):,} {split.what} in {split.name} repeat an earlier one ({exact:,} {split.how})"
            problems.append(Problem("warning", "duplicates_within", message, _rows(split, repeats)))
    for left, right in combinations([split for split in splits if split.in_scope], 2):
        shared = [row for row, key in enumerate(right.keys) if key and key in firsts[left.name]]
        if shared:
            known = set(left.exact)
            exact = sum(right.exact[row] in known for row in shared)
            message = (
                f"{len(shared):,} of {len(right.keys):,} {right.name} {right.what} are also in {left.name} "
                f"({exact:,} of them {right.how})"
            )
            pairs = (f"{right.origins[row]} = {left.origins[firsts[left.name][right.keys[row]]]}" for row in shared)
            problems.append(Problem("warning", "duplicates_across", message, tuple(pairs)))
    return problems


def _find_leaks(splits: list[_Split]) -> list[Problem]:
    """Out-of-scope rows that are also there as in-scope training rows."""
    known = {key for split in splits if split.name == "train" for key in split.keys}
    problems = []
    for split in splits:
        leaks = [row for row, key in enumerate(split.keys) if key and key in known] if not split.in_scope else []
        if leaks:
            message = f"{len(leaks):,} {split.what} of {split.name} are also in train, with a label"
            problems.append(Problem("warning", "out_of_scope_in_train", message, _rows(split, leaks)))
    return problems


def _find_conflicts(splits: list[_Split]) -> list[Problem]:
    """One text or recording, two labels: at least one row is wrong, or the labels overlap."""
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for split in splits:
        if split.in_scope:
            # Without a text or prepared sound there are no keys.
            for key, label, origin in zip(split.keys, split.columns["label"], split.origins, strict=bool(split.keys)):
                if key:
                    seen[key].setdefault(label, origin)
    conflicts = {key: labels for key, labels in seen.items() if len(labels) > 1}
    if not conflicts:
        return []
    rows = tuple(" / ".join(f"{origin} {label}" for label, origin in labels.items()) for labels in conflicts.values())
    message = f"{len(conflicts):,} {splits[0].what} have more than one label"
    return [Problem("warning", "conflicting_labels", message, rows)]


def _check_labels(splits: list[_Split]) -> list[Problem]:
    by_name = {split.name: split for split in splits if split.in_scope}
    train = by_name.get("train")
    if train is None:
        return []
    counts = Counter(train.columns["label"])
    problems = []
    if train.origins and len(counts) < 2:
        (label,) = counts
        problems.append(Problem("error", "one_label", f"train has one label only, {label!r}: nothing to tell apart"))
    if OUT_OF_SCOPE in counts:
        rows = [row for row, label in enumerate(train.columns["label"]) if label == OUT_OF_SCOPE]
        message = (
            f"{len(rows):,} train rows have the label {OUT_OF_SCOPE!r}, which is never trained on: "
            "move them to out_of_scope_validation and out_of_scope_test, or rename the label"
        )
        problems.append(Problem("error", "reserved_label", message, _rows(train, rows)))
    for name, split in by_name.items():
        if name != "train":
            problems += _compare_labels(split, counts)
    rare = sorted(label for label, count in counts.items() if count < 2)
    if rare:
        rows = [row for row, label in enumerate(train.columns["label"]) if counts[label] < 2]
        message = f"{len(rare):,} labels have a single train row: {_names(rare)}"
        problems.append(Problem("warning", "rare_label", message, _rows(train, rows)))
    if len(counts) > 20 and len(counts) > len(train.origins) / 2:
        message = f"{len(counts):,} labels for {len(train.origins):,} train rows: is the column map right?"
        problems.append(Problem("warning", "many_labels", message))
    return problems + _find_typos(by_name)


def _compare_labels(split: _Split, counts: Mapping[str, int]) -> list[Problem]:
    """Labels that only train or only the other split has."""
    problems = []
    labels = split.columns["label"]
    unknown = sorted(set(labels) - set(counts))
    if unknown and counts:
        rows = [row for row, label in enumerate(labels) if label not in counts]
        meant = nearest(unknown[0], counts)
        hint = f"; did you mean {meant!r}" if meant else ""
        message = f"{split.name} has labels that train has not: {_names(unknown)}{hint}"
        problems.append(Problem("error", "unknown_label", message, _rows(split, rows)))
    absent = sorted(set(counts) - set(labels))
    if absent and labels:
        message = f"{len(absent):,} of {len(counts):,} train labels have no row in {split.name}: {_names(absent)}"
        problems.append(Problem("warning", "absent_label", message))
    return problems


def _names(labels: list[str]) -> str:
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return ", ".join(repr(label) for label in labels[:SHOWN]) + more


def _find_typos(by_name: dict[str, _Split]) -> list[Problem]:
    """Pairs of labels that are likely meant to be one."""
    where: dict[str, list[str]] = defaultdict(list)
    for split in by_name.values():
        for label, origin in zip(split.columns["label"], split.origins, strict=True):
            where[label].append(origin)
    problems = []
    for left, right in combinations(sorted(where), 2):
        few, many = sorted((left, right), key=lambda label: (len(where[label]), label))
        same = normalise(left) == normalise(right)
        if same or (_is_rare(len(where[few]), len(where[many])) and _is_near(few, many)):
            rows = f"{len(where[few]):,} and {len(where[many]):,} rows"
            message = f"label {few!r} may be a slip for {many!r} ({rows})"
            problems.append(Problem("warning", "label_typo", message, tuple(where[few])))
    return problems


def _is_rare(few: int, many: int) -> bool:
    return few <= max(min(RARE_ROWS, many // 3), RARE_SHARE * many)


def _is_near(left: str, right: str) -> bool:
    """At most 2 edits apart, 1 in short names; numbered labels (level_1, level_2) are not slips."""
    shortest = min(len(left), len(right))
    if shortest < 4 or re.sub(r"\d+", "", left) == re.sub(r"\d+", "", right):
        return False
    return _distance(left.casefold(), right.casefold(), 2) <= (1 if shortest < 6 else 2)


def _distance(left: str, right: str, limit: int) -> int:
    """Edit distance, or something above ``limit``."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        row = [i]
        for j, b in enumerate(right, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
        if min(row) > limit:
            return limit + 1
        above = row
    return above[-1]


def _find_shared_groups(splits: list[_Split]) -> list[Problem]:
    """A speaker or template on both sides of a split makes the measured figure too good."""
    train = next((split for split in splits if split.name == "train"), None)
    problems: list[Problem] = []
    if train is None:
        return problems
    for split in splits:
        for column in GROUP_COLUMNS if split.in_scope and split is not train else ():
            known = set(train.columns.get(column, ()))
            rows = [row for row, group in enumerate(split.columns.get(column, ())) if group in known]
            if rows:
                groups = len({split.columns[column][row] for row in rows})
                message = (
                    f"{groups:,} {column}(s) of {split.name} are also in train: its figures say little about "
                    f"a new {column}; data.split.by={column} keeps them apart where the split is made here"
                )
                problems.append(Problem("warning", "shared_group", message, _rows(split, rows)))
    return problems


def fingerprint(dataset: DatasetDict) -> dict[str, Any]:
    """What the data is, apart from where it lay: text, label and group columns of all rows in order.

    Of prepared sound it is the content of the files (``content``, their sha256) instead of a text.

    Returns:
        {"fingerprint": hex, "splits": {name: {"rows": n, "sha256": hex}}}, the same on every machine and with
        every library version. Each value goes in with its length: no separator can make two data sets equal.
    """
    splits = {}
    for name in sorted(dataset):
        rows = dataset[name]
        names = [column for column in FINGERPRINT_COLUMNS if column in rows.column_names]
        if "content" in names and "text" in names:
            names.remove("text")
        digest = hashlib.sha256()
        _feed(digest, names)
        for values in zip(*(rows[column][:] for column in names), strict=True):
            _feed(digest, values)
        splits[name] = {"rows": len(rows), "sha256": digest.hexdigest()}
    whole = hashlib.sha256()
    for name, part in splits.items():
        _feed(whole, (name, str(part["rows"]), str(part["sha256"])))
    return {"fingerprint": whole.hexdigest(), "splits": {name: splits[name] for name in dataset}}


def _feed(digest: Any, values: Iterable[str]) -> None:
    encoded = [value.encode("utf-8") for value in values]
    digest.update(b"".join([b"%d:%b" % (len(value), value) for value in encoded]) + b"\n")
