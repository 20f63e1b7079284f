"""Few examples of each label: which clips are drawn, and the figures of the curve."""

from __future__ import annotations

from collections.abc import Callable

from voicecommand.compare import learning_curve
from voicecommand.compare.pool import EstimatorPool

PoolMaker = Callable[..., EstimatorPool]


def test_few_examples_come_from_the_speakers_of_train_and_fewer_are_among_more(make_pool: PoolMaker) -> None:
    pool = make_pool()
    for drawn in learning_curve.draw_few(pool, (1, 3), 4):
        assert set(drawn[1]) < set(drawn[3])
        assert sorted(pool.labels[drawn[3]]) == sorted(pool.names * 3)
        assert "test" not in pool.splits[drawn[3]]
    first, second = (learning_curve.draw_few(pool, (3,), 2)[i][3].tolist() for i in (0, 1))
    assert first != second


def test_more_examples_are_worth_more_and_the_interval_holds_the_mean(make_pool: PoolMaker) -> None:
    curve = learning_curve.measure_few_shot(make_pool(spread=2.5), (1, 8), 3)["curve"]
    assert curve[0]["value"] < curve[1]["value"]
    for point in curve:
        assert point["low"] <= point["value"] <= point["high"]
        assert point["min"] <= point["value"] <= point["max"] and point["spread"] > 0
        assert point["method"] == "bootstrap over 5 groups (speaker)" and "fewer than 10" in point["note"]


def test_every_model_has_its_points_in_the_table_and_the_figure(make_pool: PoolMaker) -> None:
    pool = make_pool()
    counts = {"a": (1, 2), "b": (1,)}
    models = {name: learning_curve.measure_few_shot(pool, each, 2) for name, each in counts.items()}
    text = learning_curve.format_curves(models)
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith(("| a", "| b"))]
    assert [(name.strip(), int(count)) for name, count in rows] == [("a", 1), ("a", 2), ("b", 1)]
    assert "2 draws" in text and f"{models['a']['test']} clips" in text
    assert learning_curve.few_shot_png(models).startswith(b"\x89PNG")
