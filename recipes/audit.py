"""Find the problems of a data set before training.

    python recipes/audit.py data=file data.path=commands.csv
    python recipes/audit.py data=folder data.path=DIR
    python recipes/audit.py data=file data.path=recorded.csv split=test          (data to measure a run on)
    python recipes/audit.py data=folder data.path=DIR augment=strong samples=OUT

Prints the rows per label and split, then one line for each problem with the rows as file:row. The exit code is 0 if
training, or with `split` evaluation, would accept the data (there may be warnings), otherwise 2. `samples` names a
folder for a few training clips before and after augment=, with a figure.
"""

from pathlib import Path

import environment  # noqa: F401  (first: it says how to get in)
from omegaconf import DictConfig

from voicecommand.config import measured, objects, program
from voicecommand.errors import InputError


@program.recipe("audit")
def main(config: DictConfig) -> None:
    from voicecommand.data import fingerprint, splits
    from voicecommand.data.audit import findings as data_findings
    from voicecommand.report import samples
    from voicecommand.training import fit

    if config.samples is None and config.get("augment"):
        raise InputError(f"augment={config.choices.augment}: only used with samples=DIR; add it or leave augment out")
    if config.samples is not None and Path(config.samples).exists() and not Path(config.samples).is_dir():
        raise InputError(f"samples={config.samples}: is not a directory; name one, or a new one")
    columns = tuple(config.columns or objects.default_columns(config))
    reads = "audio" if "audio" in columns else "text"
    if config.split is None:
        what, required, dataset = "training", ("train", "validation"), objects.load_data(config, columns)
    else:
        what, required = "evaluation", (config.split,)
        dataset = splits.choose_evaluation(measured.load_whole(config, config.split, columns), config.split)
    dataset = fit.prepare(dataset, reads, config.num_proc)
    findings = data_findings.inspect(dataset, columns, required)
    print(data_findings.format_counts(findings.counts))
    for problem in findings.problems:
        print(f"{problem.level}: {problem.line()}")
    print(f"{len(findings.errors)} errors, {len(findings.warnings)} warnings; ", end="")
    print(f"fingerprint {fingerprint.fingerprint(dataset, columns)['fingerprint']}")
    if findings.errors:
        raise InputError(f"the data has {len(findings.errors)} error(s), named above: {what} would refuse it")
    if config.samples is not None:
        print(samples.write_dataset_samples(dataset, objects.build(config.get("augment")), config.samples))


if __name__ == "__main__":
    main()
