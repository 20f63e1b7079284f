"""Measure how a saved run stands up to noise (spoken commands) or to a recogniser's wrong words (written ones).

    python recipes/robustness.py run=runs/keywords/bcresnet-full-s42-1a2b3c4d data=keywords split=test
    python recipes/robustness.py run=DIR data=keywords noise=kitchen.wav

The table, the figure and the score go to robustness/<data>-<split>/ of the run.
"""

from voicecommand import config as door


@door.recipe("robustness")
def main(config):
    import voicecommand
    from voicecommand import inference, robustness, runs, training
    from voicecommand.data import checks

    found = inference.find_model(config.run)
    run = found.parent if found.name == "model" else found
    door.check_saved_config(run)
    runs.set_threads(config.threads)
    model = voicecommand.load(run)
    recording = robustness.read_recording(config.noise, model.columns)
    everything = door.load_data(config, model.columns)
    dataset = training.choose_evaluation(everything, config.split)
    dataset = training.prepare(type(dataset)({config.split: dataset[config.split]}), model.columns, config.num_proc)
    checks.check(dataset, model.columns, required=(config.split,))

    rows = dataset[config.split]
    commands, ids = model.read(rows), rows["id"][:]
    if "audio" in model.columns:
        speakers = rows["speaker"][:] if "speaker" in rows.column_names else None
        conditions = robustness.sound_conditions(commands, ids, speakers, recording, config.seed)
    else:
        corpus = (text for split in everything.values() for text in split["text"])
        conditions = robustness.text_conditions(commands, ids, corpus, config.seed)
    clean = training.collect_predictions(rows, config.split, model.probabilities(commands), model.label_names)
    result = robustness.measure(clean, conditions, model.probabilities)

    directory = run / "robustness" / f"{config.choices.data}-{config.split}"
    robustness.write_robustness(directory, result | {"seed": config.seed, "command": door.command()})
    print(robustness.format_robustness(result), f"figure: {directory / 'robustness.png'}", sep="\n")


if __name__ == "__main__":
    main()
