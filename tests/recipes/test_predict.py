"""recipes/predict.py reads rows unchanged and keeps their fields."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import voicecommand
from support import ROOT, run_recipe
from voicecommand.audio import clips, decode
from voicecommand.data import stream
from voicecommand.errors import InputError
from voicecommand.tasks import saved
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.predicting import Answered
from voicecommand.tasks.text_classification import TfidfSvm


@pytest.fixture(scope="module")
def predict() -> ModuleType:
    spec = importlib.util.spec_from_file_location("predict", Path(__file__).parents[2] / "recipes" / "predict.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Model:
    """A saved model that answers turn_on to one text."""

    task = TfidfSvm()

    def answer(self, texts: list[str], origins: list[str]) -> Answered:
        columns = {"label": ["turn_on"], "probability": [1.0], "top_5": [[]], "accepted": [True]}
        return Answered(columns, None, 0, "")


def test_a_field_with_the_name_of_an_answer_is_kept_beside_it(
    predict: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(voicecommand, "load", lambda directory: Model())
    (tmp_path / "rows.jsonl").write_text('{"text": "lights", "label": "turn_off", "speaker": "a"}\n')
    monkeypatch.setattr("sys.argv", ["predict.py", "RUN", "--input", str(tmp_path / "rows.jsonl")])
    predict.main()
    assert capsys.readouterr().out == (
        '{"text": "lights", "input_label": "turn_off", "speaker": "a",'
        ' "label": "turn_on", "probability": 1.0, "top_5": [], "accepted": true}\n'
    )


def test_the_output_is_a_file_a_link_to_one_or_a_device_and_no_directory(
    predict: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(voicecommand, "load", lambda directory: Model())

    def write(output: Path) -> None:
        monkeypatch.setattr("sys.argv", ["predict.py", "RUN", "lights", "--output", str(output)])
        predict.main()

    file, link, terminal = tmp_path / "labels.jsonl", tmp_path / "link", os.openpty()
    file.write_text("old")
    link.symlink_to(file)
    write(link)
    assert link.is_symlink() and json.loads(file.read_text())["label"] == "turn_on"
    device = Path(os.ttyname(terminal[1]))  # a character device, as /dev/null is one
    write(device)
    assert device.is_char_device() and b'"label": "turn_on"' in os.read(terminal[0], 1000)
    for number in terminal:
        os.close(number)
    with pytest.raises(InputError, match=f"--output {tmp_path}: is a directory"):
        write(tmp_path)
    assert sorted(tmp_path.iterdir()) == [file, link] and capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory, commands_csv: Path) -> Path:
    """A finished run of tfidf_svm."""
    root = tmp_path_factory.mktemp("text_run")
    argv = sys.argv
    assert run_recipe("train", "model=tfidf_svm", "data=file", f"data.path={commands_csv}", f"runs={root}") == 0
    sys.argv = argv
    return next(root.glob("*/*/status.json")).parent


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model for audio with random weights and windows of a quarter of a second."""
    import torch

    from voicecommand.tasks.audio_classification import BCResNet

    directory = tmp_path_factory.mktemp("audio_model")
    torch.manual_seed(0)
    task = BCResNet(max_seconds=0.25)
    vocabulary = Vocabulary(labels=("off", "on"))
    task.save(task.load_model(vocabulary, None).eval(), task.load_processor(vocabulary), directory)
    saved.write_settings(directory, task, vocabulary)
    return directory


