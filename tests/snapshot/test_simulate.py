from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot import halo
from tgscale.snapshot.assign import plan_epoch
from tgscale.snapshot.balance import Balance
from tgscale.snapshot.groups import make_groups
from tgscale.snapshot.halo import split_vertices
from tgscale.snapshot.partition.blocks import contiguous_blocks, step_cost
from tgscale.snapshot.profile import Profile
from tgscale.snapshot.scenario import PARTITIONS, Scenario
from tgscale.snapshot.shapes import SHAPES
from tgscale.snapshot.simulate import simulate

NO_NETWORK = {"device_bandwidth": 1e30, "machine_bandwidth": 1e30, "device_latency": 0.0, "machine_latency": 0.0}
COEFFICIENTS = (1e-3, 1e-6, 2e-6, 3e-7, 4e-7)


@pytest.fixture(scope="module")
def sequence():
    rng = np.random.default_rng(0)
    step = rng.choice(12, 900, p=np.arange(1, 13) / 78)
    src, dst = rng.integers(0, 30, (2, 900))
    return SnapshotSequence.from_arrays(step, src, dst, num_nodes=30, num_steps=12)


def scenario(sequence, model="lrgcn", **changes):
    plain = Scenario(
        sequence, make_groups(0, 12, 4), SHAPES[model], 3, 5, 700, 6, Profile(coefficients=COEFFICIENTS), cache=False
    )
    return replace(plain, **changes)


def rows_of(scenario, *devices):
    return {(row.partition, row.policy, row.devices): row for row in simulate(scenario, devices).rows}


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("cache", [False, True])
def test_on_one_device_all_partitions_are_the_same(sequence, model, cache):
    case = scenario(sequence, model, cache=cache)
    for row in rows_of(case, 1).values():
        assert row.makespan_s == pytest.approx(case.workload().costs.sum())
        assert (row.communication_s, row.bytes_sent, row.sync_wait_s) == (0, 0, pytest.approx(0, abs=1e-12))
        assert (row.imbalance, row.efficiency) == (pytest.approx(1), pytest.approx(1))


def test_groups_by_hand(sequence):
    profile = Profile(
        coefficients=COEFFICIENTS,
        parameter_bytes=1000,
        **{**NO_NETWORK, "device_bandwidth": 1e5, "machine_bandwidth": 1e4},
    )
    seconds = np.array([1.0, 9, 2, 8, 3, 7, 4, 6, 5])
    case = scenario(sequence, profile=profile, measured=seconds, groups_per_step=9, per_machine=2)
    rows = rows_of(case, 4)
    count, lpt = rows["group-count", "count", 4], rows["blad", "lpt", 4]
    send = 2 * (1 / 2 * 1000 / 1e5) + 2 * (1 / 2 * 1000 / 1e4)
    assert count.makespan_s == pytest.approx(12 + send)  # 1 9 2 | 8 3 | 7 4 | 6 5
    assert lpt.makespan_s == pytest.approx(12 + send)  # 9 2 1 | 8 3 | 7 4 | 6 5
    assert count.imbalance == pytest.approx(12 / (45 / 4))
    assert count.sync_wait_s == pytest.approx(4 * 12 - 45)
    assert count.efficiency == pytest.approx(45 / (4 * (12 + send)))
    assert (count.communication_s, count.bytes_sent) == (pytest.approx(send), 2 * 3 * 1000)
    assert (count.devices, count.machines) == (4, 2)


@pytest.mark.parametrize("policy", ["count", "lpt", "optimal", "cross-window"])
def test_the_plan_is_the_one_that_trains(sequence, policy):
    case = scenario(sequence, policies=(policy,), profile=Profile(coefficients=COEFFICIENTS, **NO_NETWORK), seed=5)
    row = rows_of(case, 3)["blad", policy, 3]
    balance = Balance.of(plan_epoch(case.workload().costs, 3, 6, policy, seed=5), case.workload().costs)
    assert row.makespan_s == pytest.approx(balance.makespan)
    assert row.imbalance == pytest.approx(balance.imbalance)
    assert row.sync_wait_s == pytest.approx(balance.sync_wait)


