"""What the end of a run advises: sentences for `advice` of metrics.json, which terminal and page show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from voicecommand.evaluation.intervals import wilson
from voicecommand.evaluation.words import percent

SPLITS = ("cross_validation", "validation")  # never test, which decides nothing
OTHERS = 2


def advise_on_labels(metrics: Mapping[str, Any], train_labels: Sequence[str]) -> list[str]:
    """The labels to bring more examples of first, as one sentence; empty where no label is clearly weak.

    A label is named if its recall is below the split's accuracy by more than its Wilson interval, and if it has at most
    the median number of training examples: where it has more than others, its examples are likely to be ambiguous, and
    more of them help less. The lowest recall comes first, of equals the fewest training examples.

    Args:
        metrics: the content of metrics.json.
        train_labels: the label of each training example.
    """
    split = next((name for name in SPLITS if "per_label" in metrics["splits"].get(name, {})), None)
    if split is None or not train_labels:
        return []
    scores, counts = metrics["splits"][split], Counter(train_labels)
    median = float(np.median(list(counts.values())))
    weak = []
    for label, row in scores["per_label"].items():
        low, high = wilson(round(row["recall"] * row["support"]), row["support"]) if row["support"] else (0.0, 1.0)
        if high < scores["accuracy"]["value"] and counts[label] <= median:
            weak.append((row["recall"], counts[label], label, f"{100 * low:.1f} to {100 * high:.1f}", row["support"]))
    if not weak:
        return []
    weak.sort()
    recall, count, label, interval, support = weak[0]
    others = "".join(f", then {name!r}" for _, _, name, *_ in weak[1 : 1 + OTHERS])
    return [
        f"Bring more examples of {label!r} first{others}: {percent(recall)} ({interval}) of its {support} examples in"
        f" {split.replace('_', '-')} are right, against {percent(scores['accuracy']['value'])} of all, and train has"
        f" {count:,} of it (the median of the labels is {median:,.0f})."
    ]
