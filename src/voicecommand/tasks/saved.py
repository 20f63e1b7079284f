"""A saved run opened again: commands in, answers out. `voicecommand.load(DIR)` calls `load`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from voicecommand import files
from voicecommand.audio.clips import Clips, to_int16
from voicecommand.audio.decode import read_audio
from voicecommand.errors import InputError
from voicecommand.evaluation.threshold import Rule, setting_in_words, threshold_warnings
from voicecommand.models.families import is_own_network
from voicecommand.models.pretrained import public_name
from voicecommand.run.finished import choose_run
from voicecommand.tasks.base import Decoding, NetworkTask, Task, Vocabulary
from voicecommand.tasks.classification import check_labels
from voicecommand.tasks.predicting import Answered, Answerer

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from voicecommand.evaluation.base import Answers
    from voicecommand.tasks.base import Processor

    Command = str | Path | NDArray
logger = logging.getLogger(__name__)
SETTINGS = "voicecommand.json"
TASKS = Path(__file__).parent
# Models saved before November 2026 have a task and a kind: the file and the class that open them now.
FIRST_FORMAT_TASKS = {
    ("text_classification", "network"): ("text_classification", "TextClassification"),
    ("text_classification", "tfidf"): ("text_classification", "TfidfSvm"),
    ("text_classification", "embedding"): ("text_classification", "EmbeddingSvm"),
    ("audio_classification", "network"): ("audio_classification", "AudioClassification"),
    ("audio_classification", "mfcc"): ("audio_classification", "MfccSvm"),
    ("audio_classification", "speech_embedding"): ("audio_classification", "SpeechEmbeddingSvm"),
}


class LabelProbability(TypedDict):
    """One of the best labels."""

    label: str
    probability: float


class Answer(TypedDict, total=False):
    """The answer to one command, in types of JSON. A task with labels gives all of these."""

    label: str
    probability: float
    top_5: list[LabelProbability]
    accepted: bool | None  # False: below the threshold; None: the model has no threshold


@dataclass
class CommandModel:
    """A trained model of any task: `model("turn it on")["label"]`, `model(["turn it on", "stop"])[1]["label"]`.

    Commands are texts if the model reads text; otherwise they are paths of audio files, or waveforms `[samples]`, mono
    at 16 kHz, int16, or float32 within -1 to 1.
    """

    answerer: Answerer
    threshold: float | None
    set_on: Mapping[str, Any] | None = None  # see evaluation.threshold.choose_threshold

    @property
    def task(self) -> Task:
        """The task, with the settings of training."""
        return self.answerer.task

    @property
    def model(self) -> Any:
        """The network, or the estimator."""
        return self.answerer.model

    @property
    def processor(self) -> Processor | None:
        """The tokenizer or feature extractor; None for a model without one."""
        return self.answerer.processor

    @property
    def label_names(self) -> list[str]:
        """`label_names[i]` belongs to column i of `probabilities`."""
        return list(self.answerer.vocabulary.labels)

    def answer(self, commands: Sequence[Command] | Clips) -> Answered:
        """The columns of the answers, and the number of commands that are longer than the model reads.

        Raises:
            InputError: an audio file can't be read, a waveform has another type or shape, or a text is none.
        """
        if self.task.columns.reads == "text":
            texts = [commands[i] for i in range(len(commands))]
            for text in texts:
                if not isinstance(text, str):
                    raise InputError(f"a command of type {type(text).__name__}: this model reads texts")
            return self.answerer.answer({"text": texts})
        clips = [_as_int16(commands[i]) for i in range(len(commands))]
        return self.answerer.answer({"audio": clips, "length": [len(clip) for clip in clips]})

    def check_labels(self, dataset: DatasetDict) -> None:
        """Stop at labels that the model does not know, before audio is decoded and commands are answered.

        Raises:
            InputError: it names the labels and the first row.
        """
        for rows in dataset.values():
            if "label" in self.task.columns.targets:
                check_labels(rows, self.answerer.vocabulary)

    def answer_split(self, rows: Dataset, split: str) -> tuple[Answers, Answered]:
        """The answers to a prepared split that has the task's columns."""
        return self.answerer.answer_split(rows, split)

    @overload
    def predict(self, commands: Command) -> Answer: ...  # type: ignore[overload-overlap]  # a text is a sequence of texts

    @overload
    def predict(self, commands: Sequence[Command] | Clips) -> list[Answer]: ...

    def predict(self, commands: Command | Sequence[Command] | Clips) -> Answer | list[Answer]:
        """The answer to one command, or a list of the answers to several.

        Raises:
            InputError: as `answer`.
        """
        if isinstance(commands, str | Path | np.ndarray):
            return self.predict([commands])[0]
        return cast("list[Answer]", to_rows(self.answer(commands))) if len(commands) else []

    __call__ = predict

    def probabilities(self, commands: Sequence[Command] | Clips) -> NDArray[np.float64]:
        """Commands -> float64 `[n, labels]`, rows that sum to 1; only for a task with labels."""
        if not len(commands):
            return np.zeros((0, len(self.label_names)))
        return np.asarray(self.answer(commands).columns["probabilities"])


