"""The trainings that nobody disturbs, made once: their results, and stopped runs to go on from."""

from __future__ import annotations

import time
from pathlib import Path

from trials import faults, material
from trials.material import Kind, Result


class References:
    """The undisturbed training of each kind, and runs that were killed.

    Args:
        work: the folder for them; what is there is used again.
        kinds: of training, by name.
    """

    def __init__(self, work: Path, kinds: dict[str, Kind]) -> None:
        self.work, self.kinds = work, kinds

    def make(self, *names: str) -> None:
        """Train those that are not there yet; before the trials, which run side by side."""
        for name in names:
            folder = self.folder(name)
            if not (folder / "seconds").exists():
                keep = ["keep_checkpoints=true"] if "each step" in name else []
                program = material.train(
                    self.kinds[name], folder, *keep, change=faults.count_save_points(folder / "points")
                )
                while program.is_running() and not material.status(folder):
                    time.sleep(0.002)
                opened = time.monotonic()
                if any(program.wait()):
                    raise SystemExit(f"the undisturbed training of {name} failed: {program.last_line()}")
                (folder / "seconds").write_text(str(time.monotonic() - opened))

    def make_stopped(self, *names: str) -> None:
        """Runs that were killed after their third checkpoint, of which two are kept."""
        for name in names:
            kind, folder = self.kinds[name], self.folder(f"{name} stopped")
            if not (folder / "ended").exists():
                self.make(name)
                program = material.train(kind, folder, change=faults.die_at_step(3 * kind.save + 2))
                program.wait()
                found = [path.name for path in material.checkpoints(folder)]
                if len(found) != 2 or found[-1] != f"checkpoint-{3 * kind.save}":  # the other may be the best so far
                    raise SystemExit(f"a run of {name} that was killed has the checkpoints {found}")
                (folder / "ended").touch()

    def copy_stopped(self, name: str, to: Path) -> None:
        material.copy(self.folder(f"{name} stopped"), to)

    def folder(self, name: str) -> Path:
        return self.work / name.replace(",", "").replace(" ", "-")

    def result(self, name: str) -> Result:
        return material.read_result(self.folder(name))

    def points(self, name: str) -> list[str]:
        return (self.folder(name) / "points").read_text(encoding="utf-8").splitlines()

    def seconds(self, name: str) -> float:
        """From the first file of the run to its end."""
        return float((self.folder(name) / "seconds").read_text())
