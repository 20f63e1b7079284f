"""Ten first hours of new users, by the commands that they would type.

Each ends in a model that no plain baseline beats by more than its interval, or in one line to act on. `make journeys`
runs all of them, which takes a quarter of an hour; continuous integration runs those that are marked as slow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support import ROOT, find_run, read_json, write_tones

long = pytest.mark.journey
in_ci = pytest.mark.slow


def run(recipe: str, *words: str, place: Path, code: int = 0) -> str:
    """The output of `python recipes/<recipe>.py <words>` in the folder `place`; it must end with `code`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(ROOT / "recipes" / f"{recipe}.py"), *words]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


def error_of(output: str) -> str:
    """The one line of an error."""
    (line,) = (line for line in output.splitlines() if line.startswith("error: "))
    return line


def train(place: Path, *words: str) -> Path:
    """The run directory of a training."""
    before = set(place.glob("runs/*/*"))
    run("train", *words, "training.report_to=none" if "svm" not in words[0] else "seed=42", place=place)
    (made,) = set(place.glob("runs/*/*")) - before
    return made


def accuracy(directory: Path, split: str) -> dict[str, float]:
    figure: dict[str, float] = read_json(directory, "metrics.json")["splits"][split]["accuracy"]
    return figure


def compare(place: Path, data: Sequence[str], held_out: str | None = None, split: str = "test") -> dict[str, Path]:
    """Train `model=bert` and both baselines on `data`; no baseline may be better by more than its interval.

    Args:
        held_out: a file to measure on instead of the split of the run.
    """
    runs, figures = {}, {}
    for model in ("bert", "tfidf_svm", "bert_svm"):
        runs[model] = measured = train(place, f"model={model}", *data)
        if held_out:
            run("evaluate", f"run={measured}", "data=file", f"data.path={held_out}", place=place)
            (measured,) = (measured / "evaluations").iterdir()
        figures[model] = accuracy(measured, split)
    for model in ("tfidf_svm", "bert_svm"):
        assert figures["bert"]["value"] >= figures[model]["low"], figures
    return runs


def english(count: int, split: str = "train", seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) of built-in commands."""
    from voicecommand.data.sources.commands import load_commands

    rows = load_commands(("text", "label"))[split]
    order = np.random.default_rng(seed).permutation(len(rows))[:count].tolist()
    return [(rows[i]["text"], rows[i]["label"]) for i in order]


def german(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) of four commands in German."""
    phrases = {
        "licht_an": "mach|schalte|bitte mach|kannst du; das Licht an|die Lampe ein|es hell machen",
        "licht_aus": "mach|schalte|bitte mach|kannst du; das Licht aus|die Lampe ab|alles dunkel",
        "wetter": "wie wird|sag mir|was macht|ich frage mich, wie; das Wetter|der Regen|es draußen",
        "wecker": "weck mich|stell den Wecker|klingel|Alarm bitte; um sieben|morgen früh|halb neun",
    }
    places = ["", " in der Küche", " im Bad", " heute", " jetzt", " bei Oma", " schnell"]
    draws = np.random.default_rng(seed)
    rows = [
        (f"{first} {second}{place}", label)
        for label, parts in phrases.items()
        for first in parts.split("; ")[0].split("|")
        for second in parts.split("; ")[1].split("|")
        for place in places
    ]
    return [rows[i] for i in draws.permutation(len(rows))[:count]]


