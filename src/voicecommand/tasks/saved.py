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
from voicecommand.models.pretrained import check_links, describe_refusal, public_name
from voicecommand.run import manifest
from voicecommand.run.directory import read_status
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
KEYS = {"format", "task", "vocabulary", "threshold", "threshold_set_on", "threshold_keeps", "manifest", "checksum"}
# The highest threshold: no probability reaches it.
HIGHEST = float(np.nextafter(1.0, 2.0))
# A folder may have these beside the model's files, and they may change: what people write, never what is read.
NOTES = {"", ".md", ".rst", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".svg", ".csv", ".log", ".yaml", ".yml", ".txt"}
AGAIN = "copy the whole folder again, or train it again with overwrite=true"
VOCABULARIES = {"vocab.txt", "merges.txt"}  # of tokenizers
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
    """The answer to one command, in types of JSON: of a task with labels the first four, of a recogniser the others."""

    label: str
    probability: float
    top_5: list[LabelProbability]
    accepted: bool | None  # False: below the threshold; None: the model has no threshold
    transcript: str
    score: float  # the mean log-probability of the transcript's tokens


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

    def answer(self, commands: Sequence[Command] | Clips, origins: Sequence[str] | None = None) -> Answered:
        """The columns of the answers, and the number of commands that are longer than the model reads.

        Args:
            origins: the name of each command in an error about its answer; None counts them.

        Raises:
            InputError: an audio file can't be read, a waveform has another type or shape, or a text is none.
            NonFiniteLoss: the model's output for a command is NaN or infinite.
        """
        if self.task.columns.reads == "text":
            texts = [commands[i] for i in range(len(commands))]
            for text in texts:
                if not isinstance(text, str):
                    raise InputError(f"a command of type {type(text).__name__}: this model reads texts")
            return self.answerer.answer({"text": texts}, origins)
        clips = [_as_int16(commands[i]) for i in range(len(commands))]
        return self.answerer.answer({"audio": clips, "length": [len(clip) for clip in clips]}, origins)

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
            InputError, NonFiniteLoss: as `answer`.
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


def is_covered(name: str) -> bool:
    """Whether the manifest of a model folder has the file: all that is read, but voicecommand.json, which changes with
    the threshold and has a checksum of its own."""
    path = Path(name)
    is_hidden = any(part.startswith(".") for part in path.parts)
    is_note = path.suffix.lower() in NOTES and path.name not in VOCABULARIES
    return not is_hidden and not is_note and name != SETTINGS


def seal(directory: Path, task: Task, vocabulary: Vocabulary) -> None:
    """Write the manifest of a model folder that has all its files, and voicecommand.json, which names it."""
    checksum = manifest.write(directory, {"task": type(task).__name__}, is_covered)
    write_settings(directory, task, vocabulary, checksum)


def write_settings(directory: Path, task: Task, vocabulary: Vocabulary, checksum: str | None = None) -> None:
    """Write voicecommand.json: the file and the class of the task, its settings, and the vocabulary.

    Args:
        checksum: of the folder's manifest; None for a folder without one.
    """
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
    _write_content(directory, content if checksum is None else content | {"manifest": checksum})


def _write_content(directory: Path, content: dict[str, Any]) -> None:
    """Write voicecommand.json as a whole; that of a folder with a manifest with its checksum."""
    content = {name: value for name, value in content.items() if name != "checksum"}
    if "manifest" in content:
        content["checksum"] = manifest.checksum_of(content)
    files.write_json(directory / SETTINGS, content)


def _read_content(directory: Path) -> dict[str, Any]:
    """The content of voicecommand.json.

    Raises:
        OSError: it can't be read.
        ValueError, RecursionError: it is not what `_write_content` wrote.
    """
    content = files.read_json(directory / SETTINGS)
    if not isinstance(content, dict):
        raise ValueError(f"{SETTINGS}: must hold an object")
    if "manifest" in content or "checksum" in content or manifest.has_manifest(directory):
        rest = {name: value for name, value in content.items() if name != "checksum"}
        if "manifest" not in content or content.get("checksum") != manifest.checksum_of(rest):
            raise ValueError(f"{SETTINGS}: has changed since it was written; {AGAIN}")
    elif content.get("format") == 2 and (unknown := content.keys() - KEYS):
        raise ValueError(f"{SETTINGS}: unknown key {min(unknown)!r}")
    return content


