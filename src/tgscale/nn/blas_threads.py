"""One BLAS thread while a kernel runs: its products are small, and threads that wait for each other cost more.

A kernel that several threads run calls BLAS from each of them; one that runs alone calls it for tiles of some hundred
rows. Python threads may run kernels at once: the first one in sets BLAS to one thread, the last one out sets it back.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import scipy.linalg.cython_blas  # noqa: F401  # the BLAS that Numba calls: here before anybody limits BLAS threads
from threadpoolctl import ThreadpoolController


class _OneThread:
    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit = _blas().limit(limits=1)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


single_threaded_blas = _OneThread()
"""``with single_threaded_blas: ...``; may be entered again, by any thread."""


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
