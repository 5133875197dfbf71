import ctypes
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.snapshot import optimal
from tgscale.snapshot.assign import POLICIES, plan_epoch
from tgscale.snapshot.balance import Balance, bounds, imbalance, step_loads, sync_wait
from tgscale.snapshot.optimal import least_makespan
from tgscale.snapshot.policies import by_count, longest_first

COSTS = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=60).map(np.array)
FEW_COSTS = st.lists(st.integers(0, 30), min_size=1, max_size=7).map(lambda costs: np.array(costs, np.float64))


def as_lists(step):
    return [groups.tolist() for groups in step]


def makespan(device, costs, devices):
    return np.bincount(device, weights=costs, minlength=devices).max()


def least_by_trying(costs, devices):
    return min(makespan(np.array(way), costs, devices) for way in product(range(devices), repeat=len(costs)))


@pytest.mark.parametrize(
    ("policy", "expected", "slowest"),
    [
        ("count", [[0, 1, 2], [3, 4]], 22),
        ("lpt", [[0, 3], [1, 2, 4]], 18),  # 9 | 7, 6 to it as 7 < 9, 5 to 9, 5 to 13
        ("optimal", [[0, 1], [2, 3, 4]], 16),
        ("cross-window", [[0, 3], [1, 2, 4]], 18),
    ],
)
def test_a_step_by_hand(policy, expected, slowest):
    costs = np.array([9.0, 7, 6, 5, 5])
    (step,) = plan_epoch(costs, 2, 5, policy)
    assert as_lists(step) == expected
    assert step_loads(step, costs).max() == slowest
    assert all(groups.dtype == np.int64 for groups in step)


def test_count_deals_out_in_the_order_of_time():
    assert by_count(np.ones(7), 3).device.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert by_count(np.ones(2), 3).device.tolist() == [0, 1]
    (step,) = plan_epoch(np.array([1.0, 3, 2, 1]), 2, 4, "count")
    assert as_lists(step) == [[1, 0], [2, 3]]  # neighbours share a device, where the longest runs first


def test_cross_window_puts_equals_together():
    costs = np.array([1.0, 9, 2, 8, 1, 9, 2, 8])
    steps = plan_epoch(costs, 2, 2, "cross-window", epoch=3)
    assert sum(step_loads(step, costs).max() for step in steps) <= 9 + 8 + 2 + 1 + 1 + 1
    lpt = Balance.of(plan_epoch(costs, 2, 2, "lpt", epoch=3), costs)
    assert Balance.of(steps, costs).imbalance < 1.15 < lpt.imbalance


