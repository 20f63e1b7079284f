"""The differences between families of speech networks are in one file."""

from __future__ import annotations

import ast

from support import ROOT
from voicecommand.models.families import FAMILIES

LIBRARY = ROOT / "src" / "voicecommand"
ALLOWED = {LIBRARY / "models" / "families.py", LIBRARY / "models" / "bcresnet.py"}  # the table, and our own network


def test_no_other_file_names_a_family_or_asks_for_the_type_of_a_network() -> None:
    assert len(FAMILIES) >= 6
    seen, named, wrong = 0, set(), []
    for file in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_name = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in FAMILIES
            is_question = isinstance(node, ast.Attribute) and node.attr in ("model_type", "do_stable_layer_norm")
            if (is_name or is_question) and file in ALLOWED:
                named.add(file)
            elif is_name or is_question:
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
        seen += 1
    assert seen >= 60 and named == ALLOWED, "the files have moved, or the test no longer sees what it looks for"
    assert not wrong, "\n".join(wrong)
