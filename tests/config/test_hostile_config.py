"""No configuration runs code: not by an override, an option, a file of conf/ from a stranger, or a run's config.yaml.

Each attack would leave the file `ran` if it worked. All end in one line and exit code 2, before anything is written.
"""
# ruff: noqa: E501  (one attack a line)

from __future__ import annotations

import logging.config
import os
import pickle
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import run_recipe
from voicecommand import files
from voicecommand.config import groups, overrides, program
from voicecommand.errors import InputError

RAN = "{place}/ran"
CALL = "{_target_: os.system, command: 'touch {place}/ran'}"
LOAD = "{_target_: numpy.load, file: '{place}/evil.npy', allow_pickle: true}"
MODULE = "import pathlib; pathlib.Path('{place}/ran').touch()\n"
FACTORY = "{version: 1, root: {handlers: [x]}, handlers: {x: {'()': evil_module.run}}, disable_existing_loggers: false}"
FORMATTER = "{version: 1, root: {handlers: [x]}, handlers: {x: {class: logging.StreamHandler, formatter: y}}, formatters: {y: {class: evil_module.run}}}"


@dataclass(frozen=True)
class Attack:
    """What a stranger brings: overrides, and a file experiment=evil, in which `{place}` is the test's folder."""

    name: str
    argv: tuple[str, ...] = ("experiment=evil",)
    experiment: str = ""
    pattern: str = r"hydra"


def of_hydra(node: str, value: str) -> list[Attack]:
    """The node set by an override, and by a file."""
    keys = node.split(".")
    nested = "".join(f"{'  ' * i}{key}:{'' if i + 1 < len(keys) else ' ' + value}\n" for i, key in enumerate(keys))
    return [
        Attack(f"{node} by an override", (f"{node}={value}",)),
        Attack(f"{node} by a file", experiment=f"# @package _global_\n{nested}"),
    ]


