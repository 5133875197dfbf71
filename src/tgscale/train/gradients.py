"""The gradients of a model, summed over all ranks in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tgscale.train.distributed import Ranks


class GradientBuffer:
    """The gradients of a model in one piece of memory, so that they are cleared and summed in one call.

    Args:
        model: its dense gradients become views of the buffer.
        sparse: parameters of it whose gradients are sparse; those are summed by themselves.
    """

    def __init__(self, model: nn.Module, sparse: Sequence[nn.Parameter] = ()) -> None:
        self._sparse = sparse
        dense = [p for p in model.parameters() if p.requires_grad and not any(p is s for s in self._sparse)]
        self._flat = torch.zeros(sum(p.numel() for p in dense), dtype=dense[0].dtype, device=dense[0].device)
        for p, part in zip(dense, self._flat.split([p.numel() for p in dense]), strict=True):
            p.grad = part.view_as(p)

    @property
    def flat(self) -> torch.Tensor:
        """All dense gradients one after another, in the order of the model's parameters; not a copy."""
        return self._flat

    def clear(self) -> None:
        """Back to zero."""
        self._flat.zero_()
        for p in self._sparse:
            p.grad = None

    def reduce(self, ranks: Ranks) -> None:
        """Sum over all ranks."""
        ranks.sum(self._flat)
        for p in self._sparse:
            if p.grad is None:  # no trainer of this process had a batch
                nowhere = torch.empty(1, 0, dtype=torch.int64, device=p.device)
                p.grad = torch.sparse_coo_tensor(nowhere, p.new_empty(0, p.shape[1]), p.shape)
            p.grad = ranks.sum_sparse(p.grad, p.shape)
