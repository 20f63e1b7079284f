"""The answers of a model: the same code for training, evaluation, prediction and every comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from voicecommand.audio.clips import SAMPLING_RATE
from voicecommand.columns import GROUP_COLUMNS
from voicecommand.data.synthesis.speakers import are_synthetic
from voicecommand.errors import NonFiniteLoss
from voicecommand.evaluation.base import Answers
from voicecommand.tasks.base import (
    Batch,
    Column,
    Decoding,
    Encoded,
    EstimatorTask,
    NetworkTask,
    Raw,
    Task,
    Unknown,
    Vocabulary,
    column_names,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from voicecommand.tasks.base import Processor, Rows

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Answered:
    """The answers to n rows, in their order.

    Args:
        columns: of the answers, `[n]` each.
        losses: float32 `[n]`, NaN for a row without a target; None if the task has no loss of its answers.
        truncated: the number of rows that are longer than the model reads.
        limit: the phrase for them: "N of M examples are {limit}".
        unknown: how much of them the model does not know; counted for splits only.
    """

    columns: dict[str, Column]
    losses: NDArray[np.float32] | None
    truncated: int
    limit: str
    unknown: Unknown = field(default_factory=Unknown)


class Answerer:
    """A model with everything that its answers depend on: it encodes rows, batches them by length, and decodes.

    Each of n ranks answers every n-th row, and all get all answers. Every caller gets the same figures for the same
    model and precision.

    Args:
        batch_size: rows of a batch of a network, or fewer if its task says so.
        precision: fp32, bf16 or fp16, of a network.
    """

    def __init__(
        self,
        task: Task,
        model: object,
        processor: Processor | None,
        vocabulary: Vocabulary,
        decoding: Decoding | None = None,
        batch_size: int = 64,
        precision: str = "fp32",
    ) -> None:
        self.task, self.model, self.processor, self.vocabulary = task, model, processor, vocabulary
        self.decoding = decoding or Decoding()
        self.batch_size, self.precision = batch_size, precision
        if isinstance(task, NetworkTask):
            self.network = cast("PreTrainedModel", model)
            self.batch_size = min(batch_size, task.most_answered or batch_size)
            # built once, because the mel filters take longer to build than to use
            self.collate = task.build_collator(self.network, processor)
            self.to_inputs = task.build_inputs(self.network, processor).to(self.network.device)

    def answer(self, rows: Rows, origins: Sequence[str] | None = None) -> Answered:
        """The answers to rows that have the column that the task reads; `origins` and errors as in `answer_encoded`."""
        return self.answer_encoded(self.task.encode(rows, self.processor, self.vocabulary), origins)

    def answer_split(self, rows: Dataset, split: str) -> tuple[Answers, Answered]:
        """The answers to a split of a data set: with its rows, for evaluation, and without."""
        encoded = self.task.encode(rows, self.processor, self.vocabulary)
        found = self.answer_encoded(encoded, rows["origin"])
        answered = replace(found, unknown=self.task.count_unknown(self.model, encoded))
        return collect_answers(rows, split, encoded, answered, self.vocabulary), answered

    def answer_encoded(self, encoded: Encoded, origins: Sequence[str] | None = None) -> Answered:
        """The answers to encoded rows, on every rank.

        Args:
            origins: the name of each row in an error; None counts them.

        Raises:
            NonFiniteLoss: the model's output for a row is NaN or infinite, on every rank.
        """
        if isinstance(self.task, EstimatorTask):
            raw = self.task.respond(self.model, encoded.rows) if len(encoded) else np.zeros((0, 0))
            self._check_finite(np.flatnonzero(~_finite_rows(raw)), origins)
            columns = self._decode(raw, {}) if len(encoded) else {}
            return Answered(columns, None, encoded.truncated, encoded.limit)
        with self._evaluating():
            found = self._respond(encoded)
        numbers, parts, losses, bad = (list(chain.from_iterable(part)) for part in zip(*_gather(found), strict=True))
        self._check_finite(bad, origins)
        return _in_order(numbers, parts, losses, encoded)

    def measure_loss(self, encoded: Encoded) -> float | None:
        """The loss of encoded rows by `loss_sums`, the mean over all their units on all ranks; None if the task has
        none."""
        assert isinstance(self.task, NetworkTask)
        if type(self.task).loss_sums is NetworkTask.loss_sums:
            return None
        total = torch.zeros(2, dtype=torch.float64)
        with self._evaluating():
            for _, batch in self._batches(encoded, is_shared=True):
                with self._computing():
                    sums = self.task.loss_sums(self.network, self.to_inputs, batch)
                total += sums.double().sum(0).cpu()
        loss, units = (sum(values) for values in zip(*_gather(total.tolist()), strict=True))
        return loss / max(units, 1)

    def _decode(self, raw: Raw | NDArray, batch: Batch) -> dict[str, Column]:
        return self.task.decode(raw, batch, self.vocabulary, self.processor, self.decoding)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The block with the network in evaluation mode."""
        was_training = self.network.training
        if was_training:  # asked first: switching walks over all modules, a millisecond for each command
            self.network.eval()
        try:
            yield
        finally:
            if was_training:
                self.network.train()

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """The block without gradients, in this precision."""
        device = self.network.device.type
        with torch.no_grad(), torch.autocast(device, DTYPES.get(self.precision), enabled=self.precision != "fp32"):
            yield

    def respond(self, encoded: Encoded) -> NDArray[np.float32]:
        """The network's raw output before it is decoded, `[n, ...]` in the order of the rows; each rank answers all."""
        numbers, raws = [], []
        for chosen, batch in self._batches(encoded):
            raw = self._answer(batch)
            assert isinstance(raw, torch.Tensor)
            numbers += chosen
            raws.append(raw.cpu().numpy())
            self._check_finite([chosen[i] for i in np.flatnonzero(~_finite_rows(raws[-1]))], None)
        return np.concatenate(raws)[np.argsort(numbers)]

    def _check_finite(self, bad: Sequence[int] | NDArray[np.int64], origins: Sequence[str] | None) -> None:
        """Stop if there are rows, by their numbers, with an output that is NaN or infinite."""
        if not len(bad):
            return
        first, *others = sorted({int(number) for number in bad})
        row = f"row {first + 1}" if origins is None else origins[first]
        more = f" (and for {len(others)} more)" if others else ""
        cause = "the weights are damaged or have grown without bound in training"
        if isinstance(self.task, NetworkTask) and self.precision == "fp16":
            cause = "fp16 overflows (give precision=bf16 or fp32), or " + cause
        raise NonFiniteLoss(f"{row}: the model's output is NaN or infinite{more}: {cause}")

    def _respond(self, encoded: Encoded) -> tuple[list[int], list[dict[str, Column]], list[NDArray | None], list[int]]:
        """(row numbers, columns, losses) by batch, of this rank's rows, and the numbers of rows without a finite
        output."""
        assert isinstance(self.task, NetworkTask)
        numbers: list[int] = []
        bad: list[int] = []
        parts, losses = [], []
        for chosen, batch in self._batches(encoded, is_shared=True):
            raw = self._answer(batch)
            loss = self.task.loss_of(raw, batch)
            numbers += chosen
            losses.append(None if loss is None else loss.cpu().numpy())
            raw = raw.cpu() if isinstance(raw, torch.Tensor) else tuple(part.cpu() for part in raw)
            for part in (raw,) if isinstance(raw, torch.Tensor) else raw:
                bad += [chosen[i] for i in np.flatnonzero(~_finite_rows(part.float().numpy()))]
            if not bad:
                parts.append(self._decode(raw, batch))
        return numbers, parts, losses, bad

    def _answer(self, batch: Batch) -> Raw:
        assert isinstance(self.task, NetworkTask)
        with self._computing():
            return self.task.respond(self.network, self.to_inputs, batch, self.decoding)

    def _batches(self, encoded: Encoded, is_shared: bool = False) -> Iterator[tuple[list[int], Batch]]:
        """(row numbers, batch on the device) of the rows, or of this rank's share. Rows are sorted by length, so that
        there is little padding, the longest first, so that the peak of memory comes first."""
        order = np.argsort(-np.asarray(encoded.lengths), kind="stable")
        if is_shared and torch.distributed.is_available() and torch.distributed.is_initialized():
            order = order[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        device, read = self.network.device, encoded.reader()
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size].tolist()
            yield chosen, {name: value.to(device) for name, value in self.collate(read(chosen)).items()}


