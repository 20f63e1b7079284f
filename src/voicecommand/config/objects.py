"""Objects of a configuration: the class or function in a section's `_target_`, called with the section's keys."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from voicecommand.errors import InputError, MissingColumn

# A column that a model reads: what is in it, what the data may have instead, and models for that.
FITTING = {
    "text": ("texts", "recordings", "model=mfcc_svm, model=bcresnet or model=whisper"),
    "audio": ("recordings", "texts", "model=tfidf_svm or model=bert"),
}


@dataclass(frozen=True)
class _Place:
    """What the `_target_` of a section may name."""

    what: str
    pattern: re.Pattern[str]
    fits: Callable[[Any], bool]


def _is_task(target: Any) -> bool:
    bases = [f"{base.__module__}.{base.__name__}" for base in getattr(target, "__mro__", ())]
    return "voicecommand.tasks.base.Task" in bases and not inspect.isabstract(target)


def _is_settings(target: Any) -> bool:
    return inspect.isclass(target) and dataclasses.is_dataclass(target)


PLACES = {
    "data": _Place(
        "a function voicecommand.data.sources.NAME.load_NAME",
        re.compile(r"voicecommand\.data\.sources\.\w+\.load_\w+", re.ASCII),
        inspect.isfunction,
    ),
    "model": _Place("a task in voicecommand.tasks", re.compile(r"voicecommand\.tasks\.\w+\.\w+", re.ASCII), _is_task),
    "tuning": _Place(
        "a class of settings in voicecommand.models.tuning",
        re.compile(r"voicecommand\.models\.tuning\.\w+", re.ASCII),
        _is_settings,
    ),
    "augment": _Place(
        "a class of settings in voicecommand.audio.augmentation",
        re.compile(r"voicecommand\.audio\.augmentation\.\w+", re.ASCII),
        _is_settings,
    ),
}
# Keys that Hydra's `instantiate` obeys; none but the first has a meaning here.
OBEYED = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


def check_targets(content: Any, path: tuple[str, ...] = ()) -> None:
    """Check that a configuration, as plain Python before its references are followed, names only what is meant for it.

    Raises:
        InputError: a `_target_` names something else or stands elsewhere than in a section that is built, or there is
            another key that Hydra's `instantiate` would obey.
    """
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        where = ".".join((*path, str(key)))
        if key in OBEYED:
            place = PLACES.get(path[0]) if len(path) == 1 and key == "_target_" else None
            if place is None:
                raise InputError(f"{where}: only {', '.join(PLACES)} have a _target_, and no such key; leave it out")
            if not place.pattern.fullmatch(str(value)):
                raise InputError(f"{where}={value}: only {place.what} may be named there")
        check_targets(value, (*path, str(key)))


def build(section: DictConfig | None, **kwargs: Any) -> Any:
    """Call the `_target_` of a section with the section's keys and `kwargs`; None for an empty section.

    Raises:
        InputError: the target is missing or not one that is meant for this section, or a value has another type than
            the target declares.
    """
    if not section:  # no such group, or an empty option such as augment=none
        return None
    group = str(section._key())
    settings: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # type: ignore[assignment]
    target = _find(group, settings.pop("_target_", None))
    annotations = {k: v.annotation for k, v in inspect.signature(target).parameters.items() if k in settings}
    names = vars(sys.modules[target.__module__])
    hints = typing.get_type_hints(types.SimpleNamespace(__annotations__=annotations), names)
    for key, hint in hints.items():
        if type(settings[key]) is int and not _fits(settings[key], hint) and _fits("", hint):
            settings[key] = str(settings[key])  # data.path=123 is a name
        if not _fits(settings[key], hint):
            raise InputError(f"{group}.{key}={settings[key]}: is not of type {annotations[key]}")
    return target(**settings, **kwargs)


def _find(group: str, name: object) -> Callable[..., Any]:
    """The class or function of a dotted name; no module is imported before the name fits the section `group`."""
    check_targets({group: {"_target_": name}})
    path, _, member = str(name).rpartition(".")
    try:
        target: Callable[..., Any] = getattr(importlib.import_module(path), member)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("voicecommand"):
            raise
        raise InputError(f"{group}._target_={name}: there is no such class or function") from error
    if not PLACES[group].fits(target) or target.__module__ != path:
        raise InputError(f"{group}._target_={name}: is not {PLACES[group].what}")
    return target


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a configuration has the type of a signature; mappings are checked where they are read."""
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
    """The DatasetDict of `config.data` with the columns that a task needs.

    Raises:
        InputError: as the source says; if the data lacks what the model reads, with models that would fit.
    """
    try:
        return build(config.data, columns=columns)
    except MissingColumn as error:
        if error.name not in FITTING:
            raise
        what, others, models = FITTING[error.name]
        reader = f"model={config.choices.model}" if config.choices.get("model") else "the model of this run"
        raise InputError(f"{error}; {reader} reads {what}, and for {others} there are {models}") from None


def default_columns(config: DictConfig) -> tuple[str, ...]:
    """The default of the parameter `columns` of the source of `config.data`.

    Raises:
        InputError: it has none.
    """
    parameter = inspect.signature(_find("data", config.data._target_)).parameters["columns"]
    if parameter.default is parameter.empty:
        raise InputError(f"columns=null: {config.data._target_} has no default; give columns=[audio,label] or others")
    return tuple(parameter.default)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without unset keys, as plain Python."""
    content: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if isinstance(content.get("training"), dict):
        content["training"] = {k: v for k, v in content["training"].items() if v != MISSING}
    return content


def to_yaml(config: DictConfig) -> str:
    """The resolved configuration, as in config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))
