"""Paths of audio files -> prepared waveforms in one memory-mapped Arrow file for each split, made once.

The name of the Arrow file is a hash of the recordings and of how they are decoded. So runs, ranks and data sets share
it, and a changed recording is decoded again. Only decoded audio is cached, not labels, speakers and ids.
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
VERSION = 2  # of the result of `_decode`
ROWS = 256  # clips that are decoded, then written, at a time
FLAGS = ("resampled", "downmixed", "silent", "clipped", "open_ended")
SHOWN = 3
Made = TypeVar("Made")
Decoded = tuple[np.ndarray, dict[str, bool]]


def prepare(
    dataset: DatasetDict,
    sampling_rate: int = clips.SAMPLING_RATE,
    num_proc: int = 1,
    max_seconds: float = audio_decode.MAX_SECONDS,
) -> DatasetDict:
    """Decode, mix down and resample every clip, unless an earlier run has done so.

    Args:
        dataset: splits with string columns ``audio`` (paths) and ``origin``, and any others.
        sampling_rate: of all prepared clips, Hz.
        num_proc: threads; the decoders release Python's lock.
        max_seconds: the longest clip that is accepted.

    Returns:
        The splits with ``audio`` as list<int16>, memory-mapped (read it through `audio.Clips`), and the columns
        ``length`` (samples), ``content`` (sha256 hex of the file), and the booleans ``resampled``, ``downmixed``,
        ``silent``, ``clipped`` and ``open_ended``. The other columns are unchanged.

    Raises:
        InputError: clips can't be read; it names the first few, and nothing is cached.
        StorageError: the cache can't be written.
    """
    from datasets import DatasetDict

    longest = 2**31 / ROWS / sampling_rate  # Arrow counts the samples of ROWS clips in 32 bits
    if max_seconds >= longest:
        raise InputError(f"max_seconds={max_seconds:g}: clips of at most {longest:.0f} s can be prepared")
    with _workers(num_proc) as run:
        contents = _hash_all(dataset, run, max_seconds)
        files = {split: _place(contents[split], sampling_rate, max_seconds) for split in dataset}
        if any(_load(files[split], len(rows)) is None for split, rows in dataset.items()):
            lock = files_module.cache_directory() / "sound" / ".lock"
            # the first process prepares the audio; others wait, and find it then
            with files_module.hold_lock(lock, "another process is preparing audio: waiting"):
                _make(dataset, files, contents, run, partial(_decode, sampling_rate, max_seconds))
    prepared = {}
    for split, rows in dataset.items():
        audio = _load(files[split], len(rows))
        if audio is None:
            raise OSError(errno.EIO, "prepared audio can't be read back", str(files[split]))
        _log_counts(split, rows["origin"][:], audio, sampling_rate)
        prepared[split] = _join(rows.remove_columns("audio"), audio)
    return DatasetDict(prepared)


def add_contents(dataset: DatasetDict, num_proc: int = 1, max_seconds: float = audio_decode.MAX_SECONDS) -> DatasetDict:
    """The splits with the column ``content`` of `prepare`, the sha256 hex of each file, and nothing decoded.

    Raises:
        InputError: files can't be read; it names the first few.
    """
    from datasets import DatasetDict

    with _workers(num_proc) as run:
        contents = _hash_all(dataset, run, max_seconds)
    return DatasetDict({split: rows.add_column("content", contents[split]) for split, rows in dataset.items()})


def _hash_all(dataset: DatasetDict, run: Callable[..., list[Any]], max_seconds: float) -> dict[str, list[str]]:
    """The sha256 hex of each recording's file, for each split."""
    contents: dict[str, list[str]] = {}
    bad: list[str] = []
    for split, rows in dataset.items():
        hashed, problems = _collect(run, partial(_hash, max_seconds), _sources(rows), f"reading {split}", delay=2.0)
        contents[split] = [content for part in hashed for content in part]
        bad += problems
    refuse(bad)
    return contents


def _join(others: Dataset, audio: Dataset) -> Dataset:
    from datasets import Dataset, Features, concatenate_datasets

    if len(audio):
        return concatenate_datasets([others, audio], axis=1)
    # concatenate_datasets drops the columns of data sets without rows
    features = Features({**others.features, **audio.features})
    return Dataset.from_dict({name: [] for name in features}, features=features)


def _sources(rows: Dataset) -> list[tuple[str, str]]:
    """(path, name in errors) of each row. Without a table the origin is the path itself."""
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
    flags = (clip.source_rate != sampling_rate, clip.channels > 1, clip.silent, clip.clipped, clip.open_ended)
    return clips.to_int16(clip.waveform), dict(zip(FLAGS, flags, strict=True))


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., list[Any]]]:
    """A function like `list(map(function, items))`, in ``count`` threads."""
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
    """Call `function` for all sources, with a progress bar, and return (results by part, problems).

    With ``take`` the results are not kept: it is called with each part, until the first problem.
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
    """The file in the cache for these clips in this order, decoded with these settings and libraries."""
    import soundfile
    import soxr

    how = (VERSION, sampling_rate, max_seconds, soundfile.__libsndfile_version__, soxr.__version__)
    key = hashlib.sha256("\n".join([repr(how), *contents]).encode()).hexdigest()
    return files_module.cache_directory() / "sound" / f"{key}.arrow"


def _load(file: Path, count: int) -> Dataset | None:
    """The prepared split; None if there is no file, or it is not whole."""
    import pyarrow as pa
    from datasets import Dataset

    if not file.exists():
        return None
    try:
        audio = Dataset.from_file(str(file))
        if len(audio) == count:
            return audio
        problem = f"{len(audio):,} of {count:,} clips"
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
    """Write the files of missing splits, and rename them to their final names when all are complete."""
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
    """Write one split as an Arrow stream, and return the problems; if there are any, the stream is incomplete."""
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


def _log_counts(split: str, origins: list[str], audio: Dataset, sampling_rate: int) -> None:
    """Log what was done to the clips, and which of them a person should listen to."""
    flags = {name: np.asarray(audio[name][:], dtype=bool) for name in FLAGS}
    seconds = float(np.sum(audio["length"][:])) / sampling_rate
    logger.info(
        "audio of %s: %s clips, %.2f h; %s resampled to %s Hz, %s mixed down to mono, none cut",
        split,
        f"{len(audio):,}",
        seconds / 3600,
        f"{flags['resampled'].sum():,}",
        f"{sampling_rate:,}",
        f"{flags['downmixed'].sum():,}",
    )
    for name, meaning, level in (
        ("silent", "below -60 dB of full scale, or constant", logging.WARNING),
        ("clipped", "cut off at full scale", logging.WARNING),
        ("open_ended", "no length in the header: read to the end of the file", logging.INFO),
    ):
        chosen = np.flatnonzero(flags[name])
        if len(chosen):
            first = ", ".join(origins[row] for row in chosen[:SHOWN])
            more = f" and {len(chosen) - SHOWN:,} more" if len(chosen) > SHOWN else ""
            what = name.replace("_", "-")
            logger.log(level, "audio of %s: %s %s (%s): %s%s", split, f"{len(chosen):,}", what, meaning, first, more)
