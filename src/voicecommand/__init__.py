"""voicecommand: training recipes for voice-command models on the Hugging Face stack.

`voicecommand.load(DIR)` opens any run. `import voicecommand.models` registers our own networks with transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from voicecommand.tasks.saved import CommandModel

__version__ = "0.1.0"


def load(directory: str | Path) -> CommandModel:
    """Open a saved run (`runs/...`) or its `model` folder; see `voicecommand.tasks.saved.CommandModel`."""
    from voicecommand.tasks.saved import load as load_model

    return load_model(directory)
