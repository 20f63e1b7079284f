"""recipes/predict.py reads rows as they are and keeps what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from voicecommand.errors import InputError


@pytest.fixture(scope="module")
def predict() -> ModuleType:
    spec = importlib.util.spec_from_file_location("predict", Path(__file__).parents[1] / "recipes" / "predict.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lines_are_texts_or_json_objects(predict: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "commands.jsonl"
    # U+2028 ends a line for str.splitlines, and stands inside a text here
    file.write_text('turn it on\r\n{"text": "call\u2028mum", "label": "make_call"}\n', encoding="utf-8")
    assert predict.read_rows(str(file)) == [{"text": "turn it on"}, {"text": "call\u2028mum", "label": "make_call"}]


def test_a_table_is_not_read_as_a_list_of_commands(predict: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "commands.csv").write_text("text,label\nturn it on,turn_on\n")
    with pytest.raises(InputError, match=r"commands\.csv: a table"):
        predict.read_rows(str(tmp_path / "commands.csv"))


def test_a_field_with_the_name_of_an_answer_is_kept_beside_it(
    predict: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import voicecommand

    class Model:
        max_length = None

        def count_truncated(self, texts: list[str]) -> int:
            return 0

        def predict(self, texts: list[str]) -> list[dict]:
            return [{"label": "turn_on", "probability": 1.0, "top_5": [], "accepted": True} for _ in texts]

    monkeypatch.setattr(voicecommand, "load", lambda directory: Model())
    (tmp_path / "rows.jsonl").write_text('{"text": "lights", "label": "turn_off", "speaker": "a"}\n')
    monkeypatch.setattr("sys.argv", ["predict.py", "RUN", "--input", str(tmp_path / "rows.jsonl")])
    predict.main()
    assert capsys.readouterr().out == (
        '{"text": "lights", "input_label": "turn_off", "speaker": "a",'
        ' "label": "turn_on", "probability": 1.0, "top_5": [], "accepted": true}\n'
    )
    monkeypatch.setattr("sys.argv", ["predict.py", "RUN", "lights", "--output", str(tmp_path)])
    with pytest.raises(InputError, match="is a directory"):
        predict.main()
