"""The door: overrides are checked, the configuration is composed, and turned into plain typed arguments.

Nothing behind it knows Hydra. `recipe` wraps a recipe's `main`; the rest of this file is what `main` calls first.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from voicecommand import errors, runs
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)

CONF = Path(__file__).resolve().parents[2] / "conf"
# Keys that cannot change a weight: left out of a run's identity.
NOT_IDENTITY = {"resume", "overwrite", "runs", "choices", "hydra"}
NOT_IDENTITY_TRAINING = {
    "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node", "logging_first_step", "logging_steps",
    "logging_strategy", "report_to", "run_name", "project", "save_total_limit", "dataloader_num_workers",
    "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers",
    "per_device_eval_batch_size", "skip_memory_metrics", "include_num_input_tokens_seen",
}  # fmt: skip
# Fields of TrainingArguments that are decided elsewhere, and where.
ELSEWHERE = {
    "training.output_dir": "runs=DIR",
    "training.resume_from_checkpoint": "resume=true",
    "training.use_cpu": "the environment variable ACCELERATE_USE_CPU=true",
    "training.auto_find_batch_size": "training.per_device_train_batch_size=N (it would change the batch unseen)",
}
# Settings that only a network reads, besides the groups training and tuning.
NETWORK_ONLY = ("training", "tuning", "precision", "early_stopping", "resume")


@functools.cache
def _training_schema() -> type:
    """A dataclass with the fields of the installed TrainingArguments, typed, all unset.

    The names are read from the source: importing transformers takes seconds, and `--help` and a misspelt key should not.
    """
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "training_args.py").read_text(encoding="utf-8")
    arguments = next(
        n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "TrainingArguments"
    )
    simple = {"int": int, "float": float, "bool": bool, "str": str}
    fields: list[Any] = []
    for node in arguments.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "training." + node.target.id in ELSEWHERE or "ClassVar" in ast.unparse(node.annotation):
            continue
        parts = {p.strip() for p in ast.unparse(node.annotation).split("|")} - {"None"}
        kind = simple.get(next(iter(parts))) if len(parts) == 1 else None
        fields.append((node.target.id, Any if kind is None else kind | None, dataclasses.field(default=MISSING)))
    return dataclasses.make_dataclass("TrainingSchema", fields)


@dataclasses.dataclass
class TrainSchema:
    """Types of the top-level settings of conf/train.yaml; the groups are typed by what they name."""

    seed: int = 42
    precision: str = "auto"
    threads: int | None = None
    early_stopping: int | None = None
    runs: str = "runs"
    resume: bool = False
    overwrite: bool = False
    data: Any = None
    training: Any = None
    tuning: Any = None
    model: Any = None


@dataclasses.dataclass
class EvaluateSchema:
    """Types of conf/evaluate.yaml."""

    run: str = MISSING
    split: str = "test"
    threads: int | None = None
    data: Any = None


@dataclasses.dataclass
class AuditSchema:
    """Types of conf/audit.yaml."""

    columns: list[str] = dataclasses.field(default_factory=lambda: ["text", "label"])
    data: Any = None


def _register() -> None:
    store = ConfigStore.instance()
    store.store(group="training", name="schema", node=_training_schema())
    store.store(name="train_schema", node=TrainSchema)
    store.store(name="evaluate_schema", node=EvaluateSchema)
    store.store(name="audit_schema", node=AuditSchema)


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
    """Compose from sys.argv, call `main` (once for each job of a multirun), and answer the exit code."""
    # python puts the recipe's folder first on the path, where recipes/evaluate.py would hide the package evaluate
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != CONF.parent / "recipes"]
    runs.set_up_logging()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of Hydra's own page
    try:
        _register()
        _check_prefixes(name, sys.argv[1:])

        failures: list[BaseException] = []
        jobs = itertools.count(1)

        def job(config: DictConfig) -> Any:
            if failures:  # a job before this one failed: the sweep is over
                return None
            try:
                return _run_job(name, main, config, next(jobs))
            except BaseException as error:  # kept from Hydra, which would print a line of its own
                failures.append(error)
                return None

        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
        if failures:
            raise failures[0]
        return 0
    except errors.RunError as error:
        return runs.fail(error, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        return runs.fail(InputError(explain(name, error, sys.argv[1:])), 2)
    except OSError as error:
        if error.errno in runs.STORAGE_ERRORS:
            return runs.fail(errors.StorageError(f"{error.filename or 'storage'}: {error.strerror}"), 4)
        raise
    except KeyboardInterrupt:
        return runs.fail(errors.Stopped("stopped before training began; nothing was written"), 143)


def _run_job(name: str, main: Callable[[DictConfig], Any], config: DictConfig, number: int) -> Any:
    current = HydraConfig.get()
    overrides = list(current.overrides.task)
    config = _finish(config, dict(current.runtime.choices), overrides, name)
    if not is_multirun():
        return main(config)
    runs.start_job(number)
    objective = main(config)
    logger.info("job %d: objective %s  (%s)", number, objective, " ".join(overrides))
    return objective


def compose(name: str, overrides: list[str]) -> DictConfig:
    """The configuration that `python recipes/<name>.py <overrides>` would run with.

    Raises:
        InputError: an override that the recipe would refuse.
    """
    _register()
    _check_prefixes(name, overrides)
    try:
        config = _compose(name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(name, error, overrides)) from error
    choices = dict(config.hydra.runtime.choices)
    with _open(config):
        del config["hydra"]
    return _finish(config, choices, overrides, name)


def _open(config: DictConfig) -> Any:
    from omegaconf import open_dict

    return open_dict(config)


def _compose(name: str, overrides: list[str]) -> DictConfig:
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return hydra.compose(config_name=name, overrides=overrides, return_hydra_config=True)


def _finish(config: DictConfig, choices: dict[str, Any], overrides: list[str], name: str) -> DictConfig:
    """The checks that need the whole configuration; notes which option of each group was taken."""
    groups = {g: c for g, c in choices.items() if not g.startswith("hydra") and g in {"model", "data", "training", "tuning"}}
    _check_targets(config, name)
    if name == "train":
        _check_unused(groups, overrides, name)
    missing = sorted(OmegaConf.missing_keys(config))
    missing = [key for key in missing if not key.startswith("training.")]
    if missing:
        raise InputError(f"{missing[0]}: {_group_of(missing[0], groups)}needs it; add {missing[0]}=...")
    with _open(config):
        config.choices = groups
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise InputError(explain(name, error, overrides)) from error
    return config


def _group_of(key: str, choices: dict[str, Any]) -> str:
    group = key.split(".")[0]
    return f"{group}={choices[group]} " if group in choices else "the recipe "


def _check_prefixes(name: str, overrides: list[str]) -> None:
    """`+key` and `~key` would add a key that nobody reads or delete one that somebody needs."""
    for override in overrides:
        if override.startswith(("+", "~")) and not override.lstrip("+~").startswith("hydra"):
            key = override.lstrip("+~").split("=")[0]
            known = _known_keys(name, overrides)
            verb = "deleted" if override.startswith("~") else "added"
            hint = f"write {key}=VALUE" if key in known else _nearest(key, known)
            raise InputError(f"{override}: keys can't be {verb}; {hint}")


def _check_unused(choices: dict[str, Any], overrides: list[str], name: str) -> None:
    """Refuse an override that the chosen model would not read."""
    mine = [o for o in overrides if o.split("=")[0] in ("model", "experiment")]
    base = _unwrapped_choices(name, mine)
    keys = {o.split("=")[0]: o for o in overrides}
    unused = base.get("training") in (None, "none")
    for key, override in keys.items():
        if unused and key.split(".")[0] in NETWORK_ONLY:
            raise InputError(f"{override}: model={choices['model']} does not use {key.split('.')[0]}; leave it out")
    if not unused and "none" in (choices.get("training"), choices.get("tuning")):
        raise InputError(f"model={choices['model']} needs training and tuning; none is for models that are fitted in one go")


def _unwrapped_choices(name: str, overrides: list[str]) -> dict[str, Any]:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path

    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(CONF)))
    config = loader.load_configuration(name, overrides, run_mode=RunMode.RUN)
    return dict(config.hydra.runtime.choices)


def _check_targets(config: DictConfig, name: str) -> None:
    """Only our own classes are ever instantiated, whatever a configuration says."""

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            target = node.get("_target_")
            if target is not None and not str(target).startswith("voicecommand."):
                raise InputError(f"{path}_target_={target}: only voicecommand.* may be named there")
            for key, value in node.items():
                walk(value, f"{path}{key}.")
        elif isinstance(node, list):
            for i, value in enumerate(node):
                walk(value, f"{path}{i}.")

    walk(OmegaConf.to_container(config, resolve=False), "")


def _known_keys(name: str, overrides: list[str]) -> set[str]:
    """Every key of the configuration with the groups of `overrides`, and the groups themselves."""
    groups = {p.name for p in CONF.iterdir() if p.is_dir()}
    chosen = [o for o in overrides if o.split("=")[0] in groups and "=" in o and "," not in o]
    try:
        config = _compose(name, chosen)
    except HydraException:
        config = _compose(name, [])
    with _open(config):
        del config["hydra"]
    keys: set[str] = set()

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            keys.add(prefix + str(key))
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    walk(OmegaConf.to_container(config, resolve=False), "")
    return keys | (groups & set(config)) | ({"experiment"} if name == "train" else set())


def _nearest(key: str, known: set[str]) -> str:
    match = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    if not match:
        last = key.rsplit(".", 1)[-1]
        match = [k for k in sorted(known) if k.rsplit(".", 1)[-1] == last][:1]
    return f"did you mean {match[0]}?" if match else "see --help for the keys there are"


def explain(name: str, error: Exception, overrides: list[str]) -> str:
    """Hydra's and OmegaConf's errors as one line that names the key and what to do."""
    import re

    text = str(error)
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    if found := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, choice = found.groups()
        options = sorted(p.stem for p in (CONF / group).glob("*.yaml")) if (CONF / group).is_dir() else []
        close = difflib.get_close_matches(choice, options, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        return f"{group}={choice}: no such {group}; {guess}there are {', '.join(options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        if key in ELSEWHERE:
            return f"{key}: not set here; use {ELSEWHERE[key]}"
        if "not in struct" in str(root) or "not in struct" in text or "No match in the defaults list" in text or "not in" in str(root):
            if key.split(".")[0] == "training" and "training" not in {k.split(".")[0] for k in _known_keys(name, overrides)}:
                model = next((o for o in overrides if o.startswith("model=")), "this model")
                return f"{key}: {model} does not use training; leave it out"
            return f"{key}: unknown key; {_nearest(key, _known_keys(name, overrides))}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    first = lines[0] if lines else type(error).__name__
    return f"{key}: {first}" if key and key not in first else first


def build(section: Any, **kwargs: Any) -> Any:
    """The object that a section's `_target_` names, called with the section's keys and `kwargs`."""
    if section is None:
        return None
    try:
        return hydra.utils.instantiate(section, _convert_="all", **kwargs)
    except hydra.errors.InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
            if isinstance(cause, errors.RunError | OSError):
                raise cause from error
        raise InputError(f"{section.get('_target_')}: {cause}".splitlines()[0]) from error


def load_data(config: DictConfig, columns: tuple[str, ...]) -> Any:
    """The DatasetDict of `config.data` with the columns a task needs."""
    return build(config.data, columns=columns)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without unset keys, as plain Python."""
    content: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if isinstance(content.get("training"), dict):
        content["training"] = {k: v for k, v in content["training"].items() if v != "???"}
    return content


