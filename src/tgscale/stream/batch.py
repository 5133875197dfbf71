"""From a range of events to all that one step needs: negatives, sampled past, distinct nodes, pair features.

Edge features are looked up in one table by event id, on the device of the model. Where that table is larger than the
device's memory, or lies on the disk, its rows are sliced: ``slice_features`` gives each batch those of its neighbors,
and :func:`mail_tables` those of the mail that its nodes hold. The model answers the same, bit for bit.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.block import Block, build_block
from tgscale.graph.history import History
from tgscale.graph.sampling import Neighbors, NeighborSampler
from tgscale.graph.search import as_tensor
from tgscale.graph.unique import Compactor
from tgscale.memory.local import MemoryRows
from tgscale.models.stream_model import ONE_HOP, Ends, Needs
from tgscale.nn.pair_encoding import DEFAULT_GROUPS, PairEncoder
from tgscale.stream.negatives import NegativeSampler
from tgscale.stream.protocol.negatives import Drawn

_BLOCK, _BELOW = "block.", "below."


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
        feature_row: row of ``features`` of each neighbor, ``[R, k]``, -1 where there is none; None unless sliced. Of a
            block with others below it, those of all of them, one after another, flat.
        there: False where a candidate only fills a row up, ``[B, 1 + n]``; None where none does.
        past_slot, past_event: see :class:`tgscale.models.stream_model.Ends`; None unless the model needs them.
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

    past_slot: Tensor | None = None
    past_event: Tensor | None = None

    def ends(self, mail_event: Tensor, every_end: bool = False) -> Ends:
        """The events' ends, among nodes whose mail was left by ``mail_event``."""
        slots = (self.source_slot, self.destination_slot)
        return Ends(self.event, *slots, mail_event, self.past_slot, self.past_event, every_end)

    def inputs(self, edge_features: Tensor) -> tuple[Block, Tensor]:
        """Block and edge features to embed it with, sliced or not.

        Args:
            edge_features: the table of all events, ``[E, F]``; what is returned unless the batch has features itself.

        Returns:
            A block whose ``event`` holds rows of the table that is returned with it.
        """
        if self.features is None or self.feature_row is None:
            return self.block, edge_features
        if self.block.below is None:
            return dataclasses.replace(self.block, event=self.feature_row), self.features
        blocks = list(hops(self.block))
        rows = self.feature_row.split([block.event.numel() for block in blocks])
        below = None
        for block, row in zip(reversed(blocks), reversed(rows), strict=True):
            below = dataclasses.replace(block, event=row.view_as(block.event), below=below)
        assert below is not None
        return below, self.features

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are there, by name; those of the block as ``block.nodes`` and so on."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return own | {f"{_BLOCK}{name}": value for name, value in _tensors_of(self.block).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Batch:
        """The batch that :meth:`tensors` took apart.

        Raises:
            TypeError: a tensor is missing, or one of them is unknown.
        """
        block = _block_of({n.removeprefix(_BLOCK): value for n, value in tensors.items() if n.startswith(_BLOCK)})
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


def hops(block: Block) -> Iterator[Block]:
    """The block and those below it."""
    each: Block | None = block
    while each is not None:
        yield each
        each = each.below


def _tensors_of(block: Block) -> dict[str, Tensor]:
    own = {name: value for name, value in vars(block).items() if isinstance(value, Tensor)}
    below = {} if block.below is None else _tensors_of(block.below)
    return own | {f"{_BELOW}{name}": value for name, value in below.items()}


