"""Checks of labels: conflicts, misspellings, labels that a split lacks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations
from statistics import median

from rapidfuzz.distance import Levenshtein

from voicecommand.columns import OUT_OF_SCOPE
from voicecommand.data.audit.problem import SHOWN, AuditedSplit, Problem, name_rows
from voicecommand.data.table import nearest
from voicecommand.data.text import normalise

# A label with at most 3 rows or 5 % of those of a nearly equal label is likely a misspelling of it.
RARE_ROWS, RARE_SHARE = 3, 0.05
# Of 4 phrasings a model learns little that holds for a fifth.
FEW_ROWS = 5
# From here on weights begin to matter: a linear classifier hardly answers a label with a twentieth of the rows.
UNEVEN = 20


def find_conflicts(splits: list[AuditedSplit]) -> list[Problem]:
    """Texts or recordings with two labels: at least one row is wrong, or the labels overlap."""
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for split in splits:
        if split.in_scope:
            # Without a text or prepared audio there are no keys.
            for key, label, origin in zip(split.keys, split.columns["label"], split.origins, strict=bool(split.keys)):
                if key:
                    seen[key].setdefault(label, origin)
    conflicts = {key: labels for key, labels in seen.items() if len(labels) > 1}
    if not conflicts:
        return []
    rows = tuple(" / ".join(f"{origin} {label}" for label, origin in labels.items()) for labels in conflicts.values())
    message = f"{len(conflicts):,} {splits[0].what} have more than one label"
    return [Problem("warning", "conflicting_labels", message, rows)]


def check_labels(splits: list[AuditedSplit]) -> list[Problem]:
    """The number of labels, reserved and rare ones, misspellings, and those that are not in every split."""
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
        problems.append(Problem("error", "reserved_label", message, name_rows(train, rows)))
    for name, split in by_name.items():
        if name != "train":
            problems += _compare_labels(split, counts)
    problems += _find_uneven(train, counts)
    if len(counts) > 20 and len(counts) > len(train.origins) / 2:
        message = f"{len(counts):,} labels for {len(train.origins):,} train rows: is the column map right?"
        problems.append(Problem("warning", "many_labels", message))
    return problems + _find_typos(by_name)


def _find_uneven(train: AuditedSplit, counts: Mapping[str, int]) -> list[Problem]:
    """Labels with few train rows, and those with many fewer than the most frequent one."""
    problems = []
    usual = median(counts.values()) if counts else 0
    rare = sorted(
        (label for label, count in counts.items() if count < FEW_ROWS and 2 * count <= usual),
        key=lambda label: (counts[label], label),
    )
    if rare:
        rows = [row for row, label in enumerate(train.columns["label"]) if label in rare]
        message = (
            f"{len(rare):,} of {len(counts):,} labels have fewer than {FEW_ROWS} train rows, where {usual:g} is usual:"
            f" {_names(rare, counts)}; bring more, or let them count more by model.class_weights=auto"
        )
        problems.append(Problem("warning", "rare_label", message, name_rows(train, rows)))
    most, least = max(counts, key=counts.__getitem__, default=""), min(counts, key=counts.__getitem__, default="")
    if counts and counts[most] >= UNEVEN * counts[least]:
        message = (
            f"labels are uneven in train: {most!r} has {counts[most]:,} rows and {least!r} {counts[least]:,}; bring"
            " more of the rare ones, or let them count more by model.class_weights=auto"
        )
        problems.append(Problem("warning", "uneven_labels", message))
    return problems


def _compare_labels(split: AuditedSplit, counts: Mapping[str, int]) -> list[Problem]:
    """Labels that only train has, or only the other split; `counts` are those of train."""
    problems = []
    labels = split.columns["label"]
    unknown = sorted(set(labels) - set(counts))
    if unknown and counts:
        rows = [row for row, label in enumerate(labels) if label not in counts]
        meant = nearest(unknown[0], counts)
        hint = f"; did you mean {meant!r}" if meant else ""
        message = f"{split.name} has labels that train lacks: {_names(unknown)}{hint}"
        problems.append(Problem("error", "unknown_label", message, name_rows(split, rows)))
    absent = sorted(set(counts) - set(labels))
    if absent and labels:
        message = f"{len(absent):,} of {len(counts):,} train labels have no row in {split.name}: {_names(absent)}"
        problems.append(Problem("warning", "absent_label", message))
    return problems


def _names(labels: list[str], counts: Mapping[str, int] | None = None) -> str:
    """The first labels, with their counts if given."""
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    shown = (f"{label!r} ({counts[label]})" if counts else repr(label) for label in labels[:SHOWN])
    return ", ".join(shown) + more


def _find_typos(by_name: dict[str, AuditedSplit]) -> list[Problem]:
    """Pairs of labels that are likely meant to be the same."""
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
            message = f"label {few!r} may be a misspelling of {many!r} ({rows})"
            problems.append(Problem("warning", "label_typo", message, tuple(where[few])))
    return problems


def _is_rare(few: int, many: int) -> bool:
    return few <= max(min(RARE_ROWS, many // 3), RARE_SHARE * many)


def _is_near(left: str, right: str) -> bool:
    """At most 2 edits apart, 1 in short names; numbered labels (level_1, level_2) are different labels."""
    shortest = min(len(left), len(right))
    if shortest < 4 or re.sub(r"\d+", "", left) == re.sub(r"\d+", "", right):
        return False
    return Levenshtein.distance(left.casefold(), right.casefold(), score_cutoff=2) <= (1 if shortest < 6 else 2)
