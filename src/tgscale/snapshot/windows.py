"""Embeddings of single steps, each from a group of its own that ends there."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.snapshot.placement import LocalPlacement
from tgscale.snapshot.plan import Plan


class Windows:
    """The groups that evaluations and predictions are made from, all on this device.

    Args:
        plan: of the model, whose weights are in evaluation mode when it is used.
        placement: of the data, where the plan has kept what depends on them alone.
        window: steps of a group.
    """

    def __init__(self, plan: Plan, placement: LocalPlacement, window: int) -> None:
        self.plan, self.placement, self.window = plan, placement, window

    @torch.no_grad()
    def embed(self, last: int) -> Tensor:
        """Embeddings of all nodes, ``[N, C]``, after the step ``last``. The first steps have a shorter group."""
        first = max(0, last - self.window + 1)
        out = self.placement.run(self.plan, first, last - first + 1)
        return out if self.plan.model.per_group else out[-1]
