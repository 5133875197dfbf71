"""PyTorch Geometric's side of ``stream_peers.py``, in its own interpreter; needs that library and torch.

Its TGN as its example puts it together: ``TGNMemory`` with identity messages of which the last counts, the last
neighbors of the batch's nodes, one ``TransformerConv`` over the edges to them, a link predictor on sums of projections.
"""

import sys
import time

import torch
from stream_peers_case import DIM, DROPOUT, HEADS, NEIGHBORS, RATE, Case, average_precision
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric import __version__
from torch_geometric.data import TemporalData
from torch_geometric.loader import TemporalDataLoader
from torch_geometric.nn import TGNMemory, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader
from worker import serve


class Model(nn.Module):
    """Memory, attention and link predictor."""

    def __init__(self, num_nodes, width):
        super().__init__()
        message = IdentityMessage(width, DIM, DIM)
        self.memory = TGNMemory(num_nodes, width, DIM, DIM, message, LastAggregator())
        self.attention = TransformerConv(DIM, DIM // HEADS, heads=HEADS, dropout=DROPOUT, edge_dim=width + DIM)
        self.source, self.destination, self.score = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, 1)

    def embed(self, nodes, edges, when, features):
        z, last_update = self.memory(nodes)
        age = self.memory.time_enc((last_update[edges[0]] - when).to(z.dtype))
        return self.attention(z, edges, torch.cat([age, features], dim=-1))

    def logits(self, z, source, destination):
        return self.score(torch.relu(self.source(z[source]) + self.destination(z[destination])))[:, 0]


class Run:
    """The model, its optimiser and the events."""

    def __init__(self, case):
        torch.manual_seed(0)
        self.case = case = Case.load(case)
        arrays = (torch.from_numpy(a) for a in (case.src, case.dst, case.time, case.features))
        self.data = TemporalData(**dict(zip(("src", "dst", "t", "msg"), arrays, strict=True)))
        self.model = Model(case.num_nodes, case.features.shape[1])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.neighbors = LastNeighborLoader(case.num_nodes, NEIGHBORS)
        self.local = torch.empty(case.num_nodes, dtype=torch.long)

    def batches(self, start, stop):
        return TemporalDataLoader(self.data[start:stop], batch_size=self.case.batch_size, neg_sampling_ratio=1.0)

    def predict(self, batch):
        """Logits of the events and of their negatives."""
        nodes, edges, event = self.neighbors(batch.n_id)
        self.local[nodes] = torch.arange(len(nodes))
        z = self.model.embed(nodes, edges, self.data.t[event], self.data.msg[event])
        source, destination, negative = (self.local[x] for x in (batch.src, batch.dst, batch.neg_dst))
        return self.model.logits(z, source, destination), self.model.logits(z, source, negative)

    def enter(self, batch):
        """Let the events of a batch enter memory and neighbors."""
        self.model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        self.neighbors.insert(batch.src, batch.dst)

    def train(self, start, stop):
        """Sum over the events of the mean cross-entropy of an event and its negative, and how many they are."""
        total, events = 0.0, 0
        for batch in self.batches(start, stop):
            self.optimizer.zero_grad()
            true, false = self.predict(batch)
            loss = binary_cross_entropy_with_logits(true, torch.ones_like(true))
            loss = loss + binary_cross_entropy_with_logits(false, torch.zeros_like(false))
            self.enter(batch)
            loss.backward()
            self.optimizer.step()
            self.model.memory.detach()
            total += loss.item() / 2 * len(true)
            events += len(true)
        return total, events

    def round(self):
        self.model.train()
        self.model.memory.reset_state()
        self.neighbors.reset_state()
        self.train(0, self.case.warm_up)
        began = time.perf_counter()
        loss, events = self.train(self.case.warm_up, self.case.train)
        return {"seconds": time.perf_counter() - began, "events": events, "loss": loss / events}

    @torch.no_grad()
    def scores(self):
        self.model.eval()
        torch.manual_seed(0)
        pairs = []
        for batch in self.batches(self.case.train, len(self.case.src)):
            pairs.append(self.predict(batch))
            self.enter(batch)
        return {"ap": average_precision(*(torch.cat(part).numpy() for part in zip(*pairs, strict=True)))}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    run = None

    def start(case):
        nonlocal run
        run = Run(case)
        return {"version": f"torch-geometric {__version__}, torch {torch.__version__}"}

    serve({"start": start, "round": lambda: run.round(), "score": lambda: run.scores()})


if __name__ == "__main__":
    main()
