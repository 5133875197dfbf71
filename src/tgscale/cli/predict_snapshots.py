"""`tgscale predict` of a run on snapshots: the steps that follow, or any others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tgscale.cli.console import Output
from tgscale.data.value_words import counted
from tgscale.snapshot.predict.request import Request
from tgscale.snapshot.predict.run import run_request
from tgscale.train.config_io import parse
from tgscale.train.metric_names import metric_name
from tgscale.train.rundir import plain


@dataclass
class PredictSnapshotsCommand:
    """Predict steps of snapshots with the best weights of a run: targets, likely links, or classes of edges."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    out: Path
    """Parquet file to write: a row per node, source or pair of each step."""
    snapshots: Path | None = None
    """Data directory of other snapshots to predict, imported with the same options; the run's own unless given."""
    steps: str = "next"
    """next: what is not known yet (the step after the last snapshot; of targets, all that are unknown). val, test: that
    part of the run's data. Or a step, or FIRST:STOP."""
    queries: Path | None = None
    """Table of sources, to be answered with the likeliest destinations, or of pairs, to be scored or classified. All
    sources of the latest snapshots (links), or the step's edges (classes), unless given."""
    top_k: int | None = None
    """How many destinations to write per source, best first; 0 for all. 10 unless given."""
    src: str | None = None
    """Column of sources in the queries; as in the import of the data, or a usual name, unless given."""
    dst: str | None = None
    """Column of destinations."""
    data: Path | None = None
    """The run's data directory, where it has moved."""
    device: str | None = None
    """As in training unless given."""
    threads: int | None = None
    """CPU threads; as in training unless given."""
    overwrite: bool = False
    """Replace the file."""
    json: bool = False
    """Print JSON instead of words."""
    quiet: bool = False
    """Print nothing but errors."""


def main(argv: list[str]) -> None:
    """Predict as the command line says, and print what was done."""
    command = parse(PredictSnapshotsCommand, argv, prog="tgscale predict")
    options = dict(vars(command))
    as_json = options.pop("json")
    options["quiet"] = command.quiet or as_json
    done = run_request(Request(**options))
    if as_json:
        print(json.dumps(plain(done), indent=1, allow_nan=False))
    elif not command.quiet:
        _print_done(done)


def _print_done(done: dict[str, Any]) -> None:
    console = Output(soft_wrap=True, highlight=False)
    first, last = done["steps"][0], done["steps"][1] - 1
    where = f"step {first}" if first == last else f"steps {first} to {last}"
    console.print(
        f"{counted(done['rows'], 'row')} ({done['task']}, {where}) in {done['seconds']:.1f} s, at most "
        f"{done['peak_memory_bytes'] / 2**20:,.0f} MiB."
    )
    if done["metrics"]:
        console.print(f"where the answer is known, as in an evaluation: {in_words(done['metrics'])}.")
    console.print(f"  {done['out']}  the predictions")


def in_words(metrics: dict[str, Any]) -> str:
    """Metrics in a line, those that there are; empty where there are none."""
    measured = plain(metrics).items()
    return ", ".join(f"{metric_name(name)} {value:.4f}" for name, value in measured if value is not None)
