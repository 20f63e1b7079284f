"""Measure a saved run on any data with its labels: the same report as after training.

    python recipes/evaluate.py run=runs/commands/bert-full-s42-1a2b3c4d data=commands split=test

The files go to evaluations/<data>-<split>/ of the run.
"""

from pathlib import Path

from voicecommand.config import identity, objects, overrides, program


@program.recipe("evaluate")
def main(config):
    import voicecommand
    from voicecommand.data import fingerprint
    from voicecommand.data import splits as data_splits
    from voicecommand.data.audit import findings
    from voicecommand.evaluation import splits as evaluation_splits
    from voicecommand.report import clips, page, terminal, written
    from voicecommand.run import processes, records
    from voicecommand.tasks import predicting, saved
    from voicecommand.training import fit

    found = saved.find_model(config.run)
    run = found.parent if found.name == "model" else found
    overrides.check_saved_config(run)
    processes.set_threads(config.threads)
    model = voicecommand.load(run)
    dataset = data_splits.choose_evaluation(objects.load_data(config, model.columns), config.split)
    dataset = fit.prepare(dataset, model.columns, config.num_proc)
    findings.check(dataset, model.columns, required=(config.split,))
    predictions = [
        predicting.collect_predictions(rows, split, model.probabilities(model.read(rows)), model.label_names)
        for split, rows in dataset.items()
    ]
    metrics = evaluation_splits.evaluate_predictions(predictions, model.threshold)

    directory = run / "evaluations" / f"{config.choices.data}-{config.split}"
    directory.mkdir(parents=True, exist_ok=True)
    written.write_evaluation(directory, predictions, metrics)
    clips.write_run_clips(directory, predictions, dataset)
    truncated = {split: model.count_truncated(model.read(rows)) for split, rows in dataset.items()}
    data = fingerprint.describe_data(config.choices.data, dataset, truncated, model.columns)
    records.write_evaluation_record(directory, run, data, identity.command())
    path = page.write_report(directory, run_directory=Path(run))
    print(terminal.format_summary(metrics), f"report: {path}", sep="\n")


if __name__ == "__main__":
    main()
