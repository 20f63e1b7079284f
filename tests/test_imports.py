"""The import rule of CONTRIBUTING.md. Imports are read from the source by ast, so that nothing has to be imported."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from support import ROOT

LIBRARY = ROOT / "src" / "voicecommand"
# A package imports from the rows below its own only. Names in one row don't import each other.
ROWS = (
    {"recipes"},
    {"compare"},
    {"training"},
    {"tasks"},
    {"models", "report"},
    {"data", "run"},
    {"audio", "evaluation"},
    {"files", "columns", "errors"},
)
GROUND = ROWS[-1]
ABOVE_HYDRA = {"config"}  # reached from recipes only


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the library and the recipes."""
    found = {f"recipes.{file.stem}": file for file in (ROOT / "recipes").glob("*.py")}
    for file in LIBRARY.rglob("*.py"):
        found[".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imported(file: Path) -> list[str]:
    """Full names of all that a file imports, at its top or in functions; `from x import y` counts as x.y."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def module_of(name: str) -> str:
    """`voicecommand.tasks.base.Task` is in the module `voicecommand.tasks.base`."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def package_of(module: str) -> str:
    """The package of a module; "voicecommand" for the top itself, whose `load` opens every run."""
    first, _, rest = module.partition(".")
    return first if first == "recipes" or not rest else rest.split(".")[0]


def ours(file: Path) -> list[str]:
    return [module_of(name) for name in imported(file) if name.split(".")[0] == "voicecommand"]


def test_each_package_imports_only_what_is_below_it() -> None:
    row_of = {package: number for number, row in enumerate(ROWS) for package in row}
    wrong = []
    assert len(MODULES) >= 60, "the files have moved: this test sees too few of them"
    for name, file in MODULES.items():
        package = package_of(name)
        if package == "voicecommand":
            continue
        for other in ours(file):
            there = package_of(other)
            if there in ABOVE_HYDRA:
                allowed = package in ABOVE_HYDRA | {"recipes"}
            elif package in ABOVE_HYDRA:
                allowed = there in {"run"} | GROUND
            elif there == "voicecommand":
                allowed = package == "recipes"
            else:
                allowed = there == package or row_of[there] > row_of[package] or {there, package} <= GROUND
            if not allowed:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_imports_run_in_a_circle() -> None:
    graph = {name: {other for other in ours(file) if other != name} for name, file in MODULES.items()}
    graph.pop("voicecommand")  # `voicecommand.load` imports what it opens, when it is called
    try:
        TopologicalSorter({name: others - {"voicecommand"} for name, others in graph.items()}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_task_imports_another() -> None:
    targets = {
        target.rpartition(".")[0]
        for file in (ROOT / "conf" / "model").glob("*.yaml")
        for target in re.findall(r"_target_: (voicecommand\.tasks\.\S+)", file.read_text(encoding="utf-8"))
    }
    assert len(targets) >= 2
    for task in targets:
        found = (targets - {task}) & set(ours(MODULES[task]))
        assert not found, f"{task} imports {found}"


def test_hydra_is_imported_in_config_only() -> None:
    for name, file in MODULES.items():
        if package_of(name) not in ABOVE_HYDRA | {"recipes"}:
            found = [other for other in imported(file) if other.split(".")[0] in ("hydra", "omegaconf")]
            assert not found, f"{name} imports {found}"
