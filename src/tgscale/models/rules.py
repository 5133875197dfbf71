"""Rules that need no training, scored beside every model with the same negatives.

They see every event strictly before the query's time, with no batch delay.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tgscale.graph.history import History

Rule = Callable[[History, Tensor, Tensor, Tensor, Tensor], Tensor]


def edgebank(history: History, source: Tensor, candidate: Tensor, time: Tensor, window_start: Tensor) -> Tensor:
    """EdgeBank with unlimited memory (Poursafaei et al. 2022): 1 if the pair has ever met, else 0; ``[Q]``."""
    return (history.pair(source, candidate, time)[0] > 0).double()


def edgebank_window(history: History, source: Tensor, candidate: Tensor, time: Tensor, window_start: Tensor) -> Tensor:
    """EdgeBank with a time window: 1 if the pair's last meeting is event ``window_start`` or later, else 0; ``[Q]``."""
    return (history.pair(source, candidate, time)[1] >= window_start).double()


def recency(history: History, source: Tensor, candidate: Tensor, time: Tensor, window_start: Tensor) -> Tensor:
    """Pairs that met before those that did not; within each, the latest first (pair, then candidate seen); ``[Q]``."""
    met = history.pair(source, candidate, time)[1]
    seen = history.node(candidate, time)[1]
    return torch.where(met >= 0, met + history.stream.num_events, seen).double()


def popularity(history: History, source: Tensor, candidate: Tensor, time: Tensor, window_start: Tensor) -> Tensor:
    """How many events the candidate has had, ``[Q]``."""
    return history.node(candidate, time)[0].double()


RULES: dict[str, Rule] = {
    "edgebank": edgebank,
    "edgebank_window": edgebank_window,
    "recency": recency,
    "popularity": popularity,
}
"""Each takes (history, source, candidate, time, first event of the window), columns ``[Q]``, to scores ``[Q]``."""
