"""Sound files -> waveforms, and prepared waveforms -> numpy views. numpy in, numpy out.

Files are checked before they are decoded: libsndfile reads half a WAV, a WAV that claims more than it holds, NaN, or
hours of silence out of a few megabytes without a word, and opening a pipe that is named like a sound file waits for
ever. Read are WAV, FLAC, OGG (Vorbis, Opus) and MP3, recognised by what is in them and not by their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.errors import InputError

SAMPLING_RATE = 16_000
MAX_SECONDS = 60.0
MIN_SECONDS = 0.01  # shorter than one window of any features
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_CHANNELS = 8
MAX_AMPLITUDE = 10.0  # decoders overshoot full scale by a little; a waveform in int16 units by 32,768
SILENT_PEAK = 1e-3  # -60 dB of full scale
FULL_SCALE = 0.99
BLOCK = 1 << 17  # samples of all channels together
RELEASE_BYTES = 1 << 20

File = io.FileIO | io.BytesIO

# Bit rates of MPEG layer III in kbit/s and sampling rates, by MPEG version (ISO 11172-3 and 13818-3, 2.4.2.3).
MP3_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

# What people have instead of sound: how it begins, and what it is.
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the sound itself: fetch it by `git lfs pull`"),
    (b"<", "a web page or XML: the download went wrong"),
    (b"{", "JSON, not sound"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"FORM", "AIFF, which is not read here: convert it to WAV or FLAC"),
    (b".snd", "AU, which is not read here: convert it to WAV or FLAC"),
    (b"RIFX", "a big-endian WAV, which is not read here: convert it to WAV or FLAC"),
    (b"RF64", "RF64, a WAV of over 4 GB"),
    (b"\x1aE\xdf\xa3", "WebM or Matroska, which is not read here: convert it to WAV or FLAC"),
    (b"NIST_1A", "NIST SPHERE, which is not read here: convert it to WAV or FLAC"),
)


@dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Attributes:
        waveform: float32 [samples], mono, at the rate that was asked for, in [-1, 1] but for overshoot.
        source_rate: Hz in the file.
        channels: in the file; their mean is the waveform.
        silent: no sample reaches -60 dB of full scale.
        clipped: 3 or more equal samples in a row at full scale, in any channel.
    """

    waveform: np.ndarray
    source_rate: int
    channels: int
    silent: bool
    clipped: bool


class _BadSound(Exception):
    """What is wrong with a file, without its name."""


def read_audio(
    source: str | os.PathLike[str] | bytes,
    sampling_rate: int = SAMPLING_RATE,
    max_seconds: float = MAX_SECONDS,
    name: str | None = None,
) -> Clip:
    """Decode one sound file, mixed down to mono and resampled once by soxr ("HQ": passband to 0.91 of Nyquist).

    Args:
        source: a path, or the bytes of a file.
        sampling_rate: Hz wanted.
        max_seconds: the longest clip that is taken.
        name: what errors begin with, such as "metadata.csv:12: a.wav"; without it the path.

    Raises:
        InputError: not a regular file, not a readable sound, cut short, outside the limits, NaN or infinite. An MP3
            without a Xing header does not say how long it is: cut between two frames, it passes as a shorter one.
    """
    shown = name or _show(source)
    with _named(shown), _open(source) as file:
        size = file.seek(0, os.SEEK_END)
        _check_size(size, max_seconds)
        frames = _check_container(file, size, max_seconds)
        mono, rate, channels, clipped = _decode(file, frames, max_seconds)
        silent = bool(np.abs(mono).max() < SILENT_PEAK)
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="HQ")
    return Clip(mono, rate, channels, silent, clipped)


def hash_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS, name: str | None = None) -> str:
    """The sha256, in hex, of a sound file's bytes, which are not decoded.

    Raises:
        InputError: not a regular file, or one of a size that no sound of ``max_seconds`` has.
    """
    with _named(name or _show(path)), _open(path) as file:
        _check_size(os.fstat(file.fileno()).st_size, max_seconds)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show(source: str | os.PathLike[str] | bytes) -> str:
    """A path that can be printed whatever bytes it holds."""
    return "sound" if isinstance(source, bytes) else os.fsencode(source).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except _BadSound as problem:
        raise InputError(f"{name}: {problem}") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL byte in the path
        raise InputError(f"{name}: can't be read: {error}") from None


