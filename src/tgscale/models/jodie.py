"""JODIE (Kumar, Zhang and Leskovec, KDD 2019, arXiv 1908.01207): an RNN per event, a projection in between.

In the frame that TGN and TGL gave it: one cell for both ends of an event, absorbed from mail, and the decoder of all
models in place of JODIE's distance to a predicted item.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows
from tgscale.models.config import ModelConfig
from tgscale.models.stream_model import Needs, StreamModel
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding
from tgscale.nn.updater import MemoryUpdater


class JODIE(StreamModel):
    """Embeds a root as its node's memory, projected to the root's time. Samples no neighbors."""

    fixed_shapes = True

    @classmethod
    def needs(cls, config: ModelConfig) -> Needs:
        """No neighbors; the time since each root's last event."""
        return Needs(hops=0, elapsed=True)

    def build(self, static: StaticMemory) -> None:
        """An RNN cell and the projection's weights."""
        config, self.static = self.config, static
        self.time = TimeEncoding(config.dim, learned=config.time_encoding == "learned")
        self.updater = MemoryUpdater(config.dim, self.edge_dim, self.time, "rnn")
        self.drift = nn.Linear(1, config.dim, bias=False)
        self.gap: Tensor
        self.register_buffer("gap", torch.tensor(self.time_scale))  # goes with the weights

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """u(t) = tanh(W_1 u(t-) + W_2 i(t-) + W_3 f + W_4 phi(delta_u)) (eq. 1), from mail; ``[U, dim]``."""
        mail_dt = event_time[rows.mail_event.clamp(min=0)] - rows.memory_time
        return self.updater(rows.memory, rows.mail, mail_dt, edge_features, rows.mail_event)

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """u^(t + delta) = (1 + W_p delta) * u(t) (eq. 2), delta = log(1 + elapsed / typical gap); ``[R, dim]``."""
        z = self.with_static(memory, block.nodes).index_select(0, block.roots).index_select(0, block.root_row)
        if elapsed is None:
            return z
        delta = (elapsed.to(z.dtype) / self.gap).log1p()
        return z * (1 + self.drift(delta[:, None]))
