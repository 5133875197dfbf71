"""What was there in earlier snapshots: how often and when last, of pairs and of nodes, by binary search."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError

PAIR_DIM = 8
"""Columns of :meth:`PairHistory.features`."""


class StepHistory:
    """Steps at which each of some things occurred.

    Args:
        key: what occurred, ``[E]``, int64, not negative.
        step: when, ``[E]``.
        steps: number of steps; ``max(key) * steps`` must fit into 63 bits.
    """

    def __init__(self, key: Tensor, step: Tensor, steps: int, device: torch.device | str = "cpu") -> None:
        self.steps = steps
        self.sorted = torch.sort(key * steps + step).values.to(device)

    def before(self, key: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor]:
        """How often each key occurred before a step, and the last step at which it did, -1 where it did not."""
        start = torch.searchsorted(self.sorted, key * self.steps)
        end = torch.searchsorted(self.sorted, key * self.steps + step)
        count = end - start
        last = self.sorted[(end - 1).clamp(min=0)] - key * self.steps
        return count, torch.where(count > 0, last, -1)


class PairHistory:
    """Which pairs of nodes were joined, in either direction, and which nodes were destinations, at which steps.

    Args:
        sequence: the snapshots.
        device: where queries come from.

    Raises:
        ConfigError: so many nodes and steps that a pair and a step do not fit into 63 bits.
    """

    def __init__(self, sequence: SnapshotSequence, device: torch.device | str = "cpu") -> None:
        nodes, steps = sequence.num_nodes, sequence.num_steps
        if nodes * nodes * steps >= 2**63:
            raise ConfigError(f"{nodes:,} nodes at {steps:,} steps are too many to look pairs up: leave nodes out.")
        ends = [sequence.edges(t) for t in range(steps)]
        src, dst = (torch.from_numpy(np.concatenate(side).astype(np.int64)) for side in zip(*ends, strict=True))
        step = torch.repeat_interleave(torch.arange(steps), torch.from_numpy(sequence.edge_counts()))
        self.nodes = nodes
        self.pairs = StepHistory(_pair_key(src, dst, nodes), step, steps, device)
        self.destinations = StepHistory(dst, step, steps, device)

    def met(self, u: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """How often each pair was joined before a step (both ways count where both are stored), and when last."""
        return self.pairs.before(_pair_key(u, v, self.nodes), step)

    def features(self, u: Tensor, v: Tensor, step: int) -> Tensor:
        """What a decoder cannot see in two embeddings, ``[B, C, PAIR_DIM]``, float32.

        Whether the two have met, how often (log), how lately (1 / steps since), whether in the latest snapshot; the
        same of the candidate as a destination.

        Args:
            u: sources, ``[B]``; v: candidates, ``[B, C]``.
            step: only what was before it counts.
        """
        pairs = self.met(u[:, None].expand_as(v), v, step)
        each = v[:1] if v.stride(0) == 0 else v  # the same candidates in all rows are looked up once
        count, last = self.destinations.before(each, step)
        of_nodes = _columns(count.expand_as(v), last.expand_as(v), step)
        return torch.stack([*_columns(*pairs, step), *of_nodes], dim=-1)


def _pair_key(u: Tensor, v: Tensor, nodes: int) -> Tensor:
    return torch.minimum(u, v) * nodes + torch.maximum(u, v)


def _columns(count: Tensor, last: Tensor, step: int) -> list[Tensor]:
    lately = torch.where(last >= 0, 1 / (step - last).clamp(min=1).float(), 0.0)
    return [(count > 0).float(), count.float().log1p() * 0.2, lately, (last == step - 1).float()]


def edgebank(history: PairHistory, u: Tensor, v: Tensor, step: int) -> Tensor:
    """EdgeBank with unlimited memory (Poursafaei et al. 2022): 1 if the pair was ever joined, else 0."""
    return (history.met(u, v, step)[0] > 0).double()


def latest(history: PairHistory, u: Tensor, v: Tensor, step: int) -> Tensor:
    """1 if the pair is joined in the latest snapshot, else 0: the graph stays as it is."""
    return (history.met(u, v, step)[1] == step - 1).double()


def recency(history: PairHistory, u: Tensor, v: Tensor, step: int) -> Tensor:
    """Pairs that were joined before candidates that were not; within each, the latest first."""
    met, seen = history.met(u, v, step)[1], history.destinations.before(v, step)[1]
    return torch.where(met >= 0, met + history.pairs.steps + 1, seen).double()


def popularity(history: PairHistory, u: Tensor, v: Tensor, step: int) -> Tensor:
    """How often the candidate was a destination."""
    return history.destinations.before(v, step)[0].double()


RULES = {"edgebank": edgebank, "latest": latest, "recency": recency, "popularity": popularity}
"""Each takes (history, sources, candidates, step), columns ``[Q]``, to scores ``[Q]``."""
