import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.snapshot.cost import assumed_coefficients, cost_columns
from tgscale.snapshot.groups import make_groups
from tgscale.snapshot.profile import Profile
from tgscale.snapshot.shapes import SHAPES, Shape
from tgscale.snapshot.workload import make_workload

EDGES = np.array([10, 200, 30, 4000, 50])
GROUPS = make_groups(0, 5, 2)
GIVEN = Profile(coefficients=(1e-3, 1e-6, 2e-6, 3e-7, 4e-7))


def work(model="tgcn", profile=GIVEN, cache=False, measured=None, features=3, hidden=4):
    return make_workload(EDGES, 7, GROUPS, SHAPES[model], features, hidden, cache, profile, measured)


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("cache", [False, True])
def test_the_parts_are_the_groups_costs(model, cache):
    columns = cost_columns(np.full(5, 7), EDGES, GROUPS, 3, 4)
    assert work(model, cache=cache).costs == pytest.approx(columns @ np.array(GIVEN.coefficients))


def test_coefficients_that_are_assumed():
    columns = cost_columns(np.full(5, 7), EDGES, GROUPS, 3, 4)
    plain = assumed_coefficients()
    assert work(profile=Profile()).costs == pytest.approx(columns @ plain)
    assert work(profile=Profile(), cache=True).costs == pytest.approx(columns @ (plain * [1, 1, 0, 1, 1]))
    wide = assumed_coefficients(8, 8) * [1, 1, (3 + 4) / 3, 1, 1]
    assert work("lrgcn", profile=Profile()).costs == pytest.approx(columns @ wide)


def test_where_edges_are_paid_for():
    tgcn, lrgcn, gclstm = work("tgcn"), work("lrgcn"), work("gclstm")
    on_edges = 2e-6 * 3 * EDGES
    assert tgcn.edges_ahead == pytest.approx(on_edges)
    assert tgcn.edges_in_loop.tolist() == [0] * 5
    assert lrgcn.edges_ahead == pytest.approx(on_edges * 3 / 7)
    assert lrgcn.edges_in_loop == pytest.approx(on_edges * 4 / 7)
    assert gclstm.edges_in_loop == pytest.approx(on_edges)


def test_when_dense_work_is_done():
    node, product, square = 7 * 1e-6, 7 * 12 * 3e-7, 7 * 16 * 4e-7
    tgcn, evolving, mpnn = work("tgcn"), work("evolvegcn_o"), work("mpnn_lstm")
    assert (tgcn.dense_ahead[0], tgcn.dense_in_loop[0]) == pytest.approx((product, node + square))
    assert (evolving.dense_ahead[0], evolving.dense_in_loop[0]) == pytest.approx((0, node + product + square))
    assert mpnn.dense_ahead[0] == pytest.approx(product + square * 9 / 21)
    assert mpnn.dense_in_loop[0] == pytest.approx(node + square * 12 / 21)


@given(st.sampled_from(sorted(SHAPES)), st.floats(0, 1), st.booleans())
def test_a_given_share_is_kept_at_every_step(model, share, cache):
    plain = work(model, cache=cache)
    divided = work(model, Profile(coefficients=GIVEN.coefficients, hoisted_share=share), cache)
    assert divided.costs == pytest.approx(plain.costs)
    ahead, loop = divided.edges_ahead + divided.dense_ahead, divided.edges_in_loop + divided.dense_in_loop
    assert ahead == pytest.approx(share * (ahead + loop))


def test_measured_times_scale_every_part():
    seconds = np.array([1.0, 0.0, 3.0, 4.0])
    timed, plain = work(measured=seconds), work()
    assert timed.costs == pytest.approx(seconds)
    assert timed.scaled(EDGES) == pytest.approx(seconds / plain.costs * [210, 230, 4030, 4050])


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (np.ones(3), r"shape \[3\], but there are 4 groups"),
        (np.array([1, 1, np.inf, 1]), "group 2 is inf"),
        (np.array([1, -1.0, 1, 1]), "group 1 is -1"),
    ],
)
def test_refuses_measured_times_that_do_not_fit(measured, words):
    with pytest.raises(ConfigError, match=words):
        work(measured=measured)


def test_refuses_to_divide_the_time_of_a_group_that_should_take_none():
    nothing = Profile(coefficients=(0, 0, 0, 1, 0))
    with pytest.raises(ConfigError, match="give a group no time"):
        make_workload(EDGES, 0, GROUPS, Shape(3, 3), 3, 4, False, nothing, np.ones(4))
