"""transformers.Trainer for short commands: exact batches grouped by length, one loss of ours, sorted evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from voicecommand.errors import InputError, NonFiniteLoss
from voicecommand.training.batches import EncodedRows, GroupedBatches, LongestFirst, TrainingExamples, lengths_of
from voicecommand.training.losses import LABEL_SHARE, TEMPERATURE


class CommandTrainer(Trainer):
    """`Trainer` whose global step, loss and evaluation are right for any number of processes.

    Args:
        tuning: gives the optimizer's parameter groups (`voicecommand.models.tuning`).
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
            lengths_of(dataset),
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
            TrainingExamples(dataset, batches),
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
        dataset = EncodedRows(self._remove_unused_columns(dataset, description=description))
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            return super()._get_dataloader(dataset, description, *args, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler:
        return LongestFirst(lengths_of(eval_dataset))

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """Stock evaluation in order of length; predictions and labels come back in the order of the split.

        The loss is that of every example once: the stock one weighs the last batch by how ranks shared it.
        """
        self._share_buffers()
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        if output.predictions is None:  # prediction_loss_only
            return output
        back = np.argsort(LongestFirst(lengths_of(dataloader.dataset)).order)
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
