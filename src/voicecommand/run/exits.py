"""How errors leave a program: one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from voicecommand.errors import InputError, RunError, Stopped, StorageError
from voicecommand.run import processes

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


def fail(error: BaseException, code: int) -> int:
    """One line on standard error; the run's marker was written by `Run.open`."""
    bars = sys.modules.get("tqdm")
    for bar in list(getattr(bars.tqdm, "_instances", ())) if bars else ():
        bar.close()  # else the line would begin where the bar ends
    if processes.RANK == 0 or not isinstance(error, InputError):  # all ranks see the same bad input
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return code


def answer_exit_code(main: Callable[[], None]) -> int:
    """Call `main`; an error that a user can cause becomes one line and an exit code. Bugs keep their traceback."""
    try:
        main()
    except RunError as error:
        return fail(error, error.exit_code)
    except BrokenPipeError:  # whoever reads us has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return fail(Stopped("stopped by a signal; nothing was written"), Stopped.exit_code)
    except Exception as error:
        if not is_storage_error(error):
            raise
        where = getattr(error, "filename", None) or "storage"
        return fail(StorageError(f"{where}: {getattr(error, 'strerror', None) or error}"), StorageError.exit_code)
    return 0


def run_program(main: Callable[[], None]) -> None:
    """For recipes without a configuration: errors as one line, with their exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    code = answer_exit_code(main)
    if code:
        sys.exit(code)


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk is the cause; safetensors says so in words only."""
    if isinstance(error, OSError):
        return error.errno in STORAGE_ERRORS
    return type(error).__name__ == "SafetensorError" and any(
        word in str(error) for word in ("No space left", "File too large", "Read-only", "Permission denied", "quota")
    )
