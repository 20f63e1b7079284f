"""What a training run shows on the terminal while it goes on."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def show_progress(trainer: Any) -> None:
    """One bar over the steps and one line an evaluation, instead of Trainer's bars and printed dictionaries."""
    from tqdm import tqdm
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback

    class Progress(TrainerCallback):
        bar: Any = None
        loss: float | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            hidden = args.disable_tqdm or not state.is_world_process_zero
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", disable=hidden)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            figures = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
            parts = [] if self.loss is None else [f"training loss {self.loss:.3f}"]
            parts += [f"validation loss {figures['loss']:.3f}"] if "loss" in figures else []
            parts += [
                f"{n.replace('_f1', ' F1')} {100 * figures[n]:.1f} %" for n in ("accuracy", "macro_f1") if n in figures
            ]
            logger.info("step %d (epoch %.2f): %s", state.global_step, state.epoch or 0.0, ", ".join(parts))

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.bar.close()

    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress)
