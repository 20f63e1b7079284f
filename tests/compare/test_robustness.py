"""Accuracy under noise and under wrong words: the conditions, the score, the files and the lines on the terminal."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import label_answers, run_and_read
from voicecommand.audio import noise as audio_noise
from voicecommand.compare import conditions as compare_conditions
from voicecommand.compare import recogniser_errors, robustness
from voicecommand.errors import InputError
from voicecommand.evaluation import alignment
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.classification import Classification

RATE = 16_000
TEXTS = [
    "Turn on the kitchen lights, please",
    "turn off the light in the living room",
    "play some jazz music",
    "stop the music now",
    "set a timer for ten minutes",
    "call Anna again",
]


def clean_of(answers: np.ndarray, groups: list[str | None] | None = None) -> Answers:
    """One example a row of probabilities; all of label 0."""
    n, k = answers.shape
    return label_answers(
        split="test",
        ids=[f"id-{i}" for i in range(n)],
        origins=[f"test.csv:{i + 2}" for i in range(n)],
        texts=[""] * n,
        references=np.zeros(n, dtype=np.int64),
        probabilities=answers,
        groups=groups,
        group_column=None if groups is None else "speaker",
        label_names=[f"label {i}" for i in range(k)],
    )


def measure(clean: Answers, conditions: list, predict: Callable[[list], np.ndarray]) -> dict[str, Any]:
    """As recipes/robustness.py does it, of a model that gives probabilities."""
    answer = lambda commands: {"probabilities": predict(commands)}  # noqa: E731
    return robustness.measure(Classification(), clean, conditions, answer)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Eight tones of 0.2 to 0.55 s, one octave's steps apart."""
    times = [np.arange(int(RATE * (0.2 + 0.05 * i))) / RATE for i in range(8)]
    return [(10_000 * np.sin(2 * np.pi * 300 * 1.3**i * t)).astype(np.int16) for i, t in enumerate(times)]


@pytest.fixture(scope="module")
def conditions(clips: list[np.ndarray]) -> list[compare_conditions.Condition]:
    ids, speakers = [f"id-{i}" for i in range(8)], [f"s{i % 4}" for i in range(8)]
    hum = np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE).astype(np.float32)
    return compare_conditions.audio_conditions(clips, ids, speakers, ("hum (recorded)", hum))


def test_the_conditions_are_every_noise_at_every_level_two_bands_and_clipping(conditions: list) -> None:
    kinds = ["white", "pink", "brown", "babble", "hum (recorded)"]
    noise = [(c.kind, c.level) for c in conditions if c.unit == "dB"]
    assert noise == [(kind, snr) for kind in kinds for snr in (20, 10, 5, 0)]
    assert [(c.kind, c.level) for c in conditions if c.unit != "dB"] == [
        ("telephone, 300 to 3,400 Hz", None),
        ("low pass, 4 kHz", None),
        ("clipped samples", 0.05),
        ("clipped samples", 0.2),
    ]


def test_noise_has_the_ratio_it_claims_and_full_scale_is_not_passed(clips: list, conditions: list) -> None:
    for condition in (c for c in conditions if c.unit == "dB"):
        for row in (0, 5):
            clip, noisy = clips[row] / 32768, condition.make(row).astype(np.float64)
            assert len(noisy) == len(clip) and np.abs(noisy).max() <= 1
            # All noise of a kind is one waveform at several levels, so two levels give it.
            quiet = next(c for c in conditions if c.kind == condition.kind and c.level == 20).make(row)
            if np.abs(noisy).max() == 1:
                continue  # turned down as a whole: the ratio is that of the clip inside
            noise = noisy - clip
            assert 10 * np.log10(np.mean(clip**2) / np.mean(noise**2)) == pytest.approx(condition.level, abs=0.1)
            scale = 10 ** ((20 - condition.level) / 20)
            assert np.allclose(noise, scale * (quiet - clip), atol=1e-4)


def test_the_noise_of_an_example_hangs_on_its_id_and_the_seed_alone(clips: list, conditions: list) -> None:
    order = [3, 1, 7, 0, 5, 2, 6, 4]
    ids = [f"id-{i}" for i in order]
    shuffled = compare_conditions.audio_conditions([clips[i] for i in order], ids, None)
    other = compare_conditions.audio_conditions(clips, [f"id-{i}" for i in range(8)], None, seed=1)
    for kind in ("white", "pink", "brown"):
        first, again, reseeded = (
            next(c for c in found if (c.kind, c.level) == (kind, 10)) for found in (conditions, shuffled, other)
        )
        assert np.array_equal(first.make(3), again.make(0))
        assert np.array_equal(first.make(3), first.make(3))
        assert not np.array_equal(first.make(3), reseeded.make(3))
        noises = [(first.make(row) - clips[row] / 32768)[: len(clips[2])] for row in (2, 3)]
        assert abs(np.corrcoef(*noises)[0, 1]) < 0.9, "each example has noise of its own"


