"""Which device computes, and in which precision."""

from __future__ import annotations

import os


def has_accelerator() -> bool:
    """Whether torch sees a GPU and ACCELERATE_USE_CPU does not choose the CPU, read as Accelerate reads it."""
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").strip().lower() in ("1", "true", "yes", "y", "t", "on")
    return torch.accelerator.is_available() and not on_cpu


def find_device() -> str:
    """cuda, or another accelerator's name, or cpu."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if has_accelerator() else None
    return "cpu" if accelerator is None else accelerator.type


def native_precision() -> tuple[str, str]:
    """(bf16, fp16 or fp32, why): the quickest that this device computes natively."""
    import torch

    if torch.cuda.is_available() and has_accelerator():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"bf16: {name} computes it"
        return "fp16", f"fp16: {name} has no bf16 units"
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        return "bf16", "bf16: this processor has units for it"
    return "fp32", "fp32: this processor has no bf16 units"
