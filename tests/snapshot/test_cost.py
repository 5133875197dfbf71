import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.snapshot.cost import (
    COLUMNS,
    CostModel,
    assumed_coefficients,
    cost_columns,
    fit_coefficients,
)
from tgscale.snapshot.groups import make_groups
from tgscale.train.checkpoint import Checkpointer

TRUE = np.array([2e-3, 3e-8, 4e-10, 0.0, 5e-12])


def columns_of(groups: int, seed: int = 0) -> np.ndarray:
    """Sizes of groups that differ in every way."""
    rng = np.random.default_rng(seed)
    nodes, edges = rng.integers(1000, 90_000, groups + 3), rng.integers(10_000, 2_000_000, groups + 3)
    columns = cost_columns(nodes, edges, make_groups(0, groups + 3, 4), features=2, hidden=64)
    columns[:, 3:] *= rng.uniform(0.5, 2, (groups, 2))  # N, N F C and N C^2 go together otherwise
    return columns


def test_columns_by_hand():
    columns = cost_columns(np.array([5, 5, 7]), np.array([10, 20, 40]), make_groups(0, 3, 2), features=3, hidden=4)
    assert columns.tolist() == [
        [1, 10, 30 * 3, 10 * 3 * 4, 10 * 16],
        [1, 12, 60 * 3, 12 * 3 * 4, 12 * 16],
    ]
    assert columns.dtype == np.float64
    assert columns.shape[1] == len(COLUMNS) == len(assumed_coefficients())


def test_sizes_alone_before_anything_is_measured():
    columns = columns_of(5)
    expected = columns @ np.array([5e-4, 1e-10, 1.6e-11, 1.8e-12, 1.8e-12])
    assert CostModel(columns).predict() == pytest.approx(expected)
    assert CostModel(columns, prior=assumed_coefficients(4, 8)).predict() == pytest.approx(
        columns @ np.array([5e-4, 1e-10, 1.6e-11, 2.4e-12, 4.8e-12])
    )


def test_finds_the_coefficients_again():
    columns = columns_of(200)
    model = CostModel(columns)
    model.update(np.arange(200), columns @ TRUE)
    fit = model.fit()
    assert model.columns @ fit.coefficients == pytest.approx(columns @ TRUE, rel=1e-6)
    assert fit.coefficients == pytest.approx(TRUE, rel=1e-2, abs=1e-14)
    assert (fit.r2, fit.groups) == (pytest.approx(1), 200)
    assert fit.relative_error < 1e-6


def test_fitted_on_a_few_predicts_the_rest():
    columns = columns_of(300)
    noise = np.random.default_rng(1).normal(1, 0.02, 300)
    model = CostModel(columns)
    model.update(np.arange(60), (columns @ TRUE * noise)[:60])
    predicted = model.predict()
    assert predicted[:60] == pytest.approx((columns @ TRUE * noise)[:60], rel=1e-12)
    assert np.abs(predicted[60:] / (columns @ TRUE)[60:] - 1).max() < 0.05
    fit = model.fit()
    assert 0.9 < fit.r2 < 1
    assert 0.005 < fit.relative_error < 0.05


@given(st.integers(0, 2**31), st.integers(1, 20), st.sets(st.integers(0, 4)), st.integers(0, 4))
def test_any_columns_give_finite_coefficients_that_are_not_negative(seed, groups, zero, copied):
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0, 10.0 ** rng.integers(0, 13, 5), (groups, 5))
    columns[:, copied] = columns[:, 0]
    columns[:, list(zero)] = 0
    seconds = rng.uniform(0, 1, groups)
    coefficients = fit_coefficients(columns, seconds, assumed_coefficients())
    assert np.isfinite(coefficients).all()
    assert (coefficients >= 0).all()
    fitted, nothing = np.sum((columns @ coefficients - seconds) ** 2), np.sum(seconds**2)
    assert fitted <= nothing * (1 + 1e-6)


def test_one_measured_group_scales_the_others_by_their_sizes():
    columns = columns_of(4)
    model = CostModel(columns)
    model.update(np.array([2]), np.array([3.0]))
    assumed = columns @ assumed_coefficients()
    assert model.predict() == pytest.approx(assumed * 3 / assumed[2], rel=1e-4)


def test_columns_that_always_go_together_keep_the_ratio_of_the_prior():
    nodes = np.full(12, 500)  # the same nodes at every step: four columns are constant
    columns = cost_columns(nodes, np.arange(12) * 1000, make_groups(0, 12, 3), 2, 16)
    seconds = columns @ np.array([1e-3, 1e-7, 1e-9, 1e-10, 1e-10])
    fitted = fit_coefficients(columns, seconds, assumed_coefficients())
    assert columns @ fitted == pytest.approx(seconds, rel=1e-5)
    assert fitted[2] == pytest.approx(1e-9, rel=1e-3)


def test_measurements_are_smoothed_per_group():
    model = CostModel(columns_of(3), smoothing=0.25)
    model.update(np.array([1]), np.array([4.0]))
    model.update(np.array([1, 2]), np.array([8.0, 1.0]))
    assert model.predict()[1:].tolist() == [5.0, 1.0]
    assert np.isnan(model.measured[0])


def test_equal_times_are_explained():
    model = CostModel(np.ones((3, 5)), smoothing=1)
    model.update(np.arange(3), np.full(3, 0.7))
    fit = model.fit()
    assert (fit.r2, fit.relative_error) == (1.0, pytest.approx(0, abs=1e-6))
    model.update(np.arange(3), np.zeros(3))
    assert model.fit().relative_error == 0
    assert model.predict().tolist() == [0, 0, 0]


def test_goes_on_from_a_checkpoint(tmp_path):
    columns = columns_of(30)
    model, other = CostModel(columns), CostModel(columns)
    model.update(np.arange(20), (columns @ TRUE)[:20])
    model.predict()
    Checkpointer(tmp_path).save(1, model.state_dict())
    _, state = Checkpointer(tmp_path).load()
    other.load_state_dict(state)
    assert np.array_equal(other.predict(), model.predict())
    model.update(np.array([3]), np.array([1.0]))
    assert other.measured[3] != model.measured[3]
    fresh = CostModel(columns)
    fresh.load_state_dict(CostModel(columns).state_dict())
    assert np.array_equal(fresh.predict(), CostModel(columns).predict())


def test_refuses_what_does_not_fit():
    model = CostModel(columns_of(3))
    with pytest.raises(ValueError, match="nothing to fit"):
        model.fit()
    with pytest.raises(ValueError, match="one time for each"):
        model.update(np.array([0, 1]), np.array([1.0]))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="negative or not finite"):
            model.update(np.array([0]), np.array([bad]))
    with pytest.raises(ValueError, match="smoothing is 0"):
        CostModel(columns_of(3), smoothing=0)
    with pytest.raises(ValueError, match=r"need \[G, K\]"):
        CostModel(columns_of(3), prior=np.ones(4))
    with pytest.raises(ValueError, match="4 groups, this model 3"):
        model.load_state_dict(CostModel(columns_of(4)).state_dict())
