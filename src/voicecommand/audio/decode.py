"""Audio files -> waveforms, as numpy arrays.

Files are checked before they are decoded: libsndfile reads half a WAV, a WAV that claims more than it holds, NaN, or
hours of silence from a few megabytes without an error, and opening a pipe that is named like an audio file waits
forever. WAV, FLAC, OGG (Vorbis, Opus) and MP3 are read, and recognised by their content, not by their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.audio.containers import BadAudio, Container, File, OtherForm, check_container
from voicecommand.audio.forms import conversion_of
from voicecommand.errors import InputError

MAX_SECONDS = 60.0
MIN_SECONDS = 0.01  # shorter than one window of any features
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_CHANNELS = 8
MAX_AMPLITUDE = 10.0  # decoders overshoot full scale by a little; a waveform in int16 units by 32,768
SILENT_PEAK = 1e-3  # -60 dB of full scale
FULL_SCALE = 0.99
BLOCK = 1 << 17  # samples decoded at a time, of all channels together


@dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Attributes:
        waveform: float32 [samples], mono, at the rate that was asked for, in [-1, 1] apart from overshoot.
        source_rate: sampling rate of the file, Hz.
        channels: number of them in the file; the waveform is their mean.
        silent: no sample is further than -60 dB of full scale from the middle between the lowest and the highest, so
            that a constant clip is silent at any level.
        clipped: 3 or more equal samples in a row at full scale, in any channel.
        open_ended: the header does not say how long the clip is, as live recorders leave it: it ends with the file.
    """

    waveform: np.ndarray
    source_rate: int
    channels: int
    silent: bool
    clipped: bool
    open_ended: bool = False


def read_audio(
    source: str | os.PathLike[str] | bytes,
    sampling_rate: int = SAMPLING_RATE,
    max_seconds: float = MAX_SECONDS,
    name: str | None = None,
) -> Clip:
    """Decode one audio file, mixed down to mono and resampled once by soxr ("HQ": passband to 0.91 of Nyquist).

    Args:
        source: a path, or the bytes of a file.
        sampling_rate: of the waveform, Hz.
        max_seconds: the longest clip that is accepted.
        name: what errors begin with, such as "metadata.csv:12: a.wav"; without it the path.

    Raises:
        InputError: not a regular file, not readable audio, cut short, outside the limits, NaN or infinite. An MP3
            without a Xing header does not say how long it is: one cut between two frames passes as a shorter one.
    """
    shown = name or _show(source)
    with _named(shown, source), _open(source) as file:
        size = file.seek(0, os.SEEK_END)
        _check_size(size, max_seconds)
        container = check_container(file, size, max_seconds)
        mono, rate, channels, clipped = _decode(file, container, max_seconds)
        silent = bool(np.ptp(mono) < 2 * SILENT_PEAK)
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="HQ")
    return Clip(mono, rate, channels, silent, clipped, container.open_ended)


def hash_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS, name: str | None = None) -> str:
    """The sha256, in hex, of an audio file's bytes, which are not decoded.

    Raises:
        InputError: not a regular file, empty, or larger than any file of ``max_seconds`` can be.
    """
    with _named(name or _show(path), path), _open(path) as file:
        _check_size(os.fstat(file.fileno()).st_size, max_seconds)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show(source: str | os.PathLike[str] | bytes) -> str:
    """A path that can be printed whatever bytes it holds."""
    return "audio" if isinstance(source, bytes) else os.fsencode(source).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _named(name: str, source: str | os.PathLike[str] | bytes) -> Iterator[None]:
    try:
        yield
    except OtherForm as problem:
        remedy = "" if isinstance(source, bytes) else f"; this converts it: {conversion_of(_show(source))}"
        raise InputError(f"{name}: {problem}{remedy}") from None
    except BadAudio as problem:
        raise InputError(f"{name}: {problem}") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL byte in the path
        raise InputError(f"{name}: can't be read: {error}") from None


