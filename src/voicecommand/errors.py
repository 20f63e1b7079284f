"""The ways a run can end badly, each with the exit code that `recipes/*.py` answer."""

from __future__ import annotations


class RunError(Exception):
    """Base: a message of one line that says what, where and what to do."""

    exit_code = 1


class InputError(RunError):
    """Bad input or bad configuration: the user can mend it."""

    exit_code = 2


class NonFiniteLoss(RunError):
    """The loss became NaN or infinite; the weights after it are worthless."""

    exit_code = 3


class StorageError(RunError):
    """The disk is full, read-only or gone."""

    exit_code = 4


class Stopped(RunError):
    """A signal asked the run to stop, and it saved a checkpoint first."""

    exit_code = 143
