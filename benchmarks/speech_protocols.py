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
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import ROOT, note, table
from numpy.typing import NDArray

MODELS = {"few-shot": ("whisper_svm", "mfcc_svm"), "unknown": ("whisper_svm", "mfcc_svm", "bcresnet", "bcresnet_made")}
EPOCHS = {"bcresnet": 40, "bcresnet_made": 25}  # once for each pair, in about as many steps
MADE = 150  # clips of each label
WINDOW = 1.2  # seconds that it hears at once: a keyword, and little of the silence around it
COUNTS = (1, 2, 5, 10, 20)  # examples a label
DRAWS = 20
UNKNOWN = 2  # labels that training does not know
FOLDS = 5  # of speakers
KEEP = 0.95  # of the known commands are to be accepted
NEIGHBOURS = 5
SCORES = {
    "probability": "the highest probability",
    "mahalanobis": "Mahalanobis distance to the nearest label's mean (Lee et al., arXiv:1807.03888)",
    "neighbours": f"cosine to the {NEIGHBOURS}th nearest training clip (Sun et al., arXiv:2204.06507), whitened",
}


Scores = dict[str, NDArray[np.float64]]  # in each way of SCORES, [rows]


@dataclass(frozen=True)
class Pool:
    """Clips with their features: `vectors` float32 [n, width]; `labels`, `speakers` and `splits` are names [n]."""

    task: Any
    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    speakers: NDArray[np.str_]
    splits: NDArray[np.str_]

    @property
    def how(self) -> str:
        """How speakers are held out, for the report."""
        return f"held out in {FOLDS} folds"

    @cached_property
    def names(self) -> list[str]:
        return sorted(set(self.labels.tolist()))

    @cached_property
    def held(self) -> NDArray[np.int64]:
        """The rows that `judge` holds out: all but those of test."""
        return np.flatnonzero(self.splits != "test")

    def judge(self, is_known: NDArray[np.bool_]) -> tuple[Scores, Scores]:
        """The scores of the held-out rows, each from a classifier that did not hear its speaker, and those of test's
        from one that is fitted on all others; neither knows a label of the rows [n] that are not `is_known`."""
        from sklearn.model_selection import GroupKFold

        held = {score: np.full(len(self.held), np.nan) for score in SCORES}
        for fit, out in GroupKFold(FOLDS).split(self.held, groups=self.speakers[self.held]):
            found = self.fit(self.held[fit][is_known[self.held[fit]]]).scores(self.held[out])
            for score, values in found.items():
                held[score][out] = values
        return held, self.fit(self.held[is_known[self.held]]).scores(np.flatnonzero(self.splits == "test"))

    def fit(self, rows: NDArray[np.int64], seed: int = 0) -> Fitted:
        """The task's classifier on these rows and their labels."""
        from datasets import Dataset

        names = sorted(set(self.labels[rows].tolist()))
        features = remember(self.vectors)
        data = {"row": rows, "labels": np.searchsorted(names, self.labels[rows]), "speaker": self.speakers[rows]}
        train = Dataset.from_dict({name: column.tolist() for name, column in data.items()})
        estimator = self.task.build_trainer(None, features, None, {"train": train}, names, seed=seed)
        estimator.train()
        return Fitted(self, rows, names, estimator)


