"""An epoch on many devices, replayed from the groups' costs: four ways to divide the work, at any number of devices.

- ``blad``: groups are dealt out by a policy; two workers per device. Only gradients are sent.
- ``group-count``: equal numbers of groups, whatever they cost. Only gradients are sent.
- ``snapshot`` (ESDG): a group's snapshots are split over all devices for what comes ahead of the recurrence; then
  all-to-all, so that each device runs the recurrence of its share of the nodes, and gradients go back the same way.
- ``vertex`` (DGL, AliGraph): each device has a run of the nodes; remote neighbors' rows come before each aggregation
  of each snapshot, and gradients go back.

Nothing of compute overlaps with sending. A group's fixed cost falls on every device that takes part in the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.assign import plan_epoch
from tgscale.snapshot.balance import Balance, Step
from tgscale.snapshot.groups import Groups, group_sizes
from tgscale.snapshot.halo import VertexSplit, split_vertices
from tgscale.snapshot.network import Network
from tgscale.snapshot.partition.blocks import contiguous_blocks, step_cost
from tgscale.snapshot.scenario import FLOAT_BYTES, PARTITIONS, Scenario, grounds, notes_on
from tgscale.snapshot.workload import Workload


@dataclass(frozen=True)
class Row:
    """One epoch.

    Attributes:
        partition: one of :data:`PARTITIONS`.
        policy: that deals out the groups; ``"-"`` where groups are not dealt out.
        devices, machines: P, and how many machines they fill.
        imbalance: compute time of the slowest devices over the mean, >= 1. Devices meet wherever they send.
        makespan_s: seconds of the epoch: compute of the slowest devices, and sending.
        communication_s: seconds of it that are sending.
        sync_wait_s: seconds that devices wait for slower ones, over all devices.
        bytes_sent: by all devices.
        efficiency: seconds of one device alone with one worker, over ``devices * makespan_s``.
    """

    partition: str
    policy: str
    devices: int
    machines: int
    imbalance: float
    makespan_s: float
    communication_s: float
    sync_wait_s: float
    bytes_sent: float
    efficiency: float


@dataclass(frozen=True)
class Simulation:
    """Rows, and what they rest on: what was measured or given, what was assumed, what else to know."""

    rows: list[Row]
    given: list[str]
    assumed: list[str]
    notes: list[str]


def simulate(scenario: Scenario, device_counts: Sequence[int]) -> Simulation:
    """Simulate an epoch at each number of devices.

    Raises:
        ConfigError: an unknown partition or policy, or devices that do not fill their machines.
    """
    unknown = [name for name in scenario.partitions if name not in PARTITIONS]
    if unknown:
        raise ConfigError(f"partition {unknown[0]!r} is unknown: take some of {', '.join(PARTITIONS)}.")
    if min(device_counts, default=0) < 1 or scenario.per_machine < 1:
        raise ConfigError(f"devices are {list(device_counts)}, {scenario.per_machine} a machine: give 1 or more.")
    networks = [scenario.network(devices) for devices in device_counts]
    work, notes, rows = scenario.workload(), notes_on(scenario), []
    for network in networks:
        if network.devices > scenario.groups_per_step:
            idle = network.devices - scenario.groups_per_step
            notes.append(f"{network.devices} devices: {idle} have no group in a step where whole groups are dealt out")
        for row, said in _Epoch(scenario, work, network).rows():
            rows.append(row)
            notes += [f"{network.devices} devices, {row.policy}: {note}" for note in said]
    return Simulation(rows, *grounds(scenario), notes)


@dataclass(frozen=True)
class _Time:
    """Seconds of compute of the slowest and of the mean device, seconds of sending, and bytes sent by all devices."""

    slowest: float
    mean: float
    sending: float = 0.0
    sent: float = 0.0

    def __add__(self, other: _Time) -> _Time:
        return _Time(
            self.slowest + other.slowest,
            self.mean + other.mean,
            self.sending + other.sending,
            self.sent + other.sent,
        )


@dataclass(frozen=True)
class _Epoch:
    """An epoch of a scenario on the devices of a network."""

    scenario: Scenario
    work: Workload
    network: Network

    def rows(self) -> Iterator[tuple[Row, Sequence[str]]]:
        """A row for each partition and policy, with what is to be said about it."""
        for partition in self.scenario.partitions:
            if partition == "blad":
                for policy in self.scenario.policies:
                    time, notes = self._by_groups(policy, self.scenario.profile.overlap)
                    yield self._row(partition, policy, time), notes
            elif partition == "group-count":
                yield self._row(partition, "count", self._by_groups("count", 1.0)[0]), ()
            else:
                time = self._by_snapshots() if partition == "snapshot" else self._by_vertices()
                yield self._row(partition, "-", time), ()

    def _by_groups(self, policy: str, overlap: float) -> tuple[_Time, Sequence[str]]:
        costs, s = self.work.costs, self.scenario
        plan = plan_epoch(costs, self.network.devices, s.groups_per_step, policy, s.seed, time_limit=s.time_limit)
        loads = Balance.of(plan, costs).loads
        if overlap < 1:
            loads = np.maximum(overlap * loads, [_longest(step, costs) for step in plan])
        return _Time(float(loads.max(axis=1).sum()), float(loads.mean(axis=1).sum())), plan.notes

    def _by_snapshots(self) -> _Time:
        """Everyone has some snapshots of each group, hands on what the recurrence needs, and has some of the nodes."""
        s, work, devices = self.scenario, self.work, self.network.devices
        split = split_vertices(s.sequence, devices, halo=s.shape.in_loop > 0)
        per_step = work.edges_ahead + work.dense_ahead
        longest, most = _split_steps(per_step, s.sequence, work.groups, devices)
        time = _Time(float(work.scale @ longest), float(work.scaled(per_step).sum()) / devices) + self._fixed()
        time += self._split_by_nodes(split, work.edges_in_loop, work.dense_in_loop)
        for width in s.shape.handed_on(s.features, s.hidden, s.cache):  # forward, then backward
            row = s.sequence.num_nodes * width * FLOAT_BYTES * (devices - 1) / devices  # of a snapshot, all but own
            if row:
                seconds = float(self.network.exchange(most * row, min(devices, work.groups.window)).sum())
                time += _Time(0.0, 0.0, seconds, len(work.groups) * work.groups.window * row)
        return time + self._exchanged(split, ((2 * s.shape.in_loop, s.hidden),))

    def _by_vertices(self) -> _Time:
        """Everyone has some of the nodes of every snapshot."""
        s, work = self.scenario, self.work
        exchanges = (
            (0 if s.cache else s.shape.inputs, s.features),  # features get no gradients
            (2 * (s.shape.ahead + s.shape.in_loop), s.hidden),
        )
        split = split_vertices(s.sequence, self.network.devices, halo=any(times for times, _ in exchanges))
        edges, dense = work.edges_ahead + work.edges_in_loop, work.dense_ahead + work.dense_in_loop
        return self._split_by_nodes(split, edges, dense) + self._fixed() + self._exchanged(split, exchanges)

    def _split_by_nodes(self, split: VertexSplit, edges: np.ndarray, dense: np.ndarray) -> _Time:
        """Compute of steps ``[T]`` whose nodes are split; devices meet at every step."""
        slowest = split.slowest(edges, dense, self.scenario.sequence.graph_of)
        mean = (edges + dense) / self.network.devices
        return _Time(float(self.work.scaled(slowest).sum()), float(self.work.scaled(mean).sum()))

    def _fixed(self) -> _Time:
        """What every device spends on every group that it takes part in."""
        fixed = float(self.work.scale.sum()) * self.work.fixed
        return _Time(fixed, fixed)

    def _exchanged(self, split: VertexSplit, exchanges: Sequence[tuple[int, int]]) -> _Time:
        """Remote neighbors' rows: at each step so many times, of so many columns each."""
        graph_of = self.scenario.sequence.graph_of
        seconds, sent = np.zeros(len(graph_of)), np.zeros(len(graph_of))
        for times, width in exchanges:
            row = width * FLOAT_BYTES
            sent += times * row * split.halo[graph_of]
            if times:
                seconds += times * self.network.exchange(row * split.halo_most[graph_of])
        groups, s = self.work.groups, self.scenario
        sums = [float(group_sizes(values, groups).sum()) for values in (seconds, sent)]
        if s.shape.in_loop:  # the fresh state of a group's first step gets no gradient
            row, first = s.hidden * FLOAT_BYTES, graph_of[groups.first]
            sums[0] -= float(self.network.exchange(row * split.halo_most[first]).sum())
            sums[1] -= float(row * split.halo[first].sum())
        return _Time(0.0, 0.0, *sums)

    def _row(self, partition: str, policy: str, time: _Time) -> Row:
        s, devices = self.scenario, self.network.devices
        time += _Time(
            0.0,
            0.0,
            s.steps * self.network.all_reduce(s.parameter_bytes),
            s.steps * self.network.all_reduce_bytes(s.parameter_bytes),
        )
        makespan = time.slowest + time.sending
        return Row(
            partition=partition,
            policy=policy,
            devices=devices,
            machines=self.network.machines,
            imbalance=time.slowest / time.mean if time.mean else 1.0,
            makespan_s=makespan,
            communication_s=time.sending,
            sync_wait_s=devices * (time.slowest - time.mean),
            bytes_sent=time.sent,
            efficiency=float(self.work.costs.sum()) / (devices * makespan) if makespan else 1.0,
        )


def _split_steps(
    seconds: np.ndarray, sequence: SnapshotSequence, groups: Groups, devices: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each group's steps in runs, one per device: seconds of the longest run, and steps of the run with most.

    The runs are those of the snapshot partition, balanced by edges and nodes. With a device for each step there is
    nothing to balance.

    Returns:
        float64 ``[G]``, int64 ``[G]``.
    """
    if devices >= groups.window:
        steps = np.lib.stride_tricks.sliding_window_view(seconds, groups.window)[groups.first]
        return steps.max(axis=1), np.ones(len(groups), np.int64)
    cost, total = step_cost(sequence), np.concatenate([[0], np.cumsum(seconds)])
    longest, most = np.empty(len(groups)), np.empty(len(groups), np.int64)
    for group, first in enumerate(groups.first):
        runs = first + contiguous_blocks(cost[first : first + groups.window], devices)
        longest[group], most[group] = np.diff(total[runs]).max(), np.diff(runs).max()
    return longest, most


def _longest(step: Step, costs: np.ndarray) -> np.ndarray:
    """The dearest group of each device, which one worker runs from start to end."""
    return np.array([costs[groups[0]] if len(groups) else 0.0 for groups in step])
