import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.errors import RunError
from tgscale.train.metrics import ap_auc, reciprocal_ranks, tie_aware_ranks

few_values = st.sampled_from([-2.0, 0.0, 0.5, 1.0])  # so that ties are common


def test_ranks_by_hand():
    positive = torch.tensor([2.0, 2.0, 2.0, 0.0])
    negatives = torch.tensor([[1.0, 0.0, -1.0], [3.0, 2.0, 1.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]])
    assert tie_aware_ranks(positive, negatives).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert reciprocal_ranks(positive, negatives).tolist() == [1.0, 0.4, 0.4, 0.25]


@pytest.mark.parametrize("n", [1, 2, 49])
def test_constant_scorer_gets_the_middle_rank(n: int):
    ranks = tie_aware_ranks(torch.zeros(5), torch.zeros(5, n))
    assert ranks.tolist() == [(n + 2) / 2] * 5


@given(hnp.arrays(np.float64, (7, 6), elements=few_values))
def test_ranks_are_the_mean_of_optimistic_and_pessimistic(scores: np.ndarray):
    ranks = tie_aware_ranks(torch.from_numpy(scores[:, 0]), torch.from_numpy(scores[:, 1:]))
    for row, rank in zip(scores, ranks.tolist(), strict=True):
        optimistic = 1 + sum(negative > row[0] for negative in row[1:])
        pessimistic = 1 + sum(negative >= row[0] for negative in row[1:])
        assert rank == (optimistic + pessimistic) / 2


def test_ap_auc_by_hand():
    # In order: 60 true, 55 false, 50 true, 40 false. Precision at the true ones is 1 and 2/3; 3 of 4 pairs are right.
    ap, auc = ap_auc(torch.tensor([50.0, 60.0]), torch.tensor([40.0, 55.0]))
    assert ap == pytest.approx((1 + 2 / 3) / 2, abs=1e-6)
    assert auc == pytest.approx(3 / 4, abs=1e-6)


@given(hnp.arrays(np.float64, (2, 8), elements=few_values))
def test_ap_auc_against_brute_force(scores: np.ndarray):
    positive, negative = scores
    auc = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    ap, recall = 0.0, 0.0
    for threshold in sorted(set(scores.flat), reverse=True):
        hits, alarms = (positive >= threshold).sum(), (negative >= threshold).sum()
        ap += (hits / len(positive) - recall) * hits / (hits + alarms)
        recall = hits / len(positive)
    assert ap_auc(torch.from_numpy(positive), torch.from_numpy(negative)) == pytest.approx((ap, auc), abs=1e-6)


def test_large_scores_do_not_become_ties():
    # A sigmoid in float32 makes 1.0 of both.
    assert ap_auc(torch.tensor([60.0]), torch.tensor([50.0])) == (1.0, 1.0)
    assert ap_auc(torch.tensor([50.0]), torch.tensor([60.0]))[1] == 0.0


def test_all_scores_equal():
    assert ap_auc(torch.ones(4), torch.ones(4)) == pytest.approx((0.5, 0.5))


def test_nan_is_refused():
    good, bad = torch.zeros(2), torch.tensor([0.0, float("nan")])
    with pytest.raises(RunError, match="diverged"):
        tie_aware_ranks(bad, torch.zeros(2, 3))
    with pytest.raises(RunError, match="diverged"):
        reciprocal_ranks(good, bad[:, None])
    with pytest.raises(RunError, match="diverged"):
        ap_auc(good, bad)


def test_infinite_scores_are_ranked():
    infinite = float("inf")
    assert tie_aware_ranks(torch.tensor([infinite]), torch.tensor([[infinite, 0.0, -infinite]])).tolist() == [1.5]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (50, 10), generator=generator).float()
    on_gpu = tie_aware_ranks(scores[:, 0].cuda(), scores[:, 1:].cuda())
    assert torch.equal(on_gpu.cpu(), tie_aware_ranks(scores[:, 0], scores[:, 1:]))
    expected = ap_auc(scores[:, 0], scores[:, 1])
    assert ap_auc(scores[:, 0].cuda(), scores[:, 1].cuda()) == pytest.approx(expected, abs=1e-6)
