"""A model of one's own in a training loop of one's own, from `tgscale.data`, `tgscale.graph` and `tgscale.nn` alone.

TGAT (arXiv 2002.07962): no memory; a node at a time is embedded by attention over its sampled past events, layer by
layer.

    python examples/own_loop.py [--data DIR] [--epochs 3] [--layers 2]
"""

import argparse

import torch
from torch import Tensor, nn

import tgscale
from tgscale.graph.block import Block
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.decoder import LinkDecoder, link_loss
from tgscale.nn.time_encoding import TimeEncoding


class TGAT(nn.Module):
    """Embeds (node, time) roots of a stream and scores pairs of them."""

    def __init__(self, stream: tgscale.EventStream, dim: int = 32, layers: int = 1, neighbors: int = 10) -> None:
        super().__init__()
        self.sampler = tgscale.NeighborSampler(stream, neighbors)  # strictly before the root's time
        features = stream.edge_features
        table = torch.empty(stream.num_events, 0) if features is None else torch.from_numpy(features.copy())
        self.register_buffer("edge_features", table, persistent=False)
        self.node, self.time = nn.Embedding(stream.num_nodes, dim), TimeEncoding(dim)
        self.layers = nn.ModuleList(
            TemporalAttention(dim, stream.edge_dim, self.time, dim, heads=2, dropout=0.1) for _ in range(layers)
        )
        self.decoder = LinkDecoder(dim)

    def embed(self, node: Tensor, time: Tensor, layer: int) -> Tensor:
        """Embeddings ``[R, dim]`` of roots ``(node, time)``, each ``[R]`` int64, after some layers."""
        if layer == 0:
            return self.node(node)
        (past,) = self.sampler.sample(node, time)  # node, event, time: [R, k]
        absent = past.event < 0
        around = torch.where(absent, node[:, None], past.node)
        when = torch.where(absent, time[:, None], past.time)
        z = self.embed(torch.cat([node, around.flatten()]), torch.cat([time, when.flatten()]), layer - 1)
        row = torch.arange(len(z))
        roots, slot = row[: len(node)], row[len(node) :].view_as(around)
        block = Block(around, roots, roots, slot, past.event, time[:, None] - when)  # rows of z, one per (node, time)
        return self.layers[layer - 1](z, block, self.edge_features)

    def forward(self, src: Tensor, candidates: Tensor, time: Tensor) -> Tensor:
        """Logits ``[B, C]`` of sources ``[B]`` against candidates ``[B, C]``, at times ``[B]``."""
        node = torch.cat([src, candidates.flatten()])
        root = torch.cat([time, time[:, None].expand_as(candidates).flatten()])
        h = self.embed(node, root, len(self.layers))
        row = torch.arange(len(node))
        return self.decoder(h, row[: len(src)], row[len(src) :].view_as(candidates))


def draw(stream: tgscale.EventStream, event: Tensor, negatives: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Source, candidates (the true destination, then random ones) and time of some events."""
    generator = torch.Generator().manual_seed(seed)
    src, dst, time = (
        torch.from_numpy(column[event.numpy()]).long() for column in (stream.src, stream.dst, stream.time)
    )
    known = torch.from_numpy(stream.destinations)
    other = known[torch.randint(len(known), (len(event), negatives), generator=generator)]
    return src, torch.cat([dst[:, None], other], dim=1), time


@torch.no_grad()
def mrr(model: TGAT, stream: tgscale.EventStream, part: str, negatives: int = 49, batch_size: int = 200) -> float:
    """Mean reciprocal rank of the true destinations of ``"val"`` or ``"test"``; ties count half."""
    model.eval()
    found = []
    for event in torch.arange(*stream.split().range(part)).split(batch_size):
        score = model(*draw(stream, event, negatives, seed=int(event[0])))
        true, other = score[:, :1], score[:, 1:]
        found.append(1 / (1 + (other > true).sum(1) + (other == true).sum(1) / 2))
    return float(torch.cat(found).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a data directory with events; a small generated stream unless given")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=1, help="hops that an embedding sees (default 1)")
    args = parser.parse_args()
    torch.manual_seed(0)
    stream = tgscale.open_stream(args.data) if args.data else tgscale.generate_stream(events=3000, nodes=150, seed=0)
    model = TGAT(stream, layers=args.layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(args.epochs):
        model.train()
        for event in torch.arange(*stream.split().range("train")).split(200):
            loss = link_loss(model(*draw(stream, event, negatives=1, seed=epoch * stream.num_events + int(event[0]))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss:.3f}, val MRR {mrr(model, stream, 'val'):.4f}", flush=True)
    print(f"test MRR {mrr(model, stream, 'test'):.4f}")


if __name__ == "__main__":
    main()
