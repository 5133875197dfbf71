"""PyTorch Geometric Temporal's side of ``snapshot_peers.py``, in its own interpreter; needs that library and torch."""

import json
import sys
import time
import types
from itertools import pairwise

import numpy as np
import torch
import torch_geometric.nn  # noqa: F401  # ahead of the stub, which it would take for the real one

if "torch_sparse" not in sys.modules:  # only a type of it is used
    stub = types.ModuleType("torch_sparse")
    stub.SparseTensor = type("SparseTensor", (), {})
    sys.modules["torch_sparse"] = stub

from torch_geometric_temporal.nn import recurrent
from torch_geometric_temporal.signal import DynamicGraphTemporalSignal, StaticGraphTemporalSignal

LAYERS = {
    "tgcn": lambda features, hidden, order: recurrent.TGCN(features, hidden),
    "a3tgcn": lambda features, hidden, order: recurrent.A3TGCN(1, hidden, features),
    "lrgcn": lambda features, hidden, order: recurrent.LRGCN(features, hidden, 1, 1),
    "gclstm": lambda features, hidden, order: recurrent.GCLSTM(features, hidden, order),
    "evolvegcn_o": lambda features, hidden, order: recurrent.EvolveGCNO(features),
}


def signal(case):
    """What the library's loaders give, from plain arrays."""
    ends = np.searchsorted(case["graph"], np.arange(case["graph"].max() + 2))
    rows = [slice(first, stop) for first, stop in pairwise(ends)]
    edges = [np.stack([case["src"][part], case["dst"][part]]).astype(np.int64) for part in rows]
    weights = [case["weight"][part] for part in rows]
    features, targets = list(case["features"]), list(case["target"])
    if len(edges) == 1:
        return StaticGraphTemporalSignal(edges[0], weights[0], features, targets)
    return DynamicGraphTemporalSignal(edges, weights, features, targets)


class Run:
    """A layer, a head and their optimiser, as in the library's examples."""

    def __init__(self, case, model, hidden, order, weights):
        torch.manual_seed(0)
        arrays = dict(np.load(case))
        features = arrays["features"].shape[2]
        self.model, self.signal = model, signal(arrays)
        self.layer = LAYERS[model](features, hidden, order)
        self.head = torch.nn.Linear(features if model == "evolvegcn_o" else hidden, 1)
        torch.save({"layer": self.layer.state_dict(), "head": self.head.state_dict()}, weights)
        self.optimizer = torch.optim.Adam([*self.layer.parameters(), *self.head.parameters()], lr=0.01)

    def epoch(self):
        self.state, cost = None, 0
        if self.model == "evolvegcn_o":
            self.layer.reinitialize_weight()
        for snapshot in self.signal:
            prediction = self.head(torch.relu(self.embed(snapshot)))
            cost = cost + torch.mean((prediction[:, 0] - snapshot.y) ** 2)
        cost = cost / self.signal.snapshot_count
        cost.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return cost.item()

    def embed(self, snapshot):
        x, edges, weight = snapshot.x, snapshot.edge_index, snapshot.edge_attr
        if self.model == "a3tgcn":
            return self.layer(x.view(x.shape[0], 1, x.shape[1]), edges, weight)
        if self.model == "evolvegcn_o":
            return self.layer(x, edges, weight)
        if self.model == "tgcn":
            self.state = self.layer(x, edges, weight, self.state)
            return self.state
        types_or_weight = torch.zeros_like(weight, dtype=torch.long) if self.model == "lrgcn" else weight
        self.state = self.layer(x, edges, types_or_weight, *(self.state or (None, None)))
        return self.state[0]


def main():
    torch.set_num_threads(int(sys.argv[1]))
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if request.pop("do") == "start":
            run = Run(**request)
        else:
            began = time.perf_counter()
            answer = {"loss": run.epoch(), "seconds": time.perf_counter() - began}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
