"""`tgscale data`: make, import and describe data directories."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.filesize import decimal

from tgscale.cli.dispatch import Command, dispatch
from tgscale.data.generate import generate_stream
from tgscale.data.ingest import ImportReport, import_events
from tgscale.data.store import NODE_IDS, check_target, open_stream, save_stream
from tgscale.data.summary import render, summarize
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
    bipartite: bool = True
    """Users meet items; otherwise every node may meet every other."""
    overwrite: bool = False
    """Replace a data directory that is already there."""


@dataclass
class ImportEvents:
    """Import events from files or a query."""

    out: Path
    """Data directory to make."""
    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE ..")] = ()
    """Files, a folder, or a pattern such as 'part-*.parquet'. May be left out with --query."""
    format: str = "auto"
    """auto, csv, parquet, json, jodie, tgl or dyglib."""
    src: str | None = None
    """Column of source nodes, where its name is not a usual one."""
    dst: str | None = None
    """Column of destination nodes."""
    time: str | None = None
    """Column of times."""
    label: str | None = None
    """Column of labels."""
    edge_features: str | None = None
    """Columns of edge features: names or patterns, with commas, such as 'f*,weight'; or one column of lists."""
    node_features: Path | None = None
    """Table of node features: .npy, or CSV or Parquet with a column id."""
    bipartite: bool = False
    """Sources and destinations have ids of their own."""
    on_error: Literal["stop", "drop"] = "stop"
    """What to do at a row that cannot be used."""
    memory_limit: str = "2GB"
    """How much memory the import may take; what does not fit goes to disk beside the target."""
    time_unit: Literal["s", "ms", "us", "ns", "step"] = "s"
    """Unit of the stored times."""
    source_time_unit: Literal["s", "ms", "us", "ns", "step"] = "s"
    """Unit of numeric times in the source."""
    split: str | None = None
    """Column that holds 0 (train), 1 (val) or 2 (test)."""
    ids: Literal["auto", "int", "text"] = "auto"
    """What node ids are."""
    query: str | None = None
    """SQL (DuckDB) whose result is imported; it may call the files `source`."""
    name: str | None = None
    """Name for reports; the directory's name unless given."""
    overwrite: bool = False
    """Replace a data directory that is already there."""
    quiet: bool = False
    """Show no progress."""


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
    print(f"{out}: {stream.num_events:,} events, {stream.num_nodes:,} nodes, {stream.edge_dim} edge features")


def import_(argv: list[str]) -> None:
    """`tgscale data import`."""
    options = asdict(parse(ImportEvents, argv, prog="tgscale data import"))
    sources, out, quiet = options.pop("sources") or None, options.pop("out"), options.pop("quiet")
    report = import_events(sources, out, progress=_ignore if quiet else _show, **options)
    print(report_text(report))


def info(argv: list[str]) -> None:
    """`tgscale data info`."""
    options = parse(Info, argv, prog="tgscale data info")
    summary = summarize(open_stream(options.data, verify=options.verify))
    if options.json:
        print(json.dumps(summary, indent=1))
    else:
        Console().print(render(summary))


def report_text(report: ImportReport) -> str:
    """What an import did, in words."""
    columns = asdict(report.columns)
    roles = [f"{role} from {columns[role]!r}" for role in ("src", "dst", "time", "label", "split") if columns[role]]
    sources = f" ({report.num_sources:,} of them sources)" if report.num_sources is not None else ""
    node_features = f", {report.node_dim} node features" if report.node_dim else ""
    lines = [
        f"read as {report.format}{f' ({report.note})' if report.note else ''}: {', '.join(roles)}",
        f"{report.events:,} events, {report.nodes:,} nodes{sources}, {report.edge_dim} edge features{node_features}, "
        f"times {report.first_time:,} to {report.last_time:,} {report.time_unit}",
    ]
    if report.relabelled:
        lines.append(f"node ids were numbered anew; {NODE_IDS} in the data directory holds the old ones")
    for dropped in report.dropped:
        lines.append(f"left out {dropped.rows:,} rows for their {dropped.part}, such as:")
        lines += [f"  {example}" for example in dropped.examples]
    lines += [f"note: {hint}" for hint in report.hints]
    return "\n".join([*lines, f"{report.path}: {decimal(report.bytes)} in {report.seconds:.1f} s"])


def main(argv: list[str]) -> None:
    """Run `tgscale data ...`."""
    dispatch("tgscale data", "Make, import and describe data directories.", COMMANDS, argv)


COMMANDS = {
    "generate stream": Command("make a stream of events to try things on", generate),
    "import": Command("import events from CSV, Parquet, JSON, JODIE, TGL, DyGLib or SQL", import_),
    "info": Command("counts, times, degrees, bursts, splits and sizes of a data directory", info),
}


def _show(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)


def _ignore(step: str) -> None:
    pass
