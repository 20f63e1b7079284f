"""Tiny data, a tiny checkpoint, the settings of each kind of training, and what two runs must have in common."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from trials import faults, programs
from trials.programs import Change, Program

NUMBERS = ("one", "two", "ten")
# of history.json: what a clock gives
CLOCKS = ("_runtime", "_per_second")
SAVED = "saved"  # a file beside the runs: the steps that were saved as a whole, one a line
WENT_ON = re.compile(r"training goes on after step (\d+) \((.+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Args:
        argv: of recipes/train.py, less the folder of runs.
        steps: optimizer steps of the whole training.
        save: a checkpoint is saved after so many steps.
    """

    name: str
    argv: tuple[str, ...]
    steps: int
    save: int
    ranks: int = 1


def saving(steps: int) -> tuple[str, ...]:
    words = ("eval_strategy=steps", "save_strategy=steps", f"eval_steps={steps}", f"save_steps={steps}")
    return tuple(f"training.{word}" for word in words)


def write_all(folder: Path) -> dict[str, Kind]:
    """Write the data and the checkpoint of all kinds of training; {name: kind}."""
    folder.mkdir(parents=True, exist_ok=True)
    text, sound, checkpoint = folder / "commands.csv", folder / "tones", folder / "bert"
    large = folder / "large.csv"
    if not (checkpoint / "tokenizer.json").exists():
        write_texts(text, ("", "one", "ten", "two"), 1)
        write_texts(large, [f"{a} {b}" for a in NUMBERS for b in NUMBERS], 6)
        shutil.rmtree(sound, ignore_errors=True)
        write_tones(sound)
        write_checkpoint(checkpoint)
    common = ("precision=fp32", "threads=1", "training.logging_steps=1", "training.report_to=none", "num_proc=1")
    common += ("training.per_device_train_batch_size=16", "training.save_total_limit=2", "data.split.column=split")
    bert = (*common, "model=bert", f"model.checkpoint={checkpoint}", "data=file", f"data.path={text}",
            "training.learning_rate=2e-3")  # fmt: skip
    tones = (*common, "model=bcresnet", "data=folder", f"data.path={sound}")
    # 54 rows of train in batches of 16: an epoch has 4 steps
    steps, save = 12, 3
    every = "training.save_total_limit=20"  # the checkpoint of each step stays
    best = ("training.load_best_model_at_end=true", "training.metric_for_best_model=accuracy", "early_stopping=6")
    half = "training.per_device_train_batch_size=8"

    def kind(name: str, *argv: str, steps: int = steps, save: int = save, ranks: int = 1) -> Kind:
        return Kind(name, (*argv, f"training.max_steps={steps}", *saving(save)), steps, save, ranks)

    kinds = [
        kind("text", *bert),
        kind("speech", *tones),
        kind("two ranks", *bert, half, ranks=2),
        kind("long", *bert, steps=60, save=10),
        kind("long, two ranks", *bert, half, steps=60, save=10, ranks=2),
        kind("text, each step", *bert, every, save=1),
        kind("speech, each step", *tones, every, save=1),
        kind("two ranks, each step", *bert, half, every, save=1, ranks=2),
        kind("two workers, each step", *bert, every, "training.dataloader_num_workers=2", save=1),
        kind("LoRA, each step", *bert, every, "tuning=lora", save=1),
        kind("a run that stops early, each step", *bert, every, *best, f"data.path={large}",
             "training.learning_rate=1e-5", save=1),
        kind("a last step inside an epoch, each step", *bert, every, steps=10, save=1),
    ]  # fmt: skip
    return {kind.name: kind for kind in kinds}


