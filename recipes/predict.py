"""Answers to new commands from a saved run: their labels, or what was said.

    python recipes/predict.py DIR "turn the lights off"
    python recipes/predict.py DIR --input commands.txt --output labels.jsonl
    python recipes/predict.py DIR --input requests.csv --column request
    python recipes/predict.py DIR clip.wav                          (a model that reads audio)
    cat commands.jsonl | python recipes/predict.py DIR --input -

Input has one command in each line: a text, or the path of an audio file; or a JSON object with `text` or `audio`. A
.csv or .tsv file is a table. `--column` names another column of a table, or field of the objects. The other columns
and fields are kept; one with the name of an answer, such as `label`, is kept as `input_label`. Blank lines are skipped
and counted. Paths in a file are relative to the working directory.

Output is JSON lines. Of a classifier: label, probability, top_5, accepted (false: below the run's threshold, do not act
on it). Of a recogniser: transcript, score (the mean log-probability of its tokens). Each answer is written as soon as
its line is there. A bad line ends the program with exit code 2: the answers to the lines
before it are written, and nothing after it is read. A file of `--output` is written whole or not at all.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand import files
from voicecommand.errors import InputError
from voicecommand.run import exits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = os.path.expanduser  # which a shell does at the start of a word only
    parser.add_argument("directory", metavar="DIR", type=path, help="a run directory, or its model folder")
    parser.add_argument("command", nargs="*", help="texts, each in quotes, or audio files")
    parser.add_argument(
        "--input", metavar="FILE", type=path, help="a file of commands, or a table; - reads standard input"
    )
    parser.add_argument("--column", metavar="NAME", help="of a table or of JSON objects; text or audio without it")
    parser.add_argument(
        "--output", metavar="FILE", type=path, help="a file for the JSON lines; standard output without it"
    )
    options = parser.parse_args()
    if bool(options.command) == (options.input is not None):
        raise InputError("give either commands or --input FILE")
    if options.command and options.column is not None:
        raise InputError(f"--column {options.column}: only used with --input FILE; leave it out")

    import voicecommand
    from voicecommand.data import stream
    from voicecommand.tasks.saved import to_rows

    with open_output(options.output) as write:
        model = voicecommand.load(options.directory)
        reads = model.task.columns.reads
        given = stream.Stream(options.command or options.input, options.column or reads, reads)
        count, cut, limit = 0, 0, ""
        for part in given:
            answered = model.answer([one.command for one in part], [one.origin for one in part])
            count, cut, limit = count + len(part), cut + answered.truncated, answered.limit or limit
            for one, answer in zip(part, to_rows(answered), strict=True):
                kept = {f"input_{name}" if name in answer else name: cell for name, cell in one.cells.items()}
                write(kept | answer)
    if cut:
        sys.stderr.write(f"{cut} of {count} commands are {limit}\n")
    if given.blank:
        sys.stderr.write(f"{given.blank} blank line{'s were' if given.blank > 1 else ' was'} skipped\n")


@contextlib.contextmanager
def open_output(name: str | None) -> Iterator[Callable[[dict[str, object]], None]]:
    """A function that writes one answer: to standard output at once, or to a file that is there when the block ends.

    Raises:
        InputError: there is no such directory, or it is one.
    """
    if name in (None, "-"):

        def write(answer: dict[str, object]) -> None:
            print(to_line(answer, sys.stdout.encoding), flush=True)

        yield write
        return
    output = Path(str(name))
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output {name}: no such directory")
    if output.is_dir():
        raise InputError(f"--output {name}: is a directory; name a file in it")
    # of a link, such as /dev/stdout, its file is replaced; the link stays
    with files.open_whole(output.resolve() if output.is_file() else output) as file:
        yield lambda answer: file.write(f"{to_line(answer, 'utf-8')}\n".encode())


def to_line(answer: dict[str, object], encoding: str) -> str:
    """JSON on one line, with escapes for what a terminal would not show, and where the encoding lacks a character."""
    line = files.visible(json.dumps(answer, ensure_ascii=False))
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(answer)
    return line


if __name__ == "__main__":
    exits.run_program(main)
