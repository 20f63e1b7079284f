"""Traditional and hybrid models for audio: their features, their files, and their cache."""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voicecommand.audio import mfcc
from voicecommand.errors import InputError
from voicecommand.models import audio_features
from voicecommand.models.audio_features import MfccFeatures, SpeechFeatures
from voicecommand.models.estimator import Estimator, fit_estimator
from voicecommand.run import device

RATE = 16_000
NAMES = ["falling", "flat", "rising"]
FAMILIES = ["whisper", "wav2vec2", "wav2vec2_group"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(audio_features, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "features"


def sweep(word: str, seed: int, seconds: float = 0.5) -> np.ndarray:
    """A tone that falls, stays or rises, at a drawn pitch and loudness, in noise: int16 `[samples]`."""
    draws = np.random.default_rng(seed)
    slope = {"falling": -1, "flat": 0, "rising": 1}[word]
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = draws.uniform(500, 700) * 2 ** (slope * (times / seconds - 0.5))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.05 * draws.standard_normal(len(times))
    return (tone * draws.uniform(2_000, 20_000)).astype(np.int16)


def rows_of(clips: list[np.ndarray], labels: list[int], prepared: bool = True) -> Any:
    from datasets import Dataset, Features, List, Value

    columns: dict[str, Any] = {"audio": clips, "labels": labels, "speaker": [f"s{i // 3}" for i in range(len(clips))]}
    kinds = {"audio": List(Value("int16")), "labels": Value("int64"), "speaker": Value("string")}
    if prepared:
        columns["content"], kinds["content"] = [str(i) for i in range(len(clips))], Value("string")
    return Dataset.from_dict(columns, features=Features(kinds))


def clips_of(rows: Any) -> list[np.ndarray]:
    return [np.asarray(clip, np.int16) for clip in rows["audio"][:]]


def sweeps(count: int = 8, seed: int = 0, **kwargs: Any) -> Any:
    pairs = [(name, 100 * seed + i) for i in range(count) for name in NAMES]
    return rows_of([sweep(name, i, **kwargs) for name, i in pairs], [NAMES.index(name) for name, _ in pairs])


def build(family: str, seed: int = 0) -> SpeechFeatures:
    """An encoder of two small layers with random weights."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    if family == "whisper":
        whisper = t.WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
            decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=20, max_source_positions=50, init_std=0.3,
        )  # fmt: skip
        return SpeechFeatures(
            t.WhisperModel(whisper).get_encoder(), t.WhisperFeatureExtractor(feature_size=20, chunk_length=1), 1
        )
    is_group = family == "wav2vec2_group"
    config = t.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8, 8),
        conv_stride=(10, 8, 4), conv_kernel=(20, 8, 4), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm="group" if is_group else "layer", num_feat_extract_layers=3, initializer_range=0.3,
    )  # fmt: skip
    extractor = t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=not is_group)
    return SpeechFeatures(t.Wav2Vec2Model(config), extractor, 1)


def features_of(kind: str) -> Any:
    return MfccFeatures() if kind == "mfcc" else build(kind)


def fit(features: Any, rows: Any) -> Estimator:
    speakers = np.asarray(rows["speaker"][:]) if "speaker" in rows.column_names else None
    return fit_estimator(features, rows, np.asarray(rows["labels"][:]), len(NAMES), 0.01, None, speakers, 0)


@pytest.mark.parametrize("kind", ["mfcc", *FAMILIES])
def test_what_is_saved_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    rows, other = sweeps(), sweeps(4, seed=1)
    estimator = fit(features_of(kind), rows)
    estimator.save(tmp_path / "model")
    opened = Estimator.load(tmp_path / "model", len(NAMES), type(estimator.features).load)
    expected = estimator(other)
    assert expected.shape == (12, 3)
    np.testing.assert_allclose(opened({"audio": clips_of(other)}), expected, rtol=1e-4, atol=1e-4)
    if kind in ("mfcc", "whisper"):  # random convolutions over samples hear no pitch
        # random weights tell most clips apart, not all; of three columns two exchanged leave a third right
        assert np.mean(expected.argmax(1) == other["labels"][:]) > 0.5, "columns belong to their labels"
    assert np.ptp(expected, axis=0).min() > 0.01, "clips differ by more than the tolerance"
    assert opened.features._settings_hash() == estimator.features._settings_hash(), "what was cached is found again"
    kinds = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}, "no pickle"


def test_a_saved_encoder_opens_with_plain_transformers(tmp_path: Path) -> None:
    import transformers as t

    features = build("wav2vec2")
    fit(features, sweeps(3)).save(tmp_path)
    encoder = t.AutoModel.from_pretrained(tmp_path / "encoder")
    for name, tensor in features.encoder.state_dict().items():
        np.testing.assert_array_equal(tensor, encoder.state_dict()[name])
    assert t.AutoFeatureExtractor.from_pretrained(tmp_path / "encoder").sampling_rate == RATE


@pytest.mark.parametrize("family", FAMILIES)
def test_features_of_an_encoder_are_mean_and_deviation_of_each_clips_frames_by_their_loudness(family: str) -> None:
    import torch

    features = build(family)
    clips = [sweep("rising", i, seconds) for i, seconds in enumerate((0.4, 1.0, 0.31, 0.72, 0.4))]
    expected = []
    for clip in clips:
        waveform = clip.astype(np.float32) / 32768
        inputs = features.processor(waveform, sampling_rate=RATE, return_tensors="pt")  # Whisper's: padded to 1 s
        with torch.no_grad():
            states = features.encoder(**inputs).last_hidden_state[0].numpy()
        if family == "whisper":
            assert len(states) == 50
            states = states[: -(-len(clip) // 320)]
        size = len(states) * 320 if family == "whisper" else max(len(waveform), 4_000)
        samples, part = np.pad(waveform, (0, size))[:size], size / len(states)
        weights = [samples[int(i * part) : int(np.ceil((i + 1) * part))].std() for i in range(len(states))]
        mean = np.average(states, axis=0, weights=weights)
        deviation = np.sqrt(np.average(np.square(states - mean), axis=0, weights=weights))
        expected.append(np.concatenate([mean, deviation]))
    np.testing.assert_allclose(features._rows({"audio": clips}), expected, atol=2e-4)
    assert np.ptp(expected, axis=0).max() > 0.1, "clips differ by more than the tolerance"


def test_silence_after_a_word_changes_nothing_and_a_silent_clip_has_features() -> None:
    features = build("whisper")
    word, silence = sweep("rising", 0, 0.3), np.zeros(round(0.3 * RATE), dtype=np.int16)
    alone, amid, nothing = features._rows({"audio": [word, np.concatenate([word, silence]), silence]})
    assert np.isfinite(nothing).all()
    np.testing.assert_allclose(amid, alone, atol=1e-4)
    assert np.abs(nothing - alone).mean() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_clip_is_the_mean_of_its_windows_by_their_loudness(family: str) -> None:
    features = build(family)
    long = np.concatenate([sweep("rising", 0, 1.2), sweep("falling", 1, 1.0) // 50])  # 2.2 s: windows at 0, 0.5, 1, 1.2
    windows = [long[start : start + RATE] for start in (0, 8_000, 16_000, len(long) - RATE)]
    parts = features._rows({"audio": windows})
    both = features._rows({"audio": [windows[1], long]})
    weights = [window.reshape(-1, 320).std(axis=1).mean() for window in windows]
    np.testing.assert_allclose(both[1], np.average(parts, axis=0, weights=weights), atol=0.01)
    assert np.abs(parts[0] - parts[3]).max() > 0.1
    assert np.abs(both[1] - parts.mean(0)).max() > 0.05, "the test can tell"


def test_train_is_standardised_and_a_strange_clip_stays_within_limits() -> None:
    features, rows = MfccFeatures(), sweeps()
    matrix = features.fit(rows)
    varies = np.ptp(matrix, axis=0) > 0
    assert varies.mean() > 0.9
    assert np.abs(np.median(matrix[:, varies], axis=0)).max() < 3
    np.testing.assert_array_equal(features(rows), matrix)
    strange = features({"audio": [np.zeros(RATE, np.int16), np.full(RATE, 9_000, np.int16)]})
    assert np.isfinite(strange).all() and np.abs(strange).max() == audio_features.LIMIT


class Counter:
    """How many clips `_compute` was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
        self.count = 0
        compute = kind._compute  # type: ignore[attr-defined]

        def counted(features: Any, clips: list, bar: Any) -> Any:
            self.count += len(clips)
            return compute(features, clips, bar)

        monkeypatch.setattr(kind, "_compute", counted)


def test_embeddings_are_computed_once_for_each_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, rows = Counter(monkeypatch, SpeechFeatures), sweeps(4)
    expected = build("whisper")._rows(rows)
    assert counter.count == 12
    np.testing.assert_array_equal(build("whisper")._rows(rows), expected)
    np.testing.assert_array_equal(build("whisper")._rows(rows.select([7, 2])), expected[[7, 2]])
    assert counter.count == 12, "a subset, and another process with the same weights, find them"
    clips = clips_of(rows)
    more = rows_of([clips[3], clips[3], sweep("flat", 99), sweep("flat", 99)], [0] * 4)
    np.testing.assert_array_equal(build("whisper")._rows(more)[0], expected[3])
    assert counter.count == 13, "only the new clip, and once"


def test_other_samples_weights_or_settings_are_not_taken_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, rows = Counter(monkeypatch, SpeechFeatures), sweeps(1)
    build("whisper")._rows(rows)
    louder = rows_of([clip // 2 for clip in clips_of(rows)], [0, 1, 2])
    build("whisper")._rows(louder)  # the same file (content), other samples
    assert counter.count == 6
    build("whisper", seed=1)._rows(rows)
    assert counter.count == 9
    changed = build("whisper")
    changed.max_seconds = 2
    assert changed._settings_hash() != build("whisper")._settings_hash()


def test_a_damaged_cache_is_computed_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = sweeps(2)
    expected = MfccFeatures()._rows(rows)
    (file,) = cache.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    counter = Counter(monkeypatch, MfccFeatures)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(MfccFeatures()._rows(rows), expected)
    assert counter.count == 6 and f"{file} is not whole" in caplog.text
    MfccFeatures()._rows(rows)
    assert counter.count == 6, "mended"


def test_a_cache_that_cannot_be_written_is_a_warning(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert len(MfccFeatures()._rows(sweeps(1))) == 3
    assert "can't be cached" in caplog.text


def test_clips_of_no_prepared_split_leave_nothing_behind(cache: Path) -> None:
    MfccFeatures()._rows({"audio": [sweep("flat", 0)]})
    MfccFeatures()._rows(rows_of([sweep("flat", 0)], [0], prepared=False))
    assert not cache.exists()


def test_no_clips_are_no_rows() -> None:
    assert MfccFeatures()._rows({"audio": []}).shape == (0, mfcc.WIDTH)


def test_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from joblib import parallel_config

    rows = sweeps(3)
    expected = MfccFeatures()._rows({"audio": clips_of(rows)})
    monkeypatch.setattr(audio_features, "CHUNK", 6)  # a chunk in parallel, and the rest not
    monkeypatch.setattr(audio_features, "PART", 2)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    with parallel_config(backend="threading"):
        np.testing.assert_array_equal(MfccFeatures()._rows(rows), expected)


def test_an_encoder_that_gives_nan_is_refused() -> None:
    import torch

    features = build("whisper")
    with torch.no_grad():
        features.encoder.conv1.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinite"):
        features.fit(sweeps(1))


def test_the_cpu_is_used_where_accelerate_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    for value, expected in {"true": "cpu", "1": "cpu", "YES": "cpu", "false": "cuda", "0": "cuda", "": "cuda"}.items():
        monkeypatch.setenv("ACCELERATE_USE_CPU", value)
        assert device.find_device() == expected, value
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    assert device.find_device() == "cuda"


def test_fitted_parameters_are_counted() -> None:
    rows = sweeps(3)
    assert fit(MfccFeatures(), rows).count_parameters() == (3 * 733 + 2 * 732,) * 2
    hybrid = fit(build("whisper"), rows)
    encoder = sum(p.numel() for p in hybrid.features.encoder.parameters())
    assert hybrid.count_parameters() == (encoder + 2 * 32 + 3 * 33, 2 * 32 + 3 * 33)


def test_features_of_another_version_or_width_do_not_open(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    fit(MfccFeatures(), sweeps(3)).save(tmp_path)
    file, settings = tmp_path / "estimator.safetensors", tmp_path / "features.json"
    tensors = load_file(file)
    save_file(tensors | {"feature_mean": np.zeros(3, np.float32)}, file)
    with pytest.raises(ValueError, match=r"feature_mean is float32 \[3\], not float32 \[732\]"):
        Estimator.load(tmp_path, len(NAMES), MfccFeatures.load)
    save_file(tensors, file)
    settings.write_text(json.dumps({"kind": "mfcc", "version": 0}))
    with pytest.raises(ValueError, match="version 0"):
        Estimator.load(tmp_path, len(NAMES), MfccFeatures.load)


def as_float(clip: np.ndarray) -> np.ndarray:
    return clip.astype(np.float32) / 32768


@pytest.mark.parametrize("samples", [160, 1_600, RATE, 60 * RATE])
def test_the_shortest_the_longest_and_the_silent_clip_have_finite_statistics(samples: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clip in (np.zeros(samples, np.float32), as_float(sweep("rising", 0, samples / RATE))):
            statistics = mfcc.describe(clip)
            assert statistics.shape == (mfcc.WIDTH,) and statistics.dtype == np.float32
            assert np.isfinite(statistics).all()


def test_loudness_and_silence_around_a_clip_change_little() -> None:
    clip = as_float(sweep("rising", 0, 0.6))
    expected = mfcc.describe(clip)
    np.testing.assert_allclose(mfcc.describe(clip / 5_000), expected, rtol=1e-2, atol=0.02)
    silence = np.zeros(4_800, np.float32)
    around = mfcc.describe(np.concatenate([silence, clip, silence]))
    other = mfcc.describe(as_float(sweep("falling", 0, 0.6)))
    difference, between = (np.abs(x - expected) / (1 + np.abs(expected)) for x in (around, other))
    assert np.median(difference) < 0.3 * np.median(between)
    assert around[-1] == pytest.approx(expected[-1], abs=0.03), "the seconds of the part that counts"


def test_the_quarters_of_a_clip_keep_their_order_and_silence_within_it_has_no_quarter() -> None:
    def centroids(clip: np.ndarray) -> np.ndarray:
        return mfcc.describe(clip)[2 * mfcc.TRACKS + 60 :: 2 * mfcc.TRACKS][:4]  # the 60th track: spectral centroid

    rising = as_float(sweep("rising", 0))
    means = centroids(rising)
    assert (np.diff(means) > 0).all()
    np.testing.assert_allclose(centroids(rising[::-1])[::-1], means, rtol=0.05)
    middle = len(rising) // 2
    broken = np.concatenate([rising[:middle], np.zeros(RATE, np.float32), rising[middle:]])
    np.testing.assert_allclose(centroids(broken), means, rtol=0.1)


@pytest.mark.parametrize("rate", [2, 3, 5])
def test_peaks_of_energy_a_second_follow_the_syllables(rate: int) -> None:
    times = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(times))
    clip = (0.1 * noise * (0.15 + np.sin(np.pi * rate * times) ** 2)).astype(np.float32)
    assert mfcc.describe(clip)[-2] == pytest.approx(rate, abs=0.55)


def test_a_clip_of_one_second_takes_less_than_50_ms() -> None:
    clip = as_float(sweep("rising", 0, 1.0))
    mfcc.describe(clip)  # imports
    seconds = []
    for _ in range(10):
        start = time.process_time()
        mfcc.describe(clip)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05  # 0.01 on an idle machine, and processors differ
