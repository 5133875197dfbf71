"""`tgscale data import`: which import a command line asks for, and which options go with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from tgscale.cli.data_report import events_text, snapshots_text
from tgscale.data.directory import META
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_array import import_array
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.snapshot_pgt import import_pgt
from tgscale.data.windows import HOW
from tgscale.errors import ConfigError
from tgscale.train.config_io import parse


@dataclass
class ImportOptions:
    """Import events, or snapshots, from files, a query or a data directory."""

    out: Path
    """Data directory to make."""
    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE ..")] = ()
    """Files, a folder, or a pattern such as 'part-*.parquet'. May be left out with --query."""
    format: str = "auto"
    """auto, csv, parquet, json, jodie, tgl, dyglib, tgb, snap, pyg, sqlite or duckdb; pgt (JSON of PyTorch Geometric
    Temporal); array (.npz)."""
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
    edge_classes: str | None = None
    """What kind of event each is: a column of classes (numbers or text), a column of lists of them, or several columns
    of 0 and 1, as names or patterns with commas."""
    node_labels: Path | None = None
    """Table of the nodes' classes: CSV, Parquet or JSON with a column id."""
    node_label_column: str | None = None
    """Column of the classes in that table, where it has more columns."""
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
    snapshots: str | None = None
    """Make snapshots, by the column that numbers them."""
    every: str | None = None
    """Make snapshots of time windows: 1d, 6h, 30min, or a number in the time unit."""
    events_per_snapshot: int | None = None
    """Make snapshots of so many events."""
    intervals: str | None = None
    """Make snapshots; two columns FIRST,LAST say in which an edge stands, both included."""
    undirected: bool = False
    """Snapshots: store every edge both ways."""
    weight: str | None = None
    """Snapshots: column of edge weights ('weight' unless given); 'count' for the number of events; '' for none."""
    edge_type: str | None = None
    """Snapshots: column of edge types, integers from 0."""
    lags: int | None = None
    """Formats pgt and array: earlier values that are a snapshot's features."""
    series: str | None = None
    """Format array: the array [T, N] or [T, N, F] in the file."""
    adjacency: str | None = None
    """Format array: the array [N, N] in the file ('adj' unless given), or another file, FILE or FILE:NAME."""
    horizon: int = 1
    """Format array: how many steps ahead the target lies."""
    steps_per_day: int | None = None
    """Format array: adds the time of day as a feature."""
    first_step: int | None = None
    """Format array: number of the first value, from a midnight on; 0 unless given."""
    zscore: bool = False
    """Format array: scale each channel by mean and deviation of the first --train-share of the steps."""
    train_share: float = 0.7
    """Format array: see --zscore."""
    scale_as: Path | None = None
    """Format array: a data directory that was made from a series; scale as it did, in place of --zscore. For a longer
    series that its model is to predict."""


class Import(NamedTuple):
    """One import: what it is called in messages, the options that go with it, how it is run."""

    about: str
    options: frozenset[str]
    run: Callable[[dict[str, Any]], str]


COMMON = {"out", "sources", "format", "name", "overwrite", "quiet"}
ROWS = {
    "src", "dst", "time", "label", "node_features", "bipartite", "on_error", "memory_limit", "time_unit",
    "source_time_unit", "ids", "query",
}  # fmt: skip
CUTS = {"snapshots", "every", "events_per_snapshot", "intervals"}


def run(argv: list[str]) -> None:
    """`tgscale data import`."""
    options = parse(ImportOptions, argv, prog="tgscale data import")
    chosen = IMPORTS[choose(options)]
    given = {field.name for field in fields(options) if getattr(options, field.name) != field.default}
    for name in sorted(given - chosen.options):
        goes_with = [other.about for other in IMPORTS.values() if name in other.options]
        raise ConfigError(
            f"--{name.replace('_', '-')} does not go with {chosen.about}: it is for {' and '.join(goes_with)}. "
            f"Snapshots are made by {HOW}."
        )
    print(chosen.run({name: value for name, value in vars(options).items() if name in chosen.options}))


def choose(options: ImportOptions) -> str:
    """Which of :data:`IMPORTS` is meant.

    Raises:
        ConfigError: a data directory and no word on how to make snapshots of it.
    """
    if options.format in ("pgt", "array"):
        return options.format
    if any(getattr(options, name) is not None for name in CUTS):
        return "snapshots"
    one = Path(options.sources[0]) if len(options.sources) == 1 else None
    if one is not None and options.format == "auto" and one.suffix in (".npz", ".npy"):
        return "array"
    if one is not None and (one / META).is_file():
        raise ConfigError(f"{one} is a data directory already; to make snapshots of its events say how: {HOW}.")
    return "events"


def _events(options: dict[str, Any]) -> str:
    sources, out, quiet = options.pop("sources") or None, options.pop("out"), options.pop("quiet")
    return events_text(import_events(sources, out, progress=_ignore if quiet else _show, **options))


def _snapshots(options: dict[str, Any]) -> str:
    sources, out, quiet = options.pop("sources") or None, options.pop("out"), options.pop("quiet")
    return snapshots_text(import_snapshots(sources, out, progress=_ignore if quiet else _show, **options))


def _pgt(options: dict[str, Any]) -> str:
    return snapshots_text(import_pgt(*_one_file(options), **options))


def _array(options: dict[str, Any]) -> str:
    options["lags"] = 1 if options["lags"] is None else options["lags"]
    return snapshots_text(import_array(*_one_file(options), **options))


def _one_file(options: dict[str, Any]) -> tuple[str, Path]:
    sources = options.pop("sources")
    del options["format"], options["quiet"]
    if len(sources) != 1:
        raise ConfigError(f"{len(sources)} sources were given: this format takes one file.")
    return sources[0], options.pop("out")


IMPORTS = {
    "events": Import(
        "an import of events",
        frozenset(COMMON | ROWS | {"edge_features", "split", "edge_classes", "node_labels", "node_label_column"}),
        _events,
    ),
    "snapshots": Import(
        "an import of snapshots", frozenset(COMMON | ROWS | CUTS | {"undirected", "weight", "edge_type"}), _snapshots
    ),
    "pgt": Import("--format pgt", frozenset(COMMON | {"lags"}), _pgt),
    "array": Import(
        "--format array",
        frozenset(
            COMMON
            | {"lags", "series", "adjacency", "horizon", "steps_per_day", "first_step"}
            | {"zscore", "train_share", "scale_as"}
        ),
        _array,
    ),
}


def _show(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)


def _ignore(step: str) -> None:
    pass
