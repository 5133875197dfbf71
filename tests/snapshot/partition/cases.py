"""What the processes of a partition compute, and the same in one process."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tgscale.data.snapshots import SnapshotSequence
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.snapshot.config import NetConfig, SnapshotConfig, SnapshotOptimConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.partition.by_snapshot import SnapshotPlacement
from tgscale.snapshot.partition.vertex import VertexPlacement
from tgscale.snapshot.placement import LocalPlacement
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.tensors import SnapshotData

from ..test_plan import MODELS, C, F, W

PLACEMENTS = {"vertex": VertexPlacement, "snapshot": SnapshotPlacement}
REWRITES = {"all": Rewrites(), "none": Rewrites.none(), "no-cache": Rewrites(cache=False)}


def random_sequence(nodes, steps, static=False, seed=0):
    """Two edge types, weights, few nodes with most edges, one step without any."""
    rng = np.random.default_rng(seed)
    graphs = 1 if static else steps
    count = 4 * nodes
    step = np.repeat(np.arange(graphs), count)
    dst, src = (np.minimum(rng.geometric(min(0.5, 3 / nodes), len(step)) - 1, nodes - 1) for _ in range(2))
    there = (step != 2) | static
    kinds = {"edge_type": rng.integers(0, 2, len(step))[there], "num_relations": 2}
    weight = rng.uniform(0.1, 2, len(step)).astype(np.float32)[there]
    x = rng.normal(size=(steps, nodes, F)).astype(np.float32)
    shown = np.zeros(steps, np.int32) if static else None
    return SnapshotSequence.from_arrays(
        step[there], src[there], dst[there], num_nodes=nodes, num_steps=steps, graph_of=shown, edge_weight=weight,
        node_features=x, **kinds,
    )  # fmt: skip


SEQUENCES = {
    "evolving": lambda: random_sequence(11, 7),
    "static": lambda: random_sequence(11, 7, static=True),
    "two-nodes": lambda: random_sequence(2, 7),
    "toy": lambda: toy_sequence(),
}


def toy_sequence():
    """Four nodes. Step 0: 0 -> 2, 3 -> 1, 3 -> 0, 2 -> 3. Step 1: 1 -> 2, 1 -> 3, 2 -> 0, 3 -> 1. Step 2: 0 -> 1."""
    edges = [[(0, 2), (3, 1), (3, 0), (2, 3)], [(1, 2), (1, 3), (2, 0), (3, 1)], [(0, 1)]]
    step = [t for t, some in enumerate(edges) for _ in some]
    src, dst = zip(*(edge for some in edges for edge in some), strict=True)
    x = np.random.default_rng(0).normal(size=(3, 4, F)).astype(np.float32)
    return SnapshotSequence.from_arrays(step, src, dst, num_nodes=4, num_steps=3, node_features=x)


@dataclass(frozen=True)
class Case:
    """One model on one group."""

    placement: str = "vertex"
    model: str = "tgcn"
    rewrites: str = "all"
    sequence: str = "evolving"
    first: int = 1
    window: int = W
    training: bool = True
    dropout: float = 0.0

    def make_model(self):
        torch.manual_seed(0)
        if self.model.startswith("a3tgcn"):
            model = A3TGCN(F, C, self.window, compat=self.model.endswith("compat"))
        elif self.model == "mpnn_lstm":
            model = MPNNLSTM(F, C, self.window, self.dropout)
        else:
            model = MODELS[self.model]()
        return model.double().train(self.training)

    def run(self, place):
        """Embeddings of all nodes and of the process's own, its gradients, buffers, bytes sent, and nodes."""
        model = self.make_model()
        placement = place(SnapshotData(SEQUENCES[self.sequence](), dtype=torch.float64))
        plan = Plan(model, REWRITES[self.rewrites])
        kept = placement.keep(plan)
        torch.manual_seed(5)
        sent = [placement.bytes_sent]
        own = placement.run(plan, self.first, self.window)
        sent.append(placement.bytes_sent)
        out = placement.gather(own)
        sent.append(placement.bytes_sent)
        # Something of own nodes, and of all nodes what is this process's share.
        by_node = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
        number, of = placement.part
        pairs = torch.sin(3 * by_node.flatten())[number::of]
        loss = (own * by_node[..., placement.nodes, :]).sum() + (out.flatten()[number::of] * pairs).sum()
        loss.backward()
        sent.append(placement.bytes_sent)
        return {
            "out": out.detach(),
            "own": own.detach(),
            "grads": {name: p.grad for name, p in model.named_parameters()},
            "buffers": dict(model.named_buffers()),
            "sent": sent,
            "nodes": placement.nodes,
            "kept": kept,
            "later": torch.rand(1),
            "transfer": getattr(placement, "transfer", None),
        }

    def alone(self):
        """The same in one process."""
        return self.run(LocalPlacement)


@dataclass(frozen=True)
class Training:
    """One step of training on two groups, with the engine."""

    placement: str
    task: str
    model: str = "tgcn"
    nodes: int = 11
    edges_per_step: int = 2000

    def run(self, place):
        """Sum of the losses of this process, and gradients."""
        sequence = random_sequence(self.nodes, 12)
        rng = np.random.default_rng(1)
        target = rng.normal(size=(12, self.nodes, 1)).astype(np.float32)
        sequence = replace(sequence, target=target, edge_label=rng.integers(0, 3, sequence.num_edges))
        config = SnapshotConfig(
            data=Path("-"),
            run=Path("-"),
            model=self.model,
            task=self.task,
            window=3,
            net=NetConfig(hidden=C, dropout=0.0),
            train=SnapshotOptimConfig(edges_per_step=self.edges_per_step),
        )
        torch.manual_seed(0)
        engine = SnapshotEngine(config, sequence, dtype=torch.float64, place=place)
        total = 0.0
        for group in (1, 3):
            loss = engine.loss(group, epoch=2)
            loss.backward()
            total += float(loss.detach())
        return total, {name: p.grad for name, p in engine.modules.named_parameters()}
