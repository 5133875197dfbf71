import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data import index
from tgscale.data.index import build_pair_index, build_tcsr, pair_index_of

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


@pytest.mark.parametrize(("block", "piece"), [(1, 1), (7, 3), (50, 1000), (10_000, 64)])
def test_blocks_and_pieces_change_nothing(tmp_path, monkeypatch, block, piece):
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 40, (2, 500)) // rng.integers(1, 9, (2, 500))  # low ids are hubs; some self-loops
    whole = build_tcsr(src, dst, 41)
    expected = [*vars(whole).values(), *vars(pair_index_of(whole, src, dst)).values()]

    def mapped(name, dtype, shape):
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.npy"
        return np.lib.format.open_memmap(path, "w+", dtype, shape)

    monkeypatch.setattr(index, "BLOCK_ROWS", block)
    monkeypatch.setattr(index, "PIECE_EVENTS", piece)
    tcsr = build_tcsr(src, dst, 41, mapped)
    found = [*vars(tcsr).values(), *vars(pair_index_of(tcsr, src, dst, mapped)).values()]
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_ids_are_as_narrow_as_they_fit():
    tcsr = build_tcsr(np.array([0]), np.array([1]), 2)
    pairs = build_pair_index(np.array([0]), np.array([1]), 2)
    assert tcsr.neighbor.dtype == tcsr.event_id.dtype == pairs.partner.dtype == pairs.event_id.dtype == np.int32
    assert tcsr.indptr.dtype == pairs.indptr.dtype == np.int64
