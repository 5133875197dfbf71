"""TGL's evaluation (``eval`` of its train.py): one negative from all nodes, the mean of the AP of batches.

Batches are those of the whole stream: event e is in batch ``e // batch_size``. The event's own ends may be drawn.
"""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol(
    "ap-tgl",
    "one negative from all nodes, mean AP of batches (TGL)",
    negatives=1,
    population="all",
    whole_edges=True,
    average="batches",
    aligned=True,
)