def write_csv(path: Path, rows: Sequence[tuple[str, str]], separator: str = ",", encoding: str = "utf-8") -> None:
    lines = [separator.join(("text", "label"))]
    lines += [separator.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


@long
def test_120_english_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", english(120))
    write_csv(tmp_path / "held.csv", english(400, "test"))
    runs = compare(tmp_path, ["data=file", "data.path=mine.csv"], "held.csv")
    assert "length: " in (runs["bert"] / "log.txt").read_text()


@long
def test_60_german_rows(tmp_path: Path) -> None:
    rows = german(300)
    write_csv(tmp_path / "mine.csv", rows[:60])
    write_csv(tmp_path / "held.csv", rows[60:])
    compare(tmp_path, ["data=file", "data.path=mine.csv"], "held.csv")


@long
def test_20_rows_by_cross_validation(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", german(20))
    runs = compare(tmp_path, ["data=file", "data.path=mine.csv", "data.split.folds=5"], split="cross_validation")
    assert "not measured" in (runs["bert"] / "report.html").read_text()


@long
def test_a_spreadsheet_export_with_semicolons(tmp_path: Path) -> None:
    write_csv(tmp_path / "Export (1).csv", english(160), separator=";", encoding="utf-8-sig")
    write_csv(tmp_path / "held.csv", english(400, "test"), separator=";", encoding="utf-16")
    runs = compare(tmp_path, ["data=file", 'data.path="Export (1).csv"'], "held.csv")
    assert sum(split["rows"] for split in read_json(runs["bert"], "run.json")["data"]["splits"].values()) == 160


@long
def test_a_rasa_file(tmp_path: Path) -> None:
    lines = ['version: "3.1"', "nlu:"]
    for label in sorted({label for _, label in english(150)}):
        lines += [
            f"- intent: {label}",
            "  examples: |",
            *(f"    - {text}" for text, own in english(150) if own == label),
        ]
    lines += ["- synonym: lamp", "  examples: |", "    - light"]
    (tmp_path / "nlu.yml").write_text("\n".join(lines) + "\n")
    write_csv(tmp_path / "held.csv", english(400, "test"))
    compare(tmp_path, ["data=file", "data.path=nlu.yml"], "held.csv")


@long
def test_a_folder_from_a_phone(tmp_path: Path) -> None:
    write_tones(tmp_path / "tones", count=60, samples=16_000, speakers=12)
    folder = tmp_path / "My recordings"
    for number, row in enumerate((tmp_path / "tones" / "metadata.csv").read_text().splitlines()[1:]):
        name, label, _ = row.split(",")
        samples, _ = soundfile.read(tmp_path / "tones" / name)
        place = folder / label / f"Neue Aufnahme ({number}) – Küche.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, np.stack([samples.repeat(3)] * 2, axis=1), 48_000)
    (folder / "__MACOSX").mkdir()
    (folder / "up" / "._x.wav").write_bytes(b"\0\5\26\7")
    (folder / "up" / "last.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    data = ["data=folder", 'data.path="My recordings"']
    line = error_of(run("train", "model=bcresnet", *data, place=tmp_path, code=2))
    assert "last.m4a" in line
    (folder / "up" / "last.m4a").unlink()
    line = error_of(run("train", "model=bert", *data, place=tmp_path, code=2))
    assert "model=bcresnet" in line or "mfcc_svm" in line
    network, baseline = (train(tmp_path, f"model={model}", *data) for model in ("bcresnet", "mfcc_svm"))
    assert accuracy(network, "test")["value"] >= accuracy(baseline, "test")["low"]


@long
def test_phrases_only(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    (tmp_path / "phrases.csv").write_text("text,label\nlights on,on\nlights off,off\nplay music,play\n")
    data = ["data=spoken", "data.path=phrases.csv", "data.speakers=30", "data.clips_per_phrase=30"]
    data += ["data.engines=[espeak]"]
    directory = train(tmp_path, "model=mfcc_svm", *data)
    assert accuracy(directory, "test")["value"] > 1 / 3
    assert "real" in run("train", "model=mfcc_svm", *data, "seed=42", place=tmp_path)


@long
def test_one_label_with_two_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", [*english(120), ("who let the dogs out", "dogs"), ("dogs please", "dogs")])
    write_csv(tmp_path / "held.csv", english(400, "test"))
    runs = compare(tmp_path, ["data=file", "data.path=mine.csv"], "held.csv")
    assert re.search(r"WARNING.*dogs", (runs["bert"] / "log.txt").read_text())


@in_ci
def test_a_live_recorders_file(tmp_path: Path) -> None:
    write_tones(tmp_path / "tones", count=40, samples=4800, speakers=10)
    directory = train(tmp_path, "model=mfcc_svm", "data=folder", "data.path=tones")
    whole = (tmp_path / "tones" / "0.wav").read_bytes()
    data = whole.index(b"data") + 4
    live = whole[:4] + b"\xff" * 4 + whole[8:data] + b"\xff" * 4 + whole[data + 4 :]
    (tmp_path / "live.wav").write_bytes(live)
    first, second = run("predict", str(directory), "live.wav", "tones/0.wav", place=tmp_path).splitlines()[:2]
    answers = [json.loads(line) for line in (first, second)]
    assert answers[0]["label"] == answers[1]["label"] and answers[0]["probability"] == answers[1]["probability"]


@in_ci
def test_20_rows_of_a_spreadsheet_end_in_a_model_and_say_what_to_do(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", german(20), separator=";")
    output = run("train", "model=tfidf_svm", "data=file", "data.path=mine.csv", place=tmp_path)
    assert "data.split.folds=5" in output
    assert any(line.startswith("try it: ") and "predict.py" in line for line in output.splitlines())


@in_ci
def test_predict_as_a_filter(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", english(120))
    directory = train(tmp_path, "model=tfidf_svm", "data=file", "data.path=mine.csv")
    assert find_run(tmp_path / "runs") == directory
    command = [sys.executable, str(ROOT / "recipes" / "predict.py"), "latest", "--input", "-"]
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        for text in ("turn the lights on", "play some jazz"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text, "answered before the next line comes"
        process.stdin.close()
        assert process.wait(timeout=60) == 0
