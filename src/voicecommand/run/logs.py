"""Logging to the terminal and to a run's log.txt."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys

from voicecommand import files
from voicecommand.run import processes

early_records = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)


class VisibleFormatter(logging.Formatter):
    """Lines that may hold texts and names from anywhere; see `files.visible`."""

    def format(self, record: logging.LogRecord) -> str:
        return files.visible(super().format(record))


class _Terminal(logging.StreamHandler):
    """Prints lines above a progress bar instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(file=self.stream) if bars else contextlib.nullcontext():
            super().emit(record)


def set_up_logging() -> None:
    """Log our lines and the warnings of other libraries to the terminal on rank 0, and keep all for log.txt."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == "voicecommand"]:
        root.removeHandler(handler)
    terminal = _Terminal(sys.stderr)
    terminal.setLevel(logging.INFO if processes.RANK == 0 else logging.ERROR)
    terminal.setFormatter(VisibleFormatter("%(message)s"))
    for handler in (terminal, early_records):
        handler.set_name("voicecommand")
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("voicecommand").setLevel(logging.INFO)
    # transformers warns at length of the new head whenever it loads weights; our own lines say what matters
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_MININTERVAL", "1")
    if processes.RANK:  # one bar is enough, and torch's warnings come on every rank
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