@contextlib.contextmanager
def _open(source: str | os.PathLike[str] | bytes) -> Iterator[File]:
    """A regular file, unbuffered: libsndfile reads on from the same descriptor."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    _check_regular(os.stat(source).st_mode)  # before it is opened: opening some devices does something
    # without O_NONBLOCK a pipe that has come in its place would wait for a writer
    with open(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
        _check_regular(os.fstat(file.fileno()).st_mode)
        yield file


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise _BadSound(f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a sound file")


def _check_size(size: int, max_seconds: float) -> None:
    if not size:
        raise _BadSound("the file is empty (0 bytes)")
    if size > max_seconds * MAX_RATE * MAX_CHANNELS * 8:
        raise _BadSound(f"{size / 2**20:,.0f} MB are more than {max_seconds:g} s of sound can have")


@dataclass(frozen=True)
class _Mp3:
    """The frames of an MP3, without the tags around them, and how many samples a channel they hold."""

    data: bytes
    samples: int
    tolerance: int


def _check_container(file: File, size: int, max_seconds: float) -> _Mp3 | None:
    """Look at the structure of a file, without decoding it."""
    file.seek(0)
    head = file.read(64)
    start = 0
    if head.startswith(b"ID3"):
        # an ID3v2 tag: its size has 7 bits a byte (id3.org, 3.1)
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        start += 10 if len(head) > 5 and head[5] & 0x10 else 0
        if start >= size:
            raise _BadSound("cut short: it ends within its ID3 tag")
        file.seek(start)
        head = file.read(64)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        _check_wav(file, size)
    elif head[:4] == b"OggS":
        _check_ogg(file, size)
    elif _read_mp3_header(head[:4]):
        return _check_mp3(file, start, size, max_seconds)
    elif head[:4] != b"fLaC" and not start:
        text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
        meant = next((what for magic, what in FOREIGN if text.startswith(magic)), None)
        if head[4:8] == b"ftyp":
            meant = "AAC or MP4, which is not read here: convert it to WAV or FLAC"
        raise _BadSound(meant or f"not a WAV, FLAC, OGG or MP3 file: it begins with {bytes(head[:12])!r}")
    return None


def _check_wav(file: File, size: int) -> None:
    """Compare the size that the data chunk claims with what is there; 0xFFFFFFFF says "until the end" (a stream)."""
    position = 12
    for _ in range(1000):
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        kind, claimed = struct.unpack("<4sI", chunk)
        if kind == b"data":
            there = size - position - 8
            if not claimed:
                raise _BadSound("0 samples")
            if claimed > there and claimed != 0xFFFFFFFF:
                raise _BadSound(f"cut short: its header claims {claimed:,} bytes of samples, and {there:,} are there")
            return
        position += 8 + claimed + claimed % 2
    raise _BadSound("a WAV header without samples")


def _check_ogg(file: File, size: int) -> None:
    """Every page whole, and the last one marked as such (RFC 3533, section 6)."""
    position, last = 0, False
    while not last:
        file.seek(position)
        header = file.read(27 + 255)
        if header[:4] != b"OggS" or len(header) < 27:
            raise _BadSound("cut short or damaged: its last page is not there")
        segments = header[27 : 27 + header[26]]
        position += 27 + header[26] + sum(segments)
        if len(segments) < header[26] or position > size:
            raise _BadSound("cut short: it ends within a page")
        last = bool(header[5] & 4)


def _read_mp3_header(header: bytes) -> tuple[int, int, int, int] | None:
    """(bytes of the frame, samples a channel in it, Hz, where a Xing header would be), or None if none begins here."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, kilobits, rate = (header[1] >> 3) & 3, header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or kilobits in (0, 15) or rate == 3:
        return None
    hertz, samples = MP3_RATES[version][rate], 1152 if version == 3 else 576
    length = samples // 8 * 1000 * MP3_BIT_RATES[version == 3][kilobits] // hertz + ((header[2] >> 1) & 1)
    mono = header[3] >> 6 == 3
    side = {(3, True): 17, (3, False): 32}.get((version, mono), 9 if mono else 17)
    return length, samples, hertz, 4 + side