def run_directory(config: DictConfig) -> Path:
    """`runs/<data>/<model>-<tuning>-s<seed>-<8 hex>`: the same command gives the same directory, on every rank."""
    content = plain(config)
    choices = content["choices"]
    identity = {k: v for k, v in content.items() if k not in NOT_IDENTITY and v is not None}
    if "training" in identity:
        identity["training"] = {k: v for k, v in identity["training"].items() if k not in NOT_IDENTITY_TRAINING}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]
    tuning = "" if choices.get("tuning") in (None, "none") else f"-{choices['tuning']}"
    return Path(config.runs) / str(choices["data"]) / f"{choices['model']}{tuning}-s{config.seed}-{digest}"


def is_multirun() -> bool:
    """Whether this is one job of `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def build_training_arguments(config: DictConfig, directory: Path) -> Any:
    """transformers.TrainingArguments of the run, or None for a model that is fitted in one go.

    Raises:
        InputError: a value that TrainingArguments refuses, or another world size than was asked for.
    """
    settings = plain(config).get("training")
    if not settings:
        return None
    from transformers import TrainingArguments

    bf16, fp16, reason = runs.choose_precision(config.precision, settings.get("bf16"), settings.get("fp16"))
    settings |= {"bf16": bf16, "fp16": fp16, "use_cpu": not runs.has_accelerator()}
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(directory / "tensorboard")
    try:
        args = TrainingArguments(output_dir=str(directory / "checkpoints"), **settings)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"training: {str(error).strip().splitlines()[0]}") from error
    args.precision_reason = reason
    runs.check_world_size(args.world_size)
    return args


def to_yaml(config: DictConfig) -> str:
    """The resolved configuration, as config.yaml keeps it."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def open_run(config: DictConfig) -> runs.Run:
    """The run directory of `config`; see `runs.Run` for what it refuses."""
    return runs.Run(run_directory(config), config.resume, config.overwrite)


