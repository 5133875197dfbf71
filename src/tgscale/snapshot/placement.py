"""Where a group's steps and nodes lie: as a whole in one process, or split over all (:mod:`.partition`)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tgscale.snapshot.distinct import RowByRow
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData


class Embeddings(Protocol):
    """Embeddings of all nodes, wherever they lie; a tensor ``[N, C]`` is one."""

    def __getitem__(self, nodes: Tensor, /) -> Tensor:
        """Those of ``nodes`` (int64, any shape), ``[..., C]``; differentiable."""


class Placement(Protocol):
    """Runs a plan on groups whose nodes and steps may lie in several processes.

    In every process all methods are called in the same order with the same groups, and what ``run`` and ``gather`` gave
    is run backward, even where a process has nothing to learn from it: the others wait for its rows.
    """

    @property
    def nodes(self) -> slice:
        """The nodes whose embeddings :meth:`run` gives in this process, n of them."""

    @property
    def part(self) -> tuple[int, int]:
        """Which share of a group's supervised edges is this process's: its number, of how many."""

    @property
    def bytes_sent(self) -> int:
        """What this process has sent to others so far, forward and backward."""

    def keep(self, plan: Plan) -> int:
        """Let a plan compute what depends on the data alone; bytes that it takes in this process."""

    def run(self, plan: Plan, first: int, window: int, then: RowByRow | None = None) -> Tensor:
        """Embeddings of this process's nodes, ``[w, n, C]``, or ``[n, C]`` where the model gives one per group.

        Args:
            plan: of the model, the same in all processes.
            first, window: the group's first step, and number of steps.
            then: what is wanted of the embeddings in their place, as in :meth:`~tgscale.snapshot.plan.Plan.run`.
        """

    def embeddings(self, h: Tensor) -> Embeddings:
        """The embeddings of any nodes at one step, of which this process has ``h``, ``[n, C]``."""

    def gather(self, out: Tensor) -> Tensor:
        """The embeddings of all nodes, ``[..., N, C]``, from what :meth:`run` gave; differentiable."""


class LocalPlacement:
    """Groups lie in this process as a whole; nothing is sent.

    Args:
        data: the sequence.
    """

    part = (0, 1)
    bytes_sent = 0

    def __init__(self, data: SnapshotData) -> None:
        self.data = data
        self.nodes = slice(0, data.num_nodes)

    def keep(self, plan: Plan) -> int:
        return plan.keep(self.data.whole())

    def run(self, plan: Plan, first: int, window: int, then: RowByRow | None = None) -> Tensor:
        return plan.run(self.data.group(first, window), then=then)

    def embeddings(self, h: Tensor) -> Tensor:
        return h

    def gather(self, out: Tensor) -> Tensor:
        return out