def _check_mp3(file: File, start: int, size: int, max_seconds: float) -> _Mp3:
    """Count the frames and compare with what the Xing header claims.

    libsndfile estimates the length where there is no such header, leaves off what comes after it, and stumbles over
    tags at the end: hence the count, and the frames alone for the decoder. Encoders add up to 4 frames of delay and
    padding, which the decoder takes off again.
    """
    position, count, samples = start, 0, 0
    claimed = None
    while True:
        file.seek(position)
        header = file.read(64)
        frame = _read_mp3_header(header[:4])
        if frame is None:
            break
        length, samples, hertz, xing = frame
        if position + length > size:
            raise _BadSound("cut short: it ends within a frame")
        if position == start and header[xing : xing + 4] in (b"Xing", b"Info"):
            flags, frames = struct.unpack(">II", header[xing + 4 : xing + 12])
            claimed = frames if flags & 1 else None
        else:
            count += 1
        if count * samples > (max_seconds + 1) * hertz:  # and a second for the padding
            raise _BadSound(
                f"over {max_seconds + 1:g} s long; at most {max_seconds:g} s are read: cut it into commands"
            )
        position += length
    if claimed is not None and count < claimed:
        raise _BadSound(f"cut short or damaged: its header claims {claimed:,} frames, and {count:,} are there")
    file.seek(start)
    return _Mp3(file.read(position - start), count * samples, 4 * samples)


def _decode(file: File, mp3: _Mp3 | None, max_seconds: float) -> tuple[np.ndarray, int, int, bool]:
    """Block by block -> (float32 [samples], Hz, channels, clipped)."""
    import soundfile

    file.seek(0)
    handle: Any = io.BytesIO(mp3.data) if mp3 else file if isinstance(file, io.BytesIO) else file.fileno()
    try:
        with soundfile.SoundFile(handle, closefd=False) as sound:
            # else soundfile seeks after each block, which fails in a FLAC stream and is inexact in an MP3
            sound.seekable = lambda: False
            rate, channels, frames = sound.samplerate, sound.channels, sound.frames
            limit = int(max_seconds * rate)
            known = mp3 is None and frames < 1 << 48  # a FLAC stream does not say how long it is
            _check_header(rate, channels, frames if known else 1, limit)
            parts, total, clipped = [], 0, False
            size = BLOCK // channels
            while True:
                block = sound.read(size, dtype="float32", always_2d=True)
                if total + len(block) > limit:
                    raise _BadSound(f"longer than {max_seconds:g} s, which its header does not say")
                clipped |= _check_block(block, total, rate)
                parts.append(block[:, 0] if channels == 1 else block.mean(axis=1))
                total += len(block)
                if len(block) < size:
                    break
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".") or "unknown"
        raise _BadSound(f"cut short, damaged or of an unknown kind ({reason})") from None
    wanted, tolerance = (mp3.samples, mp3.tolerance) if mp3 else (frames if known else total, 0)
    if abs(total - wanted) > tolerance:
        raise _BadSound(f"cut short or damaged: {wanted:,} samples are announced, and {total:,} can be decoded")
    if total < MIN_SECONDS * rate:
        raise _BadSound(f"{total:,} sample{'' if total == 1 else 's'}: no command is shorter than {MIN_SECONDS:g} s")
    return np.concatenate(parts), rate, channels, clipped


