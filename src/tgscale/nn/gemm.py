"""Matrix products on CPU by the faster of the two BLAS libraries that are there anyway: torch's or NumPy's.

torch's CPU wheel brings MKL, which on an AMD processor is as fast as NumPy's OpenBLAS or somewhat slower, by shape
(``docs/benchmarks.md``). With several threads it is torch's everywhere: its products, its other operators and Numba's
kernels share one team of threads, while OpenBLAS brings another, and two teams that wait by spinning starve each other.
The choice hangs on the processor and the number of threads alone, never on a measurement at start: two libraries round
differently, and a run must repeat bit for bit.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@cache
def prefers_numpy() -> bool:
    """Whether NumPy's BLAS is the faster one here: an AMD processor, and a torch built on MKL."""
    info = Path("/proc/cpuinfo")
    vendor = info.read_text() if info.exists() else platform.processor()
    return "AuthenticAMD" in vendor and torch.backends.mkl.is_available()


def gemm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """``a @ b`` of two matrices on the CPU; no gradient.

    Args:
        a: ``[M, K]``; b: ``[K, N]``; transposed and row-strided views are read in place.
        out: where the result goes, ``[M, N]`` with adjacent columns; made unless given.
    """
    if out is None:
        out = a.new_empty(a.shape[0], b.shape[1])
    if prefers_numpy() and torch.get_num_threads() == 1:
        np.matmul(a.detach().numpy(), b.detach().numpy(), out=out.detach().numpy())
    else:
        torch.mm(a, b, out=out)
    return out
