"""How often a model accepts commands with labels that are unknown to it, by different scores of confidence.

Each pair of labels is unknown once. Test's speakers decide nothing: the threshold and the choice of a score come from
other speakers, from which the models have not learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from voicecommand.compare.tables import Share, markdown_table, points, with_interval
from voicecommand.evaluation.confidence import auroc
from voicecommand.evaluation.threshold import KEEP, keep_share

if TYPE_CHECKING:
    from voicecommand.compare.pool import Fitted, Pool, Rows

UNKNOWN = 2  # labels that are left out of training
NEIGHBOURS = 5
SCORES = {
    "probability": "the highest probability",
    "mahalanobis": "Mahalanobis distance to the nearest label's mean (Lee et al., arXiv:1807.03888)",
    "neighbours": f"cosine to the {NEIGHBOURS}th nearest training clip (Sun et al., arXiv:2204.06507), whitened",
}
CHOSEN = "chosen"  # the score chosen for each pair on held-out speakers
Scores: TypeAlias = dict[str, NDArray[np.float64]]  # for each key of SCORES a number for each clip; higher is surer


class PairShare(Share):
    """The share of accepted clips: its mean over the pairs, the least and the greatest, and that of each pair."""

    method: str
    least: float
    greatest: float
    by_pair: list[float]


class ScoreFigures(TypedDict):
    """The figures of one score on test; `at_recall` ones have the threshold that accepts KEEP of test's known clips."""

    false_accepts: PairShare
    recall: PairShare
    false_accepts_at_recall: PairShare
    auroc_held_out: float


class Rejection(TypedDict):
    """All figures of a model.

    `pairs` are the unknown labels, `held` says how speakers were held out, `chosen` has the number of pairs for which
    each score was chosen, `test` is the number of clips.
    """

    pairs: list[str]
    keep: float
    held: str
    chosen: dict[str, int]
    scores: dict[str, ScoreFigures]
    test: int


# ---- scores ----


@dataclass(frozen=True)
class Scorer:
    """Scores of a fitted model on whitened vectors: their covariance within labels is the identity.

    `matrix` [width, width] whitens; `train` [rows, width] and `means` [labels, width] are the whitened training vectors
    and means of labels.
    """

    fitted: Fitted
    matrix: NDArray[np.float64]
    train: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: Fitted) -> Scorer:
        """The scorer of a model; the covariance is shrunk (Ledoit and Wolf 2004, J. Multivariate Analysis 88)."""
        from sklearn.covariance import ledoit_wolf

        vectors = fitted.vectors(fitted.rows)
        own = np.searchsorted(fitted.names, fitted.pool.labels[fitted.rows])
        means = np.stack([vectors[own == i].mean(axis=0) for i in range(len(fitted.names))])
        covariance, _ = ledoit_wolf(vectors - means[own])
        # with inverse covariance = L L^T, the covariance of vectors @ L is the identity
        matrix = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(fitted, matrix, vectors @ matrix, means @ matrix)

    def score(self, rows: Rows) -> Scores:
        """How sure the model is that each row is one of its labels, [rows] for each score."""
        vectors = self.fitted.vectors(rows) @ self.matrix
        distances = ((vectors[:, None] - self.means[None]) ** 2).sum(axis=2)
        centre = self.train.mean(axis=0)
        near = np.sort(_to_length_one(vectors - centre) @ _to_length_one(self.train - centre).T, axis=1)
        return {
            "probability": self.fitted.probabilities(rows).max(axis=1),
            "mahalanobis": -distances.min(axis=1),
            "neighbours": near[:, -min(NEIGHBOURS, near.shape[1])],
        }


def threshold(scores: NDArray[np.float64]) -> float:
    """The number that KEEP of further scores like these [n] reach; no less than the lowest of them."""
    return keep_share(scores, KEEP, float(scores.min()))


