"""Mutated files through our own readers: nothing but success or InputError, in bounded time and memory.

    python benchmarks/fuzz.py --seconds 600 --output benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --seconds 60 --target csv --seed 7

Valid files are mutated: bytes flipped, cut, doubled, moved, and joined with words of the format. The same seed gives
the same inputs. The targets of one kind (such as the files of a run directory) share its seconds. A find is anything else than success or InputError (a crash), more than 2 CPU-seconds, or more than 512
MB above the process at rest; its bytes are printed in base64, to become a case of tests/benchmarks/test_fuzz.py.
"""

# ruff: noqa: E501  (one case a line)

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import logging
import random
import resource
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voicecommand.config import overrides
from voicecommand.data.sources import file as file_source
from voicecommand.data.table import to_columns
from voicecommand.errors import InputError
from voicecommand.report import page, terminal
from voicecommand.run import checkpoints, directory, inputs, manifest, records
from voicecommand.tasks import saved

SECONDS, MEGABYTES = 2.0, 512
ROWS = [(f"turn the {thing} {word}", word) for thing in ("light", "fan", "día") for word in ("on", "off")]


@dataclass
class Found:
    """The result of one target."""

    target: str
    inputs: int = 0
    accepted: int = 0
    crashes: list[tuple[str, bytes]] = field(default_factory=list)
    slow: list[tuple[str, bytes]] = field(default_factory=list)


def _table(path: Path) -> None:
    to_columns(file_source.read_table(str(path)), ("text", "label"), {}, split="train", prefix="a")


def _sound(path: Path) -> None:
    from voicecommand.audio.decode import read_audio

    read_audio(str(path), name=path.name)


def _settings(path: Path) -> None:
    overrides.check_saved_config(path.parent)


def _record(path: Path) -> None:
    records.read_data(path.parent)
    records.write_evaluation_record(path.parent / "evaluation", path.parent, {"name": "a"}, ["python"])


def _status(path: Path) -> None:
    """status.json or inputs.json of a run that is resumed, or that is beside the one that is asked for."""
    folder = path.parent
    (folder / "config.yaml").write_bytes(CONFIG)
    directory.read_status(folder)
    then = inputs.read(folder)
    inputs.find_changes(then, INPUTS), inputs.find_machine_changes(then, INPUTS), inputs.digests(then)
    directory.Run(folder, resume=True, settings=INPUTS["configuration"])
    try:
        directory.Run(folder.with_name("another"), resume=True, settings=INPUTS["configuration"])
    except InputError as error:
        if "there is no run" not in str(error):
            raise


def _manifest(path: Path) -> None:
    """With a checksum that is right, so that what is behind it is read too."""
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            content["checksum"] = manifest.checksum_of({k: v for k, v in content.items() if k != "checksum"})
            path.write_text(json.dumps(content), encoding="utf-8")
    folder = path.parent / "checkpoints" / "checkpoint-3"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.bin").write_bytes(b"a")
    shutil.copy(path, folder / manifest.NAME)
    checkpoints.can_resume(path.parent)
    if checkpoints.find_newest(folder.parent).path is None:
        raise InputError("damaged")


def _saved(path: Path) -> None:
    saved.read_settings(path.parent)


def _figures(path: Path) -> None:
    """metrics.json and history.json of a run whose other records are right."""
    folder = path.parent
    for name, content in (("run.json", RECORD), ("metrics.json", METRICS), ("history.json", HISTORY)):
        if name != path.name:
            (folder / name).write_bytes(content)
    records.read_objective(folder)
    with records.reading(folder):
        metrics = records.read_json([folder], "metrics.json")
        page.learning_curves(metrics, records.read_json([folder], "history.json"), 3)
        terminal.format_summary(metrics)


def _csv() -> list[bytes]:
    plain = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
    quoted = "text;label\n" + "".join(f'"{text}; ""so""";{label}\n' for text, label in ROWS)
    return [plain.encode(), quoted.encode(), plain.replace(",", "\t").encode(), plain.encode("utf-16"),
            b"\xef\xbb\xbfsep=;\n" + quoted.encode()]  # fmt: skip


