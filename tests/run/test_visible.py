"""Nothing from a file reaches a terminal, a log, a page or a card as a control character or hidden."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from support import run_recipe
from voicecommand.errors import InputError
from voicecommand.files import visible
from voicecommand.report.page import markdown, render
from voicecommand.run import exits, logs

HOSTILE = {
    "an escape sequence": ("\x1b[2J", r"\u001b[2J"),
    "one of 8 bits": ("\x9b2J", r"\u009b2J"),
    "a bell": ("\x07", r"\u0007"),
    "a carriage return": ("a\rb", r"a\rb"),
    "a backspace": ("a\bb", r"a\bb"),
    "an override of direction": ("\u202egnp", r"\u202egnp"),
    "an isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "no width": ("a\u200bb", r"a\u200bb"),
    "a tag": ("\U000e0041", r"\udb40\udc41"),
    "a line separator": ("\u2028", r"\u2028"),
    "half a character": ("\ud800", r"\ud800"),
}
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066\u2069\U000e0041\ud800]")


@pytest.mark.parametrize("case", HOSTILE)
def test_hidden_characters_are_shown_everywhere(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    text, shown = HOSTILE[case]
    assert visible(text) == shown
    assert exits.fail(InputError(f"label {text!s}x"), 2) == 2
    record = logging.LogRecord("a", logging.INFO, "", 0, "label %s", (text,), None)
    assert not HIDDEN.search(logs.VisibleFormatter("%(message)s").format(record))
    assert exits.answer_exit_code(lambda: print(f"a\t{text}\nb")) == 0
    output = capfd.readouterr()
    assert not HIDDEN.search(output.out + output.err), output
    assert output.out.startswith("a\t") and output.out.endswith("\nb\n")
    assert not HIDDEN.search(markdown(f"a | {text}"))


def test_texts_that_hide_nothing_stay() -> None:
    for text in ("naïve café\t1\n", "日本語 العربية हिन्दी", "👍🏽 ✈️", "a | b"):
        assert visible(text) == text


def test_json_stays_the_same_json() -> None:
    content = {text: [text] for text, _ in HOSTILE.values() if text != "\ud800"}
    line = visible(json.dumps(content, ensure_ascii=False))
    assert json.loads(line) == content and not HIDDEN.search(line)


def test_a_page_shows_what_is_hidden_and_a_card_stays_a_table() -> None:
    import voicecommand.report.page as page

    def files(_: str) -> Any:
        class Template:
            def joinpath(self, _: str) -> Any:
                return self

            def read_text(self, encoding: str) -> str:
                return "{{ text }}"

        return Template()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "files", files)
        assert render("page.html.j2", text="<b>\u202e\x1b") == r"&lt;b&gt;\u202e\u001b"
    assert markdown("a | b\n| c |\u202e") == r"a \| b \| c \|\\u202e"


def test_a_stranger_cannot_write_to_the_terminal_by_labels_texts_or_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{verb} the {thing} {n},{label}" for verb, label in (("open", "o\x1b[31mn"), ("close", "o\u202eff"))
             for thing in ("door", "gate", "lid") for n in "abcdefgh"]  # fmt: skip
    (tmp_path / "a\x1b[2J.csv").write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert run_recipe("train", "model=tfidf_svm", "data=file", 'data.path="a\x1b[2J.csv"', "threads=1") == 0
    (run,) = tmp_path.glob("runs/*/*")
    assert run_recipe("predict", str(run), "open the d\x1b[2Joor") == 0
    assert run_recipe("predict", str(run), "--input", "nope\x1b[2J\u202e.txt") == 2
    output = capfd.readouterr()
    assert not HIDDEN.search((output.out + output.err).replace("\r", "")), repr(output)
    for name in ("log.txt", "report.html", "model/README.md"):
        found = HIDDEN.search((run / name).read_text(encoding="utf-8"))
        assert not found, f"{name}: {found}"
    assert sys.stdout is not None
