import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.graph.unique import Compactor, compact

from .random_streams import needs_cuda

batches = st.lists(st.lists(st.integers(0, 9), max_size=20), min_size=1, max_size=6)


@settings(deadline=None)
@given(batches=batches)
def test_first_appearance_over_many_batches(batches):
    """One compactor for all: what it kept from earlier batches must not show."""
    compactor = Compactor(10)
    for batch in batches:
        ids = torch.tensor(batch, dtype=torch.int64)
        unique, inverse = compactor(ids)
        assert unique.tolist() == list(dict.fromkeys(batch))
        assert torch.equal(unique[inverse], ids)


def test_function_equals_class():
    ids = torch.tensor([4, 1, 4, 0, 1])
    unique, inverse = compact(ids, 5)
    assert unique.tolist() == [4, 1, 0]
    assert inverse.tolist() == [0, 1, 0, 2, 1]


def test_refuses_ids_out_of_range():
    with pytest.raises(ConfigError, match=r"ids runs from 1 to 5: node ids of this stream lie in \[0, 5\)"):
        compact(torch.tensor([1, 5]), 5)
    with pytest.raises(ConfigError, match="num_nodes is 0"):
        Compactor(0)


@pytest.mark.cuda
@needs_cuda
def test_cuda():
    ids = torch.tensor([4, 1, 4, 0, 1], device="cuda")
    unique, inverse = compact(ids, 5)
    assert unique.tolist() == [0, 1, 4]
    assert torch.equal(unique[inverse], ids)
