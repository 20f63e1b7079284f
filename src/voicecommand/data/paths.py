"""Paths of audio files in a data set, which must lie in the folder of the file that names them."""

from __future__ import annotations

import os
import stat

from voicecommand.audio.forms import refuse_unread
from voicecommand.data.table import Rows, nearest, refuse


def place_audio(columns: Rows, folder: str) -> None:
    """Prefix the paths in ``audio`` with ``folder``, in place, and check them.

    Raises:
        InputError: a path has "..", leaves the folder (by a link, or because it is absolute), is not that of a regular
            file, or that of a recording of a form that is not read.
    """
    root = os.path.realpath(folder)
    inside: dict[str, bool] = {}
    bad = []
    for row, (name, origin) in enumerate(zip(columns["audio"], columns["origin"], strict=True)):
        relative = to_relative(name, root)
        path = os.path.join(folder, relative)
        problem = check_place(relative, path, root, inside)
        if problem:
            bad.append(f"{origin}: {name!r} {problem}")
        columns["audio"][row] = path
    refuse(bad)
    refuse_unread(columns["audio"], folder, columns["origin"])


def to_relative(name: str, root: str) -> str:
    """An absolute path within `root`, a resolved folder, relative to it; any other as it is."""
    if not os.path.isabs(name) or "\0" in name or ".." in name.split("/"):
        return name
    place = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    return os.path.relpath(place, root) if _is_within(place, root) else name


def check_place(name: str, path: str, root: str, inside: dict[str, bool]) -> str | None:
    """What is wrong with the path of an audio file, or None.

    Args:
        name: the path as the source has it.
        path: with the folder before it.
        root: the folder, resolved.
        inside: a cache: directory -> whether it lies in the folder.
    """
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or "\0" in name:
        return "is not a path"
    if "://" in name:
        return "is an address: download it first"
    if os.path.isabs(name) or not parts[0] or parts[0].endswith(":"):
        return "is an absolute path that is not in the folder of the file that names it"
    if ".." in parts:
        return "leaves the folder by '..'; files must lie in it"
    try:
        path.encode("utf-8")
        mode = os.lstat(path).st_mode
        directory = os.path.dirname(path)
        if directory not in inside:
            inside[directory] = _is_within(os.path.realpath(directory), root)
        is_within = inside[directory]
        if stat.S_ISLNK(mode):
            is_within = is_within and _is_within(os.path.realpath(path), root)
            mode = os.stat(path).st_mode
    except UnicodeEncodeError:
        return "has a name that is not UTF-8: rename it"
    except FileNotFoundError:
        return f"is not there{_suggest(name, path)}"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if not is_within:
        return "leaves the folder by a link: copy the file into it"
    if not stat.S_ISREG(mode):
        return f"is {'a folder' if stat.S_ISDIR(mode) else 'a pipe, a socket or a device'}, not an audio file"
    return None


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _suggest(name: str, path: str) -> str:
    if "\\" in name:
        return "; write / between folders, not \\"
    folder = os.path.dirname(path)
    meant = nearest(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else None
    return f"; did you mean {os.path.join(os.path.dirname(name), meant)!r}" if meant else ""
