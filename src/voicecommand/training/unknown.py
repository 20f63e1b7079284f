"""Text that the model does not know: counted for every split, and refused where it is most of train."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from voicecommand.errors import InputError
from voicecommand.report.facts import UNKNOWN_SHARE

if TYPE_CHECKING:
    from voicecommand.tasks.base import Encoded, Task, Unknown

logger = logging.getLogger(__name__)
# The share of train above which unknown text is an error; a script that the tokenizer lacks is far above it.
REFUSE = 0.5
INSTEAD = (
    "model=tfidf_svm reads any script, and model=roberta_base model.checkpoint=FacebookAI/xlm-roberta-base "
    "model.revision=null is a network for 100 languages"
)


def check(encoded: Mapping[str, Encoded]) -> None:
    """Log the unknown tokens of every split, and stop if train has too many.

    Raises:
        InputError: it names models that read any script.
    """
    train = encoded["train"].unknown if "train" in encoded else None
    if train and train.count > REFUSE * train.of:
        raise InputError(
            f"train: {_share(train)} are unknown to the model, whose tokenizer lacks their characters: it can't tell "
            f"such texts apart; {INSTEAD}"
        )
    log({split: rows.unknown for split, rows in encoded.items()})


def count(task: Task, model: object, encoded: Mapping[str, Encoded]) -> dict[str, dict[str, Any]]:
    """What the trained model does not know, for run.json; logged if encoding could not tell."""
    counts = {split: task.count_unknown(model, rows) for split, rows in encoded.items()}
    log({split: unknown for split, unknown in counts.items() if unknown != encoded[split].unknown})
    return describe(counts)


def describe(counts: Mapping[str, Unknown]) -> dict[str, dict[str, Any]]:
    """Split -> count, of, unit; without splits that have nothing to know."""
    return {split: asdict(unknown) for split, unknown in counts.items() if unknown.of}


def log(counts: Mapping[str, Unknown]) -> None:
    """One line with the count of every split, and a warning for each that has many."""
    counts = {split: unknown for split, unknown in counts.items() if unknown.of}
    if counts:
        logger.info("unknown to the model: %s", "; ".join(f"{split} {_share(of)}" for split, of in counts.items()))
    for split, unknown in counts.items():
        if unknown.count > UNKNOWN_SHARE * unknown.of:
            logger.warning(
                "%s: %s are unknown to the model, which can't tell them apart; %s",
                split,
                _share(unknown),
                (INSTEAD if unknown.unit == "tokens" else "bring such texts into train"),
            )


def _share(unknown: Unknown) -> str:
    return f"{unknown.count:,} of {unknown.of:,} {unknown.unit} ({100 * unknown.count / unknown.of:.1f} %)"
