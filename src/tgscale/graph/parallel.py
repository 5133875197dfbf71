"""How many threads a Numba kernel may take, and the one lock that parallel kernels share."""

from __future__ import annotations

import threading

import numba
import torch

# Numba's fallback threading layer aborts the process when two Python threads enter parallel kernels at once.
parallel_lock = threading.Lock()

# Below this many items per thread (some 0.1 ms of work) waking a thread costs about what it saves.
ITEMS_PER_THREAD = 2048


def start_threads() -> int:
    """Start Numba's threads if they do not run yet, and return how many a kernel may take now.

    That is the lower of Numba's and torch's settings. Numba shares torch's OpenMP runtime and, when it starts, sets
    that runtime's thread count to its own; torch's setting is put back here.
    """
    wanted = torch.get_num_threads()
    available = numba.get_num_threads()
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
    return min(available, wanted)


def thread_count(items: int) -> int:
    """Threads for a kernel over ``items``: 1 for small work, else as many as ``start_threads`` allows."""
    wanted = items // ITEMS_PER_THREAD
    return 1 if wanted <= 1 else min(wanted, start_threads())
