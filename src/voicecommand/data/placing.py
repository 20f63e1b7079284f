"""Which split or fold a key belongs to; a key is a text, a recording or a group such as a speaker.

The hash of a key is a point in [0, 1), and each split that is made has an interval of it. Then the counts are corrected
label by label: of the n keys of a label, a split with the share s has s * n, give or take n / 10, or 1 if that is more.
So large data are split by the intervals only, and small data by label. A label with 3 or more keys has at least one in
each split, and train has two of them if there are enough; a label with fewer keys stays in train.

To correct a count, the keys whose points are nearest to an end of the interval move. So a row that is added moves no
row of other labels, and hardly any of its own.

A key with rows of several labels, such as a speaker who says them all, can't move for one label without changing the
counts of others. It stays where its point is, counts for each of its labels, and moves only if train lacks a label.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence, Set

Labels = Mapping[str, Set[str]]  # key -> the labels of its rows
Intervals = Mapping[str, tuple[float, float]]  # split -> its points from, below; one after the other, the rest is train


def position(key: str) -> float:
    """The point of ``key`` in [0, 1): the same on every machine, forever."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:4], "big") / 2**32


def place(labels: Labels, intervals: Intervals) -> dict[str, str]:
    """The split of each key."""
    points = {key: position(key) for key in labels}
    places = {
        key: next((name for name, (low, high) in intervals.items() if low <= point < high), "train")
        for key, point in points.items()
    }
    start = min(low for low, _ in intervals.values())
    ordered = sorted(labels, key=lambda key: ((points[key] - start) % 1, key))
    for own in _by_label(labels, ordered).values():
        _correct(places, own, [key for key in own if len(labels[key]) == 1], intervals)
        if all(places[key] != "train" for key in own):
            places[own[-1]] = "train"
    return places


def _correct(places: dict[str, str], own: Sequence[str], movable: Sequence[str], intervals: Intervals) -> None:
    """Move keys of one label until its counts are right; both lists are in the order of the points."""
    n, free = len(own), set(movable)
    fixed = [places[key] for key in own if key not in free]
    slack = max(1.0, n / 10)
    least, most, natural = [], [], []
    for name, (low, high) in intervals.items():
        share = round((high - low) * n, 6)
        least.append(max(0, max(1, math.ceil(share - slack)) - fixed.count(name)))
        most.append(max(0, math.floor(share + slack) - fixed.count(name)))
        natural.append(sum(places[key] == name for key in movable))
    in_train = max(0, (2 if n > len(intervals) + 1 else 1) - fixed.count("train"))
    begin = 0
    for number, name in enumerate(intervals):
        room = len(movable) - begin - sum(least[number + 1 :]) - in_train
        asked = sum(natural[: number + 1]) - begin  # so an end of an interval moves only if a count asks for it
        size = max(0, min(max(asked, least[number]), most[number], room)) if n >= 3 else 0
        places.update(dict.fromkeys(movable[begin : begin + size], name))
        begin += size
    places.update(dict.fromkeys(movable[begin:], "train"))


def fold(labels: Labels, folds: int) -> dict[str, int]:
    """The fold of each key, from 1, or 0 for one that is never held out.

    The keys of a label are dealt out in the order of their points, so that folds have equal counts of it. The labels of
    a key with several are one label here. If all keys of a label are in one fold, one of them is never held out,
    because the other folds could not learn the label.
    """
    ordered = sorted(labels, key=lambda key: (sorted(labels[key]), position(key), key))
    held = {key: 1 + number % folds for number, key in enumerate(ordered)}
    for own in _by_label(labels, ordered).values():
        if len({held[key] for key in own}) == 1:
            held[own[-1]] = 0
    return held


def _by_label(labels: Labels, ordered: Iterable[str]) -> dict[str, list[str]]:
    """The keys of each label, in the given order; the labels by name."""
    found: dict[str, list[str]] = {label: [] for label in sorted(set().union(*labels.values()))}
    for key in ordered:
        for label in labels[key]:
            found[label].append(key)
    return found
