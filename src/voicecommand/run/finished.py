"""Finished runs by name: the newest one, a directory, or a pattern that one of them matches."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from voicecommand.errors import InputError
from voicecommand.run.directory import read_status

logger = logging.getLogger(__name__)
LATEST = "latest"
RUNS = Path("runs")
SHOWN = 5


def choose_run(named: str | Path) -> Path:
    """The path that `run=` names: that of a directory, of the newest finished run in runs/ (`latest`), or of the one
    finished run that a pattern matches. A path that is not there is returned as it is.

    Raises:
        InputError: there is no finished run, or the pattern matches none or several.
    """
    path = Path(os.path.expanduser(named))
    text = str(path)
    if path.exists():
        return path
    if text == LATEST:
        found = list_finished(RUNS.glob("*/*"))
        if not found:
            raise InputError(f"{LATEST}: no finished run in {RUNS.absolute()}; train one, or give its directory")
        logger.info("%s is %s", LATEST, found[0])
        return found[0]
    if not glob.has_magic(text):
        return path
    found = list_finished(map(Path, glob.glob(text)))
    if len(found) == 1:
        return found[0]
    names = ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    what = f"{len(found)} finished runs match, the newest first: {names}; give one" if found else "no finished run"
    raise InputError(f"{text}: {what}{'' if found else ' matches; give a directory that a training run printed'}")


def list_finished(directories: Iterable[Path]) -> list[Path]:
    """The finished runs with a model, the newest first, without those that overwrite=true has renamed."""
    found = [
        path
        for path in directories
        if ".old-" not in path.name and read_status(path).get("state") == "finished" and (path / "model").is_dir()
    ]
    return sorted(found, key=_ended, reverse=True)


def _ended(directory: Path) -> float:
    """When the run ended, in seconds since 1970; of a run made before December 2026 the time of its status.json."""
    try:
        return datetime.fromisoformat(str(read_status(directory).get("ended"))).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return (directory / "status.json").stat().st_mtime
