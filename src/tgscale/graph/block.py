"""A block: the roots to embed, their sampled past, and the distinct nodes whose state that takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgscale.graph.sampling import Neighbors
from tgscale.graph.unique import Compactor


@dataclass
class Block:
    """One hop of sampled past, addressed by rows of a table of distinct nodes.

    Attributes:
        nodes: distinct nodes among roots and neighbors, ``[U]``, int64.
        roots: rows of ``nodes`` that are roots, each once, ``[Q]``, int64.
        root_row: row of ``roots`` of each root, ``[R]``, int64.
        slot: row of ``nodes`` of each neighbor, ``[R, k]``, int64 (the root's own where there is none).
        event: its event id, ``[R, k]``, int64; -1 where there is none, at the end of a row.
        dt: root time minus event time, ``[R, k]``, int64.
        time: root time, ``[R]``, int64; None where it was not asked for.
        below: the next hop, whose roots are the rows of ``nodes``: (node, time) pairs, so that a node may be in there
            several times. None where this is the last hop.
    """

    nodes: Tensor
    roots: Tensor
    root_row: Tensor
    slot: Tensor
    event: Tensor
    dt: Tensor
    time: Tensor | None = None
    below: Block | None = None


def build_block(node: Tensor, time: Tensor, neighbors: Neighbors, compactor: Compactor) -> Block:
    """Address roots ``(node, time)``, each ``[R]``, and their sampled neighbors by distinct node."""
    absent = neighbors.event < 0
    # An absent neighbor stands as the root itself, so that it brings no node into the block.
    around = torch.where(absent, node[:, None], neighbors.node)
    nodes, row = compactor(torch.cat([node, around.flatten()]))
    roots, root_row = compactor(row[: len(node)])
    return Block(
        nodes=nodes,
        roots=roots,
        root_row=root_row,
        slot=row[len(node) :].view_as(around),
        event=neighbors.event,
        dt=(time[:, None] - neighbors.time).masked_fill(absent, 0),
    )
