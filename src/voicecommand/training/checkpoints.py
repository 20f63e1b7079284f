"""One more checkpoint when a signal comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from voicecommand.run.directory import Run


class StopOnSignal(TrainerCallback):
    """Saves and stops at the end of the step in which a signal came, on all ranks together."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.run.can_save = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        if args.world_size > 1:  # a signal may reach the ranks in different steps, but all must stop in the same one
            asked = torch.tensor(float(self.run.stop_requested), device=args.device)
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
            self.run.stop_requested = bool(asked.item())
        if self.run.stop_requested:
            control.should_save = control.should_training_stop = True
            # with a limit of 1, Trainer would remove the checkpoint saved now at the end, and keep only the best
            if args.save_total_limit == 1:
                args.save_total_limit = 2
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.run.can_save = False
