"""Predict: the steps of a snapshot sequence, each from the snapshots before it, written as one Parquet file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from tgscale.data.directory import read_json
from tgscale.data.export.pieces import write_parquet
from tgscale.data.export.publish import publishing
from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.data.snapshot_queries import read_queries
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, RunError
from tgscale.snapshot.build import make_model, make_task, task_name
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import split_steps
from tgscale.snapshot.placement import LocalPlacement
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.predict.answers import Answer, Done, EdgeClasses, LikelyLinks, PairScores, Targets
from tgscale.snapshot.predict.fitting import check_fits
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.task.base import Task
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression
from tgscale.snapshot.tensors import SnapshotData, width_of_features
from tgscale.snapshot.trainer import load_config
from tgscale.snapshot.windows import Windows
from tgscale.train.environment import find_device, peak_memory_bytes, set_threads
from tgscale.train.options import at_least
from tgscale.train.progress import Progress
from tgscale.train.run_start import data_of, load_best

ROWS = 1 << 16
"""Rows of a row group, at least; those of one step stay together."""


@dataclass(frozen=True)
class Request:
    """What :func:`predict_snapshots` is asked for; its arguments say what each is."""

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
        at_least("top_k", self.top_k, 0)
        if self.out.suffix not in (".parquet", ".pq"):
            raise ConfigError(
                f"--out {self.out}: predictions are written as Parquet: give a name that ends in .parquet."
            )
        if self.out.exists() and not self.overwrite:
            raise RunError(f"--out {self.out} is there already: give another name, or --overwrite to replace it.")
        if self.queries is not None and self.out.resolve() == self.queries.resolve():
            raise ConfigError(f"--out {self.out} is the file with the queries: give another name.")
        if self.snapshots is not None and self.steps in ("val", "test"):
            raise ConfigError(
                f"--steps {self.steps} is a part of the run's own data, and --snapshots {self.snapshots} are others: "
                "name steps by number, as FIRST:STOP."
            )


def predict_snapshots(
    run: Path | str,
    out: Path | str = "predictions.parquet",
    *,
    snapshots: Path | str | None = None,
    steps: str = "next",
    queries: Path | str | None = None,
    top_k: int | None = None,
    src: str | None = None,
    dst: str | None = None,
    data: Path | str | None = None,
    device: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Predict steps of a snapshot sequence with the best weights of a run.

    Each step is predicted as in the evaluation: from a group of its own that ends just before it (link and edge tasks)
    or with it (node regression). Steps of the run's test part get the predictions of its test.

    Args:
        run: run directory, of a run on snapshots.
        out: Parquet file to write; its columns are those of :mod:`tgscale.snapshot.predict.answers`, behind ``step``
            and, where steps have times, ``time``.
        snapshots: data directory to predict; that of the run unless given. Its nodes may be others.
        steps: ``"next"``: what is not known yet, which is the step after the last snapshot, and in node regression all
            steps without a target; ``"val"``, ``"test"``: that part of the run's data; ``"7"`` or ``"7:10"``.
        queries: table of sources, whose likeliest destinations are wanted, or of pairs, which are to be scored or
            classified. All sources of the group's snapshots (links) or the edges of the step (edge classes), unless
            given.
        top_k: how many destinations of each source; 0 for all. 10 unless given.
        src, dst: columns of the queries; as in the import of the data, or usual names, unless given.
        data: the run's data directory, where it has moved.
        device, threads: as in training unless given.
        overwrite: replace ``out``.
        quiet: show no progress.

    Returns:
        What was done: ``out``, ``task``, ``steps`` (``[first, stop]``), ``rows``, ``seconds``, ``rows_per_second``,
        ``peak_memory_bytes``, and ``metrics`` of the evaluation over those steps whose answer is known (None where none
        is, or there are queries).

    Raises:
        TgscaleError: a run, data or options that cannot be used; raised before any work.
    """
    paths = {"snapshots": snapshots, "queries": queries, "data": data}
    return run_request(
        Request(
            run=Path(run),
            out=Path(out),
            steps=steps,
            top_k=top_k,
            src=src,
            dst=dst,
            device=device,
            threads=threads,
            overwrite=overwrite,
            quiet=quiet,
            **{name: None if path is None else Path(path) for name, path in paths.items()},
        )
    )


