"""Features of batches against the extractors of transformers, which take one example at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from voicecommand.audio.features import LEAST_SAMPLES, Inputs, LogMel, WaveformInputs, to_float
from voicecommand.errors import InputError
from voicecommand.models.families import build_inputs, frame_amplitudes, frame_mask

RATE = 16_000
LENGTHS = (16_000, 9_123, 4_000, 31_999)


def make_clips(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    times = np.arange(max(lengths)) / RATE
    return [
        (0.2 * np.sin(2 * np.pi * (300 + 200 * i) * times) + 0.02 * draws.standard_normal(len(times)) + 0.05)[
            :length
        ].astype(np.float32)
        for i, length in enumerate(lengths)
    ]


def as_batch(clips: list[np.ndarray], samples: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms [b, n], followed by zeros, and their lengths [b]."""
    lengths = torch.tensor([len(clip) for clip in clips])
    waveforms = torch.zeros(len(clips), max(samples, int(lengths.max())))
    for row, clip in zip(waveforms, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return waveforms, lengths


def whisper_inputs(extractor: Any, seconds: int) -> Inputs:
    return build_inputs(t.WhisperConfig(), extractor, seconds)


def tiny_config(family: str, norm: str = "layer") -> Any:
    """A checkpoint's configuration, 2 layers, 32 wide, no dropout."""
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
    kind = {
        "wav2vec2": t.Wav2Vec2Config,
        "hubert": t.HubertConfig,
        "wavlm": t.WavLMConfig,
        "data2vec": t.Data2VecAudioConfig,
    }
    return kind[family](
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm=norm, initializer_range=0.2,
        conv_bias=norm == "layer", do_stable_layer_norm=norm == "layer", num_labels=3, classifier_proj_size=16, **still,
    )  # fmt: skip


@pytest.mark.parametrize("bins", [80, 128])
def test_whispers_features_equal_its_extractor(bins: int) -> None:
    clips = make_clips((*LENGTHS, 40_000))
    stock = t.WhisperFeatureExtractor(feature_size=bins, chunk_length=2)
    expected = stock(clips, sampling_rate=RATE, return_tensors="pt")["input_features"]
    made = whisper_inputs(t.WhisperFeatureExtractor(feature_size=bins), 2)(*as_batch(clips))["input_features"]
    assert made.shape == (5, bins, 200)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_waveforms_with_masks_equal_the_extractors_batch(normalize: bool) -> None:
    stock = t.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    clips = make_clips()
    expected = stock(clips, sampling_rate=RATE, padding=True, return_tensors="pt")
    made = WaveformInputs(stock.do_normalize, uses_mask=True)(*as_batch(clips))
    torch.testing.assert_close(made["input_values"], expected["input_values"], atol=1e-4, rtol=0)
    assert torch.equal(made["attention_mask"], expected["attention_mask"].long())


def test_waveforms_without_masks_equal_the_extractor_for_each_clip_alone() -> None:
    stock = t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    clips = make_clips()
    made = WaveformInputs(stock.do_normalize, uses_mask=False)(*as_batch(clips))
    assert set(made) == {"input_values"}
    for row, clip in zip(made["input_values"], clips, strict=True):
        expected = stock(clip, sampling_rate=RATE, return_tensors="pt")["input_values"][0]
        torch.testing.assert_close(row[: len(clip)], expected, atol=1e-4, rtol=0)
        assert not row[len(clip) :].any()


def test_int16_waveforms_give_the_features_of_their_floats() -> None:
    waveforms, lengths = as_batch(make_clips())
    whole = (waveforms * 32768).round().to(torch.int16)
    torch.testing.assert_close(to_float(whole), waveforms, atol=2**-16, rtol=0)
    assert to_float(torch.tensor([-(2**15)], dtype=torch.int16)).item() == -1.0
    for front in (
        whisper_inputs(t.WhisperFeatureExtractor(), 1),
        WaveformInputs(True, uses_mask=True),
    ):
        for name, value in front(whole, lengths).items():
            assert torch.equal(value, front(to_float(whole), lengths)[name])


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_each_family_gets_a_mask_only_where_its_convolutions_have_layer_norm(family: str) -> None:
    waveforms, lengths = as_batch(make_clips())
    extractor = t.Wav2Vec2FeatureExtractor()
    for norm, names in (("layer", {"input_values", "attention_mask"}), ("group", {"input_values"})):
        assert set(build_inputs(tiny_config(family, norm), extractor, 2)(waveforms, lengths)) == names


def test_a_family_whose_convolutions_always_have_layer_norm_always_gets_a_mask() -> None:
    config = t.Data2VecAudioConfig()
    assert not hasattr(config, "feat_extract_norm"), "nothing to ask"
    made = build_inputs(config, t.Wav2Vec2FeatureExtractor(return_attention_mask=False), 2)(*as_batch(make_clips()))
    assert set(made) == {"input_values", "attention_mask"}


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_padding_changes_no_answer_of_a_checkpoint_that_takes_a_mask(family: str) -> None:
    torch.manual_seed(0)
    config = tiny_config(family)
    model = t.AutoModelForAudioClassification.from_config(config).eval()
    front = build_inputs(config, t.Wav2Vec2FeatureExtractor(), 2)
    clips = make_clips((16_000, 9_123, 12_345))
    with torch.no_grad():
        together = model(**front(*as_batch(clips, samples=24_000))).logits
        alone = torch.cat([model(**front(*as_batch([clip]))).logits for clip in clips])
        unmasked = model(input_values=front(*as_batch(clips, samples=24_000))["input_values"]).logits
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (unmasked - alone).abs().max() > 1e-3, "the test cannot tell: padding makes no difference here"


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "data2vec"])
def test_the_frames_that_count_are_those_of_the_clip_alone(family: str) -> None:
    model = t.AutoModel.from_config(tiny_config(family)).eval()
    clips = make_clips((16_000, 9_600, 4_000))
    waveforms, lengths = as_batch(clips)
    frames = model(waveforms).last_hidden_state.shape[1]
    counted = frame_mask(model, lengths, frames).sum(1).tolist()
    assert counted == [model(torch.from_numpy(clip)[None]).last_hidden_state.shape[1] for clip in clips]


