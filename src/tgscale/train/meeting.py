"""Where ranks find each other, also when ``torchrun`` has started them again.

The store in which ranks put their addresses lives in ``torchrun``, which keeps it, and all that is in it, from one
start of its processes to the next (https://github.com/pytorch/pytorch/issues/135712). Who looks up another may so get
the address of a process that is gone, and fail or wait in vain. No environment variable tells the starts apart: each
machine counts its own restarts. Therefore the ranks of a start first agree on a name for it, and meet under that.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import time

import torch.distributed as dist

from tgscale.errors import RunError

PAUSE = 0.05
"""Seconds between two looks into the store."""


def meet(store: dist.Store, rank: int, world: int, patience: datetime.timedelta) -> dist.Store:
    """The part of a store that the ranks of this start have for themselves; all call it, and wait for each other.

    Each rank lays down a token of its own. Rank 0 calls the roll, which is a list of all tokens, until every rank has
    answered a roll in which it has found itself; that roll has no token of an earlier start, and names this one.

    Args:
        store: holds what was put there at earlier starts, perhaps.
        rank, world: of this process among those that meet.
        patience: how long to wait for the others.

    Raises:
        RunError: they did not come.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + patience.total_seconds()
    store.set(f"meeting/token/{rank}", token)
    while time.monotonic() < deadline:
        roll = _call(store, world) if rank == 0 else _read(store, "meeting/roll")
        name = hashlib.sha256(roll.encode()).hexdigest()
        if roll.split(",")[rank : rank + 1] == [token]:
            store.set(f"meeting/answer/{rank}", name)
            if rank == 0 and all(_read(store, f"meeting/answer/{other}") == name for other in range(world)):
                store.set("meeting/held", name)
            if _read(store, "meeting/held") == name:
                return dist.PrefixStore(f"meeting/{name}", store)
        time.sleep(PAUSE)
    raise RunError(f"rank {rank} has waited {patience} for the other ranks, in vain: start all {world} of them.")


def _call(store: dist.Store, world: int) -> str:
    """Write down the tokens that there are now."""
    roll = ",".join(_read(store, f"meeting/token/{rank}") for rank in range(world))
    store.set("meeting/roll", roll)
    return roll


def _read(store: dist.Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""
