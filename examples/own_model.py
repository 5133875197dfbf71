"""A model of one's own in the engine: 50 lines of equations, and every option, layout and task of tgscale is there.

Each node has a memory, as in TGN; a root is its own memory beside the mean of its sampled past.

    python examples/own_model.py train --data data/mine --run runs/mean --model mean
    python examples/own_model.py evaluate runs/mean
"""

import torch
from torch import Tensor, nn

from tgscale.cli import main
from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows
from tgscale.models.stream_model import StreamModel
from tgscale.models.stream_models import register
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding
from tgscale.nn.updater import MemoryUpdater


class MeanOfPast(StreamModel):
    """h = ReLU(W [s || mean_j (s_j || e_j || phi(t - t_j))])"""

    fixed_shapes = True  # no shape depends on the data, so that the step may be captured on a GPU

    def build(self, static: StaticMemory) -> None:
        dim = self.config.dim
        self.static = static
        self.time = TimeEncoding(dim)
        self.updater = MemoryUpdater(dim, self.edge_dim, self.time)
        self.out = nn.Linear(3 * dim + self.edge_dim, dim)

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """Memory ``[U, dim]`` of the batch's nodes, with their mail absorbed."""
        mail_dt = event_time[rows.mail_event.clamp(min=0)] - rows.memory_time
        return self.updater(rows.memory, rows.mail, mail_dt, edge_features, rows.mail_event)

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Embeddings ``[R, dim]`` of the roots, from the memory of the block's nodes."""
        s = self.with_static(memory, block.nodes)
        there = (block.event >= 0)[:, :, None]  # [R, k, 1]
        features = edge_features[block.event.clamp(min=0)].to(s.dtype)
        past = torch.cat([s[block.slot], features, self.time(block.dt)], dim=-1) * there
        mean = past.sum(dim=1) / there.sum(dim=1).clamp(min=1)
        return torch.relu(self.out(torch.cat([s[block.roots][block.root_row], mean], dim=1)))


register("mean", MeanOfPast)

if __name__ == "__main__":
    main()
