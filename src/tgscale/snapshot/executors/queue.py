"""Which worker does what next: the ready queue of a device's groups (BLAD's second level, our reconstruction).

A group has two halves: *ahead*, mostly graph operators, and *finish*, the recurrence, the loss and the backward pass,
mostly dense. Groups wait in one queue, the dearest first, so that the workers end together. Both halves of a group are
one worker's, as the second needs what autograd has noted in the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

AHEAD, FINISH = "ahead", "finish"
MOST_PREPARED = 2
"""Groups that a worker may hold whose first half is done: each holds its activations."""


class Task(NamedTuple):
    """Half of a group."""

    half: str
    group: int


def choose(partner: str | None, prepared: Sequence[int], waiting: Sequence[int]) -> Task | None:
    """What a worker that is free does.

    Where there is a choice, it does what its partner is not doing: while the partner is in the dense half of a group,
    it prepares another one. It leaves the last waiting group for the partner, though: a group that is held cannot
    change hands.

    Args:
        partner: half that the other worker is in; None where it has none.
        prepared: groups of this worker whose first half is done, oldest first.
        waiting: groups that nobody has begun, dearest first.

    Returns:
        None when there is nothing left to do.
    """
    if not prepared:
        return Task(AHEAD, waiting[0]) if waiting else None
    if partner == FINISH and len(waiting) > 1 and len(prepared) < MOST_PREPARED:
        return Task(AHEAD, waiting[0])
    return Task(FINISH, prepared[0])


class ReadyQueue:
    """The groups of a step, and who is at what. Its methods are called by one thread at a time.

    Args:
        groups: dearest first.
        workers: how many share them.
    """

    def __init__(self, groups: Sequence[int], workers: int = 2) -> None:
        self.waiting = list(groups)
        self.prepared: list[list[int]] = [[] for _ in range(workers)]
        self.doing: list[str | None] = [None] * workers

    def next(self, worker: int) -> Task | None:
        """What a worker does next; what it did before is done."""
        partners = [half for other, half in enumerate(self.doing) if other != worker and half]
        task = choose(partners[0] if partners else None, self.prepared[worker], self.waiting)
        self.doing[worker] = task.half if task else None
        if task and task.half == AHEAD:
            self.waiting.remove(task.group)
            self.prepared[worker].append(task.group)
        elif task:
            self.prepared[worker].remove(task.group)
        return task
