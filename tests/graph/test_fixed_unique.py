import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.graph.fixed_unique import unique_fixed


@given(ids=st.lists(st.integers(0, 30), min_size=1, max_size=60), spare=st.integers(0, 5))
def test_distinct_ids_then_zeros(ids, spare):
    ids = torch.tensor(ids)
    expected = torch.unique(ids)
    unique, inverse, count = unique_fixed(ids, len(expected) + spare)
    assert count == len(expected)
    assert torch.equal(unique[: len(expected)], expected)
    assert not unique[len(expected) :].any()
    assert torch.equal(unique[inverse], ids)


def test_the_least_of_ids_and_nodes_is_enough():
    """All nodes occur, more than once each: the table is full to the last place."""
    unique, inverse, count = unique_fixed(torch.arange(12) % 4, 4)
    assert unique.tolist() == [0, 1, 2, 3]
    assert inverse.tolist() == [0, 1, 2, 3] * 3
    assert count == 4


def test_a_table_that_is_too_small_is_seen_on_a_cpu():
    with pytest.raises(RuntimeError, match="out of bounds"):
        unique_fixed(torch.arange(5), 4)
