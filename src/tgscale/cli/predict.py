"""`tgscale predict`: new events through the memory of a run, or the steps that follow some snapshots."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from tgscale.cli import predict_snapshots
from tgscale.cli.console import Output
from tgscale.cli.predict_snapshots import PredictSnapshotsCommand, in_words
from tgscale.data.following import RowOptions
from tgscale.data.value_words import counted
from tgscale.errors import ConfigError
from tgscale.stream.predict.request import Request, state_beside
from tgscale.stream.predict.run import run_request
from tgscale.stream.predict.state import goes_on
from tgscale.train.config_io import parse
from tgscale.train.rundir import CONFIG, RunDirectory, plain

OF_STREAMS = (
    "is for runs on event streams, and this run is on snapshots: import what is new with the options of the run's data "
    "and name it with --snapshots DIR, or ask with --queries FILE."
)
OF_SNAPSHOTS = (
    "is for runs on snapshots, and this run is on an event stream: give new events with --events FILE, or ask with "
    "--queries FILE; --after says what they follow."
)


@dataclass
class PredictCommand:
    """Score or classify new events, or answer queries, with the best weights of a run and its memory; goes on if
    interrupted."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    out: Path
    """Parquet file to write: a row per event, or per query."""
    events: tuple[str, ...] = ()
    """New events, after those of the run: files, a folder, or a pattern. Each is scored (or classified, by a run that
    learned classes of events), then enters the memory."""
    queries: tuple[str, ...] = ()
    """Rows with a source and a time, each to be answered with the likeliest destinations."""
    candidates: Path | None = None
    """Table of destinations to choose from; with a column `row`, of each row's own. All seen so far unless given."""
    top_k: int | None = None
    """How many destinations to write per row, best first; 0 for all. 10 unless given, with queries or candidates."""
    evaluate: bool = False
    """Rank each event's destination among negatives, as `tgscale evaluate` does."""
    after: Literal["val", "test"] | Path = "test"
    """What the rows follow: all events of the run (test), those up to the end of its validation part (val), or the
    events of earlier predictions, whose kept state this names."""
    unknown: Literal["fresh", "drop", "stop"] = "fresh"
    """A row with an unknown node: the node is new, with empty memory; or leave the row out; or refuse it."""
    format: str = "auto"
    """Format of the events: auto, csv, parquet, json, jodie, tgl or dyglib."""
    src: str | None = None
    """Column of source nodes; as in the import of the run's data, or a usual name, unless given."""
    dst: str | None = None
    """Column of destination nodes."""
    time: str | None = None
    """Column of times."""
    edge_features: str | None = None
    """Columns of edge features, in the order of the import: names or patterns, with commas."""
    classes: str | None = None
    """Columns of the events' true classes, which later events then look back on: names or patterns, with commas; as in
    the import, where they are there, unless given. Empty: none is read."""
    query: str | None = None
    """SQL (DuckDB) that selects the events; it may call the files `source`."""
    on_error: Literal["stop", "drop"] = "stop"
    """What to do at a row that cannot be used, or that is earlier than the memory."""
    source_time_unit: Literal["s", "ms", "us", "ns", "step"] | None = None
    """Unit of numeric times; as in the import of the run's data unless given."""
    memory_limit: str = "2GB"
    """How much memory reading the rows may take."""
    data: Path | None = None
    """The run's data directory, where it has moved."""
    device: str | None = None
    """As in training unless given."""
    threads: int | None = None
    """CPU threads; as in training unless given."""
    save_every: int = 100_000
    """Rows between two saves of the state."""
    state: Path | None = None
    """Where the state lies meanwhile; OUT.state unless given."""
    keep_state: bool = False
    """Leave the state where it is: later predictions may follow it (--after)."""
    overwrite: bool = False
    """Replace the file, and a state that was begun for something else."""
    json: bool = False
    """Print JSON instead of words."""
    quiet: bool = False
    """Print nothing but errors."""


