"""Names that all packages share: the splits, the out-of-scope label, the columns of groups."""

from __future__ import annotations

SPLITS = ("train", "validation", "test", "out_of_scope_validation", "out_of_scope_test")
OUT_OF_SCOPE = "out_of_scope"
GROUP_COLUMNS = ("speaker", "template")
