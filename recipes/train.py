"""Train a command model, measure it, save it: one run in one directory.

accelerate launch recipes/train.py model=bert data=commands
"""

from voicecommand import config as door


@door.recipe("train")
def main(config):
    run = door.open_run(config)
    from voicecommand import records

    if run.is_finished:
        run.say_finished()
    else:
        train(config, run)
    if not door.is_main_process():
        return None
    print(records.format_result(run.directory))
    return records.read_objective(run.directory)


def train(config, run):
    from voicecommand import evaluation, records, report, runs, training
    from voicecommand.data import checks

    runs.set_threads(config.threads)
    training.seed_everything(config.seed)
    task, tuning, augmentation = (door.build(config.get(group)) for group in ("model", "tuning", "augment"))
    args = door.build_training_arguments(config, run.directory)
    dataset = door.load_data(config, task.columns)
    training.check_labels(dataset)
    dataset = training.prepare(dataset, task.columns, config.num_proc)
    checks.check(dataset, task.columns)
    label_names = training.find_label_names(dataset)
    processor = task.load_processor()
    encoded = training.encode(dataset, task, processor, label_names)
    model = task.load_model(label_names, processor)

    with run.open(door.to_yaml(config)):
        trainer = training.build_trainer(
            task, args, model, processor, encoded, label_names, run,
            tuning, config.early_stopping, config.seed, augmentation,
        )  # fmt: skip
        figures = training.train(trainer, run)
        splits = training.choose_splits(dataset, with_test=not door.is_multirun())
        predictions = [training.predict_split(trainer, task, encoded, dataset, s, label_names) for s in splits]
        if door.is_main_process():
            training.save(trainer, task, processor, label_names, run.directory / "model")
            metrics = evaluation.evaluate_predictions(predictions)
            truncated = training.count_truncated(encoded)
            metrics |= records.write_record(run, door.record(config, args), task, trainer, dataset, truncated, figures)
            records.write_threshold(run.directory / "model", metrics)
            evaluation.write_evaluation(run.directory, predictions, metrics)
            training.write_clips(run.directory, predictions, dataset)
            report.write_report(run.directory)
            report.write_model_card(run.directory)


if __name__ == "__main__":
    main()
