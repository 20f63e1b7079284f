"""Folders of recordings: each layout gives the same rows, and what is ambiguous or leaves the folder is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bad_audio import encode, tone
from voicecommand.audio.decode import read_audio
from voicecommand.data.placing import position
from voicecommand.data.sources.file import load_files
from voicecommand.data.sources.folder import load_folder
from voicecommand.errors import InputError

COLUMNS = ("audio", "label")
WHOLE = {"validation": 0, "test": 0}


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str | bytes = "") -> str:
    """A file; a recording is anything of that name, as nothing is decoded here."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else (content or name).encode("utf-8"))
    return name


def load(path: str = "d", **settings: Any) -> Any:
    return load_folder(COLUMNS, path=path, **{"split": WHOLE, **settings})


def rows(split: Any) -> list[tuple[str, str]]:
    return list(zip(split["audio"][:], split["label"][:], strict=True))


def test_folders_named_by_label_are_rows_in_order_with_their_paths() -> None:
    for name in ("yes/b.wav", "yes/a.FLAC", "no/c.mp3", "no/.hidden.wav", "README.md"):
        write(f"d/{name}")
    train = load()["train"]
    assert rows(train) == [("d/no/c.mp3", "no"), ("d/yes/a.FLAC", "yes"), ("d/yes/b.wav", "yes")]
    assert train["origin"][:] == train["audio"][:] and train["id"][:] == ["no/c.mp3", "yes/a.FLAC", "yes/b.wav"]


def test_a_metadata_file_names_recordings_labels_and_speakers() -> None:
    write("d/one/a.wav")
    write("d/b.wav")
    write("d/metadata.csv", "file_name,word,speaker\none/a.wav,on,anna\nb.wav,off,ben\n")
    train = load(column_map={"label": "word"})["train"]
    assert rows(train) == [("d/one/a.wav", "on"), ("d/b.wav", "off")]
    assert train["origin"][:] == ["d/metadata.csv:2", "d/metadata.csv:3"]
    assert train["speaker"][:] == ["anna", "ben"]


def test_a_metadata_file_gives_transcripts_which_out_of_scope_recordings_need_not_have() -> None:
    for split in ("train", "out_of_scope_test", "out_of_scope_validation"):
        write(f"d/{split}/a.wav")
    write("d/train/metadata.csv", "file_name,said,label\na.wav,lights on,x\n")
    write("d/out_of_scope_test/metadata.csv", "file_name\na.wav\n")
    settings = {"split": {"validation": 0, "test": 0}, "column_map": {"transcript": "said"}}
    found = load_folder(("audio", "transcript"), path="d", **settings)
    assert {name: found[name]["transcript"][:] for name in found} == {
        "train": ["lights on"], "out_of_scope_validation": [""], "out_of_scope_test": [""],
    }  # fmt: skip


def test_json_lines_are_metadata_too_and_the_path_column_may_be_called_otherwise() -> None:
    write("d/a.wav")
    write("d/metadata.jsonl", json.dumps({"path": "a.wav", "label": "on"}))
    assert rows(load(column_map={"audio": "path"})["train"]) == [("d/a.wav", "on")]


def test_split_folders_hold_labels_or_metadata_each() -> None:
    write("d/train/on/a.wav")
    write("d/test/x.wav")
    write("d/test/metadata.csv", "file_name,label\nx.wav,on\n")
    write("d/out_of_scope_test/talk.wav")
    data = load()
    assert {name: rows(split) for name, split in data.items()} == {
        "train": [("d/train/on/a.wav", "on")],
        "test": [("d/test/x.wav", "on")],
        "out_of_scope_test": [("d/out_of_scope_test/talk.wav", "out_of_scope")],
    }


def test_a_split_may_be_called_otherwise_there() -> None:
    write("d/train/on/a.wav")
    write("d/validation/on/b.wav")
    data = load(splits={"train": "train", "test": "validation"})
    assert {name: split["audio"][:] for name, split in data.items()} == {
        "train": ["d/train/on/a.wav"],
        "test": ["d/validation/on/b.wav"],
    }


