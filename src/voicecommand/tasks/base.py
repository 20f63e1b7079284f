"""The contract of a task. CONTRIBUTING.md shows how to write one.

A task is a frozen dataclass; its fields are the keys of its yaml in conf/model/. It says which columns it reads and
learns, how rows become a model's inputs, how the model is loaded, saved and opened, and how its raw output becomes
answers. `NetworkTask` is for networks that transformers.Trainer tunes, `EstimatorTask` for models that are fitted in
one step. Training, evaluation, prediction and the report are the same for all tasks and use only this contract.

Beyond one label for one input, the contract allows:

- several labels, or labels and slots: `columns.optional` names targets that rows may lack, `losses` and `count` have
  an entry for each head, `head_weights` are the heads' weights in the loss, and an evaluator is left out if the data
  lacks its target;
- recognition: `learn` finds the characters of the training transcripts, `load_processor` makes a tokenizer from them;
  a loss over frames gives `Loss(values=...)`, with `examples` if an example has several units; `respond` may return a
  tuple of tensors, and answers are lists, so they may have any length;
- replies: `columns.context` names further inputs of a row (history, state); `respond` may generate;
- a teacher: the task names it, training opens it, and it gets the waveforms that `build_inputs` returns;
- two stages: `stages` returns several, which train one after the other on the same model;
- folds: `learn` once, `encode` once, and `Encoded.rows` selected for each fold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
from torch import Tensor, nn

from voicecommand.audio.clips import Clips
from voicecommand.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, ProcessorMixin
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from voicecommand.audio.augmentation import Augmentation
    from voicecommand.evaluation.base import Evaluator
    from voicecommand.evaluation.threshold import HeldOut
    from voicecommand.models.estimator import Features
    from voicecommand.models.tuning import Tuning

    Processor: TypeAlias = PreTrainedTokenizerBase | FeatureExtractionMixin | ProcessorMixin
    # Rows of a data set, or a mapping of columns: `rows["text"][:]` works for both.
    Rows: TypeAlias = Dataset | Mapping[str, Sequence]

Row: TypeAlias = dict[str, object]
Batch: TypeAlias = dict[str, Tensor]
Collator: TypeAlias = Callable[[Sequence[Row]], Batch]
Raw: TypeAlias = Tensor | tuple[Tensor, ...]
# A column of answers: a value for each row, or an array `[rows, ...]`.
Column: TypeAlias = Sequence | np.ndarray
# The model that a task trains and opens, and the processor of its inputs.
ModelT = TypeVar("ModelT")
ProcessorT = TypeVar("ProcessorT", bound="Processor | None")


def column_names(rows: Rows) -> Sequence[str]:
    """The names of the columns of a data set or a mapping."""
    return list(rows) if isinstance(rows, Mapping) else rows.column_names


@dataclass(frozen=True)
class Columns:
    """The columns of the data that a task uses; all of them are fingerprinted and audited.

    Args:
        reads: the model's input, `text` or `audio`.
        targets: the columns that it learns; every row has them.
        optional: targets that a row may lack.
        context: further inputs of a row.
    """

    reads: str
    targets: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    context: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every data set must have."""
        return (self.reads, *self.context, *self.targets)

    @property
    def known(self) -> tuple[str, ...]:
        """All columns that the task reads if the data has them."""
        return (*self.needed, *self.optional)


@dataclass(frozen=True)
class Vocabulary:
    """Names learnt from the training data, in a fixed order and saved with the model. A name's number is its index."""

    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    characters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unknown:
    """How much of a split the model does not know, so that it can't tell it apart: `count` of `of` units.

    Args:
        unit: tokens that stand for any unknown text, or texts without a known feature.
    """

    count: int = 0
    of: int = 0
    unit: str = "tokens"


