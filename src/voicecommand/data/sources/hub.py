"""Any data set of the Hugging Face hub, or a directory in one of its formats. Code of a data set is never run."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voicecommand import files
from voicecommand.columns import SPLITS, find_splits, split_of
from voicecommand.data.paths import place_audio
from voicecommand.data.splits import SplitRule, build, fill_missing
from voicecommand.data.table import OPTIONAL, Rows, Table, nearest, quote, read_map, to_columns
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)
INSTEAD = "data=file data.path=FILE reads files of your own"
CACHE = "HF_HOME=DIR names a cache that has it"
PROBE_SECONDS = 8.0


def load_hub(
    columns: tuple[str, ...] = ("text", "label"),
    *,
    path: str,
    name: str | None = None,
    revision: str | None = None,
    column_map: Mapping[str, str | None] | None = None,
    splits: Mapping[str, str | None] | None = None,
    split: Mapping[str, Any] | None = None,
) -> DatasetDict:
    """Read a data set through ``datasets.load_dataset``.

    Args:
        columns: the columns that the task needs, such as ("text", "label"). ``audio`` may be a column of Audio, of
            bytes, or, in a directory, of paths in it; audio is not decoded.
        path: the data set's id on the hub, or a directory.
        name: its configuration, if it has several.
        revision: a commit, tag or branch; name a commit, otherwise the data may change between two runs.
        column_map: our name -> name there.
        splits: our split -> its name there, for splits with another name.
        split: how missing splits are made, see ``SplitRule``.

    Returns:
        Splits as `voicecommand.data` describes them; origins are "path@revision/split:row", where the
        first row is 0, as on the hub. Class labels become their names. Audio that comes as bytes is written to the
        cache undecoded, named by its sha256, and ``audio`` is its path.

    Raises:
        InputError: the hub is out of reach, or has no such data set, revision, split or column; a path of audio is
            bad.
    """
    from datasets import Value

    if revision is not None and not isinstance(revision, str):
        raise InputError(f"data.revision={revision} was read as a number: write data.revision='\"COMMIT\"'")
    rule = SplitRule.of(split)
    renamed = read_map(column_map, columns)
    source = _fetch(str(path), name, revision)
    chosen = _choose(str(path), list(source), splits)
    if revision is None and not os.path.isdir(path):
        logger.warning("data.revision is not set: %s may change between two runs", path)
    tables: dict[str, Rows] = {}
    for ours, theirs in chosen.items():
        audio = renamed.get("audio", "audio") if "audio" in columns else None
        table = _to_table(source[theirs], f"{path}@{revision or 'main'}/{theirs}", audio)
        tables[ours] = to_columns(table, columns, renamed, split=ours, prefix=theirs, extra=rule.extra(ours))
        if audio is not None and source[theirs].features[audio] == Value("string"):
            if not os.path.isdir(path):
                raise InputError(f"{table.source}: {audio!r} holds paths, and the hub has no files for them")
            place_audio(tables[ours], str(path))
    tables = fill_missing(tables, rule)
    for part in tables.values():
        if rule.by and rule.by not in (*columns, *OPTIONAL):
            part.pop(rule.by, None)
    return build(tables)


def _fetch(path: str, name: str | None, revision: str | None) -> DatasetDict:
    """``load_dataset``, with its many errors as an InputError of one line."""
    import datasets
    from huggingface_hub import errors

    what = (
        f"data set {path}"
        + (f", configuration {name}" if name else "")
        + (f", revision {revision}" if revision else "")
    )
    try:
        with _offline_unless(os.path.isdir(path) or is_within_reach(path, revision, "dataset")):
            return datasets.load_dataset(path, name, revision=revision)
    except errors.RevisionNotFoundError:
        raise InputError(f"{what}: the hub has no such revision (data.revision)") from None
    except (
        datasets.exceptions.DatasetNotFoundError,
        errors.RepositoryNotFoundError,
        errors.HFValidationError,
    ):
        raise InputError(
            f"{what}: the hub has no such data set, or it is private or gated (data.path); {INSTEAD}"
        ) from None
    except ConnectionError:
        raise InputError(
            f"{what}: the hub cannot be reached, and the data set is not in the cache; {CACHE}, or {INSTEAD}"
        ) from None
    except Exception as error:  # it reads files from anywhere, which may cause any error
        for cause in (error, error.__cause__):  # DatasetGenerationError has the other as its cause
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise cause from None  # the disk is the cause, which has its own exit code
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "torchcodec" in reason or "soundfile" in reason:  # `datasets` decodes the audio files of a directory
            raise InputError(
                f"{what}: `datasets` wants to decode its audio files; data=folder data.path=DIR reads them"
            ) from None
        raise InputError(f"{what}: cannot be loaded: {reason}; {INSTEAD}") from None


def is_within_reach(name: str, revision: str | None, kind: Literal["dataset", "model"]) -> bool:
    """Whether the hub answers one request within PROBE_SECONDS; the log says why not.

    Its own clients would repeat each of many requests for 23 seconds before they give up.

    Raises:
        huggingface_hub.errors.RepositoryNotFoundError, RevisionNotFoundError, HFValidationError: it answers that there
            is no such data set or model, or no such revision.
    """
    from huggingface_hub import HfApi, errors

    failures: list[Exception] = []

    def ask() -> None:
        try:
            HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=PROBE_SECONDS)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # a name service that never answers knows no time-out
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():
        failures.append(TimeoutError(f"no answer in {PROBE_SECONDS:.0f} seconds"))
    for error in failures:
        if isinstance(error, errors.RevisionNotFoundError | errors.RepositoryNotFoundError | errors.HFValidationError):
            raise error
        # no name service, a proxy's page, a time-out or offline mode: all mean the same here
        offline = isinstance(error, errors.OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if offline else f"{error}; HF_HUB_OFFLINE=1 would not ask"
        logger.info("the hub cannot be reached (%s): looking in the cache", why)
    return not failures


@contextlib.contextmanager
def _offline_unless(within_reach: bool) -> Iterator[None]:
    """Within the block, calls of the hub use only the cache, unless the hub is within reach."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not within_reach
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _choose(path: str, there: list[str], splits: Mapping[str, str | None] | None) -> dict[str, str]:
    """Our split -> the name of it there."""
    named = {str(ours): str(theirs) for ours, theirs in (splits or {}).items() if theirs is not None}
    for ours, theirs in named.items():
        if ours not in SPLITS:
            raise InputError(f"data.splits.{ours}: no such split; the splits are {quote(SPLITS)}")
        if theirs not in there:
            meant = nearest(theirs, there)
            hint = f"; did you mean data.splits.{ours}={meant}" if meant else ""
            raise InputError(f"data.splits.{ours}={theirs}: {path} has the splits {quote(there)}{hint}")
    free = [theirs for theirs in there if theirs not in named.values() and split_of(theirs) not in named]
    found = find_splits(free, path, "choose one by data.splits.{split}={name}")
    chosen = {ours: named.get(ours) or found[ours] for ours in SPLITS if ours in named or ours in found}
    if not chosen:
        raise InputError(
            f"{path}: none of its splits {quote(there)} is named train, validation or test; "
            "name them by data.splits.train=NAME"
        )
    renamed = [f"{theirs} is {ours}" for ours, theirs in chosen.items() if ours != theirs]
    if renamed:
        logger.info("splits of %s: %s", path, ", ".join(renamed))
    unread = [theirs for theirs in there if theirs not in chosen.values()]
    if unread:
        logger.warning(
            "splits of %s that are not read: %s (data.splits.validation=NAME reads one)",
            path,
            ", ".join(unread),
        )
    return chosen


