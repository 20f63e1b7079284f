"""Show, check, sample and import a grammar: the sentences that a device knows.

    python recipes/grammar.py orders.yaml
    python recipes/grammar.py orders.yaml --sample 20
    python recipes/grammar.py orders.yaml --parse "can I have a small latte"
    python recipes/grammar.py coffee_maker.yaml --output orders.yaml          (from Rhino's context, or Rasa's nlu.yml)
    python recipes/grammar.py orders.yaml --data clips/metadata.csv --column transcript
    python recipes/grammar.py orders.yaml --checkpoint openai/whisper-tiny.en

The grammar is a YAML file, or a directory of them: docs/grammar.md describes it. Prints what is in it and one line for
each problem: values that two slots share, expressions that can't be told apart, slots and rules that are not used; with
`--data`, sentences of the data that are not of the grammar, and words of it that the data has not; with `--checkpoint`,
words that its tokenizer can't write. The exit code is 0 for a usable grammar, otherwise 2.
"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand import files
from voicecommand.run import exits

if TYPE_CHECKING:
    from voicecommand.data.grammar.grammar import Grammar, Parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = os.path.expanduser  # which a shell does at the start of a word only
    parser.add_argument("grammar", metavar="FILE", type=path, help="a grammar, or a directory of its files")
    parser.add_argument("--sample", metavar="N", type=int, help="print N sentences as JSON lines")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of --sample")
    parser.add_argument("--parse", metavar="TEXT", help="print what a text means, as JSON")
    parser.add_argument("--output", metavar="FILE", type=path, help="write the grammar in our form")
    parser.add_argument("--data", metavar="FILE", type=path, help="a table of what is said, to compare with")
    parser.add_argument("--column", metavar="NAME", default="transcript", help="of --data; transcript without it")
    parser.add_argument("--checkpoint", metavar="NAME", type=path, help="a recogniser, or its directory")
    options = parser.parse_args()

    from voicecommand.data.grammar import checks, reading, sampling, writing

    grammar = reading.read_grammar(options.grammar)
    if options.parse is not None:
        print_json(describe(grammar.parse(options.parse)))
        return
    if options.sample is not None:
        for sentence in sampling.sample(grammar, options.sample, options.seed):
            print_json({"transcript": sentence.text, "label": sentence.label, "slots": sentence.values})
        return
    print(files.visible(checks.summarise(grammar)))
    problems = list(checks.find_problems(grammar))
    if options.data is not None:
        problems += checks.compare_with_texts(grammar, read_texts(options.data, options.column))
    if options.checkpoint is not None:
        problems += find_unknown_words(grammar, options.checkpoint)
    for problem in problems:
        print(files.visible(f"warning: {problem}"))
    print(f"{len(problems)} warnings")
    if options.output is not None:
        files.write_text(Path(options.output), writing.to_yaml(grammar))
        print(f"written: {options.output}")


def print_json(answer: object) -> None:
    print(files.visible(json.dumps(answer, ensure_ascii=False)))


def describe(parse: "Parse | None") -> object:
    """A parse as JSON; null if the text is not of the grammar."""
    if parse is None:
        return None
    slots = [vars(slot) for slot in parse.slots]
    found = {"label": parse.label, "slots": slots, "transcript": parse.transcript, "origin": parse.expression.origin}
    return found | ({"others": [describe(other) for other in parse.others]} if parse.others else {})


def read_texts(file: str, column: str) -> list[tuple[str, str]]:
    """(file:row, text) of a column of a table."""
    from voicecommand.data.sources.file import read_table
    from voicecommand.data.table import to_columns

    rows = to_columns(read_table(file), ("text",), {"text": column}, split="train", prefix="")
    return list(zip(rows["origin"], rows["text"], strict=True))


def find_unknown_words(grammar: "Grammar", checkpoint: str) -> list[str]:
    """The words that a recogniser's tokenizer can't write, in one line."""
    from voicecommand.models.confined import unknown_words
    from voicecommand.models.tokens import load_tokenizer

    unknown = unknown_words(grammar, load_tokenizer(checkpoint, None))
    return [f"{len(unknown)} words that {checkpoint} can't write: {', '.join(unknown[:20])}"] if unknown else []


if __name__ == "__main__":
    exits.run_program(main)
