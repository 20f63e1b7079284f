"""Train a command model, measure it, save it: one run in one directory.

accelerate launch recipes/train.py model=bert data=commands
"""

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand.config import arguments, identity, objects, program


@program.recipe("train")
def main(config):
    run = identity.open_run(config)
    from voicecommand.evaluation import scikit_learn
    from voicecommand.evaluation.threshold import Rule
    from voicecommand.report import terminal
    from voicecommand.run import records

    rule = Rule(**config.reject)
    if run.is_finished:
        if program.is_main_process():
            check_data(config, run)
        run.say_finished()
        if config.metrics:
            scikit_learn.say_unused(config.metrics, run.directory)
        if rule.is_given:  # only then, because it imports torch
            from voicecommand.tasks import saved

            saved.say_unused_rule(run.directory, rule)
    else:
        identity.log_plan(config, run)
        train(config, run, rule)
    if not program.is_main_process():
        return None
    print(terminal.format_result(run.directory))
    return records.read_objective(run.directory)


def check_data(config, run):
    """The result of a finished run is shown only for the data that it was trained on."""
    from voicecommand.data import fingerprint, prepared
    from voicecommand.run import processes, records

    then, columns = records.read_data(run.directory)
    if not then or not identity.has_files(config):
        return
    dataset = objects.load_data(config, columns)
    if "train" not in then["splits"]:  # tuning=none
        dataset.pop("train", None)
    if "audio" in columns:
        dataset = prepared.add_contents(dataset, config.num_proc or processes.count_cores())
    fingerprint.check_same(run.directory, then, dataset)


def train(config, run, rule):
    from voicecommand.data import fingerprint, splits
    from voicecommand.data.audit import findings
    from voicecommand.evaluation.advice import advise_on_labels
    from voicecommand.evaluation.scikit_learn import append_metrics, directions_of
    from voicecommand.evaluation.splits import build_blocks, evaluate
    from voicecommand.report import clips, page, written
    from voicecommand.run import inputs, processes, records
    from voicecommand.tasks import saved
    from voicecommand.tasks.teacher import hash_base
    from voicecommand.training import finite, fit, folds, length, save, unknown

    processes.set_threads(config.threads)
    fit.seed_everything(config.seed)
    task, tuning, augmentation = (objects.build(config.get(group)) for group in ("model", "tuning", "augment"))
    fit.check_tuning(task, tuning)
    evaluators, is_trained = append_metrics(task.evaluators, config.metrics), fit.is_trained(tuning)
    args = arguments.build_training_arguments(config, run.directory, task.objectives | directions_of(config.metrics))
    args = length.keep_batch(args, run.began_on)
    dataset = objects.load_data(config, task.columns.needed)
    if not is_trained:
        dataset.pop("train", None)
    required = ("train", "validation") if is_trained else ("validation",)
    rule.check(dataset, "validation")
    fit.check_targets(dataset, task.columns, required)
    example = splits.first_command(dataset, task.columns.reads)
    dataset = fit.prepare(dataset, task.columns.reads, config.num_proc)
    findings.check(dataset, task.columns.needed, required)
    vocabulary = task.learn(dataset.get("train"))
    processor = task.load_processor(vocabulary)
    encoded = fit.encode(dataset, task, processor, vocabulary)
    rows = {split: len(dataset[split]) if split in dataset else 0 for split in ("train", "validation")}
    final, early_stopping = args, config.early_stopping
    if is_trained:
        task = task.settle(encoded["train"], vocabulary)
        final, early_stopping = length.follow_data(args, early_stopping, **rows)
    model = task.load_model(vocabulary, processor)

    truncated = {split: rows.truncated for split, rows in encoded.items()}
    name = identity.data_name(config.choices.data, config.data)
    data = fingerprint.describe_data(name, dataset, truncated, task.columns.known)

    began_with = {}
    if program.is_main_process():
        content, base = fingerprint.describe_rows(dataset, data["columns"]), hash_base(task, augmentation)
        began_with = inputs.describe(identity.settings(config), content, data["fingerprint"], base)

    with run.open(objects.to_yaml(config), began_with):
        settings = {"run": run, "tuning": tuning, "augmentation": augmentation, "seed": config.seed}
        answers = folds.cross_validate(task, processor, vocabulary, dataset, encoded, args=args, **settings)
        trained = fit.fit(
            task, model, processor, vocabulary, dataset, encoded, args=final, early_stopping=early_stopping,
            evaluators=evaluators, **settings,
        )  # fmt: skip
        if program.is_main_process():
            save.save(trained.model, task, processor, vocabulary, run.directory / "model")
        processes.wait_for_all()  # every rank answers with the saved model
        answerer = saved.load(run.directory / "model", unfinished=True)
        measured = splits.choose_splits(dataset, with_test=not program.is_multirun())
        answers += [answerer.answer_split(dataset[split], split)[0] for split in measured]
        if program.is_main_process():
            metrics = evaluate(evaluators, answers, rule=rule, held_out=trained.held_out)
            if is_trained:
                metrics["advice"] = advise_on_labels(metrics, encoded["train"].references.get("label", []))
                metrics["advice"] += length.advise_on_length(trained.history, final, rows["validation"])
                metrics["advice"] += finite.advise_on_chance(trained.history, task, encoded["train"], final)
                fingerprint.write_train_rows(run.directory, dataset["train"])
            fingerprint.add(data, "limit", {split: rows.limit for split, rows in encoded.items() if rows.truncated})
            fingerprint.add(data, "unknown", unknown.count(task, trained.model, encoded))
            record = identity.record(config, args) | {"example": example}
            metrics |= records.write_record(run, record, task.describe(), data, trained.figures, trained.history)
            saved.write_threshold(run.directory / "model", metrics["rejection"], data)
            blocks = build_blocks(evaluators, answers, metrics)
            written.write_evaluation(run.directory, answers, metrics, blocks)
            clips.write_run_clips(run.directory, blocks, dataset)
            page.write_report(run.directory, blocks)
            page.write_model_card(run.directory)


if __name__ == "__main__":
    main()
