"""What a checkpoint needs beside the weights, and what training tells the run and the other ranks step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from voicecommand.run import ranks

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from voicecommand.run.directory import Run


LOSSES = "losses"  # beside the states of callbacks in trainer_state.json: the sums behind the logged loss


class EpochBoundary(TrainerCallback):
    """Whether training is between two epochs.

    Attributes:
        reached: the steps of the epoch are over.
        save: a checkpoint is due when the epoch has been evaluated.
    """

    reached = save = False

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.reached = self.save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.reached = True


def collect_states(callbacks: Sequence[TrainerCallback]) -> dict[str, Any]:
    """Class -> the state of each callback that has one."""
    return {type(one).__name__: one.state() for one in callbacks if isinstance(one, ExportableState)}


def restore_states(callbacks: Sequence[TrainerCallback], states: Mapping[str, Any]) -> None:
    """Set the attributes of callbacks to those of `collect_states`; their settings stay those of this run."""
    for one in callbacks:
        state = states.get(type(one).__name__)
        if isinstance(one, ExportableState) and state is not None:
            for name, value in state["attributes"].items():
                setattr(one, name, value)


def is_out_of_patience(callbacks: Sequence[TrainerCallback]) -> bool:
    """Whether early stopping has ended the training."""
    return any(
        isinstance(one, EarlyStoppingCallback) and one.early_stopping_patience_counter >= one.early_stopping_patience
        for one in callbacks
    )


class StopWhereMoved(TrainerCallback):
    """Stops if the run directory was removed or renamed, before a checkpoint would make it again."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if control.should_save or control.should_evaluate:
            self.run.check_place()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.run.check_place()


class StopOnSignal(TrainerCallback):
    """Saves and stops at the end of the step in which a signal came, or on several ranks of the step after it; and
    tells the other ranks that training goes on.

    A signal may reach the ranks in different steps, but all must stop in the same one. They read the sum of the last
    step's requests, which is there by then, so that none waits for its device in every step.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_first, self.asked = True, None  # type: bool, torch.Tensor | None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.run.can_save = True
        self.is_first, self.asked = True, None  # the first step may compile

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        ranks.note_progress(in_step=not self.is_first)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        ranks.note_progress(in_step=not self.is_first)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        if args.world_size > 1:
            before, self.asked = self.asked, torch.tensor(float(self.run.stop_requested), device=args.device)
            torch.distributed.all_reduce(self.asked)
            last = self.asked if state.global_step >= state.max_steps else before
            stops = last is not None and bool(last.item())
            self.run.stop_requested |= stops
        else:
            stops = self.run.stop_requested
        if stops:
            control.should_save = control.should_training_stop = True
            # with a limit of 1, Trainer would remove the checkpoint saved now at the end, and keep only the best
            if args.save_total_limit == 1:
                args.save_total_limit = 2
        self.is_first = False
        is_long = control.should_evaluate or control.should_save or control.should_training_stop
        ranks.note_progress(in_step=not is_long)
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        ranks.note_progress(in_step=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        ranks.note_progress(in_step=False)
        self.run.can_save = False