def test_a_model_for_audio_accepts_audio_files(
    predict: ModuleType,
    audio_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream, "PART", 2)
    sounds = [np.random.default_rng(n).standard_normal(4000 + 1000 * n) * 0.1 for n in range(3)]
    for n, sound in enumerate(sounds):
        clips.write_wav(f"{n}.wav", clips.to_int16(sound.astype(np.float32)), 16_000)
    monkeypatch.setattr("sys.argv", ["predict.py", str(audio_model), "0.wav", "1.wav", "2.wav"])
    predict.main()
    output = capsys.readouterr()
    answers = [json.loads(line) for line in output.out.splitlines()]
    assert [answer["audio"] for answer in answers] == ["0.wav", "1.wav", "2.wav"]
    assert output.err.splitlines()[-1] == (
        "2 of 3 commands are longer than 0.25 s (training uses their window with the most energy,"
        " answers are means over windows, weighted by energy)"
    )
    opened = voicecommand.load(audio_model)
    expected = opened.predict([decode.read_audio(f"{n}.wav").waveform for n in range(3)])
    for paths in ([f"{n}.wav" for n in range(3)], [Path(f"{n}.wav") for n in range(3)]):
        assert opened.predict(paths) == expected
        assert opened(paths[1])["probability"] == pytest.approx(expected[1]["probability"], abs=1e-5)
    assert [a["probability"] for a in answers] == pytest.approx([e["probability"] for e in expected], abs=1e-5)

    Path("in.txt").write_text('2.wav\n{"audio": "0.wav", "label": "on"}\n')
    monkeypatch.setattr("sys.argv", ["predict.py", str(audio_model), "--input", "in.txt"])
    predict.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["audio"] for line in lines] == ["2.wav", "0.wav"] and lines[1]["input_label"] == "on"
    assert lines[1]["probability"] == pytest.approx(answers[0]["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("good.wav\nbad.wav\ngood.wav\n", r"in\.txt:2: bad\.wav: the file is empty"),
        ("good.wav\nno.wav\n", r"in\.txt:2: no\.wav: no such file"),
        (
            "good.wav\nturn it on\n",
            r"in\.txt:2: turn it on: no such file, .* recordings; for texts train model=tfidf_svm",
        ),
        ('good.wav\n{"text": "turn it on"}\n', r"in\.txt:2: no audio; give one command a line, or JSON objects"),
        ('good.wav\n{"audio": "a\\u0000b"}\n', r"in\.txt:2: .*null (byte|character)"),
    ],
)
def test_an_audio_file_that_cannot_be_read_is_named_by_its_line_after_the_answers_before_it(
    content: str,
    line: str,
    predict: ModuleType,
    audio_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    clips.write_wav("good.wav", np.full(4000, 1000, np.int16), 16_000)
    Path("bad.wav").touch()
    Path("in.txt").write_text(content)
    monkeypatch.setattr("sys.argv", ["predict.py", str(audio_model), "--input", "in.txt"])
    with pytest.raises(InputError, match=line):
        predict.main()
    (answer,) = capsys.readouterr().out.splitlines()
    assert json.loads(answer)["audio"] == "good.wav"
    monkeypatch.setattr("sys.argv", ["predict.py", str(audio_model), "--input", "in.txt", "--output", "out.jsonl"])
    with pytest.raises(InputError, match=line):
        predict.main()
    assert not list(Path().glob("*out.jsonl*")), "a file is written whole or not at all"


def test_opening_a_model_shows_no_bar_and_leaves_those_of_the_program_on(
    audio_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    capfd.readouterr()
    voicecommand.load(audio_model)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()


def test_a_model_of_texts_takes_texts_only(text_run: Path) -> None:
    model = voicecommand.load(text_run)
    assert model("play music") == model.predict("play music") == model(["play music", "stop"])[0]
    assert model([]) == []
    for commands in (Path("a.wav"), np.zeros(9, np.int16), ["play music", 7]):
        with pytest.raises(InputError, match="this model reads texts"):
            model(commands)


@pytest.mark.parametrize("clip", [np.zeros(0, np.int16), np.array([0.1, np.nan], np.float32), np.zeros((2, 9))])
def test_what_is_no_clip_gets_no_label(clip: np.ndarray, audio_model: Path) -> None:
    with pytest.raises(InputError, match="a clip "):
        voicecommand.load(audio_model).predict([np.zeros(4000, np.int16), clip])


@pytest.mark.slow
def test_a_filter_answers_each_line_before_the_next_one_comes(text_run: Path) -> None:
    """A real pipe on both sides; the terminal takes ASCII only, and the reader goes away after the second answer."""
    command = [sys.executable, str(ROOT / "recipes" / "predict.py"), str(text_run), "--input", "-"]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=variables, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        deadline = threading.Timer(100, process.kill)  # an answer that is kept back would be waited for
        deadline.start()
        for line, text in ((b"play music\n", "play music"), ("spiel f\u00fcr mich\n".encode(), "spiel f\u00fcr mich")):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdout.close()
        process.stdin.write(b"play music\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        deadline.cancel()
    assert process.returncode == 0
