"""One training step in tensors of fixed shape: a GPU runs it as a whole, and nothing waits for the host.

What a batch decides elsewhere by counting (how many roots and nodes are distinct, how short the last batch is) is given
the room that is always enough, so no shape depends on data and nothing can overflow:

- ``B`` events, whatever is left of the stream. Those behind its end stand as its last event once more: they write what
  it writes, and weigh nothing in the loss.
- ``R = B (2 + negatives)`` roots, each by itself. Equal ones are not merged: they get the same embedding.
- ``U = min(R (1 + k), N)`` nodes, ``min(R, N)`` for a model that samples no neighbors. Rows that are left over hold
  node 0's state, and nothing refers to them.

Which batch it is stands in a tensor that the step itself moves on; seeds stand in tensors, too. So the same step can be
recorded once and replayed for every batch of every sweep. It runs on a CPU as well, operator by operator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tgscale.graph.block import Block
from tgscale.graph.fixed_unique import unique_fixed
from tgscale.graph.hashing import mix, signed
from tgscale.graph.history import History
from tgscale.graph.sampling import Neighbors, NeighborSampler
from tgscale.memory.local import LocalMemory
from tgscale.nn.pair_encoding import PairEncoder
from tgscale.stream.batch import Batch, no_neighbors
from tgscale.stream.engine import StreamEngine
from tgscale.train.gradients import GradientBuffer


class DeviceStep:
    """Sample, compact, forward, backward, optimiser, write-back, over the training events of an engine.

    Args:
        engine: model, columns and edge features, all on its device.
        memory: the copy that is trained on.
        gradients: the model's, which the step clears.
        optimizers: dense ones; on a GPU they must be capturable.
        loss: 0-d float64, to which each step adds the loss times the events of the batch.

    Attributes:
        start: first event of the next batch, 0-d.
        nodes: distinct nodes of all batches so far, summed up, 0-d.
        capacity: rows of the table of distinct nodes.
    """

    def __init__(
        self,
        engine: StreamEngine,
        memory: LocalMemory,
        gradients: GradientBuffer,
        optimizers: list[torch.optim.Optimizer],
        loss: Tensor,
    ) -> None:
        config, device = engine.config, engine.device
        self.engine, self.memory, self.gradients, self.optimizers = engine, memory, gradients, optimizers
        self.loss, self.events = loss, engine.split.train
        self.batch_size, self.negatives = config.train.batch_size, config.train.negatives
        self._sampler = NeighborSampler(
            engine.stream,
            config.sampling.neighbors,
            strategy=config.sampling.strategy,
            window=config.sampling.window,
            device=device,
            backend="tensor",
        )
        self._pairs = _tensor_pairs(engine)
        roots = self.batch_size * (2 + self.negatives)
        around = config.sampling.neighbors * engine.builder.needs.hops
        self.capacity = min(roots * (1 + around), engine.stream.num_nodes)
        self.start = torch.zeros((), dtype=torch.int64, device=device)
        self.nodes = torch.zeros((), dtype=torch.int64, device=device)
        self._negative_key = torch.zeros((), dtype=torch.int64, device=device)

    def aim(self, batch: int, seed: int) -> None:
        """Say which batch is next and how it and those after it are drawn; nothing waits for the device."""
        self.start.fill_(batch * self.batch_size)
        self._sampler.seed = seed
        self._negative_key.fill_(signed(mix((seed + 1) % 2**64)))

    def run(self) -> None:
        """One step, and on to the next batch; after the last one, to the first."""
        place = self.start + torch.arange(self.batch_size, device=self.start.device)
        weight = (place < self.events).double()
        batch, count = self.batch(place.clamp(max=self.events - 1))
        logits, write = self.engine.forward(self.memory.read(batch.block.nodes), batch, every_end=True)
        if write is not None:
            self.memory.write(write.nodes, write.rows)
        losses = F.cross_entropy(logits, torch.zeros_like(batch.event), reduction="none")
        loss = (losses * (weight / weight.sum()).to(losses.dtype)).sum()
        self.gradients.clear()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.loss += loss.detach() * weight.sum()
        self.nodes += count
        after = self.start + self.batch_size
        self.start.copy_(torch.where(after < self.events, after, 0))

    def batch(self, event: Tensor) -> tuple[Batch, Tensor]:
        """The batch of some events, ``[B]``, and how many of its nodes are distinct, 0-d."""
        builder, B, C = self.engine.builder, len(event), 1 + self.negatives
        src, dst, time = builder.src[event].long(), builder.dst[event].long(), builder.time[event]
        negative = builder.negatives.draw(event, dst, self.negatives, self._negative_key)
        candidates = torch.cat([dst[:, None], negative], dim=1)
        before = torch.searchsorted(builder.time, time)
        node = torch.cat([src, candidates.flatten()])
        seen = before if builder.roots == "event" else before.min().expand(B)
        bound = torch.cat([seen, seen[:, None].expand(B, C).flatten()])
        root_time = builder.time[bound]  # the first event that is not before the root has the root's time
        (neighbors,) = self._sampler.sample(node, root_time, before=bound)
        needs = builder.needs
        block, count = self._block(node, root_time, neighbors if needs.hops else no_neighbors(node))
        if needs.elapsed:
            block.time = root_time
        source = torch.arange(B, device=event.device)
        candidate = torch.arange(B, B + B * C, device=event.device).view(B, C)
        pairs = None
        if self._pairs:
            pairs = self._pairs(src, candidates, time, before, neighbors, source, candidate)
        return Batch(
            event=event,
            block=block,
            source=source,
            candidate=candidate,
            pair_features=pairs,
            source_slot=block.roots[source],
            destination_slot=block.roots[candidate[:, 0]],
        ), count

    def _block(self, node: Tensor, time: Tensor, neighbors: Neighbors) -> tuple[Block, Tensor]:
        """As :func:`tgscale.graph.block.build_block`, with nodes in fixed room and each root's query by itself."""
        absent = neighbors.event < 0
        around = torch.where(absent, node[:, None], neighbors.node)
        nodes, row, count = unique_fixed(torch.cat([node, around.flatten()]), self.capacity)
        roots = row[: len(node)]
        block = Block(
            nodes=nodes,
            roots=roots,
            root_row=torch.arange(len(node), device=node.device),
            slot=row[len(node) :].view_as(around),
            event=neighbors.event,
            dt=(time[:, None] - neighbors.time).masked_fill(absent, 0),
        )
        return block, count


def _tensor_pairs(engine: StreamEngine) -> PairEncoder | None:
    """The engine's pair encoder, answering in tensors on any device."""
    pairs = engine.builder.pairs
    if pairs is None or pairs.history.backend == "tensor":
        return pairs
    return pairs.on(History(engine.stream, engine.device, backend="tensor"))
