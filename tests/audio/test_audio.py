"""Audio files to waveforms, and views into prepared ones."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_audio import encode, flac, tone, wav
from voicecommand.audio import clips as audio_clips
from voicecommand.audio import decode, windows
from voicecommand.errors import InputError


def dataset_of(clips: list[np.ndarray], directory: Path, rows_a_part: int = 3) -> Any:
    """A memory-mapped split of several parts."""
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema([("audio", pa.list_(pa.int16())), ("id", pa.int64())])
    with pa.OSFile(str(directory / "clips.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, len(clips), rows_a_part):
            part = clips[start : start + rows_a_part]
            ids = pa.array(range(start, start + len(part)))
            writer.write_batch(pa.record_batch([pa.array(part, pa.list_(pa.int16())), ids], schema=schema))
    return Dataset.from_file(str(directory / "clips.arrow"))


def made_clips(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(-9000, 9000, random.integers(1, 900), dtype=np.int16) for _ in range(count)]


def test_sixteen_bit_sound_comes_back_as_it_was() -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    samples[:2] = -32768, 32767
    clip = decode.read_audio(wav(samples.tobytes()))
    assert clip.waveform.dtype == np.float32 and clip.source_rate == 16_000 and clip.channels == 1
    assert (audio_clips.to_int16(clip.waveform) == samples).all()
    assert (audio_clips.to_int16(audio_clips.to_float(samples)) == samples).all()


def test_overshoot_is_cut_at_full_scale_and_does_not_wrap_round() -> None:
    assert audio_clips.to_int16(np.array([1.5, -1.5, 1.0, -1.0], np.float32)).tolist() == [32767, -32768, 32767, -32768]


def test_a_path_and_its_bytes_give_the_same_clip(tmp_path: Path) -> None:
    for form in ("WAV", "FLAC", "OGG", "MP3"):
        data = encode(tone(20_000), form=form)
        (tmp_path / form).write_bytes(data)
        one, other = decode.read_audio(tmp_path / form), decode.read_audio(data)
        assert (one.waveform == other.waveform).all() and len(one.waveform) == 20_000


def test_channels_are_averaged() -> None:
    waveform = np.stack([tone(seed=1)[:, 0], tone(seed=2)[:, 0]], axis=1)
    clip = decode.read_audio(encode(waveform, subtype="FLOAT"))
    assert clip.channels == 2
    np.testing.assert_allclose(clip.waveform, waveform.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_resampling_keeps_length_pitch_and_level(rate: int) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    clip = decode.read_audio(encode(wave, rate, subtype="FLOAT"))
    assert clip.source_rate == rate and abs(len(clip.waveform) - 16_000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(clip.waveform)) / 16_000)
    assert np.abs(clip.waveform - expected)[200:-200].max() < 1e-3


def test_resampling_lets_nothing_fold_back_from_above_the_band() -> None:
    wave = 0.5 * np.sin(2 * np.pi * 9000 * np.arange(48_000) / 48_000)
    waveform = decode.read_audio(encode(wave, 48_000, subtype="FLOAT")).waveform
    assert np.abs(waveform[400:-400]).max() < 1e-4


def test_blocks_give_what_one_read_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ("WAV", "FLAC", "OGG", "MP3"):
        data = encode(tone(50_000, channels=2), form=form)
        whole = decode.read_audio(data).waveform
        monkeypatch.setattr(decode, "BLOCK", 3000)
        assert (decode.read_audio(data).waveform == whole).all(), form
        monkeypatch.undo()


def test_silence_and_clipping_are_flags() -> None:
    assert decode.read_audio(wav(bytes(8000))).silent
    assert decode.read_audio(encode(tone() * 1e-3)).silent
    assert decode.read_audio(wav(np.full(4000, 12_000, "<i2").tobytes())).silent, "constant"
    opposite = np.concatenate([tone(), -tone()], axis=1)
    assert decode.read_audio(encode(opposite)).silent, "the channels cancel each other"
    quiet = decode.read_audio(encode(tone() * 0.02))
    assert not quiet.silent and not quiet.clipped

    assert decode.read_audio(encode(np.clip(tone() * 5, -1, 1))).clipped
    assert decode.read_audio(encode(tone() * 5, subtype="FLOAT")).clipped, "floats above 1 are cut later"
    sine = np.sin(2 * np.pi * 200 * np.arange(8000) / 16_000)
    assert not decode.read_audio(encode(sine)).clipped, "a single sample at full scale is not clipping"


def test_the_cap_can_be_raised() -> None:
    data = flac(61.0)
    with pytest.raises(InputError, match=r"^a\.csv:2: b\.wav: 61\.0 s long; at most 60 s are read"):
        decode.read_audio(data, name="a.csv:2: b.wav")
    assert len(decode.read_audio(data, max_seconds=61).waveform) == 61 * 16_000


def test_errors_begin_with_the_path_where_no_name_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{tmp_path}/nothing\.wav: no such file$"):
        decode.read_audio(tmp_path / "nothing.wav")
    with pytest.raises(InputError, match=r"caf\\xe9\.wav: no such file$"):
        decode.read_audio(b"caf\xe9.wav".decode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"can't be read: .*null"):
        decode.hash_audio("a\0b.wav")


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert decode.hash_audio(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2, B.1


def test_a_written_wav_reads_back(tmp_path: Path) -> None:
    samples = audio_clips.to_int16(tone()[:, 0])
    audio_clips.write_wav(tmp_path / "a.wav", samples, 8000)
    assert decode.read_audio(tmp_path / "a.wav", 8000).source_rate == 8000
    assert (audio_clips.to_int16(decode.read_audio(tmp_path / "a.wav", 8000).waveform) == samples).all()
    with pytest.raises(ValueError, match="int16"):
        audio_clips.write_wav(tmp_path / "b.wav", tone())


def test_the_loudest_window_is_found() -> None:
    waveform = np.full(1000, 0.001)
    waveform[600:650] = -0.37  # whose square, as int16, is negative
    assert 550 <= windows.loudest(waveform, 100) <= 600
    assert windows.loudest(audio_clips.to_int16(waveform), 50) == 600, "squares of int16 do not overflow"
    assert windows.loudest(waveform, 1000) == windows.loudest(waveform, 2000) == 0
    assert windows.loudest(np.zeros(100), 10) == 0


def test_windows_cover_a_clip_and_stay_inside() -> None:
    assert windows.cut_windows(100, 100) == windows.cut_windows(3, 100) == windows.cut_windows(0, 100) == [0]
    assert windows.cut_windows(101, 100) == [0, 1]
    assert windows.cut_windows(250, 100) == [0, 50, 100, 150]
    assert windows.cut_windows(260, 100) == [0, 50, 100, 150, 160]
    assert windows.cut_windows(3, 1) == [0, 1, 2]


def test_clips_are_views_of_the_rows(tmp_path: Path) -> None:
    made = made_clips(10)
    clips = audio_clips.Clips(dataset_of(made, tmp_path))
    assert len(clips) == 10 and len(list(clips)) == 10
    for row in (*range(10), -1, -10):
        assert clips[row].dtype == np.int16 and (clips[row] == made[row]).all()
        assert not clips[row].flags.owndata and not clips[row].flags.writeable
    with pytest.raises(IndexError):
        clips[10]


def test_clips_follow_selected_and_joined_rows(tmp_path: Path) -> None:
    from datasets import concatenate_datasets

    made = made_clips(10)
    dataset = dataset_of(made, tmp_path)
    for rows in ([7, 2, 2, 9, 0], list(range(4, 8)), [5]):
        clips = audio_clips.Clips(dataset.select(rows))
        assert len(clips) == len(rows)
        assert all((clips[i] == made[row]).all() for i, row in enumerate(rows))
    joined = audio_clips.Clips(concatenate_datasets([dataset.select(range(4, 10)), dataset]))
    assert all((joined[i] == made[row]).all() for i, row in enumerate([*range(4, 10), *range(10)]))
    assert len(audio_clips.Clips(dataset.select([]))) == 0


def test_clips_travel_to_a_loader_s_worker(tmp_path: Path) -> None:
    made = made_clips(10)
    clips = pickle.loads(pickle.dumps(audio_clips.Clips(dataset_of(made, tmp_path).select([3, 1]))))
    assert (clips[0] == made[3]).all() and (clips[1] == made[1]).all()


def test_clips_of_something_else_are_refused() -> None:
    from datasets import Dataset

    with pytest.raises(TypeError, match="column audio holds string, not list<int16>: prepare the audio first"):
        audio_clips.Clips(Dataset.from_dict({"audio": ["a.wav"]}))


def test_pages_are_given_back_and_the_samples_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    real = audio_clips._release
    monkeypatch.setattr(audio_clips, "RELEASE_BYTES", 1000)
    monkeypatch.setattr(audio_clips, "_release", lambda maps: released.append(maps) or real(maps))
    made = made_clips(20)
    clips = audio_clips.Clips(dataset_of(made, tmp_path))
    kept = [clips[row] for row in range(20)]
    assert all((clip == original).all() for clip, original in zip(kept, made, strict=True))
    if sys.platform == "linux":
        assert len(released) >= 5 and len(released[0]) == 1


def test_samples_in_memory_are_never_given_back() -> None:
    from datasets import Dataset, Features, List, Value

    made = made_clips(5)
    dataset = Dataset.from_dict({"audio": made}, features=Features({"audio": List(Value("int16"))}))
    assert audio_clips.Clips(dataset)._maps == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_is_that_of_a_tenth_of_the_clips(tmp_path: Path) -> None:
    """320 MB against 32 MB, each in a process of its own: high-water marks never fall."""
    program = """
import resource, sys
import pyarrow as pa
import numpy as np
from datasets import Dataset
from voicecommand.audio.clips import Clips
count, path = int(sys.argv[1]), sys.argv[2]
clip = np.arange(16000, dtype=np.int16)
offsets = pa.array(np.arange(101) * 16000, pa.int32())
part = pa.record_batch([pa.ListArray.from_arrays(offsets, pa.array(np.tile(clip, 100)))], names=["audio"])
with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, part.schema) as writer:
    for _ in range(count // 100):
        writer.write_batch(part)
clips = Clips(Dataset.from_file(path))
assert sum(int(clips[row][7]) + int(clips[row].sum(dtype=np.int64) > 0) for row in range(count)) == 8 * count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for count in (1000, 10_000):
        command = [sys.executable, "-c", program, str(count), str(tmp_path / f"{count}.arrow")]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    assert peaks[1] < 1.1 * peaks[0] + 10_000, peaks
