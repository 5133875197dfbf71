"""Pair features of one query, against a history done by hand."""

from math import log1p

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.nn.pair_encoding import MEETING_DIM, PairEncoder

#                0  1  2  3  4  5   event
SRC = np.array([0, 0, 1, 0, 2, 0])
DST = np.array([3, 4, 3, 3, 4, 4])
TIME = np.array([1, 2, 3, 5, 6, 8])
SPAN = 7
LONG = log1p(SPAN)


def features(source, candidates, time):
    stream = EventStream.from_arrays(SRC, DST, TIME, num_nodes=6)
    encoder = PairEncoder(History(stream), torch.from_numpy(stream.time), SPAN)
    node = torch.tensor([source, *candidates])
    (neighbors,) = NeighborSampler(stream, 4).sample(node, torch.full((len(node),), time))
    query = torch.tensor([time])
    before = torch.searchsorted(torch.from_numpy(stream.time), query)
    rows = torch.arange(1, len(node))[None]
    out = encoder(node[:1], node[1:][None], query, before, neighbors, torch.tensor([0]), rows)
    assert out.shape == (1, len(candidates), MEETING_DIM)
    return out[0].tolist()


def test_a_pair_that_has_met():
    # Query (0, 3) at 7: they met in events 0 and 3, last at time 5. Before 7, node 0 had events 0, 1, 3 and node 3 had
    # 0, 2, 3; neither had one since event 3.
    (row,) = features(0, [3], 7)
    expected = [1, 0.2 * log1p(2), log1p(2) / LONG, 0, 0, 1, 1, 2 / 4, 2 / 4, 1, 0.2 * log1p(3), log1p(2) / LONG]
    assert row == pytest.approx([*expected, 1, 0.2 * log1p(3), log1p(2) / LONG])


def test_a_pair_with_events_since():
    # Query (0, 4) at 7: met in event 1 at time 2; since then node 0 had event 3 and node 4 event 4.
    (row,) = features(0, [4], 7)
    expected = [1, 0.2 * log1p(1), log1p(5) / LONG, 0.2 * log1p(1), 0.2 * log1p(1), 1 / 2, 1 / 2, 1 / 4, 1 / 4]
    assert row[:9] == pytest.approx(expected)


def test_a_pair_and_a_candidate_never_seen():
    (row,) = features(0, [5], 7)
    assert row == pytest.approx([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0.2 * log1p(3), log1p(2) / LONG])


def test_the_event_at_the_query_time_is_not_seen():
    assert features(0, [4], 8)[0][1] == pytest.approx(0.2 * log1p(1))  # event 5 is at time 8
    assert features(0, [4], 9)[0][1] == pytest.approx(0.2 * log1p(2))
