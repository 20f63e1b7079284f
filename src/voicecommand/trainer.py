"""transformers.Trainer for short commands: exact batches grouped by length, one loss of ours, sorted evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from voicecommand.audio import Clips
from voicecommand.errors import InputError, NonFiniteLoss

# Examples are sorted by length inside windows of this many global batches: wide enough that batches need
# hardly any padding, narrow enough that an epoch's batches still differ from the last one's.
WINDOW = 50
# With a teacher: both answers are softened by the temperature, and the labels keep this share of the loss.
TEMPERATURE, LABEL_SHARE = 2.0, 0.25


class GroupedBatches(Sampler[list[int]]):
    """Batches of examples of like length, the same global batches for any split into ranks and accumulation.

    An epoch is cut into global batches of `batch_size x accumulation x world_size` examples. Each is cut into
    `accumulation` micro-batches, each of those into one part a rank, so that 1 x 16, 2 x 8 and 8 with an
    accumulation of 2 make the same optimizer steps. The examples that do not fill a global batch come last, in
    a smaller one; a rank left without an example there gets one that does not count, given as `~index`.

    Args:
        lengths: tokens (or samples) of each example, `[examples]`.
        batch_size: examples a rank takes at a time (`per_device_train_batch_size`).
        accumulation: micro-batches in an optimizer step (`gradient_accumulation_steps`).
        seed: the order of epoch e is drawn from (seed, e) alone.
        drop_last: leave out the smaller batch at the end of an epoch.
    """

    def __init__(
        self,
        lengths: Any,
        batch_size: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.accumulation = batch_size, accumulation
        self.rank, self.world_size = rank, world_size
        self.seed, self.drop_last = seed, drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size * self.accumulation * self.world_size)
        last = 0 if self.drop_last else math.ceil(rest / (self.batch_size * self.world_size))
        return whole * self.accumulation + last

    def _global_batches(self) -> list[np.ndarray]:
        size = self.batch_size * self.accumulation * self.world_size
        draws = np.random.default_rng((self.seed, self.epoch))
        order = draws.permutation(len(self.lengths))
        whole = len(order) // size * size
        grouped = []
        for start in range(0, whole, size * WINDOW):
            window = order[start : min(start + size * WINDOW, whole)]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            grouped += [window[i : i + size] for i in range(0, len(window), size)]
        batches = [grouped[i] for i in draws.permutation(len(grouped))]
        return batches if self.drop_last or whole == len(order) else [*batches, order[whole:]]

    def __iter__(self) -> Iterator[list[int]]:
        step = self.batch_size * self.world_size
        for batch in self._global_batches():
            for start in range(0, len(batch), step):
                micro = batch[start : start + step]
                share = math.ceil(len(micro) / self.world_size)
                mine = micro[self.rank * share : (self.rank + 1) * share].tolist()
                yield mine or [~int(micro[0])]


class _Rows(torch.utils.data.Dataset):
    """An encoded split by rows; sound comes as int16 views into its memory map."""

    def __init__(self, dataset: Any) -> None:
        has_sound = "audio" in dataset.column_names
        self.clips = Clips(dataset) if has_sound else None
        self.dataset = dataset.remove_columns("audio") if has_sound else dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        columns = self.dataset[indices]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if self.clips is not None:
            for row, index in zip(rows, indices, strict=True):
                row["audio"] = self.clips[index]
        return rows

    def __getitem__(self, key: Any) -> Any:
        return self.dataset[key] if isinstance(key, str) else self.__getitems__([key])[0]


class _Examples(_Rows):
    """The encoded training split; an index `~i` is example i with a label that the loss leaves out.

    Each row names its `example` and the `epoch`, from which its augmentation is drawn.
    """

    def __init__(self, dataset: Any, batches: GroupedBatches) -> None:
        super().__init__(dataset)
        self.batches = batches

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = super().__getitems__([i if i >= 0 else ~i for i in indices])
        for row, index in zip(rows, indices, strict=True):
            row |= {"example": index if index >= 0 else ~index, "epoch": self.batches.epoch}
            if index < 0:
                row["labels"] = -100
        return rows


def _lengths(dataset: Any) -> np.ndarray:
    """`length` of each example; a slice, because a column of `datasets` gives its values one by one otherwise."""
    return np.asarray(dataset["length"][:])


class _ByLength(Sampler[int]):
    """Evaluation order: longest first, so that batches hardly pad and memory peaks at once."""

    def __init__(self, lengths: Any) -> None:
        self.order = np.argsort(-lengths, kind="stable")

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())


class CommandTrainer(Trainer):
    """`Trainer` whose global step, loss and evaluation are right for any number of processes.

    Args:
        tuning: gives the optimizer's parameter groups (`voicecommand.tuning`).
        class_weights: float32 `[labels]` or None.
        front: makes the model's inputs of a batch on the device (features, augmentation); None where the
            collator's batch is what the model takes.
        teacher: waveforms float32 `[n, samples]` -> probabilities `[n, labels]`, learnt beside the labels, or None; the
            model's `input_values` must be waveforms.

    The loss is the sum over examples of `class weight x cross-entropy` (smoothed by `label_smoothing_factor`),
    divided by the number of examples in the global step. With a teacher a quarter of it is that cross-entropy, the
    rest the divergence from the teacher's answers at temperature 2, times 4 (Hinton et al., arXiv:1503.02531); the
    teacher hears the sound as augmentation left it (Beyer et al., arXiv:2106.05237).

    Raises:
        NonFiniteLoss: the loss of a step is NaN or infinite.
        InputError: `dataloader_drop_last` leaves nothing to train on.
    """

    model: Any
    _signature_columns: Any

    def __init__(
        self,
        *args: Any,
        tuning: Any,
        class_weights: torch.Tensor | None = None,
        front: Any = None,
        teacher: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # True makes Trainer count the labels of a global step over micro-batches and ranks and hand the number to
        # compute_loss; the model itself never sees labels or that number (its own scaling is wrong, see there).
        self.model_accepts_loss_kwargs = True
        self.tuning = tuning
        self.class_weights = class_weights
        self.front = None if front is None else front.to(self.args.device)
        self.teacher = teacher
        self.args.logging_nan_inf_filter = False  # training_step stops at such a loss; two device syncs less a step
        self._parameters_of_flops: int | None = None

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        dataset = self._remove_unused_columns(self.train_dataset, description="training")
        batches = GroupedBatches(
            _lengths(dataset),
            args.per_device_train_batch_size * max(1, args.n_gpu),
            args.gradient_accumulation_steps,
            args.process_index,
            args.world_size,
            args.seed if args.data_seed is None else args.data_seed,
            args.dataloader_drop_last,
        )
        if not len(batches):
            size = batches.batch_size * batches.accumulation * batches.world_size
            raise InputError(
                f"training.dataloader_drop_last=true: a global batch has {size} examples, and train only"
                f" {len(dataset)}; lower training.per_device_train_batch_size or leave dataloader_drop_last out"
            )
        # Not prepared by accelerate: the batches are this rank's own already, and Trainer moves them to the device.
        loader = DataLoader(
            _Examples(dataset, batches),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            in_order=args.dataloader_in_order,
        )
        loader.set_epoch = batches.set_epoch  # Trainer calls it where it exists
        return loader

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # the samplers read the length; the front makes the model's inputs of the sound
        self._signature_columns += [name for name in ("length", "audio") if name not in self._signature_columns]

    def _get_dataloader(self, dataset: Any, description: str, *args: Any, **kwargs: Any) -> DataLoader:
        """The stock loader, which only evaluation uses here: it never drops an example."""
        dataset = _Rows(self._remove_unused_columns(dataset, description=description))
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            return super()._get_dataloader(dataset, description, *args, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler:
        return _ByLength(_lengths(eval_dataset))

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """Stock evaluation in order of length; predictions and labels come back in the order of the split.

        The loss is that of every example once: the stock one weighs the last batch by how ranks shared it.
        """
        self._share_buffers()
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        if output.predictions is None:  # prediction_loss_only
            return output
        back = np.argsort(_ByLength(_lengths(dataloader.dataset)).order)
        logits, labels = output.predictions[back], output.label_ids
        if labels is not None:
            labels = labels[back]
            loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).float(), torch.from_numpy(labels))
            metrics: dict[str, float] = output.metrics or {}
            metrics |= {name: loss.item() for name in metrics if name.endswith("_loss")}
        return output._replace(predictions=logits, label_ids=labels)

    def _share_buffers(self) -> None:
        """Every rank evaluates what rank 0 saves: since the last step the running statistics of norms are each
        rank's own."""
        if self.args.world_size > 1:
            for name, buffer in self.model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    torch.distributed.broadcast(buffer, 0)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = self.tuning.parameter_groups(model, self.args.learning_rate, self.args.weight_decay)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs["labels"]
        if self.front is not None:
            inputs = self.front(inputs)
        # The stock heads ignore num_items_in_batch and scale the loss by the world size (BERT), so they get no labels.
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        losses = torch.nn.functional.cross_entropy(
            outputs.logits.float(), labels, reduction="none", label_smoothing=self._smoothing()
        )
        if self.teacher is not None and model.training:
            taught = self._divergence(outputs.logits.float(), inputs["input_values"]) * (labels >= 0)
            losses = LABEL_SHARE * losses + (1 - LABEL_SHARE) * taught
        if self.class_weights is not None and model.training:
            losses = losses * self.class_weights.to(losses.device)[labels.clamp(min=0)]
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            loss = losses.sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:  # the number is that of all ranks, and gradients are averaged
                loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def _divergence(self, logits: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
        """Of the logits `[batch, labels]` from the teacher's answers to the waveforms `[batch, samples]`: `[batch]`."""
        answers = torch.from_numpy(self.teacher(waveforms.float().cpu().numpy()))
        taught = (answers.to(logits).clamp(min=1e-8).log() / TEMPERATURE).log_softmax(-1)
        learnt = (logits / TEMPERATURE).log_softmax(-1)
        return TEMPERATURE**2 * (taught.exp() * (taught - learnt)).sum(-1)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Logits `[batch, labels]`; those of sound are `Front.average` over the windows of a clip."""
        if self.front is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = self.front.average(model, inputs).float()
        labels = inputs.get("labels")
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return loss, None if prediction_loss_only else logits, labels

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """To the device, but for what was drawn: augmentation decides by it on the CPU without waiting for a GPU."""
        drawn = {} if self.front is None else self.front.take_draws(inputs)
        return super()._prepare_inputs({k: v for k, v in inputs.items() if k not in drawn}) | drawn

    def _smoothing(self) -> float:
        return self.args.label_smoothing_factor if self.model.training else 0.0

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        # every rank looks at every rank's loss, so that they stop together
        value = self.accelerator.gather(loss).sum().item() if self.args.world_size > 1 else loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"step {self.state.global_step + 1}: the loss is {value}; lower training.learning_rate"
                f" (now {self.args.learning_rate}), or try precision=fp32"
            )
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As the stock method, which counts the parameters anew for each batch (3 ms for a BERT of 6 layers)."""
        if self._parameters_of_flops is None:
            self._parameters_of_flops = self.model.num_parameters(exclude_embeddings=True)
        first = inputs.get(self.model.main_input_name)
        return 0 if first is None else 6 * first.numel() * self._parameters_of_flops