def prepare_process(config: DictConfig) -> None:
    """Threads and seeds, before anything is drawn or computed."""
    from voicecommand import training

    runs.set_threads(config.threads)
    training.seed_everything(config.seed)


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return runs.RANK == 0


def command() -> list[str]:
    """The command as it was typed, without the paths of this machine."""
    return ["python", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def record(config: DictConfig, args: Any) -> dict[str, Any]:
    """What run.json says of the command and the choices."""
    import torch

    choices = config.choices
    return {
        "command": command(),
        "task": "text_classification",
        "seed": config.seed,
        "world_size": runs.WORLD_SIZE,
        "threads": torch.get_num_threads(),
        "precision": None if args is None else "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "precision_reason": None if args is None else args.precision_reason,
        "data": choices.data,
        "model": choices.model,
        "tuning": None if choices.tuning == "none" else choices.tuning,
    }


def show_result(run: runs.Run) -> float | None:
    """The last lines of a run on the terminal; answers the sweep's objective, macro F1 on validation."""
    from voicecommand.evaluation import format_summary

    if not is_main_process():
        return None
    metrics = json.loads((run.directory / "metrics.json").read_text(encoding="utf-8"))
    saved = json.loads((run.directory / "run.json").read_text(encoding="utf-8"))
    model = saved["model"]
    at = f" at {model['revision'][:12]}" if model["revision"] else ""
    print(f"\n{model['name']} is {model['checkpoint'] or 'fitted on this data alone'}{at}")
    print(format_summary(metrics))
    print(f"report: {run.directory / 'report.html'}")
    return metrics["splits"]["validation"]["macro_f1"]["value"]
