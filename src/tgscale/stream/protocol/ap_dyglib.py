"""DyGLib's evaluation: one negative, random, historical or inductive, the mean of the AP of batches."""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol(
    "ap-dyglib",
    "one random, historical or inductive negative edge, mean AP of batches (DyGLib)",
    negatives=1,
    population="destinations",
    whole_edges=True,
    average="batches",
)
