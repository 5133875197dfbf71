"""`tgscale data`: make, import, export and describe data directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import RenderableType

from tgscale.cli import data_export, data_get
from tgscale.cli.console import Output
from tgscale.cli.data_import import run
from tgscale.cli.data_report import sequence_text
from tgscale.cli.dispatch import Command, dispatch
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.snapshot_summary import render_snapshots, summarize_snapshots
from tgscale.data.store import check_target, kind_of, open_stream, save_stream
from tgscale.data.summary import render, summarize
from tgscale.data.value_words import counted
from tgscale.train.config_io import parse


@dataclass
class GenerateStream:
    """Make an event stream with recurring pairs, drifting preferences, bursts and communities."""

    out: Path
    """Data directory to make."""
    events: int = 100_000
    """Number of events."""
    nodes: int = 5_000
    """Number of nodes; four fifths are users, the rest items."""
    edge_features: int = 16
    """Width of the edge features; 0 for none."""
    seed: int = 0
    """Equal seeds and options make equal streams."""
    communities: int | None = None
    """Number of communities; 20 unless given."""
    repeat: float = 0.6
    """Share of events with a recent partner."""
    drift: float = 0.02
    """Chance per event that a user changes community."""
    mean_gap: float = 26.0
    """Mean seconds between two events."""
    edge_classes: int = 0
    """Number of classes, of which an event has any number; 0 for none."""
    bipartite: bool = True
    """Users meet items; otherwise every node may meet every other."""
    overwrite: bool = False
    """Replace a data directory that is already there."""


@dataclass
class GenerateSnapshots:
    """Make a snapshot sequence with power-law degrees, uneven sizes, slow change and a target that can be learned."""

    out: Path
    """Data directory to make."""
    nodes: int = 20_000
    """Number of nodes."""
    snapshots: int = 60
    """Number of snapshots."""
    edges: int = 200_000
    """Mean number of edges in a snapshot."""
    change: float = 5.0
    """Per cent of the edges that differ from one snapshot to the next."""
    skew: float = 2.0
    """The largest snapshot has 1 + SKEW times the mean number of edges; 0 makes all equal."""
    features: int = 8
    """Number of node features; 0 for none, and no target."""
    seed: int = 0
    """Equal seeds and options make equal sequences."""
    overwrite: bool = False
    """Replace a data directory that is already there."""


@dataclass
class Info:
    """Describe a data directory."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Data directory."""
    verify: bool = False
    """Check all files against their checksums first."""
    json: bool = False
    """Print JSON instead of tables."""


def generate(argv: list[str]) -> None:
    """`tgscale data generate stream`."""
    options = asdict(parse(GenerateStream, argv, prog="tgscale data generate stream"))
    out, overwrite = options.pop("out"), options.pop("overwrite")
    check_target(out.absolute(), overwrite)  # before the work, not after it
    stream = generate_stream(**options)
    save_stream(stream, out, overwrite)
    sizes = {"event": stream.num_events, "node": stream.num_nodes, "edge feature": stream.edge_dim}
    print(f"{out}: {', '.join(counted(number, what) for what, number in sizes.items())}")


def generate_sequence(argv: list[str]) -> None:
    """`tgscale data generate snapshots`."""
    options = asdict(parse(GenerateSnapshots, argv, prog="tgscale data generate snapshots"))
    out, overwrite = options.pop("out"), options.pop("overwrite")
    check_target(out.absolute(), overwrite)  # before the work, not after it
    sequence = generate_snapshots(name=out.absolute().name, **options)
    save_snapshots(sequence, out, overwrite, {"format": "generated", **options})
    print(f"{out}: {sequence_text(sequence)}")


def info(argv: list[str]) -> None:
    """`tgscale data info`."""
    options = parse(Info, argv, prog="tgscale data info")
    kind = kind_of(options.data)
    summary, draw = _describe_stream(options) if kind == "stream" else _describe_snapshots(options)
    if options.json:
        print(json.dumps(summary, indent=1))
    else:
        Output().print(draw(summary))


def _describe_stream(options: Info) -> tuple[dict[str, Any], Callable[[dict[str, Any]], RenderableType]]:
    return summarize(open_stream(options.data, verify=options.verify)), render


def _describe_snapshots(options: Info) -> tuple[dict[str, Any], Callable[[dict[str, Any]], RenderableType]]:
    return summarize_snapshots(open_snapshots(options.data, verify=options.verify)), render_snapshots


def main(argv: list[str]) -> None:
    """Run `tgscale data ...`."""
    dispatch("tgscale data", "Make, import, export and describe data directories.", COMMANDS, argv)


COMMANDS = {
    "generate stream": Command("make a stream of events to try things on", generate),
    "generate snapshots": Command("make a sequence of snapshots to try things on", generate_sequence),
    "list": Command("public data sets that can be fetched by name", data_get.run_list),
    "get": Command("fetch a public data set, check it and import it", data_get.run_get),
    "import": Command("import events or snapshots from files of a dozen formats, databases or SQL", run),
    "export": Command(
        "write a data directory as CSV, Parquet, JODIE, TGL, DyGLib, SNAP, PyG, TGB or PyGT", data_export.run
    ),
    "info": Command("counts, times, degrees, changes, splits and sizes of a data directory", info),
}
