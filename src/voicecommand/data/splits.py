"""The rule that makes the splits that a source lacks.

The sha256 of a row's key decides. The key is the normalised text, a group such as the speaker, or the bytes of the
file: equal texts, copies of a file and rows of one speaker are always in the same split. `voicecommand.data.placing`
says which one. If a source has its own test split, only validation is taken from train.

Recordings are split by speaker if the speakers are known. If there are so few speakers that a split would be empty, it
gets the speaker with the point nearest to its interval; then a new speaker may move another.

With ``folds`` no split is taken from train: each of its rows gets the number of the fold in which it is held out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voicecommand.columns import ALL, HELD_OUT_IN, OUT_OF_SCOPE, SPLITS, split_of
from voicecommand.data.placing import Intervals, fold, place, position
from voicecommand.data.table import Rows, quote
from voicecommand.data.text import normalise
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
# Of 30 rows, 90 % right have an interval of 74 to 97 %; with less than 2 rows a label, no label is measured.
FEW_ROWS, FEW_ROWS_OF_LABEL = 30, 2
# What the keys are, in messages; of another column, its values.
WHAT = {"text": "texts", "content": "recordings", "speaker": "speakers", "template": "templates"}


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
        stratify: correct the counts of each label, as `voicecommand.data.placing` says. conf/data sets it; False is the
            rule of November 2026, which is the default so that a run of then is measured on its own splits.
        folds: the number of folds of a cross-validation, instead of validation and test; None for splits.
    """

    by: str | None = None
    validation: float = 0.1
    test: float = 0.2
    column: str | None = None
    stratify: bool = False
    folds: int | None = None

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
        if not isinstance(self.stratify, bool):
            raise InputError(f"data.split.stratify={self.stratify}: give true or false")
        if self.folds is not None and (type(self.folds) is not int or self.folds < 2):
            raise InputError(f"data.split.folds={self.folds}: give a whole number from 2, such as 5, or null")

    @classmethod
    def of(cls, split: Mapping[str, Any] | None) -> SplitRule:
        """The rule of the mapping ``data.split``."""
        return cls(**{str(key): value for key, value in (split or {}).items()})

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The points of test and of validation: from, below."""
        return {"test": (0.0, self.test), "validation": (self.test, self.test + self.validation)}

    def extra(self, split: str) -> tuple[str, ...]:
        """The column to read from a file of this split, beside those of the task."""
        is_divided = split == "train" or (split == "validation" and self.folds is not None)
        return (self.by,) if self.by and is_divided else ()


def select(columns: Rows, rows: list[int]) -> Rows:
    """The named rows of a table of columns."""
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def fill_missing(splits: dict[str, Rows], rule: SplitRule) -> dict[str, Rows]:
    """Take the missing validation and test splits, unless their share is 0, out of train; or divide train into folds.

    Without a train split none is made: such data is for evaluation only. The order within a split is kept.

    Raises:
        InputError: there is no column to split by, or too few rows or groups.
    """
    if "train" not in splits:
        return splits
    if rule.folds is not None:
        return _fold(splits, rule, rule.folds)
    missing = {name: ends for name, ends in rule.intervals.items() if name not in splits and ends[0] < ends[1]}
    if not missing:
        return splits
    train = splits["train"]
    by, keys = _find_keys(train, rule)
    labels = _labels_of(keys, train)
    places = place(labels if rule.stratify else {key: set() for key in labels}, missing)
    if by not in ("text", "content"):
        _fill_empty(places, labels, missing, by)
    elif rule.stratify:
        _check_filled(places, missing, labels, WHAT[by])
    rows: dict[str, list[int]] = {name: [] for name in ("train", *reversed(missing))}
    for row, key in enumerate(keys):
        rows[places[key]].append(row)
    logger.info(
        "%s taken from train by the hash of %s: %s",
        " and ".join(reversed(missing)),
        by,
        ", ".join(f"{name} {len(rows[name]):,}" for name in rows),
    )
    made = {name: select(train, rows[name]) for name in rows}
    _warn(by, train, labels, places, made)
    return {name: made.get(name) or splits[name] for name in SPLITS if name in splits or name in made}


def _find_keys(train: Rows, rule: SplitRule) -> tuple[str, list[str]]:
    """What the rows are split by, and the key of each row."""
    by = rule.by or ("text" if "audio" not in train else "speaker" if "speaker" in train else "content")
    values = _hash_files(train) if by == "content" and "audio" in train else train.get(by)
    if values is None:
        raise InputError(
            f"data.split.by={by}: no such column to split by; there are {', '.join(sorted(train))} "
            f"(data.column_map.{by}=NAME maps one)"
        )
    if by == "text":
        return by, [normalise(value) for value in values]
    for row, value in enumerate(values):
        if not value.strip():
            instead = "; data.split.by=content splits without it" if "audio" in train else ""
            raise InputError(f"{train['origin'][row]}: {by} is empty, and data.split.by={by} needs it{instead}")
    return by, values


def _hash_files(columns: Rows) -> list[str]:
    """The sha256 of each recording's file."""
    from voicecommand.audio.decode import hash_audio

    return [
        hash_audio(path, name=path if path == origin else f"{origin}: {path}")
        for path, origin in zip(columns["audio"], columns["origin"], strict=True)
    ]


