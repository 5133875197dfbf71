"""What the processes of a partition send each other, forward and backward, and what it costs this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

ROWS, GATHER = "exchange rows", "gather"
"""Names of the spans; waiting for the others is part of them."""


class Exchange:
    """Exchanges between all processes that gradients pass through.

    All processes make the same calls in the same order, some with no rows, and all run backward what they got.

    Args:
        ranks: the processes.
        trace: where the time is counted.

    Attributes:
        bytes_sent: what this process has sent to others so far, its own rows not counted.
    """

    def __init__(self, ranks: Ranks, trace: Trace | None = None) -> None:
        self.ranks, self.trace, self.bytes_sent = ranks, trace or Trace(), 0

    def rows(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Some rows to each process; the gradient goes the other way.

        Args:
            rows: ``[sum(send), ...]``, those for process 0 first.
            send, receive: number of rows to and from each process.

        Returns:
            ``[sum(receive), ...]``, those from process 0 first.
        """
        return _Rows.apply(rows, self, list(send), list(receive))

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes, in each; a row's gradient is the sum of those of all processes.

        Args:
            own: ``[counts[rank], ...]``.
            counts: rows of each process.

        Returns:
            ``[sum(counts), ...]``.
        """
        return _Gather.apply(own, self, list(counts))

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, in rank order, so that it is the same bit for bit in each."""
        return self.gather(x[None], [1] * self.ranks.world).sum(dim=0)

    def swap(self, rows: Tensor, send: list[int], receive: list[int], span: str = ROWS) -> Tensor:
        """As :meth:`rows`, without gradient."""
        away = sum(send) - send[self.ranks.rank]
        self.bytes_sent += away * (rows[0].nbytes if away else 0)
        with self.trace.span(span):
            return self.ranks.all_to_all(rows, send, receive)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, exchange: Exchange, send: list[int], receive: list[int]) -> Tensor:
        ctx.exchange, ctx.send, ctx.receive = exchange, send, receive
        return exchange.swap(rows, send, receive)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.exchange.swap(grad, ctx.receive, ctx.send), None, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, exchange: Exchange, counts: list[int]) -> Tensor:
        ctx.exchange, ctx.counts = exchange, counts
        world = exchange.ranks.world
        return exchange.swap(own.repeat(world, *[1] * (own.dim() - 1)), [len(own)] * world, counts, GATHER)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        exchange, counts = ctx.exchange, ctx.counts
        world, own = exchange.ranks.world, counts[exchange.ranks.rank]
        parts = exchange.swap(grad, counts, [own] * world, GATHER)
        return parts.view(world, own, *grad.shape[1:]).sum(dim=0), None, None