def write_threshold(
    directory: Path, rejection: Mapping[str, Any] | None, data: Mapping[str, Any] | None = None
) -> None:
    """Save the threshold of `rejection`, if there is one, and what it was set on with the model, so that predict and
    evaluate use it. The file is replaced as a whole.

    Args:
        directory: of the model.
        rejection: of metrics.json.
        data: `describe_data` of what the threshold was set on; its name and fingerprint are saved.

    Raises:
        InputError: voicecommand.json is damaged.
    """
    if rejection is None:
        return
    try:
        content = _read_content(directory)
    except (OSError, ValueError, RecursionError) as error:
        raise _unopened(directory, error) from error
    content.pop("threshold_keeps", None)  # of models saved before December 2026
    set_on = {"data": data["name"], "fingerprint": data["fingerprint"]} if data else {}
    set_on |= rejection["set_on"]
    _write_content(directory, content | {"threshold": rejection["threshold"], "threshold_set_on": set_on})


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
        content = _read_content(path)
        if content.get("format") != 2:
            content = _upgrade_settings(content, path)
        threshold = content.get("threshold")
        is_number = isinstance(threshold, float | int) and not isinstance(threshold, bool)
        if threshold is not None and not (is_number and 0 <= threshold <= HIGHEST):
            raise ValueError(f"{SETTINGS}: threshold must be a number from 0 to 1, or null")
        set_on = content.get("threshold_set_on")
        if set_on is not None:
            setting_in_words(set_on), threshold_warnings(set_on)  # every caller says them
        task, vocabulary = _build_task(content["task"]), _build_vocabulary(content["vocabulary"])
        if "label" in task.columns.targets and len(vocabulary.labels) < 2:
            raise ValueError(f"{SETTINGS}: vocabulary.labels must have at least two")
    except Exception as error:  # the file may hold anything
        raise _unopened(path, error) from error
    return Settings(task, vocabulary, threshold, set_on)


def load(directory: str | Path, precision: str = "fp32", unfinished: bool = False) -> CommandModel:
    """Open the saved model of a run.

    Its files are compared with its manifest. A folder without one, of an older version or of the hub, opens with a line
    in the log; its tensors are checked in any case: all that the model needs, no others, of its shapes, all finite.

    Args:
        precision: of a network: fp32, bf16 or fp16.
        unfinished: whether the run need not be finished; for the training that has just saved the model.

    Raises:
        InputError: there is no saved model, its run did not finish, or it is damaged or does not open.
    """
    path = find_model(directory)
    if not unfinished:
        _check_finished(path)
    settings = read_settings(path)
    _check_files(path)
    try:
        model, processor = settings.task.open(path, settings.vocabulary)
        decoding = Decoding(settings.threshold)
        answerer = Answerer(settings.task, model, processor, settings.vocabulary, decoding, precision=precision)
    except Exception as error:  # the files may hold anything
        raise _unopened(path, error) from error
    return CommandModel(answerer, settings.threshold, settings.set_on)


def _check_finished(path: Path) -> None:
    """Stop at the model of a run that did not finish; a model folder outside a run directory is no matter of a run."""
    state = read_status(path.parent).get("state", "finished") if path.name == "model" else "finished"
    if state != "finished":
        raise InputError(
            f"{path.parent}: its run did not finish (status.json: {state}), so its model is not the result; finish it"
            " with the command that trained it and resume=true"
        )


def _check_files(path: Path) -> None:
    """Compare the files of a model folder with its manifest, before anything reads them.

    Raises:
        InputError: a file is missing, added or changed, or is outside of the folder; or there should be a manifest.
    """
    check_links(path)
    recorded = files.read_json(path / SETTINGS).get("manifest")  # as `read_settings` has checked
    if recorded is None:
        logger.warning("%s: has no manifest, so only its tensors and settings are checked, not its content", path)
        return
    try:
        if manifest.read_checksum(path) != recorded:
            raise manifest.Damaged(f"{manifest.NAME} is of another model than {SETTINGS}")
        manifest.verify(path, is_covered)
    except manifest.Damaged as error:
        raise InputError(f"{path}: damaged: {error}; {AGAIN}") from error


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
        if len(set(values)) < len(values) or "" in values:
            raise ValueError(f"{SETTINGS}: vocabulary.{name} has a name twice, or an empty one")
    return Vocabulary(**{name: tuple(values) for name, values in content.items()})


def _upgrade_settings(content: dict, path: Path) -> dict:
    """The settings of a model saved before November 2026 in the present format."""
    if content.get("format") != 1:
        raise ValueError(f"{SETTINGS}: format {content.get('format')!r} is unknown to this version of voicecommand")
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
    reason = describe_refusal(error) or " ".join(str(error).split())[:200]
    what = "" if isinstance(error, ValueError | InputError) and reason else f"{type(error).__name__}: "
    return InputError(f"{path}: does not open: {what}{reason}")
