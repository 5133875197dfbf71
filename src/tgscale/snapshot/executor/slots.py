"""A place for what each group of a step gives, so that sums are made in one order whoever trained which group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Slots:
    """One row per group of a step: its gradient, what its forward made of the running statistics, and its loss.

    Running statistics (batch norm) are changed by a forward in place, so they would depend on who ran when. Here each
    group starts from those of the step's beginning, and the step's are the mean of what its groups made of them.

    Args:
        modules: whose gradients and statistics these are.
        capacity: groups that a step may have.
        rows: an existing table, ``[capacity + 1, columns]``, such as one in shared memory; made unless given. Its last
            row holds the statistics that all groups start from.
    """

    def __init__(self, modules: nn.Module, capacity: int, rows: Tensor | None = None) -> None:
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        buffers = list(modules.buffers())
        self.means = [b for b in buffers if b.is_floating_point()]
        self.counts = [b for b in buffers if not b.is_floating_point()]  # of batches seen: these add up
        self._weights = sum(p.numel() for p in self.parameters)
        self._mean_stop = self._weights + sum(b.numel() for b in self.means)
        self._columns = self._mean_stop + sum(b.numel() for b in self.counts) + 1
        if rows is None:
            rows = self.parameters[0].new_zeros(capacity + 1, self._columns, requires_grad=False)
        self.rows = rows

    @property
    def capacity(self) -> int:
        return len(self.rows) - 1

    @property
    def has_statistics(self) -> bool:
        """Whether a forward changes the modules, so that a worker can have but one group at a time in its hands."""
        return self._columns > self._weights + 1

    def reserve(self, groups: int) -> None:
        """Make place for so many groups; no other process may have this table."""
        if groups > self.capacity:
            self.rows = self.rows.new_zeros(groups + 1, self._columns)

    @torch.no_grad()
    def begin(self) -> None:
        """Remember the statistics as a step begins."""
        if self.has_statistics:
            self.rows[-1, self._weights : self._mean_stop] = _flat(self.means, self.rows)
            self.rows[-1, self._mean_stop :] = 0

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the statistics with which the step began, before a group."""
        if self.has_statistics:
            _spread(self.rows[-1, self._weights : self._mean_stop], self.means)
            for count in self.counts:
                count.zero_()

    def fill(self, slot: int, loss: Tensor, scale: float) -> None:
        """Run backward from a group's loss, and keep what its forward and backward gave."""
        found = torch.autograd.grad(loss * scale, self.parameters, allow_unused=True)
        with torch.no_grad():
            row = self.rows[slot]
            parts = row[: self._weights].split([p.numel() for p in self.parameters])
            for part, grad in zip(parts, found, strict=True):
                part.zero_() if grad is None else part.copy_(grad.reshape(-1))
            if self.has_statistics:
                row[self._weights : self._mean_stop] = _flat(self.means, row)
                row[self._mean_stop : -1] = _flat(self.counts, row)
            row[-1] = loss.detach()

    @torch.no_grad()
    def settle(self, groups: Sequence[int], counts: Sequence[Tensor], gradient: Tensor) -> float:
        """Add up a step, by the groups' numbers.

        Args:
            groups: the group of each slot from the first on.
            counts: values of :attr:`counts` as the step began.
            gradient: flat; the step's is added.

        Returns:
            The sum of the losses.
        """
        order = sorted(range(len(groups)), key=lambda slot: groups[slot])
        for slot in order:
            gradient += self.rows[slot, : self._weights]
        if self.has_statistics and order:
            rows = self.rows[order]
            _spread(rows[:, self._weights : self._mean_stop].mean(dim=0), self.means)
            _spread(rows[:, self._mean_stop : -1].sum(dim=0), self.counts)
            for count, before in zip(self.counts, counts, strict=True):
                count += before
        return float(sum(self.rows[: len(groups), -1].tolist()[slot] for slot in order))


def _flat(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.cat([t.reshape(-1).to(like.dtype) for t in tensors]) if tensors else like.new_empty(0)


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    for part, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True):
        t.copy_(part.view_as(t))
