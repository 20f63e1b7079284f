"""Synthetic speech: speakers, clips that are made once, `data=spoken`. Most tests need no synthesiser."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import time
import wave
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voicecommand.data.sources.spoken import load_spoken
from voicecommand.data.synthesis import engines, near_misses
from voicecommand.data.synthesis import speakers as data_speakers
from voicecommand.data.synthesis.engines import ENGINES, Espeak, Flite, Utterance, Voice, find_engines
from voicecommand.data.synthesis.speakers import draw_speakers, speak_all, split_speakers
from voicecommand.errors import InputError, RunError

needs_espeak = pytest.mark.skipif(not find_spec("espeakng_loader"), reason="espeakng-loader is not installed")
needs_flite = pytest.mark.skipif(bool(Flite().missing()), reason="flite is not installed")
PHRASES = {"on": ["lights on", "turn it on"], "off": ["lights off"]}


@dataclass(frozen=True)
class Fake:
    """An engine with humming voices; it writes down each clip that it makes, and a voice "gone" ends its process."""

    notes: str
    name: str = "fake"

    def missing(self) -> str | None:
        return None

    def voices(self) -> list[Voice]:
        return [Voice("fake", f"v{n}", "", accent) for n in range(12) for accent in ("en-us", "en-gb", "de")]

    def version(self, voice: Voice) -> str:
        return "1"

    def speak(self, utterance: Utterance) -> tuple[np.ndarray, int]:
        import os

        with open(self.notes, "a", encoding="utf-8") as file:
            file.write(f"{utterance}\n")
        if utterance.text == "crash":
            os._exit(139)
        if utterance.text == "silence":
            return np.zeros(1000, np.int16), 8000
        pitch = 100 + 10 * utterance.pitch + below(utterance.voice.name)
        return (9000 * np.sin(np.arange(800) * pitch / 8000)).astype(np.int16), 8000


def below(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake engine as the only one, an empty cache; returns the file of what it has said."""
    notes = tmp_path / "notes"
    notes.touch()
    engine = Fake(str(notes))
    monkeypatch.setattr("voicecommand.files.cache_directory", lambda: tmp_path / "cache")
    for name in list(ENGINES):
        monkeypatch.delitem(ENGINES, name)
    monkeypatch.setitem(ENGINES, "fake", engine)
    return notes


def rows_of(dataset: Any) -> list[dict[str, str]]:
    return [row for split in dataset.values() for row in split]


def test_every_speaker_and_every_voice_is_in_one_split_only(fake: Path) -> None:
    speakers = draw_speakers(40, find_engines())
    splits = split_speakers(speakers, {"train": 0.7, "validation": 0.1, "test": 0.2})
    assert sorted(s.name for each in splits.values() for s in each) == sorted({s.name for s in speakers})
    timbres = [{speaker.voice.timbre for speaker in each} for each in splits.values()]
    assert sum(map(len, timbres)) == len(set().union(*timbres)) == 12
    assert [len(splits[name]) for name in ("train", "validation", "test")] == pytest.approx([28, 4, 8], abs=3)


def test_three_voices_are_enough_for_three_splits_and_two_are_refused(fake: Path) -> None:
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    speakers = draw_speakers(3, find_engines())
    assert all(split_speakers(speakers, shares).values())
    with pytest.raises(InputError, match=r"data\.speakers=2.*2 different voices.*train, validation, test"):
        split_speakers(speakers[:2], shares)


def test_more_speakers_leave_the_first_ones_as_they_are(fake: Path) -> None:
    assert draw_speakers(50, find_engines())[:20] == draw_speakers(20, find_engines())


def test_answers_to_synthetic_speech_are_known_by_the_names_of_its_speakers() -> None:
    from datasets import Dataset

    from voicecommand.tasks.base import Encoded, Vocabulary
    from voicecommand.tasks.predicting import Answered, collect_answers

    voices = [Voice(name, "gmw/en-GB x") for name in ENGINES]
    made = [data_speakers.Speaker(voice, 40, 150).name for voice in voices]
    for speakers, expected in ((made, True), ([*made[:-1], "anna-p40"], False), (["c119"] * 3, False)):
        rows = {"id": list("abc"), "origin": list("abc"), "audio": [[0]] * 3, "speaker": speakers}
        answered = Answered({"probabilities": np.ones((3, 1))}, None, 0, "")
        found = collect_answers(Dataset.from_dict(rows), "validation", Encoded({}), answered, Vocabulary(("on",)))
        assert found.is_synthetic == expected


