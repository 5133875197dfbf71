"""Every rule on a stream small enough to do by hand."""

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream
from tgscale.graph.history import History
from tgscale.models.rules import RULES

#                0  1  2  3  4  5   event
SRC = np.array([0, 0, 1, 0, 2, 2])
DST = np.array([3, 4, 3, 3, 2, 4])
TIME = np.array([1, 2, 3, 5, 6, 8])


def scores(rule, source, candidates, time, window_start=0):
    history = History(EventStream.from_arrays(SRC, DST, TIME, num_nodes=6))
    Q = len(candidates)
    columns = (torch.full((Q,), source), torch.tensor(candidates), torch.full((Q,), time))
    return RULES[rule](history, *columns, torch.full((Q,), window_start)).tolist()


def test_edgebank_remembers_every_pair_before_the_time():
    assert scores("edgebank", 0, [3, 4, 5], time=10) == [1, 1, 0]
    assert scores("edgebank", 0, [3, 4], time=2) == [1, 0]  # the event at time 2 is not past
    assert scores("edgebank", 3, [0, 1, 2], time=10) == [1, 1, 0]  # in either direction
    assert scores("edgebank", 2, [2], time=10) == [1]  # a self-loop


@pytest.mark.parametrize(("window_start", "expected"), [(1, [1, 1]), (2, [1, 0]), (3, [1, 0]), (4, [0, 0])])
def test_edgebank_window_counts_the_last_meeting(window_start, expected):
    assert scores("edgebank_window", 0, [3, 4], time=10, window_start=window_start) == expected


def test_recency_ranks_met_before_seen_before_never():
    # Source 0 met 3 last in event 3 and 4 in event 1; 2 was last seen in event 5; 5 never.
    assert scores("recency", 0, [3, 4, 2, 5], time=10) == [6 + 3, 6 + 1, 5, -1]
    assert scores("recency", 0, [3, 4, 2, 5], time=3) == [6 + 0, 6 + 1, -1, -1]


def test_popularity_counts_events():
    assert scores("popularity", 1, [3, 4, 2, 5], time=10) == [3, 2, 2, 0]