def _jsonl() -> list[bytes]:
    objects = [json.dumps({"text": text, "label": label, "id": i}) for i, (text, label) in enumerate(ROWS)]
    return ["\n".join(objects).encode(), f"[{', '.join(objects)}]".encode()]


def _parquet() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet

    found = []
    for compression in ("none", "snappy"):
        out = io.BytesIO()
        table = pa.table(
            {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS], "n": [1] * len(ROWS)}
        )
        pyarrow.parquet.write_table(table, out, compression=compression)
        found.append(out.getvalue())
    return found


def _wav() -> list[bytes]:
    found = []
    for rate, channels in ((16_000, 1), (8_000, 2)):
        out = io.BytesIO()
        with wave.open(out, "wb") as opened:
            opened.setparams((channels, 2, rate, 0, "NONE", ""))
            opened.writeframes(bytes(range(256)) * 8)
        found.append(out.getvalue())
    return found


def _flac() -> list[bytes]:
    import numpy as np
    import soundfile

    found = []
    for form, kind in (("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_16")):
        out = io.BytesIO()
        soundfile.write(out, np.sin(np.arange(4000) / 9).astype(np.float32), 16_000, format=form, subtype=kind)
        found.append(out.getvalue())
    return found


RASA = b"version: '3.1'\nnlu:\n- intent: on\n  examples: |\n    - turn [it](thing) on\n- intent: off\n  examples:\n  - text: off\n"
CONFIG = b"choices: {data: file, model: tfidf_svm}\ndata:\n  _target_: voicecommand.data.sources.file.load_files\n  path: a.csv\nseed: 1\n"
RECORD = json.dumps(
    {
        "task": "text_classification", "command": ["python"], "example": "on", "working_directory": "/tmp",
        "model": {"name": "tfidf_svm", "checkpoint": None, "revision": None, "parameters": 10},
        "data": {"name": "a", "columns": ["text", "label"], "splits": {"train": {"rows": 1, "sha256": "0"}}},
    }
).encode()  # fmt: skip
INPUTS = {
    "configuration": {"seed": 1, "training": {"learning_rate": 0.1}},
    "data": {"train": {"rows": 2, "sorted": "a", "labels": ["off", "on"], "columns": {"text": "b", "content": "c"}}},
    "base": {"model.safetensors": "d"}, "machine": {"torch": "2.12.0"}, "world_size": 1, "is_older": False,
}  # fmt: skip
OTHER = json.dumps(INPUTS | {"data": {"train": {"rows": 2, "sorted": "e", "labels": ["on"], "columns": {}}}}).encode()
STATUS = json.dumps({"state": "failed", "exit_code": 1, "world_size": 1, "error": "a", "ended": "2026-12-01"}).encode()
MANIFEST = json.dumps(
    {
        "format": 1, "facts": {"step": 3, "best_step": 3, "resumable": True, "world_size": 1, "data": "a"},
        "files": {"a.bin": {"size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}},
    }
).encode()  # fmt: skip
FIGURE = {"value": 1.0, "low": 0.7, "high": 1.0, "level": 0.95, "method": "Wilson", "groups": None, "note": None}
SET_ON = {
    "threshold": 0.5, "rule": "keep", "asked": 0.95, "splits": ["validation"], "examples": 9, "errors": 0,
    "share": FIGURE, "is_synthetic": False, "note": None,
}  # fmt: skip
SAVED = json.dumps(
    {
        "format": 2,
        "task": {
            "file": "text_classification", "class": "TextClassification", "name": "text_classification",
            "settings": {"checkpoint": "", "revision": None, "max_length": 128},
        },
        "vocabulary": {"labels": ["off", "on"]}, "threshold": 0.5, "threshold_set_on": {"data": "a"} | SET_ON,
    }
).encode()  # fmt: skip
METRICS = json.dumps(
    {
        "format": 1, "main_split": "validation", "advice": [],
        "objective": {"evaluator": "classification", "metric": "macro_f1", "greater_is_better": True, "split": "validation"},
        "splits": {
            "validation": {
                "examples": 9, "labels": ["off", "on"], "accuracy": FIGURE, "macro_f1": FIGURE, "ece": 0.1, "log_loss": 0.2,
                "per_label": {name: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 3} for name in ("off", "on")},
                "confusion_matrix": [[3, 0], [0, 6]],
            }
        },
        "rejection": {
            "threshold": 0.5, "set_on": SET_ON,
            "splits": {"validation": {"examples": 9, "accepted": 1.0, "accuracy_accepted": 1.0, "right_kept": 1.0}},
        },
    }
).encode()  # fmt: skip
HISTORY = json.dumps(
    [{"step": 3, "loss": 0.5, "epoch": 1.0}, {"step": 3, "eval_loss": 0.4, "eval_macro_f1": 0.9}]
).encode()


@dataclass(frozen=True)
class Target:
    """An entry point: the name of its file, valid contents, and words that its format gives a meaning."""

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], None]
    words: Sequence[bytes]


