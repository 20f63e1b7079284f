"""Name what is wrong with a data set, before training.

python recipes/audit.py data=file data.path=commands.csv

Prints the rows per label and split, then one line for each problem with the rows as file:row. Exit 0 if
training would accept the data (there may be warnings), 2 if it would not.
"""

from omegaconf import DictConfig

from voicecommand.config import load_data, recipe
from voicecommand.data.checks import fingerprint, format_counts, inspect
from voicecommand.errors import InputError


@recipe("audit")
def main(config: DictConfig) -> None:
    columns = tuple(config.columns)
    dataset = load_data(config, columns)
    findings = inspect(dataset, columns)
    print(format_counts(findings.counts))
    for problem in findings.problems:
        print(f"{problem.level}: {problem.line()}")
    print(f"{len(findings.errors)} errors, {len(findings.warnings)} warnings; ", end="")
    print(f"fingerprint {fingerprint(dataset)['fingerprint']}")
    if findings.errors:
        raise InputError(f"the data has {len(findings.errors)} error(s), named above: training would refuse it")


if __name__ == "__main__":
    main()
