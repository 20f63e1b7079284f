"""The folders of conf/ and their files."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from voicecommand.config import loading

# The errors of Hydra for a wrong override, and for a file in conf/ that is not valid YAML.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
# Settings and groups that only networks use.
NETWORK_ONLY = ("training", "tuning", "augment", "precision", "early_stopping")
CONF = Path(__file__).resolve().parents[3] / "conf"


def compose_files(name: str, overrides: list[str]) -> DictConfig:
    """The configuration of conf/<name>.yaml with overrides, and Hydra's own section.

    Raises:
        InputError: the section `hydra` is changed, or a file is not one that is read.
        HydraException, OmegaConfBaseException, yaml.YAMLError: COMPOSITION_ERRORS, an override or a file is wrong.
    """
    loading.start(CONF, name)
    return hydra.compose(config_name=name, overrides=overrides, return_hydra_config=True)


def list_groups() -> set[str]:
    """The names of the folders of conf/."""
    return {path.name for path in CONF.iterdir() if path.is_dir()}


def list_choices(group: str) -> list[str]:
    """The names that may be given as GROUP=NAME: its files, without `base`, which others include."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


def read_choice(group: str, choice: str) -> dict[str, object]:
    """The content of a file of a group, without what it includes."""
    content: dict[str, object] = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    return content


def format_help(name: str, overrides: list[str]) -> str:
    """The page of `--help`, with the groups and settings that the recipe has, and the model if one is named.

    Hydra's own page takes three times as long, because it copies every schema for each folder; it also lists parts.
    """
    config = compose_files(name, overrides)
    chosen = config.hydra.runtime.choices
    unused: set[str] = set()
    if any(override.split("=")[0] in ("model", "experiment") for override in overrides):
        unused = set(NETWORK_ONLY) - {"precision", "early_stopping"} - set(chosen)
        unused |= set(NETWORK_ONLY) if "training" in unused else set()
    lines = [f"{g}: {', '.join(list_choices(g))}" for g in sorted((list_groups() & {*config, *chosen}) - unused)]
    page: str = config.hydra.help.template.replace("$APP_CONFIG_GROUPS", "\n".join([*lines, ""]))
    for key in unused:
        page = re.sub(rf"^  {key}[=.].*\n", "", page, flags=re.MULTILINE)
        page = page.replace(f", {key}.KEY", "")
    return page


def list_options(group: str, near: str = "") -> str:
    """A phrase for errors: the options of a group, and the one that `near` most likely means."""
    options = list_choices(group)
    close = difflib.get_close_matches(near.lower().replace("-", "_"), options, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"there are {', '.join(options)}"


def inside_project(name: str) -> str:
    """A path relative to the project, if it is inside it."""
    root = CONF.parent
    return str(Path(name).relative_to(root)) if Path(name).is_relative_to(root) else name
