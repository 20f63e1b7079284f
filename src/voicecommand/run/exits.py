"""Errors as one line on standard error and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable

from voicecommand.errors import InputError, RunError, Stopped, StorageError
from voicecommand.run import processes

OF_SAFETENSORS = ("No space left", "File too large", "Read-only", "Permission denied", "quota")
OF_TORCH = ("PytorchStreamWriter", "unexpected pos", "iostream error", "Parent directory")  # of torch.save
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


def fail(error: BaseException, code: int) -> int:
    """Print the error as one line and return `code`; `Run.open` has written status.json."""
    bars = sys.modules.get("tqdm")
    for bar in list(getattr(bars.tqdm, "_instances", ())) if bars else ():
        bar.close()  # otherwise the line would begin where the bar ends
    if processes.RANK == 0 or not isinstance(error, InputError):  # all ranks raise the same InputError
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return code


def answer_exit_code(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code; an error that a user can cause is printed as one line, a bug is raised."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that the terminal lacks is shown by its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except RunError as error:
        return fail(error, error.exit_code)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return fail(Stopped("stopped by a signal"), Stopped.exit_code)
    except Exception as error:
        if not is_storage_error(error):
            raise
        where = getattr(error, "filename", None) or "storage"
        return fail(StorageError(f"{where}: {say_storage_error(error)}"), StorageError.exit_code)
    return 0


def run_program(main: Callable[[], None]) -> None:
    """Run a recipe without a Hydra configuration: call `main` and exit with its code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    code = answer_exit_code(main)
    if code:
        sys.exit(code)


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk is the cause; of an error of safetensors or torch.save only the message tells."""
    if isinstance(error, OSError):
        return error.errno in STORAGE_ERRORS
    words = {"SafetensorError": OF_SAFETENSORS, "RuntimeError": OF_TORCH}.get(type(error).__name__, ())
    return any(word in str(error) for word in words)


def say_storage_error(error: BaseException) -> str:
    """The reason of a storage error in words; torch.save has numbers only, and leaves out whether the disk is full."""
    if isinstance(error, RuntimeError):
        return "cannot write a file: the disk is full, or the file is larger than it may be"
    return getattr(error, "strerror", None) or " ".join(str(error).split())
