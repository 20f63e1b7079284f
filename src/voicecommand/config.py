"""The door: overrides are checked, the configuration is composed, and turned into plain typed arguments.

Nothing behind it knows Hydra. `recipe` wraps a recipe's `main`; the rest of this file is what `main` calls.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
import math
import os
import re
import sys
import tempfile
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from voicecommand import device, runs
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)

# What comes out of Hydra for a wrong override, and for a file in conf/ that is not good YAML.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
CONF = Path(__file__).resolve().parents[2] / "conf"
# What cannot change a weight, and so is no part of a run's identity.
NOT_IDENTITY = {"resume", "overwrite", "runs", "choices", "num_proc"}
NOT_IDENTITY_TRAINING = re.compile(
    r"disable_tqdm|log_level.*|log_on_each_node|logging_(first_step|steps|strategy)|report_to|run_name|project"
    r"|trackio_.*|push_to_hub|hub_.*|save_total_limit|dataloader_(num_workers|pin_memory|prefetch_factor"
    r"|persistent_workers)|per_device_eval_batch_size|skip_memory_metrics|include_num_input_tokens_seen"
)
# Fields of TrainingArguments that are decided elsewhere or that our trainer could not honour, and what to do.
ELSEWHERE = {
    "training.output_dir": "use runs=DIR",
    "training.resume_from_checkpoint": "use resume=true",
    "training.use_cpu": "use the environment variable ACCELERATE_USE_CPU=true",
    "training.auto_find_batch_size": "use training.per_device_train_batch_size=N (it would change the batch unseen)",
    "training.do_train": "recipes/train.py always trains",
    "training.do_eval": "use training.eval_strategy",
    "training.do_predict": "use recipes/evaluate.py",
    "training.prediction_loss_only": "the objective needs the predictions; use training.metric_for_best_model=loss",
    "training.batch_eval_metrics": "macro F1 is that of the whole split; use training.per_device_eval_batch_size",
    "training.eval_do_concat_batches": "macro F1 is that of the whole split; leave it out",
    "training.include_for_metrics": "the metrics read predictions and labels alone; leave it out",
    "training.train_sampling_strategy": "batches are always drawn by length; leave it out",
    "training.length_column_name": "lengths are those that preprocessing counted; leave it out",
    "training.remove_unused_columns": "what the model does not take never reaches it; leave it out",
    "training.label_names": "use data.column_map.label",
    "training.logging_nan_inf_filter": "training stops at such a loss; leave it out",
}
# What an evaluation during training measures, and so what can choose the best checkpoint.
OBJECTIVES = ("macro_f1", "accuracy", "loss")
# Settings that only a network reads, its groups among them.
NETWORK_ONLY = ("training", "tuning", "augment", "precision", "early_stopping")
# The least value of fields that TrainingArguments takes as they come.
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "num_train_epochs": 0,
    "label_smoothing_factor": 0,
}
# What they must stay below, where that is not infinity.
BELOW = {"label_smoothing_factor": 1}


@functools.cache
def _training_schema() -> type:
    """A dataclass with the fields of the installed TrainingArguments, typed, all unset.

    The names are read from the source: importing transformers takes seconds, and `--help` and a misspelt key
    should not.
    """
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "training_args.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == "TrainingArguments")
    simple = {"int": int, "float": float, "bool": bool, "str": str}
    fields: list[Any] = []
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if f"training.{node.target.id}" in ELSEWHERE or "ClassVar" in ast.unparse(node.annotation):
            continue
        parts = {part.strip() for part in ast.unparse(node.annotation).split("|")}
        kind: Any = next((simple.get(part) for part in parts - {"None"}), None) if len(parts - {"None"}) == 1 else None
        kind = Any if kind is None else kind | None if "None" in parts else kind
        fields.append((node.target.id, kind, dataclasses.field(default=MISSING)))
    return dataclasses.make_dataclass("TrainingSchema", fields)


@dataclasses.dataclass
class TrainSchema:
    """Types of the top-level settings of conf/train.yaml; the groups are typed by what they name."""

    seed: int = 42
    precision: str = "auto"
    threads: int | None = None
    num_proc: int | None = None
    early_stopping: int | None = None
    runs: str = "runs"
    resume: bool = False
    overwrite: bool = False
    data: Any = None
    model: Any = None
    training: Any = None
    tuning: Any = None
    augment: Any = None


@dataclasses.dataclass
class EvaluateSchema:
    """Types of conf/evaluate.yaml."""

    run: str = MISSING
    split: str = "test"
    threads: int | None = None
    num_proc: int | None = None
    data: Any = None


@dataclasses.dataclass
class RobustnessSchema:
    """Types of conf/robustness.yaml."""

    run: str = MISSING
    split: str = "test"
    noise: str | None = None
    seed: int = 0
    threads: int | None = None
    num_proc: int | None = None
    data: Any = None


@dataclasses.dataclass
class AuditSchema:
    """Types of conf/audit.yaml."""

    columns: list[str] | None = None
    samples: str | None = None
    num_proc: int | None = None
    data: Any = None
    augment: Any = None


def _register() -> None:
    store = ConfigStore.instance()
    store.store(group="training", name="schema", node=_training_schema())
    store.store(name="train_schema", node=TrainSchema)
    store.store(name="evaluate_schema", node=EvaluateSchema)
    store.store(name="robustness_schema", node=RobustnessSchema)
    store.store(name="audit_schema", node=AuditSchema)


# --- a program ---------------------------------------------------------------------------------------------------


def recipe(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make `main(config)` a program: conf/<name>.yaml, errors as one line, exit codes of `voicecommand.errors`."""

    def wrap(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(main)
        def program() -> None:
            code = run_recipe(name, main)
            if code:
                sys.exit(code)

        return program

    return wrap


def run_recipe(name: str, main: Callable[[DictConfig], Any]) -> int:
    """Compose from sys.argv, call `main` (once for each job of a multirun), and answer the exit code.

    An error that is nobody's input is a bug: it leaves with its traceback.
    """
    # python puts the recipe's folder first on the path, where recipes/evaluate.py would hide the package evaluate
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != CONF.parent / "recipes"]
    runs.set_up_logging()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of Hydra's own page
    return runs.answer_exit_code(lambda: _run_hydra(name, main))