@pytest.mark.parametrize("with_table", [False, True])
@pytest.mark.parametrize(
    "names",
    [("Train", "Dev", "Test"), ("training", "val", "testing"), ("TRAIN", "eval", "TEST"), ("train", "valid", "test")],
)
def test_folders_with_other_names_of_the_splits_are_splits(names: tuple[str, str, str], with_table: bool) -> None:
    for name in names:
        write(f"d/{name}/on/a.wav")
        if with_table:
            write(f"d/{name}/metadata.csv", "file_name,label\non/a.wav,on\n")
    data = load()
    assert {split: rows(data[split]) for split in data} == {
        split: [(f"d/{name}/on/a.wav", "on")]
        for split, name in zip(("train", "validation", "test"), names, strict=True)
    }


def test_two_names_of_a_split_are_told_apart_as_the_error_says() -> None:
    for name in ("train", "dev", "eval"):
        write(f"d/{name}/on/a.wav")
    data = load(splits={"validation": "dev", "test": "eval"})
    assert [split["audio"][0] for split in data.values()] == ["d/train/on/a.wav", "d/dev/on/a.wav", "d/eval/on/a.wav"]


def test_what_systems_leave_in_a_folder_is_passed_over_by_name_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in (
        "on/a.wav", "on/._a.wav", "on/.DS_Store", "on/Thumbs.db", "__MACOSX/on/._a.wav", "on/@eaDir/a.wav/x.wav"
    ):  # fmt: skip
        write(f"d/{name}")
    assert rows(load()["train"]) == [("d/on/a.wav", "on")]
    (line,) = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert line.startswith("d: 5 hidden files and files of a system are passed over: 'd/__MACOSX', ")
    write("d/metadata.csv", "file_name,label\non/a.wav,on\n")
    caplog.clear()
    load()
    assert "does not name" not in caplog.text, "and not counted among recordings without a row"


def test_files_that_are_no_recordings_by_their_names_are_counted_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("on/a.wav", "on/a.unknown", "on/a.txt"):
        write(f"d/{name}")
    assert len(load()["train"]) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "d: 2 files are not named like recordings, and not read: 'on/a.txt', 'on/a.unknown'"
    ]


M4A = b"\0\0\0\x20ftypM4A " + bytes(100)


