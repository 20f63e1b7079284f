"""From predictions to metrics.json, its files and the lines on the terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import evaluate_labels, label_answers
from voicecommand.errors import InputError
from voicecommand.evaluation import arrays, confidence, intervals, slices
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Bars, Block, Examples
from voicecommand.evaluation.classification import Classification
from voicecommand.evaluation.splits import build_blocks
from voicecommand.evaluation.threshold import keep_share
from voicecommand.report import clips as report_clips
from voicecommand.report import terminal, written

LABELS = ["call", "play", "turn_off"]


def predictions_of(split: str, references: list[int], predicted: list[int], **changes: Any) -> Answers:
    """A split whose predictions are given; confidence falls from 0.95 with the row, no two alike."""
    k = len(changes.get("label_names", LABELS))
    n = len(references)
    top = 0.95 - 0.4 * np.arange(n) / n
    probabilities = np.repeat(((1 - top) / (k - 1))[:, None], k, axis=1)
    probabilities[np.arange(n), predicted] = top
    fields = {
        "split": split,
        "ids": [f"{split}-{i}" for i in range(n)],
        "origins": [f"{split}.csv:{i + 2}" for i in range(n)],
        "texts": [f"text {i}" for i in range(n)],
        "references": np.array(references, dtype=np.int64),
        "probabilities": probabilities,
        "groups": None,
        "group_column": None,
        "label_names": LABELS,
    }
    return label_answers(**(fields | changes))


def blocks_of(splits: list[Answers]) -> list[Block]:
    return build_blocks((Classification(),), splits, evaluate_labels(splits))


@pytest.fixture
def splits() -> list[Answers]:
    groups = [f"template {i % 12}" for i in range(60)]
    return [
        predictions_of("validation", [0, 1, 2] * 20, [0, 1, 2] * 18 + [1, 1, 2] * 2),
        predictions_of("test", [0, 1, 2] * 20, [0, 1, 2] * 16 + [0, 2, 2] * 4, groups=groups, group_column="template"),
        predictions_of("out_of_scope_test", [-1] * 10, [0] * 10),
    ]


def test_metrics_hold_each_split_and_the_test_split_is_the_main_one(splits: list[Answers]) -> None:
    metrics = evaluate_labels(splits)
    assert metrics["main_split"] == "test"
    assert list(metrics["splits"]) == ["validation", "test"], "out-of-scope splits have no accuracy"
    test = metrics["splits"]["test"]
    assert test["accuracy"]["value"] == 56 / 60
    assert test["confusion_matrix"] == [[20, 0, 0], [0, 16, 4], [0, 0, 20]]
    assert test["per_label"]["play"] == {
        "precision": 1.0,
        "recall": 0.8,
        "f1": pytest.approx(8 / 9),
        "support": 20,
    }
    assert evaluate_labels(splits[:1])["main_split"] == "validation"
    assert json.loads(json.dumps(metrics)) == metrics, "plain JSON, nothing of numpy"


def test_cross_validation_is_the_objective_and_sets_the_threshold() -> None:
    pooled = predictions_of("cross_validation", [0, 1, 2] * 20, [0, 1, 2] * 18 + [1, 1, 2] * 2)
    outside = predictions_of("out_of_scope_validation", [-1] * 10, [0] * 10)
    metrics = evaluate_labels([pooled, outside])
    assert metrics["main_split"] == metrics["objective"]["split"] == "cross_validation"
    assert metrics["rejection"]["threshold"] == evaluate_labels([pooled])["rejection"]["threshold"]
    assert metrics["rejection"]["splits"]["out_of_scope_validation"]["auroc"] is None, "of another model"
    test = predictions_of("test", [0, 1, 2] * 20, [0, 1, 2] * 20)
    assert evaluate_labels([pooled, test])["main_split"] == "test"


def test_groups_give_a_bootstrap_over_groups_and_no_groups_give_wilson(splits: list[Answers]) -> None:
    metrics = evaluate_labels(splits)["splits"]
    accuracy = metrics["validation"]["accuracy"]
    assert (accuracy["method"], accuracy["groups"], accuracy["note"]) == ("Wilson", None, None)
    assert (accuracy["low"], accuracy["high"]) == intervals.wilson(58, 60)
    assert metrics["validation"]["macro_f1"]["method"] == "bootstrap over 60 examples"
    for name in ("accuracy", "macro_f1"):
        figure = metrics["test"][name]
        assert figure["method"] == "bootstrap over 12 groups (template)"
        assert (figure["groups"], figure["level"], figure["note"]) == (12, 0.95, None)
        assert figure["low"] < figure["value"] < figure["high"]


@pytest.mark.parametrize(("count", "noted"), [(9, True), (10, False)])
def test_fewer_than_ten_groups_are_said(count: int, noted: bool) -> None:
    groups = [f"speaker {i % count}" for i in range(60)]
    split = predictions_of("test", [0, 1, 2] * 20, [0, 1, 0] + [0, 1, 2] * 19, groups=groups, group_column="speaker")
    figure = evaluate_labels([split])["splits"]["test"]["accuracy"]
    assert ("fewer than 10 groups" in (figure["note"] or "")) is noted


def test_a_row_without_a_group_stands_alone_and_an_interval_of_no_width_is_explained() -> None:
    groups = ["a"] * 10 + ["b"] * 10 + [None] * 10
    split = predictions_of("test", [0, 1, 2] * 10, [0, 1, 2] * 10, groups=groups, group_column="speaker")
    figure = evaluate_labels([split])["splits"]["test"]["accuracy"]
    assert figure["groups"] == 12
    assert (figure["low"], figure["high"]) == (1.0, 1.0)
    assert "every resample" in figure["note"]


def speech(right_by_speaker: dict[str | None, list[int]], **changes: Any) -> Answers:
    """A split with these speakers, whose examples are right (1) or wrong (0)."""
    pairs = [(speaker, right) for speaker, rights in right_by_speaker.items() for right in rights]
    predicted = [0 if right else 1 for _, right in pairs]
    groups = [speaker for speaker, _ in pairs]
    return predictions_of("test", [0] * len(pairs), predicted, groups=groups, group_column="speaker", **changes)


def test_the_worst_and_the_best_speaker_are_those_with_enough_examples_and_no_one_is_hidden() -> None:
    split = speech({"ann": [1] * 8 + [0] * 2, "ben": [1] * 5, "eve": [0] * 4, "dan": [1], None: [1, 0]})
    by_group = evaluate_labels([split])["splits"]["test"]["by_group"]
    assert list(by_group["groups"]) == ["eve", "ann", "ben", "dan"], "the lowest first"
    assert (by_group["worst"], by_group["best"], by_group["gap"]) == ("ann", "ben", pytest.approx(0.2))
    low, high = intervals.wilson(8, 10)
    assert by_group["groups"]["ann"] == {"accuracy": 0.8, "low": low, "high": high, "examples": 10}
    assert by_group["metric"] == "accuracy"
    assert (by_group["few"]["groups"], by_group["few"]["examples"], by_group["few"]["accuracy"]) == (2, 5, 0.2)
    assert by_group["unknown"]["examples"] == 2
    assert slices.format_by_group(by_group) == (
        "4 speakers: worst ann 80.0 % of 10, best ben 100.0 % of 5, gap 20.0 points; "
        "2 with fewer than 5 examples, together 20.0 % of 5; speaker unknown 50.0 % of 2"
    )


class WordErrors(Classification):
    """A figure of which less is better: errors of words."""

    units_metric, greater_is_better, unit = "wer", False, ""

    def units(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        return (answers.predicted != answers.label_ids).astype(float), np.full(len(answers.ids), 4.0)


def test_where_less_is_better_the_worst_speaker_has_the_most() -> None:
    split = speech({"ann": [1] * 8 + [0] * 2, "ben": [1] * 5, "eve": [0] * 6})
    by_group = slices.score_groups(WordErrors(), split)
    assert list(by_group["groups"]) == ["eve", "ann", "ben"], "the highest first"
    assert (by_group["worst"], by_group["best"], by_group["gap"]) == ("eve", "ben", 0.25)
    assert "worst eve 25.0 % in 6 examples, best ben 0.0 % in 5 examples, gap 25.0 points" in slices.format_by_group(
        by_group
    )


class Lengths(WordErrors):
    """A figure that is no share, of examples some of which have no unit."""

    units_metric, unit = "seconds", "s"

    def units(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(answers.ids), 0.02), np.array([float(name != "eve") for name in answers.groups or []])


def test_a_slice_has_the_unit_of_its_figure_and_one_without_units_is_left_out() -> None:
    split = speech({"ann": [1] * 8, "ben": [1] * 5, "eve": [0] * 12}, seconds=[0.5] * 13 + [2.0] * 12)
    found = slices.score_slices(Lengths(), split)
    assert list(found["by_group"]["groups"]) == ["ann", "ben"]
    assert "worst ann 0.02 s in 8 examples, best ben 0.02 s in 5 examples, gap 0 s" in slices.format_by_group(
        found["by_group"]
    )
    assert [row["examples"] for row in found["by_seconds"]] == [13]
    _, bars, lengths = slices.slice_blocks(Lengths(), found, "test")
    assert isinstance(bars, Bars) and isinstance(lengths, Bars)
    assert bars.bars[0].words.startswith("0.02 s (") and bars.bars[0].share == 1, "bars of small units are seen"
    with pytest.raises(ValueError, match="nothing to measure"):
        intervals.ratio_with_interval([0, 0], [0, 0], None, None)


def test_where_no_speaker_has_enough_examples_none_is_worst() -> None:
    metrics = evaluate_labels([speech({"ann": [1, 0], "ben": [1]})])
    by_group = metrics["splits"]["test"]["by_group"]
    assert by_group["worst"] is by_group["best"] is by_group["gap"] is None
    assert "2 speakers: 2 with fewer than 5 examples, together 66.7 % of 3" in terminal.format_summary(metrics)


def test_templates_and_texts_are_not_speakers_and_clips(splits: list[Answers], tmp_path: Path) -> None:
    import pyarrow.parquet

    metrics = evaluate_labels(splits)
    assert not {"by_group", "by_seconds"} & set(metrics["splits"]["test"])
    written.write_evaluation(tmp_path, splits, metrics, blocks_of(splits))
    assert "seconds" not in pyarrow.parquet.read_schema(tmp_path / "predictions.parquet").names


def test_bins_of_clip_length_hold_every_clip_once_with_its_accuracy() -> None:
    seconds = [round(0.5 + 0.02 * i, 2) for i in range(100)]
    split = speech({"ann": [0] * 20 + [1] * 80}, seconds=seconds)
    bins = evaluate_labels([split])["splits"]["test"]["by_seconds"]
    assert [(b["from"], b["to"]) for b in bins] == [(0.5, 0.9), (0.9, 1.3), (1.3, 1.7), (1.7, 2.1), (2.1, 2.48)]
    assert [b["examples"] for b in bins] == [20] * 5
    assert [b["accuracy"]["value"] for b in bins] == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert bins[0]["accuracy"]["method"] == "bootstrap over 1 group (speaker)"


@pytest.mark.parametrize(
    ("seconds", "bounds"),
    [
        ([1.0] * 30, [(1.0, 1.0)]),
        ([0.9] * 5 + [1.0] * 25, [(0.9, 1.0), (1.0, 1.0)]),
        ([0.31] * 10 + [0.34] * 20, [(0.31, 0.34), (0.34, 0.34)]),
        ([1.0, 2.0, 3.0], [(1.0, 3.0)]),
    ],
)
def test_few_or_equal_lengths_give_few_bins(seconds: list[float], bounds: list[tuple[float, float]]) -> None:
    split = speech({"ann": [1] * len(seconds)}, seconds=seconds)
    bins = evaluate_labels([split])["splits"]["test"]["by_seconds"]
    assert [(b["from"], b["to"]) for b in bins] == bounds
    assert sum(b["examples"] for b in bins) == len(seconds)


def test_clips_are_those_of_the_surest_mistakes_and_are_gone_when_there_are_none(tmp_path: Path) -> None:
    import pyarrow.parquet

    wrong = predictions_of("test", [0] * 30, [1] * 8 + [2] * 3 + [0] * 19, seconds=[0.5] * 30)
    validation = predictions_of("validation", [0] * 3, [1] * 3, seconds=[0.5] * 3)
    blocks = blocks_of([validation, wrong])
    report_clips.write_clips(tmp_path, blocks, lambda _, name: np.full(8000, len(name), np.int16), 16_000)
    clips = pyarrow.parquet.read_table(tmp_path / "clips.parquet").to_pylist()
    assert [(clip["split"], clip["id"]) for clip in clips] == [("test", f"test-{i}") for i in (0, 1, 2, 3, 4, 8, 9, 10)]
    pairs = next(block for block in blocks if isinstance(block, Examples))
    assert [(len(group.examples), group.more) for group in pairs.groups] == [(5, 3), (3, 0)], "at most five of a pair"
    assert {(clip["seconds"], clip["is_cut"]) for clip in clips} == {(0.5, False)}
    perfect = predictions_of("test", [0] * 5, [0] * 5, seconds=[0.5] * 5)
    report_clips.write_clips(tmp_path, blocks_of([perfect]), lambda _, name: np.zeros(8000, np.int16), 16_000)
    assert not (tmp_path / "clips.parquet").exists(), "clips of an earlier evaluation must not stay"


@pytest.mark.parametrize(("rate", "form"), [(16_000, "mp3"), (16_001, "wav")])
def test_a_clip_sounds_after_encoding_as_before(rate: int, form: str) -> None:
    import soundfile

    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
    name, content = report_clips.encode_clip(tone, rate)
    if name != form and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile makes no MP3")
    assert name == form
    decoded, decoded_rate = soundfile.read(io.BytesIO(content))
    assert decoded_rate == rate and abs(len(decoded) - rate) < 200
    frequency = np.abs(np.fft.rfft(decoded)).argmax() * rate / len(decoded)
    assert abs(frequency - 440) < 2 and abs(np.std(decoded) - np.std(tone / 32768)) < 0.01


def test_the_mean_of_right_and_wrong_has_the_interval_of_accuracy() -> None:
    groups = [f"speaker {i % 12}" for i in range(60)]
    split = predictions_of("test", [0] * 60, [0] * 50 + [1] * 10, groups=groups, group_column="speaker")
    figure = evaluate_labels([split])["splits"]["test"]["accuracy"]
    right = (split.predicted == split.label_ids).astype(float)
    assert intervals.ratio_with_interval(right, None, groups, "speaker") == figure
    half = intervals.ratio_with_interval(right / 2, None, None, None)
    assert half["method"] == "bootstrap over 60 examples" and half["low"] < half["value"] < half["high"]


def test_the_threshold_keeps_95_percent_of_validation_and_ignores_out_of_scope(
    splits: list[Answers],
) -> None:
    rejection = evaluate_labels(splits)["rejection"]
    inside = arrays.confidence(splits[0].probabilities)
    assert rejection["threshold"] == keep_share(inside, 0.95, 1 / len(splits[0].label_names))
    assert rejection["threshold"] == evaluate_labels(splits[:1])["rejection"]["threshold"]
    assert rejection["splits"]["validation"]["accepted"] == 0.95
    outside = rejection["splits"]["out_of_scope_test"]
    scores = arrays.confidence(splits[2].probabilities)
    assert outside["false_accepts"] == np.mean(scores >= rejection["threshold"])
    assert outside["auroc"] == confidence.auroc(arrays.confidence(splits[1].probabilities), scores)


def test_a_given_threshold_is_used_and_without_one_nothing_is_rejected(splits: list[Answers]) -> None:
    given = evaluate_labels(splits[1:], threshold=0.9)["rejection"]
    assert given["threshold"] == 0.9
    taken = arrays.confidence(splits[1].probabilities) >= 0.9
    right = (splits[1].predicted == splits[1].label_ids)[taken]
    assert given["splits"]["test"]["accepted"] == taken.mean()
    assert given["splits"]["test"]["accuracy_accepted"] == right.mean()
    assert evaluate_labels(splits[1:])["rejection"] is None
    none = evaluate_labels(splits[1:], threshold=1.0)["rejection"]["splits"]["test"]
    assert none["accuracy_accepted"] is None


def test_out_of_scope_alone_can_be_evaluated(splits: list[Answers], tmp_path: Path) -> None:
    metrics = evaluate_labels(splits[2:], threshold=0.7)
    assert metrics["main_split"] is None
    assert metrics["rejection"]["splits"]["out_of_scope_test"]["auroc"] is None
    written.write_evaluation(tmp_path, splits[2:], metrics, [])
    assert not (tmp_path / "confusion_matrix.csv").exists()
    assert "out_of_scope_test: accepts" in terminal.format_summary(metrics)


@pytest.mark.parametrize(
    ("references", "message"),
    [([0, -1], r"test\.csv:3.*does not know \(1 of 2 rows\)"), ([], "'test' has no examples")],
)
def test_splits_that_cannot_be_measured_are_input_errors(references: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictions_of("test", references, [0] * len(references))


def test_probabilities_that_are_not_finite_name_their_row() -> None:
    with pytest.raises(ValueError, match=r"test\.csv:3 are not finite"):
        predictions_of("test", [0, 1], [0, 1], probabilities=np.array([[0.5, 0.3, 0.2], [np.nan] * 3]))


def test_the_files_hold_the_metrics_the_matrix_and_every_example(splits: list[Answers], tmp_path: Path) -> None:
    import pyarrow.parquet

    metrics = evaluate_labels(splits)
    written.write_evaluation(tmp_path / "new", splits, metrics, blocks_of(splits))
    folder = tmp_path / "new"
    assert sorted(p.name for p in folder.iterdir()) == [
        "confusion_matrix.csv",
        "metrics.json",
        "predictions.parquet",
    ]
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o644}
    text = (folder / "metrics.json").read_text()
    assert json.loads(text) == metrics
    assert "[ 0, 16, 4 ]" in text, "one row of the matrix on one line"
    with (folder / "confusion_matrix.csv").open() as file:
        assert list(csv.reader(file))[2] == ["play", "0", "16", "4"]
    rows = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pylist()
    assert len(rows) == 130
    wrong = next(row for row in rows if row["id"] == "test-49")
    assert (wrong["split"], wrong["origin"], wrong["text"]) == ("test", "test.csv:51", "text 49")
    assert (wrong["label"], wrong["prediction"], wrong["group"]) == ("play", "turn_off", "template 1")
    assert [top["label"] for top in wrong["top_5"]] == ["turn_off", "call", "play"]
    assert wrong["probability"] == wrong["top_5"][0]["probability"]
    assert wrong["accepted"] == (wrong["probability"] >= metrics["rejection"]["threshold"])
    assert {row["label"] for row in rows if row["split"] == "out_of_scope_test"} == {"out_of_scope"}


def test_the_summary_gives_figures_with_intervals_and_a_readable_matrix(splits: list[Answers]) -> None:
    lines = terminal.format_summary(evaluate_labels(splits)).splitlines()
    assert lines[0].startswith("validation  accuracy 96.7 % (88.6 to 99.1, Wilson)  macro F1 96.7 % (")
    assert lines[1].startswith("test        accuracy 93.3 % (")
    assert "bootstrap over 12 groups (template))  macro F1" in lines[1]
    assert [line.split() for line in lines[-4:]] == [
        ["call", "play", "turn_off"],
        ["1", "call", "20", ".", "."],
        ["2", "play", ".", "16", "4"],
        ["3", "turn_off", ".", ".", "20"],
    ]
    assert len({len(line) for line in lines[-4:]}) == 1, "columns are aligned"


@pytest.mark.parametrize("k", [2, 8, 20, 30, 31, 150])
def test_the_matrix_as_text_fits_120_columns_with_whole_label_names(k: int) -> None:
    names = [f"a_label_of_some_length_{i}" for i in range(k)]
    matrix = np.diag(np.full(k, 7))
    matrix[0, 1] = 3
    lines = terminal.format_confusion_matrix(matrix.tolist(), names, "test")
    assert max(map(len, lines)) <= 120
    if k <= 20:
        assert len(lines) == k + 2 and all(name in line for name, line in zip(names, lines[2:], strict=True))
    else:
        expected = "     3 x a_label_of_some_length_0 taken for a_label_of_some_length_1"
        assert "confusion_matrix.csv" in lines[0] and lines[1:] == [expected]
