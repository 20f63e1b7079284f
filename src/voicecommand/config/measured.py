"""The data that a saved run is measured on: its own, or other data of one's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from voicecommand import files
from voicecommand.config import identity, objects
from voicecommand.config.groups import read_choice
from voicecommand.config.overrides import check_saved_config
from voicecommand.errors import InputError
from voicecommand.run import records

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)
PATHS = ("path", "words", "grammar", "test_path")
MADE = ("validation", "test")  # the splits that are taken from train where they are missing


@dataclass(frozen=True)
class Measured:
    """Data to measure a run on.

    Attributes:
        name: as in the names of directories, such as `commands` or `file-requests`.
        dataset: all its splits.
        is_own: whether it is the data that the run was trained on, split as then.
    """

    name: str
    dataset: DatasetDict
    is_own: bool


def load_data(config: DictConfig, run: Path, columns: tuple[str, ...]) -> Measured:
    """The data that `config.data` names, or without one that of the run.

    Raises:
        InputError: as the source; the run's records are not as a run writes them; the run does not say what its data
            was, or says it in a way that it may not.
    """
    records.read_data(run)  # a record that can't be read is said before anything is measured
    records.read_json([run], "history.json")
    if config.data is None:
        choice, section = _read_own(run)
        logger.info("the run's own data: %s", identity.data_name(choice, section))
    else:
        choice, given = str(config.choices.data), objects.plain(config)["data"]
        own = _own_section(run, choice, given)
        if own is None:
            name = identity.data_name(choice, given)
            return Measured(name, load_whole(config, config.split, columns), False)
        section = own
        logger.info("this is the data that the run was trained on: it is split as in training")
    try:
        dataset = objects.build(OmegaConf.create({"data": section}).data, columns=columns)
    except InputError as error:
        raise InputError(f"the run's own data: {error}; data=NAME measures the run on other data") from error
    except TypeError as error:  # a key that no source has, in a config.yaml from anywhere
        raise InputError(f"{run / 'config.yaml'}: data: {error}") from error
    return Measured(identity.data_name(choice, section), dataset, True)


def warn_of_test(given: Measured, config: DictConfig) -> None:
    """Warn if a threshold is set on the run's own test split, whose figures then are no test of it."""
    if config.save and given.is_own and config.split == "test":
        logger.warning("the threshold is set on the run's own test split, which can't measure it any more")


def load_whole(config: DictConfig, split: str, columns: tuple[str, ...]) -> DatasetDict:
    """The splits of `config.data`. One's own data without splits is `split` as a whole, unless its split was set."""
    if config.choices.data in ("file", "folder", "hub") and _is_default(config.choices.data, config.data):
        data = OmegaConf.merge(config.data, {"split": dict.fromkeys(MADE, 0.0)})
        dataset = objects.build(OmegaConf.create({"data": data}).data, columns=columns)
        if split in dataset:
            return dataset
        if len(dataset) == 1 and (only := next(iter(dataset))) in MADE and split in MADE:
            logger.info("the file's own name says %s; its %s rows are %s", only, f"{len(dataset[only]):,}", split)
            return type(dataset)({split: dataset[only]})
        if split in MADE and "train" in dataset and not {*MADE} & {*dataset}:
            rows = dataset.pop("train")
            logger.info("the data has no splits: all its %s rows are %s", f"{len(rows):,}", split)
            return type(dataset)({split: rows, **dataset})
    return objects.load_data(config, columns)


def _is_default(choice: str, section: Mapping[str, Any]) -> bool:
    """Whether the data is split as its yaml says, and the command line says nothing about it."""
    return (section.get("split") or {}) == (read_choice("data", choice).get("split") or {})


def _read_own(run: Path) -> tuple[str, dict[str, Any]]:
    """The choice of data= and its section in the run's config.yaml, as the section is read now.

    Raises:
        InputError: there is none, or it names anything but a source of data, or refers to other values.
    """
    path = run / "config.yaml"
    try:
        check_saved_config(run)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        choice, section = str(content["choices"]["data"]), dict(content["data"])
        target = str(section["_target_"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: does not say what data the run was trained on; give data=NAME") from error
    present = {then: now for now, then in identity.HASHED_TARGETS.items()}
    section["_target_"] = present.get(target, target)
    try:
        objects.check_targets({"data": section})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if "${" in str(section):
        raise InputError(f"{path}: data: may not refer to other values by ${{...}}")
    return choice, _placed(section, run)


def _placed(section: dict[str, Any], run: Path) -> dict[str, Any]:
    """The section with paths that were relative to the working directory of then, where the file is still there."""
    then = _working_directory(run)

    def place(path: Any) -> Any:
        there = then / str(path)
        return str(there) if path is not None and there != Path(str(path)).absolute() and there.exists() else path

    named = {key: place(section[key]) for key in PATHS if key in section}
    if isinstance(section.get("files"), Mapping):
        named["files"] = {split: place(file) for split, file in section["files"].items()}
    return section | named


def _working_directory(run: Path) -> Path:
    """Where the run was trained; the present one if the run does not say."""
    try:
        return Path(files.read_json(run / "run.json")["working_directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return Path.cwd()


def _own_section(run: Path, choice: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section to read if the given one names the files that the run was trained on, however their paths are
    written: the run's own, unless the given one says how to split; None for other data."""
    try:
        _, own = _read_own(run)
    except InputError:
        return None
    kept = [key for key in own.keys() & given.keys() if key not in (*PATHS, "files", "column_map", "split")]
    if _files_of(own) != _files_of(given) or any(own[key] != given[key] for key in kept):
        return None
    return own if _is_default(choice, given) else dict(given)


def _files_of(section: Mapping[str, Any]) -> list[str]:
    """The resolved paths of a section."""
    named = [*(section.get(key) for key in PATHS), *(section.get("files") or {}).values()]
    return [str(Path(str(path)).expanduser().resolve()) for path in named if path is not None]
