"""Work ahead: results are made in a background thread before they are asked for, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from tgscale.train.trace import Trace

Item = TypeVar("Item")
Result = TypeVar("Result")

MAKE, WAIT = "build batch", "wait for batch"
"""Names of the spans: making a result, and asking for the next one until it is there."""

_END: Any = object()


class Pipeline(Generic[Item, Result]):
    """Makes results for items ahead of their use, in order, in one background thread. A context manager.

    The thread begins at once. It takes an item only when there is room for its result, so that at no time more than
    ``depth`` items have been taken whose results have not been asked for. Nothing polls: whoever has to wait, sleeps.

    Args:
        make: makes the result of an item; runs in the background thread alone, or in the caller's at depth 0.
        items: what to make results for; consumed in that thread, too.
        depth: results ahead of their use. 0 makes each when it is asked for.
        trace: counts the spans ``"build batch"`` (lane ``"pipeline"``) and ``"wait for batch"`` (lane ``"trainer"``).
        threads: CPU threads that torch may take within the background thread. More than 1 needs a Numba threading
            layer that two threads may enter at once (``omp`` or ``tbb``) wherever ``make`` and the caller both run
            parallel kernels.
    """

    def __init__(
        self,
        make: Callable[[Item], Result],
        items: Iterator[Item],
        depth: int,
        trace: Trace | None = None,
        threads: int = 1,
    ) -> None:
        if depth < 0:
            raise ValueError(f"depth is {depth}: give 0 or more")
        self._make, self._depth = make, depth
        self._items: Iterator[Any] = iter(items)
        self._trace = trace or Trace()
        self._threads = threads
        self._ready: deque[Result] = deque()
        self._changed = threading.Condition()
        self._taken = 0  # items taken whose results have not been handed out
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if depth > 0:
            # A daemon: a pipeline that nobody closed must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, name="pipeline", daemon=True)
            self._thread.start()

    def next(self, lane: str | None = None) -> Result:
        """The result of the next item.

        Args:
            lane: row of the timeline in which the wait for it is shown.

        Raises:
            RuntimeError: past the last item, or after :meth:`close`.
            BaseException: whatever ``make`` or ``items`` raised, with its traceback, when its turn comes; and again
                from then on.
        """
        with self._trace.span(WAIT, lane):
            return self._next_here() if self._thread is None else self._next_ahead()

    def close(self) -> None:
        """Stop the thread and wait for it; a result in the making is finished first and dropped, as are those ahead."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Pipeline[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_here(self) -> Result:
        self._refuse_closed()
        if self._error is not None:
            raise self._error
        try:
            item = next(self._items, _END)
            if item is not _END:
                with self._trace.span(MAKE):
                    return self._make(item)
        except Exception as error:
            self._error = error
            raise
        raise _past_the_end()

    def _next_ahead(self) -> Result:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            self._refuse_closed()
            if self._ready:
                self._taken -= 1
                self._changed.notify_all()
                return self._ready.popleft()
            raise self._error or _past_the_end()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the pipeline is closed")

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # OpenMP keeps it by thread; the caller's stays as it is
        try:
            while self._wait_for_room():
                item = next(self._items, _END)
                if item is _END:
                    return
                with self._trace.span(MAKE, "pipeline"):
                    result = self._make(item)
                with self._changed:
                    self._ready.append(result)
                    self._changed.notify_all()
                del item, result  # or they would live on while this thread waits
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """Wait until another item may be taken, and count it as taken; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._depth or self._closed)
            self._taken += 1
            return not self._closed


def _past_the_end() -> RuntimeError:
    return RuntimeError("the pipeline has no item left: more results were asked for than there are items")


def hidden_share(totals: Mapping[str, tuple[float, int]]) -> float:
    """Share of the time of making results that the caller did not wait for, by the totals of a trace: 0 to 1."""
    made, waited = (totals.get(name, (0.0, 0))[0] for name in (MAKE, WAIT))
    return max(0.0, 1 - waited / made) if made > 0 else 0.0
