import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.snapshot.groups import group_sizes, make_groups


def test_windows_lie_wholly_within_the_steps():
    groups = make_groups(2, 7, window=3)
    assert groups.first.tolist() == [2, 3, 4]
    assert groups.first.dtype == np.int64
    assert [list(groups.steps(g)) for g in range(len(groups))] == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert make_groups(2, 9, window=3, stride=2).first.tolist() == [2, 4, 6]
    assert make_groups(0, 10, window=4, stride=4).first.tolist() == [0, 4]


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_no_window_is_missing_or_too_much(first, steps, window, stride):
    if steps < window:
        with pytest.raises(ConfigError, match="smaller window"):
            make_groups(first, first + steps, window, stride)
        return
    groups = make_groups(first, first + steps, window, stride)
    held = [groups.steps(g) for g in range(len(groups))]
    assert held == [range(s, s + window) for s in range(first, first + steps, stride) if s + window <= first + steps]


@pytest.mark.parametrize(("window", "stride", "words"), [(0, 1, "window is 0"), (2, 0, "stride is 0")])
def test_refuses_what_is_no_window(window, stride, words):
    with pytest.raises(ConfigError, match=words):
        make_groups(0, 9, window, stride)


def test_says_how_many_steps_there_are():
    with pytest.raises(ConfigError, match=r"window = 8 steps, but there are only 3 \(steps 4 to 7"):
        make_groups(4, 7, 8)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_sizes_are_sums_over_the_steps(per_step, window, stride):
    window = min(window, len(per_step))
    groups = make_groups(0, len(per_step), window, stride)
    sizes = group_sizes(np.array(per_step), groups)
    assert sizes.dtype == np.int64
    assert sizes.tolist() == [sum(per_step[t] for t in groups.steps(g)) for g in range(len(groups))]


def test_sizes_of_several_columns_and_of_floats():
    groups = make_groups(0, 3, 2)
    assert group_sizes(np.array([[1, 10], [2, 20], [3, 30]]), groups).tolist() == [[3, 30], [5, 50]]
    assert group_sizes(np.array([0.5, 1.5, 2.5]), groups).tolist() == [2.0, 4.0]
    assert group_sizes(np.array([2**30] * 3, np.int32), groups).tolist() == [2**31, 2**31]