JSON = (b"{}", b"[]", b"null", b"1e999", b'"', b"-1", b"true", b"NaN", b"[" * 5000, b"9" * 5000, b'"\\ud800"', b"0.5")
VALUES: tuple[Any, ...] = (
    {},
    [],
    None,
    "",
    "2",
    "../a",
    -1,
    0.5,
    10**400,
    True,
    [[]],
    {"a": []},
    [None],
    "\x1b[31m",
    float("nan"),
)
TARGETS = {
    "csv": Target("a.csv", _csv, _table, (b'"', b",", b";", b"\n", b"\r", b"text", b'""', b"\0", b"\t", b"sep=,\n")),
    "jsonl": Target("a.jsonl", _jsonl, _table, (b"{", b"}", b"[", b'"', b"\\ud800", b"1e999", b"null", b"\n", b"NaN", b":")),
    "json": Target("a.json", _jsonl, _table, (b"{", b"}", b"[", b'"train":', b"\\u0000", b"9" * 5000, b"null", b",")),
    "parquet": Target("a.parquet", _parquet, _table, (b"PAR1", b"\xff\xff\xff\x7f", b"\0" * 8, b"\x80" * 4)),
    "rasa": Target("a.yml", lambda: [RASA], _table, (b"&a ", b"*a", b"!!python/name:os.system ", b"- ", b"|", b": ", b"\t", b"[", b"{")),
    "wav": Target("a.wav", _wav, _sound, (b"RIFF", b"data", b"fmt ", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x03\0")),
    "sound": Target("a.flac", _flac, _sound, (b"fLaC", b"OggS", b"FORM", b"\xff" * 4, b"\0" * 4)),
    "config": Target("config.yaml", lambda: [CONFIG], _settings, (b"_target_: os.system", b"&a ", b"*a", b"!!int 0x", b"1:1:1", b"${", b"{", b"[")),
    "record": Target("run.json", lambda: [RECORD], _record, (b"{}", b"[]", b"null", b"1e999", b'"', b"-1", b"true")),
    "status": Target("status.json", lambda: [STATUS], _status, JSON),
    "inputs": Target("inputs.json", lambda: [json.dumps(INPUTS).encode(), OTHER], _status, JSON),
    "manifest": Target("manifest.json", lambda: [MANIFEST], _manifest, JSON),
    "model": Target("voicecommand.json", lambda: [SAVED], _saved, JSON),
    "metrics": Target("metrics.json", lambda: [METRICS], _figures, JSON),
    "history": Target("history.json", lambda: [HISTORY], _figures, JSON),
}  # fmt: skip
KINDS = {
    "CSV": ("csv",), "JSON lines and JSON": ("jsonl", "json"), "Parquet": ("parquet",), "sound": ("wav", "sound"),
    "YAML": ("rasa", "config"),
    "run directories": ("record", "status", "inputs", "manifest", "model", "metrics", "history"),
}  # fmt: skip


def mutate(seed: bytes, words: Sequence[bytes], draw: random.Random) -> bytes:
    """The content with 1 to 8 changes."""
    data = bytearray(seed)
    for _ in range(draw.randint(1, 8)):
        at = draw.randint(0, len(data))
        end = min(len(data), at + draw.choice((1, 2, 4, 16, 256)))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * draw.choice((1, 2, 50))
        elif kind == 3:
            data[at:at] = draw.choice(words) * draw.choice((1, 1, 1, 3, 500))
        elif kind == 4:
            data[at:end] = draw.randbytes(end - at)
        elif kind == 5:
            data[at:end] = draw.choice(words)
        elif draw.random() < 0.1:
            del data[at:]
    return bytes(data)


def mutate_json(seed: bytes, draw: random.Random) -> bytes:
    """The content with one value in it replaced by another, or gone."""
    content = json.loads(seed)
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list):
            places += [(node, key) for key in (node if isinstance(node, dict) else range(len(node)))]
            waiting += node.values() if isinstance(node, dict) else node
    node, key = draw.choice(places)
    if draw.random() < 0.2:
        del node[key]
    else:
        node[key] = draw.choice(VALUES)
    return json.dumps(content).encode()


def run(target: Target, path: Path, content: bytes) -> tuple[str, bool]:
    """(what is wrong with how the content is read, "" for nothing; whether it is accepted)."""
    path.write_bytes(content)
    before, began, accepted = _resident(), time.process_time(), False
    try:
        target.read(path)
        accepted = True
    except InputError as error:
        if "\n" in str(error):
            return "an error of several lines", False
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    seconds, grown = time.process_time() - began, _resident() - before
    if seconds > SECONDS or grown > MEGABYTES:
        return f"slow: {seconds:.1f} s, {grown:.0f} MB", accepted
    return "", accepted


def _resident() -> float:
    """The highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> Found:
    """Mutated inputs of one target until the time is over; the valid ones come first and must be accepted."""
    target, draw, found = TARGETS[name], random.Random(f"{name} {seed}"), Found(name)
    seeds, path, end = target.seeds(), folder / target.name, time.monotonic() + seconds
    run(target, path, seeds[0])  # what is imported on first use is not of the input
    while time.monotonic() < end:
        if found.inputs < len(seeds):
            content = seeds[found.inputs]
        elif target.words is JSON and draw.random() < 0.5:
            content = mutate_json(draw.choice(seeds), draw)
        else:
            content = mutate(draw.choice(seeds), target.words, draw)
        problem, accepted = run(target, path, content)
        found.inputs += 1
        found.accepted += accepted
        if problem:
            (found.slow if problem.startswith("slow") else found.crashes).append((problem, content))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each kind, or each --target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append", help="all without it")
    parser.add_argument("--output", type=Path, help="a JSON file of the result")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    results = []
    chosen = {name: (kind, len(names)) for kind, names in KINDS.items() for name in names}
    if options.target:
        chosen = {name: (chosen[name][0], 1) for name in options.target}
    for name, (kind, share) in chosen.items():
        seconds = options.seconds / share
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz(name, seconds, options.seed, Path(folder))
        counts = {
            "inputs": found.inputs,
            "accepted": found.accepted,
            "crashes": len(found.crashes),
            "slow": len(found.slow),
        }
        results.append({"kind": kind, "target": name, "seed": options.seed, "seconds": seconds, **counts})
        print(
            f"{name:<8} {found.inputs:>8,} inputs, {found.accepted:,} accepted, {len(found.crashes)} crashes, {len(found.slow)} slow",
            flush=True,
        )
        for problem in dict((*found.crashes, *found.slow)).items():
            print(f"  {problem[0]}\n  {base64.b64encode(problem[1]).decode()[:2000]}", flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(result["crashes"] or result["slow"] for result in results))


if __name__ == "__main__":
    main()
