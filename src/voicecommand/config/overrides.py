"""Checks of overrides and of the composed configuration, with errors that name the key."""

from __future__ import annotations

import difflib
import os
import re
import typing
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from voicecommand import files
from voicecommand.columns import split_of
from voicecommand.config import references
from voicecommand.config.groups import (
    COMPOSITION_ERRORS,
    NETWORK_ONLY,
    compose_files,
    inside_project,
    list_choices,
    list_groups,
    list_options,
    read_choice,
)
from voicecommand.config.identity import HASHED_TARGETS
from voicecommand.config.loading import is_hydra_key, refuse_hydra
from voicecommand.config.objects import check_targets
from voicecommand.errors import InputError

# Fields of TrainingArguments that upload checkpoints during training; a token would also stay in the run's files.
HUB = (
    "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push", "hub_revision"
)  # fmt: skip
# Fields of TrainingArguments that are set elsewhere, or that our trainer does not support, and what to use instead.
ELSEWHERE = {
    "training.output_dir": "use runs=DIR",
    "training.resume_from_checkpoint": "use resume=true",
    "training.use_cpu": "use the environment variable ACCELERATE_USE_CPU=true",
    "training.auto_find_batch_size": "use training.per_device_train_batch_size=N (it would silently change it)",
    "training.do_train": "recipes/train.py always trains",
    "training.do_eval": "use training.eval_strategy",
    "training.do_predict": "use recipes/evaluate.py",
    "training.prediction_loss_only": "the objective needs the predictions; use training.metric_for_best_model=loss",
    "training.batch_eval_metrics": "macro F1 is that of the whole split; use training.per_device_eval_batch_size",
    "training.eval_do_concat_batches": "macro F1 is that of the whole split; leave it out",
    "training.include_for_metrics": "the metrics read only predictions and labels; leave it out",
    "training.train_sampling_strategy": "batches are always drawn by length; leave it out",
    "training.length_column_name": "lengths are those that preprocessing counted; leave it out",
    "training.remove_unused_columns": "the model gets only the columns that it reads; leave it out",
    "training.label_names": "use data.column_map.label",
    "training.local_rank": "the launcher sets it",
    "training.parallelism_config": "give it to accelerate launch",
    **dict.fromkeys((f"training.{name}" for name in HUB), "after the run: hf upload OWNER/NAME RUN/model"),
    "training.save_on_each_node": "all machines write to one folder of runs; leave it out",
    "training.logging_nan_inf_filter": "training stops at a loss that is not finite; leave it out",
}
# The lengths of a training; one on the command line is not increased to training.min_steps.
LENGTHS = {"training.num_train_epochs", "training.max_steps"}
# Names that other programs use, and ours.
MEANT = {
    "lr": "training.learning_rate",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "steps": "training.max_steps",
    "batch_size": "training.per_device_train_batch_size",
    "bs": "training.per_device_train_batch_size",
    "dataset": "data",
    "checkpoint": "model.checkpoint",
    "model_name_or_path": "model.checkpoint",
}
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".yml", ".yaml")
HOME = re.compile(r"~[^/]*/")


