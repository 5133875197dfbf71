import numba
import numpy as np
import pytest

from tgscale.nn import fast_math


@numba.njit(error_model="numpy")
def _apply(x, minus_one, sigmoid, tanh):
    for i in range(len(x)):
        minus_one[i] = fast_math.expm1(x[i])
        sigmoid[i] = fast_math.sigmoid(x[i])
        tanh[i] = fast_math.tanh(x[i])


def applied(x):
    out = np.empty((3, len(x)), x.dtype)
    _apply(x, *out)
    return dict(zip(("expm1", "sigmoid", "tanh"), out, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_are_a_few_units_in_the_last_place(dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, scale, 20_000) for scale in (1e-6, 0.1, 1, 5, 20)]).astype(dtype)
    exact = x.astype(np.longdouble)
    expected = {"expm1": np.expm1(exact), "sigmoid": 1 / (1 + np.exp(-exact)), "tanh": np.tanh(exact)}
    for name, result in applied(x).items():
        assert np.max(np.abs(result - expected[name]) / np.abs(expected[name])) < 3 * np.finfo(dtype).eps, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends(dtype):
    out = applied(np.array([0, -0.0, np.inf, -np.inf, 1e30, -1e30], dtype))
    assert out["sigmoid"][:2].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(out["sigmoid"][2:], [1, 0, 1, 0], atol=1e-37)
    assert out["tanh"].tolist() == [0, 0, 1, -1, 1, -1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_stays_nan(dtype):
    assert all(np.isnan(result).all() for result in applied(np.full(9, np.nan, dtype)).values())