@dataclass(frozen=True)
class Fitted:
    pool: Pool
    rows: NDArray[np.int64]
    names: list[str]
    estimator: Any

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 [rows, names]."""
        answer: NDArray[np.float64] = self.pool.task.decode(self.estimator.predict({"row": rows}).predictions)
        return answer

    def right(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        predicted = np.array(self.names)[self.probabilities(rows).argmax(axis=1)]
        return predicted == self.pool.labels[rows]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the classifier sees of them, [rows, width]."""
        seen: NDArray[np.float64] = self.estimator.features({"row": rows}).astype(np.float64)
        return seen

    @cached_property
    def whitening(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """[width, width] that makes the spread within labels round; training vectors and label means after it."""
        from sklearn.covariance import ledoit_wolf

        vectors = self.vectors(self.rows)
        own = np.searchsorted(self.names, self.pool.labels[self.rows])
        means = np.stack([vectors[own == i].mean(axis=0) for i in range(len(self.names))])
        covariance, _ = ledoit_wolf(vectors - means[own])
        matrix = np.linalg.cholesky(np.linalg.inv(covariance))
        return matrix, vectors @ matrix, means @ matrix

    def scores(self, rows: NDArray[np.int64]) -> Scores:
        """How sure it is that each row [rows] is one of its labels, in each way of SCORES; more is surer."""
        matrix, train, means = self.whitening
        vectors = self.vectors(rows) @ matrix
        distances = ((vectors[:, None] - means[None]) ** 2).sum(axis=2)
        centre = train.mean(axis=0)
        near = np.sort(_unit(vectors - centre) @ _unit(train - centre).T, axis=1)
        return {
            "probability": self.probabilities(rows).max(axis=1),
            "mahalanobis": -distances.min(axis=1),
            "neighbours": near[:, -min(NEIGHBOURS, near.shape[1])],
        }


@dataclass(frozen=True)
class Hearing(Pool):
    """As `Pool`, for a network, which is trained anew for each fit: on `encoded`, as `config` says.

    It holds out the speakers of validation, so that one training is enough, and `vectors` is not used. Made speech is a
    split of its own, "made".
    """

    config: Any = None
    encoded: Any = None  # the rows of all splits, in order

    @property
    def how(self) -> str:
        return f"held out as validation, trained once a pair for {self.config.training.num_train_epochs:g} epochs"

    @cached_property
    def held(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.splits == "validation")

    def judge(self, is_known: NDArray[np.bool_]) -> tuple[Scores, Scores]:
        trained = self.fit(np.flatnonzero(np.isin(self.splits, ("train", "made")) & is_known))
        return trained.scores(self.held), trained.scores(np.flatnonzero(self.splits == "test"))

    def fit(self, rows: NDArray[np.int64], seed: int = 0) -> Fitted:
        """The network trained on these rows and their labels; it keeps no checkpoint."""
        from datasets import DatasetDict

        from voicecommand.config import arguments, objects
        from voicecommand.training import fit as training_fit

        names = sorted(set(self.labels[rows].tolist()))
        note(f"{len(rows):,} clips of {', '.join(names)}")
        training_fit.seed_everything(seed)
        task, tuning, augmentation = (objects.build(self.config.get(group)) for group in ("model", "tuning", "augment"))
        chosen = self.encoded.select(rows)
        chosen = chosen.remove_columns("labels").add_column(
            "labels", np.searchsorted(names, self.labels[rows]).tolist()
        )
        processor = task.load_processor()
        with tempfile.TemporaryDirectory() as directory:
            trainer = task.build_trainer(
                arguments.build_training_arguments(self.config, Path(directory)),
                task.load_model(names, processor),
                processor,
                DatasetDict(train=chosen, validation=chosen.select([0])),
                names,
                tuning,
                [],
                seed,
                augmentation,
            )
            trainer.train()
        return Heard(self, rows, names, trainer)


@dataclass(frozen=True)
class Heard(Fitted):
    """A trained network: `estimator` is its Trainer."""

    @cached_property
    def everything(self) -> NDArray[np.float32]:
        """What the classifier sees of each clip of the pool, the mean over its windows by their energy."""
        import torch

        model = self.estimator.model
        classifier, model.classifier = model.classifier, torch.nn.Identity()
        try:
            clips = self.pool.encoded.remove_columns("labels")
            hidden: NDArray[np.float32] = self.estimator.predict(clips).predictions
        finally:
            model.classifier = classifier
        return hidden

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.everything[rows].astype(np.float64)

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            hidden = torch.from_numpy(self.everything[rows]).to(self.estimator.model.device)
            logits = self.estimator.model.classifier(hidden)
        answer: NDArray[np.float64] = self.pool.task.decode(logits.cpu().numpy())
        return answer


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def remember(vectors: NDArray[np.float32]) -> Any:
    """Features of the library whose vectors are known: a data set is a column `row` of numbers into `vectors`."""
    from voicecommand.models.audio_features import _SoundFeatures

    class Remembered(_SoundFeatures):
        def _rows(self, dataset: Any) -> np.ndarray:
            return vectors[np.asarray(dataset["row"])]

        def width(self) -> int:
            return vectors.shape[1]

    return Remembered()


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
    from voicecommand.errors import InputError

    try:
        models = {name: PROTOCOLS[options.protocol](load_pool(name, options)) for name in names}
    except InputError as error:
        note(f"error: {error}")
        return 2
    content = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"protocols": {}}
    content = measuring.rounded(merge(content["protocols"], options.protocol, models))
    measuring.write_results(options.out, content, report(content))
    if options.protocol == "few-shot":
        options.figure.write_bytes(few_shot_png(content["protocols"]["few-shot"]["models"]))
    print(report({"protocols": {options.protocol: content["protocols"][options.protocol]}}))
    return 0


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
    from datasets import concatenate_datasets

    from voicecommand.config import objects, program
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
    dataset = training_fit.prepare(objects.load_data(config, task.columns), task.columns, 1)
    if model == "bcresnet_made":
        dataset["made"] = load_made(options.made, task.columns)
    joined = concatenate_datasets(list(dataset.values()))
    splits = np.concatenate([np.full(len(rows), split) for split, rows in dataset.items()])
    labels, speakers = (np.array(joined[name][:]) for name in ("label", "speaker"))
    if task.kind == "network":
        encoded = training_fit.encode(dataset, task, task.load_processor(), training_fit.find_label_names(dataset))
        rows = concatenate_datasets([split.select_columns(encoded["test"].column_names) for split in encoded.values()])
        return Hearing(task, np.empty((0, 0)), labels, speakers, splits, config=config, encoded=rows)
    features = task.load_model([], task.load_processor())
    note(f"{model}: features of {len(joined):,} clips")
    return Pool(task, features._rows(joined), labels, speakers, splits)


