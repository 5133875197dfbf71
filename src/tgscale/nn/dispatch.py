"""Who computes: the CPU's own kernels, a GPU's, or plain tensor operations."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

plain_tensors = False
"""Let plain tensor operations compute everywhere. For tests, which so run on a CPU what a GPU runs."""


def on_cpu_kernels(x: Tensor) -> bool:
    """Whether the CPU's own kernels compute with a tensor such as this.

    They do not under autocast, since they know no bfloat16, nor while ``torch.compile`` records, since it cannot see
    into them.
    """
    if x.device.type != "cpu" or plain_tensors:
        return False
    return not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


_triton = importlib.util.find_spec("triton") is not None


def has_triton() -> bool:
    """Whether Triton is installed; it comes along with torch for CUDA."""
    return _triton
