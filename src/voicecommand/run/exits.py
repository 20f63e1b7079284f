"""Errors as one line on standard error and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from voicecommand import files
from voicecommand.errors import InputError, RunError, Stopped, StorageError
from voicecommand.run import processes, ranks, signals

OF_RUST = re.compile(r"\(os error (\d+)\)")  # of tokenizers, which raises plain Exception, and of safetensors
OF_SAFETENSORS = ("No space left", "File too large", "Read-only", "Permission denied", "quota")
OF_TORCH = ("PytorchStreamWriter", "unexpected pos", "iostream error", "Parent directory")  # of torch.save
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


def fail(error: BaseException, code: int) -> int:
    """Print the error as one line and return `code`; `Run.open` has written status.json.

    Rank 0 prints the error of another rank, unless it has the same one. Before the ranks are connected, bad input is
    the same on all ranks of a machine, and the first of them prints it.
    """
    is_said = ranks.leave(code, error)
    is_same = processes.LOCAL_RANK > 0 and isinstance(error, InputError) and not ranks.is_watching()
    # another rank that is stopped has no error of its own: the launcher stops it when one has ended
    if processes.RANK and (is_said or is_same or isinstance(error, Stopped)):
        return code
    bars = sys.modules.get("tqdm")
    for bar in list(getattr(bars.tqdm, "_instances", ())) if bars else ():
        bar.close()  # otherwise the line would begin where the bar ends
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stderr.write(f"{processes.name_rank()}error: {files.one_line(str(error))}\n")
    return code


class _VisibleOutput(io.TextIOWrapper):
    """Standard output, to which results are printed with labels and texts from anywhere; see `files.visible`."""

    def write(self, text: str) -> int:
        return super().write(files.visible(text))


@contextlib.contextmanager
def _visible_output() -> Iterator[None]:
    """Within the block, standard output gets visible characters only, by their numbers if its encoding lacks them."""
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):
        yield
        return
    before.flush()
    output = _VisibleOutput(
        before.buffer, before.encoding, errors="backslashreplace", line_buffering=before.line_buffering
    )
    sys.stdout = output
    try:
        yield
        output.flush()
    finally:
        sys.stdout = before
        with contextlib.suppress(BrokenPipeError):
            output.detach()  # otherwise it would close the file


def answer_exit_code(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code; an error that a user can cause is printed as one line, a bug is raised."""
    atexit.register(gc.freeze)  # else Python looks for garbage among all objects once more: a second of computing
    with signals.handled(signals.ignore):  # while the error is printed
        return _answer(main)


def _answer(main: Callable[[], None]) -> int:
    try:
        with signals.handled(signals.interrupt), _visible_output():
            main()
        ranks.leave()
    except RunError as error:
        return fail(error, error.exit_code)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return fail(Stopped("stopped by a signal"), Stopped.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            name = str(error.filename)
            return fail(InputError(f"{name}: {error.strerror} ({len(name):,} characters); give a shorter one"), 2)
        if not is_storage_error(error):
            ranks.wait_for_cause()
            ranks.leave(1, error)
            raise
        where = find_place(error) or "the disk"
        return fail(StorageError(f"{where}: {describe_storage_error(error)}"), StorageError.exit_code)
    return 0


def run_program(main: Callable[[], None]) -> None:
    """Run a recipe without a Hydra configuration: call `main` and exit with its code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    code = answer_exit_code(main)
    if code:
        sys.exit(code)


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk is the cause; of an error of safetensors, tokenizers or torch.save only the message tells."""
    if isinstance(error, OSError):
        return error.errno in STORAGE_ERRORS
    if numbered := OF_RUST.search(str(error)):
        return int(numbered[1]) in STORAGE_ERRORS
    words = {"SafetensorError": OF_SAFETENSORS, "RuntimeError": OF_TORCH}.get(type(error).__name__, ())
    return any(word in str(error) for word in words)


def find_place(error: BaseException) -> Path | None:
    """The file that a storage error names, or the cache that was written where it names none; None if it was neither.

    datasets and huggingface_hub write to files that are open already, and such an error names none.
    """
    name = getattr(error, "filename", None)
    if isinstance(name, str | bytes):
        return Path(os.fsdecode(name))
    place = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if module.startswith("datasets."):
            place = files.cache_directory().parent
        elif module.startswith("huggingface_hub.file_download"):
            from huggingface_hub.constants import HF_HUB_CACHE

            place = Path(HF_HUB_CACHE)
    return place


def describe_storage_error(error: BaseException) -> str:
    """The reason of a storage error in words, and what to do where the disk is full.

    torch.save has numbers only, and leaves out whether the disk is full.
    """
    if isinstance(error, RuntimeError):
        return "cannot write a file: the disk is full, or the file is larger than it may be; free the disk"
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    is_full = getattr(error, "errno", None) in files.FULL or "No space left" in reason or "quota" in reason
    return f"{reason}; free the disk" if is_full else reason
