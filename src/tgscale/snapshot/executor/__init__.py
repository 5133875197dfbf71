"""Who trains the groups of a device (BLAD's second level)."""

from __future__ import annotations

from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executor.base import Executor
from tgscale.snapshot.executor.serial import SerialExecutor
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

__all__ = ["Executor", "make_executor"]


def make_executor(name: str, engine: SnapshotEngine, trace: Trace, ranks: Ranks) -> Executor:
    """The executor of that name."""
    return SerialExecutor(engine, trace)
