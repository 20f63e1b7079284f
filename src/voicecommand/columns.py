"""Names that all packages share: the splits, the out-of-scope label, the columns of groups and of folds."""

from __future__ import annotations

from collections.abc import Iterable

from voicecommand.errors import InputError

SPLITS = ("train", "validation", "test", "out_of_scope_validation", "out_of_scope_test")
OUT_OF_SCOPE = "out_of_scope"
ALL = "all"  # of an evaluation: the rows of every split as one
GROUP_COLUMNS = ("speaker", "template")
# Cross-validation: the split of all held-out rows, and the column of train that says in which fold a row is held out,
# from "1"; it is empty for a row that never is.
CROSS_VALIDATION = "cross_validation"
HELD_OUT_IN = "held_out_in"
# Other names of the splits in files, folders, columns and on the hub.
_OTHER_NAMES = {"training": "train", "testing": "test"} | dict.fromkeys(
    ("dev", "development", "val", "valid", "validate", "eval", "evaluation"), "validation"
)
_OTHER_PREFIXES = ("oos_", "ood_", f"{OUT_OF_SCOPE}_")


def split_of(name: str) -> str | None:
    """The split that a name means, whatever its case: `Dev` is validation, `oos_val` out_of_scope_validation.

    None if it names no split.
    """
    folded = name.strip().casefold().replace("-", "_").replace(" ", "_")
    for prefix in _OTHER_PREFIXES:
        if folded.startswith(prefix):
            split = f"{OUT_OF_SCOPE}_{split_of(folded.removeprefix(prefix))}"
            return split if split in SPLITS else None
    return folded if folded in SPLITS else _OTHER_NAMES.get(folded)


def find_splits(names: Iterable[str], where: str, remedy: str = "keep one of them") -> dict[str, str]:
    """Split -> the one of `names` that means it, in the order of ``SPLITS``.

    Args:
        names: of files, folders, cells or splits; those that name no split are left out.
        where: they are, for the error.
        remedy: the end of the error; {split} and {name} are the split and the first of the names.

    Raises:
        InputError: two of the names mean one split.
    """
    found: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split is not None and found.setdefault(split, name) != name:
            raise InputError(
                f"{where}: {found[split]!r} and {name!r} both mean {split}: "
                + remedy.format(split=split, name=found[split])
            )
    return {split: found[split] for split in SPLITS if split in found}
