"""DistTGL's evaluation: rank among 49 random destinations, the mean of reciprocal ranks over events."""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol("mrr49", "rank among 49 random destinations, ties counting half", negatives=49)
