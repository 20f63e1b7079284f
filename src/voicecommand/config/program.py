"""From the command line to settings: overrides are checked, the configuration is composed and made plain and typed.

Nothing behind it knows Hydra. `recipe` wraps a recipe's `main`; the rest of this file is what `main` calls.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import tempfile
import typing
from collections.abc import Callable
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from voicecommand.config import groups, loading
from voicecommand.config.groups import COMPOSITION_ERRORS, compose_files
from voicecommand.config.overrides import check_overrides, expand_home, explain, finish, take_length
from voicecommand.config.schema import register_schemas, training_defaults
from voicecommand.errors import InputError
from voicecommand.run import exits, logs, machine, processes

logger = logging.getLogger(__name__)
# Options of Hydra's own parser that read configurations from elsewhere, unpickle one, or answer for other programs.
UNUSED_OPTIONS = (
    "config_path", "config_name", "config_dir", "experimental_rerun", "info", "hydra_help", "shell_completion",
    "resolve",
)  # fmt: skip


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
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    logs.set_up_logging()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of Hydra's own page
    return exits.answer_exit_code(lambda: _run_hydra(name, main))


def _run_hydra(name: str, main: Callable[[DictConfig], Any]) -> None:
    register_schemas()
    options = _parse_options(name)
    if name == "train":
        processes.check_launch()
    check_overrides(name, options.overrides, options.multirun)
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
        if options.help:
            sys.stdout.write(f"{groups.format_help(name, options.overrides)}\n")
            return
        if options.cfg == "job":
            sys.stdout.write(format_config(name, options.overrides, options.package))
            return
        with tempfile.TemporaryDirectory() as scratch:  # where Hydra leaves a note of its own on each multirun
            OmegaConf.register_new_resolver("scratch", lambda: scratch, replace=True)
            hydra = loading.start(groups.CONF, name, options.multirun)
            (hydra.multirun if options.multirun else hydra.run)(name, job, options.overrides)
    except COMPOSITION_ERRORS as error:
        raise InputError(explain(name, error, options.overrides)) from error
    if failures:
        raise failures[0]


def format_config(name: str, overrides: list[str], package: str | None = None) -> str:
    """The page of `--cfg job`: the values that would be used, as YAML. What has to be given stays `???`.

    Args:
        package: a key, to show only what is below it.
    """
    config = compose_files(name, overrides)
    with open_dict(config):
        del config["hydra"]
    take_length(config, overrides)
    content: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    unset = sorted(key for key, value in (content.get("training") or {}).items() if value == MISSING)
    defaults = training_defaults()
    for key in unset:
        if key in defaults:
            content["training"][key] = defaults[key]
        else:
            del content["training"][key]
    shown = OmegaConf.create(content)
    if package is not None:
        part = OmegaConf.select(shown, package, default=MISSING)
        if part == MISSING:
            raise InputError(f"--package {package}: no such key; leave --package out to see all")
        return OmegaConf.to_yaml(part) if OmegaConf.is_config(part) else f"{part}\n"
    decided = ", ".join(key for key in unset if key not in defaults)
    return OmegaConf.to_yaml(shown) + (f"# of training, the run decides {decided}\n" if decided else "")


def _parse_options(name: str) -> Any:
    parser = get_args_parser()

    def refuse(message: str) -> typing.NoReturn:
        raise InputError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_args()
    for option in UNUSED_OPTIONS:
        if getattr(options, option):
            raise InputError(f"--{option.replace('_', '-')}: not an option of the recipes; see --help")
    if options.cfg not in (None, "job"):
        raise InputError(f"--cfg {options.cfg}: only --cfg job shows a configuration")
    if options.multirun and name != "train":
        raise InputError(f"-m is for recipes/train.py; recipes/{name}.py runs once")
    if options.multirun and processes.WORLD_SIZE > 1:
        raise InputError(f"-m under {processes.WORLD_SIZE} processes: run a sweep in one process")
    return options


def _run_job(name: str, main: Callable[[DictConfig], Any], config: DictConfig, number: int) -> Any:
    overrides = _job_overrides()
    config = finish(name, config, dict(HydraConfig.get().runtime.choices), overrides)
    if not is_multirun():
        return main(config)
    machine.start_job(number)
    objective = main(config)
    logger.info("job %d: %s (%s)", number, objective.line(), " ".join(overrides))
    return objective.value


def _job_overrides() -> list[str]:
    overrides: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[assignment]
    return overrides


def compose(name: str, overrides: list[str]) -> DictConfig:
    """The configuration that `python recipes/<name>.py <overrides>` would run with.

    Raises:
        InputError: an override that the recipe would refuse.
    """
    register_schemas()
    overrides = [expand_home(override) for override in overrides]
    check_overrides(name, overrides)
    try:
        config = compose_files(name, overrides)
    except COMPOSITION_ERRORS as error:
        raise InputError(explain(name, error, overrides)) from error
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return finish(name, config, choices, overrides)


def is_multirun() -> bool:
    """Whether this is one job of `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return processes.RANK == 0
