"""One negative per event; average precision and AUC over all events of the part at once."""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol("ap", "one negative per event, AP over all events", negatives=1, whole_edges=True)
