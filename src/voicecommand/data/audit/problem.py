"""The input of the checks of a data set, and the problems that they find."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voicecommand.columns import GROUP_COLUMNS, OUT_OF_SCOPE
from voicecommand.data.text import normalise

if TYPE_CHECKING:
    from datasets import Dataset

    from voicecommand.audio.clips import Clips

SHOWN = 5
AUDIO_COLUMNS = ("content", "length", "silent", "clipped")


@dataclass(frozen=True)
class Problem:
    """A problem of the data.

    Attributes:
        level: "error" or "warning".
        kind: a short fixed name, such as "duplicates_across".
        message: one line with the splits and the number of rows.
        origins: the rows, as "file:row".
    """

    level: str
    kind: str
    message: str
    origins: tuple[str, ...] = ()

    def line(self, shown: int = SHOWN) -> str:
        """The message and its first rows."""
        if not self.origins:
            return self.message
        more = f" and {len(self.origins) - shown:,} more" if len(self.origins) > shown else ""
        return f"{self.message} ({', '.join(self.origins[:shown])}{more})"


@dataclass(frozen=True)
class Findings:
    """The result of `inspect`. ``counts`` is split -> label -> number of rows (label "" for a task without labels)."""

    counts: dict[str, dict[str, int]]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop training."""
        return [problem for problem in self.problems if problem.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """The problems for a person to judge."""
        return [problem for problem in self.problems if problem.level == "warning"]


@dataclass(frozen=True)
class AuditedSplit:
    """The columns of one split as lists, and keys that are equal for equal rows.

    Attributes:
        keys: the normalised texts; for prepared audio, hashes of the samples, "" for silence.
        exact: the texts as written; for prepared audio, hashes of the files.
        clips: the waveforms of prepared audio.
    """

    name: str
    origins: list[str]
    columns: dict[str, list[Any]]
    keys: list[str]
    exact: list[str]
    clips: Clips | None = None

    @property
    def what(self) -> str:
        """The noun for rows in messages."""
        return "texts" if self.clips is None else "recordings"

    @property
    def how(self) -> str:
        """The phrase in messages for rows with equal `exact`."""
        return "to the letter" if self.clips is None else "byte for byte"

    @property
    def in_scope(self) -> bool:
        """Whether it is not an out-of-scope split."""
        return not self.name.startswith(OUT_OF_SCOPE)


def read_split(name: str, rows: Dataset, asked: tuple[str, ...]) -> AuditedSplit:
    """The columns of a split that the checks read, with the columns `asked` of the task."""
    # A slice reads a whole column; iterating over it would decode row by row, 80 times slower.
    wanted = dict.fromkeys(("text", "label", *GROUP_COLUMNS, *AUDIO_COLUMNS, *asked))
    wanted.pop("audio", None)  # its waveforms are read clip by clip
    columns = {column: rows[column][:] for column in wanted if column in rows.column_names}
    origins = rows["origin"][:]
    if "audio" in asked and set(AUDIO_COLUMNS) <= columns.keys():
        from voicecommand.audio import clips as audio_clips

        clips = audio_clips.Clips(rows)
        return AuditedSplit(name, origins, columns, _hash_samples(clips, columns), columns["content"], clips)
    texts = columns.get("text", []) if "text" in asked else []
    return AuditedSplit(name, origins, columns, [normalise(text) for text in texts], texts)


def _hash_samples(clips: Clips, columns: Mapping[str, list[Any]]) -> list[str]:
    """A hash of each recording's samples, whatever its file; "" for silence, which is not a copy of anything."""
    return [
        "" if silent else hashlib.blake2b(clips[row].data, digest_size=16).hexdigest()
        for row, silent in enumerate(columns["silent"])
    ]


def name_rows(split: AuditedSplit, rows: Iterable[int]) -> tuple[str, ...]:
    """The rows as "file:row"."""
    return tuple(split.origins[row] for row in rows)
