"""A saved model is damaged: it is refused in one line, and answers nothing. The list is that of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
from trials import material, programs
from trials.references import References
from trials.row import Row, Trial

SHORT = ("weights: a bit flipped in the middle", "a tensor missing", "NaN in a tensor", "processor: missing")


def build(references: References, is_full: bool) -> Row:
    """All damages of tests/damage.py to a model for text and, every third, to one for speech; or 4."""
    damages: dict[str, Callable[[Path], object]] = damage.DAMAGES
    if is_full:
        chosen = [("text", name) for name in damages] + [("speech", name) for name in list(damages)[::3]]
    else:
        chosen = [("text", name) for name in damages if name in SHORT]
    flip = next(name for name in damages if name.startswith("weights: a bit flipped near the end"))
    return Row(
        "saved",
        "a saved model damaged",
        "A file of a saved model is damaged as in `tests/damage.py`: bits, missing files and tensors, NaN, settings out"
        " of range. `recipes/predict.py` must refuse it with exit code 2 and one line, and answer nothing.",
        [Trial(f"{kind}, {name}", _of(references, kind, damages[name]), kind) for kind, name in chosen],
        "the files of a model are not verified",
        [Trial("sabotaged", _of(references, "text", damages[flip], accept_all))],
        lambda: references.make(*dict.fromkeys(kind for kind, _ in chosen)),
    )


def accept_all(rank: int) -> None:
    from voicecommand.run import manifest

    def verify(directory: Path, *_: Any, **__: Any) -> dict[str, Any]:
        return manifest.read(directory)

    manifest.verify = verify


def _of(
    references: References,
    kind: str,
    damage: Callable[[Path], object],
    change: Callable[[int], None] | None = None,
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        material.copy(references.folder(kind), folder)
        run_directory = material.find_run(folder)
        damage(run_directory / "model")
        asked = "turn on the kitchen lights" if kind == "text" else str(references.work / "data/tones/1.wav")
        program = programs.fork("predict", [str(run_directory), asked], folder / "answer", change=change)
        code = program.wait()[0]
        if code != 2 or len(program.error_lines()) != 1:
            return f"exit {code}: {program.last_line()}"
        return f"it answered: {program.text()[:200]}" if "probability" in program.text() else ""

    return run
