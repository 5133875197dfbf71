"""Uniform draws from a list of nodes by a counter: the same whatever the batch, the order or the device."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.graph.hashing import GOLDEN, mix_tensor, seed_key_tensor, signed


def draw_nodes(
    nodes: Tensor, identity: Tensor, count: int, seed: int | Tensor, other_than: Tensor | None = None
) -> Tensor:
    """Draws with replacement.

    Args:
        nodes: the population, sorted, ``[P]``, int64; at least two where ``other_than`` is given.
        identity: a number for each row of draws, ``[B]``, int64.
        count: draws per row.
        seed: draws with another seed are independent. Or its key, as ``seed_key_tensor`` makes it, on the device: a
            captured CUDA graph sees it change.
        other_than: a node per row that is not drawn, ``[B]``.

    Returns:
        ``[B, count]``, int64.
    """
    slot = torch.arange(count, device=identity.device)
    seed_key = seed if isinstance(seed, Tensor) else seed_key_tensor(seed, identity.device)
    key = mix_tensor(seed_key ^ identity)
    bits = mix_tensor(key[:, None] + slot * signed(GOLDEN)) & 0x7FFFFFFFFFFFFFFF
    if other_than is None:
        return nodes[bits % len(nodes)]
    place = torch.searchsorted(nodes, other_than).clamp(max=len(nodes) - 1)
    there = nodes[place] == other_than
    index = bits % (len(nodes) - there.long())[:, None]
    return nodes[index + (there[:, None] & (index >= place[:, None]))]  # step over that node
