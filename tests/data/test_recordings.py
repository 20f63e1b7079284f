"""Clips decoded once, into a file that is named by its content."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_audio import encode, tone, wav
from voicecommand import files as files_module
from voicecommand.audio import clips as audio_clips
from voicecommand.audio import decode
from voicecommand.data import prepared as data_prepared
from voicecommand.errors import InputError, StorageError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files_module, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "sound"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    real = decode.read_audio

    def read_audio(source: Any, *args: Any, **kwargs: Any) -> decode.Clip:
        names.append(Path(source).name)
        return real(source, *args, **kwargs)

    monkeypatch.setattr(decode, "read_audio", read_audio)
    return names


def write_clips(directory: Path, count: int = 6) -> list[str]:
    directory.mkdir(exist_ok=True)
    for number in range(count):
        (directory / f"{number}.wav").write_bytes(encode(tone(3000 + 100 * number, seed=number)))
    return [str(directory / f"{number}.wav") for number in range(count)]


def splits_of(**files: list[str]) -> Any:
    from datasets import Dataset, DatasetDict

    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "id": [f"{split}-{row}" for row in range(len(paths))],
                    "origin": [f"metadata.csv:{row}" for row in range(2, len(paths) + 2)],
                    "audio": paths,
                    "label": ["on", "off"] * (len(paths) // 2) + ["on"] * (len(paths) % 2),
                }
            )
            for split, paths in files.items()
        }
    )


def arrow_files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.arrow"))


def test_a_prepared_split_holds_the_waveforms_beside_its_other_columns(tmp_path: Path, cache: Path) -> None:
    files = write_clips(tmp_path / "clips")
    prepared = data_prepared.prepare(splits_of(train=files[:4], test=files[4:]))
    train = prepared["train"]
    assert list(prepared) == ["train", "test"]
    assert train.column_names == ["id", "origin", "label", "audio", "length", "content", *data_prepared.FLAGS]
    assert train["id"][:] == [f"train-{row}" for row in range(4)] and train["label"][:] == ["on", "off"] * 2
    assert train["length"][:] == [3000, 3100, 3200, 3300]
    assert train["content"][:] == [decode.hash_audio(file) for file in files[:4]]
    for file, clip in zip(files, [*audio_clips.Clips(train), *audio_clips.Clips(prepared["test"])], strict=True):
        assert (clip == audio_clips.to_int16(decode.read_audio(file).waveform)).all()
    assert {Path(file["filename"]) for file in train.cache_files} < set(arrow_files(cache))
    assert audio_clips.Clips(train)._maps, "memory-mapped"


def test_nothing_is_decoded_twice(tmp_path: Path, cache: Path, decoded: list[str]) -> None:
    files = write_clips(tmp_path / "clips")
    first = data_prepared.prepare(splits_of(train=files[:4], test=files[4:]))
    assert len(decoded) == 6
    again = data_prepared.prepare(splits_of(train=files[:4], test=files[4:]))
    assert len(decoded) == 6 and len(arrow_files(cache)) == 2
    assert again["train"]["content"][:] == first["train"]["content"][:]


def test_other_names_and_labels_share_the_audio(tmp_path: Path, cache: Path, decoded: list[str]) -> None:
    files = write_clips(tmp_path / "clips", 4)
    data_prepared.prepare(splits_of(train=files))
    renamed = [str(Path(file).rename(Path(file).with_suffix(".moved"))) for file in files]
    dataset = splits_of(train=renamed)
    dataset["train"] = dataset["train"].remove_columns("label").add_column("label", ["a", "b", "c", "d"])
    assert data_prepared.prepare(dataset)["train"]["label"][:] == ["a", "b", "c", "d"]
    assert len(decoded) == 4


@pytest.mark.parametrize("change", ["content", "order", "rate", "cap", "version", "resampler", "decoder"])
def test_whatever_changes_the_sound_makes_it_anew(
    change: str, tmp_path: Path, cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_clips(tmp_path / "clips", 3)
    data_prepared.prepare(splits_of(train=files))
    settings: dict[str, Any] = {}
    if change == "content":
        Path(files[1]).write_bytes(encode(tone(3100, seed=9)))  # of the same size
    elif change == "order":
        files = files[::-1]
    elif change == "version":
        monkeypatch.setattr(data_prepared, "VERSION", 0)
    elif change == "resampler":
        monkeypatch.setattr("soxr.__version__", "0")
    elif change == "decoder":
        monkeypatch.setattr("soundfile.__libsndfile_version__", "0")
    else:
        settings = {"rate": {"sampling_rate": 8000}, "cap": {"max_seconds": 50.0}}[change]
    prepared = data_prepared.prepare(splits_of(train=files), **settings)["train"]
    assert len(decoded) == 6 and len(arrow_files(cache)) == 2
    assert prepared["content"][:] == [decode.hash_audio(file) for file in files]
    if change == "rate":
        assert prepared["length"][0] == 1500 and all(prepared["resampled"][:])


def test_rates_and_channels_that_differ_are_counted(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_clips(tmp_path / "clips", 6)
    Path(files[0]).write_bytes(encode(tone(8000, 8000), 8000))
    Path(files[1]).write_bytes(encode(tone(44_100, 44_100, channels=2), 44_100))
    Path(files[2]).write_bytes(encode(tone(channels=2)))
    for _ in range(2):  # made, then found
        caplog.clear()
        with caplog.at_level("INFO"):
            data_prepared.prepare(splits_of(train=files))
        assert "6 clips, 0.00 h; 2 resampled to 16,000 Hz, 2 mixed down to mono, none cut" in caplog.text
        assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_silent_and_clipped_clips_are_named_and_kept(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_clips(tmp_path / "clips", 6)
    for number in (0, 1, 3, 4):
        samples = np.full(3000 + number, 9000 if number == 4 else 0, "<i2")
        Path(files[number]).write_bytes(wav(samples.tobytes()))
    Path(files[5]).write_bytes(encode(np.clip(tone() * 9, -1, 1)))
    with caplog.at_level("WARNING"):
        prepared = data_prepared.prepare(splits_of(train=files))["train"]
    assert [record.getMessage() for record in caplog.records] == [
        "audio of train: 4 silent (below -60 dB of full scale, or constant): metadata.csv:2, metadata.csv:3, "
        "metadata.csv:5 and 1 more",
        "audio of train: 1 clipped (cut off at full scale): metadata.csv:7",
    ]
    assert prepared["silent"][:] == [True, True, False, True, True, False] and prepared["clipped"][5]


def test_recordings_without_a_length_in_their_header_are_read_to_their_end_and_counted(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_clips(tmp_path / "clips", 3)
    whole = data_prepared.prepare(splits_of(train=files))["train"]
    for file, (riff, size) in zip(files, [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF)], strict=False):
        data = Path(file).read_bytes()
        place = data.index(b"data") + 4
        sizes = [size.to_bytes(4, "little") for size in (riff, size)]
        Path(file).write_bytes(data[:4] + sizes[0] + data[8:place] + sizes[1] + data[place + 4 :])
    caplog.clear()
    with caplog.at_level("INFO"):
        read = data_prepared.prepare(splits_of(train=files))["train"]
    assert read["length"][:] == whole["length"][:] and read["open_ended"][:] == [True, True, False]
    assert (
        "audio of train: 2 open-ended (no length in the header: read to the end of the file): metadata.csv:2, "
        "metadata.csv:3"
    ) in caplog.text
    for file, clip in zip(files, audio_clips.Clips(whole), strict=True):
        assert (audio_clips.to_int16(decode.read_audio(file).waveform) == clip).all(), "as predict reads it"


def test_bad_clips_of_all_splits_are_refused_together_and_nothing_is_left(tmp_path: Path, cache: Path) -> None:
    files = write_clips(tmp_path / "clips", 20)
    for number in range(3, 12):
        Path(files[number]).write_bytes(wav(claimed=9000))
    with pytest.raises(
        InputError, match=r"^9 bad rows, none is dropped: metadata\.csv:5: \S+/3\.wav: cut.*; and 4 more$"
    ):
        data_prepared.prepare(splits_of(train=files[:10], test=files[10:]))
    assert [path.name for path in cache.iterdir()] == [".lock"]
    Path(files[0]).unlink()
    with pytest.raises(InputError, match=r"^1 bad row, none is dropped: metadata\.csv:2: \S+/0\.wav: no such file$"):
        data_prepared.prepare(splits_of(train=files))


def test_a_bad_split_keeps_the_good_ones_out_too(tmp_path: Path, cache: Path) -> None:
    files = write_clips(tmp_path / "clips", 4)
    Path(files[3]).write_bytes(Path(files[3]).read_bytes()[:-50])
    with pytest.raises(InputError):
        data_prepared.prepare(splits_of(train=files[:2], test=files[2:]))
    assert [path.name for path in cache.iterdir()] == [".lock"]
    data_prepared.prepare(splits_of(train=files[:2]))
    assert len(arrow_files(cache)) == 1


def test_equal_splits_share_one_file(tmp_path: Path, cache: Path, decoded: list[str]) -> None:
    files = write_clips(tmp_path / "clips", 2)
    prepared = data_prepared.prepare(splits_of(train=files, test=files))
    assert prepared["train"]["length"][:] == prepared["test"]["length"][:] == [3000, 3100]
    assert len(decoded) == 2 and len(arrow_files(cache)) == 1


def test_without_a_table_the_path_is_named_once(tmp_path: Path, cache: Path) -> None:
    dataset = splits_of(train=[str(tmp_path / "a.wav")])
    dataset["train"] = dataset["train"].remove_columns("origin").add_column("origin", [str(tmp_path / "a.wav")])
    with pytest.raises(InputError, match=rf"dropped: {tmp_path}/a\.wav: no such file$"):
        data_prepared.prepare(dataset)


def test_threads_give_the_same_rows_in_the_same_order(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_prepared, "ROWS", 7)
    files = write_clips(tmp_path / "clips", 30)
    prepared = data_prepared.prepare(splits_of(train=files), num_proc=4)["train"]
    clips = audio_clips.Clips(prepared)
    assert prepared["length"][:] == [3000 + 100 * number for number in range(30)]
    assert prepared["content"][:] == [decode.hash_audio(file) for file in files]
    assert all(
        (clips[row] == audio_clips.to_int16(decode.read_audio(file).waveform)).all() for row, file in enumerate(files)
    )


@pytest.mark.parametrize("damage", ["cut", "emptied", "another"])
def test_a_file_that_is_not_whole_is_made_again(
    damage: str, tmp_path: Path, cache: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    files = write_clips(tmp_path / "clips", 4)
    data_prepared.prepare(splits_of(train=files))
    (file,) = arrow_files(cache)
    whole = file.read_bytes()
    file.unlink()
    if damage == "another":  # whole, but not these rows
        data_prepared.prepare(splits_of(train=files[:1]))
        arrow_files(cache)[0].rename(file)
        decoded.pop()
    else:
        file.write_bytes(whole[:5000] if damage == "cut" else b"")
    prepared = data_prepared.prepare(splits_of(train=files))["train"]
    assert len(decoded) == 8 and prepared["length"][:] == [3000, 3100, 3200, 3300]
    assert "is not whole" in caplog.text


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_clips(tmp_path / "clips", 4)

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"cannot write .*\.arrow: No space left"):
        data_prepared.prepare(splits_of(train=files))
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_cap_that_arrow_can_t_count_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match=r"max_seconds=3600: clips of at most 524 s can be prepared"):
        data_prepared.prepare(splits_of(train=[]), max_seconds=3600)


def test_a_split_of_no_rows_is_prepared_too(tmp_path: Path, cache: Path) -> None:
    prepared = data_prepared.prepare(splits_of(train=write_clips(tmp_path / "clips", 2), test=[]))
    assert len(prepared["test"]) == 0 and prepared["test"].column_names == prepared["train"].column_names
    assert len(audio_clips.Clips(prepared["test"])) == 0


def _prepare_in_process(files: list[str], start: Any, counts: Any) -> None:
    """Counts what this process decodes."""
    count = 0
    real = decode.read_audio

    def read_audio(*args: Any, **kwargs: Any) -> decode.Clip:
        nonlocal count
        count += 1
        time.sleep(0.01)
        return real(*args, **kwargs)

    decode.read_audio = read_audio  # type: ignore[assignment]
    start.wait()
    prepared = data_prepared.prepare(splits_of(train=files))["train"]
    counts.put((count, sum(int(clip.astype(np.int64).sum()) for clip in audio_clips.Clips(prepared))))


def test_of_three_ranks_one_decodes_and_all_read_the_same(tmp_path: Path, cache: Path) -> None:
    import datasets  # noqa: F401  (imported once, before the fork)
    import soundfile  # noqa: F401

    files = write_clips(tmp_path / "clips", 12)
    context = multiprocessing.get_context("fork")
    start, counts = context.Barrier(3), context.SimpleQueue()
    ranks = [context.Process(target=_prepare_in_process, args=(files, start, counts)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=60)
        assert rank.exitcode == 0
    results = [counts.get() for _ in ranks]
    assert sorted(count for count, _ in results) == [0, 0, 12]
    assert len({total for _, total in results}) == 1
    assert len(arrow_files(cache)) == 1
