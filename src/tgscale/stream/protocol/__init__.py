"""Protocols of evaluation by name, one file each."""

from tgscale.stream.protocol import ap, ap_dyglib, ap_pyg, ap_tgl, mrr49, mrr49_optimistic, tgb
from tgscale.stream.protocol.base import EvalProtocol

PROTOCOLS: dict[str, EvalProtocol] = {
    each.PROTOCOL.name: each.PROTOCOL for each in (mrr49, mrr49_optimistic, ap, ap_tgl, ap_pyg, ap_dyglib, tgb)
}
"""What ``--eval.protocol`` takes."""
