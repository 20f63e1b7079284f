"""Paths of sound files -> prepared waveforms in one memory-mapped Arrow file a split, made once.

The file's name is a hash of what was decoded and how, so that runs, ranks and data sets share it, and a changed
recording is never served from an old one. Only the decoded sound is cached: labels, speakers and ids pass through.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from voicecommand import files as files_module
from voicecommand.audio import clips
from voicecommand.audio import decode as audio_decode
from voicecommand.data.table import refuse
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)
VERSION = 1  # of what `_decode` makes
ROWS = 256  # decoded, then written, at a time
FLAGS = ("resampled", "downmixed", "silent", "clipped")
SHOWN = 3
Made = TypeVar("Made")
Decoded = tuple[np.ndarray, dict[str, bool]]


def prepare(
    dataset: DatasetDict,
    sampling_rate: int = clips.SAMPLING_RATE,
    num_proc: int = 1,
    max_seconds: float = audio_decode.MAX_SECONDS,
) -> DatasetDict:
    """Decode, mix down and resample every clip, unless an earlier run did.

    Args:
        dataset: splits with string columns ``audio`` (paths) and ``origin``, and any others.
        sampling_rate: Hz of all prepared clips.
        num_proc: how many clips are decoded at once, in threads: the decoders work outside Python's lock.
        max_seconds: the longest clip that is taken.

    Returns:
        The splits with ``audio`` as list<int16>, memory-mapped (read it through `audio.Clips`), and the columns
        ``length`` (samples), ``content`` (sha256 hex of the file), and the booleans ``resampled``, ``downmixed``,
        ``silent`` and ``clipped``. The other columns are as they were.

    Raises:
        InputError: the first few clips that can't be read and how many more there are; then nothing is cached.
        StorageError: the cache can't be written.
    """
    from datasets import DatasetDict

    longest = 2**31 / ROWS / sampling_rate  # Arrow counts the samples of a part in 32 bits
    if max_seconds >= longest:
        raise InputError(f"max_seconds={max_seconds:g}: clips of at most {longest:.0f} s can be prepared")
    contents: dict[str, list[str]] = {}
    bad: list[str] = []
    with _workers(num_proc) as run:
        for split, rows in dataset.items():
            hashed, problems = _collect(run, partial(_hash, max_seconds), _sources(rows), f"reading {split}", delay=2.0)
            contents[split] = [content for part in hashed for content in part]
            bad += problems
        refuse(bad)
        files = {split: _place(contents[split], sampling_rate, max_seconds) for split in dataset}
        if any(_load(files[split], len(rows)) is None for split, rows in dataset.items()):
            lock = files_module.cache_directory() / "sound" / ".lock"
            # the processes that waited find what the first one made
            with files_module.hold_lock(lock, "another process is preparing sound: waiting"):
                _make(dataset, files, contents, run, partial(_decode, sampling_rate, max_seconds))
    prepared = {}
    for split, rows in dataset.items():
        sound = _load(files[split], len(rows))
        if sound is None:
            raise OSError(errno.EIO, "prepared sound can't be read back", str(files[split]))
        _log_counts(split, rows["origin"][:], sound, sampling_rate)
        prepared[split] = _join(rows.remove_columns("audio"), sound)
    return DatasetDict(prepared)


def _join(others: Dataset, sound: Dataset) -> Dataset:
    from datasets import Dataset, Features, concatenate_datasets

    if len(sound):
        return concatenate_datasets([others, sound], axis=1)
    # concatenate_datasets leaves out what has no rows, with its columns
    features = Features({**others.features, **sound.features})
    return Dataset.from_dict({name: [] for name in features}, features=features)


def _sources(rows: Dataset) -> list[tuple[str, str]]:
    """(path, what errors call it) of each row. Without a table the origin is the path itself."""
    pairs = zip(rows["audio"][:], rows["origin"][:], strict=True)
    return [(path, path if origin == path else f"{origin}: {path}") for path, origin in pairs]


def _hash(max_seconds: float, source: tuple[str, str]) -> str | InputError:
    try:
        return audio_decode.hash_audio(source[0], max_seconds, source[1])
    except InputError as problem:
        return problem


def _decode(sampling_rate: int, max_seconds: float, source: tuple[str, str]) -> Decoded | InputError:
    try:
        clip = audio_decode.read_audio(source[0], sampling_rate, max_seconds, source[1])
    except InputError as problem:
        return problem
    flags = (clip.source_rate != sampling_rate, clip.channels > 1, clip.silent, clip.clipped)
    return clips.to_int16(clip.waveform), dict(zip(FLAGS, flags, strict=True))


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., list[Any]]]:
    """Something like `list(map(function, items))` that works on ``count`` items at once."""
    if count <= 1:
        yield lambda function, items: [function(item) for item in items]
        return
    from multiprocessing.pool import ThreadPool

    with ThreadPool(count) as pool:
        yield partial(pool.map, chunksize=8)


def _collect(
    run: Callable[..., list[Any]],
    function: Callable[[tuple[str, str]], Made | InputError],
    sources: list[tuple[str, str]],
    what: str,
    take: Callable[[list[Made]], None] | None = None,
    delay: float = 0.0,
) -> tuple[list[list[Made]], list[str]]:
    """Work through the rows under a progress bar, some at a time, and answer (results, problems).

    ``take`` is given each part instead of its being kept, until the first problem.
    """
    from tqdm import tqdm

    kept: list[list[Made]] = []
    bad: list[str] = []
    with tqdm(total=len(sources), desc=what, unit="clip", delay=delay) as bar:
        for start in range(0, len(sources), ROWS):
            part = run(function, sources[start : start + ROWS])
            good = [made for made in part if not isinstance(made, InputError)]
            bad += [str(made) for made in part if isinstance(made, InputError)]
            if not bad and take is not None:
                take(good)
            elif take is None:
                kept.append(good)
            bar.update(len(part))
    return kept, bad


def _place(contents: list[str], sampling_rate: int, max_seconds: float) -> Path:
    """The file of these clips in this order, decoded by these libraries."""
    import soundfile
    import soxr

    how = (VERSION, sampling_rate, max_seconds, soundfile.__libsndfile_version__, soxr.__version__)
    key = hashlib.sha256("\n".join([repr(how), *contents]).encode()).hexdigest()
    return files_module.cache_directory() / "sound" / f"{key}.arrow"


def _load(file: Path, count: int) -> Dataset | None:
    """The prepared split, or None where there is none or it is not whole."""
    import pyarrow as pa
    from datasets import Dataset

    if not file.exists():
        return None
    try:
        sound = Dataset.from_file(str(file))
        if len(sound) == count:
            return sound
        problem = f"{len(sound):,} of {count:,} clips"
    except (pa.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0]
    logger.warning("%s is not whole (%s): it is made again", file, problem)
    return None


def _make(
    dataset: DatasetDict,
    files: dict[str, Path],
    contents: dict[str, list[str]],
    run: Callable[..., list[Any]],
    decode: Callable[[tuple[str, str]], Decoded | InputError],
) -> None:
    """Write the missing splits beside their places, and move them there when all are whole."""
    started: set[Path] = set()
    bad: list[str] = []
    with ExitStack() as stack:
        for split, rows in dataset.items():
            file = files[split]
            if file not in started and _load(file, len(rows)) is None:
                started.add(file)
                sink = stack.enter_context(files_module.open_whole(file))
                bad += _write(sink, _sources(rows), contents[split], run, decode, f"preparing {split}")
        refuse(bad)


def _write(
    sink: BinaryIO,
    sources: list[tuple[str, str]],
    contents: list[str],
    run: Callable[..., list[Any]],
    decode: Callable[[tuple[str, str]], Decoded | InputError],
    what: str,
) -> list[str]:
    """One split as an Arrow stream. Answers the problems, if any; the stream is worthless then."""
    import pyarrow as pa

    fields = [("audio", pa.list_(pa.int16())), ("length", pa.int64()), ("content", pa.string())]
    schema = pa.schema(fields + [(name, pa.bool_()) for name in FLAGS])
    written = 0

    def write(part: list[Decoded]) -> None:
        nonlocal written
        lengths = np.array([len(waveform) for waveform, _ in part], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        waveforms = pa.array(np.concatenate([waveform for waveform, _ in part]), pa.int16())
        columns = [
            pa.ListArray.from_arrays(pa.array(offsets), waveforms),
            pa.array(lengths),
            pa.array(contents[written : written + len(part)], pa.string()),
            *(pa.array([flags[name] for _, flags in part], pa.bool_()) for name in FLAGS),
        ]
        writer.write_batch(pa.record_batch(columns, schema=schema))
        written += len(part)

    with pa.ipc.new_stream(sink, schema) as writer:
        _, bad = _collect(run, decode, sources, what, write)
    return bad


def _log_counts(split: str, origins: list[str], sound: Dataset, sampling_rate: int) -> None:
    """What was done to the clips, and those that a person should listen to."""
    flags = {name: np.asarray(sound[name][:], dtype=bool) for name in FLAGS}
    seconds = float(np.sum(sound["length"][:])) / sampling_rate
    logger.info(
        "sound of %s: %s clips, %.2f h; %s resampled to %s Hz, %s mixed down to mono, none cut",
        split,
        f"{len(sound):,}",
        seconds / 3600,
        f"{flags['resampled'].sum():,}",
        f"{sampling_rate:,}",
        f"{flags['downmixed'].sum():,}",
    )
    for name, meaning in (("silent", "below -60 dB of full scale"), ("clipped", "cut off at full scale")):
        chosen = np.flatnonzero(flags[name])
        if len(chosen):
            first = ", ".join(origins[row] for row in chosen[:SHOWN])
            more = f" and {len(chosen) - SHOWN:,} more" if len(chosen) > SHOWN else ""
            logger.warning("sound of %s: %s %s (%s): %s%s", split, f"{len(chosen):,}", name, meaning, first, more)
