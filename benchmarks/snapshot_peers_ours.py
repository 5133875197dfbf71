"""This program's side of ``snapshot_peers.py``: the same epochs by plans with more and more rewrites."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.lrgcn import LRGCN
from tgscale.models.pygt import load_pygt
from tgscale.models.tgcn import TGCN
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.tensors import SnapshotData
from tgscale.train.environment import keep_freed_memory, set_threads

MERGE = ("share", "associate", "fold", "merge")
VARIANTS = {
    "as written": Rewrites.none(),  # and everything that is derived from the graphs anew in each epoch
    "resident data": Rewrites.none(),
    "gate merge": Rewrites.only(*MERGE),
    "snapshot-parallel": Rewrites.only(*MERGE, "hoist"),
    "first-layer cache": Rewrites.only(*MERGE, "hoist", "cache"),
    "fused recurrence": Rewrites(distinct=False),
    "distinct rows": Rewrites(),
}
MODELS = {
    "tgcn": lambda features, hidden, order: TGCN(features, hidden),
    "a3tgcn": lambda features, hidden, order: A3TGCN(1, hidden, features, compat=True),
    "lrgcn": lambda features, hidden, order: LRGCN(features, hidden, 1, 1),
    "gclstm": lambda features, hidden, order: GCLSTM(features, hidden, order),
    "evolvegcn_o": lambda features, hidden, order: EvolveGCN(features, features, "O"),
}


def sequence_of(case: dict[str, np.ndarray], periods: bool) -> SnapshotSequence:
    """The snapshots; with ``periods``, a step of one feature for each feature of a snapshot, on the same graph."""
    x, graph_of = case["features"], case["graph_of"]
    if periods:
        x, graph_of = x.transpose(0, 2, 1).reshape(-1, x.shape[1], 1), np.repeat(graph_of, x.shape[2])
    edges = case["graph"], case["src"], case["dst"]
    columns = {"edge_weight": case["weight"], "node_features": x, "num_nodes": x.shape[1]}
    return SnapshotSequence.from_arrays(*edges, graph_of=graph_of, **columns)


class Run:
    """A model, a head and their optimiser, trained by one plan."""

    def __init__(self, variant: str, case: str, model: str, hidden: int, order: int, weights: str) -> None:
        arrays = dict(np.load(case))
        features = arrays["features"].shape[2]
        self.variant, self.sequence = variant, sequence_of(arrays, model == "a3tgcn")
        self.model = MODELS[model](features, hidden, order)
        self.head = nn.Linear(self.model.out_dim, 1)
        given = torch.load(weights, weights_only=True)
        load_pygt(self.model, given["layer"])
        self.head.load_state_dict(given["head"])
        self.optimizer = torch.optim.Adam([*self.model.parameters(), *self.head.parameters()], lr=0.01)
        self.window = features if model == "a3tgcn" else len(arrays["target"])
        self.target = torch.from_numpy(arrays["target"])
        self.data = SnapshotData(self.sequence)
        self.plan = Plan(self.model, VARIANTS[variant])
        self.plan.keep(self.data.whole())

    def epoch(self) -> float:
        if self.variant == "as written":
            self.data = SnapshotData(self.sequence)
        loss = ((self.predict() - self.target) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def predict(self) -> Tensor:
        """The head on the embeddings of all snapshots, ``[T, N]``."""
        starts = range(0, self.sequence.num_steps, self.window)
        outs = [self.plan.run(self.data.group(first, self.window), then=self.read) for first in starts]
        return (torch.stack(outs) if self.model.per_group else outs[0])[..., 0]

    def read(self, embeddings: Tensor) -> Tensor:
        return self.head(torch.relu(embeddings))


def main() -> None:
    set_threads(int(sys.argv[1]))
    keep_freed_memory()
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if request.pop("do") == "start":
            runs.clear()
            runs = {variant: Run(variant, **request) for variant in request.pop("variants")}
        else:
            run = runs[request["variant"]]
            began = time.perf_counter()
            answer = {"loss": run.epoch(), "seconds": time.perf_counter() - began}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
