import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.stream.task.past_labels import PastEvents


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=40), st.integers(1, 5))
def test_it_finds_what_a_plain_search_finds(events, count):
    key = torch.tensor([k for k, _ in events])
    time = torch.tensor(sorted(t for _, t in events))
    found = PastEvents(key, time).latest(torch.arange(len(key)), count)
    for e in range(len(key)):
        past = [p for p in range(len(key)) if key[p] == key[e] and time[p] < time[e]]
        latest = past[::-1][:count]
        assert found[e].tolist() == latest + [-1] * (count - len(latest))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_events_that_are_not_known_are_passed_over_and_have_a_past_themselves(events):
    key, known = torch.tensor([k for k, _, _ in events]), torch.tensor([told for _, _, told in events])
    time = torch.tensor(sorted(t for _, t, _ in events))
    known[0] = True
    found = PastEvents(key, time, known=known).latest(torch.arange(len(key)), 3)
    for e in range(len(key)):
        past = [p for p in range(len(key)) if key[p] == key[e] and time[p] < time[e] and known[p]]
        latest = past[::-1][:3]
        assert found[e].tolist() == latest + [-1] * (3 - len(latest))


def test_any_events_in_any_order():
    rng = np.random.default_rng(0)
    key, time = torch.from_numpy(rng.integers(0, 9, 200)), torch.from_numpy(np.sort(rng.integers(0, 50, 200)))
    past = PastEvents(key, time)
    some = torch.tensor([150, 3, 150, 0])
    assert torch.equal(past.latest(some, 4), past.latest(torch.arange(200), 4)[some])
