"""voicecommand: training recipes for voice-command models on the Hugging Face stack."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def load(directory: Any) -> Any:
    """Open a saved run (`runs/...`) or its `model` folder; see `voicecommand.inference.CommandModel`."""
    from voicecommand.inference import load as load_model

    return load_model(directory)