def test_babble_is_of_other_speakers(clips: list) -> None:
    """Of two speakers, one has 1,000 Hz in all of his clips: his babble has none of it."""
    time = np.arange(RATE // 2) / RATE
    low, high = ((10_000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16) for frequency in (200, 1000))
    quiet = np.zeros(RATE // 2, dtype=np.int16)
    sounds, speakers = [quiet, quiet, high, low, low // 2], ["a", "a", "a", "b", "b"]
    found = compare_conditions.audio_conditions(sounds, list("vwxyz"), speakers)
    babble = next(c for c in found if c.kind == "babble").make(0)
    spectrum = np.abs(np.fft.rfft(babble))
    at = [int(f * len(babble) / RATE) for f in (200, 1000)]
    assert spectrum[at[0]] > 1000 * spectrum[at[1]]
    unknown = compare_conditions.audio_conditions(sounds, list("vwxyz"), None)
    spectrum = np.abs(np.fft.rfft(next(c for c in unknown if c.kind == "babble").make(0)))
    assert spectrum[at[1]] > 0.1 * spectrum[at[0]], "where speakers are unknown, all other clips"


def test_babble_of_a_single_clip_is_an_input_error(clips: list) -> None:
    found = compare_conditions.audio_conditions(clips[:1], ["a"], None)
    with pytest.raises(InputError, match="babble needs two clips"):
        next(c for c in found if c.kind == "babble").make(0)


def test_a_telephone_takes_low_tones_and_clipping_takes_peaks(clips: list, conditions: list) -> None:
    hum = (10_000 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)).astype(np.int16)
    voice = (10_000 * np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE)).astype(np.int16)
    found = {(c.kind, c.level): c for c in compare_conditions.audio_conditions([hum, voice], ["a", "b"], None)}
    telephone, clipped = found["telephone, 300 to 3,400 Hz", None], found["clipped samples", 0.2]
    assert np.std(telephone.make(0)) < 0.01 * np.std(telephone.make(1))
    share = np.mean(np.abs(clipped.make(1)) >= np.abs(clipped.make(1)).max() - 1e-6)
    assert share == pytest.approx(0.2, abs=0.02)


def test_a_recording_is_a_kind_of_noise_of_its_own(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "kitchen.wav", 0.01 * np.ones(RATE) * (-1) ** np.arange(RATE), RATE)
    name, samples = audio_noise.read_recording(str(tmp_path / "kitchen.wav")) or ("", None)
    assert (
        name == "kitchen (recorded)" and samples.dtype == np.float32 and np.std(samples) == pytest.approx(1, abs=0.01)
    )
    (tmp_path / "noises").mkdir()
    for i in range(2):
        soundfile.write(tmp_path / "noises" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, RATE), RATE)
    name, samples = audio_noise.read_recording(str(tmp_path / "noises")) or ("", None)
    assert (name, len(samples)) == ("noises (recorded)", 2 * RATE)
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    with pytest.raises(InputError, match=r"silence\.wav: all recordings are silent"):
        audio_noise.read_recording(str(tmp_path / "silence.wav"))
    with pytest.raises(InputError, match=r"noise=.*nowhere"):
        audio_noise.read_recording(str(tmp_path / "nowhere"))
    assert audio_noise.read_recording(None) is None
    with pytest.raises(InputError, match="kitchen: the run's model reads text; leave it out"):
        audio_noise.read_recording("kitchen", ("text", "label"))


