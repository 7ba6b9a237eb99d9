"""In which numbers a device learns fastest without learning worse."""

from __future__ import annotations

import torch


def learning_arithmetic(device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 where the device has units for its matrix products.

    Those are GPUs, processors with AMX, where a step takes a third of the time, and those with AVX512-BF16
    alone, where it takes two thirds; any other takes seven times as long in bfloat16.
    """
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _multiplies_bfloat16())


def _multiplies_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return any(able.get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))