def _run_hydra(name: str, main: Callable[[DictConfig], Any]) -> None:
    _register()
    options = _parse_options(name)
    _check_overrides(name, options.overrides, options.multirun)
    failures: list[BaseException] = []
    jobs: list[DictConfig] = []

    def job(config: DictConfig) -> Any:
        if failures:  # a job before this one failed: the sweep is over
            return None
        try:
            jobs.append(config)
            return _run_job(name, main, config, len(jobs))
        except BaseException as error:  # kept from Hydra, which would print a page of its own
            failures.append(error)
            if options.multirun:
                logger.info("job %d stops the multirun (%s)", len(jobs), " ".join(_job_overrides()))
            return None

    try:
        with tempfile.TemporaryDirectory() as scratch:  # where Hydra leaves a note of its own on each multirun
            OmegaConf.register_new_resolver("scratch", lambda: scratch, replace=True)
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
    except COMPOSITION_ERRORS as error:
        raise InputError(_explain(name, error, options.overrides)) from error
    if failures:
        raise failures[0]


def _parse_options(name: str) -> Any:
    parser = get_args_parser()

    def refuse(message: str) -> typing.NoReturn:
        raise InputError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_args()
    if options.multirun and name != "train":
        raise InputError(f"-m is for recipes/train.py; recipes/{name}.py runs once")
    if options.multirun and runs.WORLD_SIZE > 1:
        raise InputError(f"-m under {runs.WORLD_SIZE} processes: run a sweep in one process")
    return options


def _run_job(name: str, main: Callable[[DictConfig], Any], config: DictConfig, number: int) -> Any:
    overrides = _job_overrides()
    config = _finish(name, config, dict(HydraConfig.get().runtime.choices), overrides)
    if not is_multirun():
        return main(config)
    runs.start_job(number)
    objective = main(config)
    logger.info("job %d: objective %.4f, macro F1 on validation (%s)", number, objective, " ".join(overrides))
    return objective


def _job_overrides() -> list[str]:
    overrides: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[assignment]
    return overrides


def compose(name: str, overrides: list[str]) -> DictConfig:
    """The configuration that `python recipes/<name>.py <overrides>` would run with.

    Raises:
        InputError: an override that the recipe would refuse.
    """
    _register()
    _check_overrides(name, overrides)
    try:
        config = _compose(name, overrides)
    except COMPOSITION_ERRORS as error:
        raise InputError(_explain(name, error, overrides)) from error
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return _finish(name, config, choices, overrides)


