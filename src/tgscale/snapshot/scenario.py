"""What is simulated, and what of it is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.groups import Groups
from tgscale.snapshot.halo import is_counted
from tgscale.snapshot.network import Network
from tgscale.snapshot.profile import Profile, profile_names
from tgscale.snapshot.shapes import Shape
from tgscale.snapshot.workload import Workload, make_workload

PARTITIONS = ("blad", "group-count", "snapshot", "vertex")
FLOAT_BYTES = 4
UNITS = {
    "device_bandwidth": "bytes/s inside a machine",
    "machine_bandwidth": "bytes/s between machines, per machine",
    "device_latency": "s inside a machine",
    "machine_latency": "s between machines",
    "parameter_bytes": "bytes of gradients per step",
}


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Attributes:
        sequence: the data; all its steps are trained on.
        groups: of its steps.
        shape, features, hidden: the model, F and C.
        parameters: number of weights.
        groups_per_step: between two updates of the weights.
        profile: of device and links.
        given: names of what the profile gives; the rest is assumed.
        per_machine: devices of a machine.
        cache: the aggregated features are kept for the whole run.
        measured: float ``[G]``, seconds of each group, or None.
        policies: those that ``blad`` is simulated with.
        partitions: some of :data:`PARTITIONS`.
        seed: of the shuffle.
        time_limit: seconds for the policy ``optimal``.
    """

    sequence: SnapshotSequence
    groups: Groups
    shape: Shape
    features: int
    hidden: int
    parameters: int
    groups_per_step: int
    profile: Profile = field(default_factory=Profile)
    given: frozenset[str] = frozenset()
    per_machine: int = 8
    cache: bool = True
    measured: np.ndarray | None = None
    policies: tuple[str, ...] = ("lpt", "cross-window")
    partitions: tuple[str, ...] = PARTITIONS
    seed: int = 0
    time_limit: float = 10.0

    def workload(self) -> Workload:
        """The work of an epoch on one device."""
        edges, nodes = self.sequence.edge_counts(), self.sequence.num_nodes
        model = (self.shape, self.features, self.hidden, self.cache)
        return make_workload(edges, nodes, self.groups, *model, self.profile, self.measured)

    def network(self, devices: int) -> Network:
        """The links of so many devices."""
        p = self.profile
        links = (p.device_bandwidth, p.machine_bandwidth, p.device_latency, p.machine_latency)
        return Network(devices, min(devices, self.per_machine), *links)

    @property
    def parameter_bytes(self) -> int:
        given = self.profile.parameter_bytes
        return FLOAT_BYTES * self.parameters if given is None else given

    @property
    def steps(self) -> int:
        """Updates of the weights in an epoch."""
        return -(-len(self.groups) // self.groups_per_step)


def grounds(scenario: Scenario) -> tuple[list[str], list[str]]:
    """What was measured or given, and what is assumed, in words."""
    profile, assumed = scenario.profile, list[str]()
    given = ["the sizes of the snapshots, from the data"]
    if scenario.measured is not None:
        given.append("the time of each group, measured")
    for name in profile_names():
        value = scenario.parameter_bytes if name == "parameter_bytes" else getattr(profile, name)
        if name in scenario.given:
            given.append(f"{name} {_figure(name, value)}, from the profile")
        elif name == "coefficients":
            what = "the time of a group" if scenario.measured is None else "what a group's measured time is made of"
            assumed.append(f"{what}: a device of 1 TB/s and 10 TFLOP/s that takes 0.5 ms to start a group")
        elif name == "overlap":
            assumed.append("two workers on a device are as fast as one (overlap 1)")
        elif name == "hoisted_share":
            assumed.append("work ahead of the recurrence and in it are shared out by operation counts")
        elif name == "parameter_bytes":
            assumed.append(f"gradients of {value:,} bytes per step, those of the model without its decoder")
        else:
            assumed.append(f"{name} {_figure(name, value)}")
    assumed += ["compute and sending do not overlap", "what a device sends to all others is under way at once"]
    if {"snapshot", "vertex"} & set(scenario.partitions):
        assumed.append("nodes are split into runs of consecutive ids, not by a graph partitioner")
        assumed.append("the loss needs no node of another device, as in node regression")
    return given, assumed


def _figure(name: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {UNITS[name]}" if name in UNITS else text


def notes_on(scenario: Scenario) -> list[str]:
    """What the reader of the rows should know besides."""
    notes = []
    if scenario.cache and scenario.shape.inputs:
        notes.append("aggregated features are kept for the whole run, so an epoch does not aggregate them")
    if scenario.sequence.num_edges and not is_counted(scenario.sequence):
        notes.append("remote neighbors are not counted but expected, for nodes that fall on devices at random")
    if scenario.profile.coefficients is None and scenario.measured is None:
        notes.append("nothing was timed: compare rows with each other, and take no second of them for granted")
    return notes
