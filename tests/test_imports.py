"""Who may import whom. Read from the source by ast, so that nothing has to be imported."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "src" / "voicecommand"

# recipes -> training -> evaluation -> tasks -> MIDDLE -> BOTTOM, never backwards; the first two reach SIDE.
BOTTOM = {"features", "augmentation", "audio", "metrics", "mfcc", "device"}
MIDDLE = {"estimators", "trainer", "tuning", "models", "pretrained", "front"}
SIDE = {"config", "data", "checkpoints", "report", "runs", "records", "progress"}
EVERYTHING = (
    BOTTOM
    | MIDDLE
    | SIDE
    | {
        "tasks",
        "classification",
        "robustness",
        "evaluation",
        "evaluate_metrics",
        "inference",
        "training",
        "voicecommand",
    }
)
MAY_IMPORT: dict[str, set[str]] = {
    "recipes": EVERYTHING,
    "voicecommand": EVERYTHING,  # the package itself: `voicecommand.load` opens every run
    "training": SIDE | {"evaluation", "tasks"} | MIDDLE | BOTTOM,
    "evaluation": {"tasks"} | MIDDLE | BOTTOM,
    "tasks": {"classification", "inference"} | MIDDLE | BOTTOM,
    "classification": MIDDLE | BOTTOM,  # what every task of classification shares
    **dict.fromkeys(MIDDLE, BOTTOM),
    "robustness": {"evaluation", "figures", "augmentation", "audio"},
    "data": {"audio"},
    "config": {"runs", "device"},
    "runs": {"device"},
    "checkpoints": set(),
    "report": {"evaluation", "figures", "metrics", "model_card", "run_facts"},
    "model_card": {"evaluation", "run_facts"},
    "run_facts": {"evaluation"},
    "records": {"data", "evaluation", "runs"},
    "progress": set(),
    "inference": {"classification"} | MIDDLE | BOTTOM,
    "figures": set(),
    "evaluate_metrics": {"metrics"},
    **{part: set() for part in BOTTOM},
    "errors": set(),
}


def imported_names(file: Path) -> list[str]:
    """Full names of all that a file imports, at its top or in functions; `from x import y` counts as x.y."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(ROOT / "src").parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def part_of(name: str) -> str:
    """`voicecommand.tasks.x.Task` belongs to `tasks`, `voicecommand.load` to `voicecommand`."""
    second = [*name.split("."), ""][1]
    is_part = second != "__init__" and ((LIBRARY / f"{second}.py").exists() or (LIBRARY / second).is_dir())
    return second if second and is_part else "voicecommand"


def library_files() -> dict[Path, str]:
    files = dict.fromkeys((ROOT / "recipes").glob("*.py"), "recipes")
    for file in LIBRARY.rglob("*.py"):
        files[file] = part_of(".".join(file.relative_to(ROOT / "src").with_suffix("").parts))
    return files


def test_each_part_imports_only_what_is_below_it() -> None:
    files, wrong = library_files(), []
    assert len(files) >= 12, "the files have moved: this test sees too few of them"
    for file, part in files.items():
        assert part in MAY_IMPORT, f"{file.name}: say in MAY_IMPORT what {part} may import"
        for name in imported_names(file):
            ours = name.split(".")[0] == "voicecommand"
            if ours and part_of(name) not in MAY_IMPORT[part] | {part, "errors"}:
                wrong.append(f"{file.relative_to(ROOT)} ({part}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_tasks_never_import_each_other() -> None:
    for file in (LIBRARY / "tasks").glob("*.py"):
        others = {f"voicecommand.tasks.{other.stem}" for other in file.parent.glob("*.py")} - {
            f"voicecommand.tasks.{file.stem}"
        }
        found = [name for name in imported_names(file) if any(f"{name}.".startswith(f"{o}.") for o in others)]
        assert not found, f"{file.name} imports {found}"


def test_hydra_stays_above_the_door() -> None:
    for file, part in library_files().items():
        if part not in ("recipes", "config"):
            found = [name for name in imported_names(file) if name.split(".")[0] in ("hydra", "omegaconf")]
            assert not found, f"{file.relative_to(ROOT)} imports {found}"
