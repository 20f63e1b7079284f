"""Augmentation: the draws and the effects, each property by its own measurement."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from voicecommand.audio import augmentation, effects
from voicecommand.audio import noise as audio_noise
from voicecommand.audio.augmentation import Augmentation, Augmenter
from voicecommand.audio.effects import add_noise, band_limit, clip
from voicecommand.audio.noise import make_noise
from voicecommand.errors import InputError
from voicecommand.report import samples as report_samples

RATE = 16_000
CONF = Path(__file__).parents[2] / "conf" / "augment"
EVERYTHING = Augmentation(
    speed=1, shift=1, reverb=1, equaliser=1, band_limit=1, noise=1, gain=1, clipping=1, masks=2,
    clipping_share=(0.01, 0.05),
)  # fmt: skip
HALF_OF_EACH = Augmentation(
    speed=0.5, shift=0.5, reverb=0.5, equaliser=0.5, band_limit=0.5, noise=0.5, gain=0.5, clipping=0.5, masks=2
)


def speech(samples: int, seed: int = 0) -> np.ndarray:
    """int16 [samples]: noise under syllables of 4 Hz, loud and soft."""
    time = np.arange(samples) / RATE
    envelope = np.sin(2 * np.pi * 4 * time + seed) ** 2
    return (3000 * envelope * np.random.default_rng(seed).standard_normal(samples)).astype(np.int16)


CLIPS = [speech(8000 + 431 * i, i) for i in range(12)]


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(c) for c in CLIPS])
    waveforms = torch.zeros(len(CLIPS), int(lengths.max()))
    for row, samples in zip(waveforms, CLIPS, strict=True):
        row[: len(samples)] = torch.from_numpy(samples / np.float32(32768))
    return waveforms, lengths


@pytest.fixture(scope="module", autouse=True)
def short_noise() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "NOISE_SECONDS", 4)
        yield


def tensors(draws: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in draws.items()}


def neutral(count: int = 1, **changes: float) -> dict[str, Tensor]:
    """Draws of which nothing happens but `changes`."""
    draws = tensors(Augmentation().draw(0, 0, range(count)))
    assert changes.keys() <= draws.keys()
    return draws | {name: torch.full_like(draws[name], value) for name, value in changes.items()}


def tone(hertz: float, samples: int = RATE) -> Tensor:
    return (0.5 * torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / RATE))[None].float()


def db(power: Tensor | float) -> Tensor:
    return 10 * torch.as_tensor(power).log10()


# --- what is drawn ---


def test_draws_of_an_example_do_not_depend_on_its_batch_its_place_or_its_rank() -> None:
    together = HALF_OF_EACH.draw(7, 3, range(40))
    assert {len(values) for values in together.values()} == {40}
    batches = [[5], [39, 5, 0], list(range(0, 40, 2)), list(range(1, 40, 2))[::-1]]
    for examples in batches:
        apart = HALF_OF_EACH.draw(7, 3, examples)
        for name in together:
            np.testing.assert_array_equal(apart[name], together[name][examples])


def test_loader_workers_draw_what_one_process_draws() -> None:
    alone = HALF_OF_EACH.draw(7, 3, range(12))
    loader = torch.utils.data.DataLoader(
        range(12),  # type: ignore[arg-type]
        batch_size=3,
        num_workers=2,
        collate_fn=lambda examples: tensors(HALF_OF_EACH.draw(7, 3, examples)),
    )
    batches = list(loader)
    for name, values in alone.items():
        np.testing.assert_array_equal(torch.cat([b[name] for b in batches]).numpy(), values)


def test_draws_change_with_seed_epoch_and_example() -> None:
    drawn = [EVERYTHING.draw(seed, epoch, [example]) for seed in (1, 2) for epoch in (1, 2) for example in (1, 2)]
    for name in ("shift_seconds", "noise_snr_db", "noise_offset", "equaliser_db", "mask_times"):
        assert len({values[name].tobytes() for values in drawn}) == 8, name


def test_draws_are_the_same_in_every_process_and_version() -> None:
    draws = EVERYTHING.draw(seed=42, epoch=3, examples=[12345])
    assert float(draws["shift_seconds"][0]) == pytest.approx(0.0950458, abs=1e-6)
    assert float(draws["noise_snr_db"][0]) == pytest.approx(29.2444, abs=1e-4)
    assert float(draws["mask_times"][0, 1, 1]) == pytest.approx(0.1968801, abs=1e-6)


def test_one_probability_does_not_change_what_else_is_drawn() -> None:
    less = EVERYTHING.draw(1, 1, range(30))
    more = Augmentation(**(vars(EVERYTHING) | {"noise": 0.3, "speed": 0, "masks": 3})).draw(1, 1, range(30))
    for name in ("shift_seconds", "reverb_seconds", "equaliser_db", "gain_db", "noise_offset", "clipping_share"):
        np.testing.assert_array_equal(less[name], more[name])
    assert (more["speed_percent"] == 100).all() and (less["speed_percent"] != 100).any()


def test_each_effect_happens_as_often_as_said_and_within_its_range() -> None:
    draws = HALF_OF_EACH.draw(1, 1, range(4000))
    off = {"speed_percent": 100, "shift_seconds": 0, "reverb_seconds": 0, "band_low_hz": 0, "gain_db": 0,
           "noise_snr_db": math.inf, "clipping_share": 0}  # fmt: skip
    for name, value in off.items():
        assert np.mean(draws[name] != value) == pytest.approx(0.5, abs=0.03), name
    assert np.mean((draws["equaliser_db"] != 0).any(1)) == pytest.approx(0.5, abs=0.03)
    ratios = draws["noise_snr_db"][np.isfinite(draws["noise_snr_db"])]
    assert 0 <= ratios.min() < 1 and 29 < ratios.max() <= 30 and ratios.mean() == pytest.approx(15, abs=0.7)
    percent = draws["speed_percent"]
    assert percent.min() == 85 and percent.max() == 115 and (percent == percent.round()).all()
    assert ((draws["mask_bands"] >= 0) & (draws["mask_bands"] < 1)).all()
    assert draws["mask_bands"].shape == draws["mask_times"].shape == (4000, 2, 2)


# --- batches ---


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("choice", [EVERYTHING, HALF_OF_EACH])
def test_an_augmented_clip_is_the_same_bit_for_bit_in_another_batch(
    batch: tuple[Tensor, Tensor], choice: Augmentation, threads: int
) -> None:
    waveforms, lengths = batch
    augmenter = choice.build(CLIPS, RATE, seed=1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = augmenter(waveforms, lengths, tensors(choice.draw(1, 0, range(12))))
        assert len(torch.unique(together, dim=0)) == 12
        for examples in ([3], [11, 3], [0, 1, 2, 3, 4], [9, 8, 7, 6, 5, 4, 3, 2, 1]):
            apart = augmenter(waveforms[examples], lengths[examples], tensors(choice.draw(1, 0, examples)))
            assert torch.equal(apart, together[examples]), examples
    finally:
        torch.set_num_threads(before)


def test_where_nothing_is_drawn_nothing_changes(batch: tuple[Tensor, Tensor]) -> None:
    waveforms, lengths = batch
    kept = waveforms.clone()
    augmented = Augmentation().build(None, RATE, seed=1)(waveforms, lengths, neutral(12))
    assert torch.equal(augmented, kept) and augmented.data_ptr() != waveforms.data_ptr()


def test_the_input_is_unchanged_and_the_training_precision_does_not_affect_the_audio(
    batch: tuple[Tensor, Tensor],
) -> None:
    waveforms, lengths = batch
    kept, draws = waveforms.clone(), tensors(EVERYTHING.draw(1, 0, range(12)))
    augmenter = EVERYTHING.build(CLIPS, RATE, seed=1)
    augmented = augmenter(waveforms, lengths, draws)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augmenter(waveforms, lengths, draws), augmented)
    assert torch.equal(waveforms, kept)
    assert augmented.dtype == torch.float32 and augmented.isfinite().all() and augmented.abs().max() <= 1
    assert not augmenter.state_dict(), "noise is made again from the seed, not saved"


# --- noise ---


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("ratio", [-5.0, 0.0, 12.3, 30.0])
def test_the_achieved_ratio_is_the_drawn_one_over_the_clip(
    batch: tuple[Tensor, Tensor], kind: int, ratio: float
) -> None:
    waveforms, lengths = batch
    waveforms = waveforms / 20  # far from full scale, so that nothing is turned down
    augmenter = Augmentation(noise=1).build(CLIPS, RATE, seed=1)
    draws = neutral(12, noise_snr_db=ratio, noise_kind=(kind + 0.5) / 4)
    noise = augmenter(waveforms, lengths, draws) - waveforms
    for row in range(12):
        valid = slice(0, int(lengths[row]))
        achieved = db(waveforms[row, valid].double().square().mean() / noise[row, valid].double().square().mean())
        assert abs(achieved - ratio) < 0.1
        assert noise[row, int(lengths[row]) :].square().sum() > 0 or row == 11, "noise ends with the clip"


def test_the_ratio_holds_for_speech_that_was_moved_and_put_in_a_room(batch: tuple[Tensor, Tensor]) -> None:
    waveforms, lengths = batch[0] / 20, batch[1]
    changes = {"shift_seconds": 0.05, "speed_percent": 110.0, "reverb_seconds": 0.3, "band_high_hz": 5000.0}
    augmenter = Augmentation(noise=1, noise_kinds=["babble"]).build(CLIPS, RATE, seed=1)
    clean = augmenter(waveforms, lengths, neutral(12, **changes))
    noise = augmenter(waveforms, lengths, neutral(12, **changes, noise_snr_db=7.0)) - clean
    for row in range(12):
        valid = slice(800, min(800 + int(lengths[row] / 1.1), waveforms.shape[1]))
        ratio = db(clean[row, valid].double().square().mean() / noise[row, valid].double().square().mean())
        assert abs(ratio - 7) < 0.1


def test_add_noise_takes_one_ratio_or_one_for_each_and_counts_valid_samples_only() -> None:
    waveforms, noise = torch.randn(3, 4000) / 10, torch.randn(3, 4000)
    waveforms[:, 2000:] = 0
    for ratio in (torch.tensor([0.0, 10.0, 20.0]), 10.0):
        added = add_noise(waveforms, noise, ratio, torch.tensor([2000, 2000, 2000])) - waveforms
        achieved = db(waveforms[:, :2000].square().mean(1) / added[:, :2000].square().mean(1))
        torch.testing.assert_close(achieved, torch.as_tensor(ratio).expand(3), atol=0.01, rtol=0)
    whole = add_noise(waveforms, noise, 10.0) - waveforms
    assert abs(db(waveforms.square().mean() / whole.square().mean()) - 10) < 0.1


def test_a_silent_clip_gets_noise_as_speech_at_its_usual_level_would() -> None:
    silent = torch.zeros(3, 8000)
    silent[1] = torch.randint(0, 2, (8000,)) / 32768  # the converter's last bit
    silent[2, :7000] = 0.3  # constant, and then padding
    noise = add_noise(silent, torch.randn(3, 8000), 10.0, torch.tensor([8000, 8000, 7000])) - silent
    powers = torch.stack([noise[0].square().mean(), noise[1].square().mean(), noise[2, :7000].square().mean()])
    torch.testing.assert_close(db(powers), torch.full((3,), -36.0), atol=0.1, rtol=0)


def test_silent_noise_adds_nothing() -> None:
    waveforms = torch.randn(1, 1000)
    assert torch.equal(add_noise(waveforms, torch.zeros(1, 1000), 0.0), waveforms)


def test_a_window_longer_than_the_noise_is_filled() -> None:
    waveforms = torch.zeros(2, 5 * RATE)
    waveforms[:, :1000] = 0.1
    augmenter = Augmentation(noise=1, noise_kinds=["white"]).build(None, RATE, seed=1)
    noise = augmenter(waveforms, torch.tensor([1000, 1000]), neutral(2, noise_snr_db=20.0)) - waveforms
    powers = noise.view(2, 10, -1).square().mean(-1)
    assert powers.min() > 0.8 * powers.max()


@pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_made_noise_has_its_slope_and_is_the_same_for_the_same_seed(kind: str, slope: float) -> None:
    noise = make_noise(kind, 160_000, seed=3)
    assert noise.dtype == np.float32 and np.mean(noise.astype(float) ** 2) == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(noise, make_noise(kind, 160_000, seed=3))
    assert not np.array_equal(noise, make_noise(kind, 160_000, seed=4))
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [10 * np.log10(power[10 * low : 20 * low].mean()) for low in (250, 500, 1000, 2000, 4000)]
    assert np.diff(octaves) == pytest.approx([slope] * 4, abs=0.35)


def test_babble_is_made_of_the_training_clips_alone() -> None:
    loud = [np.repeat([value, -value], 250).astype(np.int16) for value in (-9000, 9000)]
    augmenter = Augmentation(noise=1, noise_kinds=["babble"]).build([*loud, np.zeros(500, np.int16)], RATE, seed=1)
    levels = set((augmenter.noise * math.sqrt(audio_noise.VOICES)).round().int().tolist())
    assert levels <= {-6, -4, -2, 0, 2, 4, 6} and len(levels) > 3


def test_recordings_of_noise_are_a_kind_more_at_one_level() -> None:
    choice = Augmentation(noise=1, noise_kinds=["white"], noise_folder="noises")
    recordings = [np.tile([100, -100], 15), np.zeros(7), np.full(9, 500), np.tile([-20_000, 20_000], 25)]
    augmenter = choice.build(None, RATE, seed=1, recordings=[part.astype(np.int16) for part in recordings])
    assert augmenter.kinds == ["white", "folder"] and augmenter.kind_samples == [4 * RATE, 80]
    torch.testing.assert_close(augmenter.noise[-80:], torch.tensor([1.0, -1.0] * 15 + [-1.0, 1.0] * 25))


@pytest.mark.parametrize("clips", [None, [], [np.zeros(100, np.int16), np.full(100, 500, np.int16)]])
def test_babble_of_nothing_is_refused(clips: list[np.ndarray] | None) -> None:
    with pytest.raises(InputError, match="babble needs training clips"):
        Augmentation(noise=1).build(clips, RATE, seed=1)


def test_a_folder_without_sound_is_refused() -> None:
    with pytest.raises(InputError, match="noise_folder=x: no recording"):
        Augmentation(noise=1, noise_folder="x", noise_kinds=[]).build(None, RATE, seed=1, recordings=[])


# --- speed and shift ---


def augment(waveforms: Tensor, lengths: int | None = None, **changes: float) -> Tensor:
    augmenter = Augmentation(speed_range=(0.5, 2)).build(None, RATE, seed=1)
    return augmenter(waveforms, torch.tensor([lengths or waveforms.shape[1]]), neutral(1, **changes))


@pytest.mark.parametrize("percent", [50, 85, 97, 101, 115, 200])
def test_speed_moves_a_tone_to_its_exact_frequency(percent: int) -> None:
    played = augment(tone(1000), speed_percent=percent)
    start = 100 * (round((100 / percent - 1) * RATE / 2 * percent / 100) / percent) if percent < 100 else 0
    time = torch.arange(RATE, dtype=torch.float64) + start
    expected = 0.5 * torch.sin(2 * math.pi * 1000 * percent / 100 * time / RATE)
    inside = slice(100, int(RATE * min(1, 100 / percent)) - 100)
    error = (played[0, inside] - expected[inside]).square().mean() / 0.125
    assert db(error) < (-45 if percent == 200 else -60)


def test_a_faster_clip_ends_earlier_and_leaves_no_alias() -> None:
    played = augment(tone(7500), speed_percent=125)  # would be 9,375 Hz, above half the rate
    assert db(played[0, 100:12_600].square().mean() / 0.125) < -20
    assert not augment(tone(1000), speed_percent=125)[0, 12_820:].any()


def test_a_slower_clip_that_does_not_fit_is_cut_at_both_ends_alike() -> None:
    ramp = torch.linspace(-0.5, 0.5, RATE)[None]
    played = augment(ramp, speed_percent=80)[0]
    kept = 0.4 - 50 * 0.8 / RATE  # a tenth is lost at each end
    assert played[50].item() == pytest.approx(-kept, abs=1e-3) and played[-50].item() == pytest.approx(kept, abs=1e-3)
    fits = augment(torch.nn.functional.pad(ramp, (0, 8000)), RATE, speed_percent=80)[0]
    assert fits[10].item() == pytest.approx(-0.5, abs=1e-2) and fits[19_990].item() == pytest.approx(0.5, abs=1e-2)


@pytest.mark.parametrize("samples", [0, 160, -160, 1601, -20_000, 20_000])
def test_shift_moves_samples_exactly_and_fills_with_zeros(samples: int) -> None:
    waveform = torch.randn(1, 4000).clamp(-1, 1)
    expected = torch.zeros(4000)
    if abs(samples) < 4000:
        source = waveform[0, max(0, -samples) : 4000 - max(0, samples)]
        expected[max(0, samples) : max(0, samples) + len(source)] = source
    assert torch.equal(augment(waveform, shift_seconds=samples / RATE)[0], expected)


# --- frequency and rooms ---


def test_band_limit_keeps_what_is_inside_and_takes_what_is_outside() -> None:
    for hertz in (400, 1000, 3000):
        level = db(band_limit(tone(hertz), 300, 3400, RATE)[0, 2000:-2000].square().mean() / 0.125)
        assert abs(level) < 0.05, hertz
    for hertz in (75, 6800):
        assert db(band_limit(tone(hertz), 300, 3400, RATE)[0, 2000:-2000].square().mean() / 0.125) < -40, hertz


def test_the_equaliser_gains_what_was_drawn_at_each_band() -> None:
    impulse = torch.zeros(1, RATE)
    impulse[0, 8000] = 0.5
    draws, gains = neutral(1), torch.tensor([[3.0, -6.0, 0.0, 8.0, -8.0, 2.0, 5.0, -3.0]])
    augmenter = Augmentation().build(None, RATE, seed=1)
    shaped = augmenter(impulse, torch.tensor([RATE]), draws | {"equaliser_db": gains})
    spectrum = torch.fft.rfft(shaped[0].double()).abs() / 0.5
    for band, gain in enumerate(gains[0].tolist()):
        assert 20 * math.log10(spectrum[round(62.5 * 2**band)]) == pytest.approx(gain, abs=0.3)


def test_padding_stays_silent_where_neither_room_nor_noise_fills_it() -> None:
    padded = torch.nn.functional.pad(torch.randn(1, 4000).clamp(-1, 1), (0, 4000))
    shaped = augment(padded, 4000, band_low_hz=300.0, band_high_hz=3400.0)
    assert not shaped[0, 4000:].any() and shaped[0, :4000].any()
    late = augment(padded, 4000, band_low_hz=300.0, shift_seconds=0.05)
    assert not late[0, :800].any() and not late[0, 4800:].any() and late[0, 4000:4800].any()
    room = augment(padded, 4000, reverb_seconds=0.4, shift_seconds=0.05)
    assert not room[0, :800].any() and room[0, 4800:].any()


@pytest.mark.parametrize("seconds", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("direct", [0.0, 10.0])
def test_a_room_decays_in_its_time_and_keeps_its_direct_sound(seconds: float, direct: float) -> None:
    impulse = torch.zeros(1, RATE)
    impulse[0, 0] = 0.5
    response = augment(impulse, reverb_seconds=seconds, reverb_direct_db=direct)[0].double() / 0.5
    assert response[0].item() == pytest.approx(1, abs=1e-3)
    late = response[1:]
    assert db(late.square().sum()) == pytest.approx(-direct, abs=0.05)
    remaining = db(late.square().flip(0).cumsum(0).flip(0))  # Schroeder's backward integration
    span = torch.arange(int(0.05 * seconds * RATE), int(0.3 * seconds * RATE))
    slope = np.polyfit(span.numpy() / RATE, remaining[span].numpy(), 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.2)


# --- gain and clipping ---


def test_gain_is_what_was_drawn_and_full_scale_is_never_left() -> None:
    torch.testing.assert_close(augment(tone(300), gain_db=-6.0206), tone(300) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(augment(tone(300), gain_db=20.0), tone(300) * 2, atol=1e-5, rtol=0)


def test_clip_cuts_the_share_of_the_valid_samples() -> None:
    waveforms = torch.randn(3, 5000)
    waveforms[:, 4000:] = 0
    for lengths, counted in ((None, 5000), (torch.tensor([4000] * 3), 4000)):
        clipped = clip(waveforms, torch.tensor([0.0, 0.01, 0.2]), lengths)
        assert (clipped != waveforms).sum(1).tolist() == [0, counted // 100, counted // 5]
        assert (clipped[2].abs() == clipped[2].abs().max()).sum() == counted // 5 + 1
    assert ((clip(waveforms, 0.1) != waveforms).sum(1) == 500).all()


# --- SpecAugment ---


def test_masks_are_as_wide_as_drawn_and_hold_the_mean() -> None:
    features = torch.randn(2, 40, 98) + 5
    mask_bands = torch.tensor([[[0.99, 0.0]], [[0.0, 0.5]]])
    mask_times = torch.tensor([[[0.0, 0.9]], [[0.5, 0.999]]])
    masked = effects.mask_spectrogram(features, mask_bands, mask_times, max_bins=7, max_frames=25)
    changed = masked != features
    assert changed[0].all(1).nonzero()[:, 0].tolist() == list(range(7)) and changed[0].sum() == 7 * 98
    assert changed[1].all(0).nonzero()[:, 0].tolist() == list(range(85, 98)) and changed[1].sum() == 13 * 40
    torch.testing.assert_close(masked[0, 0], features[0].mean().expand(98))


def test_no_mask_is_wider_than_said_and_all_widths_and_places_occur() -> None:
    drawn = torch.from_numpy(Augmentation(masks=1).draw(1, 1, range(3000))["mask_bands"])
    masked = effects._masked(drawn, 40, 7)
    assert masked.sum(1).unique().tolist() == list(range(8))
    assert masked.any(0).all()
    assert effects._masked(torch.full((1, 1, 2), 0.9999), 5, 100).sum() == 5


# --- settings and samples ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.5}, "augment.noise=1.5: a probability"),
        ({"speed_range": [1.2, 0.8]}, r"augment.speed_range=\[1.2, 0.8\]: give \[least, most\] within 0.5 to 2"),
        ({"clipping_share": [0, 2]}, "augment.clipping_share"),
        ({"noise_kinds": ["whitte"]}, "no whitte; there are white, pink, brown, babble"),
        ({"noise_kinds": "white"}, "give a list of white"),
        ({"noise_kinds": None}, "give a list of white"),
        ({"noise": 0.5, "noise_kinds": []}, "name kinds of noise"),
        ({"masks": -1}, "augment.masks=-1"),
        ({"equaliser_db": -3}, "augment.equaliser_db=-3"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**settings)


def test_every_file_of_settings_makes_an_augmentation() -> None:
    files = sorted(CONF.glob("*.yaml"))
    assert [file.stem for file in files] == ["light", "none", "strong"]
    for file in files:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.stem == "none":
            assert settings is None
            continue
        assert settings.pop("_target_") == "voicecommand.audio.augmentation.Augmentation"
        assert isinstance(Augmentation(**settings).build(CLIPS, RATE, seed=1), Augmenter)


def test_write_samples_leaves_pairs_to_hear_and_a_figure(tmp_path: Path) -> None:
    files = report_samples.write_samples(CLIPS, EVERYTHING, RATE, tmp_path / "heard", count=2)
    names = ["00000_original.wav", "00000_augmented.wav", "00011_original.wav", "00011_augmented.wav", "augmented.png"]
    assert [file.name for file in files] == names == [f.name for f in files if f.stat().st_size > 1000]
    assert files[-1].read_bytes().startswith(b"\x89PNG")
    with wave.open(str(files[2])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.abs(heard[: len(CLIPS[11])].astype(int) - CLIPS[11]).max() <= 1
