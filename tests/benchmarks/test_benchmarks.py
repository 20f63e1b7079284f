"""The pure parts of benchmarks/: ratios, tables, and docs/results.md from run directories made by hand."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import load_from_disk

from support import ROOT, write_finished_run

sys.path.append(str(ROOT / "benchmarks"))

import make_results
import make_synthesised
import measuring
import startup
import text_training

from voicecommand import files as files_module
from voicecommand.audio import clips
from voicecommand.config import identity, objects, program

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))


def test_a_ratio_is_taken_within_a_round() -> None:
    # the second round ran on a busy machine: both slow, the ratio the same
    figure = measuring.ratios([20.0, 2.0, 22.0], [10.0, 1.0, 10.0])
    assert figure == {"median": 2.0, "min": 2.0, "max": 2.2, "values": [2.0, 2.0, 2.2]}
    assert measuring.format_spread(figure) == "2.00 (2.00 to 2.20)"


def test_a_paired_difference_has_an_interval_from_two_pairs_on() -> None:
    one = measuring.paired_difference([0.9], [0.8])
    assert (one["low"], one["high"]) == (None, None)
    many = measuring.paired_difference([0.91, 0.93, 0.92], [0.90, 0.90, 0.90])
    assert many["mean"] == pytest.approx(0.02)
    assert many["high"] - many["mean"] == pytest.approx(4.302653 * 0.01 / 3**0.5)


def test_a_recorded_command_names_no_place_on_this_machine() -> None:
    words = ["/somewhere/text_training.py", "--path", "/secret/snips", "--out=/secret/x.json", "--rounds", "3"]
    expected = "python benchmarks/text_training.py --path DIR --out=FILE --rounds 3"
    assert measuring.command_line(words) == expected


def measured(rate: float, memory: float) -> dict[str, Any]:
    rounds = [{"examples": 320, "seconds": 320 / rate, "tokens": 6400, "real_tokens": 3200}] * 2
    return {
        "rounds": rounds,
        "peak_memory_mb": memory,
        "peak_gpu_memory_mb": None,
        "startup_seconds": 8.0,
        "startup_cpu_seconds": 7.0,
    }


def test_the_speed_report_compares_like_with_like_and_default_with_default() -> None:
    speed = {
        "dynamic fp32": measured(100, 1000),
        "dynamic bf16": measured(160, 1100),
        "ours fp32": measured(180, 900),
        "ours bf16": measured(320, 990),
    }
    summary = text_training.summarise(speed, "snips")
    found = {
        (c["ours"], c["stock"]): (round(c["ratio"]["median"], 3), c["goal"], c["memory_ratio"])
        for c in summary["comparisons"]
    }
    assert found == {
        ("fp32", "dynamic fp32"): (1.8, 1.5, 0.9),
        ("bf16", "dynamic bf16"): (2.0, 1.5, 0.9),
        ("bf16", "dynamic fp32"): (3.2, 2.2, 0.99),
    }
    settings = {"batch_size": 32, "rounds": 2, "steps_a_round": {"ours": 10}, "max_length": 128}
    machine = {"processor": "a processor", "cores": 2, "threads": 2, "load": 0.0}
    content = {"data": "snips", "network": "bert", "settings": settings, "machine": machine}
    printed = text_training.report(content | summary)
    assert "default against default | 3.20 (3.20 to 3.20) |  2.2 |   0.99 |" in printed


def test_the_launcher_is_reported_apart_from_the_run() -> None:
    summary = startup.summarise({"bare": [6.0, 8.0], "ours": [6.6, 8.8], "launched": [8.6, 11.0]})
    assert summary["ratio_of_medians"] == pytest.approx(1.1)
    assert summary["launcher_cpu_seconds"]["median"] == pytest.approx(2.1)


@pytest.mark.slow
def test_the_bare_script_is_given_the_data_already_tokenised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    measuring.use_checkout()
    checkpoint, labels = startup.prepare_data(tmp_path)
    assert (Path(checkpoint) / "config.json").is_file() and labels > 1
    assert set(load_from_disk(tmp_path / "train").column_names) >= {"input_ids", "labels"}


def test_every_experiment_composes_to_what_its_name_says() -> None:
    assert len(EXPERIMENTS) >= 33
    for path in EXPERIMENTS:
        data, name = path.stem.split("_", 1)
        given = [] if data == "commands" else ["data.path=DIR"]
        given += ["model.checkpoint=DIR"] if name.startswith("whisper") else []
        given += ["model.teacher=RUN"] if name.endswith("_taught") else []
        config = program.compose("train", [f"experiment={path.stem}", "seed=1", *given])
        if name.endswith(("_svm", "_taught")):
            model, tuning = name, "none" if name.endswith("_svm") else "full"
        else:
            model, tuning = f"{name}_full".split("_", 2)[:2]
        tuning = "last_layers" if tuning == "last" else tuning
        chosen = {group: choice for group, choice in config.choices.items() if choice not in (None, "none")}
        expected = {"data": data, "model": model}
        if tuning != "none":
            full = {"bert": "fine_tune_small", "whisper": "fine_tune_speech", "bcresnet": "from_scratch_speech"}
            full["bcresnet_taught"] = full["bcresnet"]
            training = full[model] if tuning == "full" else tuning  # each way has settings that suit it
            expected |= {"tuning": tuning, "training": training}
            chosen.pop("augment", None)  # for audio, each row as its file says
        assert chosen == expected, path.name
        command = " ".join([f"experiment={path.stem} seed=1,2,3", *given])
        text = path.read_text(encoding="utf-8")
        assert f"#   python recipes/train.py --multirun {command}\n" in text
        assert "\n# expected: " in text


def test_every_yaml_says_what_it_is_its_command_and_a_result_that_is_backed() -> None:
    measured = ROOT / "benchmarks" / "results" / "experiments.json"
    rows = {row["experiment"]: row for row in json.loads(measured.read_text())["rows"]} if measured.exists() else {}
    files = [path for path in (ROOT / "conf").glob("*/*.yaml") if path.stem != "base"]
    assert len(files) >= 40
    for path in files:
        first, *others = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        first = others[0] if first.startswith("# @package") else first
        assert len(first) > 20, path
        assert any("recipes/" in line for line in others), f"{path}: no command"
        expected = next(line.removeprefix("# expected: ") for line in others if line.startswith("# expected: "))
        if pointer := re.fullmatch(r"as (conf/experiment/\w+\.yaml) says", expected):
            assert (ROOT / pointer[1]).exists(), path
        elif not expected.startswith("not measured yet"):
            assert path.parent.name == "experiment" and expected == make_results.expected_line(rows[path.stem]), path


def make_run(runs: Path, seed: int, wrong: list[int]) -> Path:
    """A run of commands_tfidf_svm in a multirun, evaluated once on test with the rows `wrong` wrong."""
    config = program.compose("train", ["experiment=commands_tfidf_svm", f"seed={seed}", f"runs={runs}"])
    return write_finished_run(Path(identity.run_directory(config)), objects.plain(config), seed, wrong)


def make_finished(runs: Path, *overrides: str) -> Path:
    """The directory of a run that is finished, but for its results."""
    config = program.compose("train", [f"runs={runs}", "data.path=DIR", *overrides])
    directory = Path(identity.run_directory(config))
    directory.mkdir(parents=True)
    (directory / "status.json").write_text('{"state": "finished"}')
    (directory / "config.yaml").write_text(yaml.safe_dump(objects.plain(config)))
    return directory


def test_weights_of_a_directory_belong_to_the_experiment_and_those_of_another_model_do_not(tmp_path: Path) -> None:
    for checkpoint, seed in ((str(tmp_path / "whisper"), 1), ("somebody/else", 2)):
        make_finished(tmp_path, "experiment=keywords_whisper_svm", f"model.checkpoint={checkpoint}", f"seed={seed}")
    found = make_results.find_runs("keywords_whisper_svm", tmp_path)
    assert [directory.name.split("-")[1] for directory in found] == ["s1"]
    assert make_results.find_runs("keywords_bcresnet", tmp_path) == [], "a model that has no checkpoint setting"


def test_a_run_with_a_teacher_is_not_taken_for_one_without(tmp_path: Path) -> None:
    taught = make_finished(tmp_path, "experiment=synthesised_bcresnet_taught", "model.teacher=/a/run", "seed=1")
    alone = make_finished(tmp_path, "experiment=synthesised_bcresnet", "seed=1")
    assert make_results.find_runs("synthesised_bcresnet_taught", tmp_path) == [taught]
    assert make_results.find_runs("synthesised_bcresnet", tmp_path) == [alone]


@pytest.mark.skipif(not find_spec("espeakng_loader"), reason="espeakng-loader is not installed")
def test_the_synthesised_set_is_made_speech_as_train_and_every_recording_as_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for split, count in (("train", 2), ("validation", 1)):
        (tmp_path / "keywords" / split / "alexa").mkdir(parents=True)
        rows = [f"alexa/{i}.wav,alexa,c{i}" for i in range(count)]
        for i in range(count):
            clips.write_wav(tmp_path / "keywords" / split / f"alexa/{i}.wav", np.full(1600, i + 1, np.int16), 16_000)
        (tmp_path / "keywords" / split / "metadata.csv").write_text("\n".join(["file_name,label,speaker", *rows]))
    monkeypatch.setattr(files_module, "cache_directory", lambda: tmp_path / "cache")
    for name, value in (("SPEAKERS", 4), ("CLIPS", 2), ("ENGINES", ("espeak",))):
        monkeypatch.setattr(make_synthesised, name, value)
    arguments = ["make_synthesised.py", "--path", str(tmp_path / "keywords"), "--out"]
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path / "made")])
    assert make_synthesised.main() == 0
    found = objects.load_data(
        program.compose("train", ["data=synthesised", f"data.path={tmp_path / 'made'}"]), ("audio", "label")
    )
    assert len(found["test"]) == 3 and len(found["train"]) + len(found["validation"]) == 2 * 6
    assert set(found["train"]["label"]) <= {phrase.replace(" ", "_") for phrase in make_synthesised.PHRASES}

    monkeypatch.setattr(sys, "argv", ["make_synthesised.py", "--path", str(tmp_path), "--out", str(tmp_path / "no")])
    assert make_synthesised.main() == 2
    assert "no such folder" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"keywords", "cache", "made"}


def test_speech_and_text_have_tables_of_their_own_in_the_readme() -> None:
    test = {"value": 0.9, "low": 0.8, "high": 0.95}
    rows = [
        {
            "model": model,
            "tuning": None,
            "data": data,
            "seeds": [1],
            "test": test,
            "metric": "accuracy",
            "greater_is_better": True,
        }
        for model, data in (("tfidf_svm", "commands"), ("mfcc_svm", "digits"), ("mfcc_svm", "keywords"))
    ]
    lines = make_results.readme_table(rows).splitlines()
    headers = [line.replace(" ", "") for line in lines if line.startswith("| model")]
    assert headers == ["|model|commands|", "|model|keywords|digits|"]
    assert sum("mfcc_svm" in line for line in lines) == 1


def test_other_protocols_stand_with_the_results_and_not_with_the_speed(tmp_path: Path) -> None:
    assert make_results.protocols_section(tmp_path) == ""
    (tmp_path / "speech_protocols.md").write_text("a table\n")
    assert make_results.protocols_section(tmp_path).endswith("protocols\n\na table")
    assert "a table" not in make_results.speed_section(tmp_path)


def test_a_row_of_an_experiment_has_its_finished_runs_and_the_commands_that_made_them(tmp_path: Path) -> None:
    made = [make_run(tmp_path, seed, [0, 1]) for seed in (1, 2)]
    (make_run(tmp_path, 3, []) / "status.json").write_text('{"state": "interrupted"}')
    rows = make_results.find_rows(["commands_bert_full", "commands_tfidf_svm"], tmp_path)
    assert list(rows) == ["commands_tfidf_svm"]
    row = rows["commands_tfidf_svm"]
    assert [run["run"] for run in row["runs"]] == [f"commands/{directory.name}" for directory in made]
    assert row["train_command"].endswith("experiment=commands_tfidf_svm seed=1,2")
    assert list(row)[:5] == ["experiment", "data", "model", "tuning", "train_command"]
    assert row["robustness"] is None and row["test"]["value"] == 0.95
    noisy = row | {"robustness": {"command": "python recipes/robustness.py run=RUN", "clean": None, "noise": []}}
    noisy["robustness"] |= {"score": None, "score_over": ["white"]}
    commands = make_results.results_section([noisy]).rpartition("```text")[2]
    assert row["train_command"] in commands and row["evaluate_command"] in commands
    assert "python recipes/robustness.py run=RUN" in commands


def test_a_damaged_run_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made = make_run(tmp_path, 1, [])
    (made / "run.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["make_results.py", "--root", str(tmp_path), "--runs", str(tmp_path)])
    assert make_results.main() == 2
    assert capsys.readouterr().err.startswith(f"error: {made / 'run.json'}: not valid JSON")


def test_another_configuration_is_not_taken_for_the_experiment(tmp_path: Path) -> None:
    directory = make_run(tmp_path, 1, [])
    directory.rename(directory.with_name(directory.name[:-8] + "0" * 8))
    assert make_results.find_runs("commands_tfidf_svm", tmp_path) == []


def test_only_what_is_between_the_markers_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_run(tmp_path / "runs", 1, [0, 1])
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "results.md"
    page.write_text("Before.\n<!-- results -->\nold\n<!-- /results -->\n<!-- speed -->\n<!-- /speed -->\nAfter.\n")
    (tmp_path / "README.md").write_text("# A\n<!-- results -->\nold\n<!-- /results -->\nB\n")
    experiment = tmp_path / "conf" / "experiment" / "commands_tfidf_svm.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# what\n# expected: not measured yet\ndefaults: []\n")
    arguments = ["make_results.py", "--root", str(tmp_path), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert make_results.main() == 0
    text = page.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "old" not in text
    assert "| tfidf_svm |" in text and "95.0" in text
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("# A\n") and readme.endswith("\nB\n") and "old" not in readme
    assert "| `tfidf_svm` | 95.0 (83.5 to 98.6) |" in readme
    assert "# expected: test accuracy 95.0 % (83.5 to 98.6), mean of 1 seeds; 3 s" in experiment.read_text()

    # the runs are gone, as in a fresh clone: the published figures stay
    monkeypatch.setattr(sys, "argv", [*arguments[:3], "--runs", str(tmp_path / "none")])
    assert make_results.main() == 0
    assert page.read_text() == text
    assert (tmp_path / "README.md").read_text() == readme


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(SystemExit, match="<!-- results -->"):
        make_results.fill("no place for it", "results", "a table")
