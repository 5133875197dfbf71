"""From a range of events to all that one step needs: negatives, sampled past, distinct nodes, pair features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.graph.block import Block, build_block
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.graph.unique import Compactor
from tgscale.nn.pair_encoding import PairEncoder
from tgscale.stream.negatives import NegativeSampler


def as_tensor(column: np.ndarray, device: torch.device) -> Tensor:
    """A column as a tensor; on CPU it shares the column's memory, memory-mapped and read-only as that may be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column).to(device)


@dataclass
class Batch:
    """One batch of events and their candidates.

    Attributes:
        event: their ids, ``[B]``.
        block: the roots to embed.
        source: root of each event's source, ``[B]``.
        candidate: root of each candidate, ``[B, 1 + n]``; column 0 is the true destination.
        pair_features: ``[B, 1 + n, PAIR_DIM]``, or None.
        source_slot, destination_slot: rows of ``block.nodes`` of each event's ends, ``[B]``.
    """

    event: Tensor
    block: Block
    source: Tensor
    candidate: Tensor
    pair_features: Tensor | None
    source_slot: Tensor
    destination_slot: Tensor


class BatchBuilder:
    """Builds batches of one stream.

    Args:
        stream: the events.
        sampler: samples the past of roots.
        negatives: draws negative destinations.
        history: exact history; needed for pair features, else None.
        span: time span that scales the pair features (of the training part, so that nothing of the future is used).
        device: where tensors go.
    """

    def __init__(
        self,
        stream: EventStream,
        sampler: NeighborSampler,
        negatives: NegativeSampler,
        history: History | None = None,
        span: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        device = torch.device(device)
        self.stream = stream
        self.src, self.dst = as_tensor(stream.src, device), as_tensor(stream.dst, device)
        self.time = as_tensor(stream.time, device)
        no_features = np.empty((stream.num_events, 0), np.float32)
        self.edge_features = as_tensor(no_features if stream.edge_features is None else stream.edge_features, device)
        self.sampler, self.negatives = sampler, negatives
        self.compactor = Compactor(stream.num_nodes, device)
        self.pairs = PairEncoder(history, self.time, span) if history else None

    def range(self, start: int, stop: int, num_negatives: int, seed: int, exclude_own: bool = True) -> Batch:
        """The batch of consecutive events ``[start, stop)``."""
        return self.events(torch.arange(start, stop, device=self.time.device), num_negatives, seed, exclude_own)

    def events(
        self, event: Tensor, num_negatives: int, seed: int, exclude_own: bool = True, with_pairs: bool = True
    ) -> Batch:
        """The batch of some events, ``[B]``, each against ``num_negatives`` negatives drawn with ``seed``."""
        B, C = len(event), 1 + num_negatives
        src, dst, time = self.src[event].long(), self.dst[event].long(), self.time[event]
        negative = self.negatives.draw(event, dst, num_negatives, seed, exclude_own)
        candidates = torch.cat([dst[:, None], negative], dim=1)
        before = torch.searchsorted(self.time, time)
        # Embed each (node, time) once: time counts as the number of events before it, which is what a root can see.
        node = torch.cat([src, candidates.flatten()])
        bound = torch.cat([before, before[:, None].expand(B, C).flatten()])
        key, row = torch.unique(bound * self.stream.num_nodes + node, return_inverse=True)
        node, bound = key % self.stream.num_nodes, key // self.stream.num_nodes
        root_time = self.time[bound]  # the first event that is not before the root has the root's time
        (neighbors,) = self.sampler.sample(node, root_time, before=bound)
        block = build_block(node, root_time, neighbors, self.compactor)
        source, candidate = row[:B], row[B:].view(B, C)
        slot = block.roots[block.root_row]
        features = None
        if self.pairs and with_pairs:
            features = self.pairs(src, candidates, time, before, neighbors, source, candidate)
        return Batch(
            event=event,
            block=block,
            source=source,
            candidate=candidate,
            pair_features=features,
            source_slot=slot[source],
            destination_slot=slot[candidate[:, 0]],
        )
