"""Measure a saved run on any data with its targets: the same report as after training.

    python recipes/evaluate.py run=runs/commands/bert-full-s42-1a2b3c4d data=commands split=test

The files go to evaluations/<data>-<split>/ of the run.
"""

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand.config import identity, objects, overrides, program


@program.recipe("evaluate")
def main(config):
    import voicecommand
    from voicecommand.data import fingerprint, splits
    from voicecommand.data.audit import findings
    from voicecommand.evaluation.scikit_learn import append_metrics
    from voicecommand.evaluation.splits import build_blocks, evaluate
    from voicecommand.evaluation.threshold import Rule
    from voicecommand.report import clips, page, terminal, written
    from voicecommand.run import processes, records
    from voicecommand.tasks import saved
    from voicecommand.training import fit

    rule = Rule(**config.reject)
    rule.check_saving(config.save)
    run = saved.find_run(config.run)
    overrides.check_saved_config(run)
    processes.set_threads(config.threads)
    model = voicecommand.load(run)
    columns, evaluators = model.task.columns, append_metrics(model.task.evaluators, config.metrics)
    dataset = splits.choose_evaluation(objects.load_data(config, columns.needed), config.split)
    rule.check(dataset, config.split)
    dataset = fit.prepare(dataset, columns.reads, config.num_proc)
    findings.check(dataset, columns.needed, required=(config.split,))
    answered = {split: model.answer_split(rows, split) for split, rows in dataset.items()}
    answers = [answers for answers, _ in answered.values()]
    metrics = evaluate(evaluators, answers, model.threshold, model.set_on, rule, move_on=config.split)
    truncated = {split: given.truncated for split, (_, given) in answered.items()}
    data = fingerprint.describe_data(config.choices.data, dataset, truncated, columns.known)
    if config.save:
        saved.move_threshold(run, metrics["rejection"], data)
        if (run / "model").is_dir():
            page.write_model_card(run)

    directory = run / "evaluations" / f"{config.choices.data}-{config.split}"
    directory.mkdir(parents=True, exist_ok=True)
    blocks = build_blocks(evaluators, answers, metrics)
    written.write_evaluation(directory, answers, metrics, blocks)
    clips.write_run_clips(directory, blocks, dataset)
    for split, (_, given) in answered.items():
        fit.log_truncated(split, given.truncated, len(dataset[split]), given.limit)
    records.write_evaluation_record(directory, run, data, identity.command())
    path = page.write_report(directory, blocks, run)
    print(terminal.format_summary(metrics, str(run)), f"report: {path}", sep="\n")


if __name__ == "__main__":
    main()
