"""Checks of an audio file's structure before it is decoded: WAV, FLAC, OGG and MP3."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

File = io.FileIO | io.BytesIO
# Bit rates of MPEG layer III in kbit/s and sampling rates, by MPEG version (ISO 11172-3 and 13818-3, 2.4.2.3).
MP3_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# Files that are often mistaken for audio: their first bytes, and what they are.
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the audio itself: fetch it by `git lfs pull`"),
    (b"<", "a web page or XML: the download went wrong"),
    (b"{", "JSON, not audio"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
)
NOT_READ = "which is not read here"
# Forms of audio that are not read: a place, the bytes there, and their names.
OTHER_FORMS = (
    (4, b"ftyp", "AAC or MP4"),
    (0, b"FORM", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"RIFX", "a big-endian WAV"),
    (0, b"riff", "W64"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"NIST_1A", "NIST SPHERE"),
    (0, b"wvpk", "WavPack"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75", "WMA"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\0\0\x01\xba", "MPEG video"),
    (28, b"Speex   ", "Speex"),
)


# Live recorders write these sizes, or nearly, before they know the true one; 0 is another. No such file is accepted.
MAX_CHUNKS = 1000  # of a WAV file; more are no WAV file of anybody
PLACEHOLDER = 0x7FFF0000


class BadAudio(Exception):
    """What is wrong with a file, without its name."""


class OtherForm(BadAudio):
    """The file is a recording of a form that is not read."""


@dataclass(frozen=True)
class Container:
    """What is to be decoded.

    Attributes:
        data: the frames of an MP3 without the tags around them, or a WAV with its true sizes; None is the file itself.
        samples: of each channel, if they were counted here.
        tolerance: by how many samples the decoder's count may differ.
        open_ended: the header does not say how long the recording is; it ends with the file.
    """

    data: bytes | None = None
    samples: int | None = None
    tolerance: int = 0
    open_ended: bool = False


def name_foreign(head: bytes) -> str | None:
    """What a file is that begins with `head` (64 bytes), or None if it is of a form that is read."""
    if head.startswith(b"ID3"):
        return None
    form = next((name for place, magic, name in OTHER_FORMS if head[place:].startswith(magic)), None)
    if form:
        return f"{form}, {NOT_READ}"
    is_wav = head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"
    if is_wav or head[:4] in (b"OggS", b"fLaC") or _read_mp3_header(head[:4]):
        return None
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    meant = next((what for magic, what in FOREIGN if text.startswith(magic)), None)
    return meant or f"not a WAV, FLAC, OGG or MP3 file: it begins with {bytes(head[:12])!r}"


def check_container(file: File, size: int, max_seconds: float) -> Container:
    """Check the structure of a file of `size` bytes without decoding it.

    Raises:
        BadAudio: not a file of these kinds, cut short, or longer than `max_seconds` (of an MP3).
    """
    file.seek(0)
    head = file.read(64)
    start = 0
    if head.startswith(b"ID3"):
        # an ID3v2 tag: its size has 7 bits a byte (id3.org, 3.1)
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        start += 10 if len(head) > 5 and head[5] & 0x10 else 0
        if start >= size:
            raise BadAudio("cut short: it ends within its ID3 tag")
        file.seek(start)
        head = file.read(64)
    if not start and (foreign := name_foreign(head)):
        raise (OtherForm if foreign.endswith(NOT_READ) else BadAudio)(foreign)
    if head[:4] in (b"RIFF", b"RF64"):
        return _check_wav(file, size)
    if head[:4] == b"OggS":
        _check_ogg(file, size)
    elif _read_mp3_header(head[:4]):
        return _check_mp3(file, start, size, max_seconds)
    return Container()


def _check_wav(file: File, size: int) -> Container:
    """Compare the size that the data chunk claims with the bytes that follow.

    Live recorders leave 0 or a size of over 2 GB there: such a recording ends with the file. RF64 has the size in a
    chunk of its own (EBU Tech 3306); it is decoded as RIFF.
    """
    file.seek(0)
    is_large, long_size = file.read(4) == b"RF64", 0
    position = 12
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        chunk = file.read(24)
        if len(chunk) < 8:
            break
        kind, claimed = struct.unpack("<4sI", chunk[:8])
        if kind == b"data":
            there = size - position - 8
            claimed = long_size if is_large and claimed == 0xFFFFFFFF else claimed
            open_ended = claimed >= PLACEHOLDER or (not claimed and not _are_chunks(file, position + 8, size))
            if not there or not (claimed or open_ended):
                raise BadAudio("0 samples")
            if claimed > there and not open_ended:
                raise BadAudio(f"cut short: its header claims {claimed:,} bytes of samples, and {there:,} are there")
            if not (open_ended or is_large):
                return Container()
            return Container(_with_sizes(file, position, there if open_ended else claimed), open_ended=open_ended)
        if kind == b"ds64" and len(chunk) == 24:
            long_size = int(struct.unpack("<Q", chunk[16:])[0])
        position += 8 + claimed + claimed % 2
    raise BadAudio("a WAV header without samples")


def _are_chunks(file: File, position: int, size: int) -> bool:
    """Whether whole chunks, or nothing, fill the file from `position` on."""
    for _ in range(MAX_CHUNKS):
        if position + 8 > size:
            return size <= position <= size + 1
        file.seek(position)
        kind, claimed = struct.unpack("<4sI", file.read(8))
        if not (kind.isascii() and kind.decode("ascii").isprintable()):
            return False
        position += 8 + claimed + claimed % 2
    return False


def _with_sizes(file: File, position: int, claimed: int) -> bytes:
    """The file up to the end of its samples as RIFF, with their size in the data chunk at `position`."""
    if position + claimed >= 1 << 32:
        raise BadAudio("a WAV of over 4 GB: cut it into commands")
    file.seek(0)
    content = bytearray(file.read(position + 8 + claimed))
    content[:8] = struct.pack("<4sI", b"RIFF", len(content) - 8)
    content[position + 4 : position + 8] = struct.pack("<I", claimed)
    return bytes(content)


def _check_ogg(file: File, size: int) -> None:
    """Check that every page is whole, and that the last one is marked as the last (RFC 3533, section 6)."""
    position, last = 0, False
    while not last:
        file.seek(position)
        header = file.read(27 + 255)
        if header[:4] != b"OggS" or len(header) < 27:
            raise BadAudio("cut short or damaged: its last page is not there")
        segments = header[27 : 27 + header[26]]
        position += 27 + header[26] + sum(segments)
        if len(segments) < header[26] or position > size:
            raise BadAudio("cut short: it ends within a page")
        last = bool(header[5] & 4)


def _read_mp3_header(header: bytes) -> tuple[int, int, int, int] | None:
    """(bytes of the frame, samples of each channel, Hz, offset of a Xing header), or None if no frame begins here.

    The bits of a frame header: ISO 11172-3, 2.4.1.3; the length of a frame: 2.4.3.1.
    """
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


def _check_mp3(file: File, start: int, size: int, max_seconds: float) -> Container:
    """Count the frames and compare with what the Xing header claims.

    Without that header libsndfile estimates the length and drops what comes after it, and tags at the end confuse it.
    So the frames are counted here, and the decoder gets only them. Encoders add up to 4 frames of delay and padding,
    which the decoder removes.
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
            raise BadAudio("cut short: it ends within a frame")
        if position == start and header[xing : xing + 4] in (b"Xing", b"Info"):
            flags, frames = struct.unpack(">II", header[xing + 4 : xing + 12])
            claimed = frames if flags & 1 else None
        else:
            count += 1
        if count * samples > (max_seconds + 1) * hertz:  # and a second for the padding
            raise BadAudio(f"over {max_seconds + 1:g} s long; at most {max_seconds:g} s are read: cut it into commands")
        position += length
    if claimed is not None and count < claimed:
        raise BadAudio(f"cut short or damaged: its header claims {claimed:,} frames, and {count:,} are there")
    file.seek(start)
    return Container(file.read(position - start), count * samples, 4 * samples)
