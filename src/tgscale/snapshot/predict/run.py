"""Predict: the steps of a snapshot sequence, each from the snapshots before it, written as one Parquet file."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
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
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.snapshot.build import make_model, make_task, task_name
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.placement import LocalPlacement
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.predict.fitting import check_fits
from tgscale.snapshot.predict.request import Request, answer_to, steps_of
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.task.base import Task
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.regression import Regression
from tgscale.snapshot.tensors import SnapshotData, width_of_features
from tgscale.snapshot.trainer import load_config
from tgscale.snapshot.windows import Windows
from tgscale.train.environment import find_device, peak_memory_bytes, set_threads
from tgscale.train.progress import Progress
from tgscale.train.run_start import data_of, load_best

GROUP_BYTES = 1 << 25
"""Bytes of a row group, at least."""


def predict_snapshots(
    run: Path | str,
    out: Path | str = "predictions.parquet",
    *,
    snapshots: Path | str | None = None,
    steps: str | int = "next",
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
            and, where steps have times, ``time``; for a series on a fixed graph also ``target_time``.
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
            steps=str(steps),
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
    config = dataclasses.replace(config, data=data_of(config, request.data), **changes)
    set_threads(config.threads)
    best = load_best(request.run, config.data)
    trained = open_snapshots(config.data)
    place = request.snapshots or config.data
    named = NamedSnapshots.open(place)
    if request.snapshots is not None:
        check_fits(named.snapshots, place, trained, config.data, config)
        # A type of edges that none of these has is a type all the same.
        same_types = dataclasses.replace(named.snapshots, num_relations=trained.num_relations)
        named = dataclasses.replace(named, snapshots=same_types)
    work = _Predictions(request, config, trained, named, place, best["modules"])
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
        place: Path,
        weights: dict[str, Any],
    ) -> None:
        self.request, self.named, self.rows = request, named, 0
        sequence, device = named.snapshots, find_device(config.device)
        features = config.net.features
        self.task = _task_on(sequence, trained, config, device)
        self.steps = steps_of(request, config, self.task, sequence)
        self.answer = answer_to(request, self.task, named, place, config.window)
        self.of_series = (read_json(place).get("source") or {}).get("format") == "array"
        model = make_model(config, sequence, width_of_features(sequence, features))
        self.modules = nn.ModuleDict({"model": model, "head": self.task.head(model.out_dim)}).to(device)
        self.modules.load_state_dict(weights)
        self.modules.eval()
        plan = Plan(model, Rewrites(**vars(config.plan)))
        lead = self.task.lead
        self.first = max(0, self.steps.start - lead - config.window + 1)  # of the snapshots that groups are made of
        seen = sequence.part(self.first, self.steps.stop - lead)
        placement = LocalPlacement(SnapshotData(seen, device, features=features))
        placement.keep(plan)
        self.windows = Windows(plan, placement, config.window)
        self._scored: list[np.ndarray] = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The predictions, of about equal size."""
        waiting: list[pa.Table] = []
        size = 0
        work = sum(self.answer.rows(step) for step in self.steps)
        if not work:
            raise ConfigError(
                f"there is nothing to predict at --steps {self.request.steps}: no snapshot "
                f"{'there' if isinstance(self.task, EdgeClassification) else 'before them'} has an edge. Name other "
                "steps, or what to predict with --queries."
            )
        with Progress(work, "predicting", self.request.quiet, unit=self.answer.unit) as progress:
            for step in self.steps:
                for part in self._predict(step):
                    waiting.append(part)
                    size += part.nbytes
                    progress.advance(len(part))
                    if size >= GROUP_BYTES:
                        yield from self._group(waiting)
                        waiting, size = [], 0
            if waiting:
                yield from self._group(waiting)

    def _group(self, parts: list[pa.Table]) -> list[pa.RecordBatch]:
        table = pa.concat_tables(parts).replace_schema_metadata(self._about())
        self.rows += len(table)
        return table.combine_chunks().to_batches()

    def _about(self) -> dict[str, str]:
        """What the file's metadata say."""
        about = {"run": str(self.request.run), "task": self.task.name, "time_unit": self.named.snapshots.time_unit}
        if isinstance(self.task, EdgeClassification):
            about["classes"] = json.dumps(self.task.classes.tolist())
        return about

    @torch.no_grad()
    def _predict(self, step: int) -> Iterator[pa.Table]:
        head, h = self.modules["head"], self.windows.embed(step - self.task.lead - self.first)
        if step < self.task.num_steps and self.request.queries is None and self.task.items(step):
            self._scored.append(self.task.score(head, h, step))
        for columns in self.answer.parts(head, h, step):
            rows = len(next(iter(columns.values())))
            when = {name: pa.repeat(pa.scalar(value, pa.int64()), rows) for name, value in self._when(step).items()}
            yield pa.table(when | columns)

    def _when(self, step: int) -> dict[str, int | None]:
        """The step, its time, and that of its target."""
        snapshots = self.named.snapshots
        if snapshots.step_time is None:
            return {"step": step}
        found = {"step": step, "time": time_of(snapshots, step)}
        if self.of_series and isinstance(self.task, Regression) and found["time"] is not None:
            found["target_time"] = found["time"] + snapshots.target_delay
        return found

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
    return make_task(dataclasses.replace(config, task=name), sequence, device)
