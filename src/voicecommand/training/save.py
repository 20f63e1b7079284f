"""The saved model: files that stock libraries open, its processor, their manifest, and voicecommand.json, all written
atomically."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voicecommand import files
from voicecommand.tasks import saved

if TYPE_CHECKING:
    from voicecommand.tasks.base import Processor, Task, Vocabulary


def save(model: object, task: Task, processor: Processor | None, vocabulary: Vocabulary, directory: Path) -> None:
    """Write the folder `directory`, which `voicecommand.load` opens.

    Raises:
        StorageError: it can't be written; an existing folder is unchanged.
    """
    with files.staged(directory) as staging:
        task.save(model, processor, staging)
        saved.seal(staging, task, vocabulary)
