"""Overrides: which are errors, which one wins, and which commands are the same run."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voicecommand.config import arguments, groups, identity, objects, program, references
from voicecommand.config import overrides as config_overrides
from voicecommand.config import schema as config_schema
from voicecommand.errors import InputError
from voicecommand.run import processes

ROOT = Path(__file__).parents[2]


def choices(*overrides: str) -> dict[str, str]:
    return dict(program.compose("train", list(overrides)).choices)


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        program.compose(name, list(overrides))
    return str(caught.value)


# --- which override wins ---


OBJECTIVES = {"macro_f1": True, "accuracy": True, "loss": False}


def build(directory: Path, *overrides: str) -> Any:
    """TrainingArguments of `python recipes/train.py <overrides>`, or None."""
    return arguments.build_training_arguments(program.compose("train", list(overrides)), directory, OBJECTIVES)


LEAST = {"augment": 3, "data": 11, "experiment": 33, "model": 18, "training": 9, "tuning": 4}
FILES = [
    (group, file.stem)
    for group in sorted(groups.list_groups())
    for file in sorted((groups.CONF / group).glob("*.yaml"))
    if (group, file.stem) != ("training", "base")  # what the others begin with
]


def compose_with_what_it_needs(overrides: list[str]) -> Any:
    """The configuration, each setting that has to be given set to x."""
    while True:
        try:
            return program.compose("train", overrides)
        except InputError as error:
            needed = re.match(r"(\S+): \S+ needs it; add", str(error))
            if needed is None or f"{needed[1]}=x" in overrides:
                raise
            overrides = [*overrides, f"{needed[1]}=x"]


def test_no_file_of_conf_is_left_out() -> None:
    for group, least in LEAST.items():
        assert sum(name == group for name, _ in FILES) >= least, f"files of conf/{group} are not found"


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_model_tuning_training_data_and_experiment_composes(group: str, name: str) -> None:
    model = ["model=bcresnet"] if group == "augment" else []
    assert compose_with_what_it_needs([f"{group}={name}", *model])


@pytest.mark.parametrize(
    "given", ["tuning=full", "tuning=head", "tuning=last_layers", "tuning=lora", "training=fine_tune"]
)
@pytest.mark.parametrize("model", ["bcresnet", "bcresnet_taught", "hubert", "wav2vec2", "wavlm", "whisper", "bert"])
def test_models_of_sound_keep_the_lowest_loss_whatever_is_tuned_and_text_keeps_the_best_macro_f1(
    model: str, given: str, tmp_path: Path
) -> None:
    teacher = ["model.teacher=x"] if model.endswith("_taught") else []
    args = build(tmp_path, f"model={model}", given, *teacher)
    expected = ("macro_f1", True) if model == "bert" else ("loss", False)
    assert (args.metric_for_best_model, args.greater_is_better) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("bert", "full", "fine_tune_small")),
        (["model=bert_base_uncased"], ("bert_base_uncased", "full", "fine_tune")),
        (["model=bert_scratch"], ("bert_scratch", "full", "from_scratch")),
        # tuning's own training, whatever the model
        (["tuning=lora"], ("bert", "lora", "lora")),
        (["tuning=head", "model=gpt2"], ("gpt2", "head", "head")),
        (["model=bert_scratch", "tuning=last_layers"], ("bert_scratch", "last_layers", "last_layers")),
        # the command line
        (["tuning=lora", "training=smoke"], ("bert", "lora", "smoke")),
        (["training=fine_tune", "model=bert", "tuning=head"], ("bert", "head", "fine_tune")),
        (["model=bert_scratch", "training=smoke"], ("bert_scratch", "full", "smoke")),
        # an experiment, and the command line over it
        (["experiment=commands_bert_lora"], ("bert", "lora", "lora")),
        (["experiment=commands_bert_lora", "training=smoke"], ("bert", "lora", "smoke")),
        (["experiment=commands_bert_lora", "model=bert_scratch"], ("bert_scratch", "lora", "lora")),
        (["experiment=commands_bert_lora", "tuning=head", "training=head"], ("bert", "head", "head")),
        (["experiment=commands_tfidf_svm"], ("tfidf_svm", None, None)),
        (["experiment=commands_tfidf_svm", "model=bert"], ("bert", "full", "fine_tune_small")),
        (["model=bert_svm"], ("bert_svm", None, None)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_beats_the_experiment_beats_tuning_beats_the_model(
    overrides: list[str], expected: tuple[str | None, ...]
) -> None:
    found = choices(*overrides)
    assert tuple(found.get(group) for group in ("model", "tuning", "training")) == expected


def test_values_come_from_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(groups.CONF, tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: bert_scratch\n  - override /tuning: lora\n  - _self_\n"
        "seed: 7\ntraining:\n  learning_rate: 0.5\n  weight_decay: 0.25\nmodel:\n  max_length: 32\n"
    )
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    config = program.compose("train", ["experiment=mine", "training.weight_decay=0.125"])
    assert (config.seed, config.model.max_length, config.tuning.r) == (7, 32, 16)
    assert (config.training.learning_rate, config.training.weight_decay) == (0.5, 0.125)
    lora = program.compose("train", ["training=lora"]).training
    assert config.training.num_train_epochs == lora.num_train_epochs, "tuning=lora brings training=lora"


# --- the schema ---


def test_every_field_of_the_installed_training_arguments_is_there() -> None:
    from transformers import TrainingArguments

    fields = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    schema = {field.name for field in dataclasses.fields(config_schema._training_schema())}
    elsewhere = {key.removeprefix("training.") for key in config_overrides.ELSEWHERE}
    assert len(fields) > 100
    assert schema == fields - elsewhere | {"min_steps", "max_epochs"}, "all but those with a reason in ELSEWHERE"
    assert elsewhere <= fields
    assert elsewhere == {
        # a setting of ours
        "output_dir", "resume_from_checkpoint", "use_cpu", "auto_find_batch_size", "do_train", "do_eval", "do_predict",
        # evaluation measures all predictions of a split at once, and needs them
        "prediction_loss_only", "batch_eval_metrics", "eval_do_concat_batches", "include_for_metrics",
        # the trainer draws batches by length, chooses the columns and computes the loss itself
        "train_sampling_strategy", "length_column_name", "remove_unused_columns", "label_names",
        "logging_nan_inf_filter",
        # two ranks would write one checkpoint
        "save_on_each_node",
        # the launcher's
        "local_rank", "parallelism_config",
        # uploads during training
        "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push",
        "hub_revision",
    }  # fmt: skip
    assert all(reason for reason in config_overrides.ELSEWHERE.values())
    typed = [field for field in dataclasses.fields(config_schema._training_schema()) if field.type is not Any]
    assert len(typed) > 70


def test_training_fields_keep_their_types() -> None:
    config = program.compose("train", ["training.num_train_epochs=2", "training.lr_scheduler_kwargs={num_cycles: 2}"])
    content = objects.plain(config)["training"]
    assert isinstance(content["num_train_epochs"], float)
    assert content["lr_scheduler_kwargs"] == {"num_cycles": 2}
    assert "optim" not in content, "a field that nobody set must be left to TrainingArguments"


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["model.class_weights={turn_on: 2.0, turn_off: 1}"], "model.class_weights", {"turn_on": 2.0, "turn_off": 1}),
        (["model.class_weights=auto"], "model.class_weights", "auto"),
        (["data=file", "data.column_map.text=utterance"], "data.column_map.text", "utterance"),
        (["data=file", "data.column_map={text: utterance, label: intent}"], "data.column_map.label", "intent"),
        (["data=file", "data.column_map.transcript=said"], "data.column_map.transcript", "said"),
        (["data=folder", "data.path=d", "data.column_map.transcript=said"], "data.column_map.transcript", "said"),
        (["data=hub", "data.path=a/b", "data.column_map.transcript=said"], "data.column_map.transcript", "said"),
        (["data=file", "data.files.train=a.csv"], "data.files.train", "a.csv"),
        (["data=file", 'data.path="a, b.csv"'], "data.path", "a, b.csv"),
        (["data=file", "data.path='my \"best\" commands.csv'"], "data.path", 'my "best" commands.csv'),
        (["data=file", "data.path=../mine/commands-2.csv"], "data.path", "../mine/commands-2.csv"),
        (["data=hub", "data.path=a/b", "data.revision='\"1234567\"'"], "data.revision", '"1234567"'),
        (["early_stopping=null"], "early_stopping", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_values_that_need_care_arrive(overrides: list[str], key: str, value: Any) -> None:
    from omegaconf import OmegaConf

    config = program.compose("train", overrides)
    found = OmegaConf.select(config, key)
    assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value


def test_build_checks_types_and_names_the_key() -> None:
    config = program.compose("train", ["model=tfidf_svm", "model.word_ngrams=[1, two]"])
    with pytest.raises(InputError, match=r"^model\.word_ngrams=\[1, 'two'\]: is not of type tuple\[int, int\]$"):
        objects.build(config.model)
    config = program.compose("train", ["model=bert", "model.pretrained=maybe"])
    with pytest.raises(InputError, match=r"^model\.pretrained=maybe: is not of type bool$"):
        objects.build(config.model)
    assert objects.build(None) is None
    assert objects.build(program.compose("train", ["tuning=lora"]).tuning).r == 16


def test_every_model_and_tuning_builds_with_the_types_it_declares(tmp_path: Path) -> None:
    saved = {"format": 1, "label_names": ["a", "b"], "task": "audio_classification", "kind": "network"}
    (tmp_path / "voicecommand.json").write_text(json.dumps(saved))
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    for path in (groups.CONF / "model").glob("*.yaml"):
        given = [f"model.teacher={tmp_path}"] if path.stem.endswith("_taught") else []
        config = program.compose("train", [f"model={path.stem}", *given])
        reads_audio = "text_classification" not in config.model._target_
        learns = "label" if "_classification" in config.model._target_ else "transcript"
        assert objects.build(config.model).columns.needed == ("audio" if reads_audio else "text", learns)
    for path in (groups.CONF / "tuning").glob("*.yaml"):
        assert objects.build(program.compose("train", [f"tuning={path.stem}"]).tuning)
    for path in (groups.CONF / "augment").glob("*.yaml"):
        config = program.compose("train", ["model=bcresnet", f"augment={path.stem}"])
        assert bool(objects.build(config.get("augment"))) == (path.stem != "none")


def test_a_bug_in_what_is_built_is_not_called_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from voicecommand.data.sources import commands

    def load_commands(columns: tuple[str, ...], version: str) -> None:
        raise ZeroDivisionError("a bug")

    load_commands.__module__ = commands.__name__
    monkeypatch.setattr(commands, "load_commands", load_commands)
    with pytest.raises(ZeroDivisionError):
        objects.load_data(program.compose("train", []), ("text", "label"))


@pytest.mark.parametrize(
    ("model", "reads", "data", "others"),
    [
        (
            "bert",
            "text",
            ["data=folder", "data.path={}"],
            "model=bert reads texts, and for recordings there are model=mfcc_svm",
        ),
        (
            "mfcc_svm",
            "audio",
            ["data=file", "data.path={}/a.csv"],
            "reads recordings, and for texts there are model=tfidf_svm",
        ),
        ("bert", "text", ["data=speech_commands", "data.path={}"], "model=bert reads texts, and for recordings"),
    ],
)
def test_a_model_that_cannot_read_the_data_is_named_with_models_that_can(
    model: str, reads: str, data: list[str], others: str, tmp_path: Path
) -> None:
    (tmp_path / "on").mkdir()
    (tmp_path / "on" / "a.wav").touch()
    (tmp_path / "a.csv").write_text("text,label\nlights on,on\n")
    config = program.compose("train", [f"model={model}", *(word.format(tmp_path) for word in data)])
    with pytest.raises(InputError, match=re.escape(others)) as caught:
        objects.load_data(config, (reads, "label"))
    assert "\n" not in str(caught.value)
    named = re.findall(r"model=(\w+)", str(caught.value))
    assert len(named) > 2 and set(named) <= {file.stem for file in (groups.CONF / "model").glob("*.yaml")}


def test_a_column_that_no_model_reads_is_missed_without_a_hint_to_models(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,lable\nlights on,on\n")
    config = program.compose("train", ["data=file", f"data.path={tmp_path}/a.csv"])
    with pytest.raises(InputError, match=r"did you mean data\.column_map\.label=lable$"):
        objects.load_data(config, ("text", "label"))


def test_the_home_directory_is_meant_by_a_tilde_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = program.compose(
        "train", ["data=file", "data.files.train=~/a.csv", 'data.files.test="b~/c"', "runs=~/runs"]
    )
    assert (config.data.files.train, config.data.files.test) == (f"{tmp_path}/a.csv", "b~/c")
    assert identity.run_directory(config).is_relative_to(tmp_path / "runs")
    given = program.compose("train", ["data=file", "data.path=~/a.csv"])
    assert identity.run_directory(given) == identity.run_directory(
        program.compose("train", ["data=file", f"data.path={tmp_path}/a.csv"])
    )
    assert program.compose("train", ["data=file", 'data.path="~/a b.csv"']).data.path == f"{tmp_path}/a b.csv"
    seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["audit.py", "data=file", "data.path=~/a.csv"])
    assert program.run_recipe("audit", lambda config: seen.append(config.data.path)) == 0
    assert seen == [f"{tmp_path}/a.csv"]
    for name in ("evaluate", "robustness"):
        assert program.compose(name, ["run=~/runs/x", "data=commands"]).run == f"{tmp_path}/runs/x"
    assert program.compose("audit", ["samples=~/out"]).samples == f"{tmp_path}/out"


# --- what is refused (test_bad_input.py has the exit codes) ---


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lerning_rate=1", r"training.lerning_rate: unknown key; did you mean training.learning_rate\?"),
        ("learning_rate=1", r"learning_rate: unknown key; did you mean training.learning_rate\?"),
        ("expriment=x", r"expriment: unknown key; did you mean experiment\?"),
        ("modle=bert", r"modle: unknown key; did you mean model\?"),
        ("xyzzy=1", r"xyzzy: unknown key; see --help"),
        ("+training.learning_rate=1", r"keys can't be added; write training.learning_rate=VALUE"),
        ("++seed=1", r"keys can't be added; write seed=VALUE"),
        ("+training.max_stepz=1", r"keys can't be added; did you mean training.max_steps\?"),
        ("~training.max_steps", r"keys can't be deleted; write training.max_steps=VALUE"),
        ("~tuning", r"keys can't be deleted; write tuning=VALUE"),
        ("model.class_weights.turn_on=2", r"unknown key; did you mean model.class_weights\?"),
        ("tuning.layers=2", r"tuning.layers: unknown key; did you mean tuning.layer_decay\?"),
        (
            "tuning=lara",
            r"tuning=lara: no such tuning; did you mean lora\? there are decoder, full, head, last_layers, lora, none",
        ),
        ("training=smoek", r"training=smoek: no such training; did you mean smoke\?"),
        ("experiment=comands_bert_full", r"no such experiment; did you mean commands_bert_full\?"),
        ("model=part/text", r"model=part/text: no such model; there are bcresnet"),
        ("model=null", r"model=null: give one name; there are bcresnet, bcresnet_taught, bert"),
        ("model=[bert]", r"model=\[bert\]: give one name"),
        ("training={max_steps: 2}", r"give one name; there are fine_tune, fine_tune_small"),
        ("training.output_dir=x", r"training.output_dir: not set here; use runs=DIR"),
        ("training.save_on_each_node=true", r"save_on_each_node: not set here; all machines write to one folder"),
        ("training.lr=1", r"training.lr: unknown key; did you mean training.learning_rate\?"),
        ("lr=1", r"lr: unknown key; did you mean training.learning_rate\?"),
        ("epochs=3", r"epochs: unknown key; did you mean training.num_train_epochs\?"),
        ("batch_size=8", r"batch_size: unknown key; did you mean training.per_device_train_batch_size\?"),
        ("Seed=8", r"Seed: unknown key; did you mean seed\?"),
        ("model=BERT", r"model=BERT: no such model; did you mean bert\?"),
        ("model=tfidf-svm", r"no such model; did you mean tfidf_svm\?"),
        ("data.path=x.csv", r"data.path=x.csv: needs data=file beside it; write data=file data.path=x.csv$"),
        ('data.path="x y.csv"', r"write data=file 'data.path=\"x y.csv\"'$"),
        ("data=x.csv", r"data=x.csv: no such data set; for your own data write data=file data.path=x.csv$"),
        ("data=/tmp/x.csv", r"write data=file data.path=/tmp/x.csv$"),
        ("data=someone/some", r"write data=hub data.path=someone/some$"),
        ("data.column_map.text=q", r"data.column_map.text: only used with data=.*file, .*folder, hub"),
        ("seed=${nope}", r"seed: Interpolation key 'nope' not found"),
        ("hydra.nope=1", r"hydra.nope: the recipes set Hydra up themselves"),
    ],
    ids=lambda value: value if "\\" not in value else "",
)
def test_a_wrong_override_is_refused_with_what_was_meant(override: str, message: str) -> None:
    assert re.search(message, refusal("train", override))


def test_a_folder_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    for name, source in (("train.csv", "file"), ("metadata.csv", "folder"), ("clip.wav", "folder")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        assert refusal("train", f"data={tmp_path / name}").endswith(f"write data={source} data.path={tmp_path / name}")


def test_a_setting_of_training_has_no_place_in_a_measurement() -> None:
    assert refusal("evaluate", "run=x", "lr=1") == "lr: recipes/evaluate.py does not use training; leave it out"
    message = refusal("train", "model=tfidf_svm", "epochs=3")
    assert message == "epochs: model=tfidf_svm does not use training; leave it out"


def test_every_key_of_ours_is_in_the_help() -> None:
    for name, schema in (
        ("train", config_schema.TrainSchema),
        ("evaluate", config_schema.EvaluateSchema),
        ("audit", config_schema.AuditSchema),
    ):
        text = (groups.CONF / f"{name}.yaml").read_text(encoding="utf-8").split("template:")[1]
        for field in dataclasses.fields(schema):
            assert f"{field.name}=" in text or f"{field.name}." in text or field.name in groups.list_groups(), (
                field.name
            )


def test_the_help_lists_the_groups_of_the_recipe_and_what_may_be_given() -> None:
    config_schema.register_schemas()
    page = groups.format_help("train", [])
    for group in groups.list_groups():
        assert f"\n{group}: {', '.join(groups.list_choices(group))}\n" in page
    assert "/part" not in page and "base" not in groups.list_choices("training")
    listed = re.findall(r"^(\w+): ", groups.format_help("evaluate", []), flags=re.MULTILINE)
    assert listed == ["data"]


def test_the_help_of_a_model_lists_what_it_uses() -> None:
    config_schema.register_schemas()
    page = groups.format_help("train", ["model=tfidf_svm"])
    for word in ("training", "tuning", "augment", "precision=", "early_stopping="):
        assert f"\n{word}" not in page and f"  {word}" not in page, word
    assert "  model.KEY, data.KEY    a key" in page and "\ndata: " in page and "  seed=42" in page
    page = groups.format_help("train", ["model=bert"])
    assert "\ntuning: " in page and "\naugment: " not in page and "precision=" in page


def test_the_printed_configuration_has_the_values_that_would_be_used() -> None:
    import yaml
    from omegaconf import OmegaConf
    from transformers import TrainingArguments

    config_schema.register_schemas()
    page = program.format_config("train", ["model=bert", "training.max_grad_norm=2", "seed=7"])
    assert "???" not in page and "${" not in page
    shown = yaml.safe_load(page)["training"]
    assert (shown["max_grad_norm"], shown["seed"], shown["num_train_epochs"]) == (2, 7, 8)
    fields = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    composed = program.compose("train", ["model=bert"]).training
    unset = [name for name in fields if name in shown and OmegaConf.is_missing(composed, name)]
    unset.remove("max_grad_norm")
    assert len(unset) > 60
    assert {name: shown[name] for name in unset} == {
        name: getattr(fields[name], "value", fields[name]) for name in unset
    }
    assert page.endswith("# of training, the run decides bf16, disable_tqdm, fp16, greater_is_better,"
                         " metric_for_best_model, optim\n")  # fmt: skip
    assert yaml.safe_load(program.format_config("evaluate", []))["run"] == "???", "it has to be given"
    assert program.format_config("train", [], "training.adam_beta1") == "0.9\n"
    with pytest.raises(InputError, match="--package nope: no such key"):
        program.format_config("train", [], "nope")


# --- the identity of a run ---


def directory(*overrides: str) -> Path:
    return identity.run_directory(program.compose("train", list(overrides)))


def test_a_run_directory_says_data_model_tuning_and_seed() -> None:
    assert re.fullmatch(r"runs/commands/bert-full-s42-[0-9a-f]{8}", str(directory()))
    assert re.fullmatch(
        r"out/x/commands/bert-lora-s7-[0-9a-f]{8}", str(directory("runs=out/x", "tuning=lora", "seed=7"))
    )
    assert re.fullmatch(
        r"runs/file-b/tfidf_svm-s42-[0-9a-f]{8}", str(directory("data=file", "data.path=a/b", "model=tfidf_svm"))
    )


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["data=file", "data.path=my commands (2).csv"], "file-my-commands-2"),
        (["data=file", "data.path=../x/train.csv"], "file-x"),
        (["data=file", "data.files.train=y/train.csv", "data.files.test=z.csv"], "file-y"),
        (["data=file", "data.path=größe.csv"], "file-größe"),
        (["data=file", f"data.path={'a' * 99}.csv"], f"file-{'a' * 40}"),
        (["data=file", "data.path=..."], "file"),
        (["data=folder", "data.path=phone/v1.2/"], "folder-v1.2"),
        (["data=hub", "data.path=owner/name"], "hub-owner-name"),
        (["data=spoken", "data.path=phrases.csv"], "spoken-phrases"),
        (["data=spoken", "data.phrases={a: [b]}"], "spoken"),
        (["data=spoken", "data.grammar=orders.yaml"], "spoken-orders"),
        (["data=banking77", "data.path=x/y"], "banking77"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_on_data_of_ones_own_is_named_by_the_data(
    overrides: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phone/v1.2").mkdir(parents=True)
    model = "bcresnet" if overrides[0] in ("data=folder", "data=spoken") else "tfidf_svm"
    quoted = [re.sub(r"^(data\.path)=(.*)$", r'\1="\2"', word) for word in overrides]
    assert directory(*quoted, f"model={model}").parent == Path("runs") / name


def test_a_relative_and_an_absolute_path_of_ones_own_data_are_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "owner" / "name").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    for choice in ("file", "folder", "spoken", "hub"):
        model = "tfidf_svm" if choice in ("file", "hub") else "mfcc_svm"
        found = {
            directory(f"data={choice}", f"data.path={path}", f"model={model}")
            for path in ("owner/name", "./owner/name", tmp_path / "a/owner/name", tmp_path / "link/owner/name")
        }
        assert len(found) == 1, choice
    elsewhere = directory("data=file", "data.path=../owner/name", "model=tfidf_svm")
    assert elsewhere.parent == Path("runs/file-name") and elsewhere not in found
    named = {directory("data=file", f"data.files.train={p}/t.csv", "model=tfidf_svm") for p in (".", tmp_path / "a")}
    assert len(named) == 1


def test_the_same_run_by_other_words_has_the_same_directory() -> None:
    base = directory("training.num_train_epochs=2", "training.weight_decay=0.5")
    assert directory("training.weight_decay=5e-1", "training.num_train_epochs=2e0") == base
    assert directory("training.num_train_epochs=2.0", "training.weight_decay=0.5", "model=bert", "tuning=full") == base
    assert directory("model=tfidf_svm", "model.C=2") == directory("model=tfidf_svm", "model.C=2e0")
    assert directory("experiment=commands_bert_lora") == directory("tuning=lora", "threads=1")
    assert directory() == directory(), "no clock, no chance"


@pytest.mark.parametrize(
    "override",
    [
        "resume=true", "overwrite=true", "keep_checkpoints=true", "rank_timeout=60", "training.logging_steps=3",
        "training.logging_strategy=epoch", "training.report_to=none", "training.disable_tqdm=true",
        "training.dataloader_num_workers=2", "training.dataloader_persistent_workers=true",
        "training.log_level=debug", "training.run_name=x",
        "training.save_total_limit=9",
    ],
)  # fmt: skip
def test_what_cannot_change_a_weight_is_no_part_of_the_identity(override: str) -> None:
    assert directory(override) == directory()


def test_what_can_change_a_weight_is() -> None:
    changes = [
        "seed=1", "precision=fp32", "early_stopping=17", "early_stopping=null", "training.learning_rate=1e-5",
        "training.max_steps=3", "training.eval_steps=3", "training.label_smoothing_factor=0.123", "model=bert_scratch",
        "model.max_length=64", "model.class_weights=auto", "tuning.layer_decay=0.123", "tuning=head", "threads=1",
        "data.version='2'",
    ]  # fmt: skip
    found = {directory(), *(directory(change) for change in changes)}
    assert len(found) == len(changes) + 1
    assert directory("data=file", "data.path=a.csv") != directory("data=file", "data.path=b.csv")
    assert directory("runs=other").name == directory().name


def test_the_saved_configuration_is_plain_and_composes_to_the_same_run() -> None:
    import yaml

    config = program.compose("train", ["tuning=lora", "training.max_steps=3"])
    content = yaml.safe_load(objects.to_yaml(config))
    assert content["choices"] == {"data": "commands", "model": "bert", "tuning": "lora", "training": "lora"}
    assert content["training"]["max_steps"] == 3 and content["training"]["seed"] == 42
    assert "???" not in objects.to_yaml(config)


# --- training arguments ---


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=-1", r"training.learning_rate=-1.0: give a number of at least 0"),
        ("training.learning_rate=nan", r"training.learning_rate=nan: give a number"),
        ("training.per_device_train_batch_size=0", r"give a number of at least 1"),
        ("training.eval_strategy=sometimes", r"training: sometimes is not a valid IntervalStrategy"),
        ("training.save_strategy=no", r"training: --load_best_model_at_end requires"),
        ("training.report_to=carrier_pigeon", r"training.report_to=carrier_pigeon: not installed"),
        ("precision=fp33", r"precision=fp33: give auto, fp32, bf16 or fp16"),
        ("precision=fp16", r"precision=fp16: needs a GPU"),
        ("training.fp16=true", r"training.fp16=true: needs a GPU"),
        ("training.label_smoothing_factor=1", r"give a number of at least 0, below 1"),
        ("training.metric_for_best_model=f1", r"metric_for_best_model=f1: give one of macro_f1, accuracy, loss"),
    ],
)
def test_training_arguments_refuse_in_one_line(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(tmp_path, override)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_precision_and_places_come_from_the_run(tmp_path: Path) -> None:
    args = build(tmp_path, "precision=fp32", "seed=5")
    assert (args.bf16, args.fp16, args.seed, args.precision_reason) == (False, False, 5, "fp32: asked for")
    assert args.output_dir == str(tmp_path / "checkpoints")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
    assert build(tmp_path, "model=tfidf_svm") is None


@pytest.mark.parametrize("key", ["max_grad_norm", "learning_rate", "per_device_train_batch_size", "max_steps"])
def test_a_number_of_training_can_not_be_null(key: str) -> None:
    assert re.search(rf"training\.{key}=null: .*not Optional", refusal("train", f"training.{key}=null"))
    assert program.compose("train", ["training.save_total_limit=null"]).training.save_total_limit is None


@pytest.mark.parametrize(("metric", "greater"), [("eval_macro_f1", True), ("accuracy", True), ("eval_loss", False)])
def test_the_objective_is_one_that_is_measured(metric: str, greater: bool, tmp_path: Path) -> None:
    given = f"training.metric_for_best_model={metric}"
    args = build(tmp_path, given, "precision=fp32")
    assert (args.metric_for_best_model, args.greater_is_better) == (metric, greater)
    assert (
        build(tmp_path, given, f"training.greater_is_better={greater}", "precision=fp32").greater_is_better == greater
    )
    with pytest.raises(InputError, match="would keep the worst checkpoint; leave greater_is_better out"):
        build(tmp_path, given, f"training.greater_is_better={not greater}", "precision=fp32")


@pytest.mark.parametrize(
    ("precision", "launcher"), [("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "no"), ("fp32", None)]
)
def test_the_recorded_precision_is_that_of_training_whatever_the_launcher_says(
    precision: str,
    launcher: str | None,
    tmp_path: Path,
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from accelerate.state import AcceleratorState
    from transformers import AutoModelForSequenceClassification, Trainer

    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launcher:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    config = program.compose("train", [f"precision={precision}", "training.report_to=none"])
    model = AutoModelForSequenceClassification.from_pretrained(checkpoints["bert_uncased"])
    AcceleratorState._reset_state()
    try:
        args = arguments.build_training_arguments(config, tmp_path, OBJECTIVES)
        found = Trainer(model, args, eval_dataset=[]).accelerator.mixed_precision
    finally:
        AcceleratorState._reset_state()
    assert {"no": "fp32"}.get(found, found) == identity.record(config, args)["precision"] == precision


def test_a_fitted_model_is_refused_on_several_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORLD_SIZE", 2)
    config = program.compose("train", ["model=tfidf_svm"])
    with pytest.raises(InputError, match=r"^model=tfidf_svm is fitted by one process, and these are 2$"):
        arguments.build_training_arguments(config, tmp_path, OBJECTIVES)


def test_a_name_of_digits_is_a_name() -> None:
    with pytest.raises(InputError, match=r"123: no such file"):
        objects.load_data(program.compose("train", ["data=file", "data.path=123"]), ("text", "label"))
    assert objects.load_data(program.compose("train", ["data.version=1"]), ("text", "label"))


# --- quick to answer ---

HEAVY = ("torch", "transformers", "datasets", "accelerate", "sklearn", "pandas", "matplotlib", "pyarrow", "peft")
PROBE = """
import atexit, json, resource, runpy, sys
def report():
    used = resource.getrusage(resource.RUSAGE_SELF)
    sys.stderr.write("PROBE " + json.dumps([sorted(sys.modules), used.ru_utime + used.ru_stime]) + "\\n")
