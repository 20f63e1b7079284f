"""Commands come in parts, as they are at hand; no line is passed over unseen."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from voicecommand.data import stream
from voicecommand.data.stream import Stream
from voicecommand.errors import InputError


def cells(source: Stream) -> list[dict[str, object]]:
    return [given.cells for part in source for given in part]


def test_lines_are_texts_or_json_objects(tmp_path: Path) -> None:
    file = tmp_path / "commands.jsonl"
    # U+2028 ends a line for str.splitlines, and stands inside a text here
    file.write_text('\ufeffturn it on\r\n{"text": "call\u2028mum", "label": "make_call"}\nstop', encoding="utf-8")
    given = [one for part in Stream(str(file), "text", "text") for one in part]
    assert [one.cells for one in given] == [
        {"text": "turn it on"},
        {"text": "call\u2028mum", "label": "make_call"},
        {"text": "stop"},
    ]
    assert [one.command for one in given] == ["turn it on", "call\u2028mum", "stop"]


def test_another_field_may_hold_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"said": "stop", "text": 7}\n')
    ((given,),) = Stream(str(tmp_path / "a.jsonl"), "said", "text")
    assert (given.command, given.cells) == ("stop", {"said": "stop", "text": 7})


def test_a_table_gives_the_column_and_keeps_the_others(tmp_path: Path) -> None:
    rows = 'query,n\n"switch it on, now",007\n,\nstop,\n'
    (tmp_path / "a.csv").write_text(rows)
    (tmp_path / "A.TSV").write_text("query\tn\nswitch it on, now\t007\n\t\nstop\t\n")
    for name in ("a.csv", "A.TSV"):
        source = Stream(str(tmp_path / name), "query", "text")
        assert cells(source) == [{"query": "switch it on, now", "n": "007"}, {"query": "stop", "n": ""}]
        assert source.blank == 1


def test_blank_lines_are_counted_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\nstop\n  \n\t\r\n{nope\n")
    source = Stream(str(file), "text", "text")
    parts = iter(source)
    assert [given.command for given in next(parts)] == ["stop"]
    with pytest.raises(InputError, match=r"a\.txt:5: not a JSON object"):
        next(parts)
    assert source.blank == 3


def test_what_stands_before_a_bad_line_is_given_first(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\xe9\nfour\n")
    parts = iter(Stream(str(tmp_path / "a.txt"), "text", "text"))
    assert [given.command for given in next(parts)] == ["one", "two"]
    with pytest.raises(InputError, match=r"a\.txt:3: not UTF-8"):
        next(parts)
    (tmp_path / "a.csv").write_text("text,n\none,1\n,2\n")
    parts = iter(Stream(str(tmp_path / "a.csv"), "text", "text"))
    assert [given.command for given in next(parts)] == ["one"]
    with pytest.raises(InputError, match=r"a\.csv:3: no text"):
        next(parts)


def test_many_commands_come_in_parts_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK", 7)  # a line may lie in two chunks
    texts = [f"command {number}" for number in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(texts))
    for source in (str(tmp_path / "a.txt"), str(tmp_path / "a.csv"), texts):
        parts = list(Stream(source, "text", "text"))
        assert [given.command for part in parts for given in part] == texts
        assert max(map(len, parts)) <= stream.PART
    assert len(parts) == 3


def test_a_line_is_given_as_soon_as_it_is_there(tmp_path: Path) -> None:
    """The second line is only written when the first one has been given."""
    pipe, given = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w", buffering=1) as file:
            file.write("stop\n")
            assert given.wait(20)
            file.write("go on\n")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    parts = iter(Stream(str(pipe), "text", "text"))
    assert [one.command for one in next(parts)] == ["stop"]
    given.set()
    assert [one.command for one in next(parts)] == ["go on"]
    writer.join(20)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_input_without_a_command_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"a\.txt: empty; give one command a line"):
        list(Stream(str(tmp_path / "a.txt"), "text", "text"))


@pytest.mark.parametrize(
    ("command", "reads", "is_refused"),
    [
        ("clip.wav", "text", True),
        ("my clip.m4a", "text", True),
        ("gone.MP3", "text", True),
        ("play song.mp3", "text", False),
        ("play", "text", False),
        ("play a song", "audio", True),
        ("gone clip.m4a", "audio", False),  # the decoder says that it is not there
    ],
)
def test_a_recording_is_no_text_and_a_text_no_recording(
    command: str, reads: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clip.wav", "my clip.m4a"):
        Path(name).touch()
    if not is_refused:
        stream.check_kind(command, reads, "in:1: ")
        return
    with pytest.raises(InputError, match=f"^in:1: {command}: .*this model reads .* train model="):
        stream.check_kind(command, reads, "in:1: ")
