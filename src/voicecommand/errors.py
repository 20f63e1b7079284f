"""The errors that end a run, each with the exit code of `recipes/*.py`."""

from __future__ import annotations


class RunError(Exception):
    """The base class. The message is one line that says what is wrong, where, and what to do."""

    exit_code = 1


class InputError(RunError):
    """Bad input or bad configuration, which the user can fix."""

    exit_code = 2


class MissingColumn(InputError):
    """A data set lacks the column `name`, which the task needs."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class NonFiniteLoss(RunError):
    """The loss, a gradient or an answer became NaN or infinite; the weights after that are useless.

    Args:
        examples: the numbers of the rows of train in this rank's batch, empty if they are not the cause; None if no
            batch is.
    """

    exit_code = 3

    def __init__(self, message: str, examples: tuple[int, ...] | None = None) -> None:
        super().__init__(message)
        self.examples = examples


class StorageError(RunError):
    """The disk is full, read-only or gone."""

    exit_code = 4


class LostRank(RunError):
    """Another rank has died, hangs or has failed; then the code is that of its error."""

    exit_code = 5

    def __init__(self, message: str, code: int = exit_code) -> None:
        super().__init__(message)
        self.exit_code = code


class Stopped(RunError):
    """A signal stopped the run; a training saves a checkpoint first."""

    exit_code = 143
