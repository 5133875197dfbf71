"""How long devices talk: machines alike, each with as many devices, a fast link inside and a slower one between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgscale.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """Links of ``devices`` devices, ``per_machine`` of them in each machine.

    Attributes:
        devices: P.
        per_machine: D, devices of a machine; P is a multiple of it.
        device_bandwidth: bytes per second that a device sends to others of its machine.
        machine_bandwidth: bytes per second that a machine sends to others, shared by its devices.
        device_latency, machine_latency: seconds before a message arrives, inside a machine and between machines.
    """

    devices: int
    per_machine: int
    device_bandwidth: float
    machine_bandwidth: float
    device_latency: float
    machine_latency: float

    def __post_init__(self) -> None:
        if self.devices % self.per_machine:
            raise ConfigError(
                f"{self.devices} devices do not fill machines of {self.per_machine}: give a multiple of it, or fewer."
            )

    @property
    def machines(self) -> int:
        return self.devices // self.per_machine

    def all_reduce(self, size: float) -> float:
        """Seconds until ``size`` bytes are summed over all devices.

        Rings: reduce-scatter inside each machine, a ring between machines on the shares, all-gather inside; on one
        machine that is the plain ring's ``2 (P - 1) / P * size / bandwidth + 2 (P - 1) * latency``.
        """
        inside, between = self.per_machine, self.machines
        return (
            2 * (inside - 1) / inside * size / self.device_bandwidth
            + 2 * (inside - 1) * self.device_latency
            + 2 * (between - 1) / between * size / self.machine_bandwidth
            + 2 * (between - 1) * self.machine_latency
        )

    def all_reduce_bytes(self, size: float) -> float:
        """Bytes that all devices together send in :meth:`all_reduce`."""
        return 2 * (self.devices - 1) * size

    def exchange(self, size: np.ndarray, senders: int | None = None) -> np.ndarray:
        """Seconds until each sender has sent ``size`` bytes in equal parts to all other devices.

        All messages are under way at once, and both links work at the same time, so the slower one counts, and one
        latency of it.

        Args:
            size: bytes, of any shape.
            senders: how many devices send, spread evenly over the machines; all of them unless given.
        """
        if self.devices == 1:
            return np.zeros_like(size, dtype=np.float64)
        others = self.devices - 1
        inside = size * (self.per_machine - 1) / others / self.device_bandwidth
        sharing = self.per_machine if senders is None else -(-senders // self.machines)  # a machine's link
        between = sharing * size * (self.devices - self.per_machine) / others / self.machine_bandwidth
        latency = self.device_latency if self.machines == 1 else max(self.machine_latency, self.device_latency)
        return np.maximum(inside, between) + latency
