"""Labels for new commands from a saved run.

    python recipes/predict.py DIR "turn the lights off"
    python recipes/predict.py DIR --input commands.txt --output labels.jsonl
    python recipes/predict.py DIR clip.wav                          (a model that reads audio)
    cat commands.jsonl | python recipes/predict.py DIR --input -

Input has one command in each line: a text, or the path of an audio file; or a JSON object with `text` or `audio`. The
other fields of an object are kept; one with the name of an answer, such as `label`, is kept as `input_label`.
Paths in a file are relative to the working directory.
Output is JSON lines: label, probability, top_5, accepted (false: below the run's threshold, do not act on it).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand import files
from voicecommand.errors import InputError
from voicecommand.run import exits

PART = 128  # commands that are read and answered at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIR", help="a run directory, or its model folder")
    parser.add_argument("command", nargs="*", help="texts, each in quotes, or audio files")
    parser.add_argument("--input", metavar="FILE", help="a file of texts or of paths; - reads standard input")
    parser.add_argument("--output", metavar="FILE", help="a file for the JSON lines; standard output without it")
    options = parser.parse_args()
    if bool(options.command) == (options.input is not None):
        raise InputError("give either commands or --input FILE")
    if options.output not in (None, "-"):
        if not Path(options.output).absolute().parent.is_dir():
            raise InputError(f"--output {options.output}: no such directory")
        if Path(options.output).is_dir():
            raise InputError(f"--output {options.output}: is a directory; name a file in it")

    import voicecommand

    model = voicecommand.load(options.directory)
    column = model.task.columns.reads
    rows = [{column: word} for word in options.command] if options.command else read_rows(options.input, column)
    lines = []
    for row, answer in zip(rows, answer_rows(model, rows, column, options.input), strict=True):
        kept = {f"input_{name}" if name in answer else name: value for name, value in row.items()}
        lines.append(json.dumps(kept | answer, ensure_ascii=False))
    if options.output in (None, "-"):
        for line in lines:
            print(line)
    else:
        output = Path(options.output)
        # of a link, such as /dev/stdout, its file is replaced; the link stays
        files.write_text(output.resolve() if output.is_file() else output, "".join(line + "\n" for line in lines))


def answer_rows(model: Any, rows: list[dict], column: str, source: str | None) -> Iterator[dict]:
    """The answers in order; audio is read PART files at a time. Commands that are longer than the model reads are
    counted on standard error.

    Raises:
        InputError: an audio file can't be read; then no answer has been written.
    """
    from voicecommand.tasks.saved import to_rows

    commands, cut, limit = [row[column] for row in rows], 0, ""
    for start in range(0, len(commands), PART):
        part = commands[start : start + PART]
        if column == "audio":
            part = [read_clip(path, source, number) for number, path in enumerate(part, start + 1)]
        answered = model.answer(part)
        cut, limit = cut + answered.truncated, answered.limit or limit
        yield from to_rows(answered)
    if cut:
        sys.stderr.write(f"{cut} of {len(commands)} commands are {limit}\n")


def read_clip(path: str, source: str | None, number: int) -> Any:
    """The int16 samples of a file on the command line or in line `number` of `source`."""
    from voicecommand.audio.clips import to_int16
    from voicecommand.audio.decode import read_audio

    where = {None: "", "-": f"standard input:{number}: "}.get(source, f"{source}:{number}: ")
    return to_int16(read_audio(path, name=f"{where}{path if path.isprintable() else repr(path)}").waveform)


def read_rows(source: str, column: str = "text") -> list[dict]:
    """A row for each line, a plain line as `column`; a bad line is an error with file:line."""
    name = "standard input" if source == "-" else source
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n") if content else []
    except OSError as error:
        raise InputError(f"--input {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: not UTF-8; save it as UTF-8") from error
    rows = []
    if Path(source).suffix in (".csv", ".tsv", ".parquet"):
        raise InputError(f"{name}: a table; give one command a line, or JSON objects with {column}")
    for number, line in enumerate((line.rstrip("\r") for line in lines), 1):
        row: object = {column: line}
        if line.lstrip().startswith("{"):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{name}:{number}: not a JSON object: {error}") from error
        command = row.get(column) if isinstance(row, dict) else None
        if not isinstance(command, str) or not command.strip():
            raise InputError(f"{name}:{number}: no {column}; give one command a line, or JSON objects with {column}")
        rows.append(row)
    if not rows:
        raise InputError(f"{name}: empty; give one command a line")
    return rows


if __name__ == "__main__":
    exits.run_program(main)