def _to_length_one(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def score_apart(pool: Pool, is_known: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    """Scores of the held-out rows `pool.held`, and of the test rows `pool.test`.

    Each held-out row is scored by a model that has not learnt from its speaker; models learn only from rows that are
    `is_known`, bool [n].
    """
    fits, last = pool.fit_apart(is_known)
    held = {score: np.full(len(pool.held), np.nan) for score in SCORES}
    for out, fitted in fits:
        for score, values in Scorer.of(fitted).score(pool.held[out]).items():
            held[score][out] = values
    return held, Scorer.of(last).score(pool.test)


# ---- figures ----


def measure_unknown(pool: Pool) -> Rejection:
    """How often commands with an unknown label are accepted; each pair of labels is unknown once.

    The threshold accepts KEEP of the held-out clips with known labels. The score for a pair, `chosen`, is the one with
    the best AUROC on held-out clips, averaged over the pairs that share no label with it, so that no clip of the pair
    counts as unknown there.
    """
    pairs = list(itertools.combinations(pool.names, UNKNOWN))
    aurocs: dict[tuple[tuple[str, ...], str], float] = {}
    accepted, at_recall = {}, {}
    for pair in pairs:
        is_known = ~np.isin(pool.labels, pair)
        held, scores = score_apart(pool, is_known)
        for score in SCORES:
            known, others = held[score][is_known[pool.held]], held[score][~is_known[pool.held]]
            aurocs[pair, score] = auroc(known, others)
            accepted[pair, score] = scores[score] >= threshold(known)
            at_recall[pair, score] = scores[score] >= threshold(scores[score][is_known[pool.test]])
    chosen = {pair: choose_score(pair, pairs, aurocs) for pair in pairs}
    is_unknown = np.stack([np.isin(pool.labels[pool.test], pair) for pair in pairs])
    speakers = pool.speakers[pool.test]
    rows: dict[str, ScoreFigures] = {}
    for score in (*SCORES, CHOSEN):
        keys = [(pair, chosen[pair] if score == CHOSEN else score) for pair in pairs]
        taken, exact = (np.stack([of[key] for key in keys]) for of in (accepted, at_recall))
        rows[score] = {
            "false_accepts": mean_over_pairs(taken, is_unknown, speakers),
            "recall": mean_over_pairs(taken, ~is_unknown, speakers),
            "false_accepts_at_recall": mean_over_pairs(exact, is_unknown, speakers),
            "auroc_held_out": float(np.mean([aurocs[key] for key in keys])),
        }
    return {
        "pairs": [" ".join(pair) for pair in pairs],
        "keep": KEEP,
        "held": pool.how,
        "chosen": {score: list(chosen.values()).count(score) for score in SCORES},
        "scores": rows,
        "test": len(pool.test),
    }


def choose_score(
    pair: tuple[str, ...], pairs: Iterable[tuple[str, ...]], aurocs: Mapping[tuple[tuple[str, ...], str], float]
) -> str:
    """The score with the best mean AUROC over the pairs that share no label with this one."""
    apart = [other for other in pairs if not set(other) & set(pair)]
    return max(SCORES, key=lambda score: np.mean([aurocs[other, score] for other in apart]))


def mean_over_pairs(
    accepted: NDArray[np.bool_], counted: NDArray[np.bool_], speakers: NDArray[np.str_], resamples: int = 1000
) -> PairShare:
    """The share of the counted clips that are accepted, for each pair, and its mean, least and greatest.

    Both are [pairs, clips]. The interval is a bootstrap over speakers; a drawn speaker has its clips in all pairs.
    """
    names, own = np.unique(speakers, return_inverse=True)
    # [2, speakers, pairs]: the numbers of accepted, and of counted clips
    by_speaker = np.zeros((2, len(names), len(accepted)))
    np.add.at(by_speaker[0], own, (accepted & counted).T)
    np.add.at(by_speaker[1], own, counted.T)
    shares = by_speaker[0].sum(axis=0) / by_speaker[1].sum(axis=0)
    # [resamples, speakers]: how often each speaker is drawn
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


# ---- in words ----


def describe(models: Mapping[str, Rejection]) -> str:
    """The paragraph on the method above the table."""
    first = next(iter(models.values()))
    held = "; ".join(f"{name}: {model['held']}" for name, model in models.items())
    counted = {
        name: ", ".join(f"{score} for {n}" for score, n in model["chosen"].items() if n)
        for name, model in models.items()
    }
    return (
        f"Two of the labels are unknown to training, all {len(first['pairs'])} pairs in turn. The threshold accepts"
        f" {100 * first['keep']:.0f} % of the known labels' clips of speakers of train that were held out ({held}); the"
        " last two columns take it from the test clips themselves instead, so that the"
        f" recall is that. Means over the pairs, on {first['test']} clips;"
        f" {first['scores'][CHOSEN]['recall']['method']}; an interval from a figure to itself says nothing: no draw"
        " of speakers changes it. Scores: "
        + "; ".join(f"{name}, {what}" for name, what in SCORES.items())
        + ". `chosen` is, for each pair, the one with the best AUROC on held-out speakers of train over the pairs that"
        f" share no label with it: {'; '.join(f'{name}: {what} pairs' for name, what in counted.items())}."
    )


def rejection_table(models: Mapping[str, Rejection]) -> str:
    """A row for each model and score, in Markdown."""
    header = ["model", "score", "false accepts %", "worst pair", "recall %", "worst pair"]
    header += ["false accepts at 95 % recall", "worst pair"]
    rows = []
    for name, model in models.items():
        for score, figures in model["scores"].items():
            wrong, recall, exact = figures["false_accepts"], figures["recall"], figures["false_accepts_at_recall"]
            cells = [with_interval(wrong), points(wrong["greatest"]), with_interval(recall), points(recall["least"])]
            rows.append([name, score, *cells, with_interval(exact), points(exact["greatest"])])
    return markdown_table(header, rows)
