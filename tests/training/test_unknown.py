"""Text that a model does not know is counted, and refused where it is most of train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import find_run, read_json, run_and_read
from voicecommand.errors import InputError
from voicecommand.models.tokens import encode_texts, load_tokenizer
from voicecommand.tasks.base import Encoded, Unknown
from voicecommand.training import unknown


def encoded(count: int, of: int) -> Encoded:
    return Encoded({"length": [1]}, unknown=Unknown(count, of))


def test_tokens_that_stand_for_unknown_text_are_counted(checkpoints: dict[str, Path]) -> None:
    texts = ["turn on the lights", "turn ሰላም on 好", "ሰላም ልዑል"]
    counts = {
        name: encode_texts(texts, load_tokenizer(str(path), None), 64)["unknown"] for name, path in checkpoints.items()
    }
    assert counts["bert_uncased"] == [0, 2, 2]
    assert counts["gpt2"] == counts["roberta"] == [0, 0, 0], "they know every byte"


@pytest.mark.parametrize(("count", "level"), [(0, "INFO"), (5, "INFO"), (6, "WARNING"), (50, "WARNING")])
def test_a_share_of_unknown_tokens_is_logged_and_above_five_percent_a_warning(
    count: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    unknown.check({"train": encoded(count, 100), "test": Encoded({"length": [1]})})
    assert f"unknown to the model: train {count} of 100 tokens ({count}.0 %)" in caplog.text
    assert caplog.records[-1].levelname == level and len(caplog.records) == 1 + (level == "WARNING")


def test_more_than_half_of_train_unknown_is_an_error_that_names_models_for_any_script() -> None:
    with pytest.raises(InputError, match=r"^train: 51 of 100 tokens .*model=tfidf_svm .*xlm-roberta-base") as caught:
        unknown.check({"train": encoded(51, 100)})
    assert "\n" not in str(caught.value)
    unknown.check({"train": encoded(0, 100), "out_of_scope_test": encoded(100, 100)})


def write_commands(path: Path, verbs: dict[str, str], things: str) -> Path:
    rows = [f"{verb}{thing}{more},{label}" for label, verb in verbs.items() for thing in things for more in ("", thing)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_script_that_the_tokenizer_lacks_is_refused_and_the_named_model_reads_it(
    checkpoints: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_commands(tmp_path / "a.csv", {"on": "አብራ ", "off": "አጥፋ "}, "ሀለሐመሠረሰቀበተነ")
    data = ["data=file", f"data.path={file}", f"runs={tmp_path}/runs"]
    code, said = run_and_read(
        capfd, "train", "model=bert_scratch", f"model.checkpoint={checkpoints['bert_cased']}", *data
    )
    assert code == 2 and re.search(r"error: train: (\d+) of \1 tokens \(100\.0 %\) are unknown to the model", said)
    assert not list((tmp_path / "runs").glob("*/*")), "nothing blocks the plain command"
    code, said = run_and_read(capfd, "train", "model=tfidf_svm", *data)
    assert code == 0 and "unknown to the model: train 0 of" in said
    splits = read_json(find_run(tmp_path / "runs"), "run.json")["data"]["splits"]
    assert all(split["unknown"] == {"count": 0, "of": split["rows"], "unit": "texts"} for split in splits.values())
    other = write_commands(tmp_path / "other.csv", {"on": "xx", "off": "yy"}, "z")
    code, said = run_and_read(
        capfd, "evaluate", f"run={find_run(tmp_path / 'runs')}", "data=file", f"data.files.test={other}"
    )
    assert code == 0 and "test: 4 of 4 texts (100.0 %) are unknown to the model" in said
    page = next((tmp_path / "runs").rglob("evaluations/*/report.html")).read_text(encoding="utf-8")
    assert "test: 4 of 4 texts are unknown to the model" in page and ">4 of 4 texts<" in page


def test_texts_of_only_emoji_train_a_model_that_tells_them_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from voicecommand import load

    emoji = {"on": ["💡", "🔥", "🔆", "☀️"], "music": ["🎵", "🎧", "❤️", "☎️"]}
    pairs = [(one + two, label) for label, kinds in emoji.items() for one in kinds for two in kinds]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in pairs))
    data = ["data=file", f"data.path={tmp_path}/a.csv", f"runs={tmp_path}/runs"]
    code, said = run_and_read(capfd, "train", "model=tfidf_svm", *data)
    assert code == 0, said
    assert [answer["label"] for answer in load(find_run(tmp_path / "runs")).predict(["🔥💡", "🎧🎵"])] == [
        "on",
        "music",
    ]
