"""Measure how a saved run stands up to noise (spoken commands) or to a recogniser's wrong words (written ones).

    python recipes/robustness.py run=latest                                             (its own data, split=test)
    python recipes/robustness.py run=runs/keywords/bcresnet-full-s42-1a2b3c4d noise=kitchen.wav

The table, the figure and the score go to robustness/<data>-<split>-<8 hex of the data's fingerprint>/ of the run.
"""

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand.columns import ALL
from voicecommand.config import identity, measured, overrides, program


@program.recipe("robustness")
def main(config):
    import voicecommand
    from voicecommand.audio import noise
    from voicecommand.compare import conditions as compare_conditions
    from voicecommand.compare import recogniser_errors, robustness
    from voicecommand.data import fingerprint, splits
    from voicecommand.data.audit import findings
    from voicecommand.run import processes, records
    from voicecommand.tasks import saved
    from voicecommand.training import fit

    run = saved.find_run(config.run)
    overrides.check_saved_config(run)
    processes.set_threads(config.threads)
    model = voicecommand.load(run)
    columns = model.task.columns
    recording = noise.read_recording(config.noise, (columns.reads,))
    given = measured.load_data(config, run, columns.needed)
    dataset = splits.choose_evaluation(given.dataset, config.split)
    dataset = type(dataset)({config.split: dataset[config.split]})
    model.check_labels(dataset)
    dataset = fit.prepare(dataset, columns.reads, config.num_proc)
    findings.check(dataset, columns.needed, required=(config.split,))
    data = fingerprint.describe_data(given.name, dataset, {}, columns.known)
    if given.is_own and config.split != ALL:
        fingerprint.warn_of_changes(records.read_data(run)[0], data)
    else:
        fingerprint.add(data, "trained_on", fingerprint.count_train_rows(run, dataset))

    rows = dataset[config.split]
    commands, ids = saved.read_commands(rows, model.task), rows["id"][:]
    if columns.reads == "audio":
        speakers = rows["speaker"][:] if "speaker" in rows.column_names else None
        conditions = compare_conditions.audio_conditions(commands, ids, speakers, recording, config.seed)
    else:
        corpus = (text for split in given.dataset.values() for text in split["text"])
        conditions = recogniser_errors.text_conditions(commands, ids, corpus, config.seed)
    clean, _ = model.answer_split(rows, config.split)
    result = robustness.measure(
        model.task.evaluators[0], clean, conditions, lambda commands: model.answer(commands).columns
    )

    directory = records.place_of(run, "robustness", data, config.split)
    robustness.write_robustness(directory, result | {"seed": config.seed, "command": identity.command()})
    print(robustness.format_robustness(result), f"figure: {directory / 'robustness.png'}", sep="\n")


if __name__ == "__main__":
    main()