def _gather(own: Any) -> list[Any]:
    """What each rank has, in the order of the ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, own)
    return gathered


def _finite_rows(raw: NDArray) -> NDArray[np.bool_]:
    """bool `[n]`: which rows of output `[n, ...]` are finite."""
    finite: NDArray[np.bool_] = np.isfinite(raw).all(axis=tuple(range(1, raw.ndim)))
    return finite


def _in_order(numbers: list[int], parts: list[dict], losses: list, encoded: Encoded) -> Answered:
    """The columns of all batches in the order of the rows; `numbers` are the rows of the batches, one after another."""
    columns: dict[str, Column] = {}
    back = np.argsort(numbers)  # the inverse of the permutation
    for name in parts[0] if parts else ():
        values = [part[name] for part in parts]
        if isinstance(values[0], np.ndarray):
            columns[name] = np.concatenate(values)[back]
        else:
            flat = [value for part in values for value in part]
            columns[name] = [flat[i] for i in back]
    known = bool(losses) and losses[0] is not None
    return Answered(columns, np.concatenate(losses)[back] if known else None, encoded.truncated, encoded.limit)


def collect_answers(rows: Dataset, split: str, encoded: Encoded, answered: Answered, vocabulary: Vocabulary) -> Answers:
    """The answers to a split with its rows, for evaluation."""
    names = column_names(rows)
    group = next((name for name in GROUP_COLUMNS if name in names), None)
    text = next((name for name in ("text", "transcript") if name in names), None)
    return Answers(
        split=split,
        ids=rows["id"][:],
        origins=rows["origin"][:],
        texts=[""] * len(rows) if text is None else rows[text][:],
        references=encoded.references,
        columns=answered.columns,
        label_names=list(vocabulary.labels),
        groups=rows[group][:] if group else None,
        group_column=group,
        seconds=[length / SAMPLING_RATE for length in rows["length"][:]] if "length" in names else None,
        is_synthetic="audio" in names and are_synthetic(rows),
    )