def test_variants_that_are_one_person_count_as_one_voice() -> None:
    timbres = {
        Voice("espeak", name, variant).timbre for name in ("a", "b") for variant in ("steph", "steph2", "f1", "f2")
    }
    assert timbres == {"espeak/steph", "espeak/f1", "espeak/f2"}


def test_the_loader_says_each_phrase_as_often_as_asked_in_the_given_shares(fake: Path) -> None:
    dataset = load_spoken(("audio", "label"), phrases=PHRASES, speakers=24, clips_per_phrase=50)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 105, "validation": 15, "test": 30}
    rows = rows_of(dataset)
    assert len({row["id"] for row in rows}) == len(rows) == len({row["audio"] for row in rows})
    assert {row["origin"]: row["text"] for row in rows}["data.phrases.on[1]"] == "turn it on"
    groups = [set(split["speaker"]) for split in dataset.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    with wave.open(rows[0]["audio"]) as file:
        assert (file.getsampwidth(), file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 1, 8000, 800)


def test_one_speaker_never_says_a_phrase_twice_in_the_same_way(fake: Path) -> None:
    dataset = load_spoken(("audio", "label"), phrases={"on": ["go"], "off": ["stop"]}, speakers=3, clips_per_phrase=120)
    assert len(set(dataset["train"]["speaker"])) == 1
    assert len(set(dataset["train"]["audio"])) == len(set(dataset["train"]["id"])) == len(dataset["train"]) == 168


def test_a_second_run_finds_all_clips_and_makes_none(fake: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = load_spoken(("audio", "label"), phrases=PHRASES, speakers=10, clips_per_phrase=20)
    said = fake.read_text()
    again = load_spoken(("audio", "label"), phrases=PHRASES, speakers=10, clips_per_phrase=20)
    assert said.count("\n") == 60 and fake.read_text() == said
    assert rows_of(first) == rows_of(again)
    assert "60 made, 0 found" in caplog.text and "0 made, 60 found" in caplog.text
    assert not list(fake.parent.rglob("*.part"))


def test_two_processes_at_once_make_each_clip_once(fake: Path) -> None:
    utterances = [draw_speakers(1, find_engines())[0].say(f"text {n}") for n in range(40)]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=speak_all, args=(utterances,)) for _ in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    assert fake.read_text().count("\n") == 40


def test_no_sound_is_made_where_the_task_asks_for_text(fake: Path) -> None:
    dataset = load_spoken(("text", "label"), phrases=PHRASES, speakers=10, clips_per_phrase=10)
    assert "audio" not in dataset["train"].column_names and fake.read_text() == ""


def test_a_spoken_phrase_has_its_text_as_transcript_where_it_is_asked_for(fake: Path) -> None:
    settings: dict[str, Any] = {"phrases": {"on": ["lights on"]}, "speakers": 12, "clips_per_phrase": 12}
    heard = load_spoken(("audio", "transcript"), **settings)
    assert {text for rows in heard.values() for text in rows["transcript"]} == {"lights on"}
    assert "transcript" not in load_spoken(("audio", "label"), **settings)["train"].column_names


def test_phrases_come_from_a_file_with_their_template_and_origin(fake: Path, tmp_path: Path) -> None:
    path = tmp_path / "phrases.tsv"
    path.write_text("utterance\tlabel\ttemplate\nlights on\ton\ta\nlights off\toff\tb\n", encoding="utf-8")
    dataset = load_spoken(
        ("audio", "label"), path=str(path), column_map={"text": "utterance"}, speakers=4, clips_per_phrase=4
    )
    row = dataset["train"][0]
    assert (row["origin"], row["text"], row["template"]) == (f"{path}:2", "lights on", "a")


GRAMMAR = """
expressions: {on: "turn [the] {device} on", off: ["turn [the] {device} off", "no more {device}, please"]}
slots: {device: {train: [lamp, fan, desk lamp, heater, kettle], test: [oven, grill]}}
"""


def test_sentences_of_a_grammar_are_spoken_each_in_one_split_with_transcript_label_and_slots(
    fake: Path, tmp_path: Path
) -> None:
    (tmp_path / "g.yaml").write_text(GRAMMAR)
    settings: dict[str, Any] = {"grammar": str(tmp_path / "g.yaml"), "sentences": 20, "speakers": 12}
    columns = ("audio", "transcript", "label", "slots")
    dataset = load_spoken(columns, clips_per_phrase=2, **settings)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 28, "validation": 4, "test": 8}
    texts = [set(split["transcript"]) for split in dataset.values()]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 20
    rows = rows_of(dataset)
    assert len({row["id"] for row in rows}) == len({row["audio"] for row in rows}) == 40
    for row in rows:
        value = json.loads(row["slots"])["device"]
        assert value in row["transcript"] and row["transcript"] == row["text"] and row["template"] == row["origin"]
        assert row["label"] == ("on" if row["transcript"].endswith(" on") else "off")
    assert {json.loads(row["slots"])["device"] for row in dataset["test"]} == {"oven", "grill"}
    assert not {json.loads(row["slots"])["device"] for row in dataset["train"]} & {"oven", "grill"}
    assert rows_of(load_spoken(columns, clips_per_phrase=2, **settings)) == rows
    with pytest.raises(InputError, match=r"data\.sentences=60, .*: 48 different .* has only 25"):
        load_spoken(columns, **{**settings, "sentences": 60})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"data\.path=phrases\.csv, data\.phrases=.* or data\.grammar=FILE: one of them is needed, and none is"),
        ({"phrases": PHRASES, "path": "x.csv"}, "one of them is needed, and 2 are given"),
        ({"grammar": "x.yaml", "path": "x.csv"}, "one of them is needed, and 2 are given"),
        ({"grammar": "x.yaml", "unknown": 3}, r"data\.unknown=3: near misses are of phrases"),
        ({"grammar": "x.yaml"}, r"x\.yaml: the grammar cannot be read: No such file"),
        ({"grammar": "x.yaml", "sentences": 0}, r"data\.sentences=0: a whole number from 1"),
        ({"phrases": {"on": []}}, r"data\.phrases\.on: a list"),
        ({"phrases": {"on": [True]}}, r"data\.phrases\.on\[0\]: True is not a text"),
        ({"phrases": {"on": ["go"], "off": ["Go!"]}}, r"data\.phrases\.off\[0\].*on\[0\] under 'on', here 'off'"),
        ({"phrases": {"on": ["..."]}}, r"data\.phrases\.on\[0\]: nothing to say in '\.\.\.'"),
        ({"phrases": {"on": ["включи"]}}, r"English voice can't say 'в'.*data\.accents"),
        ({"phrases": {"on": ["silence"]}}, r"1 bad row.*data\.phrases\.on\[0\]: fake .*gives silence for 'silence'"),
        ({"phrases": PHRASES, "engines": ["espeka"]}, "no engine 'espeka'"),
        ({"phrases": PHRASES, "engines": []}, r"data\.engines is empty"),
        ({"phrases": PHRASES, "accents": ["en-uk"]}, r"no accent 'en-uk'.*'en-gb', 'en-us'"),
        ({"phrases": PHRASES, "pitch": [70, 30]}, r"data\.pitch=\[70, 30\]"),
        ({"phrases": PHRASES, "rate": [10, 2000]}, r"data\.rate=\[10, 2000\]: .*from 80 to 400"),
        ({"phrases": PHRASES, "speakers": 0}, r"data\.speakers=0"),
        ({"phrases": PHRASES, "clips_per_phrase": 10**5, "speakers": 3}, r"3? speakers can't say it in \d+ different"),
        ({"phrases": PHRASES, "split": {"test": 1.0}}, r"data\.split\.test=1\.0"),
        ({"phrases": PHRASES, "words": "nowhere.txt", "unknown": 2}, r"data\.words=nowhere\.txt: cannot be read"),
    ],
)
def test_bad_settings_and_phrases_are_refused_by_name(fake: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_spoken(("audio", "label"), **{"speakers": 6, "clips_per_phrase": 6, **settings})
    assert "\n" not in str(caught.value)


def test_a_crash_of_an_engine_is_one_line_and_ends_no_other_process(fake: Path) -> None:
    with pytest.raises(RunError, match="a child process died"):
        load_spoken(("audio", "label"), phrases={"on": ["crash"]}, speakers=4, clips_per_phrase=4)


def test_a_missing_engine_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e \.\[spoken\]"):
        load_spoken(("audio", "label"), phrases=PHRASES)
    with pytest.raises(InputError, match=r"espeak is not installed: pip install -e \.\[spoken\]"):
        find_engines(["espeak"])


def test_related_sounds_are_nearer_than_others() -> None:
    light, night, kite = ("l", "aI", "t"), ("n", "aI", "t"), ("k", "aI", "t")
    assert near_misses.distance(light, light) == 0
    assert near_misses.distance(("p", "I"), ("b", "I")) == near_misses.distance(("t", "I"), ("t", "E")) == 0.5
    assert near_misses.distance(light, kite) == near_misses.distance(light, night) == 1
    assert near_misses.distance(light, light[1:]) == 1


@needs_espeak
def test_near_misses_sound_similar_and_hold_no_phrase() -> None:
    phrases = ["alexa", "view glass", "snowboy"]
    found = near_misses.find_near_misses(phrases, 30)
    assert len(set(found)) == 30 and found == near_misses.find_near_misses(phrases, 30)
    assert not [text for text in found if any(f" {phrase} " in f" {text} " for phrase in phrases)]
    sounds = [tuple(each) for each in data_speakers.transcribe([*phrases, *found])]
    nearest = [min(near_misses.distance(sound, phrase) for phrase in sounds[:3]) for sound in sounds[3:]]
    assert min(nearest) >= near_misses.LEAST and max(nearest) <= 0.5 * max(map(len, sounds[:3]))
    assert len(set(sounds)) == 33, "two that sound the same"


@needs_espeak
def test_too_many_near_misses_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match=r"data\.unknown=5: only [0-4] words"):
        near_misses.find_near_misses(["computer"], 5, ["commuter", "banana", "computer"])


