"""From a range of events to all that one step needs: negatives, sampled past, distinct nodes, pair features.

Edge features are looked up in one table by event id, on the device of the model. Where that table is larger than the
device's memory, or lies on the disk, its rows are sliced: ``slice_features`` gives each batch those of its neighbors,
and :func:`mail_tables` those of the mail that its nodes hold. The model answers the same, bit for bit.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.block import Block, build_block
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.graph.search import as_tensor
from tgscale.graph.unique import Compactor
from tgscale.memory.local import MemoryRows
from tgscale.nn.pair_encoding import DEFAULT_GROUPS, PairEncoder
from tgscale.stream.negatives import NegativeSampler
from tgscale.stream.protocol.negatives import Drawn

_BLOCK = "block."


@dataclass
class Batch:
    """One batch of events and their candidates.

    Attributes:
        event: their ids, ``[B]``.
        block: the roots to embed.
        source: root of each event's source, ``[B]``. Where negatives are whole edges, every candidate is a row of its
            own: source, candidate and pair features then have ``B (1 + n)`` rows, of one candidate each.
        candidate: root of each candidate, ``[B, 1 + n]``; column 0 is the true destination.
        pair_features: ``[B, 1 + n, pair_dim]``, or None.
        source_slot, destination_slot: rows of ``block.nodes`` of each event's ends, ``[B]``.
        features: edge features of the distinct events of the block, ``[M, F]``, M at least 1; None unless sliced.
        feature_row: row of ``features`` of each neighbor, ``[R, k]``, -1 where there is none; None unless sliced.
        there: False where a candidate only fills a row up, ``[B, 1 + n]``; None where none does.
    """

    event: Tensor
    block: Block
    source: Tensor
    candidate: Tensor
    pair_features: Tensor | None
    source_slot: Tensor
    destination_slot: Tensor
    features: Tensor | None = None
    feature_row: Tensor | None = None
    there: Tensor | None = None

    def by_event(self, logits: Tensor) -> Tensor:
        """Scores of the batch's rows as scores of each event's candidates, ``[B, 1 + n]``; -inf for one not there."""
        logits = logits.view(len(self.event), -1)
        return logits if self.there is None else logits.masked_fill(~self.there, -math.inf)

    def inputs(self, edge_features: Tensor) -> tuple[Block, Tensor]:
        """Block and edge features to embed it with, sliced or not.

        Args:
            edge_features: the table of all events, ``[E, F]``; what is returned unless the batch has features itself.

        Returns:
            A block whose ``event`` holds rows of the table that is returned with it.
        """
        if self.features is None or self.feature_row is None:
            return self.block, edge_features
        return dataclasses.replace(self.block, event=self.feature_row), self.features

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are there, by name; those of the block as ``block.nodes`` and so on."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return own | {f"{_BLOCK}{name}": value for name, value in vars(self.block).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Batch:
        """The batch that :meth:`tensors` took apart.

        Raises:
            TypeError: a tensor is missing, or one of them is unknown.
        """
        block = Block(**{n.removeprefix(_BLOCK): value for n, value in tensors.items() if n.startswith(_BLOCK)})
        own: dict[str, Any] = {n: value for n, value in tensors.items() if not n.startswith(_BLOCK)}
        return cls(block=block, **{"pair_features": None, **own})

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch on another device; from pinned memory to a GPU the program does not wait for the copy."""
        # On the way back it must: a tensor on the CPU may be read at once.
        non_blocking = non_blocking and torch.device(device).type != "cpu"
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU fetches it by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch.from_tensors({name: change(tensor) for name, tensor in self.tensors().items()})