@pytest.mark.parametrize("policy", POLICIES)
@given(costs=COSTS, devices=st.integers(1, 9), size=st.integers(1, 70), seed=st.integers(0, 5), epoch=st.integers(0, 5))
@settings(max_examples=40)
def test_every_group_trains_once_longest_first(policy, costs, devices, size, seed, epoch):
    plan = plan_epoch(costs, devices, size, policy, seed, epoch, time_limit=0.0)
    assert sorted(np.concatenate([np.concatenate(step) for step in plan]).tolist()) == list(range(len(costs)))
    sizes = sorted(sum(map(len, step)) for step in plan)
    assert sizes == sorted([size] * (len(costs) // size) + [len(costs) % size] * (len(costs) % size > 0))
    for step in plan:
        assert len(step) == devices
        assert all((np.diff(costs[groups]) <= 0).all() for groups in step)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_seed_decides(policy):
    costs = np.random.default_rng(0).uniform(1, 2, 40)

    def steps(**options):
        return [as_lists(step) for step in plan_epoch(costs, 4, 8, policy, **options)]

    assert steps(seed=3, epoch=2) == steps(seed=3, epoch=2)
    assert steps(seed=3, epoch=2) != steps(seed=3, epoch=3)
    assert steps(seed=3, epoch=2) != steps(seed=4, epoch=2)
    assert steps(seed=-3) == steps(seed=-3) != steps(seed=3)


@given(costs=COSTS, devices=st.integers(1, 6), size=st.integers(1, 20), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_policies_on_the_same_batches_differ_in_devices_only(costs, devices, size, seed):
    count, lpt, exact = (
        [sorted(np.concatenate(step).tolist()) for step in plan_epoch(costs, devices, size, policy, seed, time_limit=0)]
        for policy in ("count", "lpt", "optimal")
    )
    assert count == lpt == exact


@given(costs=COSTS, devices=st.integers(1, 9))
def test_longest_first_keeps_its_bounds(costs, devices):
    reached = makespan(longest_first(costs, devices).device, costs, devices)
    least = bounds(costs, devices).makespan
    assert least * (1 - 1e-12) <= reached <= (costs.sum() + (devices - 1) * costs.max()) / devices * (1 + 1e-12)


@given(costs=FEW_COSTS, devices=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_against_all_assignments(costs, devices):
    least = least_by_trying(costs, devices)
    greedy = makespan(longest_first(costs, devices).device, costs, devices)
    exact = least_makespan(costs, devices, time_limit=60)
    assert exact.proven
    assert makespan(exact.device, costs, devices) == least
    assert bounds(costs, devices).makespan <= least <= greedy <= (4 / 3 - 1 / (3 * devices)) * least + 1e-9


@given(costs=COSTS, devices=st.integers(1, 9), limit=st.sampled_from([0.0, 0.05]))
@settings(max_examples=25, deadline=None)
def test_optimal_is_never_worse_than_longest_first(costs, devices, limit):
    exact, greedy = (
        makespan(way.device, costs, devices)
        for way in (least_makespan(costs, devices, limit), longest_first(costs, devices))
    )
    assert exact <= greedy


@given(costs=COSTS, devices=st.integers(1, 9), size=st.integers(1, 20), seed=st.integers(0, 9))
@settings(max_examples=60)
def test_cross_window_is_never_slower_than_lpt(costs, devices, size, seed):
    chosen, given_batches = (
        Balance.of(plan_epoch(costs, devices, size, policy, seed), costs).makespan for policy in ("cross-window", "lpt")
    )
    assert chosen <= given_batches


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_cross_window_steps_are_even_when_groups_are_many(devices, per_device, seed):
    costs = np.random.default_rng(seed).uniform(1, 10, 120 * devices)
    steps = plan_epoch(costs, devices, devices * per_device, "cross-window", seed)
    assert Balance.of(steps, costs).imbalance < 1.05


def test_says_where_the_solver_did_not_finish(monkeypatch):
    costs = np.array([9.0, 7, 6, 5, 5] * 4)
    assert plan_epoch(costs, 2, 5, "optimal").notes == ()
    assert plan_epoch(costs, 2, 5, "lpt", time_limit=0).notes == ()
    monkeypatch.setattr(optimal, "MOST_CHOICES", 9)
    (note,) = plan_epoch(np.array([9.0, 7, 6, 5, 5]), 2, 5, "optimal", time_limit=3).notes
    assert "1 of 1 steps are not proven optimal within 3 s" in note


def test_a_solver_without_an_answer_leaves_longest_first(monkeypatch):
    costs = np.array([9.0, 7, 6, 5, 5])
    monkeypatch.setattr(optimal, "_solve", lambda *_: (None, False))
    assert least_makespan(costs, 2, 1.0).device.tolist() == longest_first(costs, 2).device.tolist()
    monkeypatch.setattr(optimal, "_solve", lambda *_: (np.zeros(5, np.int64), False))  # worse than longest first
    assert least_makespan(costs, 2, 1.0).device.tolist() == longest_first(costs, 2).device.tolist()
    assert not least_makespan(costs, 2, 1.0).proven


def test_what_the_solver_prints_is_not_ours(monkeypatch, capfd):
    libc, solve = ctypes.CDLL(None), optimal.milp

    def chatty(**program):
        libc.puts(b"from the solver")
        return solve(**program)

    monkeypatch.setattr(optimal, "milp", chatty)
    libc.puts(b"before")
    print("ours")
    assert least_makespan(np.array([9.0, 7, 6, 5, 5]), 2, 1.0).proven
    libc.puts(b"after")
    libc.fflush(None)
    assert sorted(capfd.readouterr().out.split()) == ["after", "before", "ours"]


def test_a_plan_is_a_sequence():
    plan = plan_epoch(np.ones(7), 2, 3, "lpt")
    assert len(plan) == 3
    assert len(plan[0]) == 2
    assert [as_lists(step) for step in plan[1:]] == [as_lists(plan[1]), as_lists(plan[2])]
    assert [as_lists(step) for step in plan] == [as_lists(plan[at]) for at in range(3)]


def test_measures_by_hand():
    loads = np.array([3.0, 1.0, 2.0])
    assert (imbalance(loads), sync_wait(loads)) == (1.5, 3.0)
    assert imbalance(np.zeros(3)) == 1
    assert bounds(np.array([4.0, 1.0, 1.0]), 2) == (4.0, 4 / 3)
    assert bounds(np.array([2.0, 2.0, 2.0]), 2) == (3.0, 1.0)
    assert bounds(np.zeros(2), 2) == (0.0, 1.0)
    costs = np.array([3.0, 1.0, 2.0])
    steps = [[np.array([0]), np.array([1])], [np.array([2]), np.array([], np.int64)]]
    balance = Balance.of(steps, costs)
    assert balance.loads.tolist() == [[3, 1], [2, 0]]
    assert balance.per_step.tolist() == [1.5, 2.0]
    assert (balance.makespan, balance.sync_wait) == (5.0, 4.0)
    assert balance.imbalance == pytest.approx(5 / 3)
    assert Balance.of(steps, np.zeros(3)).imbalance == 1
    with pytest.raises(ConfigError, match="without steps"):
        Balance.of([], costs)


def test_large_epochs_are_planned():
    costs = np.random.default_rng(0).lognormal(0, 0.5, 100_000)
    for policy in ("count", "lpt", "cross-window"):
        plan = plan_epoch(costs, 1024, 8192, policy)
        assert (len(plan), sum(len(groups) for step in plan for groups in step)) == (13, 100_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": "fair"}, "policy 'fair' is unknown: take one of count, lpt"),
        ({"devices": 0}, "devices is 0"),
        ({"groups_per_step": 0}, "groups per step is 0"),
        ({"epoch": -1}, "epoch is -1"),
        ({"costs": np.zeros(0)}, "one or more groups"),
        ({"costs": np.ones((2, 2))}, "one or more groups"),
        ({"costs": np.array([1, np.nan])}, "cost of group 1 is nan"),
        ({"costs": np.array([1, 2, -1.0])}, "cost of group 2 is -1"),
    ],
)
def test_refuses_what_cannot_be_planned(change, words):
    with pytest.raises(ConfigError, match=words):
        plan_epoch(**{"costs": np.ones(3), "devices": 2, "groups_per_step": 2, "policy": "lpt", **change})