NODES = {
    "hydra.callbacks.x": CALL,
    "hydra.launcher": CALL,
    "hydra.launcher._target_": "os.abort",
    "hydra.sweeper": CALL,
    "hydra.sweeper.params": "{seed: '1,2'}",
    "hydra.job_logging": FACTORY,
    "hydra.hydra_logging": FORMATTER,
    "hydra.job_logging.root": "{level: DEBUG}",
    "hydra.searchpath": "['pkg://evil_module', 'file://{place}/evil']",
    "hydra.env": CALL,
    "hydra.job.env_set": "{PYTHONPATH: '{place}'}",
    "hydra.job.env_copy": "[HOME]",
    "hydra.job.chdir": "true",
    "hydra.run.dir": "'{place}/ran'",
    "hydra.sweep.dir": "'{place}/ran'",
    "hydra.output_subdir": "ran",
    "hydra.mode": "MULTIRUN",
    "hydra.verbose": "true",
    "hydra.nothing": CALL,
}
ATTACKS = [
    *(attack for node, value in NODES.items() for attack in of_hydra(node, value)),
    Attack("a callback added by force", (f"++hydra.callbacks.x={CALL}",)),
    Attack("a callback by a file's package", experiment=f"# @package hydra.callbacks\nx: {CALL}\n"),
    Attack("a callback in a multirun", ("-m", "experiment=evil", "seed=1,2"), f"# @package _global_\nhydra:\n  callbacks:\n    x: {CALL}\n"),
    Attack("a callback in a job of a multirun", ("-m", "experiment=null,evil", "model=nope"), f"# @package _global_\nhydra:\n  callbacks:\n    x: {CALL}\n", pattern="model=nope: no such model"),
    Attack("logging in a multirun", ("-m", "experiment=evil", "seed=1,2"), f"# @package _global_\nhydra:\n  job_logging: {FACTORY}\n"),
    Attack("a pickle by a callback", ("+hydra.callbacks.x._target_=numpy.load", "+hydra.callbacks.x.file={place}/evil.npy", "+hydra.callbacks.x.allow_pickle=true")),
    Attack("a pickle by a callback of a file", experiment=f"# @package _global_\nhydra:\n  callbacks:\n    x: {LOAD}\n"),
    Attack("a group of Hydra", ("hydra/job_logging=default",)),
    Attack("a launcher's group", ("hydra/launcher=basic",)),
    Attack("a group of Hydra at another place", ("+hydra/callbacks@x=evil",)),
    Attack("a group at a place of Hydra", ("model@hydra.callbacks.x=bert",)),
    Attack("a group of Hydra by a file", experiment="# @package _global_\ndefaults:\n  - override /hydra/output: null\n  - override /hydra/help: null\n  - override /hydra/callbacks: evil\n"),
    Attack("a group of Hydra added by a file", experiment="# @package _global_\ndefaults:\n  - /hydra/job_logging@hydra.callbacks.x: default\n"),
    Attack("a file of a group at a place of Hydra", experiment="# @package _global_\ndefaults:\n  - /model@hydra.callbacks.x: tfidf_svm\n"),
    Attack("a launcher that is not there", experiment="# @package _global_\ndefaults:\n  - override /hydra/launcher: joblib\n", pattern=r"hydra/launcher"),
    Attack("the whole section", ("hydra={callbacks: {x: 1}}",), pattern="hydra"),
    Attack("deletion of a node", ("~hydra.job",)),
    Attack("a file outside conf", ("experiment=../../evil/evil",), pattern=r"(outside .*conf|no such experiment)"),
    Attack("a file outside conf by a file", experiment="# @package _global_\ndefaults:\n  - /../../evil/evil@_global_\n", pattern=r"(outside .*conf|no such|not find)"),
    # options of Hydra's own command line
    Attack("a run repeated from a pickle", ("--experimental-rerun", "{place}/evil.npy"), pattern=r"--experimental-rerun: not an option"),
    Attack("another folder", ("--config-dir", "{place}/evil", "experiment=evil"), pattern=r"--config-dir: not an option"),
    Attack("another path", ("--config-path", "pkg://evil_module"), pattern=r"--config-path: not an option"),
    Attack("another recipe", ("--config-name", "evil"), pattern=r"--config-name: not an option"),
    Attack("a shell's completion", ("--shell-completion", "install=bash"), pattern=r"(--shell-completion: not an option|unrecognized)"),
    Attack("Hydra's page", ("--info",), pattern=r"--info: not an option"),
    Attack("Hydra's help", ("--hydra-help",), pattern=r"--hydra-help: not an option"),
    Attack("Hydra's configuration", ("--cfg", "hydra"), pattern=r"only --cfg job"),
    # targets
    *(
        Attack(f"{section} as {target}", (f"{section}._target_={target}", *model), pattern=rf"{section}\._target_={re.escape(target)}: (only|is not|there is no)")
        for section, model, targets in (
            ("data", (), ("os.system", "voicecommand.files.write_text", "voicecommand.data.sources.file.os.system", "voicecommand.data.sources.file.find_files",
                          "voicecommand.data.sources.folder.load_nothing", "voicecommand.data.sources.file.load_files.__call__", "evil_module.load_x",
                          "voicecommand.tasks.text_classification.TfidfSvm", "voicecommand.data.sources.commands.load_files", "voicecommand.recipes.train.main")),
            ("model", ("model=tfidf_svm",), ("os.system", "voicecommand.tasks.saved.CommandModel", "voicecommand.tasks.saved.load", "voicecommand.tasks.base.Task",
                                             "voicecommand.tasks.saved.importlib", "voicecommand.files.write_text", "voicecommand.tasks.text_classification.Path")),
            ("tuning", ("model=bert",), ("os.system", "voicecommand.models.tuning.count_parameters", "voicecommand.models.pretrained.load_model", "voicecommand.models.tuning.nn")),
            ("augment", ("model=bcresnet", "augment=light"), ("os.system", "voicecommand.audio.augmentation.Augmenter", "voicecommand.audio.augmentation.np")),
        )
        for target in targets
    ),
    *(
        Attack(f"{key} in {section or 'the whole'}", experiment=f"# @package _global_\n{key}: {value}\n" if not section else f"# @package _global_\n{section}:\n  {key}: {value}\n", pattern=r"(have a _target_|ConfigKeyError|Key '_|not in|unknown key)")
        for section in ("", "data", "model", "training", "reject")
        for key, value in (("_target_", "os.system"), ("_args_", "[touch ran]"), ("_partial_", "true"), ("_recursive_", "true"), ("_convert_", "all"))
        if key != "_target_" or section not in ("data", "model")
    ),
    Attack("a target within a mapping", experiment=f"# @package _global_\ndata:\n  column_map: {CALL}\n", pattern=r"(have a _target_|not in|ConfigKeyError)"),
    Attack("a target within a list", ("model=tfidf_svm", "experiment=evil"), f"# @package _global_\nmodel:\n  word_ngrams: [{CALL}]\n", pattern=r"have a _target_"),
    Attack("a target by a reference", ("runs=os.system", "data._target_=${runs}"), pattern=r"data\._target_=\$\{runs\}: only"),
    Attack("a target from the environment", ("data._target_=${oc.env:EVIL}",), pattern=r"data\._target_=\$\{oc\.env:EVIL\}: only"),
    # YAML
    Attack("a Python object", experiment="# @package _global_\nseed: !!python/object/apply:os.system ['touch {place}/ran']\n", pattern=r"evil\.yaml:2.*not valid YAML|could not determine a constructor"),
    Attack("a Python name", experiment="# @package _global_\nseed: !!python/name:os.system\n", pattern=r"could not determine a constructor"),
    Attack("aliases that grow", experiment="a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)), pattern=r"evil\.yaml:2: not valid YAML: an alias \(\*name\)"),
    Attack("a deep file", experiment="a: " + "[" * 5000 + "]" * 5000, pattern=r"evil\.yaml:1: not valid YAML: nested deeper than 32 levels"),
    Attack("a large file", experiment="# @package _global_\nruns: " + "x" * 200_000 + "\n", pattern=r"evil\.yaml: more than 100,000 bytes"),
    Attack("a deep override", ("seed=" + "[" * 3000 + "]" * 3000,), pattern=r"^seed"),
    # references
    *(
        Attack(f"a resolver {resolver}", (f"seed={resolver}",), pattern=r"seed")
        for resolver in ("${os.system:touch ran}", "${oc.decode:'!!python/name:os.system'}", "${hydra:callbacks}", "${oc.create:{_target_: os.system}}", "${oc.env:NOT_THERE}", "${eval:1}")
    ),
    Attack("references that grow", experiment="# @package _global_\nruns: " + "${data.version}" * 3000 + "\ndata:\n  version: " + "${precision}" * 3000 + "\nprecision: " + "x" * 3000 + "\n", pattern=r"(runs|data\.version): .*references"),
]  # fmt: skip


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a copy of conf/, a module, a pickle and a folder of configurations of a stranger."""
    shutil.copytree(groups.CONF, tmp_path / "home" / "conf")
    monkeypatch.setattr(groups, "CONF", tmp_path / "home" / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EVIL", "os.system")
    (tmp_path / "evil_module.py").write_text(MODULE.replace("{place}", str(tmp_path)))
    (tmp_path / "evil.npy").write_bytes(pickle.dumps(Evil(f"touch {tmp_path}/ran")))
    (tmp_path / "evil" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  callbacks:\n    x: " + CALL.replace("{place}", str(tmp_path))
    for path in ("evil/evil.yaml", "evil/experiment/evil.yaml"):
        (tmp_path / path).write_text(text)
    yield tmp_path
    sys.modules.pop("evil_module", None)


def test_the_attacks_are_distinct_and_would_leave_a_file(place: Path) -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 100
    with (place / "evil.npy").open("rb") as file:
        pickle.load(file)
    assert (place / "ran").exists()
    (place / "ran").unlink()
    with pytest.raises((ValueError, AttributeError)):
        logging.config.dictConfig({"version": 1, "handlers": {"x": {"()": "evil_module.run"}}})
    assert (place / "ran").exists()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "_"))
def test_no_configuration_runs_code(attack: Attack, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment = (attack.experiment or "# @package _global_\nseed: 1\n").replace("{place}", str(place))
    (groups.CONF / "experiment" / "evil.yaml").write_text(experiment)
    before, began = {path for path in place.rglob("*") if "__pycache__" not in path.parts}, time.process_time()
    code = run_recipe("train", *(word.replace("{place}", str(place)) for word in attack.argv))
    errors = capfd.readouterr().err
    assert not (place / "ran").exists(), "code was run"
    assert code == 2 and errors.count("error: ") == 1 and "Traceback" not in errors, errors
    assert re.search(attack.pattern, errors.split("error: ")[1]), errors[:500]
    assert {path for path in place.rglob("*") if "__pycache__" not in path.parts} == before
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "content",
    [
        "model: {_target_: os.system, command: touch ran}",
        "data: {_target_: voicecommand.files.write_text}",
        "data: {path: {_target_: os.system}}",
        "training: {_partial_: true}",
        "- {_target_: os.system}",
        "a: !!python/object/apply:os.system [touch ran]",
        "a: &a [1]\nb: *a",
        "a: " + "[" * 5000,
        "a: " + "x" * 200_000,
        "a: [",
        "a: \x00",
    ],
)
def test_a_strangers_run_names_nothing_to_call(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml") as caught:
        overrides.check_saved_config(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_multirun_still_knows_that_it_is_one(place: Path) -> None:
    seen = []

    def main(config: object) -> object:
        seen.append((program.is_multirun(), config.seed))  # type: ignore[attr-defined]
        raise InputError("enough")

    sys.argv = ["train.py", "-m", "model=tfidf_svm", "seed=3,4"]
    assert program.run_recipe("train", main) == 2
    assert seen == [(True, 3)]


def test_our_own_configurations_are_read(place: Path) -> None:
    found = sorted((groups.CONF / "experiment").glob("*.yaml"))
    assert len(found) > 5
    for path in found[:3]:
        program.compose("train", [f"experiment={path.stem}", "data.path=x"])
    for path in groups.CONF.rglob("*.yaml"):
        files.check_yaml(path)
