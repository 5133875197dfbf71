"""Pair encoding: what a decoder cannot see in two embeddings, namely whether, how often and when these two have met.

And more of what simple rules know: rates, habits, newcomers, direction, ranks, partners in common, transitions, phase,
a group of features each (:mod:`tgscale.nn.pairs`). All of it is over events strictly before the query's time, by binary
search in sorted indices: exact at any query time, with no state to keep and nothing of the future to leak.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.graph.history import History
from tgscale.graph.sampling import Neighbors
from tgscale.graph.search import as_tensor
from tgscale.nn.pairs.direction import DIRECTION
from tgscale.nn.pairs.habits import HABITS
from tgscale.nn.pairs.newcomers import NEWCOMERS
from tgscale.nn.pairs.partners import PARTNERS
from tgscale.nn.pairs.phase import PHASE
from tgscale.nn.pairs.query import Clock, Group, PairQuery
from tgscale.nn.pairs.ranks import RANKS
from tgscale.nn.pairs.rates import RATES
from tgscale.nn.pairs.transitions import TRANSITIONS

MEETING_DIM = 15
"""Features that are always there."""

GROUPS: dict[str, Group] = {
    "rates": RATES,
    "habits": HABITS,
    "newcomers": NEWCOMERS,
    "direction": DIRECTION,
    "ranks": RANKS,
    "partners": PARTNERS,
    "transitions": TRANSITIONS,
    "phase": PHASE,
}
"""Groups of further features, by name."""

DEFAULT_GROUPS: tuple[GroupName, ...] = (
    "rates",
    "habits",
    "newcomers",
    "direction",
    "ranks",
    "partners",
    "transitions",
)
"""All but the phase, which costs most for its size and lifted no stream's MRR clearly."""

GroupName = Literal[
    "rates", "habits", "newcomers", "direction", "ranks", "partners", "transitions", "phase"
]  # as in GROUPS; a type must spell them out

_DAYS = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def pair_dim(groups: Sequence[str]) -> int:
    """Width of the features with these groups.

    Raises:
        ConfigError: an unknown group, or one that stands twice.
    """
    for name in groups:
        if name not in GROUPS:
            raise ConfigError(f"pair group {name!r} is unknown: choose of {', '.join(GROUPS)}.")
    if len(set(groups)) < len(groups):
        raise ConfigError(f"a pair group stands twice in {', '.join(groups)}: name each once.")
    return MEETING_DIM + sum(len(GROUPS[name].names) for name in groups)


class PairEncoder:
    """Computes pair features (no parameters; the decoder's MLP reads them).

    First, always, for source u, candidate v and query time t: have they met; how often; how long ago; how many other
    events u, then v, has had since, and the reciprocals of both (1 = each other's latest partner); share of u's sampled
    places that hold v, then of v's that hold u; whether v was ever seen, how often, how long ago; the same of u.
    Counts and times are log-scaled; times by the span of the stream, so that the unit does not matter.
    Then the columns of each group, in the order given.

    Args:
        history: exact history of the stream.
        event_time: time of each event, ``[E]``, int64.
        span: time from the first to the last event that may be learned from.
        groups: names of further groups (``GROUPS``).

    Raises:
        ConfigError: an unknown group, or one that stands twice.
    """

    def __init__(self, history: History, event_time: Tensor, span: int, groups: Sequence[str] = ()) -> None:
        self.history = history
        self.event_time = event_time
        self.scale = 1 / math.log1p(max(span, 1))
        self.dim = pair_dim(groups)
        self.groups = [GROUPS[name] for name in groups]
        stream = history.stream
        self._clock = Clock(event_time, as_tensor(stream.src, event_time.device), _DAYS.get(stream.time_unit, 0))

    def on(self, history: History) -> PairEncoder:
        """The same features, looked up in another history of the same stream."""
        other = copy.copy(self)
        other.history = history
        return other

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
            ``[B, C, dim]``, float32.
        """
        features = [self._meetings(source, candidate, time, before, neighbors, source_root, candidate_root)]
        query = PairQuery(self.history, self._clock, self.scale, source, candidate, time, before)
        for group in self.groups:
            features.append(group.fast(query) if self.history.backend == "numba" else group.plain(query))
        return torch.cat(features, dim=-1) if self.groups else features[0]

    def _meetings(
        self,
        source: Tensor,
        candidate: Tensor,
        time: Tensor,
        before: Tensor,
        neighbors: Neighbors,
        source_root: Tensor,
        candidate_root: Tensor,
    ) -> Tensor:
        """What is always there, ``[B, C, MEETING_DIM]``."""
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
