"""A saved run opened again: texts in, labels out. `voicecommand.load(DIR)` is the door to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.errors import InputError

TOP = 5


@dataclass
class CommandModel:
    """A trained command model, whatever way it was made.

    `label_names[i]` belongs to column i of `probabilities`. `threshold` is the probability below which an answer
    is rejected, None where the run measured none.
    """

    label_names: list[str]
    threshold: float | None
    max_length: int | None
    processor: Any
    model: Any
    kind: str

    def probabilities(self, texts: list[str], batch_size: int = 64) -> np.ndarray:
        """Texts -> float64 `[n, labels]`, rows that sum to 1."""
        if not texts:
            return np.zeros((0, len(self.label_names)))
        logits = self._network(texts, batch_size) if self.kind == "network" else self._estimator(texts)
        logits = logits - logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits.astype(np.float64))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predict(self, texts: list[str], batch_size: int = 64) -> list[dict[str, Any]]:
        """For each text: label, probability, top 5 (label, probability), accepted (None without a threshold)."""
        answers = []
        for row in self.probabilities(texts, batch_size):
            best = np.argsort(-row, kind="stable")[:TOP]
            top = [{"label": self.label_names[i], "probability": float(row[i])} for i in best]
            accepted = None if self.threshold is None else bool(row[best[0]] >= self.threshold)
            answers.append({**top[0], "top_5": top, "accepted": accepted})
        return answers

    def count_truncated(self, texts: list[str]) -> int:
        """How many of the texts are longer than the model reads."""
        limit = self._limit()
        return 0 if limit is None else sum(len(ids) > limit for ids in self.processor(texts)["input_ids"])

    def _limit(self) -> int | None:
        """Tokens that a text is cut to: the run's setting, or fewer where the checkpoint reads fewer."""
        return None if self.max_length is None else min(self.max_length, self.processor.model_max_length)

    def _network(self, texts: list[str], batch_size: int) -> np.ndarray:
        import torch

        ids = self.processor(
            texts, truncation=True, max_length=self._limit(), return_attention_mask=False, return_token_type_ids=False
        )["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # like lengths together: hardly any padding
        logits = np.zeros((len(ids), len(self.label_names)), dtype=np.float32)
        device = self.model.device
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            lengths = torch.tensor([len(ids[i]) for i in chosen])
            batch = torch.full((len(chosen), int(lengths[-1])), self.processor.pad_token_id)
            for row, i in enumerate(chosen):
                batch[row, : len(ids[i])] = torch.as_tensor(ids[i])
            mask = (torch.arange(batch.shape[1]) < lengths.unsqueeze(1)).long()
            with torch.inference_mode():
                output = self.model(input_ids=batch.to(device), attention_mask=mask.to(device)).logits
            logits[chosen] = output.float().cpu().numpy()
        return logits

    def _estimator(self, texts: list[str]) -> np.ndarray:
        if self.kind == "tfidf":
            return self.model.predict({"text": texts}).predictions
        ids = self.processor(texts, truncation=True, max_length=self._limit())["input_ids"]
        return self.model.predict({"input_ids": ids}).predictions


def find_model(directory: str | Path) -> Path:
    """The `model` folder of a run, or the folder itself where it is one.

    Raises:
        InputError: nothing of ours there.
    """
    directory = Path(directory)
    for path in (directory / "model", directory):
        if (path / "voicecommand.json").is_file():
            return path
    what = "no such directory" if not directory.exists() else "has no model/voicecommand.json: not a finished run"
    raise InputError(f"{directory}: {what}; give the directory that a training run printed")


def load(directory: str | Path) -> CommandModel:
    """Open the saved model of a run.

    Raises:
        InputError: not a saved model, or one that does not open.
    """
    from safetensors import SafetensorError

    path = find_model(directory)
    try:
        saved = json.loads((path / "voicecommand.json").read_text(encoding="utf-8"))
        names, kind = saved["label_names"], saved["kind"]
        threshold, max_length = saved.get("threshold"), saved.get("max_length")
        _check_settings(names, kind, threshold, max_length)
        processor, model = _open_network(path, names) if kind == "network" else _open_estimator(path, names, kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: does not open: {type(error).__name__}: {reason}") from error
    return CommandModel(names, threshold, max_length, processor, model, kind)


def _check_settings(names: Any, kind: Any, threshold: Any, max_length: Any) -> None:
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("voicecommand.json: label_names must be a list of at least two names")
    if kind not in ("network", "tfidf", "embedding"):
        raise ValueError(f"voicecommand.json: kind {kind!r} is none of network, tfidf, embedding")
    if not isinstance(threshold, float | int | None) or not isinstance(max_length, int | None):
        raise ValueError("voicecommand.json: threshold and max_length must be numbers or null")


def _open_network(path: Path, label_names: list[str]) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(
        str(path), trust_remote_code=False, use_safetensors=True, dtype=torch.float32
    )
    if [model.config.id2label.get(i) for i in range(model.config.num_labels)] != label_names:
        raise ValueError("config.json and voicecommand.json name different labels")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    return tokenizer, model.eval().to(device)


def _open_estimator(path: Path, label_names: list[str], kind: str) -> tuple[Any, Any]:
    from voicecommand.estimators import Estimator

    estimator = Estimator.load(path, label_names)
    if estimator.features.kind != kind:
        raise ValueError("features.json and voicecommand.json name different kinds")
    return getattr(estimator.features, "processor", None), estimator
