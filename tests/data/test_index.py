import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.index import build_pair_index, build_tcsr

ends = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


def columns(pairs):
    src, dst = np.array(pairs, np.int64).T
    return src, dst


@settings(deadline=None)
@given(pairs=ends)
def test_tcsr_equals_brute_force(pairs):
    src, dst = columns(pairs)
    tcsr = build_tcsr(src, dst, 9)
    assert tcsr.indptr[0] == 0
    assert tcsr.indptr[-1] == len(tcsr.neighbor) == len(tcsr.event_id)
    for u in range(9):
        mine = slice(tcsr.indptr[u], tcsr.indptr[u + 1])
        events = [e for e, pair in enumerate(pairs) if u in pair]  # a self-loop once
        assert tcsr.event_id[mine].tolist() == events
        assert tcsr.neighbor[mine].tolist() == [dst[e] if src[e] == u else src[e] for e in events]


@settings(deadline=None)
@given(pairs=ends)
def test_pair_index_equals_brute_force(pairs):
    src, dst = columns(pairs)
    index = build_pair_index(src, dst, 9)
    for u in range(9):
        mine = slice(index.indptr[u], index.indptr[u + 1])
        expected = sorted((max(pair), e) for e, pair in enumerate(pairs) if min(pair) == u)
        assert list(zip(index.partner[mine].tolist(), index.event_id[mine].tolist(), strict=True)) == expected


def test_ids_are_as_narrow_as_they_fit():
    tcsr = build_tcsr(np.array([0]), np.array([1]), 2)
    pairs = build_pair_index(np.array([0]), np.array([1]), 2)
    assert tcsr.neighbor.dtype == tcsr.event_id.dtype == pairs.partner.dtype == pairs.event_id.dtype == np.int32
    assert tcsr.indptr.dtype == pairs.indptr.dtype == np.int64