def test_two_workers_overlap_unless_a_device_has_one_group(sequence):
    seconds = np.array([4.0, 4, 4, 4, 4, 4, 4, 4, 4])
    profile = Profile(coefficients=COEFFICIENTS, overlap=0.75, **NO_NETWORK)
    case = scenario(sequence, profile=profile, measured=seconds, groups_per_step=9, per_machine=9)
    rows = rows_of(case, 1, 9)
    assert rows["blad", "lpt", 1].makespan_s == pytest.approx(27)
    assert rows["group-count", "count", 1].makespan_s == pytest.approx(36)
    assert rows["blad", "lpt", 9].makespan_s == pytest.approx(4)
    assert rows["blad", "lpt", 1].efficiency == pytest.approx(4 / 3)  # over one device with one worker


def reference(case, partition, devices):
    """Compute of the slowest, its mean, and bytes besides gradients: every group and step in turn."""
    work, shape = case.workload(), case.shape
    split = split_vertices(case.sequence, devices)
    slowest = mean = sent = 0.0
    for group, scale in enumerate(work.scale):
        steps = list(work.groups.steps(group))
        slowest, mean = slowest + scale * work.fixed, mean + scale * work.fixed
        if partition == "snapshot":
            runs = contiguous_blocks(step_cost(case.sequence)[steps[0] : steps[-1] + 1], devices)
            parts = [steps[first:stop] for first, stop in pairwise(runs)]
            ahead = [sum(work.edges_ahead[t] + work.dense_ahead[t] for t in part) for part in parts]
            slowest, mean = slowest + scale * max(ahead), mean + scale * sum(ahead) / devices
            for width in shape.handed_on(case.features, case.hidden, case.cache):
                sent += len(steps) * 30 * width * 4 * (devices - 1) / devices
        for t in steps:
            graph = case.sequence.graph_of[t]
            edges, dense = work.edges_in_loop[t], work.dense_in_loop[t]
            columns = 2 * shape.in_loop * case.hidden
            if partition == "vertex":
                edges, dense = edges + work.edges_ahead[t], dense + work.dense_ahead[t]
                columns += 2 * shape.ahead * case.hidden + (0 if case.cache else shape.inputs * case.features)
            slowest += scale * max(edges * e + dense * n for e, n in zip(split.edges[graph], split.nodes, strict=True))
            mean += scale * (edges + dense) / devices
            if t == steps[0] and shape.in_loop:
                columns -= case.hidden
            sent += 4 * columns * split.halo[graph]
    return slowest, mean, sent