@pytest.fixture
def ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name that copies a file as `ffmpeg -i FROM TO` would convert it; its options are checked."""
    script = (
        "#!/bin/sh\n"
        'test "$1 $2 $3" = "-nostdin -v error" || exit 1; shift 3\n'
        'if [ "$1" = -f ]; then test "$*" = "-f s16le -ar 16000 -ac 1 -i $8 $9" || exit 1; shift 6; fi\n'
        'test "$1" = -i && test ! -e "$3" && cp "$2" "$3"\n'
    )
    Path(write("bin/ffmpeg", script)).chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.getcwd()}/bin:{os.environ['PATH']}")


def paste_remedy(error: InputError) -> None:
    """Run the command at the end of a line."""
    subprocess.run(["sh", "-c", str(error).partition(": find ")[2].join(["find ", ""])], check=True)


@pytest.mark.usefixtures("ffmpeg")
def test_recordings_of_other_forms_are_refused_with_a_command_that_converts_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("off/é (1).m4a", "off/a.WMA", "on/it's.m4a"):
        write(f"d d/{name}", M4A)
    write("d d/on/b.wav")
    write("d d/on/._it's.m4a")
    with pytest.raises(InputError) as caught:
        load("d d")
    assert str(caught.value).startswith(
        "d d/off/a.WMA: AAC or MP4, which is not read here (the first of 3 recordings that are not read); "
        "this converts them: find 'd d' -type f ! -name '.*' "
    )
    assert "\n" not in str(caught.value)
    paste_remedy(caught.value)
    names = ["off/a.wav", "off/é (1).wav", "on/b.wav", "on/it's.wav"]
    assert load("d d")["train"]["id"][:] == names
    assert "d d: 3 recordings of other forms are not read: a converted one of the same name is beside each" in (
        caplog.text
    )


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("ending", ["raw", "pcm", "sph", "wv", "weba", "aac", "amr", "3gp", "aiff", "caf", "mpeg"])
def test_no_recording_is_left_out_because_of_its_ending(ending: str) -> None:
    write(f"d/on/a.{ending}")
    write("d/on/b.wav")
    with pytest.raises(InputError, match=rf"^d/on/a\.{ending}: .* this converts it( |:)") as caught:
        load()
    paste_remedy(caught.value)
    assert load()["train"]["id"][:] == ["on/a.wav", "on/b.wav"]


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("name", ["it's.wav", "a b.m4a"])
def test_one_recording_of_another_form_is_converted_by_the_command_of_the_decoder(name: str) -> None:
    write(f"d/{name}", M4A)
    with pytest.raises(
        InputError, match=rf"^d/{name}: AAC or MP4, which is not read here; this converts it: "
    ) as error:
        read_audio(f"d/{name}")
    subprocess.run(["sh", "-c", str(error.value).partition("converts it: ")[2]], check=True)
    assert Path(f"d/{name}").with_suffix(".wav").read_bytes() == M4A


@pytest.mark.parametrize("ending", ["wave", "WAVE", "bwf", "mpeg", "mpga", "rf64", "aac", "raw"])
def test_a_recording_of_a_form_that_is_read_is_read_whatever_its_ending(ending: str) -> None:
    write(f"d/on/a.{ending}", encode(tone(), form="MP3" if ending in ("mpeg", "mpga") else "WAV"))
    assert load()["train"]["id"][:] == [f"on/a.{ending}"]


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_table_that_names_recordings_of_other_forms_is_refused_and_its_remedy_changes_it(source: str) -> None:
    table = write("d/metadata.csv", "file_name,audio,label\na.wav,a.wav,on\nb.m4a,b.m4a,on\nc.M4A,c.M4A,off\n")
    write("d/a.wav")
    write("d/b.m4a", M4A)
    write("d/c.M4A", M4A)

    def read() -> Any:
        return load() if source == "folder" else load_files(COLUMNS, table, split=WHOLE)

    with pytest.raises(InputError, match=r"^d/metadata\.csv:3: d/b\.m4a: AAC .*the first of 2 rec") as caught:
        read()
    paste_remedy(caught.value)
    assert read()["train"]["audio"][:] == ["d/a.wav", "d/b.wav", "d/c.wav"]


def test_recordings_of_other_forms_that_the_metadata_does_not_name_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("a.wav", "a.m4a", "lost.m4a"):
        write(f"d/{name}", M4A)
    write("d/metadata.csv", "file_name,label\na.wav,on\n")
    load()
    assert "d: 1 recordings that the metadata does not name are not read: d/lost.m4a" in caplog.text


@pytest.mark.parametrize("source", ["folder", "file"])
def test_absolute_paths_within_the_folder_are_read_and_a_link_to_it_is_followed(source: str) -> None:
    write("d/train/a.wav")
    write("d/test/b.wav")
    os.symlink("d", "link")
    names = [f"{os.getcwd()}/d/train/a.wav", f"{os.getcwd()}/link/test/b.wav"]
    table = write("d/metadata.csv", "file_name,audio,label\n" + "".join(f"{name},{name},on\n" for name in names))
    if source == "folder":
        data = load()
        assert [split["audio"][:] for split in data.values()] == [["d/train/a.wav"], ["d/test/b.wav"]]
    else:
        data = load_files(COLUMNS, os.path.abspath(table), split=WHOLE)
        assert data["train"]["audio"][:] == [f"{os.getcwd()}/d/train/a.wav", f"{os.getcwd()}/d/test/b.wav"]


def test_metadata_above_split_folders_keeps_their_splits() -> None:
    for name in ("train/a.wav", "test/b.wav"):
        write(f"d/{name}")
    write("d/metadata.csv", "file_name,label\ntest/b.wav,on\ntrain/a.wav,on\n")
    data = load()
    assert data["train"]["audio"][:] == ["d/train/a.wav"] and data["test"]["audio"][:] == ["d/test/b.wav"]


def test_a_split_column_names_the_split_of_each_recording() -> None:
    for name in "ab":
        write(f"d/{name}.wav")
    write("d/metadata.csv", "file_name,label,part\na.wav,on,test\nb.wav,on,train\n")
    data = load(split={**WHOLE, "column": "part"})
    assert rows(data["test"]) == [("d/a.wav", "on")] and list(data) == ["train", "test"]


def test_recordings_that_the_metadata_does_not_name_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    write("d/a.wav")
    write("d/lost.wav")
    write("d/metadata.csv", "file_name,label\n./a.wav,on\n")
    load()
    assert "1 recordings that the metadata does not name are not read: d/lost.wav" in caplog.text


def write_speakers(count: int) -> None:
    names = [f"s{i}" for i in range(count)]
    for name in names:
        write(f"d/{name}.wav")
    write("d/metadata.csv", "file_name,label,speaker\n" + "".join(f"{name}.wav,on,{name}\n" for name in names * 2))


def test_a_split_is_made_by_speaker_where_speakers_are_known() -> None:
    write_speakers(60)
    data = load_folder(COLUMNS, path="d")
    speakers = {name: set(split["speaker"][:]) for name, split in data.items()}
    assert sum(map(len, speakers.values())) == 60 and set(speakers) == {"train", "validation", "test"}
    assert speakers["test"] == {f"s{i}" for i in range(60) if position(f"s{i}") < 0.2}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_each_split_gets_a_speaker_however_few_there_are(count: int) -> None:
    write_speakers(count)
    data = load_folder(COLUMNS, path="d")
    assert sum(len(set(split["speaker"][:])) for split in data.values()) == count
    assert all(len(split) for split in data.values()) and len(data) == 3


def test_too_few_speakers_for_the_splits_are_refused() -> None:
    write_speakers(2)
    with pytest.raises(InputError, match=r"data\.split\.by=speaker: 2 group\(s\) can't fill 3 splits"):
        load_folder(COLUMNS, path="d")


def test_without_speakers_copies_of_one_file_stay_together_and_a_warning_is_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(60):
        for copy in "ab":
            write(f"d/on/{copy}{number}.wav", f"recording {number}")
    data = load_folder(COLUMNS, path="d")
    sides = {name: {Path(path).stem[1:] for path in split["audio"][:]} for name, split in data.items()}
    assert sum(map(len, sides.values())) == 60 and len(data) == 3
    hashes = {str(i): hashlib.sha256(f"recording {i}".encode()).hexdigest() for i in range(60)}
    assert sides["test"] == {i for i, digest in hashes.items() if position(digest) < 0.2}
    assert "no speakers are known" in caplog.text


BAD_LAYOUTS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "no folder": ([], {}, r"d: no such folder"),
    "a recording without a label": (["a.wav", "on/b.wav"], {}, r"d/a\.wav: has no label"),
    "a folder in a label's folder": (["on/anna/b.wav"], {}, r"d/on/anna: a folder within the folder of a label"),
    "a label beside splits": (["train/on/a.wav", "off/b.wav"], {}, r"d/off: beside folders named by a split"),
    "labels beside a split's other name": (["Training/on/a.wav", "off/b.wav"], {}, r"d/off: beside .*'Training'"),
    "two names of a split": (
        ["train/on/a.wav", "dev/on/b.wav", "eval/on/c.wav"],
        {},
        r"d: 'dev' and 'eval' both mean validation: .*data\.splits\.validation=dev data\.splits\.test=eval",
    ),
    "nothing": (["README.md"], {}, r"d: no recordings \(\.wav, .*\)"),
    "a table of another name": (["all.csv"], {}, r"d: no recordings.*data=file reads 'all\.csv'"),
    "two metadata files": (["metadata.csv", "metadata.jsonl"], {}, r"d/metadata\.csv and d/metadata\.jsonl both"),
    "metadata above and below": (
        ["metadata.csv", "train/metadata.csv"],
        {},
        r"d/metadata\.csv and d/train/metadata\.csv both",
    ),
    "a split that is no folder": (["train/on/a.wav"], {"splits": {"test": "tst"}}, r"data\.splits\.test=tst: d has"),
    "no such split": (["train/on/a.wav"], {"splits": {"dev": "train"}}, r"data\.splits\.dev: no such split"),
    "a split column without metadata": (["on/a.wav"], {"split": {"column": "part"}}, r"data\.split\.column=part needs"),
    "Google's archive": (["_background_noise_/a.wav", "testing_list.txt"], {}, r"data=speech_commands"),
}


@pytest.mark.parametrize("case", BAD_LAYOUTS)
def test_a_layout_that_is_not_understood_is_refused(case: str) -> None:
    files, settings, message = BAD_LAYOUTS[case]
    for name in files:
        write(f"d/{name}")
    with pytest.raises(InputError, match=message) as caught:
        load(**settings)
    assert "\n" not in str(caught.value)


BAD_PATHS = {
    "../secret.wav": "leaves the folder by '..'",
    "a/../../secret.wav": "leaves the folder by '..'",
    "/etc/passwd": "is an absolute path that is not in the folder",
    "C:/sounds/a.wav": "is an absolute path",
    "link.wav": "leaves the folder by a link",
    "linked/secret.wav": "leaves the folder by a link",
    "loop.wav": "can't be read",
    "pipe.wav": "is a pipe, a socket or a device",
    "folder": "is a folder, not an audio file",
    "": "is not a path",
    "aa.wav": "is not there; did you mean 'a.wav'",
    "folder\\a.wav": "is not there; write / between folders",
    "https://example.org/a.wav": "is an address: download it first",
}


@pytest.fixture
def traps() -> None:
    write("secret.wav")
    write("outside/secret.wav")
    write("d/a.wav")
    os.mkdir("d/folder")
    os.mkfifo("d/pipe.wav")
    os.symlink("../secret.wav", "d/link.wav")
    os.symlink("../outside", "d/linked")
    os.symlink("loop.wav", "d/loop.wav")
    os.symlink("a.wav", "d/inside.wav")


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_path_that_leads_out_or_nowhere_is_refused_by_its_row(name: str) -> None:
    write("d/metadata.csv", f'file_name,label\na.wav,on\n"{name}",on\n')
    with pytest.raises(InputError) as caught:
        load()
    assert str(caught.value).startswith(f"1 bad row, none is dropped: d/metadata.csv:3: {name!r} {BAD_PATHS[name]}")
    write("d/train.csv", f'audio,label\na.wav,on\n"{name}",on\n')
    with pytest.raises(InputError, match=r"^1 bad row, none is dropped: d/train\.csv:3: "):
        load_files(COLUMNS, "d/train.csv", split=WHOLE)


@pytest.mark.usefixtures("traps")
def test_a_link_within_the_folder_and_a_folder_that_is_a_link_are_read() -> None:
    write("d/metadata.csv", "file_name,label\ninside.wav,on\n")
    os.symlink("d", "elsewhere")
    assert rows(load("elsewhere")["train"]) == [("elsewhere/inside.wav", "on")]


@pytest.mark.parametrize("trap", ["link", "pipe"])
def test_label_folders_hold_no_links_that_lead_out_and_no_pipes(trap: str) -> None:
    write("secret.wav")
    write("d/on/b.wav")
    if trap == "link":
        os.symlink("../../secret.wav", "d/on/a.wav")
    else:
        os.mkfifo("d/on/a.wav")
    with pytest.raises(InputError, match=r"^1 bad row, none is dropped: d/on/a\.wav: (leaves the folder|is a pipe)"):
        load()


@pytest.mark.parametrize("place", [b"d/on/caf\xe9.wav", b"d/caf\xe9/a.wav"])
def test_names_that_are_not_utf8_are_refused_and_can_be_printed(place: bytes) -> None:
    write("d/on/b.wav")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb"):
        pass
    with pytest.raises(InputError, match=r"the name b'caf\\xe9(\.wav)?' is not UTF-8: rename it") as caught:
        load()
    str(caught.value).encode("utf-8")


def test_a_file_of_paths_is_read_from_its_own_folder_and_splits_by_speaker(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(30):
        write(f"d/clips/{number}.wav")
    lines = "".join(f"clips/{i}.wav,on,s{i}\n" for i in range(30))
    data = load_files(COLUMNS, write("d/all.csv", f"file,label,speaker\n{lines}"), column_map={"audio": "file"})
    assert data["train"]["audio"][0].startswith("d/clips/") and len(data) == 3
    assert "taken from train by the hash of speaker" in caplog.text


def test_a_folder_of_recordings_that_is_read_as_files_is_refused_with_the_setting_that_reads_it() -> None:
    write("d d/on/a.m4a")
    with pytest.raises(InputError, match=r"it has recordings, which are read by data=folder 'data\.path='.*d d"):
        load_files(COLUMNS, "d d")


def test_files_of_each_split_have_their_paths_from_their_own_folders() -> None:
    for side in ("one", "two"):
        write(f"{side}/a.wav", side)
        write(f"{side}/rows.csv", "audio,label\na.wav,on\n")
    data = load_files(COLUMNS, files={"train": "one/rows.csv", "test": "two/rows.csv"}, split=WHOLE)
    assert data["train"]["audio"][:] == ["one/a.wav"] and data["test"]["audio"][:] == ["two/a.wav"]