@needs_espeak
def test_what_espeak_says_depends_on_the_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicecommand.files.cache_directory", lambda: tmp_path / "one")
    speakers = draw_speakers(24, [Espeak()])
    utterances = [speaker.say(text) for speaker in speakers for text in ("lights on", "play some music")]
    klatt = [voice for voice in Espeak().voices() if voice.accent == "en-us" and voice.variant in ("Reed", "caleb")]
    assert len(klatt) == 2
    utterances += [Utterance("lights on", voice, 50, 150) for voice in klatt]  # these have another source of noise
    first = [Path(path).read_bytes() for path in speak_all(utterances, num_proc=1)]
    monkeypatch.setattr("voicecommand.files.cache_directory", lambda: tmp_path / "two")
    time.sleep(1.1)  # eSpeak NG seeds its noise with the clock's seconds
    other_order = [Path(path).read_bytes() for path in speak_all(utterances[::-1], num_proc=2)][::-1]
    assert first == other_order
    assert len(set(first)) == len(first), "two voices say the same: one was replaced by another"


@needs_espeak
def test_espeak_refuses_a_voice_or_variant_that_it_would_replace() -> None:
    for name, variant in (("gmw/en-US", "nobody"), ("gmw/en-US", "F3"), ("gmw/en-XX", "f3")):
        job = (Espeak(), Utterance("hello", Voice("espeak", name, variant), 50, 175), Path("unused.wav"))
        with pytest.raises(InputError, match=rf"no voice '{name}\+{variant}'"):
            data_speakers.run_in_children(data_speakers._make, [job], 1, "test")