def load_made(directory: str, columns: Sequence[str]) -> Any:
    """MADE clips of each label of the synthesised speech in DIR/train, prepared; drawn from seed 0."""
    from voicecommand.data.sources.folder import load_folder
    from voicecommand.training import fit as training_fit

    found = load_folder(tuple(columns), path=str(Path(directory) / "train"), split={"validation": 0, "test": 0})
    rows = training_fit.prepare(found, columns, 1)["train"]
    order = np.random.default_rng(0).permutation(len(rows))
    labels = np.array(rows["label"][:])[order]
    return rows.select(np.sort(np.concatenate([order[labels == name][:MADE] for name in np.unique(labels)])))


def draw_few(pool: Pool, counts: Sequence[int], draws: int) -> list[dict[int, NDArray[np.int64]]]:
    """Of each draw, so many clips of each label, not of test; those of a smaller number are among a greater one's."""
    train, found = np.flatnonzero(np.isin(pool.splits, ("train", "validation"))), []
    for draw in range(draws):
        order = np.random.default_rng([0, draw]).permutation(train)
        of_label = [order[pool.labels[order] == name] for name in pool.names]
        found.append({count: np.concatenate([rows[:count] for rows in of_label]) for count in counts})
    return found


def measure_few_shot(pool: Pool, counts: Sequence[int] = COUNTS, draws: int = DRAWS) -> dict[str, Any]:
    """Accuracy on test after training on so many clips of each label.

    The interval is a bootstrap over test's speakers of the mean over the draws; `spread` (the standard deviation),
    `min` and `max` are over the draws.
    """
    from voicecommand.evaluation.intervals import mean_with_interval

    test = np.flatnonzero(pool.splits == "test")
    right: dict[int, list[NDArray[np.bool_]]] = {count: [] for count in counts}
    for drawn in draw_few(pool, counts, draws):
        for count, rows in drawn.items():
            right[count].append(pool.fit(rows).right(test))
    found = []
    for count in counts:
        hits = np.stack(right[count])
        accuracies = hits.mean(axis=1)
        figure = mean_with_interval(hits.mean(axis=0), pool.speakers[test].tolist(), "speaker")
        spread = {"spread": accuracies.std(ddof=1), "min": accuracies.min(), "max": accuracies.max()}
        found.append({"examples": count, **figure, **{name: float(value) for name, value in spread.items()}})
    return {"draws": draws, "labels": len(pool.names), "test": len(test), "curve": found}


