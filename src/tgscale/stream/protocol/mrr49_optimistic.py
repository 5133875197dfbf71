"""DistTGL's evaluation with its own rule for ties: rank = 1 + the number of negatives with a higher score.

For comparison only: a model that gives every candidate the same score has an MRR of 1.
"""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol(
    "mrr49-optimistic", "rank among 49 random destinations, ties counting as won (DistTGL)", 49, ties="optimistic"
)
