"""Negatives that the event's source knows, against sets that are built as TGB's generator builds them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.stream.protocol.first_meetings import FirstMeetings
from tgscale.stream.protocol.source_negatives import SourceNegatives

TRAIN = 90


def random_stream(seed, times=50) -> EventStream:
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, 5, 130), 5 + rng.integers(0, 12, 130) ** 2 // 12
    return EventStream.from_arrays(src, dst, np.sort(rng.integers(0, times, 130)), num_nodes=20)


def sampler(stream, kind, count, share, seed=0, nodes=range(5, 17)):
    meetings = FirstMeetings(stream)
    return SourceNegatives(stream, meetings, torch.tensor(list(nodes)), "range", kind, TRAIN, count, share, seed)


def reference_sets(stream, kind, event):
    """Known destinations that may be drawn, and those that may not fill up."""
    s, t = stream.src[event], stream.time[event]
    met = {
        p: set(stream.dst[:e][stream.src[:e] == s].tolist()) for p, e in (("train", TRAIN), ("past", _bound(stream, t)))
    }
    present = set(stream.dst[(stream.src == s) & (stream.time == t)].tolist())
    if kind == "historical":
        return met["train"] - present, met["train"] | present
    return met["past"] - met["train"] - present, met["past"] | met["train"] | present


def _bound(stream, time):
    return int(np.searchsorted(stream.time, time))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from(["historical", "inductive"]), st.integers(1, 14),
    st.sampled_from([0.0, 0.5, 1.0]), st.integers(3, 80),
)  # fmt: skip
def test_known_destinations_first_and_others_to_fill_up(seed, kind, count, share, times):
    stream = random_stream(seed, times)
    event = torch.arange(TRAIN, stream.num_events)
    drawn = sampler(stream, kind, count, share).draw(event)
    assert drawn.source is None
    for row, e in enumerate(event.tolist()):
        node = drawn.node[row][drawn.there[row]].tolist()
        assert drawn.there[row].tolist() == [True] * len(node) + [False] * (count - len(node))
        known, away = reference_sets(stream, kind, e)
        expected = min(int(count * share), len(known))
        free = set(range(5, 17)) - away
        assert len(set(node)) == len(node) == expected + min(count - expected, len(free))
        assert set(node[:expected]) <= known
        assert set(node[expected:]) <= free


def test_an_event_has_the_same_negatives_in_any_batch():
    stream = random_stream(2)
    negatives = sampler(stream, "historical", 6, 0.5)
    whole = negatives.draw(torch.arange(90, 130))
    part = negatives.draw(torch.arange(100, 107))
    assert torch.equal(part.node[part.there], whole.node[10:17][whole.there[10:17]])
    other = sampler(stream, "historical", 6, 0.5, seed=1).draw(torch.arange(90, 130))
    assert not torch.equal(other.node, whole.node)


def test_known_destinations_are_drawn_equally_often():
    stream = random_stream(7, times=1000)
    known = reference_sets(stream, "historical", 100)[0]
    seen = dict.fromkeys(known, 0)
    for seed in range(800):
        for node in sampler(stream, "historical", 4, 0.5, seed).draw(torch.tensor([100])).node[0, :2].tolist():
            seen[node] += 1
    expected = 800 * 2 / len(known)
    assert len(known) > 4
    assert all(abs(count - expected) < 5 * expected**0.5 for count in seen.values())