def to_rows(answered: Answered) -> list[dict[str, object]]:
    """One dictionary for each row, without columns that are arrays of numbers."""
    columns = {name: values for name, values in answered.columns.items() if not isinstance(values, np.ndarray)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _as_int16(command: Command) -> NDArray[np.int16]:
    """An audio file's path or a waveform as int16 `[samples]` at 16 kHz."""
    if isinstance(command, str | Path):
        return to_int16(read_audio(command).waveform)
    waveform = np.asarray(command)
    if waveform.ndim != 1 or waveform.dtype not in (np.int16, np.float32, np.float64):
        raise InputError(f"a clip of {waveform.dtype} {list(waveform.shape)}: give mono int16 or float32 [samples]")
    if not len(waveform) or not np.isfinite(waveform).all():
        raise InputError("a clip without samples, or with NaN or infinite ones")
    return waveform if waveform.dtype == np.int16 else to_int16(waveform)


def read_commands(rows: Dataset, task: Task) -> Sequence[Command] | Clips:
    """The commands of a data set: its texts, or its prepared clips."""
    return Clips(rows) if task.columns.reads == "audio" else rows["text"][:]


def write_settings(directory: Path, task: Task, vocabulary: Vocabulary) -> None:
    """Write voicecommand.json: the file and the class of the task, its settings, and the vocabulary."""
    settings = {name: value for name, value in task.describe().items() if name != "task"}
    if "checkpoint" in settings:  # the source of the weights; never a path of this machine
        settings["checkpoint"] = public_name(str(settings["checkpoint"]))
    if "teacher" in settings:  # only training needs it
        settings["teacher"] = None
    content = {
        "format": 2,
        "task": {
            "file": type(task).__module__.rpartition(".")[2],
            "class": type(task).__name__,
            "settings": settings,
            # for readers of the file, such as the model card
            "name": task.name,
            "hub_tag": task.hub_tag,
            "reads": task.columns.reads,
            "is_network": isinstance(task, NetworkTask),
        },
        "vocabulary": {name: values for name, values in dataclasses.asdict(vocabulary).items() if values},
    }
    files.write_json(directory / SETTINGS, content)


def write_threshold(
    directory: Path, rejection: Mapping[str, Any] | None, data: Mapping[str, Any] | None = None
) -> None:
    """Save the threshold of `rejection`, if there is one, and what it was set on with the model, so that predict and
    evaluate use it. The file is replaced as a whole.

    Args:
        directory: of the model.
        rejection: of metrics.json.
        data: `describe_data` of what the threshold was set on; its name and fingerprint are saved.
    """
    if rejection is None:
        return
    content = files.read_json(directory / SETTINGS)
    content.pop("threshold_keeps", None)  # of models saved before December 2026
    set_on = {"data": data["name"], "fingerprint": data["fingerprint"]} if data else {}
    set_on |= rejection["set_on"]
    files.write_json(directory / SETTINGS, content | {"threshold": rejection["threshold"], "threshold_set_on": set_on})


def move_threshold(directory: Path, rejection: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Save the threshold of an evaluation with the run `directory`, and say so in `rejection`."""
    write_threshold(find_model(directory), rejection, data)
    rejection["is_saved"] = True


def say_unused_rule(directory: Path, rule: Rule) -> None:
    """Warn if `reject` of a command asks for another threshold than the finished run `directory` has."""
    set_on = read_settings(directory).set_on
    if rule.is_given and (set_on is None or (set_on["rule"], set_on["asked"]) != (rule.name, rule.asked)):
        logger.warning(
            "%s is not used, because the run is finished; python recipes/evaluate.py run=%s data=NAME %s save=true"
            " moves its threshold on the data that you name, and overwrite=true trains again",
            rule, shlex.quote(str(directory)), rule,
        )  # fmt: skip


def find_model(directory: str | Path) -> Path:
    """The `model` folder of a run, or the given folder if it is a model folder.

    Args:
        directory: or `latest`, or a pattern; see `voicecommand.run.finished.choose_run`.

    Raises:
        InputError: there is no voicecommand.json in either, or no such run.
    """
    directory = choose_run(directory)
    for path in (directory / "model", directory):
        if (path / SETTINGS).is_file():
            return path
    what = "no such directory" if not directory.exists() else f"has no model/{SETTINGS}: not a finished run"
    raise InputError(f"{directory}: {what}; give the directory that a training run printed")


def find_run(directory: str | Path) -> Path:
    """The run directory of a model; the model folder itself if it is not in a run directory.

    Raises:
        InputError: as `find_model`.
    """
    found = find_model(directory)
    return found.parent if found.name == "model" else found


@dataclass(frozen=True)
class Settings:
    """The content of voicecommand.json."""

    task: Task
    vocabulary: Vocabulary
    threshold: float | None
    set_on: dict[str, Any] | None


def read_settings(directory: str | Path) -> Settings:
    """Read and check voicecommand.json. The file may come from anywhere, so only our own tasks are built from it.

    Raises:
        InputError: there is no saved model, or voicecommand.json is not valid.
    """
    path = find_model(directory)
    try:
        content = files.read_json(path / SETTINGS)
        if content.get("format") != 2:
            content = _upgrade_settings(content, path)
        threshold = content.get("threshold")
        if not isinstance(threshold, float | int | None) or isinstance(threshold, bool):
            raise ValueError(f"{SETTINGS}: threshold must be a number or null")
        set_on = content.get("threshold_set_on")
        if set_on is not None:
            setting_in_words(set_on), threshold_warnings(set_on)  # every caller says them
        task, vocabulary = _build_task(content["task"]), _build_vocabulary(content["vocabulary"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise _unopened(path, error) from error
    return Settings(task, vocabulary, threshold, set_on)


def load(directory: str | Path, precision: str = "fp32") -> CommandModel:
    """Open the saved model of a run.

    Args:
        precision: of a network: fp32, bf16 or fp16.

    Raises:
        InputError: there is no saved model, or it does not open.
    """
    from safetensors import SafetensorError

    path, settings = find_model(directory), read_settings(directory)
    try:
        model, processor = settings.task.open(path, settings.vocabulary)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _unopened(path, error) from error
    decoding = Decoding(settings.threshold)
    answerer = Answerer(settings.task, model, processor, settings.vocabulary, decoding, precision=precision)
    return CommandModel(answerer, settings.threshold, settings.set_on)


def _build_task(named: dict) -> Task:
    """The task that a saved model names: it must be a task of a file in this folder, and have these settings."""
    known = {path.stem for path in TASKS.glob("*.py")}
    if named["file"] not in known:
        raise ValueError(f"{SETTINGS}: task file {named['file']!r} is none of {', '.join(sorted(known))}")
    module = importlib.import_module(f"voicecommand.tasks.{named['file']}")
    kind = getattr(module, str(named["class"]), None)
    refused = ValueError(f"{SETTINGS}: {named['class']!r} is no task of {named['file']}.py")
    if not (inspect.isclass(kind) and issubclass(kind, Task) and kind.__module__ == module.__name__):
        raise refused
    if inspect.isabstract(kind) or not dataclasses.is_dataclass(kind):
        raise refused
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in named["settings"].items()}
    unknown = set(settings) - {field.name for field in dataclasses.fields(kind)}
    if unknown:
        raise ValueError(f"{SETTINGS}: {named['class']} has no setting {sorted(unknown)[0]!r}")
    task: Task = kind(**settings)
    return task


def _build_vocabulary(content: dict) -> Vocabulary:
    names = {field.name for field in dataclasses.fields(Vocabulary)}
    for name, values in content.items():
        if name not in names or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{SETTINGS}: vocabulary.{name} must be a list of names")
    return Vocabulary(**{name: tuple(values) for name, values in content.items()})


def _upgrade_settings(content: dict, path: Path) -> dict:
    """The settings of a model saved before November 2026 in the present format."""
    key = (content["task"], content["kind"])
    if key not in FIRST_FORMAT_TASKS:
        raise ValueError(f"{SETTINGS}: task {key[0]!r} and kind {key[1]!r} are none of {sorted(FIRST_FORMAT_TASKS)}")
    file, name = FIRST_FORMAT_TASKS[key]
    is_network = key == ("audio_classification", "network")
    if is_network and is_own_network(files.read_json(path / "config.json").get("model_type")):
        name = "BCResNet"
    settings = {k: content[k] for k in ("max_length", "max_seconds") if content.get(k) is not None}
    if name in ("TextClassification", "EmbeddingSvm", "AudioClassification", "SpeechEmbeddingSvm"):
        settings["checkpoint"] = ""
    labels = content["label_names"]
    return {
        "task": {"file": file, "class": name, "settings": settings},
        "vocabulary": {"labels": labels},
        "threshold": content.get("threshold"),
        "threshold_set_on": content.get("threshold_set_on"),
    }


def _unopened(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{path}: does not open: {type(error).__name__}: {reason}")
