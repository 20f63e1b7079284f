"""Measure a saved run on any data with its labels: the same report as after training.

    python recipes/evaluate.py run=runs/commands/bert-full-s42-1a2b3c4d data=commands split=test

The files go to evaluations/<data>-<split>/ of the run.
"""

from pathlib import Path

from voicecommand import config as door


@door.recipe("evaluate")
def main(config):
    import voicecommand
    from voicecommand import evaluation, inference, records, report, runs, training
    from voicecommand.data import checks

    found = inference.find_model(config.run)
    run = found.parent if found.name == "model" else found
    door.check_saved_config(run)
    runs.set_threads(config.threads)
    model = voicecommand.load(run)
    dataset = training.choose_evaluation(door.load_data(config, model.columns), config.split)
    dataset = training.prepare(dataset, model.columns, config.num_proc)
    checks.check(dataset, model.columns, required=(config.split,))
    predictions = [
        training.collect_predictions(rows, split, model.probabilities(model.read(rows)), model.label_names)
        for split, rows in dataset.items()
    ]
    metrics = evaluation.evaluate_predictions(predictions, model.threshold)

    directory = run / "evaluations" / f"{config.choices.data}-{config.split}"
    directory.mkdir(parents=True, exist_ok=True)
    evaluation.write_evaluation(directory, predictions, metrics)
    training.write_clips(directory, predictions, dataset)
    truncated = {split: model.count_truncated(model.read(rows)) for split, rows in dataset.items()}
    records.write_evaluation_record(directory, run, config.choices.data, dataset, truncated, door.command())
    page = report.write_report(directory, run_directory=Path(run))
    print(evaluation.format_summary(metrics), f"report: {page}", sep="\n")


if __name__ == "__main__":
    main()