def slice_rows(index: Tensor, device: torch.device, *tables: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The rows of some tables that indices name, each once.

    Args:
        index: any shape, int64; -1 for none.
        device: where the answers go.
        tables: ``[E, ...]``, on the CPU; may be memory-mapped.

    Returns:
        ``index`` as rows of the slices, -1 where it was; and the slice of each table, ``[M, ...]``. M is at least 1, so
        that a model may look up some row for an absent neighbor and then drop it.
    """
    rows, place = torch.unique(index.cpu(), return_inverse=True)  # ascending: kind to a table on the disk
    if len(rows) and rows[0] < 0:
        rows, place = rows[1:], place - 1
    if not len(rows):
        rows = rows.new_zeros(1)
    return place.to(device), [table[rows].to(device) for table in tables]


def mail_tables(
    rows: MemoryRows, event_time: Tensor, edge_features: Tensor, device: torch.device | str
) -> tuple[MemoryRows, Tensor, Tensor]:
    """What ``model.update`` needs of two tables that stay on the CPU.

    Args:
        rows: state of some nodes, ``[U]``.
        event_time: time of each event, ``[E]``, on the CPU.
        edge_features: their features, ``[E, F]``, on the CPU; may be memory-mapped.
        device: where the answers go.

    Returns:
        The rows with ``mail_event`` as rows of the tables that follow, -1 where there is none; times ``[M]`` and
        features ``[M, F]`` of the distinct events that left mail. ``rows_after_events`` takes both, too.
    """
    device = torch.device(device)
    mail_event, (time, features) = slice_rows(rows.mail_event, device, event_time, edge_features)
    state = MemoryRows(rows.memory.to(device), rows.memory_time.to(device), rows.mail.to(device), mail_event)
    return state, time, features


class BatchBuilder:
    """Builds batches of one stream. Not for two threads at once: give each its own :meth:`clone`.

    Args:
        stream: the events.
        sampler: samples the past of roots.
        negatives: draws negative destinations.
        history: exact history; needed for pair features, else None.
        span: time span that scales the pair features (of the training part, so that nothing of the future is used).
        device: where tensors go.
        slice_features: keep the edge features on the CPU (memory-mapped, if the stream is) and give each batch the rows
            of its neighbors.
        roots: ``"event"`` embeds each node at the time of each of its events; ``"node"`` embeds it once per batch, as
            of the batch's first event, and so cheaper and blind to the batch's own earlier events.
        pair_groups: groups of pair features beside those of meetings.

    Attributes:
        src, dst, time: columns of the stream on the device, ``[E]``.
        edge_features: ``[E, F]``, on the device unless they are sliced; F is 0 where there are none.
    """

    def __init__(
        self,
        stream: EventStream,
        sampler: NeighborSampler,
        negatives: NegativeSampler,
        history: History | None = None,
        span: int = 1,
        device: torch.device | str = "cpu",
        *,
        slice_features: bool = False,
        roots: str = "event",
        pair_groups: Sequence[str] = DEFAULT_GROUPS,
    ) -> None:
        device = torch.device(device)
        if (stream.num_events + 1) * stream.num_nodes >= 2**63:  # keys of (node, time)
            raise ConfigError(
                f"{stream.num_nodes} nodes x {stream.num_events} events do not fit a 64-bit key: use fewer of either."
            )
        self.stream = stream
        self.src, self.dst = as_tensor(stream.src, device), as_tensor(stream.dst, device)
        self.time = as_tensor(stream.time, device)
        no_features = np.empty((stream.num_events, 0), np.float32)
        table = no_features if stream.edge_features is None else stream.edge_features
        self.edge_features = as_tensor(table, torch.device("cpu") if slice_features else device)
        self.slice_features, self.roots = slice_features, roots
        self.sampler, self.negatives = sampler, negatives
        self.compactor = Compactor(stream.num_nodes, device)
        self.history = history
        self.pairs = PairEncoder(history, self.time, span, pair_groups) if history else None

    def clone(self) -> BatchBuilder:
        """Another builder of the same batches, for another thread: it shares all columns and indexes, but has a
        workspace and a sampler (with its seed) of its own."""
        other, sampler = copy.copy(self), self.sampler
        other.compactor = Compactor(self.stream.num_nodes, self.time.device)
        other.sampler = NeighborSampler(
            self.stream,
            sampler.num_neighbors,
            strategy=sampler.strategy,
            window=sampler.window,
            seed=sampler.seed,
            device=sampler.device,
            backend=sampler.backend,
        )
        return other

    def slice(self, batch: Batch) -> Batch:
        """The batch with the edge features of its neighbors."""
        row, (features,) = slice_rows(batch.block.event, batch.event.device, self.edge_features)
        return dataclasses.replace(batch, features=features, feature_row=row)

    def range(self, start: int, stop: int, num_negatives: int, seed: int, exclude_own: bool = True) -> Batch:
        """The batch of consecutive events ``[start, stop)``."""
        return self.events(torch.arange(start, stop, device=self.time.device), num_negatives, seed, exclude_own)

    def events(
        self, event: Tensor, num_negatives: int, seed: int, exclude_own: bool = True, with_pairs: bool = True
    ) -> Batch:
        """The batch of some events, ``[B]``, each against ``num_negatives`` negatives drawn with ``seed``."""
        negative = self.negatives.draw(event, self.dst[event].long(), num_negatives, seed, exclude_own)
        return self.against(event, Drawn(negative), with_pairs)

    def against(self, event: Tensor, drawn: Drawn, with_pairs: bool = True) -> Batch:
        """The batch of some events, ``[B]``, against negatives that were drawn already."""
        src, dst, time = self.src[event].long(), self.dst[event].long(), self.time[event]
        candidates = torch.cat([dst[:, None], drawn.node], dim=1)
        shape = candidates.shape
        if drawn.source is not None:
            src, time = torch.cat([src[:, None], drawn.source], dim=1).flatten(), time.repeat_interleave(shape[1])
            candidates = candidates.view(-1, 1)
        rows, C = candidates.shape
        before = torch.searchsorted(self.time, time)
        # Embed each (node, time) once: time counts as the number of events before it, which is what a root can see.
        node = torch.cat([src, candidates.flatten()])
        seen = before if self.roots == "event" else before.min().expand(rows)
        bound = torch.cat([seen, seen[:, None].expand(rows, C).flatten()])
        key, row = torch.unique(bound * self.stream.num_nodes + node, return_inverse=True)
        node, bound = key % self.stream.num_nodes, key // self.stream.num_nodes
        root_time = self.time[bound]  # the first event that is not before the root has the root's time
        batch = self._batch(event, (src, candidates, time, before), (node, root_time, bound), row, with_pairs)
        if drawn.there is None:
            return batch
        return dataclasses.replace(batch, there=torch.cat([torch.ones_like(drawn.there[:, :1]), drawn.there], dim=1))

    def queries(self, src: Tensor, candidates: Tensor, time: Tensor) -> Batch:
        """The batch of sources ``[B]`` at times ``[B]``, each against candidates ``[B, C]``, which need not be events.

        Every root is embedded at its query's time, with all events before it in sight. What such a batch leaves behind
        means nothing and must not be written.
        """
        B, C = candidates.shape
        before = torch.searchsorted(self.time, time)
        node = torch.cat([src, candidates.flatten()])
        times, place = torch.unique(time, return_inverse=True)
        at = torch.cat([place, place[:, None].expand(B, C).flatten()])
        key, row = torch.unique(at * self.stream.num_nodes + node, return_inverse=True)
        node, root_time = key % self.stream.num_nodes, times[key // self.stream.num_nodes]
        roots = (node, root_time, torch.searchsorted(self.time, root_time))
        event = torch.zeros(B, dtype=torch.int64, device=time.device)
        return self._batch(event, (src, candidates, time, before), roots, row, True)

    def _batch(
        self,
        event: Tensor,
        query: tuple[Tensor, Tensor, Tensor, Tensor],
        roots: tuple[Tensor, Tensor, Tensor],
        row: Tensor,
        with_pairs: bool,
    ) -> Batch:
        """From queries (source, candidates, time, events before) and distinct roots (node, time, events before)."""
        (src, candidates, time, before), (node, root_time, bound) = query, roots
        (rows, C), B = candidates.shape, len(event)
        (neighbors,) = self.sampler.sample(node, root_time, before=bound)
        block = build_block(node, root_time, neighbors, self.compactor)
        source, candidate = row[:rows], row[rows:].view(rows, C)
        slot = block.roots[block.root_row]
        features = None
        if self.pairs and with_pairs:
            features = self.pairs(src, candidates, time, before, neighbors, source, candidate)
        batch = Batch(
            event=event,
            block=block,
            source=source,
            candidate=candidate,
            pair_features=features,
            source_slot=slot[source.view(B, -1)[:, 0]],
            destination_slot=slot[candidate.view(B, -1)[:, 0]],
        )
        return self.slice(batch) if self.slice_features else batch
