"""The disk fills up, or the run's directory goes away: exit 4 in one line, and the last good checkpoint stays."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trials import faults, material
from trials.programs import Change, Program
from trials.references import References
from trials.row import SKIPPED, Row, Trial

STEP = 5  # between the first checkpoint and the second


def build(references: References, is_full: bool) -> Row:
    """27 trials, or 3."""
    trials = []
    if is_full:
        trials += [Trial(f"{share:.0%} of a checkpoint fits", _full(references, share), "disk full")
                   for share in [number / 20 for number in range(20)]]  # fmt: skip
        trials.append(Trial("read-only", _read_only(references), "directory read-only"))
    sizes = (4, 16, 64) if is_full else (16,)
    trials += [Trial(f"no file above {size} kB", _limited(references, size), "a limit for files") for size in sizes]
    trials += [
        Trial("run directory renamed", _moved(references, rename_run, True), "directory renamed"),
        Trial("run directory removed", _moved(references, remove_run, False), "directory gone"),
    ]
    if is_full:
        trials.append(Trial("checkpoints removed, which training can do without", _unneeded(references)))
    return Row(
        "disk",
        "disk full; directory gone, renamed, read-only",
        "While a run trains, its disk fills up so that between nothing and most of the next checkpoint fits, or its"
        " directory is renamed, removed or can't be written. The run ends with exit code 4 and one line, and from the"
        " last good checkpoint it goes on exactly. Where only the old checkpoints are removed, it ends as if they were"
        " there.",
        trials,
        "an error of the disk counts as any other",
        [Trial("sabotaged", _limited(references, 16, call_it_a_bug))],
        lambda: references.make_stopped("text"),
    )


def call_it_a_bug(rank: int) -> None:
    from voicecommand.run import directory, exits

    exits.is_storage_error = directory.is_storage_error = lambda error: False


def _check(references: References, program: Program, folder: Path, can_go_on: bool = True) -> str:
    """After the end of a run whose disk failed and is in order again."""
    code = program.wait()[0]
    if code != 4:
        return f"exit {code}: {program.last_line()}"
    if len(program.error_lines()) != 1 or "Traceback" in program.text():
        return f"not one line: {program.error_lines()}"
    if not can_go_on:
        return ""
    kind = references.kinds["text"]
    return material.go_on(kind, folder, references.result("text"), kind.save)


@contextmanager
def _own_disk(place: Path) -> Iterator[str]:
    """A small disk in memory at `place`; yields why it can't be, or ""."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if done is None or done.returncode:
        yield f"{SKIPPED}only root can mount a disk of its own"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", str(place)], check=False)


def _full(references: References, share: float) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        kind, place = references.kinds["text"], folder / "runs"
        size = _checkpoint_size(references)

        def fill(rank: int) -> None:
            free = os.statvfs(place)
            left = int(share * size) // free.f_frsize * free.f_frsize
            with open(place / "filler", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)

        with _own_disk(place) as why:
            if why:
                return why
            program = material.train(kind, folder, change=faults.at_step(STEP, fill))
            program.wait()
            (place / "filler").unlink()
            return _check(references, program, folder)

    return run


def _checkpoint_size(references: References) -> int:
    """Bytes of a checkpoint of text on the disk, in whole blocks of 4 kB."""
    files = material.checkpoints(references.folder("text stopped"))[-1].rglob("*")
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files if path.is_file())


def _read_only(references: References) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        place = folder / "runs"

        def lock(rank: int) -> None:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)

        with _own_disk(place) as why:
            if why:
                return why
            # log.txt is open for writing, and a disk with such a file can't become read-only
            program = material.train(
                references.kinds["text"], folder, change=faults.at_step(STEP, _without_open_files(lock))
            )
            program.wait()
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
            return _check(references, program, folder)

    return run


def _without_open_files(act: Callable[[int], None]) -> Callable[[int], None]:
    """Put /dev/null in place of the files that are open on the disk (log.txt and the lock) before `act`."""

    def closed(rank: int) -> None:
        for name in os.listdir("/proc/self/fd"):
            path = os.path.realpath(f"/proc/self/fd/{name}")
            if "/runs/" in path:
                number = os.open(os.devnull, os.O_RDWR)
                os.dup2(number, int(name))
                os.close(number)
        act(rank)

    return closed


def _limited(references: References, kilobytes: int, change: Change | None = None) -> Callable[[Path], str]:
    """Without root: no file may become larger, as where a quota is used up."""

    def run(folder: Path) -> str:
        def limit(rank: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))

        start = faults.together(change, faults.at_step(STEP, limit))
        program = material.train(references.kinds["text"], folder, change=start)
        return _check(references, program, folder)

    return run


def rename_run(run: Path) -> None:
    run.rename(run.with_name("renamed"))


def remove_run(run: Path) -> None:
    shutil.rmtree(run)


def _unneeded(references: References) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        def remove(rank: int) -> None:
            shutil.rmtree(material.find_run(folder) / "checkpoints")

        program = material.train(references.kinds["text"], folder, change=faults.at_step(STEP, remove))
        program.wait()
        return material.check_equal(program, folder, references.result("text"))

    return run


def _moved(references: References, move: Callable[[Path], None], comes_back: bool) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        name = material.find_run(references.folder("text")).relative_to(references.folder("text"))

        def act(rank: int) -> None:
            move(folder / name)

        program = material.train(references.kinds["text"], folder, change=faults.at_step(STEP, act))
        program.wait()
        if comes_back:
            left = folder / name
            if left.exists():
                return f"a run that was renamed was made anew: {sorted(path.name for path in left.iterdir())}"
            left.with_name("renamed").rename(left)
        return _check(references, program, folder, can_go_on=comes_back)

    return run