def _labels_of(keys: list[str], train: Rows) -> dict[str, set[str]]:
    """The labels of the rows of each key; one for all rows of data without labels."""
    labels: dict[str, set[str]] = {key: set() for key in keys}
    for key, label in zip(keys, train.get("label", [""] * len(keys)), strict=True):
        labels[key].add(label)
    return labels


def _check_filled(places: dict[str, str], missing: Intervals, labels: dict[str, set[str]], what: str) -> None:
    """Refuse rows of labels that are all too small to be split."""
    if empty := sorted(set(missing) - set(places.values())):
        raise InputError(
            f"{len(labels)} different {what} are too few to take {' and '.join(empty)} from train, no label has 3: "
            f"{_suggest_folds(labels)}bring more rows"
        )


def _suggest_folds(labels: dict[str, set[str]]) -> str:
    """The override that measures on all rows, "" if there are too few for any."""
    fitting = next((folds for folds in (5, 4, 3, 2) if _is_filled(fold(labels, folds), folds)), None)
    return "" if fitting is None else f"data.split.folds={fitting} trains and measures on all of them, or "


def _is_filled(held: dict[str, int], folds: int) -> bool:
    return set(range(1, folds + 1)) <= set(held.values())


def _fill_empty(places: dict[str, str], labels: dict[str, set[str]], missing: Intervals, by: str) -> None:
    """Give each empty split the group with the point nearest to the split's interval, if train keeps every label."""
    for name, (low, high) in missing.items():
        if name in places.values():
            continue
        counts = Counter(places.values())
        in_train = Counter(label for key, split in places.items() if split == "train" for label in labels[key])
        free = [
            key
            for key, split in places.items()
            if counts[split] > 1 and (split != "train" or all(in_train[label] > 1 for label in labels[key]))
        ]
        if not free:
            names = ["train", *reversed(list(missing))]
            raise InputError(
                f"data.split.by={by}: {len(places)} group(s) can't fill {len(names)} splits ({', '.join(names)}) with "
                f"every label in train: {_suggest_folds(labels)}add groups, or give another data.split.by"
            )
        nearest = min(free, key=lambda key: (max(low - position(key), position(key) - high), key))
        places[nearest] = name
        logger.info("%s: no %s falls into its range; it gets the nearest, %r", name, by, nearest)


def _warn(by: str, train: Rows, labels: dict[str, set[str]], places: dict[str, str], made: dict[str, Rows]) -> None:
    """Log what the splits can't measure, and what to do."""
    if by == "content" and "speaker" not in train:
        logger.warning("no speakers are known: all splits have the same voices, and figures say little about new ones")
    measured = {label for key, split in places.items() if split != "train" for label in labels[key]}
    if never := sorted({*train.get("label", [])} - measured):
        logger.warning(
            "%d label(s) are never measured, all their rows are in train: %s; bring 3 different %s for each",
            len(never),
            quote(never),
            WHAT.get(by, f"values of {by}"),
        )
    rows = len(made["test"]["id"]) if "test" in made else None
    if rows is not None and rows < max(FEW_ROWS, FEW_ROWS_OF_LABEL * len({*train.get("label", [])})):
        logger.warning(
            "test has only %d rows, too few for figures to rely on: %sbring a test file", rows, _suggest_folds(labels)
        )


