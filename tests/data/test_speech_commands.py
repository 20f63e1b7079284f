"""Speech Commands from a synthetic archive of the same layout, and the members that an archive may not have."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import http.server
import io
import logging
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voicecommand.data.sources import archives, speech_commands
from voicecommand.data.sources.speech_commands import (
    SILENCE,
    TEST_CLIPS,
    UNKNOWN,
    WANTED,
    _cut_silence,
    load_speech_commands,
)
from voicecommand.errors import InputError, StorageError

COLUMNS = ("audio", "label")
OTHERS = ("bed", "cat")
# Per word: takes of these speakers; the lists of the archive name those of the last two.
SPEAKERS = {"0a1b2c3d": "train", "1a1b2c3d": "train", "2a1b2c3d": "validation", "3a1b2c3d": "test"}

ZIP = b"PK\x05\x06" + bytes(18)

Member = tuple[tarfile.TarInfo, bytes]


def sound(seconds: float = 0.02, seed: int = 0) -> bytes:
    import soundfile

    data = np.random.default_rng(seed).integers(-3000, 3000, int(16_000 * seconds)).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, data, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def member(name: str, content: bytes = b"", **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def pack(path: Path, members: list[Member]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve words, four speakers, two noises of 12 s; names begin with ./ as in Google's."""
    clip = sound()
    members = [member("./", type=tarfile.DIRTYPE), member("./LICENSE", b"CC BY 4.0")]
    lists: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for word in (*WANTED, *OTHERS):
        for speaker, split in SPEAKERS.items():
            name = f"{word}/{speaker}_nohash_0.wav"
            lists[split].append(name)
            members.append(member(f"./{name}", clip))
    members += [member(f"./_background_noise_/noise{i}.wav", sound(12, i)) for i in range(2)]
    members.append(member("./validation_list.txt", "\n".join(lists["validation"]).encode()))
    members.append(member("./testing_list.txt", ("\n".join(lists["test"]) + "\n").encode()))
    return pack(tmp_path_factory.mktemp("archives") / "speech_commands.tar.gz", members)


@pytest.fixture(scope="module")
def test_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"./{word}/3a1b2c3d_nohash_0.wav" for word in WANTED]
    names += [f"./{UNKNOWN}/bed_3a1b2c3d_nohash_0.wav", f"./{SILENCE}/silence_0.wav"]
    return pack(tmp_path_factory.mktemp("archives") / "test_set.tar.gz", [member(name, sound()) for name in names])


def load(path: Any, **settings: Any) -> Any:
    return load_speech_commands(COLUMNS, path=str(path), **settings)


