"""Rows over the runs of one configuration: means over seeds, intervals, noise, and their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from support import write_finished_run
from voicecommand.compare import leaderboard, leaderboard_tables, tables
from voicecommand.errors import InputError
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.splits import evaluate
from voicecommand.evaluation.transcripts import TranscriptEvaluator
from voicecommand.report import written


def make_run(directory: Path, seed: int, wrong: list[int], groups: list[str] | None = None) -> Path:
    return write_finished_run(directory / f"run-s{seed}", {"model": {}}, seed, wrong, groups)


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (10, 2.262), (11, 2.228), (31, 2.042)])
def test_the_interval_of_a_mean_over_seeds_is_students_for_any_number_of_seeds(seeds: int, quantile: float) -> None:
    values = [0.9 + 0.01 * (-1) ** i for i in range(seeds)]
    mean = sum(values) / seeds
    error = (sum((value - mean) ** 2 for value in values) / (seeds - 1) / seeds) ** 0.5
    figure = leaderboard.mean_over_seeds(values)
    assert figure["low"] is not None and figure["high"] is not None
    assert (figure["high"] - figure["mean"]) / error == pytest.approx(quantile, abs=5e-4)
    assert (figure["mean"] - figure["low"]) / error == pytest.approx(quantile, abs=5e-4)


def test_one_seed_has_no_interval() -> None:
    assert leaderboard.mean_over_seeds([0.9]) == {"mean": 0.9, "low": None, "high": None}


def test_a_table_is_aligned_markdown() -> None:
    text = tables.markdown_table(["arm", "rate"], [["ours", "1,000.0"], ["stock", 7]])
    assert text.splitlines() == [
        "| arm   |    rate |",
        "| ----- | ------: |",
        "| ours  | 1,000.0 |",
        "| stock |       7 |",
    ]


@pytest.mark.parametrize("grouped", [True, False])
def test_a_row_is_the_mean_over_seeds_with_one_interval(tmp_path: Path, grouped: bool) -> None:
    groups = [f"way {i // 2}" for i in range(40)] if grouped else None
    made = [make_run(tmp_path, 1, [0, 1], groups), make_run(tmp_path, 2, [0, 1, 2, 3], groups)]
    row = leaderboard.make_row(made)
    test = row["test"]
    assert test is not None
    assert (test["value"], test["seed_min"], test["seed_max"]) == (pytest.approx(0.925), 0.9, 0.95)
    assert test["low"] < 0.925 < test["high"] <= 1
    assert test["method"].startswith("bootstrap over 20 groups (template)" if grouped else "Wilson")
    assert (row["test_reads"], row["seeds"], row["train_seconds"]) == (2, [1, 2], 3.5)


def test_runs_tested_on_other_examples_have_no_row(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path, seed, []) for seed in (1, 2))
    path = second / "evaluations" / "commands-test" / "predictions.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(1), path)
    with pytest.raises(InputError, match=f"{second}.*not the test examples of {first}"):
        leaderboard.make_row([first, second])


def test_a_run_that_was_not_tested_has_a_row_without_test_figures(tmp_path: Path) -> None:
    made = make_run(tmp_path, 1, [])
    (made / "evaluations" / "commands-test" / "metrics.json").unlink()
    row = leaderboard.make_row([made])
    assert row["test"] is None and leaderboard_tables.quality(row) == float("-inf")
    cells = [cell.strip() for cell in leaderboard_tables.format_rows([row]).splitlines()[2].split("|")]
    assert cells[1:6] == ["tfidf_svm", "-", "-", "-", "-"]


def write_robustness(directory: Path, accuracy: float) -> None:
    def figure(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "method": "a bootstrap", "note": None}

    rows = [{"kind": "clean", "level": None, "unit": "", "accuracy": figure(accuracy)}]
    for i, kind in enumerate(("white", "kitchen (recorded)")):
        for level in (20, 10, 5, 0):
            value = figure(accuracy - 0.3 + level / 100 - i / 20)
            rows.append({"kind": kind, "level": level, "unit": "dB", "accuracy": value})
    place = directory / "robustness" / "commands-test"
    place.mkdir(parents=True)
    content = {"conditions": rows, "score": figure(0.7), "score_over": ["white"]}
    (place / "robustness.json").write_text(json.dumps(content))


def test_accuracy_in_noise_is_the_mean_over_the_seeds_and_counts_as_reading_test(tmp_path: Path) -> None:
    made = [make_run(tmp_path, seed, [0, 1]) for seed in (1, 2)]
    write_robustness(made[0], 0.9)
    assert leaderboard.make_row(made)["robustness"] is None  # not for every seed
    write_robustness(made[1], 0.8)
    row = leaderboard.make_row(made)
    assert row["test_reads"] == 4
    text = leaderboard_tables.format_rows([row])
    assert "| clean | kitchen (recorded), 10 dB | kitchen (recorded), 0 dB |" in " ".join(text.split())
    line = next(line for line in text.splitlines() if "85.0 (75.0 to 95.0)" in line)
    assert [cell.strip() for cell in line.split("|")][4:7] == [
        "60.0 (50.0 to 70.0)",
        "50.0 (40.0 to 60.0)",
        "70.0 (60.0 to 80.0)",
    ]


def test_a_row_with_a_teacher_stands_apart_and_names_it(tmp_path: Path) -> None:
    made = make_run(tmp_path, 1, [0, 1])
    rows = [leaderboard.make_row([made]) for _ in range(2)]
    rows[1]["model"], rows[1]["runs"][0]["teacher"] = "pupil", "commands/whisper-head-s1-0a1b2c3d"
    before, after = leaderboard_tables.format_rows(rows).split("Taught by the run commands/whisper-head-s1-0a1b2c3d")
    assert "| tfidf_svm |" in before and "pupil" not in before
    assert "| pupil " in after and "| tfidf_svm |" not in after


def test_a_doubtful_interval_is_said_with_the_row_it_concerns(tmp_path: Path) -> None:
    few = make_run(tmp_path / "few", 1, [0, 2], ["theo", "yweweler"] * 20)
    many = make_run(tmp_path / "many", 1, [0, 1], [f"way {i // 2}" for i in range(40)])
    rows = [leaderboard.make_row([directory]) for directory in (few, many)]
    rows[1]["model"] = "other"
    notes = leaderboard_tables.format_notes(rows)
    assert notes == " Note: fewer than 10 groups: the true interval is wider (tfidf_svm)."
    assert leaderboard_tables.format_notes(rows[:1]).endswith("the true interval is wider.")


def test_a_row_of_speakers_has_an_interval_over_labels_too(tmp_path: Path) -> None:
    made = make_run(tmp_path, 1, [0, 2], [f"speaker {i // 4}" for i in range(40)])
    written = make_run(tmp_path / "written", 1, [0, 2], [f"way {i // 4}" for i in range(40)])
    rows = [leaderboard.make_row([directory]) for directory in (made, written)]
    low, high = rows[0]["test"]["crossed"]["low"], rows[0]["test"]["crossed"]["high"]
    assert low < 0.95 < high <= 1 and rows[1]["test"]["crossed"] is None
    assert "over labels too" not in leaderboard_tables.format_rows(rows[1:])
    lines = [
        line for line in leaderboard_tables.format_rows(rows[:1]).splitlines() if line.startswith(("| model", "| tf"))
    ]
    header, cells = ([cell.strip() for cell in line.split("|")] for line in lines)
    assert len(header) == len(cells)
    assert dict(zip(header, cells, strict=True))["over labels too"] == f"{100 * low:.1f} to {100 * high:.1f}"


def test_a_row_without_speakers_or_a_test_stands_in_one_table_with_rows_of_speakers(tmp_path: Path) -> None:
    made = make_run(tmp_path, 1, [0, 2], [f"speaker {i // 4}" for i in range(40)])
    rows = [leaderboard.make_row([directory]) for directory in (made, make_run(tmp_path, 2, [0]))]
    rows.append({**rows[1], "test": None})
    lines = [line for line in leaderboard_tables.format_rows(rows).splitlines() if line.startswith(("| model", "| tf"))]
    assert [len(line.split("|")) for line in lines] == [len(lines[0].split("|"))] * 4


def make_recogniser_run(directory: Path, seed: int, wrong: list[int], groups: list[str] | None = None) -> Path:
    """A finished run that writes one word more than the two of each example of `wrong`; none is right to the letter."""
    made = write_finished_run(directory / f"asr-s{seed}", {"model": {"language": "en"}}, seed, [])
    evaluator, references = TranscriptEvaluator(), ["stop now", "go on"] * 20
    heard = [f"{text} please." if i in wrong else f"{text}." for i, text in enumerate(references)]
    for place, split in ((made, "validation"), (made / "evaluations" / "commands-test", "test")):
        names = [f"{split}-{i}" for i in range(40)]
        found = Answers(
            split, names, names, references, {"transcript": references}, {"transcript": heard},
            groups=groups, group_column=groups and "speaker",
        )  # fmt: skip
        written.write_evaluation(place, [found], evaluate([evaluator], [found]), [])
    return made


@pytest.mark.parametrize("grouped", [True, False])
def test_a_row_of_recognisers_has_the_word_error_rate_and_the_lowest_is_the_best(tmp_path: Path, grouped: bool) -> None:
    groups = [f"speaker {i // 2}" for i in range(40)] if grouped else None
    good, bad = tmp_path / "good", tmp_path / "bad"
    row = leaderboard.make_row([make_recogniser_run(good, seed, list(range(4 * seed)), groups) for seed in (1, 2)])
    worse = leaderboard.make_row([make_recogniser_run(bad, 1, list(range(40)), groups)])
    test = row["test"]
    assert test is not None and (row["metric"], row["greater_is_better"]) == ("wer", False)
    assert (test["value"], test["seed_min"], test["seed_max"]) == (pytest.approx(6 / 80), 4 / 80, 8 / 80)
    assert 0 < test["low"] < test["value"] < test["high"] and test["crossed"] is None
    assert test["method"].startswith(f"bootstrap over {'20 groups (speaker)' if grouped else '40 examples'}, all seeds")
    assert test["beside"]["sentence_error_rate"] == pytest.approx(6 / 40)
    assert sorted([worse, row], key=leaderboard_tables.quality, reverse=True) == [row, worse]
    text = " ".join(leaderboard_tables.format_rows([row, worse]).split())
    assert "test WER %" in text and "| CER % | sentence error rate % | validation % |" in text and "| 7.5 |" in text


def test_rows_of_labels_and_of_transcripts_stand_in_tables_of_their_own(tmp_path: Path) -> None:
    made = [make_run(tmp_path, 1, [0, 2]), make_recogniser_run(tmp_path, 1, [0])]
    lines = leaderboard_tables.format_rows([leaderboard.make_row([directory]) for directory in made]).splitlines()
    assert [line.split("|")[3].strip() for line in lines if line.startswith("| model")] == [
        "test accuracy %",
        "test WER %",
    ]