def check_overrides(name: str, overrides: list[str], multirun: bool = False) -> None:
    """Check overrides that Hydra would accept silently, or refuse with an unhelpful message.

    Raises:
        InputError: one of them is wrong.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except RecursionError as error:
        raise InputError(f"{max(overrides, key=len)[:60]}...: nested too deep") from error
    except OverrideParseException as error:
        key, equals, value = error.override.partition("=")
        if not equals:
            raise InputError(f"{error.override}: settings are given as KEY=VALUE; see --help") from error
        raise InputError(f"{error.override}: can't be read; put quotes around it: '{key}=\"{value}\"'") from error
    for override in parsed:
        key, text = override.key_or_group, str(override.input_line)
        if is_hydra_key(override.key_or_group) or is_hydra_key(override.package or ""):
            raise InputError(refuse_hydra(text.split("=")[0].lstrip("+~")))
        if override.is_add() or override.is_force_add() or override.is_delete():
            known = _known_keys(name, overrides)
            verb = "deleted" if override.is_delete() else "added"
            hint = f"write {key}=VALUE" if key in known else _nearest(key, known)
            raise InputError(f"{text}: keys can't be {verb}; {hint}")
        if override.is_sweep_override() and not multirun:
            value = text.partition("=")[2]
            raise InputError(f"{text}: several values need -m; if it is one value, quote it: '{key}=\"{value}\"'")
        if key in list_groups() and not override.is_sweep_override() and not isinstance(override.value(), str | int):
            raise InputError(f"{text}: give one name; {list_options(key)}")
        if key == "data" and not override.is_sweep_override() and _is_path(str(override.value())):
            path = str(override.value())
            raise InputError(f"{text}: no such data set; for your own data write {_own_data(path)}")
        if key in ELSEWHERE:
            raise InputError(f"{key}: not set here; {ELSEWHERE[key]}")


def _is_path(value: str) -> bool:
    """Whether a value of data= is a file or a directory instead of a name in conf/data."""
    return value not in list_choices("data") and ("/" in value or "." in value or Path(value).exists())


def _own_data(path: str) -> str:
    """The overrides that read data of one's own, as they are pasted into a shell."""
    where = Path(path).expanduser()
    source = "file"
    if where.is_dir():
        names = [file.name for file in where.iterdir()]
        tables = [name for name in names if name.lower().endswith(TABLES) and not name.startswith("metadata.")]
        source = "file" if tables else "folder"
    elif path.count("/") == 1 and not path.startswith((".", "/", "~")) and not path.lower().endswith(TABLES):
        source = "hub"  # owner/name
    plain = re.fullmatch(r"[\w./-]+", path)
    return f"data={source} " + (f"data.path={path}" if plain else f"'data.path=\"{path}\"'")


def finish(name: str, config: DictConfig, choices: dict[str, Any], overrides: list[str]) -> DictConfig:
    """The resolved configuration after the checks that need all of it, with the chosen option of each group in
    `choices`.

    Raises:
        InputError: a check fails.
    """
    choices = {
        group: choices[group] for group in ("data", "model", "tuning", "training", "augment") if group in choices
    }
    for group, choice in choices.items():
        if choice and "/" in str(choice):  # a part of such files, which lies in a folder below them
            raise InputError(f"{group}={choice}: no such {group}; {list_options(group, str(choice))}")
    content = OmegaConf.to_container(config, resolve=False)
    check_targets(content)
    references.check(content)
    if name == "train" and "training" not in choices:
        for key in NETWORK_ONLY:
            for override in overrides:
                if override.split("=")[0].split(".")[0] == key:
                    raise InputError(f"{override}: model={choices['model']} does not use {key}; leave it out")
    try:
        missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("training."))
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise InputError(explain(name, error, overrides)) from error
    if missing:
        group = missing[0].split(".")[0]
        needing = f"{group}={choices[group]}" if group in choices else "the recipe"
        raise InputError(f"{missing[0]}: {needing} needs it; add {missing[0]}=...")
    _expand_home(config)
    with open_dict(config):
        config.choices = choices
    take_length(config, overrides)
    for key, least in (("seed", 0), ("early_stopping", 1), ("threads", 1), ("num_proc", 1)):
        if config.get(key) is not None and not least <= config[key] < 2**32:
            raise InputError(f"{key}={config[key]}: give at least {least}, below 2^32")
    return config


def expand_home(override: str) -> str:
    """An override with a path in the home directory, such as data.path=~/a.csv: a shell leaves it, Hydra refuses it."""
    key, equals, value = override.partition("=")
    return f"{key}={os.path.expanduser(value)}" if equals and HOME.match(value) else override


def _expand_home(node: DictConfig | ListConfig) -> None:
    """Expand `~` in every path of a configuration, in place: of a yaml, or in quotes on the command line."""
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        if OmegaConf.is_missing(node, key):
            continue
        if isinstance(node[key], DictConfig | ListConfig):
            _expand_home(node[key])
        elif isinstance(node[key], str) and HOME.match(node[key]):
            node[key] = os.path.expanduser(node[key])


def take_length(config: DictConfig, overrides: list[str]) -> None:
    """Drop our limits of the length of training where an override names a length: whoever names one gets it."""
    given = {override.split("=")[0] for override in overrides}
    if given & LENGTHS and "training.min_steps" not in given and config.get("training"):
        config.training.min_steps, config.training.max_epochs = 0, None