def _block_of(tensors: dict[str, Tensor]) -> Block:
    below = {n.removeprefix(_BELOW): value for n, value in tensors.items() if n.startswith(_BELOW)}
    own: dict[str, Any] = {n: value for n, value in tensors.items() if not n.startswith(_BELOW)}
    return Block(**own, below=_block_of(below) if below else None)


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
        needs: what the model wants of a batch.

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
        needs: Needs = ONE_HOP,
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
        self.slice_features, self.roots, self.needs = slice_features, roots, needs
        self.sampler, self.negatives = sampler, negatives
        # Of its own: its seed stays, so that what events leave behind does not depend on who scored before.
        self._past_sampler = copy_sampler(sampler) if needs.past_of_ends else None
        self.compactor = Compactor(stream.num_nodes, device)
        self.history = history
        self.pairs = PairEncoder(history, self.time, span, pair_groups) if history else None

    def clone(self) -> BatchBuilder:
        """Another builder of the same batches, for another thread: it shares all columns and indexes, but has a
        workspace and a sampler (with its seed) of its own."""
        other = copy.copy(self)
        other.compactor = Compactor(self.stream.num_nodes, self.time.device)
        other.sampler = copy_sampler(self.sampler)
        other._past_sampler = copy_sampler(self._past_sampler) if self._past_sampler else None
        return other

    def slice(self, batch: Batch) -> Batch:
        """The batch with the edge features of its neighbors."""
        event = batch.block.event
        if batch.block.below is not None:
            event = torch.cat([block.event.flatten() for block in hops(batch.block)])
        row, (features,) = slice_rows(event, batch.event.device, self.edge_features)
        return dataclasses.replace(batch, features=features, feature_row=row)

    def range(
        self, start: int, stop: int, num_negatives: int, seed: int, exclude_own: bool = True, with_past: bool = True
    ) -> Batch:
        """The batch of consecutive events ``[start, stop)``; without past, it can only be scored."""
        event = torch.arange(start, stop, device=self.time.device)
        return self.events(event, num_negatives, seed, exclude_own, with_past=with_past)

    def ends(self, start: int, stop: int) -> tuple[Tensor, Callable[[Tensor], Ends]]:
        """All that consecutive events need to enter the memory: their nodes, and from their stored mail, their ends."""
        event = torch.arange(start, stop, device=self.time.device)
        node = torch.cat([self.src[start:stop], self.dst[start:stop]]).long()
        if self._past_sampler is None:
            nodes, slot = self.compactor(node)
            source, destination = slot.chunk(2)
            return nodes, lambda mail_event: Ends(event, source, destination, mail_event)
        past_node, past_event = self._past(event)
        nodes, slot = self.compactor(torch.cat([node, past_node.flatten()]))
        source, destination = slot[: len(node)].chunk(2)
        past_slot = slot[len(node) :].view_as(past_node)
        return nodes, lambda mail_event: Ends(event, source, destination, mail_event, past_slot, past_event)

    def events(
        self,
        event: Tensor,
        num_negatives: int,
        seed: int,
        exclude_own: bool = True,
        with_pairs: bool = True,
        with_past: bool = True,
    ) -> Batch:
        """The batch of some events, ``[B]``, each against ``num_negatives`` negatives drawn with ``seed``."""
        negative = self.negatives.draw(event, self.dst[event].long(), num_negatives, seed, exclude_own)
        return self.against(event, Drawn(negative), with_pairs, with_past)

    def against(self, event: Tensor, drawn: Drawn, with_pairs: bool = True, with_past: bool = False) -> Batch:
        """The batch of some events, ``[B]``, against negatives that were drawn already; see :meth:`range`."""
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
        roots = (node, root_time, bound)
        batch = self._batch(event, (src, candidates, time, before), roots, row, with_pairs, with_past)
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
        return self._batch(event, (src, candidates, time, before), roots, row, True, False)

    def _batch(
        self,
        event: Tensor,
        query: tuple[Tensor, Tensor, Tensor, Tensor],
        roots: tuple[Tensor, Tensor, Tensor],
        row: Tensor,
        with_pairs: bool,
        with_past: bool,
    ) -> Batch:
        """From queries (source, candidates, time, events before) and distinct roots (node, time, events before)."""
        (src, candidates, time, before), (node, root_time, bound) = query, roots
        (rows, C), B = candidates.shape, len(event)
        with_pairs = with_pairs and self.pairs is not None
        needs = self.needs
        neighbors = self._sample(node, root_time, bound) if needs.hops or with_pairs else no_neighbors(node)
        past_slot = past_event = None
        if self._past_sampler is not None and with_past:
            past_node, past_event = self._past(event)
            block, past_slot = self._block_with_past(node, past_node)
        else:
            block = self._block(node, root_time, bound, neighbors, needs.hops)
        if needs.elapsed:
            block.time = root_time
        source, candidate = row[:rows], row[rows:].view(rows, C)
        slot = block.roots[block.root_row]
        features = None
        if self.pairs is not None and with_pairs:
            features = self.pairs(src, candidates, time, before, neighbors, source, candidate)
        batch = Batch(
            event=event,
            block=block,
            source=source,
            candidate=candidate,
            pair_features=features,
            source_slot=slot[source.view(B, -1)[:, 0]],
            destination_slot=slot[candidate.view(B, -1)[:, 0]],
            past_slot=past_slot,
            past_event=past_event,
        )
        return self.slice(batch) if self.slice_features else batch

    def _sample(self, node: Tensor, time: Tensor, bound: Tensor) -> Neighbors:
        (neighbors,) = self.sampler.sample(node, time, before=bound)
        return neighbors

    def _block(self, node: Tensor, time: Tensor, bound: Tensor, neighbors: Neighbors, depth: int) -> Block:
        """The roots' block, and below it those of the hops that follow: (node, time) pairs, each once."""
        if depth <= 1:
            return build_block(node, time, neighbors if depth else no_neighbors(node), self.compactor)
        absent = neighbors.event < 0
        around = torch.where(absent, node[:, None], neighbors.node)  # an absent neighbor stands as the root itself
        seen = self.sampler.bound_at(neighbors.time.flatten(), neighbors.event.flatten()).view_as(around)
        seen = torch.where(absent, bound[:, None], seen)
        when = torch.where(absent, time[:, None], neighbors.time)
        times, at = torch.unique(torch.cat([time, when.flatten()]), return_inverse=True)
        key, row = torch.unique(at * self.stream.num_nodes + torch.cat([node, around.flatten()]), return_inverse=True)
        nodes, root_times = key % self.stream.num_nodes, times[key // self.stream.num_nodes]
        bounds = torch.empty_like(nodes)
        bounds[row] = torch.cat([bound, seen.flatten()])  # equal times have equal bounds
        return Block(
            nodes=nodes,
            roots=row[: len(node)],
            root_row=torch.arange(len(node), device=node.device),
            slot=row[len(node) :].view_as(around),
            event=neighbors.event,
            dt=(time[:, None] - neighbors.time).masked_fill(absent, 0),
            below=self._block(nodes, root_times, bounds, self._sample(nodes, root_times, bounds), depth - 1),
        )

    def _past(self, event: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled past of all sources and then of all destinations, ``[2 B, k]``: nodes (the end's own where there is
        none) and event ids."""
        assert self._past_sampler is not None
        node = torch.cat([self.src[event], self.dst[event]]).long()
        time = self.time[event].repeat(2)
        (neighbors,) = self._past_sampler.sample(node, time, before=torch.searchsorted(self.time, time))
        return torch.where(neighbors.event < 0, node[:, None], neighbors.node), neighbors.event

    def _block_with_past(self, node: Tensor, past_node: Tensor) -> tuple[Block, Tensor]:
        """A block of no hop whose nodes are the roots' and those of the ends' past; the rows of the latter."""
        nodes, row = self.compactor(torch.cat([node, past_node.flatten()]))
        roots, root_row = self.compactor(row[: len(node)])
        none = no_neighbors(node)
        block = Block(nodes, roots, root_row, slot=none.node, event=none.event, dt=none.time)
        return block, row[len(node) :].view_as(past_node)


def no_neighbors(node: Tensor) -> Neighbors:
    """Neighbors of roots that sample none, ``[R, 0]``."""
    none = node.new_empty(len(node), 0)
    return Neighbors(none, none, none)


def copy_sampler(sampler: NeighborSampler) -> NeighborSampler:
    """Another sampler that draws the same, with a seed of its own."""
    return NeighborSampler(
        sampler.stream,
        sampler.num_neighbors,
        strategy=sampler.strategy,
        window=sampler.window,
        seed=sampler.seed,
        device=sampler.device,
        backend=sampler.backend,
    )