atexit.register(report)
sys.argv = sys.argv[1:]
if sys.argv:
    sys.path.insert(0, sys.argv[0].rpartition("/")[0])  # as python does for a program
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    import hydra.main, omegaconf, hydra._internal.hydra
"""
TRIES = 3
# How many times the CPU seconds of the import of Hydra an answer may take. The four answers took 2 to 4 times as long.
LIMIT = 6


def answer(*argv: str, **options: Any) -> tuple[subprocess.CompletedProcess[str], set[str], float]:
    """A recipe that ran, or the import of Hydra; the modules that it imported and its CPU seconds."""
    command = [sys.executable, "-c", PROBE, *argv]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, **options)
    modules, seconds = json.loads(done.stderr.split("PROBE ")[1])
    return done, set(modules), seconds


@pytest.fixture(scope="module")
def hydra_seconds() -> float:
    """The CPU seconds in which this machine imports Hydra: the measure of a processor that is slow or shared."""
    return min(answer()[2] for _ in range(TRIES))


@pytest.mark.parametrize(
    ("argv", "code", "expected"),
    [
        (["train", "--help"], 0, r"\n  training\.FIELD=VALUE   a field of transformers\.TrainingArguments"),
        (["train", "sead=1"], 2, r"error: sead: unknown key; did you mean seed\?\n"),
        (["train", "--cfg", "job", "tuning=lora"], 0, r"\n  _target_: voicecommand\.models\.tuning\.Lora\n  r: 16\n"),
        (["evaluate", "--help"], 0, r"\n  run=DIR "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.slow
def test_help_and_an_unknown_key_answer_soon(
    argv: list[str], code: int, expected: str, tmp_path: Path, hydra_seconds: float
) -> None:
    taken = []
    for _ in range(TRIES):
        done, modules, seconds = answer(str(ROOT / "recipes" / f"{argv[0]}.py"), *argv[1:], cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert re.search(expected, done.stdout + done.stderr)
        assert not set(HEAVY) & modules
        taken.append(seconds)
        if seconds < LIMIT * hydra_seconds:
            break
    assert min(taken) < LIMIT * hydra_seconds, f"{taken} s, and importing Hydra takes {hydra_seconds} s"
    assert not list(tmp_path.iterdir())


# --- references ---


def refer(**content: Any) -> None:
    references.check({"root": "r", "name": "n", **content})


def test_many_values_may_refer_to_a_few() -> None:
    refer(paths={f"path{n}": "${root}/${name}" for n in range(200)}, more=["${.x}${..root}", "${oc.env:HOME}"])


@pytest.mark.parametrize(
    "content",
    [
        {f"v{n}": f"${{v{n + 1}}}${{v{n + 1}}}" for n in range(20)},
        {f"v{n}": {"x": f"${{v{n + 1}.x}}${{..v{n + 1}.x}}"} for n in range(20)},
        {f"v{n}": [f"${{v{n + 1}[0]}}${{v{n + 1}.0}}"] for n in range(20)},
        {f"v{n}": [f"${{v{n + 1}}}"] * 2 for n in range(20)},
        {"a": "b", **{f"v{n}": f"${{v{n + 1}}}${{${{a}}}}" for n in range(20)}},
        {f"v{n}": f"${{v{n + 1}}}" for n in range(5_000)},
        {"v": "${root}" * 1_001},
    ],
    ids=["of the top", "relative", "of lists", "of sections", "put together", "a long chain", "in one value"],
)
def test_references_that_grow_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="too many references"):
        refer(**content)


def test_a_value_that_refers_to_itself_is_left_to_omegaconf() -> None:
    refer(a="${b}${b}", b="${a}${a}")
