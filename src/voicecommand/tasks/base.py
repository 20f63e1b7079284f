"""The contract of a task. It stands here only; CONTRIBUTING.md shows how to write one.

A task is a frozen dataclass whose fields are the keys of its yaml in conf/model/. It says which columns it reads and
learns, how rows become a model's inputs, how the model is loaded, saved and opened, and how its raw output becomes
answers. `NetworkTask` is for networks that transformers.Trainer tunes, `EstimatorTask` for models that are fitted in
one go. Training, evaluation, prediction and the report are the same for all tasks and know nothing else of them.

What the contract carries, beyond one label for one input:

- several labels, or labels and slots: `columns.optional` names targets that rows may lack, `losses` and `count` have
  an entry for each head, `head_weights` adds them up, and an evaluator whose target the data lacks is left out;
- recognition: `learn` finds the characters of the training transcripts, `load_processor` makes a tokenizer of them;
  a loss over frames gives `Loss(values=...)` with `examples` where an example has several units; `respond` may give a
  tuple of tensors, and answers are lists, so they may have any length;
- replies: `columns.context` names what a row brings beside its text (history, state); `respond` may generate;
- a teacher: the task names it, training opens it, and it hears what `build_inputs` says that the network heard;
- two stages: `stages` gives several, which train one after the other on the same model;
- folds: `learn` once, `encode` once, and `Encoded.select` for each fold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from voicecommand.audio.clips import Clips

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, ProcessorMixin
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.evaluation.base import Evaluator
    from voicecommand.models.estimator import Features
    from voicecommand.models.tuning import Tuning

    Processor: TypeAlias = PreTrainedTokenizerBase | FeatureExtractionMixin | ProcessorMixin
    # Rows of a data set, or columns given one by one: `rows["text"][:]` reads both.
    Rows: TypeAlias = Dataset | Mapping[str, Sequence]

Row: TypeAlias = dict[str, object]
Batch: TypeAlias = dict[str, Tensor]
Collator: TypeAlias = Callable[[Sequence[Row]], Batch]
Raw: TypeAlias = Tensor | tuple[Tensor, ...]
# A column of answers: a value for each row, or an array `[rows, ...]`.
Column: TypeAlias = Sequence | np.ndarray
# What a task trains and opens, and what prepares its inputs.
ModelT = TypeVar("ModelT")
ProcessorT = TypeVar("ProcessorT", bound="Processor | None")


def column_names(rows: Rows) -> Sequence[str]:
    """Of a data set, or of columns given one by one."""
    return list(rows) if isinstance(rows, Mapping) else rows.column_names


@dataclass(frozen=True)
class Columns:
    """The columns of the data that a task uses; all of them are fingerprinted and audited.

    Args:
        reads: what the model is given, `text` or `audio`.
        targets: what it learns; every row has them.
        optional: targets that a row may lack.
        context: what a row brings beside what is read.
    """

    reads: str
    targets: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    context: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """What every data set must have."""
        return (self.reads, *self.context, *self.targets)

    @property
    def known(self) -> tuple[str, ...]:
        """All columns that the task reads where they are there."""
        return (*self.needed, *self.optional)


@dataclass(frozen=True)
class Vocabulary:
    """What the training data taught: names in a fixed order, saved with the model. A name's place is its number."""

    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    characters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Rows as a model takes them, in their order.

    Args:
        rows: columns of model inputs, `length` (tokens or samples) and, where they are known, targets as numbers.
        references: the target columns that the rows have, as evaluators compare them, `[n]` each.
        truncated: how many rows are longer than the model reads.
        limit: what the log says of those: "N of M examples are {limit}".
    """

    rows: Rows
    references: Mapping[str, list] = field(default_factory=dict)
    truncated: int = 0
    limit: str = ""

    def __len__(self) -> int:
        return len(self.rows["length"])

    @property
    def lengths(self) -> Sequence[int]:
        return self.rows["length"][:]

    def reader(self) -> RowReader:
        return RowReader(self.rows)


class RowReader:
    """Row numbers -> rows. Audio comes as int16 views into its memory map. Pickles as its data set does."""

    def __init__(self, rows: Rows) -> None:
        self.columns, self.clips = rows, None
        if not isinstance(rows, Mapping) and "audio" in rows.column_names:
            self.columns, self.clips = rows.remove_columns("audio"), Clips(rows)

    def __call__(self, numbers: Sequence[int]) -> list[Row]:
        if isinstance(self.columns, Mapping):
            return [{name: values[i] for name, values in self.columns.items()} for i in numbers]
        columns = self.columns[list(numbers)]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if self.clips is not None:
            for row, number in zip(rows, numbers, strict=True):
                row["audio"] = self.clips[number]
        return rows


@dataclass(frozen=True)
class Draws:
    """What augmentation draws for training examples: a function of the seed, the epoch and the example alone."""

    augmentation: Augmentation
    seed: int

    def __call__(self, epoch: int, examples: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        return self.augmentation.draw(self.seed, epoch, examples)


@dataclass(frozen=True)
class Decoding:
    """How raw output becomes answers.

    Args:
        threshold: an answer below this confidence is not accepted; None where none is known.
    """

    threshold: float | None = None


@dataclass(frozen=True)
class Loss:
    """The loss of one head over a micro-batch, unit by unit.

    Either `values`, or `logits` with `targets`, of which training makes the cross-entropy: smoothing, class weights
    and a teacher apply to those only.

    Args:
        values: float32 `[units]`.
        logits: float32 `[units, classes]`.
        targets: int64 `[units]`; a unit below 0 does not count.
        examples: int64 `[units]`, the row of the batch that a unit belongs to; None where each row has one.
    """

    values: Tensor | None = None
    logits: Tensor | None = None
    targets: Tensor | None = None
    examples: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.values is None) == (self.logits is None) or (self.logits is None) != (self.targets is None):
            raise ValueError("a Loss has either values, or logits with targets")


@dataclass(frozen=True)
class Stage:
    """One training of (a part of) the model.

    Args:
        name: of its checkpoints.
        module: the model -> what the trainer wraps.
        train: what it learns from.
    """

    name: str
    module: Callable[[nn.Module], nn.Module]
    train: Encoded


class Task(ABC, Generic[ModelT, ProcessorT]):
    """What a model answers. Subclasses are frozen dataclasses; their fields are the keys of the yaml."""

    name: ClassVar[str]
    hub_tag: ClassVar[str]  # the hub's name of the task, which the model card carries

    @property
    @abstractmethod
    def columns(self) -> Columns: ...

    @property
    @abstractmethod
    def evaluators(self) -> tuple[Evaluator, ...]:
        """The first owns the objective and its direction; one whose targets the data lacks is left out."""

    @property
    def objectives(self) -> dict[str, bool]:
        """What training can choose the best checkpoint by: name -> whether greater is better. The first is taken."""
        first = self.evaluators[0]
        names = dict.fromkeys((first.primary_metric, first.units_metric), first.greater_is_better)
        return names | {"loss": False}

    def learn(self, rows: Dataset) -> Vocabulary:
        """What the training rows teach, before the processor is loaded."""
        return Vocabulary()

    def load_processor(self, vocabulary: Vocabulary) -> ProcessorT | None:
        return None

    @abstractmethod
    def encode(self, rows: Rows, processor: ProcessorT, vocabulary: Vocabulary) -> Encoded:
        """In training and in answering the same; references for those target columns that are there.

        Raises:
            InputError: a target that the vocabulary does not have; it names the row.
        """

    @abstractmethod
    def load_model(self, vocabulary: Vocabulary, processor: ProcessorT) -> object:
        """The model to train: a network, or the features of an estimator."""

    @abstractmethod
    def decode(self, raw: Raw | NDArray, vocabulary: Vocabulary, decoding: Decoding) -> dict[str, Column]:
        """The columns of the answers of one batch, a value for each row."""

    @abstractmethod
    def save(self, model: ModelT, processor: ProcessorT, directory: Path) -> None:
        """Into an empty directory, in stock form."""

    @abstractmethod
    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[ModelT, ProcessorT]:
        """(model, processor) of what `save` wrote; the model is on the device and in evaluation mode.

        Raises:
            OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: it is not whole.
        """

    @abstractmethod
    def count_parameters(self, model: ModelT) -> tuple[int, int]:
        """(all, trainable or fitted here) parameters."""

    def describe(self) -> dict[str, object]:
        """The task's name and its settings."""
        return {"task": self.name} | {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


class NetworkTask(Task["PreTrainedModel", ProcessorT]):
    """A network that transformers.Trainer tunes.

    The trainer knows `losses`, `count` and `respond` only. The loss of a step is, for each head, the sum over its
    units divided by `count` summed over micro-batches and ranks; heads are added with their weights.
    """

    head_weights: ClassVar[Mapping[str, float]]
    processor_class: ClassVar[str]  # of transformers: what opens the saved processor and the saved model
    model_class: ClassVar[str]

    @property
    def teacher(self) -> str | None:
        """Directory of a saved run whose answers are learnt beside the targets."""
        return None

    def stages(self, train: Encoded) -> tuple[Stage, ...]:
        """What is trained, one after the other."""
        return (Stage("", lambda model: model, train),)

    def prepare(self, model: PreTrainedModel, tuning: Tuning, train: Encoded, processor: ProcessorT) -> nn.Module:
        """The network as it is trained: frozen, wrapped or extended as `tuning` says."""
        return tuning.prepare(model)

    def class_weights_of(self, train: Encoded, vocabulary: Vocabulary) -> Mapping[str, NDArray[np.float32]]:
        """Head -> weight of each class in the loss; heads without weights are left out."""
        return {}

    @abstractmethod
    def build_collator(self, model: PreTrainedModel, processor: ProcessorT, draws: Draws | None = None) -> Collator:
        """Rows -> a batch. A training row names its `example`, its `epoch` and its `weight`; others do not.

        `draws` None: no augmentation. The model is here for its configuration.
        """

    @abstractmethod
    def build_inputs(
        self, model: PreTrainedModel, processor: ProcessorT, augmenter: nn.Module | None = None
    ) -> nn.Module:
        """A module: batch -> (inputs of the network, what was heard or None), on the device of the batch."""

    def build_augmenter(
        self, model: PreTrainedModel, augmentation: Augmentation, train: Encoded, seed: int
    ) -> nn.Module | None:
        """What does to a batch what was drawn for it; None where the task has no augmentation."""
        return None

    @abstractmethod
    def losses(self, model: nn.Module, inputs: Batch, batch: Batch) -> dict[str, Loss]:
        """Calls the network; head -> its loss, unit by unit."""

    @abstractmethod
    def count(self, batch: Batch) -> dict[str, int]:
        """Head -> units that count, known before the forward pass."""

    @abstractmethod
    def respond(self, model: nn.Module, to_inputs: nn.Module, batch: Batch) -> Raw:
        """The raw output for one batch: logits, their mean over windows, or what was generated."""

    def loss_of(self, raw: Raw, batch: Batch) -> Tensor | None:
        """The loss of each row of an evaluated batch `[rows]`, NaN where it has no target; None where there is none."""
        return None

    def count_parameters(self, model: PreTrainedModel) -> tuple[int, int]:
        from voicecommand.models.tuning import count_parameters

        return count_parameters(model)

    def save(self, model: PreTrainedModel, processor: ProcessorT, directory: Path) -> None:
        merge = getattr(model, "merge_and_unload", None)
        if merge is not None:  # LoRA: merged, its adapter beside
            model.save_pretrained(directory / "adapter")
            model = merge()
        model.save_pretrained(directory)
        assert processor is not None
        processor.save_pretrained(directory)

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, ProcessorT]:
        import transformers

        import voicecommand.models  # noqa: F401  (registers our own networks)
        from voicecommand.run.device import find_device

        processor = getattr(transformers, self.processor_class).from_pretrained(str(directory), trust_remote_code=False)
        model = getattr(transformers, self.model_class).from_pretrained(
            str(directory), use_safetensors=True, dtype=torch.float32, trust_remote_code=False
        )
        return model.eval().to(find_device()), processor


class EstimatorTask(Task[ModelT, ProcessorT]):
    """A model that is fitted in one go: no collator, no losses."""

    @abstractmethod
    def fit(self, features: Features, train: Encoded, vocabulary: Vocabulary, seed: int) -> ModelT:
        """The fitted model."""

    @abstractmethod
    def respond(self, model: ModelT, rows: Rows) -> NDArray[np.floating]:
        """The raw output for encoded rows."""