@contextlib.contextmanager
def _open(source: str | os.PathLike[str] | bytes) -> Iterator[File]:
    """A regular file, unbuffered, because libsndfile reads from the same descriptor."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    _check_regular(os.stat(source).st_mode)  # before it is opened: opening some devices has an effect
    # without O_NONBLOCK a pipe that has taken its place since would wait for a writer
    with open(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
        _check_regular(os.fstat(file.fileno()).st_mode)
        yield file


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise BadAudio(f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not an audio file")


def _check_size(size: int, max_seconds: float) -> None:
    if not size:
        raise BadAudio("the file is empty (0 bytes)")
    if size > max_seconds * MAX_RATE * MAX_CHANNELS * 8:
        raise BadAudio(f"{size / 2**20:,.0f} MB are more than {max_seconds:g} s of audio can have")


def _decode(file: File, container: Container, max_seconds: float) -> tuple[np.ndarray, int, int, bool]:
    """Block by block -> (float32 [samples], Hz, channels, clipped)."""
    import soundfile

    file.seek(0)
    handle: io.BytesIO | int = file if isinstance(file, io.BytesIO) else file.fileno()
    if container.data is not None:
        handle = io.BytesIO(container.data)
    try:
        with soundfile.SoundFile(handle, closefd=False) as audio:
            # otherwise soundfile seeks after each block, which fails in a FLAC stream and is inexact in an MP3
            audio.seekable = lambda: False
            rate, channels, frames = audio.samplerate, audio.channels, audio.frames
            limit = int(max_seconds * rate)
            known = container.samples is None and frames < 1 << 48  # a FLAC stream does not say how long it is
            _check_header(rate, channels, frames if known else 1, limit)
            parts, total, clipped = [], 0, False
            size = BLOCK // channels
            while True:
                block = audio.read(size, dtype="float32", always_2d=True)
                if total + len(block) > limit:
                    raise BadAudio(f"longer than {max_seconds:g} s, which its header does not say")
                clipped |= _check_block(block, total, rate)
                parts.append(block[:, 0] if channels == 1 else block.mean(axis=1))
                total += len(block)
                if len(block) < size:
                    break
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".") or "unknown"
        raise BadAudio(f"cut short, damaged or of an unknown kind ({reason})") from None
    wanted = container.samples if container.samples is not None else frames if known else total
    if abs(total - wanted) > container.tolerance:
        raise BadAudio(f"cut short or damaged: {wanted:,} samples are claimed, and {total:,} can be decoded")
    if total < MIN_SECONDS * rate:
        raise BadAudio(f"{total:,} sample{'' if total == 1 else 's'}: no command is shorter than {MIN_SECONDS:g} s")
    return np.concatenate(parts), rate, channels, clipped


def _check_header(rate: int, channels: int, frames: int, limit: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio(f"a sampling rate of {rate:,} Hz; {MIN_RATE:,} to {MAX_RATE:,} are read")
    if channels > MAX_CHANNELS:
        raise BadAudio(f"{channels:,} channels; at most {MAX_CHANNELS} are read")
    if not frames:
        raise BadAudio("0 samples")
    if frames > limit:
        raise BadAudio(f"{frames / rate:,.1f} s long; at most {limit / rate:g} s are read: cut it into commands")


def _check_block(block: np.ndarray, start: int, rate: int) -> bool:
    """Whether a block float32 [samples, channels] is clipped; `start` is the number of its first sample.

    Raises:
        BadAudio: a sample that is not finite, or far outside -1 to 1.
    """
    loudness = np.abs(block)
    peak = float(loudness.max(initial=0.0))
    if not peak <= MAX_AMPLITUDE:
        at = int(np.argmax(~(loudness <= MAX_AMPLITUDE).all(axis=1)))
        value = block[at][~(loudness[at] <= MAX_AMPLITUDE)][0]
        what = "is not a number" if not np.isfinite(value) else "is far outside -1 to 1: scale it"
        raise BadAudio(f"sample {start + at:,} ({(start + at) / rate:.3f} s) is {value:g}, which {what}")
    if peak < FULL_SCALE:
        return False
    # 0 below full scale; a run of three equal values that are not 0 is a clipped peak
    full = np.where(loudness >= FULL_SCALE, np.clip(block, -1.0, 32767 / 32768), 0.0)
    return bool(((full[2:] != 0) & (full[2:] == full[1:-1]) & (full[1:-1] == full[:-2])).any())
