"""What a model of snapshots is to the engine: a plain forward, and a program that says the same."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tgscale.nn.graph_conv import Aggregate
from tgscale.nn.program import Program

AggregateAt = Callable[[int], Aggregate]
"""Step of the group -> its :data:`~tgscale.nn.graph_conv.Aggregate`."""


class SnapshotModel(nn.Module):
    """Embeds the nodes of a group of snapshots, with a hidden state that starts fresh.

    Attributes:
        in_dim: features per node.
        out_dim: width of what comes out.
        per_group: one embedding per node for the whole group, which belongs to its last step; otherwise one per step.
    """

    in_dim: int
    out_dim: int
    per_group: bool = False

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The paper's equations, step by step: the reference.

        Args:
            x: node features, ``[w, N, F]``.
            at: gives the adjacencies of a step.

        Returns:
            ``[w, N, out_dim]``, or ``[N, out_dim]`` where ``per_group``.
        """
        raise NotImplementedError

    def program(self) -> Program:
        """One step as operators that can be rewritten; see :mod:`tgscale.snapshot.plan`."""
        raise NotImplementedError