def _fold(splits: dict[str, Rows], rule: SplitRule, folds: int) -> dict[str, Rows]:
    """The splits with the rows of validation in train, and with the column HELD_OUT_IN in train."""
    train = splits["train"] if "validation" not in splits else _join(splits["train"], splits["validation"])
    by, keys = _find_keys(train, rule)
    what, labels = WHAT.get(by, f"values of {by}"), _labels_of(keys, train)
    held = fold(labels, folds)
    if not _is_filled(held, folds):
        raise InputError(
            f"data.split.folds={folds}: {len(labels)} different {what} can't fill them: {_suggest_folds(labels)}"
            "bring more rows, at least 2 of each label"
        )
    column = [str(held[key] or "") for key in keys]
    sizes = Counter(column)
    logger.info(
        "%d folds by the hash of %s: %s rows held out in turn",
        folds,
        by,
        ", ".join(f"{sizes[str(number)]:,}" for number in range(1, folds + 1)),
    )
    _warn_of_folds(what, folds, labels, held)
    made = splits | {"train": train | {HELD_OUT_IN: column}}
    return {name: made[name] for name in SPLITS if name in made and name != "validation"}


def _warn_of_folds(what: str, folds: int, labels: dict[str, set[str]], held: dict[str, int]) -> None:
    """Log which labels folds don't measure, and what to do."""
    where: dict[str, set[int]] = {label: set() for label in sorted(set().union(*labels.values()))}
    for key, number in held.items():
        for label in labels[key]:
            where[label] |= {number} - {0}
    if few := [label for label, numbers in where.items() if 0 < len(numbers) < folds]:
        logger.warning(
            "%d label(s) are not held out in every fold, they have too few %s: %s", len(few), what, quote(few)
        )
    if never := [label for label, numbers in where.items() if not numbers]:
        logger.warning(
            "%d label(s) are trained on in every fold and never measured: %s; bring 2 different %s for each",
            len(never),
            quote(never),
            what,
        )


def _join(train: Rows, validation: Rows) -> Rows:
    """The rows of both; an id of validation that train has, too, is named validation-ID."""
    if others := sorted(set(train) ^ set(validation)):
        raise InputError(
            f"data.split.folds joins train and validation, and only one of them has {quote(others)}: give both the "
            "same columns"
        )
    known = set(train["id"])
    ids = [f"validation-{name}" if name in known else name for name in validation["id"]]
    return {name: [*train[name], *(ids if name == "id" else validation[name])] for name in train}


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
    """The split to measure a saved run on, and the out-of-scope split of the same name if there is one; `all` are the
    rows of every split.

    Raises:
        InputError: the data has no such split.
    """
    if split == ALL:
        dataset = _join_all(dataset)
    if split not in dataset:
        hint = f"; did you mean split={meant}" if (meant := split_of(split)) in dataset else ""
        if any(HELD_OUT_IN in rows.column_names for rows in dataset.values()):
            hint = (
                ": it was cross-validated, and a model of all rows is measured on other ones: data=file data.path=FILE"
            )
        raise InputError(f"split={split}: no such split; the data has {', '.join(dataset)}{hint}")
    return type(dataset)({name: dataset[name] for name in (split, f"{OUT_OF_SCOPE}_{split}") if name in dataset})


def _join_all(dataset: DatasetDict) -> DatasetDict:
    """The rows of all splits as one, `all`, and those of all out-of-scope splits as another, with the columns that each
    of them has. An id that two splits have gets the name of its split."""
    from datasets import concatenate_datasets

    joined = {}
    for name, is_outside in ((ALL, False), (f"{OUT_OF_SCOPE}_{ALL}", True)):
        parts = {split: rows for split, rows in dataset.items() if split.startswith(OUT_OF_SCOPE) == is_outside}
        if not parts:
            continue
        columns = [
            c for c in next(iter(parts.values())).column_names if all(c in p.column_names for p in parts.values())
        ]
        counts = Counter(name for rows in parts.values() for name in rows["id"])
        ids = [f"{split}-{name}" if counts[name] > 1 else name for split, rows in parts.items() for name in rows["id"]]
        rows = concatenate_datasets([rows.select_columns(columns) for rows in parts.values()])
        joined[name] = rows.remove_columns("id").add_column("id", ids)
    return type(dataset)(joined)


def first_command(dataset: DatasetDict, reads: str) -> str:
    """A command to try a model with, of a split that it was not trained on if there is one: a text, or the path of a
    recording that has not been decoded yet."""
    name = next((name for name in ("test", "validation") if name in dataset), next(iter(dataset)))
    return str(dataset[name][reads][0]) if len(dataset[name]) else ""
