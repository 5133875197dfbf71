"""What was there before, against plain Python over lists of edges."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.task.history import PAIR_DIM, RULES, PairHistory

NODES, STEPS = 5, 6
EDGE = st.tuples(st.integers(0, STEPS - 1), st.integers(0, NODES - 1), st.integers(0, NODES - 1))


def sequence_of(edges) -> SnapshotSequence:
    step, src, dst = (np.array(column) for column in zip(*edges, strict=True))
    return SnapshotSequence.from_arrays(step, src, dst, num_nodes=NODES, num_steps=STEPS)


@settings(max_examples=60, deadline=None)
@given(st.lists(EDGE, min_size=1, max_size=30), st.integers(0, STEPS))
def test_pairs_and_destinations_before_a_step(edges, step):
    history, distinct = PairHistory(sequence_of(edges)), set(edges)
    u, v = (each.reshape(-1) for each in torch.meshgrid(torch.arange(NODES), torch.arange(NODES), indexing="ij"))
    count, last = history.met(u, v, step)
    seen, seen_last = history.destinations.before(v, step)
    for k, (a, b) in enumerate(zip(u.tolist(), v.tolist(), strict=True)):
        met = [t for t, s, d in distinct if {s, d} == {a, b} and t < step]
        into = [t for t, s, d in distinct if d == b and t < step]
        assert (count[k], last[k]) == (len(met), max(met, default=-1))
        assert (seen[k], seen_last[k]) == (len(into), max(into, default=-1))


def test_features_and_rules_on_a_literal_case():
    history = PairHistory(sequence_of([(0, 0, 1), (2, 1, 0), (3, 0, 2)]))
    u, v = torch.tensor([0]), torch.tensor([[1, 2, 3]])
    found = history.features(u, v, 3)
    assert found.shape == (1, 3, PAIR_DIM)
    # Pair (0, 1): met twice, last in the latest snapshot; 1 was a destination once, three steps ago.
    log = torch.tensor([1.0, 2.0]).log1p() * 0.2
    torch.testing.assert_close(found[0, 0], torch.tensor([1, log[1], 1, 1, 1, log[0], 1 / 3, 0]))
    assert found[0, 1].abs().sum() == 0  # (0, 2) meet at step 3 alone, which is not before it
    later = {name: rule(history, u.expand(3), v[0], 4).tolist() for name, rule in RULES.items()}
    assert later["edgebank"] == [1, 1, 0]
    assert later["latest"] == [0, 1, 0]
    assert later["popularity"] == [1, 1, 0]
    assert later["recency"][1] > later["recency"][0] > later["recency"][2]
