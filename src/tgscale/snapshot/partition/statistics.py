"""Batch normalisation over rows that lie in several processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.snapshot.partition.collectives import Exchange


def batch_norm(module: nn.BatchNorm1d, x: Tensor, rows: int, exchange: Exchange) -> Tensor:
    """What ``module`` gives for all rows together; its running statistics become the same in every process.

    Args:
        module: weights and running statistics, the same in every process.
        x: this process's rows, ``[..., C]``; maybe none.
        rows: number of rows in all processes together.
        exchange: to the others.
    """
    if not module.training and module.running_mean is not None:
        return module(x.flatten(0, -2)).view_as(x)
    flat = x.flatten(0, -2)
    mean = exchange.sum(flat.sum(dim=0)) / rows
    centred = flat - mean  # in two passes, as a sum of squares would lose digits
    variance = exchange.sum((centred * centred).sum(dim=0)) / rows
    if module.training:
        _track(module, mean.detach(), variance.detach() * (rows / max(rows - 1, 1)))
    out = centred * torch.rsqrt(variance + module.eps)
    if module.affine:
        out = out * module.weight + module.bias
    return out.view_as(x)


def _track(module: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    """As ``nn.BatchNorm1d`` does, with the unbiased variance."""
    if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
        return
    module.num_batches_tracked += 1
    share = 1 / int(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean.to(module.running_mean.dtype), share)
    module.running_var.lerp_(variance.to(module.running_var.dtype), share)
