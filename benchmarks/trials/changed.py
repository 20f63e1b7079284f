"""Data, base checkpoint or settings change between: a run is not continued with others, and says what changed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import damage, faults, material
from trials.material import Kind
from trials.references import References
from trials.row import Row, Trial

Lines = list[str]  # of the CSV file, after its header


def swap_labels(lines: Lines) -> Lines:
    first = next(i for i, line in enumerate(lines) if line.endswith(",on,train"))
    second = next(i for i, line in enumerate(lines) if line.endswith(",off,train"))
    lines[first], lines[second] = (
        lines[first].replace(",on,", ",off,"),
        lines[second].replace(",off,", ",on,"),
    )
    return lines


def edit_text(lines: Lines) -> Lines:
    return [line.replace("kitchen lights one", "kitchen lights two two") for line in lines]


def rename_label(lines: Lines) -> Lines:
    return [line.replace(",play,", ",listen,") for line in lines]


def move_row(lines: Lines) -> Lines:
    """From train to test."""
    return [lines[0].replace(",train", ",test"), *lines[1:]]


# what is done to the data -> (how, words of which one must be in the line)
DATA: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "labels swapped": (swap_labels, "label"),
    "a text edited": (edit_text, "text"),
    "rows removed": (lambda lines: lines[2:], "row"),
    "a row added": (lambda lines: [*lines, "turn on the lamp,on,train"], "row"),
    "rows sorted": (sorted, "order"),
    "a label renamed": (rename_label, "label"),
    "a row moved to another split": (move_row, "row"),
}
CHECKPOINT: dict[str, tuple[str, damage.Damage]] = {
    "other weights": ("model.safetensors", damage.edit_tensors(lambda tensors: _add(tensors, 0.5))),
    "a NaN in the weights": ("model.safetensors", damage.edit_tensors(damage.put_nan)),
    "other words": ("tokenizer.json", lambda path: path.write_text(path.read_text().replace('"kitchen"', '"cellar"'))),
    "another dropout": ("config.json", damage.edit_state(hidden_dropout_prob=0.3)),
}
# a run with other settings has another directory, which is not there yet
SETTINGS = ("training.learning_rate=1e-3", "training.per_device_train_batch_size=8", "seed=7")


def _add(tensors: dict[str, Any], value: float) -> None:
    for tensor in tensors.values():
        tensor.add_(value)


def build(references: References, is_full: bool) -> Row:
    """15 trials, or 4."""
    changes = DATA if is_full else {name: DATA[name] for name in ("labels swapped", "rows sorted")}
    trials = [Trial(what, _data(references, change, word), "data and labels")
              for what, (change, word) in changes.items()]  # fmt: skip
    bases = CHECKPOINT if is_full else {name: CHECKPOINT[name] for name in ("other weights",)}
    trials += [Trial(f"base checkpoint: {what}", _base(references, file, change), "base checkpoint")
               for what, (file, change) in bases.items()]  # fmt: skip
    if is_full:
        trials += [Trial("a recording changed", _recording(references), "data and labels")]
    settings = SETTINGS if is_full else SETTINGS[:1]
    trials += [Trial(f"settings: {word}", _setting(references, word), "settings") for word in settings]
    kinds = ("text", "speech") if is_full else ("text",)
    return Row(
        "changed",
        "data, base checkpoint or settings changed between",
        "A run is killed, something that it began with is changed, and it is resumed. It must end with exit code 2 and"
        " one line that names what changed.",
        trials,
        "what the run began with is not compared",
        [Trial("sabotaged", _data(references, swap_labels, "label", compare_nothing)),
         Trial("sabotaged, settings", _setting(references, SETTINGS[0], compare_nothing))],
        lambda: references.make_stopped(*kinds),
    )  # fmt: skip


def compare_nothing(rank: int) -> None:
    from voicecommand.run import inputs

    inputs.find_changes = inputs.find_setting_changes = lambda *_: []


def _refused(kind: Kind, folder: Path, word: str, change: Callable[[int], None] | None = None, *more: str) -> str:
    program = material.train(kind, folder, "resume=true", *more, change=change, log="resume")
    code, lines = program.wait()[0], program.error_lines()
    if code != 2 or len(lines) != 1:
        return f"exit {code}: {program.last_line()}"
    return "" if word in lines[0] else f"the line does not say {word.strip()!r}: {lines[0]}"


def _stopped_with(references: References, folder: Path, key: str, place: Path) -> Kind:
    """A run that was killed, and whose data or base checkpoint is its own copy at `place`."""
    kind = references.kinds["speech" if place.name == "tones" else "text"]
    argv = (*(word for word in kind.argv if not word.startswith(f"{key}=")), f"{key}={place}")
    kind = dataclasses.replace(kind, argv=argv)
    material.train(kind, folder, change=faults.die_at_step(kind.save + 2)).wait()
    return kind


def _source(references: References, key: str) -> Path:
    """The path that the kinds have for this key."""
    kind = references.kinds["text" if key == "model.checkpoint" else "speech"]
    return Path(next(word for word in kind.argv if word.startswith(f"{key}=")).partition("=")[2])


def _data(
    references: References,
    edit: Callable[[Lines], Lines],
    word: str,
    change: Callable[[int], None] | None = None,
) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        source = next(w for w in references.kinds["text"].argv if w.startswith("data.path=")).partition("=")[2]
        place = folder / "commands.csv"
        shutil.copy(source, place)
        kind = _stopped_with(references, folder, "data.path", place)
        header, *lines = place.read_text().splitlines()
        place.write_text("\n".join([header, *edit(lines)]) + "\n")
        return _refused(kind, folder, word, change)

    return run


def _base(references: References, file: str, edit: damage.Damage) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        place = folder / "bert"
        shutil.copytree(_source(references, "model.checkpoint"), place)
        kind = _stopped_with(references, folder, "model.checkpoint", place)
        edit(place / file)
        return _refused(kind, folder, "checkpoint")

    return run


def _recording(references: References) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        place = folder / "tones"
        shutil.copytree(_source(references, "data.path"), place)
        kind = _stopped_with(references, folder, "data.path", place)
        shutil.copy(place / "1.wav", place / "3.wav")
        return _refused(kind, folder, "recording")

    return run


def _setting(references: References, word: str, change: Callable[[int], None] | None = None) -> Callable[[Path], str]:
    """In the command, and in the directory of the run that was stopped."""

    def run(folder: Path) -> str:
        kind = references.kinds["text"]
        references.copy_stopped("text", folder)
        named = f" has other settings: {word.partition('=')[0]} was "
        return _refused(kind, folder, named, change, word)

    return run