def write_texts(path: Path, numbers: Sequence[str], of_validation: int) -> None:
    """Commands of three labels: 18 for each number, so many of 8 in validation, one in test, the rest in train."""
    verbs = {"on": "turn on the {}", "off": "please turn the {} off now", "play": "play {}"}
    things = [f"{room} {what}" for room in ("kitchen", "bedroom", "hall") for what in ("lights", "fan")]
    rows = ["text,label,split"]
    for label, verb in verbs.items():
        for number, thing in enumerate(f"{t} {n}".strip() for t in things for n in numbers):
            place = number % 8
            split = "test" if place == 7 else "validation" if place >= 7 - of_validation else "train"
            rows.append(f"{verb.format(thing)},{label},{split}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_tones(folder: Path, count: int = 72, samples: int = 8000) -> None:
    """Recordings of half a second: tones that rise or fall, by nine speakers."""
    import numpy as np

    from voicecommand.audio.clips import write_wav

    folder.mkdir()
    rows = ["file_name,label,speaker,split"]
    times = np.arange(samples) / 16_000
    for number in range(count):
        label, speaker = ("up", "down")[number % 2], number * 9 // count
        pitch = (300 + 40 * speaker) * 2.0 ** (times * (2 if label == "up" else -2))
        tone = 9000 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000 + number)
        write_wav(folder / f"{number}.wav", tone.astype(np.int16))
        rows.append(f"{number}.wav,{label},speaker {speaker},{('train', 'validation', 'test')[max(0, speaker - 6)]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_checkpoint(directory: Path) -> None:
    """A BERT of 1 layer, 16 wide, random weights, with dropout, that knows the words of `write_texts`."""
    import torch
    import transformers as t
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    verbs = ["turn", "on", "off", "the", "please", "now", "play"]
    words = [*verbs, "kitchen", "bedroom", "hall", "lights", "fan", *NUMBERS]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = t.BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=16)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = t.BertConfig(vocab_size=len(pieces), max_position_embeddings=16, initializer_range=0.2, **size)
    t.BertForMaskedLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def train(
    kind: Kind, folder: Path, *more: str, change: Change | None = None, is_real: bool = False, log: str = "log"
) -> Program:
    """Start a training whose run directory is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [*kind.argv, f"runs={folder / 'runs'}", *more]
    if is_real:
        return programs.start("train", argv, folder / log, 0 if kind.ranks == 1 else kind.ranks)
    recorded = faults.together(faults.record_saves(folder / SAVED), change)
    return programs.fork("train", argv, folder / log, kind.ranks, recorded)


def find_run(folder: Path) -> Path:
    """The one run directory in `folder/runs`.

    Raises:
        LookupError: there is none, or more.
    """
    found = [path for path in (folder / "runs").glob("*/*") if path.is_dir() and ".old-" not in path.name]
    if len(found) != 1:
        raise LookupError(f"{len(found)} run directories")
    return found[0]


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, by step."""
    found = [p for p in find_run(folder).glob("checkpoints/checkpoint-*") if p.name.split("-")[1].isdigit()]
    return sorted(found, key=step_of)


