"""`tgscale simulate`: how long an epoch takes on many devices, by each way to divide it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tgscale.cli.console import Output
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.assign import POLICIES, TIME_LIMIT
from tgscale.snapshot.build import MODELS
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.groups import make_groups
from tgscale.snapshot.profile import Profile, read_profile
from tgscale.snapshot.scenario import PARTITIONS, Scenario
from tgscale.snapshot.shapes import SHAPES
from tgscale.snapshot.simulate import Simulation, simulate
from tgscale.train.config_io import parse

DEGREES = 2  # features per node where the data has none: degrees, in and out


@dataclass
class SimulateCommand:
    """Simulate an epoch of training on many devices: makespan, imbalance, waiting and bytes sent, by each partition."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Data directory of a snapshot sequence."""
    model: Literal["tgcn", "a3tgcn", "lrgcn", "gclstm", "gconv_gru", "evolvegcn_o", "evolvegcn_h", "mpnn_lstm"] = "tgcn"
    """Model to train."""
    hidden: int = 32
    """Width of the hidden state."""
    features: int | None = None
    """Features per node; those of the data, or 2 (degrees) where it has none."""
    devices: str = "8,64,512"
    """Numbers of devices, with commas between them."""
    machines_of: int = 8
    """Devices of a machine."""
    window: int = 8
    """Snapshots of a group."""
    stride: int = 1
    """Steps from the start of a group to that of the next."""
    groups_per_step: int | None = None
    """Groups between two updates of the weights; as many as the most devices, or as there are, unless given."""
    partitions: str = ",".join(PARTITIONS)
    """Ways to divide the work, with commas between them: blad, group-count, snapshot, vertex."""
    policies: str = "lpt,cross-window"
    """Policies for blad, with commas between them: count, lpt, optimal, cross-window."""
    cache: bool = True
    """Aggregated features are kept for the whole run, as `tgscale train` keeps them."""
    profile: Path | None = None
    """YAML or JSON file with coefficients, hoisted_share, overlap, parameter_bytes, bandwidths and latencies; what it
    leaves out is assumed."""
    costs: Path | None = None
    """.npy file with the measured seconds of each group."""
    time_limit: float = TIME_LIMIT
    """Seconds that the policy optimal may take for the epoch."""
    seed: int = 0
    """Seed of the order of the groups."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> None:
    """Simulate as the command line says, and print it."""
    command = parse(SimulateCommand, argv, prog="tgscale simulate")
    counts = [_count(text) for text in _items("devices", command.devices)]
    for name in ("hidden", "features", "groups_per_step", "machines_of"):
        if (value := getattr(command, name)) is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: give a whole number of 1 or more.")
    profile, given = (Profile(), set[str]()) if command.profile is None else read_profile(command.profile)
    measured = None if command.costs is None else read_costs(command.costs)
    policies = _known("policies", command.policies, POLICIES)
    partitions = _known("partitions", command.partitions, PARTITIONS)
    sequence = open_snapshots(command.data)
    groups = make_groups(0, sequence.num_steps, command.window, command.stride)
    features = command.features or sequence.node_dim or DEGREES
    config = SnapshotConfig(command.data, Path(), command.model, window=command.window)
    config.net.hidden = command.hidden
    with torch.device("meta"):
        model = MODELS[command.model](config, features, sequence.num_relations)
    scenario = Scenario(
        sequence,
        groups,
        SHAPES[command.model],
        features,
        command.hidden,
        sum(weight.numel() for weight in model.parameters()),
        command.groups_per_step or min(len(groups), max(counts)),
        profile,
        frozenset(given),
        command.machines_of,
        command.cache,
        measured,
        policies,
        partitions,
        command.seed,
        command.time_limit,
    )
    simulation = simulate(scenario, counts)
    if command.json:
        print(json.dumps(to_dict(scenario, simulation, command.model), indent=1))
    else:
        print_simulation(scenario, simulation, command.model)


def read_costs(path: Path) -> np.ndarray:
    """Measured seconds of each group, float64.

    Raises:
        ConfigError: not a ``.npy`` file of numbers.
    """
    try:
        costs = np.load(path, allow_pickle=False)
        return np.asarray(costs, np.float64)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"--costs {path} cannot be read as a .npy array of seconds: {error}") from None


def to_dict(scenario: Scenario, simulation: Simulation, model: str) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "data": _size(scenario.sequence),
        "model": {"name": model, "features": scenario.features, "hidden": scenario.hidden, "cache": scenario.cache},
        "groups": len(scenario.groups),
        "window": scenario.groups.window,
        "groups_per_step": scenario.groups_per_step,
        "steps": scenario.steps,
        "rows": [asdict(row) for row in simulation.rows],
        "measured": simulation.given,
        "assumed": simulation.assumed,
        "notes": simulation.notes,
    }


def print_simulation(scenario: Scenario, simulation: Simulation, model: str) -> None:
    """The rows as a table, then what they rest on."""
    console = Output(highlight=False)
    groups, sequence = scenario.groups, scenario.sequence
    table = Table(
        title=f"{sequence.name}: an epoch of {model} on {len(groups):,} groups of {groups.window} snapshots, "
        f"{scenario.groups_per_step:,} groups per step, {scenario.per_machine} devices a machine",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("partition", "imbalance", "epoch", "sending", "waiting", "sent", "efficiency"):
        table.add_column(name, justify="left" if name == "partition" else "right", no_wrap=True)
    devices = 0
    for row in simulation.rows:
        if row.devices != devices:
            devices = row.devices
            table.add_row(f"{devices:,} device{'s' if devices > 1 else ''}", style="bold")
        table.add_row(
            row.partition + (f", {row.policy}" if row.partition == "blad" else ""),
            f"{row.imbalance:.3f}",
            _seconds(row.makespan_s),
            f"{row.communication_s / row.makespan_s:.1%}" if row.makespan_s else "",
            _seconds(row.sync_wait_s),
            _bytes(row.bytes_sent),
            f"{row.efficiency:.1%}",
        )
    console.print(table)
    console.print(
        "imbalance: slowest over mean device; sending: its share of the epoch; waiting, sent: of all devices together; "
        "efficiency: time of one device alone over that of all.",
        soft_wrap=True,
    )
    for title, lines in (
        ("measured or given", simulation.given),
        ("assumed", simulation.assumed),
        ("note", simulation.notes),
    ):
        for line in lines:
            console.print(Text.assemble((title, "bold"), f": {line}"), soft_wrap=True)


def _size(sequence: SnapshotSequence) -> dict[str, Any]:
    return {
        "name": sequence.name,
        "steps": sequence.num_steps,
        "nodes": sequence.num_nodes,
        "edges": int(sequence.edge_counts().sum()),
    }


def _items(name: str, text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items) or len(set(items)) < len(items):
        raise ConfigError(f"--{name} is {text!r}: give different values with commas between them.")
    return items


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--devices has {text!r}: give whole numbers of 1 or more, such as 8,64,512.")
    return int(text)


def _known(name: str, text: str, known: Any) -> tuple[str, ...]:
    items = _items(name, text)
    for item in items:
        if item not in known:
            raise ConfigError(f"--{name} has {item!r}: take some of {', '.join(known)}.")
    return tuple(items)


def _seconds(seconds: float) -> str:
    if seconds >= 0.9995:
        return f"{seconds:,.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"


def _bytes(size: float) -> str:
    for unit, amount in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= amount:
            return f"{size / amount:,.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
