"""Batches that several CPU threads build and score, a batch each, while the memory walks on in order.

Threads that share a small operator wait for each other at its end, and a core that is busy elsewhere holds up all of
them. Threads that have a batch each do not wait. Every batch is computed by one thread, as if alone: the scores are
those of one thread, bit for bit.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numba
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from tgscale.graph.parallel import start_threads
from tgscale.stream.batch import Batch, BatchBuilder

Item = TypeVar("Item")


def score_threads(device: torch.device) -> int:
    """How many threads may score: torch's setting; 1 on a GPU, and where Numba's kernels cannot be entered twice."""
    if device.type != "cpu" or torch.get_num_threads() == 1:
        return 1
    start_threads()  # the layer is known from then on
    return torch.get_num_threads() if numba.threading_layer() in ("omp", "tbb") else 1


class ScoreThreads:
    """A context manager; with one thread everything is done where it is asked for.

    Args:
        builder: cloned for each thread.
        threads: at least 1.
        take: called with the start and the logits ``[B, C]`` of each batch, in this thread and in order.
    """

    def __init__(self, builder: BatchBuilder, threads: int, take: Callable[[int, Tensor], None]) -> None:
        self._builder, self._threads, self._take = builder, threads, take
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._scored: deque[tuple[int, Future[Tensor]]] = deque()
        self._stack = contextlib.ExitStack()

    def batches(
        self, items: Iterable[Item], build: Callable[[BatchBuilder, Item], Batch | None]
    ) -> Iterator[tuple[Item, Batch | None]]:
        """What ``build`` makes of each range (or other item), in order.

        A few are made ahead, so ``build`` must not look at the memory.
        """
        if self._pool is None:
            for span in items:
                yield span, build(self._builder, span)
            return
        ahead: deque[tuple[Item, Future[Batch | None]]] = deque()
        for span in items:
            ahead.append((span, self._pool.submit(self._build, build, span)))
            if len(ahead) > self._threads:
                first, batch = ahead.popleft()
                yield first, batch.result()
        for first, batch in ahead:
            yield first, batch.result()

    def score(self, start: int, function: Callable[[], Tensor]) -> None:
        """Compute the logits of the batch that starts at ``start``, now or a little later."""
        if self._pool is None:
            self._take(start, function())
            return
        self._scored.append((start, self._pool.submit(torch.no_grad()(function))))
        self._hand_over(2 * self._threads)  # so many batches are held at most

    def _build(self, build: Callable[[BatchBuilder, Item], Batch | None], span: Item) -> Batch | None:
        return build(self._own.builder, span)

    def _hand_over(self, most: int) -> None:
        while len(self._scored) > most:
            start, logits = self._scored.popleft()
            self._take(start, logits.result())

    def _start_thread(self) -> None:
        _use_threads(1)
        self._own.builder = self._builder.clone()

    def __enter__(self) -> ScoreThreads:
        if self._threads > 1:
            self._stack.enter_context(threadpool_limits(1, user_api="blas"))
            self._stack.callback(_use_threads, torch.get_num_threads(), numba.get_num_threads())
            _use_threads(1)
            pool = ThreadPoolExecutor(self._threads, "score", self._start_thread)
            self._pool = self._stack.enter_context(pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._hand_over(0)


def _use_threads(of_torch: int, of_numba: int = 1) -> None:
    """Set how many threads kernels take that this Python thread calls."""
    numba.set_num_threads(of_numba)
    torch.set_num_threads(of_torch)
