"""The rule that makes the splits that a source lacks.

The rule looks at one row at a time: the sha256 of the row's normalised text (or of its group, such as the
speaker) is a point in [0, 1). Below ``test`` the row belongs to test, below ``test + validation`` to
validation, otherwise to train. So adding, removing or shuffling rows never moves another row, equal texts are always in
the same split, and if a source has its own test split, only the validation interval is taken from train.

Recordings are split by speaker if the speakers are known, and otherwise by the bytes of their files, so that copies of
a file are in the same split. If there are so few speakers that a split would be empty, it gets the speaker with the
point nearest to its interval; only then a new speaker may move another.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from voicecommand.columns import OUT_OF_SCOPE, SPLITS
from voicecommand.data.table import Rows
from voicecommand.data.text import normalise
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)


def position(key: str) -> float:
    """The point of ``key`` in [0, 1): the same on every machine, forever."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:4], "big") / 2**32


@dataclass(frozen=True)
class SplitRule:
    """The settings of ``data.split``.

    Args:
        by: the column to hash: ``text`` (normalised), a group such as ``speaker`` (as written), or ``content``, the
            bytes of the audio file. None is text for texts; for audio it is speaker if there is such a column,
            otherwise content.
        validation: share of all rows that validation gets.
        test: share of all rows that test gets.
        column: the column of a single file that names each row's split, instead of a hash.
    """

    by: str | None = None
    validation: float = 0.1
    test: float = 0.2
    column: str | None = None

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise InputError(f"data.split.{name}={value!r} must be a share of the rows from 0 to below 1")
        if self.validation + self.test >= 1:
            raise InputError(
                f"data.split.validation={self.validation} and data.split.test={self.test} leave nothing "
                "to train on: their sum must be below 1"
            )

    @classmethod
    def of(cls, split: Mapping[str, Any] | None) -> SplitRule:
        """The rule of the mapping ``data.split``."""
        return cls(**{str(key): value for key, value in (split or {}).items()})

    def assign(self, value: str) -> str:
        """The split of a row with ``value`` in the column ``by``."""
        point = position(normalise(value) if self.by in (None, "text") else value)
        if point < self.test:
            return "test"
        return "validation" if point < self.test + self.validation else "train"


def select(columns: Rows, rows: list[int]) -> Rows:
    """The named rows of a table of columns."""
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def fill_missing(splits: dict[str, Rows], rule: SplitRule) -> dict[str, Rows]:
    """Take the missing validation and test splits, unless their share is 0, out of train.

    Without a train split none is made: such data is for evaluation only. The order within a split is kept.
    """
    shares = {"validation": rule.validation, "test": rule.test}
    missing = [name for name, share in shares.items() if name not in splits and share > 0]
    if "train" not in splits or not missing:
        return splits
    train = splits["train"]
    by = rule.by or ("text" if "audio" not in train else "speaker" if "speaker" in train else "content")
    rule = replace(rule, by=by)
    values = _hash_files(train) if by == "content" and "audio" in train else train.get(by)
    if values is None:
        raise InputError(
            f"data.split.by={by}: no such column to split by; there are {', '.join(sorted(train))} "
            f"(data.column_map.{by}=NAME maps one)"
        )
    places: dict[str, str] = {}
    for row, value in enumerate(values):
        if by != "text" and not value.strip():
            instead = "; data.split.by=content splits without it" if "audio" in train else ""
            raise InputError(f"{train['origin'][row]}: {by} is empty, and data.split.by={by} needs it{instead}")
        if value not in places:
            name = rule.assign(value)
            places[value] = name if name in missing else "train"
    if by not in ("text", "content"):
        _fill_empty(places, ["train", *missing], rule)
    rows: dict[str, list[int]] = {name: [] for name in ("train", *missing)}
    for row, value in enumerate(values):
        rows[places[value]].append(row)
    logger.info(
        "%s taken from train by the hash of %s: %s",
        " and ".join(missing),
        by,
        ", ".join(f"{name} {len(rows[name]):,}" for name in rows),
    )
    if by == "content" and "speaker" not in train:
        logger.warning("no speakers are known: all splits have the same voices, and figures say little about new ones")
    made = {name: select(train, rows[name]) for name in rows}
    return {name: made.get(name) or splits[name] for name in SPLITS if name in splits or name in made}


def _hash_files(columns: Rows) -> list[str]:
    """The sha256 of each recording's file."""
    from voicecommand.audio.decode import hash_audio

    return [
        hash_audio(path, name=path if path == origin else f"{origin}: {path}")
        for path, origin in zip(columns["audio"], columns["origin"], strict=True)
    ]


def _fill_empty(places: dict[str, str], names: list[str], rule: SplitRule) -> None:
    """Give each empty split the group with the point nearest to the split's interval, from a split with several."""
    if len(places) < len(names):
        raise InputError(
            f"data.split.by={rule.by}: {len(places)} group(s) can't fill {len(names)} splits ({', '.join(names)}); "
            "add groups, or make fewer splits (data.split.test=0), or give another data.split.by"
        )
    ends = {
        "test": (0.0, rule.test),
        "validation": (rule.test, rule.test + rule.validation),
        "train": (rule.test + rule.validation, 1.0),
    }
    for name in names:
        counts = Counter(places.values())
        if counts[name]:
            continue
        low, high = ends[name]
        free = [value for value, place in places.items() if counts[place] > 1]
        nearest = min(free, key=lambda value: (max(low - position(value), position(value) - high), value))
        places[nearest] = name
        logger.info("%s: no %s falls into its range; it gets the nearest, %r", name, rule.by, nearest)


def build(splits: dict[str, Rows]) -> DatasetDict:
    """A ``DatasetDict`` of string columns, the splits in the order of ``SPLITS``."""
    import pyarrow as pa
    from datasets import Dataset, DatasetDict

    def table(columns: Rows) -> pa.Table:
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

    return DatasetDict({name: Dataset(table(splits[name])) for name in SPLITS if name in splits})


def choose_splits(dataset: Mapping[str, object], with_test: bool) -> list[str]:
    """The splits that a run reports: validation, and test if it may be read (never in a multirun)."""
    wanted = ["validation", "out_of_scope_validation"] + (["test", "out_of_scope_test"] if with_test else [])
    return [name for name in wanted if name in dataset]


def choose_evaluation(dataset: DatasetDict, split: str) -> DatasetDict:
    """The split to measure a saved run on, and the out-of-scope split of the same name if there is one.

    Raises:
        InputError: the data has no such split.
    """
    if split not in dataset:
        raise InputError(f"split={split}: no such split; the data has {', '.join(dataset)}")
    return type(dataset)({name: dataset[name] for name in (split, f"{OUT_OF_SCOPE}_{split}") if name in dataset})


def first_command(dataset: DatasetDict, reads: str) -> str:
    """A command to try a model with, of a split that it was not trained on if there is one: a text, or the path of a
    recording that has not been decoded yet."""
    name = next((name for name in ("test", "validation") if name in dataset), next(iter(dataset)))
    return str(dataset[name][reads][0]) if len(dataset[name]) else ""