def _compose(name: str, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return hydra.compose(config_name=name, overrides=overrides, return_hydra_config=True)


# --- checks ------------------------------------------------------------------------------------------------------


def _groups() -> set[str]:
    return {path.name for path in CONF.iterdir() if path.is_dir()}


def _check_overrides(name: str, overrides: list[str], multirun: bool = False) -> None:
    """What Hydra would take in silence, or refuse in words that help nobody."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        key, equals, value = error.override.partition("=")
        if not equals:
            raise InputError(f"{error.override}: settings are given as KEY=VALUE; see --help") from error
        raise InputError(f"{error.override}: can't be read; put quotes around it: '{key}=\"{value}\"'") from error
    for override in parsed:
        key, text = override.key_or_group, str(override.input_line)
        if override.is_hydra_override():
            continue
        if override.is_add() or override.is_force_add() or override.is_delete():
            known = _known_keys(name, overrides)
            verb = "deleted" if override.is_delete() else "added"
            hint = f"write {key}=VALUE" if key in known else _nearest(key, known)
            raise InputError(f"{text}: keys can't be {verb}; {hint}")
        if override.is_sweep_override() and not multirun:
            value = text.partition("=")[2]
            raise InputError(f"{text}: several values need -m; if it is one value, quote it: '{key}=\"{value}\"'")
        if key in _groups() and not override.is_sweep_override() and not isinstance(override.value(), str | int):
            raise InputError(f"{text}: give one name; {_list_options(key)}")
        if key in ELSEWHERE:
            raise InputError(f"{key}: not set here; {ELSEWHERE[key]}")


def _finish(name: str, config: DictConfig, choices: dict[str, Any], overrides: list[str]) -> DictConfig:
    """The checks that need the whole configuration; notes in `choices` which option of each group was taken."""
    choices = {
        group: choices[group] for group in ("data", "model", "tuning", "training", "augment") if group in choices
    }
    _check_targets(OmegaConf.to_container(config, resolve=False))
    if name == "train" and "training" not in choices:
        for key in NETWORK_ONLY:
            for override in overrides:
                if override.split("=")[0].split(".")[0] == key:
                    raise InputError(f"{override}: model={choices['model']} does not use {key}; leave it out")
    try:
        missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("training."))
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise InputError(_explain(name, error, overrides)) from error
    if missing:
        group = missing[0].split(".")[0]
        who = f"{group}={choices[group]}" if group in choices else "the recipe"
        raise InputError(f"{missing[0]}: {who} needs it; add {missing[0]}=...")
    with open_dict(config):
        config.choices = choices
    for key, least in (("seed", 0), ("early_stopping", 1), ("threads", 1), ("num_proc", 1)):
        if config.get(key) is not None and not least <= config[key] < 2**32:
            raise InputError(f"{key}={config[key]}: give at least {least}, below 2^32")
    return config


def _check_targets(node: Any, path: str = "") -> None:
    """Only our own classes are ever called, whatever a configuration says."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not str(target).startswith("voicecommand."):
            raise InputError(f"{path}_target_={target}: only voicecommand.* may be named there")
        for key, value in node.items():
            _check_targets(value, f"{path}{key}.")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            _check_targets(value, f"{path}{i}.")


def check_saved_config(run: Path) -> None:
    """A run that came from elsewhere: nothing in it is ever called, and one that asks for it is refused.

    Raises:
        InputError: its config.yaml can't be read, or names a foreign `_target_`.
    """
    path = run / "config.yaml"
    if not path.is_file():
        return
    try:
        _check_targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a file of somebody else's: anything may come out of the reading
        raise InputError(f"{path}: can't be read: {str(error).splitlines()[0]}") from error


def _known_keys(name: str, overrides: list[str]) -> set[str]:
    """Every key of the configuration with the groups of `overrides`, and the groups themselves."""
    chosen = [o for o in overrides if o.split("=")[0] in _groups() and "," not in o]
    try:
        config = _compose(name, chosen)
    except COMPOSITION_ERRORS:
        config = _compose(name, [])
    groups = {group for group in _groups() if group in config.hydra.runtime.choices}
    with open_dict(config):
        del config["hydra"]

    def walk(node: Any, prefix: str) -> typing.Iterator[str]:
        for key, value in node.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    return groups | set(walk(OmegaConf.to_container(config, resolve=False), ""))


def _nearest(key: str, known: set[str]) -> str:
    """A hint: the key that was likely meant, also where its group was left out."""

    def likeness(other: str) -> float:
        whole = difflib.SequenceMatcher(None, key, other).ratio()
        return max(whole, difflib.SequenceMatcher(None, key.split(".")[-1], other.split(".")[-1]).ratio() - 0.01)

    best = max(sorted(known), key=likeness)
    return f"did you mean {best}?" if likeness(best) >= 0.6 else "see --help for what there is"


def _list_options(group: str, near: str = "") -> str:
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    close = difflib.get_close_matches(near, options, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"there are {', '.join(options)}"


def _explain(name: str, error: Exception, overrides: list[str]) -> str:
    """Hydra's and OmegaConf's errors as one line that names the key and what to do."""
    text = str(error)
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{_inside_project(mark.name)}:{mark.line + 1}: " if mark else ""
        return f"{where}not good YAML: {getattr(error, 'problem', None) or text.splitlines()[0]}"
    if found := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, choice = found.groups()
        return f"{group}={choice}: no such {group}; {_list_options(group, choice)}"
    if found := re.search(r"Could not override '([^'@]+)[^']*'", text):
        key = found[1]
        group = key.split(".")[0]
        known = _known_keys(name, overrides)
        if group in ("training", "tuning", "augment") and (
            key in known or not any(k.startswith(f"{group}.") for k in known)
        ):
            chosen = (o for o in overrides if o.split("=")[0] in ("model", "experiment"))
            return f"{key}: {next(chosen, 'the model')} does not use {group}; leave it out"
        return f"{key}: unknown key; {_nearest(key, known)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    if found := re.match(r"Error merging override (.*)", lines[0]):
        return f"{found[1]}: {str(error.__cause__).splitlines()[0]}"
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]


def _inside_project(name: str) -> str:
    root = CONF.parent
    return str(Path(name).relative_to(root)) if Path(name).is_relative_to(root) else name


# --- from configuration to objects -------------------------------------------------------------------------------


def build(section: DictConfig | None, **kwargs: Any) -> Any:
    """What a section's `_target_` names, called with the section's keys and `kwargs`; None for an empty one.

    Raises:
        InputError: no such target, or a value of another type than it declares; and what the target raises.
    """
    if not section:  # no such group, or one like augment=none that says nothing
        return None
    settings: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # type: ignore[assignment]
    name = settings.pop("_target_")
    path, _, member = name.rpartition(".")
    try:
        module = importlib.import_module(path)
        target = getattr(module, member)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("voicecommand"):
            raise
        raise InputError(f"_target_={name}: there is no such class or function") from error
    annotations = {k: v.annotation for k, v in inspect.signature(target).parameters.items() if k in settings}
    hints = typing.get_type_hints(types.SimpleNamespace(__annotations__=annotations), vars(module))
    for key, hint in hints.items():
        if type(settings[key]) is int and not _fits(settings[key], hint) and _fits("", hint):
            settings[key] = str(settings[key])  # data.path=123 is a name
        if not _fits(settings[key], hint):
            raise InputError(f"{section._key()}.{key}={settings[key]}: is not of type {annotations[key]}")
    return target(**settings, **kwargs)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a configuration's value is what a signature declares; mappings are checked where read."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        return isinstance(value, list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str, type(None)) else True


def load_data(config: DictConfig, columns: tuple[str, ...]) -> Any:
    """The DatasetDict of `config.data` with the columns a task needs."""
    return build(config.data, columns=columns)


def known_columns(config: DictConfig) -> tuple[str, ...]:
    """What the data of `config` has in any case: recordings have no text of their own."""
    is_sound = config.data._target_.split(".")[-2] in ("folder", "spoken", "speech_commands")
    return ("audio" if is_sound else "text", "label")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without unset keys, as plain Python."""
    content: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if isinstance(content.get("training"), dict):
        content["training"] = {k: v for k, v in content["training"].items() if v != MISSING}
    return content


def to_yaml(config: DictConfig) -> str:
    """The resolved configuration, as config.yaml keeps it."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def run_directory(config: DictConfig) -> Path:
    """`runs/<data>/<model>-<tuning>-s<seed>-<8 hex>`: the same command gives the same directory, on every rank."""
    choices = config.choices
    identity = {k: v for k, v in plain(config).items() if k not in NOT_IDENTITY and v not in (None, {})}
    if "training" in identity:
        kept = {k: v for k, v in identity["training"].items() if not NOT_IDENTITY_TRAINING.fullmatch(k)}
        identity["training"] = kept

    def same(node: Any) -> Any:
        """2.0 is 2, wherever the schema could not say which it is."""
        if isinstance(node, dict):
            return {str(key): same(value) for key, value in node.items()}
        if isinstance(node, list):
            return [same(value) for value in node]
        return int(node) if isinstance(node, float) and node.is_integer() else node

    digest = hashlib.sha256(json.dumps(same(identity), sort_keys=True).encode()).hexdigest()[:8]
    way = "-".join(str(choices[group]) for group in ("model", "tuning") if group in choices)
    return Path(config.runs) / str(choices["data"]) / f"{way}-s{config.seed}-{digest}"


def build_training_arguments(config: DictConfig, directory: Path) -> Any:
    """transformers.TrainingArguments of the run, or None for a model that is fitted in one go.

    Raises:
        InputError: a value that TrainingArguments refuses or training could not go by, or another world size than
            was asked for.
    """
    settings = plain(config).get("training")
    if settings is None:
        if runs.WORLD_SIZE > 1:
            raise InputError(f"model={config.choices.model} is fitted by one process, and these are {runs.WORLD_SIZE}")
        return None
    from transformers import TrainingArguments
    from transformers.integrations import get_available_reporting_integrations

    for key, least in LEAST.items():
        below = BELOW.get(key, math.inf)
        if key in settings and not (least <= settings[key] < below):
            limit = f", below {below}" if key in BELOW else ""
            raise InputError(f"training.{key}={settings[key]}: give a number of at least {least}{limit}")
    if config.precision != "auto" and settings.get("bf16") is False:
        del settings["bf16"]  # of conf/training/from_scratch_speech.yaml: what is asked for wins
    bf16, fp16, reason = runs.choose_precision(config.precision, settings.get("bf16"), settings.get("fp16"))
    settings |= {"bf16": bf16, "fp16": fp16, "use_cpu": not device.has_accelerator()}
    settings.setdefault("disable_tqdm", False)  # left to itself it follows transformers' verbosity
    _overrule_launcher("bf16" if bf16 else "fp16" if fp16 else "no")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(directory / "tensorboard")
    try:
        args = TrainingArguments(output_dir=str(directory / "checkpoints"), **settings)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"training: {str(error).strip().splitlines()[0]}") from error
    _check_objective(args)
    there = get_available_reporting_integrations()
    for logger_name in args.report_to or ():
        if logger_name not in there:
            raise InputError(
                f"training.report_to={logger_name}: not installed here; there are none, {', '.join(there)}"
            )
    args.precision_reason = reason  # type: ignore[attr-defined]
    runs.check_world_size(args.world_size)
    return args