def run_request(request: Request) -> dict[str, Any]:
    """See :func:`predict_snapshots`."""
    began = time.perf_counter()
    config = load_config(request.run)
    changes = {name: getattr(request, name) for name in ("device", "threads") if getattr(request, name) is not None}
    config = replace(config, data=data_of(config, request.data), **changes)
    set_threads(config.threads)
    best = load_best(request.run, config.data)
    trained = open_snapshots(config.data)
    named = NamedSnapshots.open(request.snapshots or config.data)
    if request.snapshots is not None:
        check_fits(named.snapshots, trained, config, config.data)
    work = _Predictions(request, config, trained, named, best["modules"])
    with publishing(request.out, (), request.overwrite) as target:
        write_parquet(target, work.batches())
    seconds = time.perf_counter() - began
    return {
        "out": str(request.out),
        "task": work.task.name,
        "steps": [work.steps.start, work.steps.stop],
        "rows": work.rows,
        "metrics": work.metrics(),
        "seconds": seconds,
        "rows_per_second": work.rows / seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


class _Predictions:
    """The model on the snapshots, and what it is asked."""

    def __init__(
        self,
        request: Request,
        config: SnapshotConfig,
        trained: SnapshotSequence,
        named: NamedSnapshots,
        weights: dict[str, Any],
    ) -> None:
        self.request, self.named, self.rows = request, named, 0
        sequence, device = named.snapshots, find_device(config.device)
        features = config.net.features
        if features == "auto":  # as it was for the run's data
            features = "given" if trained.node_features is not None else "degree"
        self.task = _task_on(sequence, trained, config, device)
        self.steps = _steps(request, config, self.task, sequence)
        self.answer = _answer(request, config, self.task, named)
        model = make_model(config, trained, width_of_features(trained, features))
        self.modules = nn.ModuleDict({"model": model, "head": self.task.head(model.out_dim)}).to(device)
        self.modules.load_state_dict(weights)
        self.modules.eval()
        plan = Plan(model, Rewrites(**vars(config.plan)))
        placement = LocalPlacement(SnapshotData(sequence, device, features=features))
        placement.keep(plan)
        self.windows = Windows(plan, placement, config.window)
        self._scored: list[np.ndarray] = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The predictions, some steps at a time."""
        waiting: list[pa.Table] = []
        work = sum(self.answer.work(step) for step in self.steps)
        with Progress(work, "predicting", self.request.quiet, unit=self.answer.unit) as progress:
            for step in self.steps:
                waiting.append(self._predict(step, progress.advance))
                if sum(map(len, waiting)) >= ROWS or step == self.steps[-1]:
                    table = pa.concat_tables(waiting).replace_schema_metadata(self._about())
                    yield from table.combine_chunks().to_batches()
                    waiting = []
        if not self.rows:
            raise ConfigError(
                f"there is nothing to predict at steps {self.steps.start} to {self.steps.stop - 1}: the snapshots "
                "there have no edges. Name other --steps, or what to predict with --queries."
            )

    def _about(self) -> dict[str, str]:
        """What the file's metadata say."""
        about = {"run": str(self.request.run), "task": self.task.name, "time_unit": self.named.snapshots.time_unit}
        if isinstance(self.task, EdgeClassification):
            about["classes"] = json.dumps(self.task.classes.tolist())
        return about

    @torch.no_grad()
    def _predict(self, step: int, done: Done) -> pa.Table:
        head, h = self.modules["head"], self.windows.embed(step - self.task.lead)
        columns = self.answer.columns(head, h, step, done)
        if step < self.task.num_steps and self.request.queries is None and self.task.items(step):
            self._scored.append(self.task.score(head, h, step))
        rows = len(next(iter(columns.values())))
        self.rows += rows
        known: dict[str, Any] = {"step": pa.array(np.full(rows, step))}
        if self.named.snapshots.step_time is not None:
            known["time"] = pa.array([time_of(self.named.snapshots, step)] * rows, pa.int64())
        return pa.table(known | columns)

    def metrics(self) -> dict[str, float | None] | None:
        """Those of the evaluation, over the steps whose answer is known."""
        return self.task.summarize(np.concatenate(self._scored)) if self._scored else None


def time_of(sequence: SnapshotSequence, step: int) -> int | None:
    """When a step is; of the one after the last, where all are equally far apart."""
    times = sequence.step_time
    assert times is not None
    if step < len(times):
        return int(times[step])
    gaps = np.unique(np.diff(times))
    return int(times[-1] + gaps[0]) if len(gaps) == 1 else None


def _task_on(sequence: SnapshotSequence, trained: SnapshotSequence, config: SnapshotConfig, device: Any) -> Task:
    """The task of the run, on other snapshots."""
    name = task_name(config, trained)
    if name == "edge":
        return EdgeClassification(sequence, config, device, np.unique(trained.edge_label))  # type: ignore[arg-type]
    return make_task(replace(config, task=name), sequence, device)


def _steps(request: Request, config: SnapshotConfig, task: Task, sequence: SnapshotSequence) -> range:
    """The steps that are asked for.

    Raises:
        ConfigError: none, or such as have no whole group before them.
    """
    wanted, stop = request.steps, sequence.num_steps + task.lead
    first = config.window - 1 + task.lead
    if wanted in ("val", "test"):
        return getattr(split_steps(config, task.num_steps, task.lead), wanted)
    if wanted == "next":
        steps = range(task.num_steps, stop)
        if not steps:
            raise ConfigError(
                f"the targets of all {sequence.num_steps:,} snapshots of {sequence.name} are known, so nothing is to "
                "come: give --steps test, or --snapshots DIR with later ones."
            )
    else:
        low, colon, high = wanted.partition(":")
        try:
            steps = range(int(low), int(high) if colon else int(low) + 1)
        except ValueError:
            raise ConfigError(f"--steps {wanted!r}: give next, val, test, a step, or FIRST:STOP.") from None
    if not steps or steps[0] < first or steps[-1] >= stop:
        raise ConfigError(
            f"--steps {wanted}: those of {sequence.name} that can be predicted are {first} to {stop - 1}, each from "
            f"the {config.window} snapshots {'up to' if not task.lead else 'before'} it."
        )
    return steps


def _answer(request: Request, config: SnapshotConfig, task: Task, named: NamedSnapshots) -> Answer:
    """What is to be written of each step.

    Raises:
        ConfigError: options that do not go with the task.
    """
    src = dst = None
    if isinstance(task, Regression):
        _refuse(request, task, "queries", "top_k")
        return Targets(task, named)
    if request.queries is not None:
        meta = read_json(request.snapshots or config.data)
        before = (meta.get("source") or {}).get("columns") or {}
        src, dst = read_queries(request.queries, named, request.src, request.dst, before)
    if isinstance(task, LinkPrediction):
        if src is not None and dst is not None:
            _refuse(request, task, "top_k")
            return PairScores(task, named, src, dst)
        return LikelyLinks(task, named, src, config.window, 10 if request.top_k is None else request.top_k)
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
            what = f"--{option.replace('_', '-')}"
            raise ConfigError(f"{what} ranks destinations, and here a {task.name} answers: leave it out.")
