"""Checks of copies: texts, recordings and speakers that are in two splits, or twice in one."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voicecommand.columns import GROUP_COLUMNS
from voicecommand.data.audit.problem import AuditedSplit, Problem, name_rows
from voicecommand.data.audit.twins import find_twins


class _ChosenClips:
    """Chosen clips of several splits as one sequence."""

    def __init__(self, clips: list[tuple[AuditedSplit, int]]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> NDArray[np.int16]:
        split, row = self.clips[number]
        assert split.clips is not None  # see find_near
        return split.clips[row]


def find_near(splits: list[AuditedSplit]) -> list[Problem]:
    """Recordings of a label that are nearly the same, within a split, and between train and another split."""
    # The first row of each key in each split: exact copies have their own check. Reversed, so that the first wins.
    firsts = [
        (split, row)
        for split in splits
        if split.clips is not None and split.in_scope
        for row in sorted(dict(reversed([(key, row) for row, key in enumerate(split.keys) if key])).values())
    ]
    labels = [split.columns["label"][row] if "label" in split.columns else "" for split, row in firsts]
    # by split: `within` rows that have a near copy there, `groups` sets of them, `across` pairs with one in train
    within: dict[str, list[int]] = defaultdict(list)
    groups: Counter[str] = Counter()
    across: dict[str, list[str]] = defaultdict(list)
    for numbers in find_twins(_ChosenClips(firsts), labels):
        members: dict[str, list[tuple[AuditedSplit, int]]] = defaultdict(list)
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
                f"({groups[split.name]:,} different ones): a random split would put them into several splits"
            )
            problems.append(Problem("warning", "near_within", message, name_rows(split, rows)))
        if across[split.name]:
            message = (
                f"{len(across[split.name]):,} of {len(split.keys):,} {split.name} recordings are nearly the same "
                "as one in train"
            )
            problems.append(Problem("warning", "near_across", message, tuple(across[split.name])))
    return problems


def find_duplicates(splits: list[AuditedSplit]) -> list[Problem]:
    """Texts or recordings that repeat, within a split and between two in-scope splits; texts are normalised."""
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
            problems.append(Problem("warning", "duplicates_within", message, name_rows(split, repeats)))
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


def find_leaks(splits: list[AuditedSplit]) -> list[Problem]:
    """Out-of-scope rows that are also in train, with a label."""
    known = {key for split in splits if split.name == "train" for key in split.keys}
    problems = []
    for split in splits:
        leaks = [row for row, key in enumerate(split.keys) if key and key in known] if not split.in_scope else []
        if leaks:
            message = f"{len(leaks):,} {split.what} of {split.name} are also in train, with a label"
            problems.append(Problem("warning", "out_of_scope_in_train", message, name_rows(split, leaks)))
    return problems


def find_shared_groups(splits: list[AuditedSplit]) -> list[Problem]:
    """Speakers or templates of train that are also in another split, which makes its figures too good."""
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
                    f"a new {column}; data.split.by={column} keeps each in one split, if the splits are made here"
                )
                problems.append(Problem("warning", "shared_group", message, name_rows(split, rows)))
    return problems
