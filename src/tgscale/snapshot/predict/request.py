"""What is asked of a run on snapshots: which steps, and what of each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tgscale.data.directory import read_json
from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.data.snapshot_queries import read_queries
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, RunError
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import split_steps
from tgscale.snapshot.predict.answers import Answer, EdgeClasses, LikelyLinks, PairScores, Targets
from tgscale.snapshot.task.base import Task
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression
from tgscale.train.options import at_least
from tgscale.train.rundir import RunDirectory

TOP_K = 10
MEANT_FOR = {"top_k": "the likeliest destinations of sources", "queries": "links and classes of edges"}


@dataclass(frozen=True)
class Request:
    """What :func:`tgscale.predict_snapshots` is asked for; its arguments say what each is."""

    run: Path
    out: Path
    snapshots: Path | None = None
    steps: str = "next"
    queries: Path | None = None
    top_k: int | None = None
    src: str | None = None
    dst: str | None = None
    data: Path | None = None
    device: str | None = None
    threads: int | None = None
    overwrite: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if RunDirectory.kind_of(self.run) != "snapshots":
            raise ConfigError(f"{self.run} is a run on an event stream: tgscale.predict is for such.")
        at_least("top_k", self.top_k, 0)
        self._check_out()
        if self.snapshots is not None and self.steps in ("val", "test"):
            raise ConfigError(
                f"--steps {self.steps} is a part of the run's own data, and --snapshots {self.snapshots} are others: "
                "name steps by number, as FIRST:STOP."
            )
        for option in ("src", "dst"):
            if getattr(self, option) is not None and self.queries is None:
                raise ConfigError(f"--{option} is a column of --queries, and there are none: leave it out.")

    def _check_out(self) -> None:
        if self.out.suffix not in (".parquet", ".pq"):
            raise ConfigError(
                f"--out {self.out}: predictions are written as Parquet: give a name that ends in .parquet."
            )
        if self.out.exists() and not self.overwrite:
            raise RunError(f"--out {self.out} is there already: give another name, or --overwrite to replace it.")
        if self.queries is not None and self.out.resolve() == self.queries.resolve():
            raise ConfigError(f"--out {self.out} is the file with the queries: give another name.")


def steps_of(request: Request, config: SnapshotConfig, task: Task, sequence: SnapshotSequence) -> range:
    """The steps that are asked for.

    Raises:
        ConfigError: none, or such as have no whole group before them.
    """
    if request.steps in ("val", "test"):
        return getattr(split_steps(config, task.num_steps, task.lead), request.steps)
    first, stop = config.window - 1 + task.lead, sequence.num_steps + task.lead
    if isinstance(task, Regression) and config.net.residual:  # which begins at the latest target that is known
        stop = min(stop, task.num_steps + task.delay)
    if first >= stop:
        raise ConfigError(
            f"{sequence.name} has {sequence.num_steps} snapshots, and the run predicts from groups of {config.window}: "
            "give more of them."
        )
    steps = range(task.num_steps, stop) if request.steps == "next" else _numbered(request.steps)
    if request.steps == "next" and not steps:
        raise ConfigError(
            f"the targets of all {sequence.num_steps:,} snapshots of {sequence.name} are known, so nothing is to come: "
            "give --steps test, or --snapshots DIR with later ones."
        )
    if not steps or steps[0] < first or steps[-1] >= stop:
        raise ConfigError(
            f"--steps {request.steps}: those of {sequence.name} that can be predicted are {first} to {stop - 1}, each "
            f"from the {config.window} snapshots {'before' if task.lead else 'up to'} it."
        )
    return steps


def _numbered(text: str) -> range:
    low, colon, high = text.partition(":")
    try:
        return range(int(low), int(high) if colon else int(low) + 1)
    except ValueError:
        raise ConfigError(f"--steps {text!r}: give next, val, test, a step, or FIRST:STOP.") from None


def answer_to(request: Request, task: Task, named: NamedSnapshots, data: Path, window: int) -> Answer:
    """What is to be written of each step.

    Args:
        request: what is asked.
        task: of the run, on these snapshots.
        named: the snapshots.
        data: their data directory.
        window: steps of a group.

    Raises:
        ConfigError: options that do not go with the task.
        DataError: queries that cannot be read.
    """
    if isinstance(task, Regression):
        _refuse(request, task, "queries", "top_k")
        return Targets(task, named)
    src = dst = None
    if request.queries is not None:
        before = (read_json(data).get("source") or {}).get("columns") or {}
        src, dst, unused = read_queries(request.queries, named, request.src, request.dst, before)
        if unused and not request.quiet:
            known = "sources and destinations" if dst is not None else "sources (--dst is for destinations)"
            print(f"note: --queries {request.queries} has {', '.join(unused)} beside {known}: unused.", file=sys.stderr)
    if isinstance(task, LinkPrediction):
        if src is not None and dst is not None:
            _refuse(request, task, "top_k")
            return PairScores(task, named, src, dst)
        return LikelyLinks(task, named, src, window, TOP_K if request.top_k is None else request.top_k)
    assert isinstance(task, EdgeClassification)
    _refuse(request, task, "top_k")
    if src is None:
        if request.steps == "next":
            raise ConfigError(
                "the run classifies edges, and those of the next snapshot are not known yet: give --queries FILE with "
                "a source and a destination a row, or --steps test."
            )
        return EdgeClasses(task, named, None)
    if dst is None:
        raise ConfigError(f"--queries {request.queries} has no column of destinations, and a class is that of a pair.")
    return EdgeClasses(task, named, (src, dst))


def _refuse(request: Request, task: Task, *options: str) -> None:
    for option in options:
        if getattr(request, option) is not None:
            what = f"--{option.replace('_', '-')} is for {MEANT_FOR[option]}"
            why = "pairs are asked for" if option == "top_k" and request.queries else f"the run's task is {task.name}"
            raise ConfigError(f"{what}, and here {why}: leave it out.")