def _check_header(rate: int, channels: int, frames: int, limit: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise _BadSound(f"a sampling rate of {rate:,} Hz; {MIN_RATE:,} to {MAX_RATE:,} are read")
    if channels > MAX_CHANNELS:
        raise _BadSound(f"{channels:,} channels; at most {MAX_CHANNELS} are read")
    if not frames:
        raise _BadSound("0 samples")
    if frames > limit:
        raise _BadSound(f"{frames / rate:,.1f} s long; at most {limit / rate:g} s are read: cut it into commands")


def _check_block(block: np.ndarray, start: int, rate: int) -> bool:
    """Whether a block float32 [samples, channels] is clipped."""
    loudness = np.abs(block)
    peak = float(loudness.max(initial=0.0))
    if not peak <= MAX_AMPLITUDE:
        at = int(np.argmax(~(loudness <= MAX_AMPLITUDE).all(axis=1)))
        value = block[at][~(loudness[at] <= MAX_AMPLITUDE)][0]
        what = "is not a number" if not np.isfinite(value) else "is far outside -1 to 1: scale it"
        raise _BadSound(f"sample {start + at:,} ({(start + at) / rate:.3f} s) is {value:g}, which {what}")
    if peak < FULL_SCALE:
        return False
    full = np.where(loudness >= FULL_SCALE, np.clip(block, -1.0, 32767 / 32768), 0.0)
    return bool(((full[2:] != 0) & (full[2:] == full[1:-1]) & (full[1:-1] == full[:-2])).any())


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] -> int16: times 32,768, rounded, and cut at full scale. 16-bit sound comes back as it was."""
    return np.clip(np.rint(np.asarray(waveform, np.float32) * 32768.0), -32768, 32767).astype(np.int16)


def to_float(samples: np.ndarray) -> np.ndarray:
    """int16 -> float32 in [-1, 1): divided by 32,768."""
    return samples.astype(np.float32) / np.float32(32768.0)


def write_wav(path: str | os.PathLike[str], waveform: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> None:
    """int16 [samples] -> a mono WAV file of 16 bits."""
    import soundfile

    if waveform.dtype != np.int16 or waveform.ndim != 1:
        raise ValueError(f"int16 [samples] is written, not {waveform.dtype} {waveform.shape}")
    soundfile.write(os.fspath(path), waveform, sampling_rate, subtype="PCM_16", format="WAV")


def loudest(waveform: np.ndarray, size: int) -> int:
    """The start of the window of ``size`` samples with the most energy; the first of equals."""
    if size >= len(waveform):
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    return int(np.argmax(energy[size:] - energy[:-size]))


def cut_windows(length: int, size: int) -> list[int]:
    """The starts of windows of ``size`` that cover ``length`` samples: half a window apart, the last at the end."""
    if length <= size:
        return [0]
    return [*range(0, length - size, max(1, size // 2)), length - size]


def cache_directory() -> Path:
    """Where prepared sound is kept: beside the caches of datasets (HF_HOME, HF_DATASETS_CACHE)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "voicecommand"


class Clips:
    """The waveforms of a prepared split: `clips[i]` is int16 [samples], a read-only view into the file's memory map.

    Args:
        dataset: a `datasets.Dataset`, also one of selected rows.
        column: its column of list<int16>.

    Pages that were read are given back to the system every MB, so that resident memory does not grow with the data
    (Linux; elsewhere the system takes them when it needs them). Pickles as its data set does.
    """

    def __init__(self, dataset: Any, column: str = "audio") -> None:
        self.dataset, self.column = dataset, column
        self._values: list[np.ndarray] = []
        self._offsets: list[np.ndarray] = []
        self._firsts: list[int] = []
        first = 0
        for chunk in dataset.data.column(column).chunks:
            if str(chunk.type) not in ("list<item: int16>", "large_list<item: int16>"):
                raise TypeError(f"column {column} holds {chunk.type}, not list<int16>: prepare the sound first")
            if len(chunk):
                self._values.append(chunk.values.to_numpy(zero_copy_only=True))
                self._offsets.append(chunk.offsets.to_numpy())
                self._firsts.append(first)
                first += len(chunk)
        indices = dataset._indices
        self._rows = None if indices is None else indices.column(0).to_numpy()
        self._length = len(dataset)
        self._maps = _find_maps(self._values)
        self._served = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        if not -self._length <= index < self._length:
            raise IndexError(f"clip {index} of {self._length}")
        row = int(index) % self._length
        if self._rows is not None:
            row = int(self._rows[row])
        chunk = bisect_right(self._firsts, row) - 1
        offsets = self._offsets[chunk]
        row -= self._firsts[chunk]
        clip = self._values[chunk][offsets[row] : offsets[row + 1]]
        self._served += clip.nbytes
        if self._served > RELEASE_BYTES:
            self._served = 0
            _release(self._maps)
        return clip

    def __getstate__(self) -> tuple[Any, str]:
        return self.dataset, self.column

    def __setstate__(self, state: tuple[Any, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _find_maps(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
    """(address, bytes) of the read-only maps of files in which the arrays lie."""
    addresses = sorted(array.ctypes.data for array in arrays)
    found = []
    with contextlib.suppress(OSError), open("/proc/self/maps") as lines:
        for line in lines:
            where, rights, _, _, inode = line.split()[:5]
            start, end = (int(part, 16) for part in where.split("-"))
            inside = bisect_right(addresses, end - 1) > bisect_right(addresses, start - 1)
            if inside and inode != "0" and "w" not in rights:
                found.append((start, end - start))
    return found


def _release(maps: list[tuple[int, int]]) -> None:
    """Drop the pages of these maps from this process; nothing is lost, they are those of a file that can't change."""
    import ctypes

    for address, size in maps:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), 4)  # MADV_DONTNEED
