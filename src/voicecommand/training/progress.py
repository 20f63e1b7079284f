"""The terminal's view of a training: a progress bar, and a line for each evaluation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from voicecommand.evaluation.words import name_in_words, percent

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)
SHARES = ("accuracy", "macro_f1", "wer", "cer", "sentence_error_rate")


class Progress(TrainerCallback):
    """One bar over the steps, and one line for each evaluation."""

    bar: tqdm
    loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        hidden = args.disable_tqdm or not state.is_world_process_zero
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", disable=hidden)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Log SHARES in percent, and other figures without their run times."""
        figures = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
        parts = [] if self.loss is None else [f"training loss {self.loss:.3f}"]
        parts += [f"validation loss {figures.pop('loss'):.3f}"] if "loss" in figures else []
        for name, value in figures.items():
            if name in SHARES:
                parts.append(f"{name_in_words(name)} {percent(value)}")
            elif name not in ("runtime", "samples_per_second", "steps_per_second", "epoch"):
                parts.append(f"{name_in_words(name)} {value:.3f}")
        logger.info("step %d (epoch %.2f): %s", state.global_step, state.epoch or 0.0, ", ".join(parts))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.bar.close()


def show_progress(trainer: Trainer) -> None:
    """Replace Trainer's bars and printed dictionaries with `Progress`."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress)
