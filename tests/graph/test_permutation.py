import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph.permutation import LeftOut, permuted, ragged


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 40), st.integers(-(2**62), 2**62))
def test_rows_hold_distinct_numbers_below_their_size(sizes, count, key):
    keys = torch.arange(len(sizes)) + key
    drawn = permuted(keys, torch.tensor(sizes), count)
    for size, row in zip(sizes, drawn.tolist(), strict=True):
        there = [value for value in row if value >= 0]
        assert row == there + [-1] * (count - len(there))
        assert len(there) == min(size, count) == len(set(there))
        assert all(value < size for value in there)
    alone = permuted(keys[-1:], torch.tensor(sizes[-1:]), count)
    assert torch.equal(alone[0], drawn[-1])  # a row depends on its key and size alone
    assert torch.equal(permuted(keys, torch.tensor(sizes), count + 5)[:, :count], drawn)


@pytest.mark.parametrize("size", [2, 3, 5, 16, 17, 100])
def test_every_pair_of_numbers_is_as_likely_at_the_first_two_places(size):
    rows = 400 * size
    drawn = permuted(torch.arange(rows), torch.full((rows,), size), 2)
    first = torch.bincount(drawn[:, 0], minlength=size).double() / rows
    second = torch.bincount(drawn[:, 1], minlength=size).double() / rows
    assert ((first - 1 / size).abs() < 6 * (1 / size / rows) ** 0.5).all()
    assert ((second - 1 / size).abs() < 6 * (1 / size / rows) ** 0.5).all()
    both = torch.bincount(drawn[:, 0] * size + drawn[:, 1], minlength=size * size).double() / rows
    pair = 1 / (size * (size - 1))
    off_diagonal = ~torch.eye(size, dtype=torch.bool).flatten()
    assert ((both[off_diagonal] - pair).abs() < 6 * (pair / rows) ** 0.5).all()


def test_large_sizes_cost_nothing():
    drawn = permuted(torch.tensor([5]), torch.tensor([2**50]), 1000)
    assert len(drawn.unique()) == 1000
    assert drawn.max() > 2**49


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 19), max_size=15), min_size=1, max_size=5))
def test_stepping_over_places_that_are_left_out(rows):
    row = torch.tensor([r for r, places in enumerate(rows) for _ in places], dtype=torch.long)
    place = torch.tensor([p for places in rows for p in places], dtype=torch.long)
    out = LeftOut(row, place, len(rows), 20)
    assert out.count.tolist() == [len(set(places)) for places in rows]
    kept = [[p for p in range(20) if p not in places] for places in rows]
    width = min(len(each) for each in kept)
    query = torch.arange(-1, width).expand(len(rows), -1)
    assert out.step_over(query).tolist() == [[-1, *each[:width]] for each in kept]


def test_ragged_ranges():
    row, index = ragged(torch.tensor([3, 5, 9]), torch.tensor([5, 5, 12]))
    assert row.tolist() == [0, 0, 2, 2, 2]
    assert index.tolist() == [3, 4, 9, 10, 11]