def _overrule_launcher(precision: str) -> None:
    """`accelerate launch --mixed_precision` would win over bf16=False and fp16=False; what we record is what runs."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked is not None and asked != precision:
        if asked != "no":
            logger.warning("the launcher's --mixed_precision %s is not used: precision=... decides", asked)
        os.environ["ACCELERATE_MIXED_PRECISION"] = precision


def _check_objective(args: Any) -> None:
    """What chooses the best checkpoint must be measured, and the right way round."""
    name = args.metric_for_best_model
    if name is None:
        if args.save_strategy == "best":
            raise InputError("training.save_strategy=best: needs training.metric_for_best_model")
        return
    if name.removeprefix("eval_") not in OBJECTIVES:
        raise InputError(f"training.metric_for_best_model={name}: give one of {', '.join(OBJECTIVES)}")
    is_greater_better = not name.endswith("loss")
    if args.greater_is_better is not is_greater_better:
        raise InputError(
            f"training.metric_for_best_model={name}: would keep the worst checkpoint; add"
            f" training.greater_is_better={str(is_greater_better).lower()}"
        )


# --- what else recipes/train.py asks of the door -----------------------------------------------------------------


def open_run(config: DictConfig) -> runs.Run:
    """The run directory of `config`; see `runs.Run` for what it refuses."""
    return runs.Run(run_directory(config), config.resume, config.overwrite)


def is_multirun() -> bool:
    """Whether this is one job of `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return runs.RANK == 0


def command() -> list[str]:
    """The command as it was typed, the program by its place in the repository."""
    return ["python", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def record(config: DictConfig, args: Any) -> dict[str, Any]:
    """What run.json says of the command and the choices."""
    import torch

    return {
        "command": command(),
        "seed": config.seed,
        "world_size": runs.WORLD_SIZE,
        "threads": torch.get_num_threads(),
        "precision": None if args is None else "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "precision_reason": None if args is None else args.precision_reason,
        "data": config.choices.data,
        "model": config.choices.model,
        "tuning": config.choices.get("tuning"),
        "augment": config.choices.get("augment"),
    }