def test_whispers_frames_are_320_samples() -> None:
    config = t.WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, max_source_positions=50)
    model = t.models.whisper.modeling_whisper.WhisperEncoder(config)
    mask = frame_mask(model, torch.tensor([16_000, 321, 320, 0]), 50)
    assert mask.sum(1).tolist() == [50, 2, 1, 1]


def test_a_frames_loudness_is_the_deviation_of_its_samples_and_ignores_a_constant_offset() -> None:
    waveforms = torch.zeros(2, 640)
    waveforms[0, 320:] = 0.5 * torch.tensor([1.0, -1.0]).repeat(160)
    waveforms[1] = 0.1
    loud = frame_amplitudes(waveforms, 2)
    torch.testing.assert_close(loud, torch.tensor([[1e-8, 0.5], [1e-8, 1e-8]]), atol=1e-6, rtol=0)


def test_a_clip_of_a_few_samples_still_has_a_frame() -> None:
    waveforms, lengths = as_batch(make_clips((16_000, 10)))
    mask = WaveformInputs(True, uses_mask=True)(waveforms, lengths)["attention_mask"]
    assert mask.sum(1).tolist() == [16_000, 400]
    short = WaveformInputs(True, uses_mask=True)(waveforms[:, :10], lengths.clamp(max=10))
    assert short["input_values"].shape == (2, LEAST_SAMPLES)


def test_log_mel_equals_the_plain_way_and_clips_do_not_see_each_other() -> None:
    waveforms, _ = as_batch(make_clips())
    log_mel = LogMel(RATE)
    made = log_mel(waveforms)
    assert made.shape == (4, 40, 1 + waveforms.shape[1] // 160)
    spectra = torch.stft(waveforms, 480, 160, window=torch.hann_window(480), return_complex=True).abs().square()
    bank = t.audio_utils.mel_filter_bank(241, 40, 0.0, 8000.0, RATE, mel_scale="htk")
    plain = torch.log(torch.from_numpy(bank).float().T @ spectra + 1e-6)
    decibels = 10 / np.log(10) * (plain - plain.amax((1, 2), keepdim=True))
    assert (decibels < -60).any()
    torch.testing.assert_close(10 / np.log(10) * made, decibels.clamp(min=-60) + 30, atol=1e-3, rtol=0)
    torch.testing.assert_close(made[1:2], log_mel(waveforms[1:2]), atol=1e-5, rtol=0)


def test_neither_level_nor_a_quiet_floor_changes_the_log_mel_of_a_clip() -> None:
    clip = torch.zeros(1, RATE)
    clip[:, 4000:12_000] = torch.from_numpy(make_clips((8000,))[0])
    log_mel, hiss = LogMel(RATE), 1e-6 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_mel(0.5 * clip), log_mel(clip), atol=1e-2, rtol=0)
    torch.testing.assert_close(log_mel(clip + hiss), log_mel(clip), atol=1e-2, rtol=0)
    silent = log_mel(torch.zeros(1, RATE))
    assert silent.isfinite().all() and silent.std() < 1e-5


def test_features_stay_in_float32_under_autocast() -> None:
    waveforms, lengths = as_batch(make_clips())
    front, log_mel = whisper_inputs(t.WhisperFeatureExtractor(), 2), LogMel(RATE)
    expected = front(waveforms, lengths)["input_features"], log_mel(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        made = front(waveforms, lengths)["input_features"], log_mel(waveforms)
    assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


def test_what_has_no_features_is_named() -> None:
    with pytest.raises(InputError, match=r"model\.max_seconds=1\.5: Whisper takes whole seconds"):
        build_inputs(t.WhisperConfig(), t.WhisperFeatureExtractor(), 1.5)
    with pytest.raises(InputError, match=r"a bert model; there are whisper, wav2vec2, hubert, wavlm, data2vec-audio$"):
        build_inputs(t.BertConfig(), None, 2)
