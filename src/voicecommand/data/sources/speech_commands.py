"""Google Speech Commands v0.01 and v0.02 (Warden 2018, arXiv:1804.03209; CC BY 4.0), with all words or 12 classes.

This data set has several test sets, and figures on different ones can't be compared. So each has a name, and the
sha256 of its sorted ids is logged: V1-30 and V2-35 are the official testing_list.txt, V1-12 and V2-12 the separate
test archives. A 12-class test set that is made here has "made" in its name.

Tested on a small archive of the same layout, not on Google's own files.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voicecommand import files
from voicecommand.audio.forms import is_of_system
from voicecommand.data.sources.archives import fetch
from voicecommand.data.splits import build
from voicecommand.data.table import Rows
from voicecommand.errors import InputError, MissingColumn

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
COLUMNS = ("id", "origin", "audio", "label", "speaker", "transcript")
ADDRESS = "http://download.tensorflow.org/data/"
# The sha256 that torchaudio publishes (torchaudio/datasets/speechcommands.py, _CHECKSUMS). We know of no such source
# for the test archives.
PUBLISHED = {
    f"{ADDRESS}speech_commands_v0.01.tar.gz": "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    f"{ADDRESS}speech_commands_v0.02.tar.gz": "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
}
WORDS = {"0.01": 30, "0.02": 35}
# Clips of the test sets: V2-35 and V2-12 as published with the data, V1-12 as in the hub's card of speech_commands.
TEST_CLIPS = {"V2-35": 11_005, "V2-12": 4_890, "V1-12": 3_081}
# As in TensorFlow's speech_commands/input_data.py: ten words, and a tenth as many clips each of silence and of unknown
# words.
WANTED = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
PERCENT = 10
NOISE, SILENCE, UNKNOWN = "_background_noise_", "_silence_", "_unknown_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SECOND = 16_000
# Each split cuts its silence from its own part of every noise recording.
PARTS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def load_speech_commands(
    columns: Sequence[str] = ("audio", "label"),
    *,
    path: str,
    version: str = "0.02",
    classes: int | None = None,
    test_path: str | None = None,
    sha256: str | None = None,
    test_sha256: str | None = None,
) -> DatasetDict:
    """Read Speech Commands.

    Args:
        columns: those that the task needs, of `COLUMNS`.
        path: Google's archive, its address, or the directory with its content.
        version: "0.01" or "0.02".
        classes: all words (30 in v0.01, 35 in v0.02, the default) or 12: ten words, silence and unknown.
        test_path: for 12 classes, the separate test archive, its address or directory. Without it the test set is made
            from the test list, in the same way as train; it is not the one that others report on.
        sha256: the expected one of the archive. Known for Google's own addresses, see `PUBLISHED`.
        test_sha256: the same for the test archive.

    Returns:
        train, validation and test by the official lists. ``speaker`` is the part of a file's name before ``_nohash_``.
        ``transcript``, if it is asked for, is the word. With 12 classes, the unknown words of each split are those with
        the lowest sha256 of their id, and silence is seconds of the background noise, written to the cache. No
        second of noise is in two splits (it may also be in the official test set).

    Raises:
        InputError: a wrong setting, or files that are not this data set.
    """
    version = str(version)
    if version not in WORDS:
        raise InputError(f"data.version={version}: there are {' and '.join(WORDS)}")
    classes = WORDS[version] if classes is None else classes
    if classes not in (12, WORDS[version]):
        raise InputError(f"data.classes={classes}: version {version} has {WORDS[version]} words, or 12 classes")
    if test_path is not None and classes != 12:
        raise InputError(f"data.test_path={test_path}: the separate test set is that of data.classes=12")
    missing = [column for column in columns if column not in COLUMNS]
    if missing:
        raise MissingColumn(f"speech_commands: columns {missing} were asked for, it has {list(COLUMNS)}", missing[0])
    if classes == 12 and "transcript" in columns:
        raise InputError("data.classes=12: its silence has no transcript; leave data.classes out for all words")
    published = PUBLISHED.get(re.sub("^https:", "http:", str(path)))
    root = fetch(str(path), sha256 or published, "data.path")
    splits = _read_lists(root, version)
    name = f"V{version[-1]}-{classes}"
    if classes == 12:
        if test_path is None:
            name += "-made"
            logger.warning("data.test_path is not set: the test set is made here, and is not that of published figures")
        else:
            splits.pop("test")
        splits = {split: _to_twelve(root, split, ids) for split, ids in splits.items()}
    tables = {split: _to_columns(root, ids, classes) for split, ids in splits.items()}
    if test_path is not None:
        folder = fetch(str(test_path), test_sha256, "data.test_path")
        tables["test"] = _to_columns(folder, _list_clips(folder, (*WANTED, SILENCE, UNKNOWN)), classes)
    _log_test_set(name, tables["test"]["id"])
    if "transcript" not in columns:
        for table in tables.values():
            table.pop("transcript")
    return build(tables)


def _list_clips(root: Path, folders: Iterable[str] | None = None) -> list[str]:
    """The ids ("word/file.wav") of the clips below ``root``, sorted: of all words, or of the named folders."""
    if folders is None:
        folders = [
            entry.name
            for entry in root.iterdir()
            if entry.is_dir() and not (entry.name.startswith("_") or is_of_system(entry.name))
        ]
    absent = [name for name in folders if not (root / name).is_dir()]
    if absent:
        raise InputError(f"{root}: no folder {absent[0]!r}: not a test set of 12 classes")
    clips = []
    for folder in sorted(folders):
        with os.scandir(root / folder) as entries:
            names = [
                entry.name for entry in entries if entry.is_file(follow_symlinks=False) and not is_of_system(entry.name)
            ]
        clips += [f"{folder}/{name}" for name in sorted(names) if name.endswith(".wav")]
    return clips


def _read_lists(root: Path, version: str) -> dict[str, list[str]]:
    """Split -> ids, by the official lists; clips in neither list are train."""
    clips = _list_clips(root)
    there = set(clips)
    lists: dict[str, set[str]] = {}
    for split, file in LISTS.items():
        try:
            lists[split] = set((root / file).read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            raise InputError(f"{root}: no {file}: not what Google's archive of Speech Commands holds") from None
        lost = sorted(lists[split] - there)
        if lost:
            raise InputError(f"{root}: {len(lost):,} clips of {file} are not there, {lost[0]} first")
    if lists["validation"] & lists["test"]:
        raise InputError(f"{root}: {min(lists['validation'] & lists['test'])} is in both lists")
    words = {clip.split("/")[0] for clip in clips}
    if len(words) != WORDS[version]:
        logger.warning("%s has %d words, and version %s has %d", root, len(words), version, WORDS[version])
    train = [clip for clip in clips if clip not in lists["validation"] and clip not in lists["test"]]
    return {"train": train, **{split: sorted(lists[split]) for split in LISTS}}


def _to_twelve(root: Path, split: str, ids: list[str]) -> list[str]:
    """The clips of the ten words, and a tenth as many each of other words and of silence."""
    wanted = [clip for clip in ids if clip.split("/")[0] in WANTED]
    others = sorted((clip for clip in ids if clip.split("/")[0] not in WANTED), key=_hash)
    count = math.ceil(len(wanted) * PERCENT / 100)
    if len(others) < count:
        logger.warning("%s: %d of %d unknown words are there", split, len(others), count)
    logger.info("%s: %s clips of ten words, and %s each of unknown and silence", split, len(wanted), count)
    return [*wanted, *sorted(others[:count]), *_cut_silence(root, split, count)]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


def _cut_silence(root: Path, split: str, count: int) -> list[str]:
    """Write ``count`` seconds of background noise to the cache, unless they exist, and return their paths.

    A sha256 decides which seconds, so that they are the same on every machine. They may overlap within a split.
    """
    import soundfile

    from voicecommand.audio.clips import to_int16
    from voicecommand.audio.decode import read_audio

    sources = sorted(file for file in (root / NOISE).glob("*.wav") if not is_of_system(file.name))
    if not sources:
        raise InputError(f"{root}: no {NOISE}/*.wav to cut silence from")
    noises: dict[Path, np.ndarray] = {}
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sources]
    folder = files.cache_directory() / "speech_commands" / _hash("\n".join(contents))[:16] / SILENCE
    paths = []
    for number in range(count):
        file = sources[number % len(sources)]
        target = folder / f"{split}-{file.stem}-{number:05d}.wav"
        paths.append(str(target))
        if target.exists():
            continue
        if file not in noises:
            noises[file] = to_int16(read_audio(file, SECOND, max_seconds=600).waveform)
        low, high = (int(share * len(noises[file])) for share in PARTS[split])
        if high - low < SECOND:
            raise InputError(f"{file}: too short to cut a second for {split} out of {PARTS[split]} of it")
        start = low + int(_hash(f"{split}/{file.name}/{number}")[:8], 16) % (high - low - SECOND + 1)
        with files.open_whole(target, flush=False) as sink:
            soundfile.write(sink, noises[file][start : start + SECOND], SECOND, subtype="PCM_16", format="WAV")
    return paths


def _to_columns(root: Path, ids: list[str], classes: int) -> Rows:
    table: Rows = {column: [] for column in COLUMNS}
    for clip in ids:
        folder, name = clip.split("/")[-2:]
        known = re.match(r"(?:.*_)?([0-9a-f]+)_nohash_", name)
        path = clip if os.path.isabs(clip) else str(root / clip)
        row = {
            "id": f"{folder}/{name}",
            "origin": path,
            "audio": path,
            "label": _label(folder, classes),
            "speaker": known[1] if known else Path(name).stem,
            "transcript": folder,
        }
        for column in COLUMNS:
            table[column].append(row[column])
    return table


def _label(folder: str, classes: int) -> str:
    if classes != 12 or folder in WANTED:
        return folder
    return "silence" if folder == SILENCE else "unknown"


def _log_test_set(name: str, ids: list[str]) -> None:
    """Log the name of the test set, so that figures on different ones are not compared."""
    digest = hashlib.sha256("\n".join(sorted(ids)).encode("utf-8")).hexdigest()
    logger.info("test set %s: %s clips, sha256 of its sorted ids %s", name, f"{len(ids):,}", digest)
    official = TEST_CLIPS.get(name)
    if official not in (None, len(ids)):
        logger.warning("test set %s: %s clips, and the official one has %s", name, f"{len(ids):,}", f"{official:,}")
