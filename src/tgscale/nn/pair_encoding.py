"""Pair encoding: what a decoder cannot see in two embeddings, namely whether, how often and when these two have met.

All counts are over events strictly before the query's time, by binary search in sorted indices: exact at any query
time, with no state to keep and nothing of the future to leak.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tgscale.graph.history import History
from tgscale.graph.sampling import Neighbors

PAIR_DIM = 15


class PairEncoder:
    """Computes pair features (no parameters; the decoder's MLP reads them).

    For source u, candidate v and query time t, in this order: have they met; how often; how long ago; how many other
    events u, then v, has had since, and the reciprocals of both (1 = each other's latest partner); share of u's sampled
    places that hold v, then of v's that hold u; whether v was ever seen, how often, how long ago; the same of u.
    Counts and times are log-scaled; times by the span of the stream, so that the unit does not matter.

    Args:
        history: exact history of the stream.
        event_time: time of each event, ``[E]``, int64.
        span: time from the first to the last event that may be learned from.
    """

    def __init__(self, history: History, event_time: Tensor, span: int) -> None:
        self.history = history
        self.event_time = event_time
        self.scale = 1 / math.log1p(max(span, 1))

    def __call__(
        self,
        source: Tensor,
        candidate: Tensor,
        time: Tensor,
        before: Tensor,
        neighbors: Neighbors,
        source_root: Tensor,
        candidate_root: Tensor,
    ) -> Tensor:
        """Features of each source against its candidates.

        Args:
            source: ``[B]`` nodes; candidate: ``[B, C]`` nodes; time: ``[B]`` query times.
            before: number of events strictly before each time, ``[B]``.
            neighbors: sampled past of all roots.
            source_root, candidate_root: root (row of ``neighbors``) of each, ``[B]`` and ``[B, C]``.

        Returns:
            ``[B, C, PAIR_DIM]``, float32.
        """
        B, C = candidate.shape
        u, v = source[:, None].expand(B, C).reshape(-1), candidate.reshape(-1)
        t, bound = time[:, None].expand(B, C).reshape(-1), before[:, None].expand(B, C).reshape(-1)
        met, met_last = self.history.pair(u, v, t, before=bound)
        v_count, v_last = self.history.node(v, t, before=bound)
        u_count, u_last = self.history.node(source, time, before=before)
        u_age = self.history.age(u, met_last, t, before=bound)
        v_age = self.history.age(v, met_last, t, before=bound)
        wide = [
            (met > 0).float(),
            _log(met),
            self._gap(t, met_last),
            _log(u_age),
            _log(v_age),
            _reciprocal(u_age),
            _reciprocal(v_age),
            self._share(neighbors, source_root, candidate).flatten(),
            self._share(neighbors, candidate_root.flatten(), source[:, None].expand(B, C).reshape(-1, 1)).flatten(),
            (v_count > 0).float(),
            _log(v_count),
            self._gap(t, v_last),
        ]
        narrow = torch.stack([(u_count > 0).float(), _log(u_count), self._gap(time, u_last)], dim=-1)
        features = torch.stack(wide, dim=-1).view(B, C, len(wide))
        return torch.cat([features, narrow[:, None].expand(B, C, 3)], dim=-1)

    def _gap(self, time: Tensor, event: Tensor) -> Tensor:
        """Log-scaled time since an event; 1 (as long as the stream) where there is none."""
        gap = (time - self.event_time[event.clamp(min=0)]).float().log1p() * self.scale
        return torch.where(event >= 0, gap, 1.0)

    @staticmethod
    def _share(neighbors: Neighbors, root: Tensor, partner: Tensor) -> Tensor:
        """Share of each root's sampled neighbors that are ``partner``, ``[roots, C]``."""
        node = neighbors.node.masked_fill(neighbors.event < 0, -1)[root]  # [roots, k]
        return (node[:, None, :] == partner[:, :, None]).float().mean(-1)


def _log(count: Tensor) -> Tensor:
    return count.clamp(min=0).float().log1p() * 0.2


def _reciprocal(age: Tensor) -> Tensor:
    return torch.where(age >= 0, 1 / (1 + age.float()), 0.0)
