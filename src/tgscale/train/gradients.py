"""The gradients of a model, summed over all ranks in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tgscale.train.distributed import Ranks

LOOK = 16
"""On GPUs, ranks see at every so many sums whether one of them wants to stop."""


class GradientBuffer:
    """The gradients of a model in one piece of memory, so that they are cleared and summed in one call.

    Args:
        model: its dense gradients become views of the buffer.
        sparse: parameters of it whose gradients are sparse; those are summed by themselves.
    """

    def __init__(self, model: nn.Module, sparse: Sequence[nn.Parameter] = ()) -> None:
        self._sparse = sparse
        dense = [p for p in model.parameters() if p.requires_grad and not any(p is s for s in self._sparse)]
        sizes = [p.numel() for p in dense]
        self._all = torch.zeros(sum(sizes) + 1, dtype=dense[0].dtype, device=dense[0].device)
        self._flat, self._stop = self._all.split([sum(sizes), 1])
        self._sums = 0
        for p, part in zip(dense, self._flat.split(sizes), strict=True):
            p.grad = part.view_as(p)

    @property
    def flat(self) -> torch.Tensor:
        """All dense gradients one after another, in the order of the model's parameters; not a copy."""
        return self._flat

    def clear(self) -> None:
        """Back to zero."""
        self._all.zero_()
        for p in self._sparse:
            p.grad = None

    def reduce(self, ranks: Ranks, stop: bool = False) -> bool:
        """Sum over all ranks, and let them agree on whether to stop.

        Args:
            ranks: all call this.
            stop: this rank wants to stop.

        Returns:
            Whether any rank wants to; the same on all.
        """
        if stop:
            self._stop.fill_(1)
        ranks.sum(self._all)
        for p in self._sparse:
            if p.grad is None:  # no trainer of this process had a batch
                nowhere = torch.empty(1, 0, dtype=torch.int64, device=p.device)
                p.grad = torch.sparse_coo_tensor(nowhere, p.new_empty(0, p.shape[1]), p.shape)
            p.grad = ranks.sum_sparse(p.grad, p.shape)
        # A GPU would have to be waited for, so it is asked now and then.
        self._sums += 1
        return ranks.world > 1 and (not self._all.is_cuda or self._sums % LOOK == 0) and bool(self._stop)
