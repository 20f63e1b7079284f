"""Train a command model, measure it, save it: one run in one directory.

accelerate launch recipes/train.py model=bert data=commands
"""

from voicecommand.config import arguments, identity, objects, program


@program.recipe("train")
def main(config):
    run = identity.open_run(config)
    from voicecommand.report import terminal
    from voicecommand.run import records

    if run.is_finished:
        run.say_finished()
    else:
        train(config, run)
    if not program.is_main_process():
        return None
    print(terminal.format_result(run.directory))
    return records.read_objective(run.directory)


def train(config, run):
    from voicecommand.data import fingerprint
    from voicecommand.data import splits as data_splits
    from voicecommand.data.audit import findings
    from voicecommand.evaluation import splits as evaluation_splits
    from voicecommand.report import clips, page, written
    from voicecommand.run import processes, records
    from voicecommand.tasks import predicting
    from voicecommand.training import fit, save

    processes.set_threads(config.threads)
    fit.seed_everything(config.seed)
    task, tuning, augmentation = (objects.build(config.get(group)) for group in ("model", "tuning", "augment"))
    args = arguments.build_training_arguments(config, run.directory)
    dataset = objects.load_data(config, task.columns)
    fit.check_labels(dataset)
    dataset = fit.prepare(dataset, task.columns, config.num_proc)
    findings.check(dataset, task.columns)
    label_names = fit.find_label_names(dataset)
    processor = task.load_processor()
    encoded = fit.encode(dataset, task, processor, label_names)
    model = task.load_model(label_names, processor)

    with run.open(objects.to_yaml(config)):
        trainer = fit.build_trainer(
            task, args, model, processor, encoded, label_names, run,
            tuning, config.early_stopping, config.seed, augmentation,
        )  # fmt: skip
        figures = fit.train(trainer, run)
        splits = data_splits.choose_splits(dataset, with_test=not program.is_multirun())
        predictions = [predicting.predict_split(trainer, task, encoded, dataset, s, label_names) for s in splits]
        if program.is_main_process():
            save.save(trainer, task, processor, label_names, run.directory / "model")
            metrics = evaluation_splits.evaluate_predictions(predictions)
            data = fingerprint.describe_data(config.choices.data, dataset, fit.count_truncated(encoded), task.columns)
            metrics |= records.write_record(run, identity.record(config, args), task, trainer, data, figures)
            records.write_threshold(run.directory / "model", metrics)
            written.write_evaluation(run.directory, predictions, metrics)
            clips.write_run_clips(run.directory, predictions, dataset)
            page.write_report(run.directory)
            page.write_model_card(run.directory)


if __name__ == "__main__":
    main()
