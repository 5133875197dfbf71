"""What a training step must move and compute at the least, by phase: arithmetic on shapes, nothing measured."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT, ID = 4, 8  # bytes


@dataclass(frozen=True)
class Shape:
    """A step of the paper's model.

    Attributes:
        events, negatives, neighbors: per batch, per event, per root.
        nodes: rows of the table of distinct nodes.
        stream: events of the stream.
        dim: width of memory, time encoding and embedding.
        features: width of the edge features.
        heads: of the attention.
        parameters: that are trained.
    """

    events: int
    negatives: int
    neighbors: int
    nodes: int
    stream: int
    dim: int
    features: int
    heads: int
    parameters: int

    @property
    def roots(self) -> int:
        return self.events * (2 + self.negatives)

    @property
    def visits(self) -> int:
        return self.roots * self.neighbors

    @property
    def width(self) -> int:
        """Of a neighbor's feature row: state, edge features, time, 1."""
        return 2 * self.dim + self.features + 1


def floor(s: Shape) -> dict[str, tuple[float, float]]:
    """Phase -> bytes that device memory must move, and floating-point operations.

    Each array is read or written once where it is used; weights, and what stays in the caches of one phase, count
    nothing. Searches count the steps of a binary search.
    """
    D, F, H, W = s.dim, s.features, s.heads, s.width
    row = 3 * D * FLOAT + 2 * ID  # memory, mail, and two numbers
    mail = 3 * D + F  # what a node's cell reads: mail, edge features, time
    search = ID * max(1, s.stream.bit_length())
    per_root = 2 * (2 * D * D + H * (D // H) * W * 2 + 2 * D * D)  # query, both absorbed products, output
    forward_attention, backward_attention = 4 * s.visits * H * W, s.visits * H * (4 * W + 4 * D)
    decoder = 2 * (2 * s.roots * D * D + s.events * (1 + s.negatives) * D)
    gathered = s.visits * (D + F) * FLOAT
    by_head = s.roots * H * W * FLOAT
    return {
        "sample": ((s.events + s.roots) * search + s.visits * 6 * ID, 0),
        "distinct nodes": (4 * (s.visits + s.roots) * ID, 0),
        "read memory": (2 * s.nodes * row, 0),
        "absorb mail": (s.nodes * (3 * D + F + 2 * D) * FLOAT, 2 * s.nodes * 3 * D * (mail + D)),
        "embed": (gathered + 3 * by_head, s.roots * per_root + forward_attention),
        "score, loss": (4 * s.roots * D * FLOAT, decoder),
        "backward": (
            2 * gathered + 4 * by_head + s.nodes * (mail + 4 * D) * FLOAT,
            2 * s.nodes * 3 * D * (mail + D) + 2 * s.roots * per_root + backward_attention + 2 * decoder,
        ),
        "write memory": (2 * 2 * s.events * row, 0),
        "optimizer": (7 * s.parameters * FLOAT, 12 * s.parameters),
    }
