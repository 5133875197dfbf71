"""How many threads a Numba kernel may take, and the one lock that parallel kernels share."""

from __future__ import annotations

import threading

import numba
import torch

# Numba's fallback threading layer aborts the process when two Python threads enter parallel kernels at once.
parallel_lock = threading.Lock()

# Below this many items a thread costs more to wake than it saves.
ITEMS_PER_THREAD = 256


def thread_count(items: int) -> int:
    """Threads for a kernel over ``items``: at most Numba's and torch's own settings, 1 for small work."""
    return max(1, min(numba.get_num_threads(), torch.get_num_threads(), items // ITEMS_PER_THREAD))