@needs_espeak
def test_espeak_has_many_english_voices_without_robots() -> None:
    voices = [voice for voice in Espeak().voices() if voice.accent.startswith("en")]
    assert len({voice.accent for voice in voices}) >= 8 and len({voice.variant for voice in voices}) > 80
    assert not {"UniRobot", "robosoft3", "Demonic", "whisper"} & {voice.variant for voice in voices}


@needs_flite
def test_flite_refuses_a_voice_that_it_would_replace_and_says_the_same_twice() -> None:
    with pytest.raises(InputError, match="flite has no voice 'nobody'"):
        Flite().speak(Utterance("hello", Voice("flite", "nobody"), 50, 175))
    said = [Flite().speak(Utterance("hello", Voice("flite", "slt"), 40, 175)) for _ in range(2)]
    assert said[0][1] == round(16000 * 2**-0.1) and (said[0][0] == said[1][0]).all()


def test_folds_have_voices_of_their_own(fake: Path) -> None:
    dataset = load_spoken(("text", "label"), phrases=PHRASES, speakers=24, clips_per_phrase=30, split={"folds": 3})
    assert list(dataset) == ["train"] and len(dataset["train"]) == 90
    voices: dict[str, set[str]] = {}
    for speaker, number in zip(dataset["train"]["speaker"], dataset["train"]["held_out_in"], strict=True):
        voices.setdefault(number, set()).add(speaker.split("-p")[0])
    assert sorted(voices) == ["1", "2", "3"]
    assert sum(map(len, voices.values())) == len(set.union(*voices.values()))
