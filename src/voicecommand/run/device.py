"""The device of a run, and the precision that it computes in."""

from __future__ import annotations

import os

from voicecommand.errors import InputError


def has_accelerator() -> bool:
    """Whether torch finds an accelerator and ACCELERATE_USE_CPU, read as Accelerate reads it, does not choose the
    CPU."""
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").strip().lower() in ("1", "true", "yes", "y", "t", "on")
    return torch.accelerator.is_available() and not on_cpu


def find_device() -> str:
    """The type of the device: cuda, another accelerator's, or cpu."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if has_accelerator() else None
    return "cpu" if accelerator is None else accelerator.type


def native_precision() -> tuple[str, str]:
    """(bf16, fp16 or fp32, why): the fastest precision that this device computes natively."""
    import torch

    if torch.cuda.is_available() and has_accelerator():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"bf16: {name} supports it"
        return "fp16", f"fp16: {name} has no bf16 units"
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        return "bf16", "bf16: this processor has units for it"
    return "fp32", "fp32: this processor has no bf16 units"


def name_precision(bf16: bool | None, fp16: bool | None) -> str:
    """bf16, fp16 or fp32, from the two settings of transformers.TrainingArguments."""
    return "bf16" if bf16 else "fp16" if fp16 else "fp32"


def choose_precision(asked: str, bf16: bool | None, fp16: bool | None) -> tuple[bool, bool, str]:
    """(bf16, fp16, why). `auto` takes the fastest precision that this device computes natively.

    Raises:
        InputError: an unknown word, training.bf16 or fp16 together with another precision, or fp16 on CPU.
    """
    if asked not in ("auto", "fp32", "bf16", "fp16"):
        raise InputError(f"precision={asked}: give auto, fp32, bf16 or fp16")
    if (fp16 or asked == "fp16") and not has_accelerator():
        which = "training.fp16=true" if fp16 else "precision=fp16"
        raise InputError(f"{which}: needs a GPU, and this run has none; give precision=auto, fp32 or bf16")
    if bf16 is not None or fp16 is not None:
        if asked != "auto":
            raise InputError(f"precision={asked} and training.bf16 or training.fp16: give one of them")
        return bool(bf16), bool(fp16), f"{name_precision(bf16, fp16)}: asked for by training.bf16 or training.fp16"
    reason = f"{asked}: asked for"
    if asked == "auto":
        asked, reason = native_precision()
    return asked == "bf16", asked == "fp16", reason