@given(
    model=st.sampled_from(sorted(SHAPES)),
    partition=st.sampled_from(["snapshot", "vertex"]),
    devices=st.integers(2, 9),
    cache=st.booleans(),
    timed=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_split_groups_agree_with_a_loop_over_steps(sequence, model, partition, devices, cache, timed):
    measured = np.random.default_rng(1).uniform(0.1, 1, 9) if timed else None
    case = scenario(sequence, model, cache=cache, measured=measured, per_machine=devices)
    slowest, mean, sent = reference(case, partition, devices)
    row = rows_of(case, devices)[partition, "-", devices]
    gradients = case.steps * 2 * (devices - 1) * case.parameter_bytes
    assert row.makespan_s - row.communication_s == pytest.approx(slowest)
    assert row.imbalance == pytest.approx(slowest / mean)
    assert row.sync_wait_s == pytest.approx(devices * (slowest - mean))
    assert row.bytes_sent == pytest.approx(sent + gradients)


def test_seconds_of_sending(sequence):
    profile = Profile(coefficients=COEFFICIENTS, parameter_bytes=0, **{**NO_NETWORK, "device_bandwidth": 1e6})
    rows = rows_of(scenario(sequence, "lrgcn", profile=profile), 2)
    split, visits = split_vertices(sequence, 2), np.zeros(12)
    for first in range(9):
        visits[first : first + 4] += 1
    halo_rows = float(np.sum(visits * split.halo_most))
    fresh = float(np.sum(split.halo_most[:9])) * 5 * 4  # no gradient goes back to the state of a first step
    assert rows["vertex", "-", 2].communication_s == pytest.approx((halo_rows * (3 + 2 * 5) * 4 - fresh) / 1e6)
    cost = step_cost(sequence)
    most = [np.diff(contiguous_blocks(cost[first : first + 4], 2)).max() for first in range(9)]
    handed = sum(most) * 30 / 2 * (4 * 5) * 4  # steps, nodes of the other device, gates
    assert rows["snapshot", "-", 2].communication_s == pytest.approx((2 * handed + halo_rows * 2 * 5 * 4 - fresh) / 1e6)
    latency = Profile(coefficients=COEFFICIENTS, parameter_bytes=0, **{**NO_NETWORK, "device_latency": 1.0})
    rows = rows_of(scenario(sequence, "lrgcn", profile=latency), 2)
    assert rows["vertex", "-", 2].communication_s == pytest.approx(2 * 2 + 36 * 3 - 9)  # all-reduces, 3 a step
    assert rows["snapshot", "-", 2].communication_s == pytest.approx(2 * 2 + 9 * 2 + 36 * 2 - 9)
    assert rows["group-count", "count", 2].communication_s == pytest.approx(2 * 2)


def test_a_cached_first_layer_is_never_sent(sequence):
    rows = rows_of(scenario(sequence, "tgcn", cache=True), 4)
    gradients = rows["blad", "lpt", 4].bytes_sent
    assert rows["vertex", "-", 4].bytes_sent == gradients
    assert rows_of(scenario(sequence, "tgcn", cache=False), 4)["vertex", "-", 4].bytes_sent > gradients


def test_thousands_of_devices(sequence):
    rows = rows_of(scenario(sequence, per_machine=8), 4096)
    assert {partition for partition, *_ in rows} == set(PARTITIONS)
    for row in rows.values():
        assert row.machines == 512
        assert 0 < row.efficiency < 1
        assert row.imbalance >= 1


def test_says_what_it_rests_on(sequence, monkeypatch):
    bare = simulate(scenario(sequence, profile=Profile(), cache=True), [4, 8])
    assert any("1 TB/s" in line for line in bare.assumed)
    assert any("nothing was timed" in line for line in bare.notes)
    assert any("kept for the whole run" in line for line in bare.notes)
    assert any(line == "8 devices: 2 have no group in a step where whole groups are dealt out" for line in bare.notes)
    assert not any(line.startswith("4 devices") for line in bare.notes)
    monkeypatch.setattr(halo, "MOST_COUNTED", 1)
    profile = Profile(coefficients=COEFFICIENTS, overlap=0.9)
    known = scenario(sequence, profile=profile, given=frozenset({"coefficients", "overlap"}), measured=np.ones(9))
    known = simulate(known, [2])
    assert "the time of each group, measured" in known.given
    assert "overlap 0.9, from the profile" in known.given
    assert any(line.startswith("coefficients (0.001,") for line in known.given)
    assert not any("1 TB/s" in line or line.startswith("two workers") for line in known.assumed)
    timed = simulate(scenario(sequence, profile=Profile(), measured=np.ones(9)), [2])
    assert any(line.startswith("what a group's measured time is made of") for line in timed.assumed)
    assert any("machine_bandwidth 2.5e+10 bytes/s" in line for line in known.assumed)
    assert any("not counted but expected" in line for line in known.notes)
    assert not any("nothing was timed" in line for line in known.notes)


def test_unproven_steps_are_told(sequence):
    noted = simulate(scenario(sequence, policies=("optimal",), time_limit=0.0), [2]).notes
    assert any("2 devices, optimal" in note and "not proven optimal" in note for note in noted)


@pytest.mark.parametrize(
    ("changes", "devices", "words"),
    [
        ({"partitions": ("blad", "edge")}, [2], "partition 'edge' is unknown"),
        ({}, [2, 0], "give 1 or more"),
        ({}, [], "give 1 or more"),
        ({"per_machine": 0}, [2], "give 1 or more"),
        ({"per_machine": 8}, [8, 12], "12 devices do not fill machines of 8"),
        ({"policies": ("best",)}, [2], "policy 'best' is unknown"),
        ({"measured": np.ones(2)}, [2], "there are 9 groups"),
    ],
)
def test_refuses_what_cannot_be_simulated(sequence, changes, devices, words):
    with pytest.raises(ConfigError, match=words):
        simulate(scenario(sequence, **changes), devices)
