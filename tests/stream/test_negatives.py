import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream.negatives import NegativeSampler


def stream(destinations=(5, 7, 8, 11), nodes=20):
    dst = np.array(destinations)
    return EventStream.from_arrays(np.zeros(len(dst), int), dst, np.arange(len(dst)), num_nodes=nodes)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**40), 2**40), st.integers(1, 60), st.sampled_from(["destinations", "all"]), st.booleans())
def test_draws_are_from_the_population_and_never_the_own_destination(seed, count, population, exclude_own):
    sampler = NegativeSampler(stream(), population)
    event = torch.arange(4)
    own = torch.tensor([5, 7, 8, 11])
    drawn = sampler.draw(event, own, count, seed, exclude_own)
    assert drawn.shape == (4, count)
    assert set(drawn.flatten().tolist()) <= ({5, 7, 8, 11} if population == "destinations" else set(range(20)))
    if exclude_own:
        assert not (drawn == own[:, None]).any()


def test_an_event_meets_the_same_negatives_in_any_batch_and_order():
    sampler = NegativeSampler(stream())
    event, own = torch.tensor([3, 0, 2]), torch.tensor([11, 5, 8])
    whole = sampler.draw(event, own, 49, seed=4)
    for i in range(3):
        assert torch.equal(sampler.draw(event[i : i + 1], own[i : i + 1], 49, seed=4)[0], whole[i])
    assert torch.equal(sampler.draw(event, own, 10, seed=4), whole[:, :10])
    assert not torch.equal(sampler.draw(event, own, 49, seed=5), whole)


def test_draws_are_uniform():
    sampler = NegativeSampler(stream())
    drawn = sampler.draw(torch.arange(3000), torch.full((3000,), 7), 10, seed=0)
    share = [(drawn == node).float().mean().item() for node in (5, 7, 8, 11)]
    assert share == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)
    kept = sampler.draw(torch.arange(3000), torch.full((3000,), 7), 10, seed=0, exclude_own=False)
    assert (kept == 7).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_a_population_of_one_or_of_another_name_is_refused():
    with pytest.raises(ConfigError, match="holds 1 node"):
        NegativeSampler(stream([5, 5]))
    with pytest.raises(ConfigError, match="choose one of destinations, all"):
        NegativeSampler(stream(), "everyone")
