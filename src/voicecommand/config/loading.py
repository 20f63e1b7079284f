"""Hydra's reading of conf/, so that no configuration names code for Hydra to call.

Hydra instantiates what its own section `hydra` names (callbacks, launcher, sweeper, logging) before a recipe's `main`
runs, imports the modules in its search path, and unpickles a run to repeat it. So that section is as conf/RECIPE.yaml
has it, whatever a file of a group or an override says, and only files of conf/ are read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from voicecommand import files
from voicecommand.errors import InputError

_PLUGINS = "hydra._internal.core_plugins"
_SILENT = {"version": 1, "root": None, "disable_existing_loggers": False}
# The section `hydra` where conf/RECIPE.yaml says nothing. Another launcher or sweeper is not allowed yet.
_DEFAULTS: dict[str, Any] = {
    "callbacks": {},
    "env": {},
    "hydra_logging": _SILENT,
    "job": {
        "env_set": {},
        "env_copy": [],
        "config": {"override_dirname": {"kv_sep": "=", "item_sep": ",", "exclude_keys": []}},
    },
    "job_logging": _SILENT,
    "launcher": {"_target_": f"{_PLUGINS}.basic_launcher.BasicLauncher"},
    "mode": None,
    "searchpath": [],
    "sweep": {"dir": "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}", "subdir": "${hydra.job.num}"},
    "sweeper": {"_target_": f"{_PLUGINS}.basic_sweeper.BasicSweeper", "max_batch_size": None, "params": None},
    "verbose": False,
}
# What Hydra writes into its section while it composes, and texts that it only prints.
_FILLED = {"overrides", "runtime", "help", "hydra_help"}
_FILLED_OF_JOB = {"name", "override_dirname", "id", "num", "config_name"}


class _Repository(ConfigRepository):
    """Reads a file of conf/ only if it lies there, is small, and has no aliases."""

    folder: Path

    def load_config(self, config_path: str) -> ConfigResult | None:
        path = Path(os.path.normpath(self.folder / f"{config_path.removesuffix('.yaml')}.yaml"))
        if not path.is_relative_to(self.folder):
            raise InputError(f"{path}: outside {self.folder}, where all files of a configuration are; copy it there")
        if path.is_file():
            files.check_yaml(path)
        return super().load_config(config_path)


class _Loader(ConfigLoaderImpl):
    """Refuses a configuration that changes the section `hydra`."""

    def __init__(self, folder: Path, multirun: bool) -> None:
        super().__init__(create_config_search_path(str(folder)))
        self.folder, self.multirun = folder, multirun
        self.repository = _Repository(self.config_search_path)
        self.repository.folder = folder

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        for override in overrides:  # the search path is read before anything is composed
            if is_hydra_key(override.lstrip("+~").split("=")[0]):
                raise InputError(refuse_hydra(override.split("=")[0]))
        config = super().load_configuration(config_name, overrides, *args, **kwargs)
        _check(self.folder / f"{config_name}.yaml", config.hydra, overrides)
        if self.multirun:
            config.hydra.mode = RunMode.MULTIRUN
        return config


def start(folder: Path, name: str, multirun: bool = False) -> Hydra:
    """Hydra, set up for the files of a folder; it replaces the one before.

    Args:
        folder: conf/.
        name: of the recipe.
        multirun: whether each job's configuration says that it is one of `-m`.
    """
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    started = Hydra(task_name=name, config_loader=_Loader(folder, multirun))
    GlobalHydra.instance().initialize(started)
    return started


def is_hydra_key(key: str) -> bool:
    """Whether an override's key, or its package after the @, is of the section `hydra`."""
    return any(part.strip().lstrip("/").replace("/", ".").split(".")[0] == "hydra" for part in key.split("@"))


def refuse_hydra(key: str) -> str:
    """The error of a key of the section `hydra`."""
    return f"{key}: the recipes set Hydra up themselves, because it calls what its section names; leave it out"


def _check(file: Path, section: DictConfig, overrides: list[str]) -> None:
    """Compare the section `hydra` with that of a recipe's file.

    Raises:
        InputError: they differ.
    """
    own = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]
    expected = _DEFAULTS | own | {"job": _DEFAULTS["job"] | own["job"]}
    found: dict[str, Any] = OmegaConf.to_container(section, resolve=False)  # type: ignore[assignment]
    found["job"] = {key: value for key, value in found["job"].items() if key not in _FILLED_OF_JOB}
    for key in sorted({*found, *expected} - _FILLED):
        if where := _differing(found.get(key), expected.get(key), f"hydra.{key}"):
            chosen = [o for o in overrides if not re.search(r"[./]", o.split("=")[0])]
            by = f"a file of {', '.join(chosen)}" if chosen else f"a file that {file.name} names"
            raise InputError(f"{where}: set by {by}, and only conf/{file.name} sets Hydra up; remove it there")


def _differing(found: Any, expected: Any, where: str) -> str:
    """The first key at which two nodes differ; "" if they are the same."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}, key=str):
            if below := _differing(found.get(key), expected.get(key), f"{where}.{key}"):
                return below
        return ""
    return "" if type(found) is type(expected) and found == expected else where
