"""What a model of an event stream is to the engine: state per node, embeddings of roots, scores, and what events leave.

The engine owns time, order and placement. A step is, for every model:

1. ``memory = model.update(rows, event_time, edge_features)``: the nodes' state with their mail absorbed;
2. ``h = model.embed(memory, block, edge_features, elapsed)``: (node, time) roots;
3. ``model.score(h, source, candidate, pair_features)``: logits;
4. ``model.after(rows, memory, ends, event_time)``: the new state of the nodes that the events touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows, rows_after_events
from tgscale.memory.shape import RowShape
from tgscale.models.config import ModelConfig
from tgscale.nn.decoder import LinkDecoder
from tgscale.nn.pair_encoding import pair_dim
from tgscale.nn.static_memory import StaticMemory


class Needs(NamedTuple):
    """What a model wants of a batch.

    Attributes:
        hops: of sampled past in the roots' block; 0 for none.
        past_of_ends: the sampled past of each event's two ends, for what the event leaves behind.
        elapsed: how long ago each root's last event was.
    """

    hops: int = 1
    past_of_ends: bool = False
    elapsed: bool = False


ONE_HOP = Needs()


@dataclass
class Ends:
    """The two ends of a batch's events, as rows of the nodes that were read for it.

    Attributes:
        event: ids of the events, ascending, ``[B]``, int64.
        source, destination: ``[B]``, int64.
        mail_event: ids of the events that left the nodes' mail, ``[U]`` or ``[U, M]``: those that are stored, whatever
            tables the rows that go with this point into.
        past_slot, past_event: sampled past of all sources and then of all destinations, each at its event's time,
            ``[2 B, k]``: rows of the nodes, and event ids, -1 where there is none (then the row is the end's own). None
            unless :attr:`Needs.past_of_ends`.
        every_end: see :func:`tgscale.memory.local.rows_after_events`.
    """

    event: Tensor
    source: Tensor
    destination: Tensor
    mail_event: Tensor
    past_slot: Tensor | None = None
    past_event: Tensor | None = None
    every_end: bool = False


class StreamModel(nn.Module):
    """Base of all models. A subclass says what it needs and holds its paper's equations.

    Args:
        config: sizes and choices.
        edge_dim: width of the edge features; 0 for none.
        static: adds a time-independent vector to each node's state.
        time_scale: a time that is typical of the stream, in its unit: from one event of a node to its next one.
        neighbors: sampled past events per root, k.

    Attributes:
        fixed_shapes: no tensor's shape depends on data, and all of a step is one hop: fit for a captured step.
        sampling: options of sampling whose defaults the paper has otherwise.
    """

    fixed_shapes = False
    sampling: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        config: ModelConfig,
        edge_dim: int,
        static: StaticMemory | None = None,
        time_scale: float = 1.0,
        neighbors: int = 10,
    ) -> None:
        super().__init__()
        self.config, self.edge_dim, self.time_scale, self.neighbors = config, edge_dim, time_scale, neighbors
        self.static: StaticMemory
        self.build(static or StaticMemory())
        self.decoder = LinkDecoder(config.dim, pair_dim(config.pair_groups) if config.pair_encoding else 0)

    @classmethod
    def needs(cls, config: ModelConfig) -> Needs:
        """What batches must hold."""
        return Needs()

    @classmethod
    def shape(cls, config: ModelConfig, neighbors: int) -> RowShape | None:
        """Widths of a node's state, where so many past events are sampled per root; None for a model without memory."""
        return RowShape(config.dim, 2 * config.dim)

    @classmethod
    def nodes_written(cls, config: ModelConfig, batch_size: int, neighbors: int) -> int:
        """The most nodes whose state a batch changes."""
        return 2 * batch_size

    def build(self, static: StaticMemory) -> None:
        """Make the layers, ``self.static`` among them, from ``config``, ``edge_dim`` and ``neighbors``."""
        raise NotImplementedError

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """State of some nodes after absorbing their mail.

        Args:
            rows: what is kept of them, ``[U]``.
            event_time, edge_features: tables ``[E]`` and ``[E, edge_dim]`` that ``rows.mail_event`` points into.

        Returns:
            ``[U, dim]``.
        """
        return rows.memory

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Embeddings of the block's roots, ``[R, dim]``.

        Args:
            memory: what :meth:`update` made of the block's nodes, ``[U, dim]``.
            block: roots and their sampled past.
            edge_features: table ``[E, edge_dim]`` that ``block.event`` points into.
            elapsed: from each root's node's last event that the memory knows of to the root's time, ``[R]``, int64;
                None where :attr:`Needs.elapsed` is false, and nothing has passed.
        """
        raise NotImplementedError

    def score(self, h: Tensor, source: Tensor, candidate: Tensor, pair_features: Tensor | None = None) -> Tensor:
        """Logits ``[B, C]`` of sources (rows ``[B]`` of ``h``) against their candidates (rows ``[B, C]``)."""
        return self.decoder(h, source, candidate, pair_features)

    def after(
        self, rows: MemoryRows, memory: Tensor, ends: Ends, event_time: Tensor
    ) -> tuple[Tensor, MemoryRows] | None:
        """What a batch of events leaves behind, without gradient; TGN's unless a model does otherwise.

        Args:
            rows: what was kept of the batch's nodes, ``[U]``.
            memory: what :meth:`update` made of them, ``[U, dim]``.
            ends: the events.
            event_time: table that ``rows.mail_event`` points into.

        Returns:
            Rows of the nodes whose state changes, ``[W]``, and their new state; None for a model without memory.
        """
        return rows_after_events(rows, memory, ends.source, ends.destination, ends.event, event_time, ends.every_end)

    def with_static(self, memory: Tensor, nodes: Tensor) -> Tensor:
        """The nodes' state, ``[U, dim]``, with what is static of them."""
        static = self.static(nodes)
        return memory if static is None else memory + static

    def static_alone(self, nodes: Tensor) -> Tensor:
        """What is static of some nodes, ``[U, dim]``; zeros where there is nothing."""
        static = self.static(nodes)
        if static is not None:
            return static
        weight = next(self.decoder.parameters())
        return torch.zeros(len(nodes), self.config.dim, dtype=weight.dtype, device=weight.device)


class MemorylessModel(StreamModel):
    """Base of the models that keep nothing of a node between batches."""

    @classmethod
    def shape(cls, config: ModelConfig, neighbors: int) -> RowShape | None:
        """None: there is no memory."""
        return None

    def after(self, rows: MemoryRows, memory: Tensor, ends: Ends, event_time: Tensor) -> None:
        """None: nothing is left behind."""
        return None