def measure_unknown(pool: Pool) -> dict[str, Any]:
    """How often a command is accepted whose label training did not know; each pair of labels is unknown once.

    Test's speakers decide nothing. Others are held out (`pool.judge`): the threshold accepts KEEP of their clips with
    known labels, and which score is used for a pair, `chosen`, is decided by the AUROC, averaged over the pairs that
    share no label with it, so that no clip of the pair counts as unknown there.
    """
    from voicecommand.evaluation.confidence import auroc

    test = np.flatnonzero(pool.splits == "test")
    pairs = list(itertools.combinations(pool.names, UNKNOWN))
    aurocs, accepted, at_recall = {}, {}, {}
    for pair in pairs:
        is_known = ~np.isin(pool.labels, pair)
        held, scores = pool.judge(is_known)
        for score in SCORES:
            known, others = held[score][is_known[pool.held]], held[score][~is_known[pool.held]]
            aurocs[pair, score] = auroc(known, others)
            accepted[pair, score] = scores[score] >= threshold(known)
            at_recall[pair, score] = scores[score] >= threshold(scores[score][is_known[test]])
    chosen = {}
    for pair in pairs:
        apart = [other for other in pairs if not set(other) & set(pair)]
        chosen[pair] = max(SCORES, key=lambda score: np.mean([aurocs[other, score] for other in apart]))
    is_unknown = np.stack([np.isin(pool.labels[test], pair) for pair in pairs])
    rows = {}
    for score in (*SCORES, "chosen"):
        used = [chosen[pair] if score == "chosen" else score for pair in pairs]
        taken, exact = (np.stack([of[key] for key in zip(pairs, used, strict=True)]) for of in (accepted, at_recall))
        rows[score] = {
            "false_accepts": mean_over_pairs(taken, is_unknown, pool.speakers[test]),
            "recall": mean_over_pairs(taken, ~is_unknown, pool.speakers[test]),
            "false_accepts_at_recall": mean_over_pairs(exact, is_unknown, pool.speakers[test]),
            "auroc_held_out": float(np.mean([aurocs[key] for key in zip(pairs, used, strict=True)])),
        }
    counts = {score: list(chosen.values()).count(score) for score in SCORES}
    named = [" ".join(pair) for pair in pairs]
    return {"pairs": named, "keep": KEEP, "held": pool.how, "chosen": counts, "scores": rows, "test": len(test)}


def threshold(scores: NDArray[np.float64], keep: float = KEEP) -> float:
    """The highest that at least `keep` of the scores reach."""
    return float(np.sort(scores)[::-1][max(1, int(np.ceil(keep * len(scores) - 1e-9))) - 1])


def mean_over_pairs(
    accepted: NDArray[np.bool_], counted: NDArray[np.bool_], speakers: NDArray[np.str_], resamples: int = 1000
) -> dict[str, Any]:
    """The share of the counted clips that is accepted, of each pair, and their mean, least and greatest.

    Both are [pairs, clips]. The interval is a bootstrap over speakers, a speaker's clips drawn for all pairs at once.
    """
    names, own = np.unique(speakers, return_inverse=True)
    by_speaker = np.zeros((2, len(names), len(accepted)))
    np.add.at(by_speaker[0], own, (accepted & counted).T)
    np.add.at(by_speaker[1], own, counted.T)
    shares = by_speaker[0].sum(axis=0) / by_speaker[1].sum(axis=0)
    weights = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    hits, sizes = weights @ by_speaker[0], weights @ by_speaker[1]
    drawn = np.divide(hits, sizes, out=np.full(hits.shape, np.nan), where=sizes > 0)
    low, high = np.quantile(np.nanmean(drawn, axis=1), [0.025, 0.975])
    return {
        "value": float(shares.mean()),
        "low": float(low),
        "high": float(high),
        "method": f"bootstrap over {len(names)} groups (speaker)",
        "least": float(shares.min()),
        "greatest": float(shares.max()),
        "by_pair": shares.tolist(),
    }


PROTOCOLS = {"few-shot": measure_few_shot, "unknown": measure_unknown}


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def with_interval(figure: dict[str, Any]) -> str:
    return f"{percent(figure['value'])} ({percent(figure['low'])} to {percent(figure['high'])})"


def report(content: dict[str, Any]) -> str:
    """Markdown of the protocols that were measured, each with its command."""
    parts = []
    for name, write in (("few-shot", few_shot_report), ("unknown", unknown_report)):
        if name in content["protocols"]:
            protocol = content["protocols"][name]
            parts += [write(protocol["models"]), f"`{protocol['command']}`"]
    return "\n\n".join(parts)


