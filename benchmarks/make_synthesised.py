"""The directory of data=synthesised that docs/results.md reports: six keywords as synthesised speech, and recordings.

    python benchmarks/make_synthesised.py --path DIR --out DIR

--path is the directory of data=keywords, whose recordings of both splits are the test; --out must not be there yet. The
speech is that of data=spoken with eSpeak NG, flite and piper, which must be installed: 300 speakers, 2,400 clips.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import measuring
from measuring import note

PHRASES = ("alexa", "computer", "jarvis", "smart mirror", "snowboy", "view glass")
SPEAKERS, CLIPS = 300, 400  # clips of each phrase
ENGINES = ("espeak", "flite", "piper")
COLUMNS = ("file_name", "label", "speaker")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--path", type=Path, required=True, help="the directory of data=keywords")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"--out {options.out} is there already")
    measuring.use_checkout()
    from voicecommand.errors import InputError

    staging = options.out.with_name(f"{options.out.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        write_train(staging / "train")
        write_test(options.path, staging / "test")
    except InputError as error:
        shutil.rmtree(staging, ignore_errors=True)
        note(f"error: {error}")
        return 2
    staging.rename(options.out)
    return 0


def write_train(directory: Path) -> None:
    """<label>/<number>.wav and metadata.csv."""
    from voicecommand.data.spoken import load_spoken

    spoken = load_spoken(
        columns=("audio", "label"),
        phrases={phrase.replace(" ", "_"): [phrase] for phrase in PHRASES},
        speakers=SPEAKERS,
        clips_per_phrase=CLIPS,
        engines=ENGINES,
        split={"validation": 0, "test": 0},
    )["train"]
    rows = []
    columns = (spoken[name][:] for name in ("audio", "label", "speaker"))
    for number, (audio, label, speaker) in enumerate(zip(*columns, strict=True)):
        name = f"{label}/{number:05}.wav"
        (directory / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(audio, directory / name)
        rows.append({"file_name": name, "label": label, "speaker": speaker})
    write_metadata(directory, rows)


def write_test(keywords: Path, directory: Path) -> None:
    """A copy of the recordings of both splits, under one metadata.csv."""
    rows = []
    for split in ("train", "validation"):
        for row in csv.DictReader((keywords / split / "metadata.csv").open(encoding="utf-8", newline="")):
            name = f"{split}/{row['file_name']}"
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(keywords / split / row["file_name"], directory / name)
            rows.append({"file_name": name, "label": row["label"], "speaker": row["speaker"]})
    write_metadata(directory, rows)


def write_metadata(directory: Path, rows: list[dict[str, Any]]) -> None:
    with (directory / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
