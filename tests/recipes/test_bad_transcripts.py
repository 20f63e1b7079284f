"""Any mistake with a recogniser or its transcripts gives one line, exit code 2 and no files."""
# ruff: noqa: E501  (one case a line is easier to read than the same cases over four)

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import run_recipe

TRAIN = (
    "model=whisper_asr", "model.checkpoint={recogniser}", "model.max_seconds=2", "data=folder", "data.path=data",
    "threads=1", "training=smoke", "training.report_to=none", "precision=fp32", "num_proc=1",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing that is wrong: further words of the command, what is done to the folder, and what the line says."""

    id: str
    words: tuple[str, ...]
    pattern: str
    break_it: Callable[[Path], Any] = lambda place: None
    recipe: str = "train"


def edit(change: Callable[[str], str], split: str = "train") -> Callable[[Path], Any]:
    """Change the text of a split's metadata.csv."""

    def apply(place: Path) -> None:
        file = place / "data" / split / "metadata.csv"
        file.write_text(change(file.read_text()))

    return apply


def replace_transcript(text: str, split: str = "train") -> Callable[[Path], Any]:
    """The second row of a split says `text`."""
    return edit(
        lambda content: re.sub(r"(?m)^(\d+\.wav),[^,\n]*(,\w+\n\d+\.wav,[^\n]*\n\Z)", rf"\1,{text}\2", content), split
    )


def name_folders_by_label(place: Path) -> None:
    for split in ("train", "validation", "test"):
        (place / "data" / split / "metadata.csv").unlink()
        (place / "data" / split / "on").mkdir()
        for clip in (place / "data" / split).glob("*.wav"):
            shutil.move(clip, place / "data" / split / "on")


def copy_checkpoint(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def apply(place: Path) -> None:
        shutil.copytree(Path((place / ".recogniser").read_text()), place / "changed.en")
        change(place / "changed.en")

    return apply


def take_decoder_away(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".decoder." not in name}
    save_file(kept, checkpoint / "model.safetensors", {"format": "pt"})


def take_tokenizer_away(checkpoint: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()


def write_wav2vec2(place: Path) -> None:
    import transformers as t

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = t.Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
    t.Wav2Vec2Model(config).save_pretrained(place / "wav2vec2")
    t.Wav2Vec2FeatureExtractor().save_pretrained(place / "wav2vec2")


CHANGED = "model.checkpoint=changed.en"
CASES = (
    # ---- the transcripts ----
    Case("no transcript column", (), r"train/metadata\.csv: no column 'transcript' for transcript; .*data\.column_map\.transcript=sentence", edit(lambda text: text.replace("transcript", "sentence"))),
    Case("another transcript column named", ("data.column_map.transcript=text",), r"no column 'text' for transcript.* data\.column_map\.transcript=transcript"),
    Case("labels only", (), r"data/train: the names of recordings say no transcript; a metadata\.csv there can", name_folders_by_label),
    Case("an empty transcript", (), r"1 empty transcript\(s\) in train \(data/train/metadata\.csv:18\)", replace_transcript("")),
    Case("a transcript of blanks", (), r"1 empty transcript\(s\) in train \(data/train/metadata\.csv:18\)", replace_transcript("   ")),
    Case("an empty transcript in test", (), r"1 empty transcript\(s\) in test \(data/test/metadata\.csv:6\)", replace_transcript("", "test")),
    Case("a transcript of too many tokens", (), r"data/train/metadata\.csv:18: a transcript of \d+ tokens, and the network writes 448 at most: cut the recording", replace_transcript("turn on " * 300)),
    Case("recordings that are all too long", ("model.max_seconds=1",), r"model\.max_seconds=1: every train recording is longer; cut them"),
    Case("texts in place of recordings", ("data=file", "data.path=a.csv"), r"a\.csv: no column 'audio' for audio.*model=whisper_asr reads recordings, and for texts there are model=tfidf_svm", lambda place: (place / "a.csv").write_text("text,transcript\nlights on,lights on\n")),
    Case("silence of speech commands", ("data=speech_commands", "data.path=archive.tar.gz", "data.classes=12"), r"data\.classes=12: its silence has no transcript; leave data\.classes out"),
    # ---- the checkpoint ----
    Case("a network without a decoder", ("model.checkpoint=./wav2vec2",), r"model\.checkpoint=\./wav2vec2: wav2vec 2\.0 has no decoder, which writes the text", write_wav2vec2),
    Case("a checkpoint that lacks its decoder", (CHANGED,), r"model\.checkpoint=changed\.en: not a usable checkpoint: the weights are not whole: model\.decoder\.", copy_checkpoint(take_decoder_away)),
    Case("a checkpoint without a tokenizer", (CHANGED,), r"model\.checkpoint=changed\.en: not a usable checkpoint: it has no tokenizer files", copy_checkpoint(take_tokenizer_away)),
    Case("no checkpoint", ("model.checkpoint=./nothing",), r"model\.checkpoint=\./nothing: no such directory"),
    Case("a checkpoint of another language", ("model.language=de",), r"model\.language=de: \S*whisper\.en writes English only; give model\.checkpoint=openai/whisper-tiny "),
    # ---- settings ----
    Case("the head of a network without one", ("tuning=head",), r"tuning=head: the network has no head, .*; use tuning=decoder or last_layers"),
    Case("too many layers", ("tuning=last_layers", "tuning.layers=9"), r"tuning\.layers=9: the checkpoint has 4 layers; give 1 to 4"),
    Case("a classifier untuned", ("model=bcresnet", "tuning=none"), r"tuning=none: the network gets a new head for your labels"),
    Case("a classifier's decoder", ("model=bcresnet", "tuning=decoder"), r"tuning=decoder: the network has no decoder; use tuning=full"),
    Case("longer than Whisper hears", ("model.max_seconds=31",), r"model\.max_seconds=31: give 1 to 30 seconds"),
    Case("longer than the checkpoint hears", ("model.max_seconds=30",), r"model\.max_seconds=30: the checkpoint has positions for 2 s"),
    Case("a part of a second", ("model.max_seconds=1.5",), r"model\.max_seconds=1\.5: Whisper takes whole seconds"),
    Case("no clip to measure", ("model.answered_in_training=0",), r"model\.answered_in_training=0: give a number of clips from 1, or null for all"),
    Case("a figure of classifiers", ("training.metric_for_best_model=macro_f1",), r"training\.metric_for_best_model=macro_f1: give one of wer, loss"),
    Case("metrics of labels", ("metrics=[recall]",), r"metrics=recall: only for tasks with labels; leave it out"),
    Case("class weights", ("model.class_weights=auto",), r"model\.class_weights: unknown key"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "_"))
def test_a_mistake_is_one_line(
    case: Case, tmp_path: Path, recogniser: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(recordings, tmp_path / "data")
    (tmp_path / ".recogniser").write_text(str(recogniser))
    case.break_it(tmp_path)
    named = {word.split("=")[0] for word in case.words}
    words = [word for word in TRAIN if word.split("=")[0] not in named] if case.recipe == "train" else []
    if "model=bcresnet" in case.words:
        words = [word for word in words if not word.startswith("model.")]
    before = sorted(tmp_path.rglob("*"))
    code = run_recipe(case.recipe, *(word.format(recogniser=recogniser) for word in words), *case.words)
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in errors, errors
    assert re.search(case.pattern, lines[0]), lines[0]
    assert sorted(tmp_path.rglob("*")) == before, "files are left"


def test_the_table_has_enough_cases() -> None:
    assert len(CASES) >= 25 and len({case.id for case in CASES}) == len(CASES)