def _to_table(rows: Dataset, source: str, audio: str | None = None) -> Table:
    """The rows of one split, with class labels as names; -1, "no label", becomes null.

    The column ``audio`` becomes paths; other columns that would have to be decoded are left out.
    """
    from datasets import Audio, ClassLabel, Image, Value, Video

    names = rows.column_names
    decoded = [c for c, feature in rows.features.items() if isinstance(feature, (Audio, Image, Video)) and c != audio]
    rows = rows.remove_columns(decoded)
    paths: list[str | None] = []
    if audio is not None and audio in rows.column_names and rows.features[audio] != Value("string"):
        paths = _store_audio(rows.select_columns([audio]), audio, source)
        rows = rows.remove_columns([audio])
    cells = rows.with_format("python")[:]
    if paths:
        cells = {name: paths if name == audio else cells[name] for name in names if name not in decoded}
    for column, feature in rows.features.items():
        if isinstance(feature, ClassLabel):
            names = feature.names
            cells[column] = [None if i is None or i < 0 else names[i] for i in cells[column]]
    return Table(
        source,
        list(cells),
        [(row, dict(zip(cells, values, strict=True))) for row, values in enumerate(zip(*cells.values(), strict=True))],
    )


def _store_audio(rows: Dataset, column: str, source: str) -> list[str | None]:
    """The path of each recording; those that come as bytes are written to the cache undecoded, named by their sha256.

    Raises:
        InputError: the column holds no audio.
    """
    from datasets import Audio, Value
    from tqdm import tqdm

    feature = rows.features[column]
    if isinstance(feature, Audio):
        rows = rows.cast_column(column, Audio(decode=False))
    elif feature not in (Value("binary"), Value("large_binary")):
        raise InputError(f"{source}: {column!r} holds {feature}, not audio (data.column_map.audio=NAME names another)")
    folder = files.cache_directory() / "hub"
    paths: list[str | None] = []
    with tqdm(total=len(rows), desc=f"audio of {source}", unit="clip", delay=2.0) as bar:
        for batch in rows.iter(batch_size=64):
            for cell in batch[column]:
                data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
                paths.append(_write_once(folder, data, path) if data is not None else path)
            bar.update(len(batch[column]))
    return paths


def _write_once(folder: Path, data: bytes, name: str | None) -> str:
    """Write a file named by the sha256 of its content, with the ending of `name`, unless it exists."""
    digest = hashlib.sha256(data).hexdigest()
    ending = Path(name or "").suffix.lower()
    target = folder / digest[:2] / f"{digest}{ending if ending[1:].isalnum() and ending.isascii() else ''}"
    if not target.exists() or target.stat().st_size != len(data):
        files.write_bytes(target, data, flush=False)
    return str(target)
