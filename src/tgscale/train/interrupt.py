"""Ctrl-C while a run trains: heard at once, obeyed between two steps, so that a checkpoint can be saved."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and has saved where it was.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interrupt:
    """Whether somebody has asked this process to stop, by Ctrl-C or SIGTERM.

    Args:
        alone: this is the run's only process. Several would have to agree on the step after which they stop, at every
            step; they are left to end as they do without this.
    """

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._signal: int | None = None

    @property
    def asked(self) -> bool:
        return self._signal is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Meanwhile the first signal is only noted; :meth:`obey` stops. The second one stops at once."""
        if not self._alone or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def obey(self) -> None:
        """Stop, if that was asked for.

        Raises:
            Stopped: as said.
        """
        if self._signal is not None:
            raise Stopped(self._signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise Stopped(number)
        self._signal = number
        print("\nstopping as soon as a checkpoint can be saved; once more stops at once", file=sys.stderr, flush=True)
