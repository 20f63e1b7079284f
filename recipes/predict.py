"""Labels for new commands from a saved run.

    python recipes/predict.py DIR "turn the lights off"
    python recipes/predict.py DIR --input commands.txt --output labels.jsonl
    cat commands.jsonl | python recipes/predict.py DIR --input -

Input has one command a line: the text as it is, or a JSON object with `text`. Its other fields are kept; one that
has the name of an answer, such as `label`, is kept as `input_label`.
Output is JSON lines: label, probability, top_5, accepted (false: below the run's threshold, do not act on it).
"""

import argparse
import json
import sys
from pathlib import Path

from voicecommand import runs
from voicecommand.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIR", help="a run directory, or its model folder")
    parser.add_argument("text", nargs="*", help="commands, each in quotes")
    parser.add_argument("--input", metavar="FILE", help="a file of commands; - reads standard input")
    parser.add_argument("--output", metavar="FILE", help="where the JSON lines go; standard output without it")
    options = parser.parse_args()
    if bool(options.text) == (options.input is not None):
        raise InputError("give either commands or --input FILE")
    rows = [{"text": text} for text in options.text] if options.text else read_rows(options.input)
    if options.output not in (None, "-"):
        if not Path(options.output).absolute().parent.is_dir():
            raise InputError(f"--output {options.output}: no such directory")
        if Path(options.output).is_dir():
            raise InputError(f"--output {options.output}: is a directory; name a file in it")

    import voicecommand

    model = voicecommand.load(options.directory)
    texts = [row["text"] for row in rows]
    cut = model.count_truncated(texts)
    if cut:
        sys.stderr.write(f"{cut} of {len(texts)} texts were cut to {model.max_length} tokens\n")
    lines = []
    for row, answer in zip(rows, model.predict(texts), strict=True):
        kept = {f"input_{name}" if name in answer else name: value for name, value in row.items()}
        lines.append(json.dumps(kept | answer, ensure_ascii=False))
    if options.output in (None, "-"):
        for line in lines:
            print(line)
    else:
        runs.write_text(Path(options.output), "".join(line + "\n" for line in lines))


def read_rows(source: str) -> list[dict]:
    """One row a line; a bad line is refused by file:line."""
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
        raise InputError(f"{name}: a table; give one command a line, or JSON objects with text")
    for number, line in enumerate((line.rstrip("\r") for line in lines), 1):
        row: object = {"text": line}
        if line.lstrip().startswith("{"):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{name}:{number}: not a JSON object: {error}") from error
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name}:{number}: no text; give one command a line, or JSON objects with text")
        rows.append(row)
    if not rows:
        raise InputError(f"{name}: empty; give one command a line")
    return rows


if __name__ == "__main__":
    runs.run_program(main)