def main(argv: list[str]) -> None:
    """Predict as the command line says, and print what was done."""
    words = [word for word in argv if not word.startswith("-")]
    run = (
        argv[0]
        if argv and words[:1] == argv[:1]
        else next((word for word in words if (Path(word) / CONFIG).is_file()), None)
    )
    if run is None and {"-h", "--help"} & set(argv):
        _print_both_helps()
    elif run is not None and RunDirectory.kind_of(run) == "snapshots":
        _refuse_others(argv, PredictCommand, PredictSnapshotsCommand, OF_STREAMS)
        predict_snapshots.main(argv)
    else:
        if run is not None:
            _refuse_others(argv, PredictSnapshotsCommand, PredictCommand, OF_SNAPSHOTS)
        _predict(argv)


def _refuse_others(argv: list[str], others: type, own: type, words: str) -> None:
    """Refuse options that runs of the other kind have."""
    theirs = {each.name for each in fields(others)} - {each.name for each in fields(own)}
    for word in argv:
        option = word.partition("=")[0]
        if option.startswith("--") and option[2:].replace("-", "_") in theirs:
            raise ConfigError(f"{option} {words}")


def _print_both_helps() -> NoReturn:
    """The options of both kinds of runs, as nothing says yet which one is meant."""
    for kind, predict in (("an event stream", _predict), ("snapshots", predict_snapshots.main)):
        print(f"A run on {kind}:\n")
        with contextlib.suppress(SystemExit):
            predict(["--help"])
    sys.exit(0)


def _predict(argv: list[str]) -> None:
    command = parse(PredictCommand, argv, prog="tgscale predict")
    options = dict(vars(command))
    rows = {name: options.pop(name) for name in RowOptions.__dataclass_fields__}
    rows["edge_features"] = _names(rows["edge_features"] or "")
    rows["classes"] = None if rows["classes"] is None else _names(rows["classes"])
    as_json, quiet = options.pop("json"), command.quiet
    options["after"], options["quiet"] = str(command.after), quiet or as_json
    request = Request(rows=RowOptions(**rows), **options)
    try:
        done = run_request(request)
    except KeyboardInterrupt:
        if goes_on(request.folder):
            then = f"The same command goes on from {request.folder}."
        elif request.out.exists() and request.folder.exists():
            then = f"{request.out} is written; what is left of {request.folder} may go."
        else:
            then = "Nothing had begun."
        print(f"\ntgscale: stopped. {then}", file=sys.stderr)
        sys.exit(130)
    if as_json:
        print(json.dumps(plain(done), indent=1, allow_nan=False))
    elif not quiet:
        print_done(done, command)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def print_done(done: dict[str, Any], command: PredictCommand) -> None:
    """What was done, in words."""
    console = Output(soft_wrap=True, highlight=False)
    done_to = "classified" if "classes" in done else "scored"
    what = ("query answered", "queries answered") if command.queries else (f"event {done_to}", f"events {done_to}")
    console.print(
        f"{counted(done['rows'], *what)} in {done['seconds']:.1f} s ({done['rows_per_second']:,.0f} rows/s), at most "
        f"{done['peak_memory_bytes'] / 2**20:,.0f} MiB."
    )
    if command.queries and done["events"]:
        console.print(f"{counted(done['events'], 'event')} entered the memory meanwhile.")
    if done["fresh_nodes"]:
        console.print(
            f"{counted(done['fresh_nodes'], 'node is new: its', 'nodes are new: their')} memory starts empty."
        )
    for part, rows in done["dropped"].items():
        console.print(f"left out {counted(rows, 'row')} for {'its' if rows == 1 else 'their'} {part}.")
    if done["unknown_candidates"]:
        console.print(f"{done['unknown_candidates']:,} candidates are no nodes of the data and were left out.")
    if "mrr" in done:
        console.print(
            f"rank of each event's destination: MRR {done['mrr']:.4f}, among the first ten {done['hits@10']:.1%}."
        )
    if done.get("unknown_classes"):
        console.print(f"{done['unknown_classes']:,} events have a class that the run did not learn: it is left out.")
    if "told" in done:
        found = in_words(done["metrics"])
        console.print(f"true classes of {done['told']:,} events: {found or 'too few to measure anything'}.")
    console.print(f"  {done['out']}  the predictions")
    if command.keep_state:
        console.print(f"  {command.state or state_beside(command.out)}  what the next ones may follow, with --after")
