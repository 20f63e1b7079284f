"""The built-in data set has the properties that docs/data.md states."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from voicecommand.data.sources import commands
from voicecommand.data.synthesis import words as data_words
from voicecommand.errors import InputError

# Another text, label or order is another data set: raise VERSION, then put the new value here.
FINGERPRINT = "25a6af5a33b974d4acadbf8f5def650d2bad659934dc4b6f0e9eb6947fb618b5"
# The rows as they are, with their places in the corpus: another form of the corpus must not change a byte of them.
ROWS = "0920586324bb79ca757ae03145310864444c3c93cbc1ab6d766dc6b9be4a6934"

needs_espeak = pytest.mark.skipif(not find_spec("espeakng_loader"), reason="espeakng-loader is not installed")


@pytest.fixture(scope="module")
def splits():
    return commands.render_splits()


def test_each_split_has_its_size_and_each_label_its_share(splits):
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 4000,
        "validation": 800,
        "test": 1200,
        "out_of_scope_validation": 150,
        "out_of_scope_test": 250,
    }
    for split, count in commands.ROWS_PER_LABEL.items():
        assert Counter(row["label"] for row in splits[split]) == dict.fromkeys(commands.LABELS, count)
    for split in ("out_of_scope_validation", "out_of_scope_test"):
        assert {row["label"] for row in splits[split]} == {"out_of_scope"}


def test_the_loader_gives_all_columns_as_strings_under_unique_ids(splits):
    loaded = commands.load_commands(columns=["text", "label"])
    assert list(loaded) == list(splits)
    for split, rows in splits.items():
        assert {name: kind.dtype for name, kind in loaded[split].features.items()} == dict.fromkeys(
            commands.COLUMNS, "string"
        )
        assert loaded[split].to_list() == rows
    ids = [row["id"] for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids) and "commands-train-00017" in ids


def test_every_text_and_response_is_filled_in(splits):
    for rows in splits.values():
        for row in rows:
            for column in ("text", "response"):
                assert row[column].strip() and "{" not in row[column], row


def test_each_label_has_at_least_sixty_phrasings_no_two_alike_and_none_under_two_labels():
    phrasings = [p for label in commands.LABELS for p in commands.read_phrasings(label)]
    assert min(Counter(p.label for p in phrasings).values()) >= 60
    texts = Counter(data_words.normalise(p.text) for p in phrasings)
    assert [text for text, count in texts.items() if count > 1] == []


def test_splits_share_no_phrasing(splits):
    templates = [{row["template"] for row in rows} for rows in splits.values()]
    assert sum(map(len, templates)) == len(set().union(*templates))


def test_an_origin_names_the_line_of_the_phrasing(splits):
    row = splits["test"][0]
    name, line = row["origin"].split(":")
    phrasing = {p.template: p for p in commands.read_phrasings(row["label"])}[row["template"]]
    assert json.dumps(phrasing.text) in (commands.CORPUS.parent / name).read_text().splitlines()[int(line) - 1]


def test_the_test_split_has_only_slot_values_that_training_has_not(splits):
    slots = {
        kind: {split: [value.text for value in values if value.split == split] for split in ("train", "test")}
        for kind, values in commands.read_corpus().slots.items()
    }
    own_words = _joined(p.text for label in commands.LABELS for p in commands.read_phrasings(label))
    seen = _joined(row["text"] for split in ("train", "validation") for row in splits[split])
    tested = _joined(row["text"] for row in splits["test"])
    checked = 0
    for slot, values in slots.items():
        for value in map(data_words.normalise, values["test"]):
            assert f" {value} " not in seen, (slot, value)
        for value in map(data_words.normalise, values["train"]):
            # "kettle" stands in some phrasings, "ten" in the test value "ten fifty".
            if f" {value} " not in own_words + _joined(v for by in slots.values() for v in by["test"]):
                assert f" {value} " not in tested, (slot, value)
                checked += 1
    assert checked > 100


def test_no_text_occurs_twice_in_or_across_splits_or_under_two_labels(splits):
    texts = Counter(data_words.normalise(row["text"]) for rows in splits.values() for row in rows)
    assert [text for text, count in texts.items() if count > 1] == []


def test_what_a_recogniser_does_never_loses_or_swaps_a_word_that_decides_the_label():
    speech = data_words.read_lists("speech.yaml")
    deciding = {"on", "off", "not", "no", "don't", "stop", "never", "call", "out"}
    assert not deciding & set(speech["droppable"])
    assert not (deciding - {"off"}) & set(speech["misheard"]) and speech["misheard"]["off"] == ["of"]
    assert "on" not in {word for words in speech["misheard"].values() for word in words}


def test_out_of_scope_topics_differ_between_validation_and_test():
    topics = {
        kind: {p.template.rsplit("-", 1)[0] for p in commands.read_out_of_scope(kind)}
        for kind in ("validation", "test")
    }
    assert min(map(len, topics.values())) >= 8
    assert not topics["validation"] & topics["test"]


def test_the_data_are_those_of_this_version(splits):
    # Less the origin: a comment in the corpus moves lines, not data.
    columns = [column for column in commands.COLUMNS if column != "origin"]
    content = {split: [[row[c] for c in columns] for row in rows] for split, rows in splits.items()}
    assert hashlib.sha256(json.dumps(content).encode()).hexdigest() == FINGERPRINT


def test_the_rows_are_equal_to_the_byte_with_their_places_in_the_corpus(splits):
    assert hashlib.sha256(json.dumps(splits).encode()).hexdigest() == ROWS


def test_another_version_is_refused_and_both_are_named():
    with pytest.raises(InputError, match=r"'2'.*'1'"):
        commands.load_commands(columns=["text"], version="2")


def test_a_column_that_is_not_there_is_refused_and_those_there_are_named():
    with pytest.raises(InputError, match=r"transcript.*text.*response.*audio"):
        commands.load_commands(columns=["transcript", "label"])


def test_the_spoken_form_has_its_text_as_transcript_and_no_other_has_it(monkeypatch):
    def add_audio(splits):
        return {name: [{**row, "audio": "a.wav", "speaker": "s"} for row in rows] for name, rows in splits.items()}

    monkeypatch.setattr(commands, "add_audio", add_audio)
    heard = commands.load_commands(columns=["audio", "transcript"])
    assert all(rows["transcript"] == rows["text"] for rows in heard.values())
    assert "transcript" not in commands.load_commands(columns=["audio", "label"])["test"].column_names


def test_sound_is_made_only_where_a_task_asks_for_it(monkeypatch):
    monkeypatch.setattr(commands, "add_audio", None)
    assert set(commands.load_commands(columns=["text", "label"])["test"].column_names) == set(commands.COLUMNS)
    with pytest.raises(TypeError, match="not callable"):
        commands.load_commands(columns=["audio", "label"])


def test_sound_without_its_synthesiser_names_what_to_install(monkeypatch):
    monkeypatch.setattr("voicecommand.data.synthesis.engines.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e \.\[spoken\]"):
        commands.load_commands(columns=["audio", "label"])


@needs_espeak
def test_with_sound_the_rows_are_the_same_and_each_speaker_is_in_one_split(splits, monkeypatch):
    monkeypatch.setattr(
        "voicecommand.data.synthesis.speakers.speak_all", lambda utterances, origins: [u.text for u in utterances]
    )
    loaded = commands.load_commands(columns=["audio", "label"])
    for split, rows in splits.items():
        assert loaded[split].select_columns(list(commands.COLUMNS)).to_list() == rows
        assert loaded[split]["audio"][:] == [row["text"] for row in rows]
    speakers = {split: set(loaded[split]["speaker"]) for split in loaded}
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) > 350
    voices = {split: {s.voice.timbre for s in each} for split, each in commands.assign_speakers().items()}
    assert not voices["train"] & (voices["validation"] | voices["test"]) and not voices["validation"] & voices["test"]
    assert voices["out_of_scope_test"] <= voices["test"] and voices["out_of_scope_validation"] <= voices["validation"]


@needs_espeak
@pytest.mark.slow
def test_all_commands_can_be_spoken(monkeypatch, speech):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", speech)
    loaded = commands.load_commands(columns=["audio", "label"])
    paths = [path for split in loaded.values() for path in split["audio"]]
    assert len(set(paths)) == 6400 and min(Path(path).stat().st_size for path in paths) > 10_000


@pytest.mark.slow
def test_the_data_leave_room_above_tfidf_with_a_linear_svm(splits):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LinearSVC(random_state=0))
    columns = {s: ([r["text"] for r in splits[s]], [r["label"] for r in splits[s]]) for s in ("train", "test")}
    model.fit(*columns["train"])
    assert 0.75 < model.score(*columns["test"]) < 0.97


def _joined(texts):
    return " " + " | ".join(map(data_words.normalise, texts)) + " "
