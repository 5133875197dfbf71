"""What a simulation takes for granted: the speed of a device on a model, and of the links between devices."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from tgscale.errors import ConfigError
from tgscale.train.config_io import from_dict, read_yaml


@dataclass(frozen=True)
class Profile:
    """A device and its links. What is left out is assumed: see :mod:`tgscale.snapshot.cost` for the device.

    Attributes:
        coefficients: ``a0 .. a4`` of :mod:`tgscale.snapshot.cost`, fitted to the model's training times; in seconds.
        hoisted_share: share of a group's time, less ``a0``, that is spent ahead of the recurrence, in [0, 1].
        overlap: time of a device's groups with two workers over their time one after another, in (0, 1].
        parameter_bytes: of the gradients that are summed at each step.
        device_bandwidth: bytes per second that a device sends inside a machine.
        machine_bandwidth: bytes per second that a machine sends to others; 2.5e10 is a link of 200 Gbit/s.
        device_latency: seconds before a message arrives, inside a machine.
        machine_latency: the same between machines.
    """

    coefficients: tuple[float, ...] | None = None
    hoisted_share: float | None = None
    overlap: float = 1.0
    parameter_bytes: int | None = None
    device_bandwidth: float = 3e11
    machine_bandwidth: float = 2.5e10
    device_latency: float = 5e-6
    machine_latency: float = 2e-5

    def __post_init__(self) -> None:
        given = self.coefficients
        if given is not None and (len(given) != 5 or not all(0 <= a < math.inf for a in given) or not any(given)):
            raise ConfigError(f"coefficients are {list(given)}: give five numbers of 0 or more, in seconds, not all 0.")
        for name, value, above, most in (
            ("overlap", self.overlap, 0, 1),
            ("device_bandwidth", self.device_bandwidth, 0, math.inf),
            ("machine_bandwidth", self.machine_bandwidth, 0, math.inf),
        ):
            if not above < value <= most:
                raise ConfigError(f"{name} is {value}: give a number above {above}, at most {most}.")
        for name, number, most in (
            ("hoisted_share", self.hoisted_share, 1),
            ("parameter_bytes", self.parameter_bytes, math.inf),
            ("device_latency", self.device_latency, math.inf),
            ("machine_latency", self.machine_latency, math.inf),
        ):
            if number is not None and not 0 <= number <= most:
                raise ConfigError(f"{name} is {number}: give a number from 0 to {most}.")


def read_profile(path: Path | str) -> tuple[Profile, set[str]]:
    """A profile in a YAML or JSON file, and the names that the file gives; the rest is assumed.

    Raises:
        ConfigError: no such file, an unknown name, or a value that does not fit.
    """
    values = read_yaml(path)
    return from_dict(Profile, values, str(path)), {name.replace("-", "_") for name in values}


def profile_names() -> list[str]:
    """Names of all that a profile holds."""
    return [field.name for field in fields(Profile)]
