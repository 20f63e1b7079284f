"""A new task needs only one file in a copy of tasks/ and one yaml in a copy of conf/.

It counts the words of a text by regression: no labels, no confusion matrix, no rejection.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

TASK = '''"""The number of words of a text, by regression."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from voicecommand.evaluation.blocks import Table
from voicecommand.evaluation.intervals import ratio_with_interval
from voicecommand.models.pretrained import load_network
from voicecommand.models.tokens import encode_texts, load_tokenizer
from voicecommand.tasks.base import Columns, Encoded, Loss, NetworkTask


class MeanError:
    name, targets, units_metric = "word_count", ("words",), "mean_error"
    primary_metric, greater_is_better, unit = "mean_error", False, "words"

    def errors(self, answers):
        return np.abs(np.asarray(answers.columns["words"]) - np.asarray(answers.references["words"]))

    def quick(self, answers):
        return {"mean_error": float(self.errors(answers).mean())}

    def score(self, answers):
        groups = (answers.groups, answers.group_column)
        return {"mean_error": ratio_with_interval(*self.units(answers), *groups, unit=self.unit)}

    def units(self, answers):
        errors = self.errors(answers)
        return errors, np.ones(len(errors))

    def blocks(self, scores, answers):
        worst = np.argsort(-self.errors(answers))[:3]
        rows = tuple((answers.texts[i], answers.references["words"][i], answers.columns["words"][i]) for i in worst)
        return [Table("Furthest from the number of words", ("text", "words", "answer"), rows)]


class Inputs(torch.nn.Module):
    def forward(self, batch):
        return {name: batch[name] for name in ("input_ids", "attention_mask")}, None


@dataclass(frozen=True)
class WordCount(NetworkTask):
    checkpoint: str
    name, hub_tag, head_weights = "word_count", "text-classification", {"words": 1.0}
    processor_class, model_class = "AutoTokenizer", "AutoModelForSequenceClassification"
    columns, evaluators = Columns(reads="text"), (MeanError(),)

    def load_processor(self, vocabulary):
        return load_tokenizer(self.checkpoint, None)

    def encode(self, rows, processor, vocabulary):
        texts = list(rows["text"][:])
        columns = encode_texts(texts, processor, 64)
        cut, words = sum(columns.pop("truncated")), [len(text.split()) for text in texts]
        return Encoded(columns | {"words": words}, {"words": words}, cut, "longer than 64 tokens, and cut to them")

    def load_model(self, vocabulary, processor):
        settings = {"num_labels": 1, "dtype": torch.float32}
        return load_network(AutoModelForSequenceClassification, self.checkpoint, None, "", **settings)

    def build_collator(self, model, processor, draws=None):
        def collate(rows):
            ids = {"input_ids": [row["input_ids"] for row in rows]}
            batch = dict(processor.pad(ids, return_attention_mask=True, return_tensors="pt"))
            numbers = {name: [row[name] for row in rows] for name in ("words", "weight") if name in rows[0]}
            return batch | {name: torch.tensor(values, dtype=torch.float32) for name, values in numbers.items()}

        return collate

    def build_inputs(self, model, processor, augmenter=None):
        return Inputs()

    def losses(self, model, inputs, batch):
        return {"words": Loss(values=(model(**inputs).logits[:, 0] - batch["words"]).square())}

    def count(self, batch):
        return {"words": int((batch["weight"] > 0).sum())}

    def respond(self, model, to_inputs, batch, decoding):
        return model(**to_inputs(batch)[0]).logits[:, 0].float()

    def decode(self, raw, batch, vocabulary, processor, decoding):
        return {"words": raw.tolist()}
'''
YAML = """# The number of words of a text.
#   accelerate launch recipes/train.py model=word_count
# expected: not measured yet
defaults:
  - /training@_global_.training: fine_tune_small
  - /tuning@_global_.tuning: full
  - _self_

_target_: voicecommand.tasks.word_count.WordCount
checkpoint: ???
"""


@pytest.mark.slow
def test_a_new_kind_of_answer_is_one_file_and_one_yaml(
    checkpoints: dict[str, Path], commands_csv: Path, tmp_path: Path
) -> None:
    for name in ("conf", "src", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/voicecommand/tasks/word_count.py").write_text(TASK)
    (tmp_path / "conf/model/word_count.yaml").write_text(YAML)

    def run(recipe: str, *words: str) -> str:
        variables = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
        command = [sys.executable, f"recipes/{recipe}.py", *words]
        done = subprocess.run(command, cwd=tmp_path, env=variables, text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    data = ("data=file", f"data.path={commands_csv}", "threads=1")
    checkpoint = f"model.checkpoint={checkpoints['bert_uncased']}"
    short = ("precision=fp32", "training.num_train_epochs=20", "training.learning_rate=3e-3", "training.report_to=none")
    short += ("training.per_device_train_batch_size=8",)
    output = run("train", "model=word_count", checkpoint, *data, *short)
    (directory,) = (tmp_path / "runs/file-commands").glob("word_count-*")
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["objective"]["metric"] == "mean_error" and not metrics["objective"]["greater_is_better"]
    figure = metrics["splits"]["test"]["mean_error"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert f"mean error {figure['value']:.3g} words" in output
    history = json.loads((directory / "history.json").read_text())
    errors = [entry["eval_mean_error"] for entry in history if "eval_mean_error" in entry]
    assert min(errors) < 0.7 * errors[0], "it learns"
    assert metrics["splits"]["validation"]["mean_error"]["value"] == pytest.approx(min(errors), abs=1e-4)
    page = (directory / "report.html").read_text()
    assert "Furthest from the number of words" in page and "mean error" in page
    assert "mean error" in (directory / "model/README.md").read_text()

    run("evaluate", f"run={directory}", *data)
    (evaluated,) = directory.glob("evaluations/file-commands-test-*/metrics.json")
    again = json.loads(evaluated.read_text())
    assert again["splits"]["test"]["mean_error"] == figure
    answer = json.loads(run("predict", str(directory), "turn on the kitchen lights").splitlines()[0])
    assert 2 < answer["words"] < 8