def test_all_words_keep_the_official_lists_and_their_speakers(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = load(archive, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    assert {name: len(split) for name, split in data.items()} == {"train": 24, "validation": 12, "test": 12}
    for name, split in data.items():
        assert set(split["speaker"]) == {speaker for speaker, side in SPEAKERS.items() if side == name}
        assert all(Path(path).is_file() for path in split["audio"])
    assert data["test"]["id"][0] == "bed/3a1b2c3d_nohash_0.wav" and data["test"]["label"][0] == "bed"
    ids = hashlib.sha256("\n".join(sorted(data["test"]["id"])).encode()).hexdigest()
    assert f"test set V2-35: 12 clips, sha256 of its sorted ids {ids}" in caplog.text
    assert "test set V2-35: 12 clips, and the official one has 11,005" in caplog.text
    assert "has 12 words, and version 0.02 has 35" in caplog.text


def test_the_word_is_the_transcript_where_it_is_asked_for(archive: Path) -> None:
    heard = load_speech_commands(("audio", "transcript"), path=str(archive))
    assert all(rows["transcript"] == rows["label"] for rows in heard.values())
    assert "transcript" not in load(archive)["train"].column_names


def test_a_test_set_of_the_official_size_gives_no_warning(
    archive: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEST_CLIPS, "V2-35", 12)
    load(archive)
    assert "official" not in caplog.text


def test_twelve_classes_have_a_tenth_of_unknown_words_and_of_silence(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = load(archive, classes=12)
    assert Counter(data["train"]["label"]) == {**dict.fromkeys(WANTED, 2), "unknown": 2, "silence": 2}
    assert Counter(data["test"]["label"]) == {**dict.fromkeys(WANTED, 1), "unknown": 1, "silence": 1}
    assert "test set is made here, and is not that of published figures" in caplog.text
    again = load(archive, classes=12)
    assert all(again[name]["audio"][:] == split["audio"][:] for name, split in data.items())


def test_silence_is_a_second_of_noise_that_no_other_split_has(tmp_path: Path) -> None:
    import soundfile

    noises = []
    for number in range(2):
        file = tmp_path / "_background_noise_" / f"noise{number}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sound(12, number))
        noises.append(soundfile.read(file, dtype="int16")[0])
    for split, ends in {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}.items():
        paths = _cut_silence(tmp_path, split, 20)
        assert len(set(paths)) == 20
        for path in paths:
            clip = soundfile.read(path, dtype="int16")[0]
            noise = noises[int(re.findall(r"noise(\d)", path)[0])]
            starts = [i for i in np.flatnonzero(noise == clip[0]) if np.array_equal(noise[i : i + 16_000], clip)]
            low, high = (share * len(noise) for share in ends)
            assert len(clip) == 16_000 and len(starts) == 1 and low <= starts[0] <= high - 16_000


def test_the_separate_test_set_is_taken_whole(
    archive: Path, test_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    test = load(archive, classes=12, test_path=str(test_archive))["test"]
    assert Counter(test["label"]) == dict.fromkeys((*WANTED, "unknown", "silence"), 1)
    speakers = dict(zip(test["label"], test["speaker"], strict=True))
    assert (speakers["unknown"], speakers["silence"]) == ("3a1b2c3d", "silence_0")
    assert "test set V2-12: 12 clips" in caplog.text and "the official one has 4,890" in caplog.text


def test_a_directory_is_read_as_the_archive_is(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")  # our own
    from_directory, from_archive = load(tmp_path), load(archive)
    assert all(from_directory[name]["id"][:] == split["id"][:] for name, split in from_archive.items())


def test_an_archive_is_extracted_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(archive)
    monkeypatch.setattr(archives, "_extract", lambda *_: pytest.fail("extracted again"))
    load(archive)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "0.03"}, r"data\.version=0\.03: there are 0\.01 and 0\.02"),
        ({"classes": 10}, r"data\.classes=10: version 0\.02 has 35 words, or 12 classes"),
        ({"version": "0.01", "classes": 35}, r"data\.classes=35: version 0\.01 has 30 words"),
        ({"test_path": "x"}, r"data\.test_path=x: the separate test set is that of data\.classes=12"),
        ({"sha256": "abc"}, r"the sha256 of data\.path must be 64 hex digits"),
        ({"sha256": "0" * 64}, r"its sha256 is [0-9a-f]{64}, and 0{64} was asked for"),
        ({"path": "nowhere.tar.gz"}, r"data\.path=nowhere\.tar\.gz: No such file"),
        ({"classes": 12, "test_path": "{archive}"}, r"no folder '_silence_': not a test set of 12 classes"),
    ],
)
def test_a_wrong_setting_names_its_key(archive: Path, settings: dict[str, Any], message: str) -> None:
    settings = {key: str(archive) if value == "{archive}" else value for key, value in settings.items()}
    with pytest.raises(InputError, match=message) as caught:
        load(**{"path": archive, **settings})
    assert "\n" not in str(caught.value)


def test_an_archive_with_another_sha256_leaves_nothing_extracted(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="delete it"):
        load(archive, sha256="0" * 64)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(load(archive, sha256=hashlib.sha256(archive.read_bytes()).hexdigest().upper())["train"]) == 24


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_archive_of_google_is_held_against_the_published_sha256(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetch(source: str, sha256: str | None, key: str) -> Path:
        asked.append(sha256)
        raise InputError("stop here")

    monkeypatch.setattr(speech_commands, "fetch", fetch)
    with pytest.raises(InputError, match="stop here"):
        load(f"{scheme}://download.tensorflow.org/data/speech_commands_v0.02.tar.gz")
    assert asked == list(speech_commands.PUBLISHED.values())[1:]


def test_columns_that_it_lacks_are_refused() -> None:
    with pytest.raises(InputError, match=r"columns \['text'\] were asked for"):
        load_speech_commands(("text", "label"), path="x")


def test_an_incomplete_set_is_refused(tmp_path: Path) -> None:
    clips = [member(f"yes/{speaker}_nohash_0.wav", sound()) for speaker in SPEAKERS]
    with pytest.raises(InputError, match=r"no validation_list\.txt"):
        load(pack(tmp_path / "a.tar.gz", clips))
    lists = [member("validation_list.txt", b"yes/2a1b2c3d_nohash_0.wav"), member("testing_list.txt", b"yes/no.wav")]
    with pytest.raises(InputError, match=r"1 clips of testing_list\.txt are not there, yes/no\.wav first"):
        load(pack(tmp_path / "b.tar.gz", clips + lists))


BAD_MEMBERS: dict[str, Member] = {
    "a path that climbs": member("../out.wav", b"x"),
    "a path that climbs within": member("yes/../../out.wav", b"x"),
    "an absolute path": member("/out.wav", b"x"),
    "a backslash": member("yes\\..\\out.wav", b"x"),
    "a symbolic link": member("yes/a.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("yes/a.wav", type=tarfile.LNKTYPE, linkname="../out.wav"),
    "a pipe": member("yes/a.wav", type=tarfile.FIFOTYPE),
    "a device": member("yes/a.wav", type=tarfile.CHRTYPE),
    "a name that is not UTF-8": member("yes/caf\udce9.wav", b"x"),
    "a line break in a name": member("yes/a\nb.wav", b"x"),
    "an escape sequence in a name": member("yes/\x1b[2Jb.wav", b"x"),
    "a name that turns": member("yes/\u202egnp.wav", b"x"),
    "a block device": member("yes/a.wav", type=tarfile.BLKTYPE),
    "a contiguous file that is sparse": member("yes/a.wav", type=tarfile.GNUTYPE_SPARSE),
    "an empty name": member("./", b"x"),
    "a folder's link": member("yes", type=tarfile.SYMTYPE, linkname="/tmp"),
    "a long path": member("/".join(["y" * 100] * 20), b"x"),
    "our own marker": member(archives.MARKER, b"{}"),
    "a member of many bytes": member("yes/a.wav", bytes(3000)),
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_an_archive_with_a_bad_member_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "MAX_MEMBER", 2000)
    file = pack(tmp_path / "a.tar.gz", [member("yes/fine.wav", b"x"), BAD_MEMBERS[case]])
    with pytest.raises(InputError, match=r"a\.tar\.gz: member '.*nothing of the archive is kept") as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == ["a.tar.gz"]


def test_totals_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL", 5000)
    with pytest.raises(InputError, match=r"member 'yes/5\.wav': too large, or too many"):
        load(pack(tmp_path / "a.tar.gz", [member(f"yes/{i}.wav", bytes(1000)) for i in range(9)]))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(InputError, match=r"member 'yes/3\.wav': too large, or too many"):
        load(pack(tmp_path / "b.tar.gz", [member(f"yes/{i}.wav") for i in range(9)]))


@pytest.mark.parametrize("where", ["a member", "a header", "after the end"])
def test_an_archive_that_grows_is_refused_while_it_does(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    file, zeros = tmp_path / "a.tar.gz", bytes(8 << 20)
    if where == "after the end":
        file.write_bytes(gzip.compress(gzip.decompress(pack(file, [member("yes/a.wav", b"x")]).read_bytes()) + zeros))
    elif where == "a header":
        info = tarfile.TarInfo("yes/a.wav")
        info.pax_headers = {"comment": "x" * len(zeros)}
        pack(file, [(info, b"")])
    else:
        pack(file, [member("yes/a.wav", zeros)])
    assert file.stat().st_size < 20_000
    with pytest.raises(InputError, match=r"a\.tar\.gz: grows to more than 100 times its size; nothing of the archive"):
        load(file)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == ["a.tar.gz"]


def test_a_full_cache_is_named(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def copyfileobj(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives.shutil, "copyfileobj", copyfileobj)
    with pytest.raises(StorageError, match=r"cache/voicecommand/archives: No space left.*HF_HOME=DIR"):
        load(archive)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("damage", ["zip", "cut", "flipped", "text", "twice", "below a file", "a long name"])
def test_a_damaged_archive_is_refused_in_one_line(archive: Path, tmp_path: Path, damage: str) -> None:
    data = bytearray(archive.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    content = {"cut": bytes(data[: len(data) // 2]), "text": b"<html>not found</html>", "zip": ZIP}.get(
        damage, bytes(data)
    )
    file = tmp_path / "a.tar.gz"
    file.write_bytes(content)
    if damage == "twice":
        pack(file, [member("yes/a.wav", b"x"), member("./yes/a.wav", b"y")])
    if damage == "below a file":
        pack(file, [member("yes", b"x"), member("yes/a.wav", b"y")])
    if damage == "a long name":
        pack(file, [member("y" * 300, b"x")])
    with pytest.raises(InputError, match=r"a\.tar\.gz: .*nothing of it is kept") as caught:
        load(file)
    assert "\n" not in str(caught.value)


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_an_address_is_downloaded_once(server: str, archive: Path) -> None:
    address = f"{server}/{archive.name}"
    assert len(load(address)["train"]) == 24
    with pytest.raises(InputError, match=r"missing\.tar\.gz: cannot be fetched: .*404.*fetch it yourself"):
        load(f"{server}/missing.tar.gz")
    again = archives._download(address, archives.Path(load(address)["train"]["audio"][0]).parents[3] / "downloads")
    assert again.read_bytes() == archive.read_bytes()
