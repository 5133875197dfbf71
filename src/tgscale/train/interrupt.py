"""Ctrl-C while a run trains: heard at once, obeyed between two steps, so that a checkpoint can be saved."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from tgscale.errors import LostPeerError

SIGNALS = (signal.SIGINT, signal.SIGTERM)

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that has stopped because it was sent SIGTERM."""


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and has saved where it was.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interrupt:
    """Whether somebody has asked a run to stop, by Ctrl-C or SIGTERM.

    Several processes stop after the same step, for each waits for all at every step: each says at a step whether it has
    been asked (:attr:`noted`) and hears whether any has (:meth:`hear`), along with the sum of the gradients.

    Args:
        alone: this is the run's only process, which need not hear what others say.
        first: it is the one that prints.
    """

    def __init__(self, alone: bool, first: bool = True) -> None:
        self._alone, self._first = alone, first
        self._signal: int | None = None
        self._heard = False

    @property
    def noted(self) -> bool:
        """Whether this process has been asked."""
        return self._signal is not None

    @property
    def asked(self) -> bool:
        """Whether the run stops here; the same on all ranks."""
        return self.noted if self._alone else self._heard

    def hear(self, asked: bool) -> None:
        """What all ranks have heard at a step: whether any of them has been asked."""
        self._heard = self._heard or asked

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Meanwhile the first signal is only noted; :meth:`obey` stops. The second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        except LostPeerError:
            if self._signal is None:
                raise
            if self._signal == signal.SIGTERM:  # of torchrun, which has found the other dead and says so
                raise SystemExit(TERMINATED) from None
            raise Stopped(self._signal) from None  # as the other was, which did not wait
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def obey(self) -> None:
        """Stop, if that was asked for.

        Raises:
            Stopped: as said.
        """
        if self.asked:
            raise Stopped(self._signal or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise Stopped(number)
        self._signal = number
        if self._first:
            print(
                "\nstopping as soon as a checkpoint can be saved; once more stops at once", file=sys.stderr, flush=True
            )
