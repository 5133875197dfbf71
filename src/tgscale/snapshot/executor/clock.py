"""When a worker's phases begin and end, also on a GPU, which works behind the program's back."""

from __future__ import annotations

import time

import torch

Mark = float | torch.cuda.Event


class Clock:
    """Marks moments of a worker's stream, in seconds of ``time.perf_counter``.

    On a GPU a mark is an event of the current stream, so nothing waits for it; it is read when the step is over.
    """

    def __init__(self, device: torch.device) -> None:
        self._origin: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._origin = torch.cuda.Event(enable_timing=True)
            self._origin.record()
            self._origin.synchronize()
        self._began = time.perf_counter()

    def mark(self) -> Mark:
        """This moment."""
        if self._origin is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, mark: Mark) -> float:
        """When that was; waits for it on a GPU."""
        if isinstance(mark, float):
            return mark
        assert self._origin is not None
        mark.synchronize()
        return self._began + self._origin.elapsed_time(mark) / 1000
