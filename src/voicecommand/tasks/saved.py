"""A saved run opened again: commands in, labels out. `voicecommand.load(DIR)` is the door to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.audio.clips import SAMPLING_RATE, Clips, to_int16
from voicecommand.audio.decode import read_audio
from voicecommand.errors import InputError
from voicecommand.run.device import find_device
from voicecommand.tasks.classification import to_probabilities

TOP = 5
KINDS = {
    "text_classification": ("network", "tfidf", "embedding"),
    "audio_classification": ("network", "mfcc", "speech_embedding"),
}


@dataclass
class CommandModel:
    """A trained command model, whatever way it was made.

    `label_names[i]` belongs to column i of `probabilities`. `threshold` is the probability below which an answer
    is rejected, None where the run measured none. Commands are texts for a model of text; for one of sound they
    are paths of sound files, or waveforms `[samples]`, mono at 16 kHz, int16, or float32 within -1 to 1.
    """

    label_names: list[str]
    threshold: float | None
    max_length: int | None
    max_seconds: float | None
    processor: Any
    model: Any
    task: str
    kind: str

    @property
    def columns(self) -> tuple[str, ...]:
        """What a data set must have to measure this model on."""
        return ("audio" if self.task == "audio_classification" else "text", "label")

    def read(self, rows: Any) -> Any:
        """The commands of a data set that has `columns`, its sound prepared."""
        return Clips(rows) if "audio" in self.columns else rows["text"][:]

    def probabilities(self, commands: Sequence[Any], batch_size: int = 64) -> np.ndarray:
        """Commands -> float64 `[n, labels]`, rows that sum to 1."""
        if not len(commands):
            return np.zeros((0, len(self.label_names)))
        if "audio" in self.columns:
            if not isinstance(commands, Clips):  # those are int16, and stay in their memory map until they are read
                commands = [_as_int16(command) for command in commands]
            answer: Any = self._hear if self.kind == "network" else self._estimate_sound
        else:
            answer = self._network if self.kind == "network" else self._estimator
        return to_probabilities(answer(commands, batch_size))

    def predict(self, commands: Sequence[Any], batch_size: int = 64) -> list[dict[str, Any]]:
        """For each command: label, probability, top 5 (label, probability), accepted (None without a threshold)."""
        answers = []
        for row in self.probabilities(commands, batch_size):
            best = np.argsort(-row, kind="stable")[:TOP]
            top = [{"label": self.label_names[i], "probability": float(row[i])} for i in best]
            accepted = None if self.threshold is None else bool(row[best[0]] >= self.threshold)
            answers.append({**top[0], "top_5": top, "accepted": accepted})
        return answers

    def count_truncated(self, commands: Sequence[Any]) -> int:
        """How many of the commands are longer than the model reads at once."""
        if "audio" in self.columns:
            longest = None if self.max_seconds is None else round(self.max_seconds * SAMPLING_RATE)
            return 0 if longest is None else sum(len(_as_int16(commands[i])) > longest for i in range(len(commands)))
        limit = self._limit()
        return 0 if limit is None else sum(len(ids) > limit for ids in self.processor(commands)["input_ids"])

    def _hear(self, clips: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        """Logits `[n, labels]`, the mean over windows by their energy where a clip is longer than one."""
        import torch

        windows, front = self._windows_and_front
        device = self.model.device
        order = np.argsort([len(clips[i]) for i in range(len(clips))], kind="stable")
        logits = np.zeros((len(clips), len(self.label_names)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = windows([{"audio": clips[int(i)]} for i in chosen])
            with torch.inference_mode():
                answer = front.average(self.model, {k: v.to(device) for k, v in batch.items()}, batch_size)
            logits[chosen] = answer.cpu().numpy()
        return logits

    @cached_property
    def _windows_and_front(self) -> tuple[Any, Any]:
        """What makes a network's inputs of clips; kept, because a mel bank takes longer to build than to use."""
        from voicecommand.models.front import build_front, build_windows

        assert self.max_seconds is not None
        config = self.model.config
        front = build_front(config, self.processor, self.max_seconds).to(self.model.device)
        return build_windows(config, self.max_seconds), front

    def _estimate_sound(self, clips: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        return self.model.predict({"audio": [clips[i] for i in range(len(clips))]}).predictions

    def _limit(self) -> int | None:
        """Tokens that a text is cut to: the run's setting, or fewer where the checkpoint reads fewer."""
        return None if self.max_length is None else min(self.max_length, self.processor.model_max_length)

    def _network(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
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

    def _estimator(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        if self.kind == "tfidf":
            return self.model.predict({"text": texts}).predictions
        ids = self.processor(texts, truncation=True, max_length=self._limit())["input_ids"]
        return self.model.predict({"input_ids": ids}).predictions


def _as_int16(command: Any) -> np.ndarray:
    """A sound file's path or a waveform as int16 `[samples]` at 16 kHz."""
    if isinstance(command, str | Path):
        return to_int16(read_audio(command).waveform)
    waveform = np.asarray(command)
    if waveform.ndim != 1 or waveform.dtype not in (np.int16, np.float32, np.float64):
        raise InputError(f"a clip of {waveform.dtype} {list(waveform.shape)}: give mono int16 or float32 [samples]")
    if not len(waveform) or not np.isfinite(waveform).all():
        raise InputError("a clip without samples, or with some that are not numbers")
    return waveform if waveform.dtype == np.int16 else to_int16(waveform)


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


def read_settings(directory: str | Path) -> dict[str, Any]:
    """What voicecommand.json says of a saved model: label_names, task, kind, threshold, max_length, max_seconds.

    Raises:
        InputError: not a saved model, or one that says something else.
    """
    path = find_model(directory)
    try:
        saved = json.loads((path / "voicecommand.json").read_text(encoding="utf-8"))
        settings = {key: saved[key] for key in ("label_names", "task", "kind")}
        settings |= {key: saved.get(key) for key in ("threshold", "max_length", "max_seconds")}
        _check_settings(**settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unopened(path, error) from error
    return settings


def load(directory: str | Path) -> CommandModel:
    """Open the saved model of a run.

    Raises:
        InputError: not a saved model, or one that does not open.
    """
    from safetensors import SafetensorError

    path, settings = find_model(directory), read_settings(directory)
    names, kind = settings["label_names"], settings["kind"]
    try:
        is_network = kind == "network"
        opened = _open_network(path, names, settings["task"]) if is_network else _open_estimator(path, names, kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _unopened(path, error) from error
    processor, model = opened
    return CommandModel(processor=processor, model=model, **settings)


def _unopened(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{path}: does not open: {type(error).__name__}: {reason}")


def _check_settings(label_names: Any, task: Any, kind: Any, threshold: Any, max_length: Any, max_seconds: Any) -> None:
    if (
        not isinstance(label_names, list)
        or len(label_names) < 2
        or not all(isinstance(name, str) for name in label_names)
    ):
        raise ValueError("voicecommand.json: label_names must be a list of at least two names")
    if kind not in KINDS.get(task, ()):
        raise ValueError(f"voicecommand.json: task {task!r} and kind {kind!r} are none of {KINDS}")
    if not isinstance(threshold, float | int | None) or not isinstance(max_length, int | None):
        raise ValueError("voicecommand.json: threshold and max_length must be numbers or null")
    if not isinstance(max_seconds, float | int | None) or not 0 < (max_seconds or 1) <= 30:
        raise ValueError("voicecommand.json: max_seconds must be null or above 0 and up to 30")


def _open_network(path: Path, label_names: list[str], task: str) -> tuple[Any, Any]:
    import torch
    import transformers as t

    stock = {"trust_remote_code": False}
    hears = task == "audio_classification"
    processor = (t.AutoFeatureExtractor if hears else t.AutoTokenizer).from_pretrained(str(path), **stock)
    loader: Any = t.AutoModelForAudioClassification if hears else t.AutoModelForSequenceClassification
    model = loader.from_pretrained(str(path), use_safetensors=True, dtype=torch.float32, **stock)
    if [model.config.id2label.get(i) for i in range(model.config.num_labels)] != label_names:
        raise ValueError("config.json and voicecommand.json name different labels")
    return processor, model.eval().to(find_device())


def _open_estimator(path: Path, label_names: list[str], kind: str) -> tuple[Any, Any]:
    from voicecommand.models.estimator import Estimator

    estimator = Estimator.load(path, label_names)
    if estimator.features.kind != kind:
        raise ValueError("features.json and voicecommand.json name different kinds")
    return getattr(estimator.features, "processor", None), estimator