def check_saved_config(run: Path) -> None:
    """Check the config.yaml of a run, which may come from anywhere. Nothing that it names is called.

    Raises:
        InputError: it can't be read, or has a `_target_` that is not meant for it.
    """
    path = run / "config.yaml"
    if not path.is_file():
        return
    try:
        files.check_yaml(path)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: can't be read: {str(error).splitlines()[0]}") from error
    present = {then: now for now, then in HASHED_TARGETS.items()}
    for section in content.values() if isinstance(content, dict) else ():
        if isinstance(section, dict) and isinstance(section.get("_target_"), str):
            section["_target_"] = present.get(section["_target_"], section["_target_"])
    try:
        check_targets(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _known_keys(name: str, overrides: list[str]) -> set[str]:
    """Every key of the configuration with the groups of `overrides`, and the groups themselves."""
    chosen = [o for o in overrides if o.split("=")[0] in list_groups() and "," not in o]
    try:
        config = compose_files(name, chosen)
    except COMPOSITION_ERRORS:
        config = compose_files(name, [])
    groups = {group for group in list_groups() if group in config.hydra.runtime.choices}
    with open_dict(config):
        del config["hydra"]

    def walk(node: Any, prefix: str) -> typing.Iterator[str]:
        for key, value in node.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    return groups | set(walk(OmegaConf.to_container(config, resolve=False), ""))


def _nearest(key: str, known: set[str]) -> str:
    """A hint: the key that was likely meant, even if its group was left out."""
    before, _, last = key.rpartition(".")
    if (split := f"{before}.{split_of(last)}") in known:  # data.files.dev
        return f"did you mean {split}?"
    folded = key.lower()

    def likeness(other: str) -> float:
        whole = difflib.SequenceMatcher(None, folded, other).ratio()
        return max(whole, difflib.SequenceMatcher(None, folded.split(".")[-1], other.split(".")[-1]).ratio() - 0.01)

    meant = MEANT.get(key.split(".")[-1].lower(), "")
    if meant in known:
        return f"did you mean {meant}?"
    best = max(sorted(known), key=likeness)
    return f"did you mean {best}?" if likeness(best) >= 0.6 else "see --help for what there is"


def _lacking_data(key: str, known: set[str], overrides: list[str]) -> str:
    """The error for a key that other files of conf/data have, and the chosen one lacks; otherwise ""."""
    group, _, member = key.partition(".")
    first = member.partition(".")[0]
    having = [choice for choice in list_choices("data") if first in read_choice("data", choice)]
    if group != "data" or not having or f"data.{first}" in known:
        return ""
    value = next((o.partition("=")[2] for o in overrides if o.split("=")[0] == "data.path"), "")
    if value:
        own = _own_data(value.strip("\"'"))
        return f"data.path={value}: needs {own.split()[0]} beside it; write {own}"
    return f"{key}: only used with data={', '.join(having)}"


def explain(name: str, error: Exception, overrides: list[str]) -> str:
    """An error of Hydra or OmegaConf as one line that names the key and what to do."""
    text = str(error)
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{inside_project(mark.name)}:{mark.line + 1}: " if mark else ""
        return f"{where}not valid YAML: {getattr(error, 'problem', None) or text.splitlines()[0]}"
    if found := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, choice = found.groups()
        if group == "hydra":
            return refuse_hydra(f"{group}/{choice}")
        return f"{group}={choice}: no such {group}; {list_options(group, choice)}"
    if found := re.search(r"Could not override '([^'@]+)[^']*'", text):
        key = found[1]
        group = key.split(".")[0]
        known = _known_keys(name, overrides)
        meant = MEANT.get(key.split(".")[-1].lower(), key).split(".")[0]
        for unused in (group, meant):
            if unused in ("training", "tuning", "augment") and (
                key in known or not any(k.startswith(f"{unused}.") for k in known)
            ):
                chosen = next((o for o in overrides if o.split("=")[0] in ("model", "experiment")), "the model")
                return (
                    f"{key}: {chosen if name == 'train' else f'recipes/{name}.py'} does not use {unused}; leave it out"
                )
        if lacking := _lacking_data(key, known, overrides):
            return lacking
        return f"{key}: unknown key; {_nearest(key, known)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    if found := re.match(r"Error merging override (.*)", lines[0]):
        return f"{found[1]}: {str(error.__cause__).splitlines()[0]}"
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
