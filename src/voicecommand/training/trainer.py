"""A transformers.Trainer with the right global step, loss and evaluation for any number of processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.serialization import config as serialization_config
from transformers import Trainer
from transformers.trainer_utils import SaveStrategy, speed_metrics

from voicecommand import files
from voicecommand.audio.windows import take_draws
from voicecommand.errors import InputError, StorageError
from voicecommand.run import checkpoints as run_checkpoints
from voicecommand.run import manifest, processes, signals
from voicecommand.tasks.base import Batch, Collator, Encoded, NetworkTask
from voicecommand.training import checkpoints
from voicecommand.training.batches import GroupedBatches, Numbered, TrainingExamples
from voicecommand.training.finite import FiniteWatch

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
        facts: what the manifest of each checkpoint says of the run.
        train_dataset, eval_dataset: `Encoded`.

    Raises:
        NonFiniteLoss: the loss or the gradient of a step is NaN or infinite; no such weights are saved.
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
        facts: Mapping[str, Any] | None = None,
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
        self.facts = dict(facts or {})
        self.watch = FiniteWatch(self.args.learning_rate, self.args.device)
        self._boundary = checkpoints.EpochBoundary()
        self._saved_losses: tuple[list[float], float, int] | None = None
        self.add_callback(self._boundary)

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
            collate_fn=Numbered(cast("Collator", self.data_collator)),
            num_workers=args.dataloader_num_workers,
            worker_init_fn=signals.prepare_worker,
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
        self.watch.begin(self.state.global_step + 1, inputs.pop("example").tolist())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[arg-type]
        whole = self.accelerator.gather(loss).sum() if self.args.world_size > 1 else loss
        self.watch.check("loss", whole, own=loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float:
        """The norm of the gradient, which is the same on all ranks, before the optimizer uses it."""
        norm: Tensor | float = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.scaler is None:  # the scaler of fp16 skips steps with an infinite gradient, and goes on
            self.watch.check("gradient", norm)
        return norm

    def floating_point_ops(self, inputs: Batch) -> int:
        """Like the stock method, which counts the parameters again for each batch (3 ms for a BERT of 6 layers)."""
        if self._parameters_of_flops is None:
            self._parameters_of_flops = self.model.num_parameters(exclude_embeddings=True)
        first = inputs.get(self.model.main_input_name)
        return 0 if first is None else 6 * first.numel() * self._parameters_of_flops

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # the mean over all steps; Trainer divides by the steps since a resume
            logs["train_loss"] = self._total_loss_scalar / max(1, self.state.global_step)
        super().log(logs, start_time)

    # Checkpoints. Trainer writes them in place, forgets the state of callbacks and of the logged loss, and evaluates
    # once more when a training stops in the middle of an epoch.

    def _run_epoch(self, **of_epoch: Any) -> None:  # type: ignore[override]
        state = self.state
        if state.global_step >= state.max_steps or checkpoints.is_out_of_patience(self.callback_handler.callbacks):
            self.control.should_training_stop = True  # resumed from the last step
            return
        self._restore_losses()
        super()._run_epoch(**of_epoch)

    def _maybe_log_save_evaluate(self, *of_step: Any, **named: Any) -> None:
        """Called after each step, and once more when an epoch ends or training stops in the middle of it.

        The last step saves in the second call, after the evaluation of the epoch: a run that is resumed from that
        checkpoint goes on with the next epoch. If a signal stops training in the middle of an epoch, the second call
        only saves.
        """
        control, state = self.control, self.state
        is_natural = state.epoch == int(state.epoch or 0) or state.global_step >= state.max_steps
        if control.should_log or control.should_evaluate or control.should_save:
            self.watch.flush()
        if not self._boundary.reached:
            is_last = is_natural or control.should_training_stop
            self._boundary.save = is_last and control.should_save
            if self._boundary.save:
                control.should_save = False
            super()._maybe_log_save_evaluate(*of_step, **named)
            return
        control.should_save = control.should_save or self._boundary.save
        if (
            control.should_training_stop
            and not is_natural
            and not checkpoints.is_out_of_patience(self.callback_handler.callbacks)
        ):
            control.should_log = control.should_evaluate = False
        super()._maybe_log_save_evaluate(*of_step, **named)
        place = run_checkpoints.place_of(Path(str(self.args.output_dir)), state.global_step)
        if self._boundary.save and not place.is_dir():  # save_strategy=best found no better figure
            model, trial = of_step[2:4]
            self._save_checkpoint(model, trial)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """Write checkpoint-N beside its place, with a manifest; when all ranks have written, move it there and remove
        old ones.

        Raises:
            NonFiniteLoss: a weight is NaN or infinite.
            StorageError: it can't be written; the checkpoints before are as they were.
        """
        args = self.args
        state: Any = self.state  # its stateful_callbacks is a dictionary by now, whatever its type says
        self.watch.flush()
        self.watch.check_weights(self.model)
        self.store_flos()
        folder = Path(str(args.output_dir))
        place = run_checkpoints.place_of(folder, state.global_step)
        state.best_model_checkpoint = self._best_place(folder)
        losses = self.accelerator.gather(self._tr_loss[None]).tolist()
        with contextlib.ExitStack() as stack:
            staging = files.staging_of(place)
            if args.should_save:
                stack.enter_context(files.staged(place))
            processes.wait_for_all()
            self.save_model(str(staging), _internal_call=True)
            if not args.save_only_model:
                # the manifest's hash finds what a CRC-32 finds, which takes as long as writing the states
                with cast(Any, serialization_config).patch("save.compute_crc32", False):
                    self._save_optimizer_and_scheduler(str(staging))
                self._save_scaler(str(staging))
                self._save_rng_state(str(staging))
            if args.should_save:
                state.stateful_callbacks = checkpoints.collect_states(self.callback_handler.callbacks) | {
                    checkpoints.LOSSES: [losses, self._total_loss_scalar, self._globalstep_last_logged]
                }
                state.save_to_json(str(staging / "trainer_state.json"))
            processes.wait_for_all()
            if args.should_save:
                best_step = state.best_global_step if state.best_model_checkpoint else None
                own = {"step": state.global_step, "best_step": best_step, "resumable": not args.save_only_model}
                manifest.write(staging, self.facts | own, name_of_hash="xxh3_128")
        processes.wait_for_all()
        if args.should_save:
            best = state.best_model_checkpoint
            run_checkpoints.rotate(folder, args.save_total_limit, None if best is None else Path(best))

    def _best_place(self, folder: Path) -> str | None:
        """The checkpoint of the best step so far, also when that is saved now; None if it was not saved."""
        best = self.state.best_global_step
        if self.args.save_strategy == SaveStrategy.NO or not best:
            return None
        place = run_checkpoints.place_of(folder, best)
        return str(place) if best == self.state.global_step or place.is_dir() else None

    def _load_best_model(self) -> None:
        """Load the best checkpoint, if it is still as it was written.

        Raises:
            StorageError: it is not.
        """
        best = Path(str(self.state.best_model_checkpoint))
        try:
            run_checkpoints.verify(best)
        except manifest.Damaged as error:
            raise StorageError(f"{best}: {error}; resume=true goes on from a checkpoint that is whole") from error
        super()._load_best_model()

    def _init_training_state(self, *of_training: Any) -> tuple[int, int]:
        """Restore the state, also where the run directory has moved since."""
        found: tuple[int, int] = super()._init_training_state(*of_training)
        self.state.best_model_checkpoint = self._best_place(Path(str(self.args.output_dir)))
        states: Any = self.state.stateful_callbacks
        self._saved_losses = states.pop(checkpoints.LOSSES, None)
        return found

    def _load_callback_state(self) -> None:
        """Restore the counters of callbacks in place, such as the patience of early stopping."""
        states: Any = self.state.stateful_callbacks
        checkpoints.restore_states(self.callback_handler.callbacks, states)

    def _finalize_training(self, *of_training: Any) -> Any:
        self._restore_losses()  # where nothing was left to train
        return super()._finalize_training(*of_training)

    def _restore_losses(self) -> None:
        """Restore the sums behind the logged loss, where a resumed training begins."""
        if self._saved_losses is None:
            return
        losses, self._total_loss_scalar, self._globalstep_last_logged = self._saved_losses
        same_world = len(losses) == self.args.world_size
        own = losses[self.args.process_index] if same_world else sum(losses) / len(losses)
        self._tr_loss = torch.tensor(own, device=self.args.device)
        self._saved_losses = None
