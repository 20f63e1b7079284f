"""Synthetic speakers, and their clips as 16-bit WAV files that are made once.

A clip's file is named by the hash of everything that its audio depends on. Engines run only in child processes: they
are C libraries with global state, and a crash must not end a training run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import wave
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicecommand import files
from voicecommand.data.synthesis.engines import ENGINES, Engine, FreshEspeak, Utterance, Voice, find_engines
from voicecommand.data.table import nearest, quote, refuse
from voicecommand.errors import InputError, RunError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
VERSION = "1"  # of how speech is made: change it when the same utterance gives other audio
RATE_BAND, PITCH_BAND = 0.08, 4  # how far a speaker's clips may differ from the speaker's rate (share) and pitch
BATCH = 16  # clips that a child process makes before it reports
# Engine -> its share of the speakers, relative to the others: eSpeak NG has a hundred voices, the others a few.
SHARES = {"espeak": 4, "flite": 1, "piper": 1}


@dataclass(frozen=True)
class Speaker:
    """A voice with a pitch (0 to 99, 50 is the voice's own) and a pace (words a minute)."""

    voice: Voice
    pitch: int
    rate: int

    @property
    def name(self) -> str:
        """The unique name in the column `speaker`."""
        variant = f"+{self.voice.variant}" if self.voice.variant else ""
        name = self.voice.name.rsplit("/", 1)[-1]
        return f"{self.voice.engine}-{name}{variant}-p{self.pitch}-r{self.rate}".replace(" ", "_")

    def say(self, text: str, take: int = 0) -> Utterance:
        """The utterance of `text` in the given take; pitch and pace vary a little from take to take."""
        key = (self.name, text, take)
        pitch = self.pitch + below(2 * PITCH_BAND + 1, "pitch", *key) - PITCH_BAND
        spread = round(RATE_BAND * self.rate)
        rate = self.rate + below(2 * spread + 1, "rate", *key) - spread
        return Utterance(text, self.voice, min(max(pitch, 0), 99), rate)


def is_synthetic(speaker: str) -> bool:
    """Whether a value of the column `speaker` is the name of a `Speaker`."""
    return re.fullmatch(rf"({'|'.join(ENGINES)})-\S+-p\d+-r\d+", speaker) is not None


def are_synthetic(rows: Dataset | Mapping[str, Sequence]) -> bool:
    """Whether rows have the column `speaker`, and every value of it names a `Speaker`."""
    names = rows if isinstance(rows, Mapping) else rows.column_names
    return "speaker" in names and all(map(is_synthetic, rows["speaker"][:]))


def below(limit: int, *key: object) -> int:
    """A whole number from 0 to `limit` - 1 that depends only on the key."""
    text = "/".join(map(str, (VERSION, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % limit


def draw_speakers(
    count: int,
    engines: Sequence[Engine],
    accents: Sequence[str] | None = None,
    pitch: Sequence[int] = (30, 70),
    rate: Sequence[int] = (130, 210),
) -> list[Speaker]:
    """Draw `count` different speakers; all timbres of an engine are used before one is used again.

    Args:
        count: the number of speakers; SHARES says how many each engine gets.
        engines: the sources of the voices.
        accents: those of the voices, such as ["en-us", "en-gb-scotland"]; None takes every English one.
        pitch: the range that a speaker's pitch is drawn from, 0 to 99; 50 is the voice's own.
        rate: the range of paces, in words a minute.

    Raises:
        InputError: a bad range, an unknown accent, or more speakers than can differ.
    """
    _check_range("pitch", pitch, 0, 99)
    _check_range("rate", rate, 80, 400)
    voices = {engine.name: engine.voices() for engine in engines}
    known = sorted({voice.accent for each in voices.values() for voice in each})
    for accent in accents or ():
        if accent not in known:
            meant = nearest(accent, known)
            hint = f"; did you mean {meant!r}" if meant else ""
            english = quote(name for name in known if name.startswith("en"))
            raise InputError(f"data.accents: no accent {accent!r}{hint} (English ones: {english})")
    timbres: dict[str, dict[str, list[Voice]]] = {}
    for engine, each in voices.items():
        fitting = [v for v in each if (v.accent in accents if accents else v.accent.startswith("en"))]
        for voice in fitting:
            timbres.setdefault(engine, {}).setdefault(voice.timbre, []).append(voice)
    if not timbres:
        raise InputError(f"data.engines {quote(voices)} have no English voice: name one of data.accents {quote(known)}")
    speakers: dict[Speaker, None] = {}
    drawn = Counter[str]()  # speakers of each engine so far
    for number in range(count):
        # the engine that has the fewest speakers for its share, then its next timbre in an order drawn by hash
        engine = min(timbres, key=lambda name: (drawn[name] / SHARES.get(name, 1), name))
        order = sorted(timbres[engine], key=lambda timbre: below(2**64, "order", timbre))
        own = timbres[engine][order[drawn[engine] % len(order)]]
        drawn[engine] += 1
        for attempt in range(100):
            key = (engine, drawn[engine], attempt)
            speaker = Speaker(
                own[below(len(own), "voice", *key)],
                pitch[0] + below(pitch[1] - pitch[0] + 1, "pitch", *key),
                rate[0] + below(rate[1] - rate[0] + 1, "rate", *key),
            )
            if speaker not in speakers:
                break
        else:
            raise InputError(f"data.speakers={count}: only {number} different ones; widen data.pitch or data.rate")
        speakers[speaker] = None
    return list(speakers)


def _check_range(name: str, values: Sequence[int], least: int, most: int) -> None:
    numbers = len(values) == 2 and all(type(value) is int for value in values)
    if not numbers or not least <= values[0] <= values[1] <= most:
        raise InputError(f"data.{name}={list(values)}: [LOW,HIGH], whole numbers from {least} to {most}, is needed")


def split_speakers(speakers: Sequence[Speaker], shares: Mapping[str, float]) -> dict[str, list[Speaker]]:
    """The speakers of each split: about its share of all. No timbre is in two splits, and no split is empty.

    Raises:
        InputError: there are fewer timbres than splits.
    """
    by_timbre: dict[str, list[Speaker]] = {}
    for speaker in speakers:
        by_timbre.setdefault(speaker.voice.timbre, []).append(speaker)
    wanted = [name for name, share in shares.items() if share > 0]
    if len(by_timbre) < len(wanted):
        raise InputError(
            f"data.speakers={len(speakers)}: they have {len(by_timbre)} different voices, and the splits "
            f"{', '.join(wanted)} need one each: raise data.speakers, or name more of data.engines"
        )
    room = {name: max(1.0, shares[name] * len(speakers)) for name in wanted}
    room[wanted[0]] = len(speakers) - sum(room[name] for name in wanted[1:])
    result: dict[str, list[Speaker]] = {name: [] for name in wanted}
    # Timbres with many speakers come first, each to the split with the most room. When as many timbres are left as
    # there are empty splits, each of those gets one.
    order = sorted(by_timbre, key=lambda timbre: (-len(by_timbre[timbre]), below(2**64, "split", timbre)))
    for number, timbre in enumerate(order):
        empty = [name for name in wanted if not result[name]]
        choice = empty if len(order) - number <= len(empty) else wanted
        name = max(choice, key=lambda name: room[name])
        result[name] += by_timbre[timbre]
        room[name] -= len(by_timbre[timbre])
    return result


def speak_all(
    utterances: Sequence[Utterance], origins: Sequence[str] | None = None, num_proc: int | None = None
) -> list[str]:
    """The file of each utterance, under `files.cache_directory() / "spoken"`; missing ones are made.

    Args:
        utterances: texts and voices; equal ones are made once.
        origins: the origin of each text, for messages.
        num_proc: child processes; None takes one for each core of this process.

    Raises:
        InputError: an engine is missing, or texts give silence, with their origins.
        RunError: an engine failed.
    """
    names = {utterance.voice.engine for utterance in utterances}
    engines = {engine.name: engine for engine in find_engines(sorted(names))} if names else {}
    folder = files.cache_directory() / "spoken"
    paths = [folder / _file_name(utterance, engines[utterance.voice.engine]) for utterance in utterances]
    todo = _not_there(utterances, paths)
    if todo:
        # the first process makes the clips; others wait, and find them then
        with files.hold_lock(folder / "making.lock", "another process is making speech: waiting"):
            todo = _not_there(utterances, paths)
            jobs = [(engines[utterance.voice.engine], utterance, path) for path, utterance in todo.items()]
            made = run_in_children(_make, jobs, num_proc, "speaking")
        if problems := {path: problem for path, problem in made if problem}:
            named: dict[str, str] = {}
            for number, path in enumerate(paths):
                if problem := problems.get(str(path)):
                    origin = origins[number] if origins else repr(utterances[number].text)
                    named.setdefault(origin, f"{origin}: {problem}")
            refuse(list(named.values()))
    by_engine = Counter(utterance.voice.engine for utterance in utterances)
    logger.info(
        "speech: %s clips (%s), %s made, %s found in %s",
        f"{len(paths):,}",
        ", ".join(f"{name} {count:,}" for name, count in sorted(by_engine.items())),
        f"{len(todo):,}",
        f"{len(set(paths)) - len(todo):,}",
        folder,
    )
    return [str(path) for path in paths]


def _file_name(utterance: Utterance, engine: Engine) -> str:
    voice = utterance.voice
    asked = [VERSION, engine.version(voice), voice.engine, voice.name, voice.variant]
    key = hashlib.sha256(json.dumps([*asked, utterance.pitch, utterance.rate, utterance.text]).encode()).hexdigest()
    return f"{voice.engine}/{key[:2]}/{key[:32]}.wav"


def _not_there(utterances: Sequence[Utterance], paths: Sequence[Path]) -> dict[Path, Utterance]:
    there = {path: path.is_file() and path.stat().st_size > 44 for path in set(paths)}  # 44: only a header
    return {path: utterance for path, utterance in zip(paths, utterances, strict=True) if not there[path]}


def run_in_children(function: Callable[[Any], Any], jobs: list[Any], num_proc: int | None, title: str) -> list[Any]:
    """The results of `function` for all jobs, in order, in child processes: a crash of a C library ends only a child.

    Raises:
        RunError: a child process died.
    """
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    from tqdm import tqdm

    batches = [jobs[start : start + BATCH] for start in range(0, len(jobs), BATCH)]
    workers = max(1, min(num_proc or len(os.sched_getaffinity(0)), len(batches)))
    results: list[Any] = []
    try:
        # fork: the other start methods would import the recipe again in every child
        with (
            ProcessPoolExecutor(workers, get_context("fork"), _quiet_child) as pool,
            tqdm(total=len(jobs), desc=title, unit="clip", disable=None) as bar,
        ):
            for part in pool.map(_run_batch, [(function, batch) for batch in batches]):
                results += part
                bar.update(len(part))
    except BrokenProcessPool:
        raise RunError(f"{title}: a child process died, at one of the texts that were spoken last") from None
    return results


def _quiet_child() -> None:
    """A child must not run the parent's signal handlers, which save a checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_batch(work: tuple[Callable[[Any], Any], list[Any]]) -> list[Any]:
    function, batch = work
    return [function(job) for job in batch]


def _make(job: tuple[Engine, Utterance, Path]) -> tuple[str, str]:
    """Write one clip and return (path, problem), "" for no problem."""
    engine, utterance, path = job
    samples, rate = engine.speak(utterance)
    if not len(samples) or int(abs(samples.astype("int32")).max()) < 64:
        voice = f"{engine.name} ({utterance.voice.name} {utterance.voice.variant})"
        return str(path), f"{voice} gives silence for {utterance.text[:80]!r}"
    with files.open_whole(path, flush=False) as target, wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return str(path), ""


def transcribe(texts: Sequence[str], accent: str = "gmw/en-US") -> list[list[str]]:
    """eSpeak's phonemes of each text, with the accent of an eSpeak voice.

    Raises:
        InputError: eSpeak NG is not installed.
    """
    if needed := ENGINES["espeak"].missing():
        raise InputError(f"phonemes come from eSpeak NG, which is not installed: {needed}")
    chunks = [(tuple(texts[start : start + 500]), accent) for start in range(0, len(texts), 500)]
    return [phonemes for part in run_in_children(_transcribe, chunks, 1, "phonemes") for phonemes in part]


def _transcribe(job: tuple[Sequence[str], str]) -> list[list[str]]:
    texts, accent = job
    with FreshEspeak([]) as library:
        library.set_voice(Voice("espeak", accent))
        return [library.transcribe(text) for text in texts]
