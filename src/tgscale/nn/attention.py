"""Temporal attention of (node, time) roots over their sampled past events, with absorbed projections."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.graph.block import Block
from tgscale.nn.gather_attention import gather_attention
from tgscale.nn.linear import linear
from tgscale.nn.per_head import per_head_product
from tgscale.nn.residual_norm import dropout_mask, residual_norm
from tgscale.nn.time_encoding import TimeEncoding


class TemporalAttention(nn.Module):
    r"""One layer of temporal attention (TGAT eq. 4-8; constants of DistTGL).

    .. math::
        q &= W_q [z_r \| \phi(0)], \quad k_j = W_k [z_j \| e_j \| \phi(t - t_j)], \quad v_j = W_v [\dots] \\
        h_r &= \mathrm{LayerNorm}(\mathrm{ReLU}(\mathrm{dropout}(
              W_o [\textstyle\sum_j \mathrm{softmax}_j(\sigma(q \cdot k_j)) v_j \| z_r])))

    with :math:`\sigma` = LeakyReLU(0.2) (``score="leaky_relu"``, DistTGL's code) or division by the square root of the
    head's width (``score="scaled"``, the usual form).

    :meth:`forward` never forms a key or a value. It projects the query into feature space, ``q W_k``, aggregates raw
    features with the attention weights and applies ``W_v`` to the sum: exact in real arithmetic, and
    ``roots x heads x F`` work in place of ``roots x neighbors x F x dim``. The query depends on the root's node alone,
    so it is projected once per node, not per root. :meth:`reference` is the textbook order of operations.

    Args:
        node_dim, edge_dim: width of node states ``z`` and of edge features (0 for none).
        time: the time encoding, shared with the rest of the model.
        out_dim: width of the embedding; a multiple of ``heads``.
        heads: number of attention heads.
        dropout: on attention weights and on the output projection.
        score: ``"leaky_relu"`` or ``"scaled"``.
    """

    def __init__(
        self,
        node_dim: int,
        edge_dim: int,
        time: TimeEncoding,
        out_dim: int,
        heads: int = 2,
        dropout: float = 0.2,
        score: str = "leaky_relu",
    ) -> None:
        super().__init__()
        self.node_dim, self.out_dim, self.heads, self.dropout = node_dim, out_dim, heads, dropout
        self.head_dim = out_dim // heads
        self.scale, self.slope = (1.0, 0.2) if score == "leaky_relu" else (1 / math.sqrt(self.head_dim), 1.0)
        self.time = time
        self.w_query = nn.Linear(node_dim + time.dim, out_dim)
        self.w_key = nn.Linear(node_dim + edge_dim + time.dim, out_dim)
        self.w_value = nn.Linear(node_dim + edge_dim + time.dim, out_dim)
        self.w_out = nn.Linear(out_dim + node_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, z: Tensor, block: Block, edge_features: Tensor) -> Tensor:
        """Embed the block's roots.

        Args:
            z: state of the block's unique nodes, ``[U, node_dim]``.
            block: roots and their sampled past.
            edge_features: by event id, ``[E, edge_dim]``.

        Returns:
            ``[R, out_dim]``.
        """
        own = z.index_select(0, block.roots)  # [Q, D]: one row per distinct root node; z[...] is slow backward
        query = per_head_product(self._query(own), self._by_head(self.w_key))
        out = gather_attention(
            query,
            block.root_row,
            z,
            block.slot,
            block.event,
            edge_features,
            block.dt,
            self.time.omega,
            self.time.bias,
            self._keep(block.slot, z.dtype),
            self.slope,
        )
        value = per_head_product(out, self._by_head(self.w_value).transpose(1, 2)).flatten(1)
        w_value, w_own = self.w_out.weight.split([self.out_dim, self.node_dim], dim=1)
        own_part = linear(own, w_own, self.w_out.bias)
        return self._finish(linear(value, w_value), own_part, block.root_row)

    def reference(self, z: Tensor, block: Block, edge_features: Tensor, keep: Tensor | None = None) -> Tensor:
        """The same, ``[R, out_dim]``, in the order in which the equations are written. Slow; for tests."""
        own = z[block.roots]
        query = self._query(own)[block.root_row]  # [R, H, dim / H]
        phi = self.time(block.dt)
        x = torch.cat([z[block.slot], edge_features[block.event.clamp(min=0)].to(z.dtype), phi], dim=-1)
        key = self.w_key(x).unflatten(-1, (self.heads, -1))  # [R, k, H, dim / H]
        value = self.w_value(x).unflatten(-1, (self.heads, -1))
        absent = (block.event < 0)[:, :, None]
        score = F.leaky_relu(torch.einsum("rhd,rjhd->rjh", query, key), self.slope)
        weight = torch.softmax(score.masked_fill(absent, -torch.inf), dim=1).masked_fill(absent, 0)
        if keep is not None:
            weight = weight * keep.transpose(1, 2)
        value = torch.einsum("rjh,rjhd->rhd", weight, value).flatten(1)
        h = self.w_out(torch.cat([value, own[block.root_row]], dim=1))
        return self.norm(F.relu(F.dropout(h, self.dropout, self.training)))

    def _query(self, own: Tensor) -> Tensor:
        w_node, w_time = self.w_query.weight.split([self.node_dim, self.time.dim], dim=1)
        phi_0 = torch.cos(self.time.bias)
        query = linear(own, w_node, self.w_query.bias + F.linear(phi_0, w_time))
        return (query * self.scale).unflatten(1, (self.heads, self.head_dim))

    def _by_head(self, linear: nn.Linear) -> Tensor:
        """Weight and bias as ``[heads, head_dim, in + 1]``: the bias belongs to the kernel's constant feature."""
        weight = torch.cat([linear.weight, linear.bias[:, None]], dim=1)
        return weight.unflatten(0, (self.heads, self.head_dim))

    def _keep(self, slot: Tensor, dtype: torch.dtype) -> Tensor | None:
        return self._mask(slot.shape[0], self.heads, slot.shape[1], dtype=dtype, device=slot.device)

    def _mask(self, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """Multipliers of dropout, or None where nothing is dropped."""
        if not self.training or self.dropout == 0:
            return None
        if device.type == "cpu" and dtype != torch.bfloat16 and not torch.compiler.is_compiling():
            return dropout_mask(*shape, p=self.dropout, dtype=dtype)
        return torch.empty(shape, dtype=dtype, device=device).bernoulli_(1 - self.dropout).div_(1 - self.dropout)

    def _finish(self, y: Tensor, own: Tensor, row: Tensor) -> Tensor:
        keep = self._mask(*y.shape, dtype=y.dtype, device=y.device)
        return residual_norm(y, own, row, keep, self.norm.weight, self.norm.bias, self.norm.eps)
