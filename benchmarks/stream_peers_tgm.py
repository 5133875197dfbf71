"""TGM's side of ``stream_peers.py``, in its own interpreter; needs that library (``tgm-lib``) and torch.

Its TGN as its example puts it together: batches by ``DGDataLoader``; negatives, recent neighbors and distinct nodes
by hooks; ``TGNMemory``, one attention over edges, its ``LinkPredictor``. As there, edges lead from a root to its
neighbors.
"""

import sys
import time
from itertools import pairwise

import torch
from stream_peers_case import DIM, NEIGHBORS, RATE, Case, average_precision
from tgm import DGraph, __version__
from tgm.constants import PADDED_NODE_ID
from tgm.data import DGData, DGDataLoader
from tgm.hooks import DeduplicationHook, HookManager, NegativeEdgeSamplerHook, RecencyNeighborHook
from tgm.nn import LinkPredictor, TGNMemory
from tgm.nn.encoder.tgn import GraphAttentionEmbedding, IdentityMessage, LastAggregator
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from worker import serve

KEY = "all"


class Run:
    """The model, its optimiser, the events and the hooks."""

    def __init__(self, case):
        torch.manual_seed(0)
        self.case = case = Case.load(case)
        width = case.features.shape[1]
        borders = [0, case.warm_up, case.train, len(case.src)]
        self.warm_up, self.timed, self.scored = (self.make_graph(*pair) for pair in pairwise(borders))
        memory = TGNMemory(case.num_nodes, width, DIM, DIM, IdentityMessage(width, DIM, DIM), LastAggregator())
        encoder = GraphAttentionEmbedding(DIM, DIM, width, memory.time_enc)
        decoder = LinkPredictor(node_dim=DIM, hidden_dim=DIM)
        self.model = nn.ModuleDict({"memory": memory, "encoder": encoder, "decoder": decoder})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.hooks = self.make_hooks()

    def make_graph(self, start, stop):
        """Some of the events as a graph of their own: a loader would take a slice of one to begin at event 0."""
        case, part = self.case, slice(start, stop)
        ends = torch.stack([torch.from_numpy(case.src[part]), torch.from_numpy(case.dst[part])], dim=1).int()
        when, features = torch.from_numpy(case.time[part]), torch.from_numpy(case.features[part])
        return DGraph(DGData.from_raw(edge_time=when, edge_index=ends, edge_x=features, time_delta="s"))

    def make_hooks(self):
        hooks, case = HookManager(keys=[KEY]), self.case
        roots = ["edge_src", "edge_dst", "neg"]
        hooks.register(KEY, NegativeEdgeSamplerHook(low=int(case.dst.min()), high=int(case.dst.max()) + 1))
        hooks.register_shared(
            RecencyNeighborHook(
                num_nodes=case.num_nodes,
                num_nbrs=[NEIGHBORS],
                seed_nodes_keys=roots,
                seed_times_keys=["edge_time", "edge_time", "neg_time"],
            )
        )
        hooks.register_shared(DeduplicationHook())
        return hooks

    def batches(self, graph):
        return DGDataLoader(graph, self.case.batch_size, hook_manager=self.hooks)

    def predict(self, batch):
        """Logits of the events and of their negatives."""
        model, local = self.model, batch.global_to_local
        neighbors = batch.nbr_nids[0]
        there = neighbors != PADDED_NODE_ID
        roots = torch.cat([batch.edge_src, batch.edge_dst, batch.neg])[:, None].expand_as(neighbors)
        edges = torch.stack([local(roots[there]), local(neighbors[there])]).long()
        z, last_update = model["memory"](batch.unique_nids)
        z = model["encoder"](z, last_update, edges, batch.nbr_edge_time[0][there], batch.nbr_edge_x[0][there])
        source, destination, negative = (z[local(x)] for x in (batch.edge_src, batch.edge_dst, batch.neg))
        return model["decoder"](source, destination), model["decoder"](source, negative)

    def enter(self, batch):
        """Let the events of a batch enter the memory; the hook of the neighbors has taken them in already."""
        self.model["memory"].update_state(batch.edge_src, batch.edge_dst, batch.edge_time, batch.edge_x)

    def train(self, graph):
        """Sum over the events of the mean cross-entropy of an event and its negative, and how many they are."""
        total, events = 0.0, 0
        with self.hooks.activate(KEY):
            for batch in self.batches(graph):
                self.optimizer.zero_grad()
                true, false = self.predict(batch)
                loss = binary_cross_entropy_with_logits(true, torch.ones_like(true))
                loss = loss + binary_cross_entropy_with_logits(false, torch.zeros_like(false))
                self.enter(batch)
                loss.backward()
                self.optimizer.step()
                self.model["memory"].detach()
                total += loss.item() / 2 * len(true)
                events += len(true)
        return total, events

    def round(self):
        self.model.train()
        self.model["memory"].reset_state()
        self.hooks.reset_state()
        self.train(self.warm_up)
        began = time.perf_counter()
        loss, events = self.train(self.timed)
        return {"seconds": time.perf_counter() - began, "events": events, "loss": loss / events}

    @torch.no_grad()
    def scores(self):
        self.model.eval()
        torch.manual_seed(0)
        pairs = []
        with self.hooks.activate(KEY):
            for batch in self.batches(self.scored):
                pairs.append(self.predict(batch))
                self.enter(batch)
        return {"ap": average_precision(*(torch.cat(part).numpy() for part in zip(*pairs, strict=True)))}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    run = None

    def start(case):
        nonlocal run
        run = Run(case)
        return {"version": f"tgm-lib {__version__}, torch {torch.__version__}"}

    serve({"start": start, "round": lambda: run.round(), "score": lambda: run.scores()})


if __name__ == "__main__":
    main()
