"""Results on speech that one training can't give: few examples, unknown commands.

    python benchmarks/speech_protocols.py few-shot --path DIR --checkpoint DIR
    python benchmarks/speech_protocols.py unknown --path DIR --checkpoint DIR
    python benchmarks/speech_protocols.py unknown --path DIR --made DIR --models bcresnet_made

--path is the directory of data=keywords, whose speakers of train are never in test; --checkpoint that of Whisper
tiny.en, or none for the hub's. Models are those of conf/experiment/keywords_<model>.yaml, features and
classifier the library's. The features of a clip are computed once and cached, so that hundreds of fits of a support
vector machine take seconds; a network is trained anew for each fit, from seed 0 for EPOCHS epochs, to its end, on
windows of WINDOW seconds. bcresnet_made also learns made speech of the labels that it knows: --made is the directory of
data=synthesised, which benchmarks/make_synthesised.py makes.
Each program writes its own part of benchmarks/results/speech_protocols.json and .md.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
from measuring import ROOT, note

from voicecommand.compare import learning_curve, rejection
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from voicecommand.compare.pool import Pool

PROTOCOLS = {"few-shot": learning_curve.measure_few_shot, "unknown": rejection.measure_unknown}
MODELS = {"few-shot": ("whisper_svm", "mfcc_svm"), "unknown": ("whisper_svm", "mfcc_svm", "bcresnet", "bcresnet_made")}
EPOCHS = {"bcresnet": 40, "bcresnet_made": 25}  # once for each pair, in about as many steps
MADE = 150  # clips of each label
WINDOW = 1.2  # seconds of a window: a keyword, and little of the silence around it


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("protocol", choices=tuple(PROTOCOLS))
    parser.add_argument("--path", required=True, help="the directory of data=keywords")
    parser.add_argument("--checkpoint", help="a directory with Whisper tiny.en")
    parser.add_argument("--made", help="the directory of data=synthesised, for bcresnet_made")
    parser.add_argument("--models", nargs="+", choices=MODELS["unknown"], help="by default all that need no --made")
    parser.add_argument("--out", type=Path, default=measuring.RESULTS / "speech_protocols.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "few_shot.png", help="of few-shot")
    options = parser.parse_args()
    names = options.models or [name for name in MODELS[options.protocol] if name != "bcresnet_made" or options.made]
    if refused := set(names) - set(MODELS[options.protocol]):
        parser.error(f"--models {' '.join(refused)}: not for {options.protocol}")
    if "bcresnet_made" in names and not options.made:
        parser.error("--models bcresnet_made: give --made DIR")
    measuring.use_checkout()
    show_progress()
    try:
        models = {name: PROTOCOLS[options.protocol](load_pool(name, options)) for name in names}
    except InputError as error:
        note(f"error: {error}")
        return 2
    content = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"protocols": {}}
    content = measuring.rounded(merge(content["protocols"], options.protocol, models))
    measuring.write_results(options.out, content, report(content))
    if options.protocol == "few-shot":
        options.figure.write_bytes(learning_curve.few_shot_png(content["protocols"]["few-shot"]["models"]))
    print(report({"protocols": {options.protocol: content["protocols"][options.protocol]}}))
    return 0


def show_progress() -> None:
    """What compare/ logs, on standard error: which fit is under way."""
    logger = logging.getLogger("voicecommand.compare")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)


def merge(protocols: dict[str, Any], protocol: str, models: dict[str, Any]) -> dict[str, Any]:
    """What was measured before with `models` in its place; the command is the one that measures all models."""
    command = f"python benchmarks/speech_protocols.py {protocol} --path DIR --checkpoint DIR"
    known = {name: found for name, found in protocols.items() if name in PROTOCOLS}
    before = known.get(protocol, {"models": {}})["models"]
    found = {"command": command, "models": before | models}
    return {"benchmark": "speech_protocols", "protocols": known | {protocol: found}}


def load_pool(model: str, options: Any) -> Pool:
    """The clips of the data and their features, as experiment=keywords_<model> says.

    Raises:
        InputError: what the data or the checkpoint is refused for.
    """
    from voicecommand.compare import pool
    from voicecommand.config import arguments, objects, program
    from voicecommand.run import processes
    from voicecommand.training import fit as training_fit

    overrides = [f"experiment=keywords_{model.removesuffix('_made')}", f"data.path={json.dumps(options.path)}"]
    if options.checkpoint and model == "whisper_svm":
        overrides.append(f"model.checkpoint={json.dumps(options.checkpoint)}")
    if model in EPOCHS:
        overrides += [f"training.num_train_epochs={EPOCHS[model]}", "training.load_best_model_at_end=false", "seed=0"]
        overrides += ["training.eval_strategy=no", "training.save_strategy=no", "training.report_to=none"]
        overrides.append(f"model.max_seconds={WINDOW}")
    config = program.compose("train", overrides)
    processes.set_threads(config.threads)
    task = objects.build(config.model)
    dataset = training_fit.prepare(objects.load_data(config, task.columns.needed), "audio", 1)
    if model == "bcresnet_made":
        dataset["made"] = load_made(options.made, task.columns.needed)
    if model not in EPOCHS:
        return pool.build_estimator_pool(dataset, task)
    tuning, augmentation = (objects.build(config.get(group)) for group in ("tuning", "augment"))
    build_arguments = partial(arguments.build_training_arguments, config, objectives=task.objectives)
    return pool.build_network_pool(dataset, task, tuning, augmentation, EPOCHS[model], build_arguments)


def load_made(directory: str, columns: Sequence[str]) -> Any:
    """MADE clips of each label of the synthesised speech in DIR/train, prepared; drawn from seed 0."""
    from voicecommand.data.sources.folder import load_folder
    from voicecommand.training import fit as training_fit

    found = load_folder(tuple(columns), path=str(Path(directory) / "train"), split={"validation": 0, "test": 0})
    rows = training_fit.prepare(found, "audio", 1)["train"]
    order = np.random.default_rng(0).permutation(len(rows))
    labels = np.array(rows["label"][:])[order]
    return rows.select(np.sort(np.concatenate([order[labels == name][:MADE] for name in np.unique(labels)])))


def report(content: dict[str, Any]) -> str:
    """Markdown of the protocols that were measured, each with its command."""
    parts = []
    for name, write in (("few-shot", few_shot_report), ("unknown", unknown_report)):
        if name in content["protocols"]:
            protocol = content["protocols"][name]
            parts += [write(protocol["models"]), f"`{protocol['command']}`"]
    return "\n\n".join(parts)


def few_shot_report(models: dict[str, Any]) -> str:
    return f"### Few examples a label (keywords)\n\n{learning_curve.format_curves(models)}"


def unknown_report(models: dict[str, Any]) -> str:
    """The table, and one of its own for what also learnt made speech."""
    made = {name: model for name, model in models.items() if name == "bcresnet_made"}
    recorded = {name: model for name, model in models.items() if name not in made}
    parts = ["### Unknown commands (keywords)", rejection.describe(models), rejection.rejection_table(recorded)]
    if made:
        added = (
            f"With {MADE} clips of made speech of each known label in training too (`--made DIR`, of data=synthesised)"
        )
        parts += [f"{added}:", rejection.rejection_table(made)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
