"""Names that every part of the library shares: splits, out of scope, columns that name groups."""

from __future__ import annotations

SPLITS = ("train", "validation", "test", "out_of_scope_validation", "out_of_scope_test")
OUT_OF_SCOPE = "out_of_scope"
GROUP_COLUMNS = ("speaker", "template")
