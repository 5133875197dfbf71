"""PyTorch Geometric's evaluation (examples/tgn.py): one negative from an id range, the mean of the AP of batches.

``TemporalDataLoader`` draws from the lowest to the highest destination id of the part that it loads, with every id
between, whether or not a node of that id is ever a destination.
"""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol(
    "ap-pyg",
    "one negative from the range of destination ids, mean AP of batches (PyG)",
    negatives=1,
    population="range",
    average="batches",
)
