"""Measure a saved run on any data with its targets: the same report as after training.

    python recipes/evaluate.py run=latest                                          (its own data, split=test)
    python recipes/evaluate.py run=runs/file-requests/bert-full-s42-1a2b3c4d data=file data.path=recorded.csv

The files go to evaluations/<data>-<split>-<8 hex of the data's fingerprint>/ of the run.
"""

import environment  # noqa: F401  (first: it says how to get in)

from voicecommand.columns import ALL
from voicecommand.config import identity, measured, overrides, program


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
    from voicecommand.training import fit, unknown

    rule = Rule(**config.reject)
    rule.check_saving(config.save)
    run = saved.find_run(config.run)
    overrides.check_saved_config(run)
    processes.set_threads(config.threads)
    model = voicecommand.load(run)
    columns, evaluators = model.task.columns, append_metrics(model.task.evaluators, config.metrics)
    given = measured.load_data(config, run, columns.needed)
    dataset = splits.choose_evaluation(given.dataset, config.split)
    model.check_labels(dataset)
    rule.check(dataset, config.split)
    measured.warn_of_test(given, config)
    dataset = fit.prepare(dataset, columns.reads, config.num_proc)
    findings.check(dataset, columns.needed, required=(config.split,))
    data = fingerprint.describe_data(given.name, dataset, {}, columns.known)
    if given.is_own and config.split != ALL:
        fingerprint.warn_of_changes(records.read_data(run)[0], data)
    else:
        fingerprint.add(data, "trained_on", fingerprint.count_train_rows(run, dataset))
    answered = {split: model.answer_split(rows, split) for split, rows in dataset.items()}
    answers = [answers for answers, _ in answered.values()]
    metrics = evaluate(evaluators, answers, model.threshold, model.set_on, rule, move_on=config.split)
    if config.save:
        saved.move_threshold(run, metrics["rejection"], data)
        if (run / "model").is_dir():
            page.write_model_card(run)

    directory = records.place_of(run, "evaluations", data, config.split)
    directory.mkdir(parents=True, exist_ok=True)
    blocks = build_blocks(evaluators, answers, metrics)
    written.write_evaluation(directory, answers, metrics, blocks)
    clips.write_run_clips(directory, blocks, dataset)
    counts = {split: found.unknown for split, (_, found) in answered.items()}
    unknown.log(counts)
    for split, (_, found) in answered.items():
        fit.log_truncated(split, found.truncated, len(dataset[split]), found.limit)
    fingerprint.add(data, "truncated", {split: found.truncated for split, (_, found) in answered.items()})
    fingerprint.add(data, "limit", {split: found.limit for split, (_, found) in answered.items() if found.truncated})
    fingerprint.add(data, "unknown", unknown.describe(counts))
    records.write_evaluation_record(directory, run, data, identity.command())
    path = page.write_report(directory, blocks, run)
    print(terminal.format_summary(metrics, str(run)), f"report: {path}", sep="\n")


if __name__ == "__main__":
    main()
