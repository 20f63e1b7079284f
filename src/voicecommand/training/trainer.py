"""A transformers.Trainer with the right global step, loss and evaluation for any number of processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import speed_metrics

from voicecommand.audio.windows import take_draws
from voicecommand.errors import InputError, NonFiniteLoss
from voicecommand.tasks.base import Batch, Encoded, NetworkTask
from voicecommand.training.batches import GroupedBatches, TrainingExamples

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from voicecommand.models.tuning import Tuning
    from voicecommand.training.losses import StepLoss


class CommandTrainer(Trainer):
    """`Trainer` for a `NetworkTask`: losses and counts come from the task, the figures from `validate`.

    Args:
        task: see `voicecommand.tasks.base`.
        tuning: for the optimizer's parameter groups (`voicecommand.models.tuning`).
        to_inputs: batch -> the network's inputs on the device, and the waveforms or None.
        step_loss: the loss of a step, from the losses of the heads.
        validate: network -> figures of the validation split by name, with `loss` if there is one.
        train_dataset, eval_dataset: `Encoded`.

    Raises:
        NonFiniteLoss: the loss of a step is NaN or infinite.
        InputError: `dataloader_drop_last` leaves nothing to train on.
    """

    model: PreTrainedModel
    train_dataset: Encoded
    eval_dataset: Encoded

    def __init__(
        self,
        *,
        task: NetworkTask,
        tuning: Tuning,
        to_inputs: nn.Module,
        step_loss: StepLoss,
        validate: Callable[[nn.Module], dict[str, float]],
        **of_trainer: Any,
    ) -> None:
        super().__init__(**of_trainer)
        # True makes Trainer pass the counts of `get_batch_samples` to compute_loss. The model itself gets neither them
        # nor the targets, because its own scaling of the loss is wrong (see compute_loss).
        self.model_accepts_loss_kwargs = True
        self.task, self.tuning, self.step_loss, self.validate = task, tuning, step_loss, validate
        self.to_inputs = to_inputs.to(self.args.device)
        self.args.logging_nan_inf_filter = False  # training_step stops at such a loss; it saves two syncs a step
        self._parameters_of_flops: int | None = None

    def get_train_dataloader(self) -> DataLoader:
        args, encoded = self.args, self.train_dataset
        batches = GroupedBatches(
            encoded.lengths,
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
                f" {len(encoded)}; lower training.per_device_train_batch_size or leave dataloader_drop_last out"
            )
        # accelerate does not prepare it: it has only this rank's batches already, and Trainer moves them to the device
        loader: DataLoader = DataLoader(
            TrainingExamples(encoded, batches),
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

    def get_batch_samples(  # type: ignore[override]
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], dict[str, Tensor] | None]:
        """The micro-batches of a step, and for each head the number of units that count in it, over all ranks."""
        batches = list(islice(epoch_iterator, num_batches))
        if not batches:
            return batches, None
        heads = list(self.task.head_weights)
        counts = torch.tensor([[self.task.count(batch)[head] for head in heads] for batch in batches]).sum(0)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.gather(counts.to(device)[None]).sum(0)
        return batches, dict(zip(heads, counts.to(device), strict=True))

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        # The stock heads ignore num_items_in_batch, and BERT's scales the loss by the world size: they get no targets.
        given, waveforms = self.to_inputs(inputs)
        assert num_items_in_batch is not None and not return_outputs
        loss = self.step_loss(self.task.losses(model, given, inputs), inputs, waveforms, num_items_in_batch)
        if self.args.average_tokens_across_devices:  # counts are sums over all ranks, but gradients are averaged
            loss = loss * self.args.world_size
        return loss

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: object = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The figures of the validation split, from the same code as evaluation and prediction."""
        self._share_buffers()
        # The DataLoader of the stock evaluation draws this number from the global generator. Dropout in the steps after
        # it depends on the draw, and so do the figures of all published runs.
        torch.empty((), dtype=torch.int64).random_()
        start = time.time()
        figures = self.validate(self.accelerator.unwrap_model(self.model))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=len(self.eval_dataset))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _share_buffers(self) -> None:
        """Give every rank the running statistics of norms of rank 0, which saves the model: after a step each rank has
        its own."""
        if self.args.world_size > 1:
            for name, buffer in self.model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    torch.distributed.broadcast(buffer, 0)

    def create_optimizer(self, model: PreTrainedModel | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = self.tuning.parameter_groups(model, self.args.learning_rate, self.args.weight_decay)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """Move a batch to the device, except the draws: augmentation reads them on the CPU without waiting for a
        GPU."""
        drawn = take_draws(inputs)
        prepared: Batch = super()._prepare_inputs({k: v for k, v in inputs.items() if k not in drawn})
        return prepared | drawn

    def training_step(  # type: ignore[override]
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[arg-type]
        # every rank checks the losses of all, so that they stop together
        value = self.accelerator.gather(loss).sum().item() if self.args.world_size > 1 else loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"step {self.state.global_step + 1}: the loss is {value}; lower training.learning_rate"
                f" (now {self.args.learning_rate}), or try precision=fp32"
            )
        return loss

    def floating_point_ops(self, inputs: Batch) -> int:
        """Like the stock method, which counts the parameters again for each batch (3 ms for a BERT of 6 layers)."""
        if self._parameters_of_flops is None:
            self._parameters_of_flops = self.model.num_parameters(exclude_embeddings=True)
        first = inputs.get(self.model.main_input_name)
        return 0 if first is None else 6 * first.numel() * self._parameters_of_flops
