"""Progress of one pass over events: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tgscale.train.metric_names import metric_name

LINE_EVERY = 10.0
"""Seconds between two plain lines."""

TELL_AFTER = 3.0
"""Seconds after which the rate is trusted to say how long all passes will take."""


class Progress:
    """Shows how many events or other units are done, at which rate, and how long it will still take. A context manager.

    Everything goes to stderr. On a terminal it is a bar; elsewhere (a log file, a pipe) a line every ten seconds and
    one at the end.

    Args:
        total: of this pass.
        label: what it is, such as ``"epoch 3/20"``.
        quiet: show nothing.
        unit: what is counted.
        later: how many units later passes have; once the rate is known a line says how long all will take together.
            None says nothing.
        passing: leave nothing behind at the end, as what came of it is told in another way.
    """

    def __init__(
        self,
        total: int,
        label: str,
        quiet: bool = False,
        unit: str = "events",
        later: int | None = None,
        passing: bool = False,
    ) -> None:
        self.total, self.label, self.done, self.unit = total, label, 0, unit
        self._before = 0
        self._later = later
        self._values: dict[str, float] = {}
        self._quiet, self._passing = quiet, passing
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._began = self._last_line = time.perf_counter()
        if not self._quiet and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
                refresh_per_second=4,
                transient=self._passing,
            )
            self._task = self._bar.add_task(self.label, total=self.total, detail="")
            self._bar.start()
        return self

    def resume(self, done: int) -> None:
        """Count what was done before this process; it tells nothing about the rate."""
        self.done = self._before = done

    def advance(self, events: int, **values: float) -> None:
        """Count more events as done, and show some values beside them, such as ``loss=0.3``."""
        self.done += events
        self._values.update(values)
        if self._later is not None and not self._quiet and time.perf_counter() - self._began >= TELL_AFTER:
            self._tell_all(self._later)
        if self._bar:
            self._bar.update(self._task, completed=self.done, detail=self._detail())
        elif not self._quiet and time.perf_counter() - self._last_line >= LINE_EVERY:
            self._last_line = time.perf_counter()
            left = (self.total - self.done) / max(self.rate, 1e-9)
            print(
                f"{self.label}: {self.done / self.total:.0%}, {self._detail()}, {duration(left)} left", file=sys.stderr
            )

    def _tell_all(self, later: int) -> None:
        self._later = None
        left = (self.total - self.done + later) / max(self.rate, 1e-9)
        rate = f"{self.rate:,.0f} {self.unit}/s"
        line = f"training takes about {duration(left)} more at this rate ({rate}), without what validation takes"
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif not (self._quiet or self._passing) and kind is None:
            seconds = time.perf_counter() - self._began
            print(f"{self.label}: {self.done:,} {self.unit} in {seconds:.1f} s, {self._detail()}", file=sys.stderr)

    @property
    def rate(self) -> float:
        """Events per second since the start."""
        return (self.done - self._before) / max(time.perf_counter() - self._began, 1e-9)

    def _detail(self) -> str:
        values = [f"{name} {value:.4g}" for name, value in self._values.items()]
        return ", ".join([f"{self.rate:,.0f} {self.unit}/s", *values])


def tell_validation(label: str, loss: float, metric: str, value: float, best: bool, seconds: float) -> None:
    """Print what an epoch came to: the loss of training, and the metric that validations are compared by.

    Args:
        label: as of the epoch's progress.
        loss, metric, value: as in ``metrics.jsonl``.
        best: whether no validation before was better.
        seconds: of the epoch, validation included.
    """
    so_far = " (best so far)" if best else ""
    words = f"loss {loss:.4g}, val {metric_name(metric)} {value:.4f}{so_far}, {seconds:.1f} s"
    print(f"{label}: {words}", file=sys.stderr)


def no_better_for(patience: int) -> str:
    """What is said when a run ends before its last epoch."""
    return f"no better for {patience} validation{'s' if patience > 1 else ''}: training ends here (--train.patience)"


def duration(seconds: float) -> str:
    """A time in words: ``40 s``, ``7 min``, ``3 h 20 min``, ``2 days 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
