"""Who takes which group next: one queue of ready groups, and workers in opposite phases where there is a choice.

A group has two phases. The *graph* phase is what comes before the recurrence, mostly aggregation, which waits for
memory; the *nn* phase is the rest, recurrence, loss and backward, mostly dense products, which wait for arithmetic. Two
workers in the same phase wait for the same thing. So a worker that has got a group ahead while its partner is in its nn
phase gets another one ahead, too, before it goes on. It holds two groups at most, and one that has run out of work
takes over what another has only prepared; so no worker rests while another has more than one group to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Phase = Literal["idle", "graph", "nn"]


class Action(NamedTuple):
    """What a worker does next.

    Attributes:
        kind: ``ahead``: begin a group of the queue; ``finish``: go on with one that is ahead; ``take over``: begin one
            that another worker has prepared, and drops; ``rest``: nothing is left.
        group: which.
        of: whose it was, to take over.
    """

    kind: Literal["ahead", "finish", "take over", "rest"]
    group: int = -1
    of: int = -1


@dataclass
class Hand:
    """What a worker has in its hands.

    Attributes:
        phase: what it is doing; idle between two actions.
        doing: the group that it does this with.
        ready: others of its groups that are ahead, in the order in which they got there.
    """

    phase: Phase = "idle"
    doing: int | None = None
    ready: list[int] = field(default_factory=list)


def decide(waiting: Sequence[int], hands: Sequence[Hand], worker: int, prepare: bool = True) -> Action:
    """What an idle worker does next; changes nothing.

    Args:
        waiting: groups that nobody has begun, dearest first.
        hands: of all workers.
        worker: who asks.
        prepare: whether a worker may get a second group ahead.
    """
    partners = [number for number in range(len(hands)) if number != worker]
    ready = hands[worker].ready
    if ready:
        opposite = any(hands[p].phase == "nn" for p in partners) and all(hands[p].phase != "graph" for p in partners)
        # Partners shall find one of the queue when they ask, or the group would soon be theirs and this work in vain.
        if prepare and opposite and len(ready) == 1 and len(waiting) > len(partners):
            return Action("ahead", waiting[0])
        return Action("finish", ready[0])
    if waiting:
        return Action("ahead", waiting[0])
    for p in partners:
        if hands[p].ready and hands[p].phase != "idle":
            return Action("take over", hands[p].ready[-1], p)
    return Action("rest")


class ReadyQueue:
    """The groups of a step, and what each worker is doing.

    Args:
        groups: dearest first.
        workers: how many there are.
        prepare: whether a worker may get a second group ahead.
    """

    def __init__(self, groups: Sequence[int], workers: int = 2, prepare: bool = True) -> None:
        self.waiting = list(groups)
        self.hands = [Hand() for _ in range(workers)]
        self.done: list[int] = []
        self._prepare = prepare

    def next(self, worker: int) -> Action:
        """What a worker does next, now that it has done what it was told before."""
        hand = self.hands[worker]
        if hand.doing is not None:
            (hand.ready if hand.phase == "graph" else self.done).append(hand.doing)
        hand.phase, hand.doing = "idle", None
        action = decide(self.waiting, self.hands, worker, self._prepare)
        if action.kind == "rest":
            return action
        if action.kind == "ahead":
            self.waiting.remove(action.group)
        elif action.kind == "take over":
            self.hands[action.of].ready.remove(action.group)
        else:
            hand.ready.remove(action.group)
        hand.phase, hand.doing = ("nn" if action.kind == "finish" else "graph"), action.group
        return action