def few_shot_report(models: dict[str, Any]) -> str:
    first = next(iter(models.values()))
    header = ["model", "examples a label", "test accuracy %", "draws from, to"]
    rows = []
    for name, model in models.items():
        for own in model["curve"]:
            drawn = f"{percent(own['min'])}, {percent(own['max'])}"
            rows.append([name, own["examples"], with_interval(own), drawn])
    said = (
        f"Trained on so many clips of each of {first['labels']} labels, {first['draws']} draws from the speakers of"
        f" train, tested on the {first['test']} clips. Interval of the mean: {first['curve'][0]['method']};"
        " one from a figure to itself says nothing: no draw of speakers changes it."
    )
    return f"### Few examples a label (keywords)\n\n{said}\n\n{table(header, rows)}"


def unknown_report(models: dict[str, Any]) -> str:
    first = next(iter(models.values()))
    held = "; ".join(f"{name}: {model['held']}" for name, model in models.items())
    header = ["model", "score", "false accepts %", "worst pair", "recall %", "worst pair"]
    header += ["false accepts at 95 % recall", "worst pair"]
    rows: dict[bool, list[list[str]]] = {False: [], True: []}
    for name, model in models.items():
        for score, row in model["scores"].items():
            wrong, recall, exact = row["false_accepts"], row["recall"], row["false_accepts_at_recall"]
            cells = [with_interval(wrong), percent(wrong["greatest"]), with_interval(recall), percent(recall["least"])]
            cells += [with_interval(exact), percent(exact["greatest"])]
            rows[name == "bcresnet_made"].append([name, score, *cells])
    counted = {
        name: ", ".join(f"{score} for {n}" for score, n in model["chosen"].items() if n)
        for name, model in models.items()
    }
    said = (
        f"Two of the labels are unknown to training, all {len(first['pairs'])} pairs in turn. The threshold accepts"
        f" {100 * first['keep']:.0f} % of the known labels' clips of speakers of train that were held out ({held}); the"
        " last two columns take it from the test clips themselves instead, so that the"
        f" recall is that. Means over the pairs, on {first['test']} clips;"
        f" {first['scores']['chosen']['recall']['method']}; an interval from a figure to itself says nothing: no draw"
        " of speakers changes it. Scores: "
        + "; ".join(f"{name}, {what}" for name, what in SCORES.items())
        + ". `chosen` is, for each pair, the one with the best AUROC on held-out speakers of train over the pairs that"
        f" share no label with it: {'; '.join(f'{name}: {what} pairs' for name, what in counted.items())}."
    )
    parts = ["### Unknown commands (keywords)", said, table(header, rows[False])]
    if rows[True]:
        added = (
            f"With {MADE} clips of made speech of each known label in training too (`--made DIR`, of data=synthesised)"
        )
        parts += [f"{added}:", table(header, rows[True])]
    return "\n\n".join(parts)


def few_shot_png(models: dict[str, Any]) -> bytes:
    """The curves: mean over the draws, the range of the draws as bars."""
    from voicecommand.report import figures

    figure = figures.new_figure(6.4, 3.8)
    axes = figure.subplots()
    first = next(iter(models.values()))
    for i, ((name, model), colour) in enumerate(zip(models.items(), figures.LINES, strict=False)):
        curve = model["curve"]
        counts = [point["examples"] * 1.03**i for point in curve]  # side by side
        mean, low, high = (np.array([100 * point[key] for point in curve]) for key in ("value", "min", "max"))
        spread = np.maximum([mean - low, high - mean], 0)
        axes.errorbar(counts, mean, spread, color=colour, marker="o", markersize=4, elinewidth=1, capsize=2, label=name)
    axes.set_xscale("log")
    axes.set_xticks([point["examples"] for point in first["curve"]])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_xlabel("examples of each label in training")
    axes.set_ylabel("test accuracy %")
    axes.set_title(f"mean of {first['draws']} draws; bars: the worst to the best draw", fontsize=10)
    axes.grid(color=figures.GREY, alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figures.to_png(figure)


if __name__ == "__main__":
    sys.exit(main())
