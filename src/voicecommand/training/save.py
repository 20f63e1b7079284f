"""A trained model in stock form, with its processor, all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voicecommand import files


def save(trainer: Any, task: Any, processor: Any, label_names: list[str], directory: Path) -> None:
    """The trained model in stock form (LoRA merged, its adapter beside), with its processor, all or nothing."""
    with files.staged(directory) as staging:
        if task.kind == "network":
            model = trainer.accelerator.unwrap_model(trainer.model)
            if hasattr(model, "merge_and_unload"):
                model.save_pretrained(staging / "adapter")
                model = model.merge_and_unload()
            model.save_pretrained(staging)
            processor.save_pretrained(staging)
        else:
            trainer.save_model(staging)
        files.write_json(
            staging / "voicecommand.json",
            {
                "format": 1,
                "task": task.name,
                "kind": task.kind,
                "label_names": label_names,
                "max_length": getattr(task, "max_length", None),
                "max_seconds": getattr(task, "max_seconds", None),
            },
        )
