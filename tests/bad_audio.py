"""Makers of bad audio files: each case leaves a data directory with one thing that is wrong in it.

The table says nothing about how it is run: `make(directory)` writes folders or metadata.csv with clips,
`overrides` are what a run gets besides `data.path`, and `pattern` is what the one line must match.
"""
# ruff: noqa: E501  (one case a line is easier to read than the same cases over four)

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("on", "off")
CLIPS = 12  # of each label


@dataclass(frozen=True)
class Case:
    """One thing that is wrong.

    Attributes:
        id: in words.
        make: called with an empty directory that is there.
        pattern: a regular expression for the line.
        overrides: further words of the command line, as "data.key=value".
        by: who notices: "decoder", "loader" (of metadata.csv and folders), or "both".
        also_for_root: no, for what root may do and nobody else.
    """

    id: str
    make: Callable[[Path], Any]
    pattern: str
    overrides: tuple[str, ...] = ()
    by: str = "decoder"
    also_for_root: bool = True


def tone(samples: int = 4000, rate: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A noisy tone, float64 [samples, channels], peak below 0.5: neither silent nor clipped, unlike any other seed."""
    noise = np.random.default_rng(seed).standard_normal((samples, channels)) * 0.02
    wave = 0.3 * np.sin(2 * np.pi * (200 + 20 * seed) * np.arange(samples) / rate)
    return noise + wave[:, None]


def encode(waveform: np.ndarray, rate: int = 16_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=form, subtype=subtype)
    return file.getvalue()


def wav(data: bytes | None = None, rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = 1,
        claimed: int | None = None, before: bytes = b"") -> bytes:  # fmt: skip
    """A WAV file written by hand, so that its header may say anything."""
    data = (tone()[:, 0] * 32767).astype("<i2").tobytes() if data is None else data
    size = len(data) if claimed is None else claimed
    second = (rate * channels * bits // 8) & 0xFFFFFFFF
    form = struct.pack("<HHIIHH", tag, channels, rate, second, (channels * bits // 8) & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + before + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


# Sizes of the whole and of the samples that live recorders and pipes leave in a WAV: Python's wave and GStreamer, SoX,
# arecord, ffmpeg.
LIVE_SIZES = ((0, 0), (36, 0), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000), (0xFFFFFFFF, 0xFFFFFFFF))


def live(riff: int, size: int) -> bytes:
    """A WAV with these sizes in its header."""
    data = wav(claimed=size)
    return data[:4] + struct.pack("<I", riff) + data[8:]


def rf64_without_size() -> bytes:
    """An RF64 with zeros in its chunk of sizes."""
    data = encode(tone(), form="RF64")
    return data[:20] + bytes(24) + data[44:]


def of_floats(*values: float, dtype: str = "<f4") -> bytes:
    """A WAV of floats with ``values`` in its midst."""
    waveform = tone()[:, 0].astype(dtype)
    waveform[2000 : 2000 + len(values)] = values
    return wav(waveform.tobytes(), bits=np.dtype(dtype).itemsize * 8, tag=3)


def flac(seconds: float = 0.25, rate: int = 16_000) -> bytes:
    return encode(tone(int(seconds * rate), rate), rate, "FLAC")


def silence_flac(minutes: float, says_length: bool = True) -> bytes:
    """A small file of much silence; a stream's header says nothing about its length (36 bits from byte 21)."""
    data = bytearray(encode(np.zeros(int(minutes * 60 * 8000), np.int16), 8000, "FLAC"))
    return bytes(data) if says_length else flac_total(bytes(data), 0)


def flac_total(data: bytes, total: int) -> bytes:
    """The same FLAC with another number of samples in its header."""
    return data[:21] + bytes([data[21] & 0xF0 | total >> 32]) + struct.pack(">I", total & 0xFFFFFFFF) + data[26:]


def flac_of_nothing() -> bytes:
    """A whole header with its one obligatory block, marked as the last, and no frame."""
    return b"fLaC\x80\0\0\x22" + flac_total(flac(), 0)[8:42]


def mp3(samples: int = 16_000, rate: int = 16_000, channels: int = 1) -> bytes:
    return encode(tone(samples, rate, channels), rate, "MP3")


def mp3_frames(data: bytes) -> list[int]:
    """Where the frames of an MPEG-2 layer III file of 16 kHz begin."""
    rates = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    starts, position = [], 0
    while position < len(data):
        starts.append(position)
        position += 72_000 * rates[data[position + 2] >> 4] // 16_000 + (data[position + 2] >> 1 & 1)
    return starts


def mp3_without_xing(varying: bool) -> bytes:
    """Without the first frame, which holds the Xing header; a loud beginning promises large frames, and so few of them."""
    import soundfile

    waveform = np.concatenate(
        [tone(8000) + np.random.default_rng(0).standard_normal((8000, 1)) * 0.1, np.zeros((24_000, 1))]
    )
    file = io.BytesIO()
    mode = "VARIABLE" if varying else "CONSTANT"
    with soundfile.SoundFile(file, "w", 16_000, 1, format="MP3", bitrate_mode=mode, compression_level=0.5) as sound:
        sound.write(waveform)
    data = file.getvalue()
    return data[mp3_frames(data)[1] :]


def ogg(seconds: float = 4.0, subtype: str = "VORBIS") -> bytes:
    return encode(tone(int(seconds * 16_000)), 16_000, "OGG", subtype)


def ogg_pages(data: bytes) -> list[int]:
    starts, position = [], 0
    while position < len(data):
        starts.append(position)
        segments = data[position + 26]
        position += 27 + segments + sum(data[position + 27 : position + 27 + segments])
    return starts


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def good_clips(directory: Path) -> list[list[str]]:
    """24 good clips in folders by label; answers the rows of a metadata.csv."""
    rows = []
    for number in range(len(LABELS) * CLIPS):
        label = LABELS[number % len(LABELS)]
        (directory / label).mkdir(exist_ok=True)
        name = f"{label}/{number}.wav"
        (directory / name).write_bytes(wav((tone(seed=number)[:, 0] * 32767).astype("<i2").tobytes()))
        rows.append([name, label])
    return rows


def write_table(directory: Path, rows: list[list[str]], header: str = "file_name,label") -> None:
    (directory / "metadata.csv").write_text("\n".join([header, *(",".join(row) for row in rows), ""]))


def good(directory: Path) -> None:
    write_table(directory, good_clips(directory))


def with_file(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Row 3 of metadata.csv names a file that ``make`` leaves."""

    def build(directory: Path) -> None:
        rows = good_clips(directory)
        rows[1][0] = "off/bad.wav"
        write_table(directory, rows)
        make(directory / "off" / "bad.wav")

    return build


def holding(build: Callable[[], bytes]) -> Callable[[Path], None]:
    return with_file(lambda path: path.write_bytes(build()))


def named(name: str) -> Callable[[Path], None]:
    """Row 3 of metadata.csv names ``name``."""

    def build(directory: Path) -> None:
        rows = good_clips(directory)
        rows[1][0] = name
        write_table(directory, rows)

    return build


def sparse(path: Path, size: int, header: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)


def three_hours(path: Path) -> None:
    size = 3 * 3600 * 8000
    sparse(path, size + 44, wav(b"", rate=8000, bits=8, claimed=size))


def listen(path: Path) -> None:
    """A socket; bound by a short relative name, as its path may be too long for one."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(before)


def forbidden(path: Path) -> None:
    path.write_bytes(wav())
    path.chmod(0)


# The loader quotes the name as it is in the table, and the decoder has the whole path.
ROW = r"metadata\.csv:3: '?\S*off/bad\.wav'?:? "
CUT = ROW + "cut short"

DECODER_CASES = [
    # not audio
    Case("empty file", holding(lambda: b""), ROW + r"the file is empty \(0 bytes\)"),
    Case("text", holding(lambda: b"turn the light on\n" * 40), ROW + r"not a WAV, FLAC, OGG or MP3 file: it begins with b'turn the lig'"),
    Case("web page", holding(lambda: b"\n<!DOCTYPE html><html>404 Not Found</html>"), ROW + "a web page or XML: the download went wrong"),
    Case("JSON", holding(lambda: b'{"error": "quota exceeded"}'), ROW + "JSON, not audio"),
    Case("Git LFS pointer", holding(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), ROW + "a Git LFS pointer.*git lfs pull"),
    Case("zip archive", holding(lambda: b"PK\x03\x04" + bytes(100)), ROW + "a zip archive: unpack it"),
    Case("gzip archive", holding(lambda: b"\x1f\x8b\x08" + bytes(100)), ROW + "a gzip archive: unpack it"),
    Case("picture", holding(lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)), ROW + r"not a WAV, FLAC, OGG or MP3 file: it begins with b'\\x89PNG"),
    Case("zero bytes", holding(lambda: bytes(32_000)), ROW + r"not a WAV, FLAC, OGG or MP3 file"),
    Case("samples without a header", holding(lambda: wav()[44:]), ROW + "not a WAV, FLAC, OGG or MP3 file"),
    Case("AAC", holding(lambda: b"\0\0\0\x20ftypM4A " + bytes(100)), ROW + "AAC or MP4, which is not read here"),
    Case("WebM", holding(lambda: b"\x1aE\xdf\xa3" + bytes(100)), ROW + "WebM or Matroska, which is not read"),
    Case("AIFF", holding(lambda: encode(tone(), form="AIFF")), ROW + "AIFF, which is not read here"),
    Case("AU", holding(lambda: encode(tone(), form="AU")), ROW + "AU, which is not read here"),
    Case("big-endian WAV", holding(lambda: b"RIFX" + wav()[4:]), ROW + "a big-endian WAV"),
    Case("AMR", holding(lambda: b"#!AMR\n" + bytes(100)), ROW + "AMR, which is not read here; this converts it: mv .*bad.wav .*bad.other && ffmpeg"),
    Case("WMA", holding(lambda: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(100)), ROW + "WMA, which is not read here"),
    Case("Speex", holding(lambda: ogg()[:28] + b"Speex   " + ogg()[36:]), ROW + "Speex, which is not read here"),
    Case("RIFF of another kind", holding(lambda: b"RIFF\x40\0\0\0AVI LIST" + bytes(100)), ROW + "not a WAV, FLAC, OGG or MP3 file: it begins with b'RIFF"),
    Case("OGG of video", holding(lambda: ogg()[:28] + b"\x80theora" + ogg()[35:]), ROW + "cut short, damaged or of an unknown kind"),
    # cut short or damaged
    Case("WAV cut in half", holding(lambda: half(wav())), CUT + r": its header claims 8,000 bytes of samples, and 3,978 are there"),
    Case("WAV cut in its header", holding(lambda: wav()[:20]), ROW + "a WAV header without samples"),
    Case("WAV of a header only", holding(lambda: wav()[:36]), ROW + "a WAV header without samples"),
    Case("FLAC cut in half", holding(lambda: half(flac())), CUT + ", damaged or of an unknown kind"),
    Case("FLAC cut in its header", holding(lambda: flac()[:30]), CUT + ", damaged or of an unknown kind"),
    Case("FLAC with a bit flipped", holding(lambda: flipped(flac(1.0), 12_000)), CUT + ", damaged or of an unknown kind"),
    Case("MP3 cut in half", holding(lambda: half(mp3())), CUT + ": it ends within a frame"),
    Case("MP3 cut between frames", holding(lambda: mp3()[: mp3_frames(mp3())[9]]), CUT + r" or damaged: its header claims \d+ frames, and 8 are there"),
    Case("MP3 cut in its tag", holding(lambda: b"ID3\x04\0\0\0\0\x20\0" + bytes(500)), CUT + ": it ends within its ID3 tag"),
    Case("MP3 cut in half behind a tag with a footer", holding(lambda: b"ID3\x04\0\x10\0\0\0\x10" + bytes(16) + b"3DI\x04\0\x10\0\0\0\x10" + half(mp3())),
         CUT + ": it ends within a frame"),
    Case("MP3 with a frame overwritten", holding(lambda: mp3()[: mp3_frames(mp3())[5]] + bytes(30) + mp3()[mp3_frames(mp3())[5] + 30 :]),
         CUT + r" or damaged: its header claims \d+ frames, and 4 are there"),
    Case("MP3 of varying bit rate without its header", holding(lambda: mp3_without_xing(varying=True)), ROW + r".*[\d,]+ samples are claimed, and [\d,]+ can be decoded"),
    Case("OGG cut within a page", holding(lambda: ogg()[:-100]), CUT + ": it ends within a page"),
    Case("OGG cut between pages", holding(lambda: ogg()[: ogg_pages(ogg())[-1]]), CUT + " or damaged: its last page is not there"),
    Case("OGG with a bit flipped", holding(lambda: flipped(ogg(), ogg_pages(ogg())[4] + 300)), CUT + r" or damaged: 64,000 samples are claimed, and \d\d,\d{3} can be decoded"),
    Case("Opus cut in half", holding(lambda: half(ogg(subtype="OPUS"))), CUT + ": it ends within a page"),
    # a header that does not fit
    Case("no samples", holding(lambda: wav(b"")), ROW + "0 samples"),
    Case("FLAC of no samples", holding(flac_of_nothing), ROW + "0 samples: no command is shorter"),
    Case("WAV that claims twice its samples", holding(lambda: wav(claimed=16_000)), CUT + ": its header claims 16,000 bytes"),
    Case("WAV that claims 1 GB", holding(lambda: wav(claimed=2**30)), CUT + ": its header claims 1,073,741,824 bytes"),
    Case("RF64 cut in half", holding(lambda: half(encode(tone(), form="RF64"))), CUT + r": its header claims 8,000 bytes of samples, and 3,948 are there"),
    Case("live recorder's header of nothing", holding(lambda: wav(b"", claimed=0xFFFFFFFF)), ROW + "0 samples"),
    Case("no samples before a chunk", holding(lambda: wav(b"LIST\x05\0\0\0INFO \0", claimed=0)), ROW + "0 samples"),
    Case("live recorder's header of 70 seconds", holding(lambda: wav(bytes(70 * 16_000), rate=8000, claimed=0)), ROW + r"70\.0 s long; at most 60 s"),
    Case("FLAC that claims ten times its samples", holding(lambda: flac_total(flac(), 40_000)), CUT),
    Case("chunk of 4 GB before the samples", holding(lambda: wav(before=b"LIST\xf0\xff\xff\xff")), ROW + "a WAV header without samples"),
    Case("1,024 channels", holding(lambda: wav(channels=1024)), ROW + "1,024 channels; at most 8 are read"),
    Case("9 channels", holding(lambda: encode(tone(channels=9))), ROW + "9 channels; at most 8"),
    Case("no channels", holding(lambda: wav(channels=0)), ROW + "cut short, damaged or of an unknown kind"),
    Case("rate of 0", holding(lambda: wav(rate=0)), ROW + "cut short, damaged or of an unknown kind"),
    Case("rate of 1", holding(lambda: wav(rate=1)), ROW + "a sampling rate of 1 Hz; 4,000 to 192,000 are read"),
    Case("rate of 2^31 - 1", holding(lambda: wav(rate=2**31 - 1)), ROW + "a sampling rate of 2,147,483,647 Hz"),
    Case("rate of 2^31", holding(lambda: wav(rate=2**31)), ROW + "cut short, damaged or of an unknown kind"),
    Case("no bits", holding(lambda: wav(bits=0)), ROW + "cut short, damaged or of an unknown kind"),
    Case("unknown coding", holding(lambda: wav(tag=0x99)), ROW + r"cut short, damaged or of an unknown kind"),
    # too long, too short
    Case("3 hours", with_file(three_hours), ROW + r"10,800\.0 s long; at most 60 s are read"),
    Case("61 seconds of OGG", holding(lambda: encode(tone(61 * 8000, 8000), 8000, "OGG")), ROW + r"61\.0 s long; at most 60 s"),
    Case("70 seconds of MP3", holding(lambda: mp3(70 * 8000, 8000)), ROW + r"over 61 s long; at most 60 s are read"),
    Case("10 minutes of silence in a small FLAC", holding(lambda: silence_flac(10)), ROW + r"600\.0 s long"),
    Case("small FLAC that does not say it is long", holding(lambda: silence_flac(2, says_length=False)), ROW + "longer than 60 s, which its header does not say"),
    Case("file of 100 GB", with_file(lambda path: sparse(path, 100 << 30, wav())), ROW + "102,400 MB are more than 60 s of audio can have"),
    Case("one sample", holding(lambda: wav(b"\x01\x02")), ROW + "1 sample: no command is shorter than 0.01 s"),
    Case("5 milliseconds", holding(lambda: wav(bytes(160))), ROW + "80 samples: no command is shorter"),
    # values
    Case("NaN", holding(lambda: of_floats(np.nan)), ROW + r"sample 2,000 \(0\.125 s\) is nan, which is not a number"),
    Case("infinity", holding(lambda: of_floats(0.1, -np.inf)), ROW + r"sample 2,001 \(0\.125 s\) is -inf, which is not a number"),
    Case("amplitude of 1e30", holding(lambda: of_floats(1e30)), ROW + r"sample 2,000 \(0\.125 s\) is 1e\+30, which is far outside -1 to 1: scale it"),
    Case("16-bit values as floats", holding(lambda: wav((tone()[:, 0] * 32767).astype("<f4").tobytes(), bits=32, tag=3)), ROW + r"sample 0 \(0\.000 s\) is \S+, which is far outside -1 to 1"),
    Case("double that is too large for a float", holding(lambda: of_floats(1e300, dtype="<f8")), ROW + r"sample 2,000 \(0\.125 s\) is inf, which is not a number"),
    # what is no regular file, or can't be opened
    Case("missing file", named("off/bad.wav"), ROW + "(no such file|is not there)", by="both"),
    Case("pipe", with_file(os.mkfifo), ROW + "(is )?a pipe,.* not an audio file", by="both"),
    Case("directory", with_file(Path.mkdir), ROW + "(is )?a folder, not an audio file", by="both"),
    Case("socket", with_file(listen), ROW + "(a socket,|is a pipe, a socket or a device,) not an audio file", by="both"),
    Case("dangling link", with_file(lambda path: path.symlink_to("nothing.wav")), ROW + "(no such file|is not there)", by="both"),
    Case("link to itself", with_file(lambda path: path.symlink_to(path)), r"metadata\.csv:3: .*bad\.wav", by="both"),
    Case("file where a folder should be", named("off/1.wav/bad.wav"), r"metadata\.csv:3: \S*1\.wav/bad\.wav", by="both"),
    Case("name that is too long", named(f"off/{'a' * 300}.wav"), r"metadata\.csv:3: \S*aaa\.wav'?:? can't be read: File name too long", by="both"),
    Case("no permission", with_file(forbidden), ROW + "can't be read: Permission denied", also_for_root=False, by="both"),
]  # fmt: skip


def table(*rows: str, header: str = "file_name,label") -> Callable[[Path], None]:
    """A metadata.csv of the good clips, but with ``rows`` in the place of the first few."""

    def build(directory: Path) -> None:
        clips = good_clips(directory)
        (directory / "outside").mkdir()
        write_table(directory, [[row] for row in rows] + clips[len(rows) :], header)

    return build


def folders(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Folders named by label, without a table, and one change to them."""

    def build(directory: Path) -> None:
        good_clips(directory)
        change(directory)

    return build


def link_outside(path: Path) -> None:
    outside = path.parents[2] / "outside.wav"
    outside.write_bytes(wav())
    path.symlink_to(outside)


def not_utf8(directory: Path) -> None:
    with open(os.fsencode(directory / "off") + b"/caf\xe9.wav", "wb") as file:
        file.write(wav())


def latin_table(directory: Path) -> None:
    good(directory)
    path = directory / "metadata.csv"
    path.write_bytes(path.read_bytes().replace(b"off/1.wav", b"off/\xe9.wav"))


def table_twice(directory: Path) -> None:
    good(directory)
    (directory / "metadata.jsonl").write_text('{"file_name": "on/0.wav", "label": "on"}\n')


def empty_clips(directory: Path) -> None:
    for path in directory.rglob("*.wav"):
        path.unlink()


def drop_label(directory: Path) -> None:
    for path in (directory / "off").iterdir():
        path.unlink()
    (directory / "off").rmdir()


LOADER_CASES = [
    Case(".. in metadata", table("on/0.wav,on", "../outside.wav,off"), r"metadata\.csv:3: '\S+' leaves the folder by '\.\.'; files must lie in it", by="loader"),
    Case(".. inside a path", table("on/0.wav,on", "off/../../../etc/hosts,off"), r"metadata\.csv:3: '\S+' leaves the folder by '\.\.'; files must lie in it", by="loader"),
    Case("absolute path", table("on/0.wav,on", "/etc/hosts,off"), r"metadata\.csv:3: '/etc/hosts' is an absolute path", by="loader"),
    Case("link outside the folder", with_file(link_outside), ROW + "leaves the folder by a link: copy the file into it", by="loader"),
    Case("NUL in a name", table("on/0.wav,on", "off/\0.wav,off"), r"metadata\.csv:3: a NUL byte", by="loader"),
    Case("name that is not UTF-8", folders(not_utf8), r"caf\\xe9\.wav.*UTF-8", by="loader"),
    Case("metadata that is not UTF-8", latin_table, r"metadata\.csv:3: byte 0xe9 is not UTF-8", by="loader"),
    Case("label column misspelt", table(header="file_name,lable"), r"metadata\.csv: no column 'label' for label.*'lable'", by="loader"),
    Case("label column of another name", good, r"metadata\.csv: no column 'intent' for label", ("data.column_map.label=intent",), by="loader"),
    Case("no column of names", table(header="clip,label"), r"metadata\.csv: .*file_name", by="loader"),
    Case("empty label", table("on/0.wav,on", "off/1.wav,"), r"metadata\.csv:3", by="loader"),
    Case("empty name", table("on/0.wav,on", ",off"), r"metadata\.csv:3", by="loader"),
    Case("cell too many", table("on/0.wav,on", "off/1.wav,off,x"), r"metadata\.csv:3: 3 cells where the header has 2", by="loader"),
    Case("metadata without rows", lambda directory: write_table(directory, []), r"metadata\.csv: no rows", by="loader"),
    Case("address in metadata", table("on/0.wav,on", "https://example.org/1.wav,off"), r"metadata\.csv:3: 'https://example\.org/1\.wav' is an address: download it first", by="loader"),
    Case("recordings that are in no label's folder", folders(lambda path: (path / "on" / "0.wav").rename(path / "0.wav")), r"/0\.wav: has no label", by="loader"),
    Case("folder within that of a label", folders(lambda path: (path / "on" / "more").mkdir()), r"on/more: a folder within the folder of a label", by="loader"),
    Case("recordings of a kind that is not read", folders(lambda path: (path / "on" / "0.wav").rename(path / "on" / "0.pcm").write_bytes(wav()[44:])), r"on/0\.pcm: samples without a header.*ffmpeg -nostdin -v error -f s16le", by="loader"),
    Case("metadata twice", table_twice, r"metadata\.csv and \S+metadata\.jsonl both name recordings", by="loader"),
    Case("split column of unknown names", good, r"data\.split\.column=part, and the columns there are 'file_name', 'label'", ("data.split.column=part",), by="loader"),
    Case("link to a device", with_file(lambda path: path.symlink_to("/dev/zero")), ROW + "leaves the folder by a link", by="loader"),
    Case("empty directory", lambda directory: None, r"data: no recordings \(.*\) in folders named by label", by="loader"),
    Case("folders without clips", folders(empty_clips), r"data: no recordings \(.*\) in folders named by label", by="loader"),
    Case("one label only", folders(drop_label), r"one label only, 'on'", by="loader"),
]  # fmt: skip
CASES = DECODER_CASES + LOADER_CASES


def clean_clips() -> dict[str, tuple[bytes, bool, bool]]:
    """Good files of every kind: name -> (bytes, is resampled, is mixed down)."""
    found: dict[str, tuple[bytes, bool, bool]] = {}
    kinds = [
        ("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM")
    ]
    kinds += [
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
    ]  # type: ignore[list-item]
    for form, subtype in kinds:
        for rate in (8000, 16_000, 22_050, 44_100, 48_000):
            for channels in (1, 2):
                if subtype == "OPUS" and rate in (22_050, 44_100):
                    continue  # Opus has no such rate
                data = encode(tone(rate // 2, rate, channels), rate, form, subtype)
                name = f"{subtype or form}-{rate}-{channels}.{form[:4].lower()}"
                found[name] = (data, rate != 16_000, channels > 1)
    tagged = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
    found |= {
        "six channels.wav": (encode(tone(channels=6)), False, True),
        "streamed.wav": (wav(claimed=0xFFFFFFFF), False, False),
        **{f"live recorder {riff:x} {size:x}.wav": (live(riff, size), False, False) for riff, size in LIVE_SIZES},
        "RF64.wav": (encode(tone(), form="RF64"), False, False),
        "live RF64.wav": (rf64_without_size(), False, False),
        "streamed.flac": (flac_total(flac(), 0), False, False),
        "chunks.wav": (wav(before=b"LIST\x05\0\0\0INFO \0") + b"id3 \x04\0\0\0abcd", False, False),
        "another ending.mp3": (wav(), False, False),
        "no ending": (flac(), False, False),
        "tagged.flac": (tagged + flac(), False, False),
        "tagged.mp3": (tagged + mp3() + b"TAG" + bytes(125), False, False),
        "large tag behind.mp3": (mp3() + b"APETAGEX" + bytes(5000), False, False),
        "constant.mp3": (mp3_without_xing(varying=False), False, False),
        "constant, tagged.mp3": (tagged + mp3_without_xing(varying=False) + b"APETAGEX" + bytes(3000), False, False),
        "junk behind.ogg": (ogg(1.0) + b"x" * 100, False, False),
        "overshoot.wav": (of_floats(1.3, -1.2), False, False),
        "10 ms.wav": (wav(wav()[44 : 44 + 320]), False, False),
        "60 s.flac": (flac(60.0), False, False),
        "é 日本.wav": (wav(), False, False),
    }  # fmt: skip
    return found