@dataclass(frozen=True)
class Encoded:
    """Rows as inputs of a model, in the same order.

    Args:
        rows: columns of model inputs, `length` (tokens or samples) and, if known, targets as numbers.
        references: the target columns of the rows, as evaluators compare them, `[n]` each.
        truncated: the number of rows that are longer than the model reads.
        limit: the phrase for them in the log: "N of M examples are {limit}".
        unknown: the tokens that the tokenizer does not know.
    """

    rows: Rows
    references: Mapping[str, list] = field(default_factory=dict)
    truncated: int = 0
    limit: str = ""
    unknown: Unknown = field(default_factory=Unknown)

    def __len__(self) -> int:
        return len(self.rows["length"])

    @property
    def lengths(self) -> Sequence[int]:
        """The length of each row, in tokens, characters or samples."""
        return self.rows["length"][:]

    def reader(self) -> RowReader:
        """A function: row numbers -> rows."""
        return RowReader(self.rows)

    def select(self, numbers: Sequence[int]) -> Encoded:
        """The rows of these numbers. How many of them are truncated is not counted."""

        def pick(values: Sequence) -> Sequence:
            return values[np.asarray(numbers)] if isinstance(values, np.ndarray) else [values[i] for i in numbers]

        rows = self.rows
        chosen: Rows
        if isinstance(rows, Mapping):
            chosen = {name: pick(values) for name, values in rows.items()}
        else:
            chosen = rows.select(numbers)
        return Encoded(chosen, {name: [values[i] for i in numbers] for name, values in self.references.items()})


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
    """The augmentation draws of training examples, which depend only on the seed, the epoch and the example."""

    augmentation: Augmentation
    seed: int

    def __call__(self, epoch: int, examples: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        return self.augmentation.draw(self.seed, epoch, examples)


@dataclass(frozen=True)
class Decoding:
    """How raw output becomes answers.

    Args:
        threshold: an answer below this confidence is not accepted; None if there is no threshold.
        beams: of a task that writes text, how many beginnings of it are followed at once; 1 is greedy.

    Raises:
        InputError: `beams` is not a whole number from 1.
    """

    threshold: float | None = None
    beams: int = 1

    def __post_init__(self) -> None:
        if type(self.beams) is not int or self.beams < 1:
            raise InputError(f"decode.beams={self.beams}: give a whole number from 1")


@dataclass(frozen=True)
class Loss:
    """The loss of one head over a micro-batch, unit by unit.

    Either `values`, or `logits` with `targets`, from which training computes the cross-entropy. Label smoothing, class
    weights and a teacher apply only to logits.

    Args:
        values: float32 `[units]`.
        logits: float32 `[units, classes]`.
        targets: int64 `[units]`; a unit below 0 does not count.
        examples: int64 `[units]`, the row of the batch that a unit belongs to; None if each row has one unit.
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
    """One training of the model, or of a part of it.

    Args:
        name: of the folder of its checkpoints; empty for a single stage.
        module: the model -> the module that is trained.
        train: the training split.
    """

    name: str
    module: Callable[[nn.Module], nn.Module]
    train: Encoded


class Task(ABC, Generic[ModelT, ProcessorT]):
    """What a model answers. Subclasses are frozen dataclasses; their fields are the keys of the yaml."""

    name: ClassVar[str]
    hub_tag: ClassVar[str]  # the hub's name of the task, for the model card

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """The columns that the task reads and learns."""

    @property
    @abstractmethod
    def evaluators(self) -> tuple[Evaluator, ...]:
        """The first one defines the objective and its direction; one is left out if the data lacks its targets."""

    @property
    def objectives(self) -> dict[str, bool]:
        """The figures that can choose the best checkpoint: name -> whether greater is better. The first is the
        default."""
        first = self.evaluators[0]
        names = dict.fromkeys((first.primary_metric, first.units_metric), first.greater_is_better)
        return names | {"loss": False}

    def learn(self, rows: Dataset | None) -> Vocabulary:
        """The vocabulary of the training rows; called before the processor is loaded. None: nothing will be trained,
        and the data may have no such rows."""
        return Vocabulary()

    def settle(self, train: Encoded, vocabulary: Vocabulary) -> Self:
        """The task with its `auto` settings decided by all rows of train, so that every fold has the same model."""
        return self

    def load_processor(self, vocabulary: Vocabulary) -> ProcessorT | None:
        """The processor of the model's inputs; None for a model without one."""
        return None

    @abstractmethod
    def encode(self, rows: Rows, processor: ProcessorT, vocabulary: Vocabulary) -> Encoded:
        """Rows -> model inputs, the same in training and in answering, with references for the targets they have.

        Raises:
            InputError: a target is not in the vocabulary; it names the row.
        """

    @abstractmethod
    def load_model(self, vocabulary: Vocabulary, processor: ProcessorT) -> object:
        """The model to train: a network, or the features of an estimator."""

    @abstractmethod
    def decode(
        self,
        raw: Raw | NDArray,
        batch: Batch,
        vocabulary: Vocabulary,
        processor: ProcessorT,
        decoding: Decoding,
    ) -> dict[str, Column]:
        """The columns of the answers of one batch, a value for each row. An estimator has no batch: it is empty."""

    @abstractmethod
    def save(self, model: ModelT, processor: ProcessorT, directory: Path) -> None:
        """Write the model into an empty directory, in the form that the stock libraries open."""

    @abstractmethod
    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[ModelT, ProcessorT]:
        """(model, processor) from what `save` wrote; the model is on the device and in evaluation mode.

        Raises:
            OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: files are missing or damaged.
        """

    @abstractmethod
    def count_parameters(self, model: ModelT) -> tuple[int, int]:
        """(all, trainable or fitted here) parameters."""

    def count_unknown(self, model: ModelT, encoded: Encoded) -> Unknown:
        """How much of encoded rows the trained model does not know; of nothing for audio."""
        return encoded.unknown

    def describe(self) -> dict[str, object]:
        """The task's name and its settings."""
        return {"task": self.name} | {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


class NetworkTask(Task["PreTrainedModel", ProcessorT]):
    """A network that transformers.Trainer tunes.

    The trainer uses only `losses`, `count` and `respond`. The loss of a step is, for each head, the sum over its units
    divided by `count`, which is summed over micro-batches and ranks; it is the weighted sum over heads.
    """

    head_weights: ClassVar[Mapping[str, float]]
    # Classes of `models.tuning` that mean nothing for the task -> the error that says why.
    refused_tunings: ClassVar[Mapping[str, str]] = {
        "Decoder": "tuning=decoder: the network has no decoder; use tuning=full or last_layers",
        "Untuned": "tuning=none: the network gets a new head for your labels, which answers nothing before it is "
        "trained; tuning=head trains the least",
    }
    # Rows of validation that are answered in each evaluation of a training; None for all, as at its end. The loss is
    # always that of all rows.
    answered_in_training: int | None = None
    processor_class: ClassVar[str]  # the class of transformers that opens the saved processor
    model_class: ClassVar[str]  # the one that opens the saved model

    @property
    def most_answered(self) -> int | None:
        """Rows that are answered at once at most, where they take much memory; None for no limit."""
        return None

    @property
    def teacher(self) -> str | None:
        """Directory of a saved run; its answers are learnt with the targets."""
        return None

    def stages(self, train: Encoded) -> tuple[Stage, ...]:
        """The stages of training, in order."""
        return (Stage("", lambda model: model, train),)

    def prepare(self, model: PreTrainedModel, tuning: Tuning, train: Encoded, processor: ProcessorT) -> nn.Module:
        """The network to train: frozen, wrapped or extended as `tuning` says."""
        return tuning.prepare(model)

    def class_weights_of(self, train: Encoded, vocabulary: Vocabulary) -> Mapping[str, NDArray[np.float32]]:
        """Head -> weight of each class in the loss; heads without weights are left out."""
        return {}

    @abstractmethod
    def build_collator(self, model: PreTrainedModel, processor: ProcessorT, draws: Draws | None = None) -> Collator:
        """Rows -> a batch. A training row has its `example`, `epoch` and `weight`; others do not.

        Args:
            model: for its configuration.
            draws: the augmentation draws; None for no augmentation.
        """

    @abstractmethod
    def build_inputs(
        self, model: PreTrainedModel, processor: ProcessorT, augmenter: nn.Module | None = None
    ) -> nn.Module:
        """A module: batch -> (inputs of the network, waveforms `[rows, samples]` or None), on the batch's device."""

    def build_augmenter(
        self, model: PreTrainedModel, augmentation: Augmentation, train: Encoded, seed: int
    ) -> nn.Module | None:
        """The module that applies the augmentation draws to a batch; None if the task has no augmentation."""
        return None

    @abstractmethod
    def losses(self, model: nn.Module, inputs: Batch, batch: Batch) -> dict[str, Loss]:
        """Call the network: head -> its loss, unit by unit."""

    @abstractmethod
    def count(self, batch: Batch) -> dict[str, int]:
        """Head -> the number of units that count, known before the forward pass."""

    @abstractmethod
    def respond(self, model: nn.Module, to_inputs: nn.Module, batch: Batch, decoding: Decoding) -> Raw:
        """The raw output for one batch: logits, their mean over windows, or generated tokens."""

    def loss_of(self, raw: Raw, batch: Batch) -> Tensor | None:
        """The loss of each row of an evaluated batch `[rows]`, NaN for a row without a target; None if the task has
        none, or has `loss_sums`."""
        return None

    def loss_sums(self, model: nn.Module, to_inputs: nn.Module, batch: Batch) -> Tensor:
        """For a task whose answers do not say their loss: the sum over the units of each row, and their number,
        float32 `[rows, 2]`, (0, 0) for a row that can't be measured. Tasks with `loss_of` do not have it."""
        raise NotImplementedError

    def count_parameters(self, model: PreTrainedModel) -> tuple[int, int]:
        from voicecommand.models.tuning import count_parameters

        return count_parameters(model)

    def save(self, model: PreTrainedModel, processor: ProcessorT, directory: Path) -> None:
        merge = getattr(model, "merge_and_unload", None)
        if merge is not None:  # LoRA: the adapter is saved beside the merged model
            model.save_pretrained(directory / "adapter")
            model = merge()
        model.save_pretrained(directory)
        assert processor is not None
        processor.save_pretrained(directory)

    def open(self, directory: Path, vocabulary: Vocabulary) -> tuple[PreTrainedModel, ProcessorT]:
        import transformers

        import voicecommand.models  # noqa: F401  (registers our own networks)
        from voicecommand.models.pretrained import open_network, open_processor
        from voicecommand.run.device import find_device

        processor: ProcessorT = open_processor(getattr(transformers, self.processor_class), directory)
        model = open_network(getattr(transformers, self.model_class), directory)
        return model.eval().to(find_device()), processor


class EstimatorTask(Task[ModelT, ProcessorT]):
    """A model that is fitted in one step: no collator, no losses."""

    @abstractmethod
    def fit(self, features: Features, train: Encoded, vocabulary: Vocabulary, seed: int) -> ModelT:
        """The fitted model."""

    def held_out(self, model: ModelT, train: Encoded) -> HeldOut | None:
        """Answers to rows of train by models that were not fitted on them; None if `fit` makes none."""
        return None

    @abstractmethod
    def respond(self, model: ModelT, rows: Rows) -> NDArray[np.floating]:
        """The raw output for encoded rows."""