@pytest.mark.parametrize("key", ["noise", "augment.noise_folder"])
def test_a_folder_of_noise_is_read_by_one_rule_and_what_is_skipped_is_counted(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import soundfile

    (tmp_path / "deep").mkdir()
    for name in ("b.WAV", "a.flac", "deep/c.oga"):
        kind = "OGG" if name.endswith("oga") else None
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, RATE), RATE, format=kind)
    for name in ("README.txt", "d.unknown", ".hidden.wav"):
        (tmp_path / name).write_text("no recording")
    with caplog.at_level("INFO"):
        if key == "noise":
            _, samples = audio_noise.read_recording(str(tmp_path)) or ("", np.empty(0))
        else:
            samples = np.concatenate(audio_noise.read_noise_folder(str(tmp_path)))
    assert len(samples) == 3 * RATE
    assert f"{key}={tmp_path}: 2 files skipped, " in caplog.text and "README.txt, d.unknown" in caplog.text
    (tmp_path / "deep" / "e.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    with pytest.raises(InputError, match=r"deep/e\.m4a: AAC or MP4, which is not read here; this converts it: find "):
        audio_noise.read_noise_folder(str(tmp_path)) if key != "noise" else audio_noise.read_recording(str(tmp_path))
    (tmp_path / "deep" / "e.m4a").unlink()
    (tmp_path / "cut.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=rf"^{key}=\S+/cut\.wav: "):
        audio_noise.read_noise_folder(str(tmp_path)) if key != "noise" else audio_noise.read_recording(str(tmp_path))


def right_until(
    worst: Callable[[int], float],
) -> tuple[list[compare_conditions.Condition], Callable[[list], np.ndarray]]:
    """Conditions whose "clip" is (row, SNR), and a model that is right about a row from an SNR of worst(row) on."""
    found = [
        compare_conditions.Condition(kind, snr, "dB", lambda row, snr=snr: (row, snr), True)
        for kind in (*audio_noise.NOISE_KINDS, "hum (recorded)")
        for snr in compare_conditions.SNRS
    ]

    def predict(inputs: list) -> np.ndarray:
        return np.array([[0.9, 0.1] if snr >= worst(row) else [0.1, 0.9] for row, snr in inputs])

    return found, predict


def test_the_score_is_the_area_under_accuracy_over_the_ratio_by_trapezoids() -> None:
    found, predict = right_until(lambda row: 10)
    result = measure(clean_of(np.tile([0.9, 0.1], (30, 1))), found, predict)
    # Right at 20 and 10 dB, wrong at 5 and 0: 10 whole, and half of the 5 dB between.
    assert result["score"]["value"] == pytest.approx((10 + 2.5) / 20)
    assert result["areas"]["white"]["value"] == pytest.approx(0.625)
    always, nothing = (
        measure(clean_of(np.tile([0.9, 0.1], (9, 1))), *right_until(lambda row, w=w: w)) for w in (0, 21)
    )
    assert (always["score"]["value"], nothing["score"]["value"]) == (1.0, 0.0)


def test_a_recording_of_noise_has_an_area_and_is_not_in_the_score() -> None:
    found, predict = right_until(lambda row: 0)
    spoilt = [c if c.kind != "hum (recorded)" else compare_conditions.Condition(
        c.kind, c.level, "dB", lambda row: (row, -1), True) for c in found]  # fmt: skip
    result = measure(clean_of(np.tile([0.9, 0.1], (9, 1))), spoilt, predict)
    assert result["score_over"] == list(audio_noise.NOISE_KINDS)
    assert (result["areas"]["hum (recorded)"]["value"], result["score"]["value"]) == (0.0, 1.0)


def test_every_figure_has_an_interval_over_groups() -> None:
    found, predict = right_until(lambda row: 0 if row % 4 else 21)
    groups: list[str | None] = [f"s{row % 4}" for row in range(600)]  # more than are held at once
    answers = np.tile([0.9, 0.1], (600, 1))
    answers[:60] = [0.1, 0.9]
    result = measure(clean_of(answers, groups), found, predict)
    assert result["conditions"][0]["accuracy"]["value"] == 0.9, "the first row is the examples as they are"
    for figure in (result["score"], result["conditions"][1]["accuracy"]):
        assert figure["value"] == pytest.approx(0.75)
        assert figure["low"] < 0.75 < figure["high"]
        assert figure["method"] == "bootstrap over 4 groups (speaker)"
        assert "fewer than 10 groups" in figure["note"]


class Errors:
    """Errors of words, as a recogniser of speech has them: lower is better, and examples weigh by their words."""

    name, targets, primary_metric, greater_is_better, units_metric = "errors", ("label",), "wer", False, "wer"
    unit = ""

    def units(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(answers.columns["errors"], dtype=np.float64), np.arange(1.0, 1 + len(answers.ids))


def test_a_task_without_labels_is_measured_by_its_own_units(tmp_path: Path) -> None:
    """The third of three examples, of 1, 2 and 3 words, has an error at 5 dB and two at 0."""
    found, _ = right_until(lambda row: 0)
    found.append(compare_conditions.Condition("telephone", None, "", lambda row: (row, 5)))
    clean = dataclasses.replace(clean_of(np.ones((3, 1))), columns={"errors": [0, 0, 0]})

    def answer(commands: list) -> dict[str, list]:
        return {"errors": [{5: 1, 0: 2}.get(snr, 0) if row == 2 else 0 for row, snr in commands]}

    result = robustness.measure(Errors(), clean, found, answer)  # type: ignore[arg-type]
    assert result["metric"] == "wer"
    rates = {row["level"]: row["wer"]["value"] for row in result["conditions"] if row["kind"] == "white"}
    assert rates == {20: 0, 10: 0, 5: pytest.approx(1 / 6), 0: pytest.approx(2 / 6)}
    # Trapezoids from 0 to 20 dB: 5 x 1.5 errors and 5 x 0.5 of 6 words.
    assert result["score"]["value"] == pytest.approx((5 * 1.5 + 5 * 0.5) / 20 / 6)
    robustness.write_robustness(tmp_path, result)
    text = robustness.format_robustness(result)
    assert "score 8.3 % (" in text and "area under WER" in text and "WER, lower is better, with" in text
    assert re.search(r"telephone +16\.7 \(", text)
    assert "errors" not in (tmp_path / "robustness.csv").read_text() and ",wer\n" in (
        (tmp_path / "robustness.csv").read_text().replace("\r", "")
    )


def test_cells_of_a_rate_above_one_stay_apart(tmp_path: Path) -> None:
    found, _ = right_until(lambda row: 0)
    clean = dataclasses.replace(clean_of(np.ones((3, 1))), columns={"errors": [0, 0, 0]})
    result = robustness.measure(Errors(), clean, found, lambda commands: {"errors": [7, 3, 5]})  # type: ignore[arg-type]
    robustness.write_robustness(tmp_path, result)
    (line,) = [line for line in robustness.format_robustness(result).splitlines() if line.startswith("white")]
    assert line.count("  250.0 (150.0, 700.0)") == 4


def test_a_split_without_labels_of_the_model_is_refused() -> None:
    clean = clean_of(np.tile([0.9, 0.1], (3, 1)))
    outside = dataclasses.replace(clean, references={"label": ["out_of_scope"] * 3})
    with pytest.raises(InputError, match="split=test: every example is out of scope"):
        measure(outside, [], lambda inputs: np.zeros((0, 2)))


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("turn on the light", "turn on the light", 0),
        ("turn on the light", "turn off the light", 1 / 4),
        ("turn on the light", "turn on light", 1 / 4),
        ("turn on the light", "turn on on the light", 1 / 4),
        ("turn on the light", "burn the lights now", 4 / 4),
        ("stop", "", 1),
    ],
)
def test_the_word_error_rate_counts_substitutions_deletions_and_insertions(said: str, heard: str, rate: float) -> None:
    assert alignment.word_error_rate([said], [heard]) == rate
    assert alignment.word_error_rate([said, "play music"], [heard, "play music"]) == rate * len(said.split()) / (
        len(said.split()) + 2
    )


def test_wrong_words_come_as_often_as_asked_for_and_the_rate_shown_is_the_measured_one() -> None:
    texts = [text for text in TEXTS for _ in range(150)]
    ids = [f"id-{i}" for i in range(len(texts))]
    found = recogniser_errors.text_conditions(texts, ids, TEXTS)
    assert [c.level for c in found] == [0.0, 0.05, 0.1, 0.2, 0.3]
    assert found[0].word_error_rate == 0
    assert [found[0].make(i) for i in range(len(texts))] == texts
    for condition in found[1:]:
        spoilt = [condition.make(i) for i in range(len(texts))]
        assert condition.word_error_rate == alignment.word_error_rate(texts, spoilt)
        assert condition.word_error_rate == pytest.approx(condition.level, rel=0.15)


def test_wrong_words_are_words_of_the_data_and_a_higher_rate_keeps_the_errors_of_a_lower_one() -> None:
    errors = recogniser_errors.RecogniserErrors(TEXTS, seed=3)
    known = {word for text in TEXTS for word in text.split()} | set(errors.words)
    lengths = set()
    for i in range(300):
        text = TEXTS[i % len(TEXTS)]
        low, high = (errors.spoil(text, f"id-{i}", rate) for rate in (0.1, 0.3))
        assert set(high.split()) <= known
        assert errors.spoil(text, f"id-{i}", 0.3) == high
        if low != text:
            assert high != text
        lengths.add(len(high.split()) - len(text.split()))
    assert {-1, 0, 1} <= lengths, "deletions, substitutions and insertions"


def test_a_text_never_becomes_empty() -> None:
    errors = recogniser_errors.RecogniserErrors(["stop"])
    assert {errors.spoil("stop", f"id-{i}", 1.0) for i in range(50)} == {"stop", "stop stop"}


def test_a_word_is_taken_for_one_that_sounds_or_is_spelt_like_it() -> None:
    errors = recogniser_errors.RecogniserErrors(
        ["light lights night knight kitchen chicken write right phone fone banana"]
    )
    assert errors.similar("light")[0] == "lights"
    assert "night" in errors.similar("knight")[:1]
    assert errors.similar("phone")[0] == "fone"
    assert errors.similar("right")[0] != "banana" and "right" in errors.similar("write")
    assert errors.similar("ωωω") == errors.similar("") == []


def test_the_files_hold_every_condition_and_the_terminal_shows_them(tmp_path: Path, conditions: list) -> None:
    clean = clean_of(np.tile([0.9, 0.1], (8, 1)), [f"s{i % 4}" for i in range(8)])

    def predict(sounds: list) -> np.ndarray:
        return np.array([[0.9, 0.1] if np.std(sound) < 0.25 else [0.2, 0.8] for sound in sounds])

    result = measure(clean, conditions, predict)
    robustness.write_robustness(tmp_path, result)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["robustness.csv", "robustness.json", "robustness.png"]
    assert json.loads((tmp_path / "robustness.json").read_text()) == result
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + 20 + 4 + 5 + 1 and rows[-1]["kind"] == "score"
    white, quiet = (next(r for r in rows if (r["kind"], r["level"]) == ("white", level)) for level in ("0", "20"))
    assert (float(white["value"]), float(quiet["value"])) == (0, 1), "the model is given the noise it is measured on"
    lines = robustness.format_robustness(result).splitlines()
    assert max(map(len, lines)) <= 120
    cells: Any = next(line for line in lines if line.startswith("white"))
    assert cells.rstrip().endswith(f"{100 * result['areas']['white']['value']:.1f}")
    assert cells.split()[1:4] == ["100", "(100,", "100)"] and "  0.0 (0.0, 0.0)" in cells
    assert any(line.startswith("clipped samples 20 %") for line in lines)
    assert "mean of white, pink, brown, babble noise" in lines[-3]
    assert {line[:11] for line in lines[-2:]} == {"note: fewer", "note: every"}


def test_the_recipe_measures_a_model_of_text_under_wrong_words(
    commands_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    data = ["data=file", f"data.path={commands_csv}"]
    code, output = run_and_read(capfd, "train", "model=tfidf_svm", *data, f"runs={tmp_path}", "threads=1")
    assert code == 0, output
    (directory,) = (tmp_path / "file-commands").iterdir()
    code, output = run_and_read(capfd, "robustness", f"run={directory}", *data, "split=test")
    assert code == 0, output
    (measured,) = (directory / "robustness").glob("file-commands-test-*")
    saved = json.loads((measured / "robustness.json").read_text())
    clean, *worse = saved["conditions"]
    expected = json.loads((directory / "metrics.json").read_text())["splits"]["test"]["accuracy"]["value"]
    assert clean["accuracy"]["value"] == expected and len(worse) >= 3
    assert worse[-1]["accuracy"]["value"] < expected, "half of the words wrong, and nothing is lost"
    assert (measured / "robustness.png").stat().st_size > 1000
    assert f"{100 * expected:.1f}" in output and "score" in output


def test_a_table_of_wrong_words_shows_the_measured_rate(tmp_path: Path) -> None:
    ids = [f"id-{i}" for i in range(len(TEXTS))]
    found = recogniser_errors.text_conditions(TEXTS, ids, TEXTS)

    def predict(texts: list) -> np.ndarray:
        return np.array([[0.9, 0.1] if text in TEXTS else [0.1, 0.9] for text in texts])

    result = measure(clean_of(predict(TEXTS)), found, predict)
    text = robustness.format_robustness(result)
    assert f"recogniser errors 30 %, measured {100 * (found[-1].word_error_rate or 0):.1f} %" in text
    assert "area under accuracy over the share of wrong words asked for, 0 to 30 %" in text
    assert result["score"]["value"] < 1 == result["conditions"][1]["accuracy"]["value"]
    robustness.write_robustness(tmp_path, result)
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
