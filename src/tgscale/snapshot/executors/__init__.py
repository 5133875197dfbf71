"""Who trains the groups of a device (BLAD's second level)."""

from __future__ import annotations

from tgscale.errors import ConfigError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import Executor
from tgscale.snapshot.executors.calibrate import EXECUTORS, Choice, choose_executor, say
from tgscale.snapshot.placement import LocalPlacement
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

__all__ = ["Choice", "Executor", "make_executor"]


def make_executor(name: str, engine: SnapshotEngine, trace: Trace, ranks: Ranks) -> tuple[Executor, Choice]:
    """The executor of that name, or the fastest; and what was measured to choose it. All ranks call this together.

    Raises:
        ConfigError: an executor that the model or the partition cannot have.
    """
    choice = Choice(name, {}, "as asked for")
    if name == "auto":
        found = None
        with ranks.together():
            if ranks.is_first:
                found = choose_executor(engine, ranks.world, ranks.local_world)
                say(found, engine.config.quiet)
        choice = ranks.broadcast_object(found)
    with ranks.together():
        if choice.name != "serial" and not isinstance(engine.placement, LocalPlacement):
            raise ConfigError(f"executor {choice.name} needs whole groups on a device: use executor serial.")
        executor = EXECUTORS[choice.name](engine, trace)
    return executor, choice
