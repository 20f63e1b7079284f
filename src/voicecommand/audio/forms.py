"""Files in a folder of recordings, by their names: recordings that are read, others, and files of the system."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from voicecommand.audio.containers import FOREIGN, name_foreign
from voicecommand.errors import InputError

AUDIO_ENDINGS = (".wav", ".wave", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".mp3")  # a folder is searched for them
# Samples without a header: nothing in the file says their rate.
RAW = "samples without a header, which are not read here"
RAW_ENDINGS = (".raw", ".pcm", ".sw", ".s16", ".ulaw", ".alaw", ".vox")
# Recordings of other forms, and videos. Some hold what is read here: .mpeg and .mpga may be MP3, .rf64 is a large WAV.
OTHER_ENDINGS = (
    *(".m4a", ".m4b", ".m4r", ".m4p", ".mp4", ".mov", ".aac", ".adts", ".ac3", ".amr", ".awb", ".3gp", ".3gpp", ".3ga"),
    *(".3g2", ".wma", ".asf", ".webm", ".weba", ".mka", ".mkv", ".avi", ".flv", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".sph", ".nist", ".wv", ".ape", ".tta", ".shn", ".spx", ".voc", ".w64", ".rf64", ".gsm"),
    *(".dss", ".ds2", ".dvf", ".qcp", ".ra", ".rm", ".mp2", ".mp1", ".mpa", ".mpga", ".mpeg", ".mpg"),
)
NOT_AUDIO = frozenset(what for _, what in FOREIGN)
# What systems and network storage leave in a folder.
SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)


def is_of_system(name: str) -> bool:
    """Whether a file or folder is hidden, or one of a system: `.DS_Store`, `._a.wav`, `Thumbs.db`, `__MACOSX`."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def is_recording(name: str) -> bool:
    """Whether a file is named like a recording, of a form that is read or of another."""
    return name.lower().endswith((*AUDIO_ENDINGS, *RAW_ENDINGS, *OTHER_ENDINGS))


def describe_unread(path: str) -> str | None:
    """What a recording is, if it is of a form that is not read by its name and its content; otherwise None.

    Endings that are read are left to the decoder, and so is a file that can't be opened.
    """
    name = path.lower()
    if name.endswith(AUDIO_ENDINGS) or not is_recording(name) or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return None
    if name.endswith(RAW_ENDINGS):
        is_headed = head.startswith((b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3"))
        return None if is_headed else RAW
    what = name_foreign(head)
    return None if what in NOT_AUDIO else what  # the decoder says of each what it is; no conversion helps


def find_converted(path: str) -> str | None:
    """The recording beside `path` that has its name but an ending that is read, as `conversion` makes it; or None.

    Two recordings with one name and other endings, such as a.m4a and a.amr, can't both be made into it: then None.
    """
    stem = os.path.splitext(path)[0]
    if sum(os.path.isfile(stem + ending) for ending in (*RAW_ENDINGS, *OTHER_ENDINGS)) > 1:
        return None
    return next((stem + ending for ending in AUDIO_ENDINGS if os.path.isfile(stem + ending)), None)


def conversion(folder: str, paths: Iterable[str], table: str = "") -> str:
    """A command of a shell that makes a WAV file beside each recording in `folder` with an ending of those `paths`.

    Raw samples are taken for 16 bits, mono, 16 kHz: nothing says what they are. A text file `table` that names the
    recordings is changed too.
    """
    endings = sorted({os.path.splitext(path)[1].lower() for path in paths})
    tests = " -o ".join(f"-iname '*{ending}'" for ending in endings)
    tests = tests if len(endings) == 1 else rf"\( {tests} \)"
    raw = "-f s16le -ar 16000 -ac 1 " if set(endings) <= set(RAW_ENDINGS) else ""
    each = f'ffmpeg -nostdin -v error {raw}-i "$1" "${{1%.*}}.wav"'
    command = rf"find {shlex.quote(folder or '.')} -type f ! -name '.*' {tests} -exec sh -c '{each}' sh {{}} \;"
    if not table:
        return command
    if table.endswith(".parquet"):
        return f"{command}; then name the .wav files in {table}"
    names = r"\|".join(ending[1:] for ending in endings)
    return rf"{command} && sed -i 's/\.\({names}\)\b/.wav/Ig' {shlex.quote(table)}"


def conversion_of(path: str) -> str:
    """A command of a shell that makes a WAV file of one recording; one that is called .wav, but isn't, is renamed."""
    stem, ending = os.path.splitext(path)
    other = path if ending.lower() not in AUDIO_ENDINGS else f"{stem}.other"
    command = f"ffmpeg -nostdin -v error -i {shlex.quote(other)} {shlex.quote(f'{stem}.wav')}"
    return command if other == path else f"mv {shlex.quote(path)} {shlex.quote(other)} && {command}"


def refuse_unread(paths: list[str], folder: str, origins: list[str] | None = None) -> None:
    """Raise InputError if there are recordings of forms that are not read: how many, the first, and how to convert all.

    Args:
        paths: of files in `folder`.
        origins: "file:row" of each, if a table names them.
    """
    unread = [(row, path, what) for row, path in enumerate(paths) if (what := describe_unread(path))]
    if not unread:
        return
    row, first, what = unread[0]
    same = [path for _, path, other in unread if (other == RAW) == (what == RAW)]
    origin, table = (f"{origins[row]}: ", origins[row].rpartition(":")[0]) if origins else ("", "")
    more = f" (the first of {len(unread):,} recordings that are not read)" if len(unread) > 1 else ""
    them = "them" if len(same) > 1 else "it"
    guess = " (if they have 16 bits, mono, 16 kHz)" if what == RAW else ""
    raise InputError(f"{origin}{first}: {what}{more}; this converts {them}{guess}: {conversion(folder, same, table)}")