def status(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((find_run(folder) / "status.json").read_text(encoding="utf-8"))
    except (LookupError, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Result:
    """What a training leaves, less what a clock gives: hashes of the files, and the history."""

    files: dict[str, str]
    history: list[dict[str, Any]]
    steps: int

    def differs_from(self, other: Result) -> str:
        """What differs, in words; "" if nothing does."""
        for name in self.files:
            if self.files[name] != other.files.get(name):
                return f"{name} differs"
        if self.steps != other.steps:
            return f"{self.steps} steps instead of {other.steps}"
        for mine, theirs in zip(self.history, other.history, strict=False):
            if mine != theirs:
                return f"history differs at step {mine.get('step')}"
        return "" if len(self.history) == len(other.history) else "history has another length"


def read_result(folder: Path) -> Result:
    """The result of the finished run in `folder`.

    Raises:
        LookupError: there is none.
    """
    run = find_run(folder)
    if status(folder).get("state") != "finished":
        raise LookupError(f"the run is {status(folder).get('state', 'absent')}")
    hashes = {}
    for name in ("model/model.safetensors", "predictions.parquet"):
        content = (run / name).read_bytes()
        hashes[name] = hashlib.sha256(content).hexdigest()
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    kept = [{k: v for k, v in entry.items() if not k.endswith(CLOCKS)} for entry in history if "step" in entry]
    kept = [entry for entry in kept if "train_loss" not in entry]  # the last entry: its mean is of this process
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return Result(hashes, kept, record["training"]["steps"])


def copy(folder: Path, to: Path) -> Path:
    """A copy of a trial's folder (the run's name does not depend on where it is)."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def finish(kind: Kind, folder: Path, *more: str, change: Change | None = None, is_real: bool = False) -> Program:
    """Go on with the run in `folder`, as a job that is queued again does, and wait for its end."""
    program = train(kind, folder, "resume=auto", *more, change=change, is_real=is_real, log="resume")
    program.wait()
    return program


def check_equal(program: Program, folder: Path, reference: Result) -> str:
    """ "" if the run in `folder` ended like `reference`, or what is wrong."""
    if any(program.codes[pid] for pid in program.pids):
        return f"exit {list(program.codes.values())}: {program.last_line()}"
    try:
        return read_result(folder).differs_from(reference)
    except LookupError as error:
        return str(error)


def newest_whole(folder: Path) -> int:
    """The step of the newest checkpoint whose files, and those of the best one it refers to, are as its manifest says;
    0 if there is none. Not by the code that is tried here."""
    try:
        steps = [step_of(path) for path in checkpoints(folder) if _is_whole(path)]
    except LookupError:  # no run directory yet
        return 0
    return steps[-1] if steps else 0


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _is_whole(checkpoint: Path, is_best: bool = False) -> bool:
    try:
        content = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        for name, entry in content["files"].items():
            if xxhash.xxh3_128_hexdigest((checkpoint / name).read_bytes()) != entry["xxh3_128"]:
                return False
    except (OSError, ValueError):
        return False
    best = content["facts"]["best_step"]
    return is_best or best is None or _is_whole(checkpoint.with_name(f"checkpoint-{best}"), is_best=True)


def go_on(
    kind: Kind,
    folder: Path,
    reference: Result,
    after: int | None = None,
    change: Change | None = None,
    is_real: bool = False,
) -> str:
    """Go on with the run in `folder`: "" if it does so after the newest good checkpoint and ends like `reference`, or
    what is wrong.

    Args:
        after: the step of that checkpoint; by default that of the newest whole one, which must not be older than the
            last one that was saved as a whole. A run that is finished already does not go on.
    """
    if status(folder).get("state") == "finished":
        after = 0
    if after is None:
        saved = (folder / SAVED).read_text().split() if (folder / SAVED).exists() else []
        after = newest_whole(folder)
        if saved and after < int(saved[-1]):
            return f"step {saved[-1]} was saved, and the newest checkpoint that is whole is of step {after}"
    program = finish(kind, folder, change=change, is_real=is_real)
    if problem := check_equal(program, folder, reference):
        return problem
    text = (find_run(folder) / "log.txt").read_text(encoding="utf-8")
    found = [(int(step), Path(path).name) for step, path in WENT_ON.findall(text)]
    if found != ([(after, f"checkpoint-{after}")] if after else []):
        return f"the run ended exactly, but went on after {found or 'step 0'}, not after step {after}"
    return ""


def start_anew(rank: int) -> None:
    """Sabotage: no checkpoint is found."""
    from voicecommand.training import resuming

    resuming.find_checkpoint = lambda *_, **__: None  # type: ignore[assignment]


def unfinish(folder: Path, step: int) -> None:
    """Make of a finished run that kept all its checkpoints one that was killed after this step."""
    run = find_run(folder)
    for path in checkpoints(folder):
        if step_of(path) > step:
            shutil.rmtree(path)
    for path in run.iterdir():
        if path.is_dir() and path.name != "checkpoints":
            shutil.rmtree(path)
        elif path.name not in (".lock", "checkpoints", "config.yaml", "inputs.json", "log.txt", "status.json"):
            path.unlink()
    content = {k: v for k, v in status(folder).items() if k != "ended"}
    (run / "status.json").write_text(json.dumps(content | {"state": "running", "exit_code": None}))
