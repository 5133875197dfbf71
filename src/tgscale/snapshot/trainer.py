"""A whole run on snapshots: train, validate after each epoch, keep the best weights, test, write the result."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.store import fingerprint
from tgscale.errors import ConfigError, DivergedError
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors import make_executor
from tgscale.snapshot.loop import SnapshotLoop
from tgscale.snapshot.partition import place
from tgscale.snapshot.task.base import Metrics
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.config_io import to_dict
from tgscale.train.distributed import Ranks
from tgscale.train.divergence import diverged
from tgscale.train.environment import (
    describe_environment,
    find_device,
    keep_freed_memory,
    peak_cuda_memory_bytes,
    peak_memory_bytes,
    set_threads,
)
from tgscale.train.interrupt import Interrupt
from tgscale.train.loggers import check_loggers, start_loggers
from tgscale.train.progress import Progress, no_better_for, tell_validation
from tgscale.train.run_start import (
    BEST,
    FINAL_LABELS,
    STEPS,
    TIMELINE,
    as_begun,
    began_before,
    check_data,
    data_of,
    enter_run,
    load_best,
    load_run_config,
    saved_steps,
)
from tgscale.train.rundir import RunDirectory
from tgscale.train.timeline import Recorder, write_timeline
from tgscale.train.trace import Trace


def train_snapshots(config: SnapshotConfig, resume: bool = False) -> dict[str, Any]:
    """Train and evaluate as ``config`` says.

    A process that ``torchrun`` started is one device among ``WORLD_SIZE``, and all of them call this.

    Args:
        config: all choices; ``config.data`` is the data directory, ``config.run`` the run directory.
        resume: go on from the newest checkpoint of ``config.run``.

    Returns:
        What is written to ``result.json`` of the run directory.

    Raises:
        TgscaleError: data, options or run directory that cannot be used; raised before any work.
        DivergedError: the loss, a score or a metric of validation is not a number.
    """
    ranks = Ranks.from_environment()
    set_threads(config.threads)
    keep_freed_memory()
    # Absolute, so that the run finds its data from anywhere.
    config = dataclasses.replace(config, data=config.data.expanduser().absolute())
    with ranks.connected(), contextlib.ExitStack() as stack:
        resume = resume or began_before(config.run, ranks)
        with ranks.together():
            device = find_device(config.device, ranks.local_rank if ranks.world > 1 else None)
            check_loggers(config.log)
            sequence = open_snapshots(config.data)
            if resume and config != as_begun(load_config(config.run), config):
                raise ConfigError(
                    f"{config.run} was begun with other options: go on with those, or give another --run."
                )
        engine = None
        with ranks.together():
            engine = SnapshotEngine(config, sequence, device, place=lambda data: place(config.partition, data, ranks))
        assert engine is not None
        run = enter_run(config.run, to_dict(config), resume, ranks, stack)
        started = ranks.broadcast_object(bool(saved_steps(config.run)))
        with ranks.together():
            if run:
                run.loggers = start_loggers(config.log, run.path, to_dict(config))
        trainer = stack.enter_context(contextlib.closing(_Trainer(config, engine, run, ranks)))
        if started:
            trainer.load()
        elif resume and run:  # killed before its first checkpoint: begin again
            run.truncate_metrics(0)
        if resume and run and not config.quiet:
            print(f"going on from iteration {trainer.loop.iteration:,}", file=sys.stderr)
        return trainer.fit()


def load_config(run: Path) -> SnapshotConfig:
    """The configuration of a run directory, wherever that directory lies now.

    Raises:
        RunError: not a run directory.
    """
    return load_run_config(SnapshotConfig, run)


def evaluate_snapshots(
    run: Path | str,
    split: str = "test",
    device: str | None = None,
    quiet: bool = False,
    data: Path | None = None,
) -> dict[str, Any]:
    """Evaluate the best weights of a finished or interrupted run.

    Args:
        run: run directory.
        split: ``"val"`` or ``"test"``.
        device: as in training unless given.
        quiet: show no progress.
        data: the run's data directory, where it has moved.

    Returns:
        ``split``, ``protocol``, ``metrics`` and ``baselines``.

    Raises:
        ConfigError: unknown split.
        RunError: not a run directory, or one without a finished epoch.
    """
    if split not in ("val", "test"):
        raise ConfigError(f"split {split!r} is unknown: choose val or test.")
    config = load_config(Path(run))
    config = dataclasses.replace(config, data=data_of(config, data))
    set_threads(config.threads)
    best = load_best(config.run, config.data)
    engine = SnapshotEngine(config, open_snapshots(config.data), find_device(device or config.device))
    engine.modules.load_state_dict(best["modules"])
    return {
        "split": split,
        "protocol": engine.task.describe(),
        "metrics": evaluate_part(engine, split, quiet),
        "baselines": engine.baselines(split),
    }


def evaluate_part(
    engine: SnapshotEngine,
    part: str,
    quiet: bool,
    ranks: Ranks | None = None,
    label: str | None = None,
    passing: bool = False,
) -> Metrics:
    """Metrics of a part, the same on all ranks; ``label`` and ``passing`` are of the progress."""
    ranks = ranks or Ranks()
    steps = len(getattr(engine.parts, part))
    quiet = quiet or not ranks.is_first
    with Progress(steps, label or part, quiet, unit="snapshots", passing=passing) as progress:
        return engine.evaluate(part, progress, ranks)


class _Trainer:
    """The state of a run while it runs, on one of its ranks; ``run`` is None on all but the first."""

    def __init__(self, config: SnapshotConfig, engine: SnapshotEngine, run: RunDirectory | None, ranks: Ranks) -> None:
        self.config, self.engine, self.run, self.ranks = config, engine, run, ranks
        self.data = fingerprint(config.data)
        synchronize = torch.cuda.synchronize if engine.device.type == "cuda" else None
        self.trace = Trace(config.profile, synchronize)
        self.executor, self.choice = make_executor(config.executor, engine, self.trace, ranks)
        self.loop = SnapshotLoop(engine, self.executor, ranks, self.trace)
        self.loop.interrupt = self.interrupt = Interrupt(ranks.world == 1, ranks.is_first)
        self.recorder = Recorder(self.trace, ranks)
        checkpoints = RunDirectory.checkpoints_of(config.run)
        self.steps = Checkpointer(checkpoints / STEPS, config.keep_checkpoints, ranks)
        self.best = Checkpointer(checkpoints / BEST, keep=1)
        self.told = False
        self.best_value, self.best_epoch = float("nan"), 0
        self.seconds: list[float] = [0.0]
        self.imbalance: list[float] = []
        self.waited: list[float] = []
        self.step_seconds: list[float] = []

    def close(self) -> None:
        self.executor.close()

    def fit(self) -> dict[str, Any]:
        patience, epochs = self.config.train.patience, self.config.train.epochs
        if not (self.config.quiet or self.run is None):
            print(self._outlook(), file=sys.stderr)
        while self.loop.epoch < epochs:
            if patience and self.loop.epoch - self.best_epoch >= patience:
                if not (self.config.quiet or self.run is None):
                    print(no_better_for(patience), file=sys.stderr)
                break  # here, as a run that goes on may have come to this before
            with self.interrupt.deferred():
                self._one_epoch()
                self.interrupt.obey()
        return self._finish()

    def _outlook(self) -> str:
        """What is trained on what, where, and how much of it, in a line."""
        config, engine, sequence = self.config, self.engine, self.engine.sequence
        devices = f"{self.ranks.world} devices ({config.partition}), " if self.ranks.world > 1 else ""
        threads = f", {config.threads} thread{'s' if config.threads > 1 else ''}" if engine.device.type == "cpu" else ""
        return (
            f"training {config.model} on {sequence.name} ({sequence.num_steps:,} snapshots of {sequence.num_nodes:,} "
            f"nodes; {engine.task.name}), on {devices}{engine.device}{threads}, executor {self.executor.name}: at most "
            f"{config.train.epochs} epochs of {len(engine.groups):,} groups, into {config.run}"
        )

    def _one_epoch(self) -> None:
        loop, quiet = self.loop, self.config.quiet or not self.ranks.is_first
        if not loop.plan:
            loop.begin_epoch()
        groups, epochs = len(self.engine.groups), self.config.train.epochs
        later = None if self.told else groups * (epochs - loop.epoch - 1)
        self.told = True
        label = f"epoch {loop.epoch + 1}/{epochs}"
        with Progress(groups, label, quiet, unit="groups", later=later) as progress:
            while not loop.ended:
                every = self.config.checkpoint_every or len(loop.plan)
                until = min(every - loop.iteration % every, len(loop.plan) - loop.at)
                began = time.perf_counter()
                loop.run(until, progress)
                self.seconds[-1] += time.perf_counter() - began
                if not loop.ended:
                    if loop.iteration:
                        self._save()
                    self.interrupt.obey()
        self._validate(label)
        self._save()

    def _validate(self, label: str) -> None:
        shown, seconds = self.loop.end_epoch(), self.seconds[-1]
        if not math.isfinite(shown["loss"]):
            raise self._diverged(f"the loss is {shown['loss']}")
        began = time.perf_counter()
        with self.trace.span("validation", "run"):
            try:
                val = evaluate_part(self.engine, "val", self.config.quiet, self.ranks, passing=True)
            except DivergedError as error:
                raise self._diverged("a score of validation is NaN") from error
        val_seconds = time.perf_counter() - began
        value, sign = val[self.engine.task.metric], 1 if self.engine.task.better == "higher" else -1
        assert value is not None
        if not math.isfinite(value):
            raise self._diverged(f"{self.engine.task.metric} of validation is {value}")
        better = not self.best_epoch or sign * value > sign * self.best_value
        if better:
            self.best_value, self.best_epoch = value, self.loop.epoch
        self.imbalance.append(shown["imbalance"])
        self.waited.append(shown["sync_wait_seconds"])
        self.step_seconds.append(shown["step_seconds"])
        line = {
            "iteration": self.loop.iteration,
            "epoch": self.loop.epoch,
            **shown,
            "seconds": seconds,
            "val_seconds": val_seconds,
            **{f"val_{name}": each for name, each in val.items()},
        }
        if self.ranks.is_first and not self.config.quiet:
            tell_validation(label, shown["loss"], self.engine.task.metric, value, better, seconds + val_seconds)
        with self.ranks.together():
            if self.run:
                self.run.log("epoch", **line)
                if better:
                    self.best.save(
                        self.loop.iteration, {"modules": self.engine.modules.state_dict(), "data": self.data}
                    )
        self.seconds.append(0.0)

    def _diverged(self, what: str) -> DivergedError:
        return diverged(what, self.loop.epoch, self.best_epoch, self.best.folder, self.config.train.lr)

    def _save(self) -> None:
        state: dict[str, Any] = {"data": self.data, "own": self.loop.own_state()}
        if self.ranks.is_first:
            state["shared"] = self.loop.shared_state() | {
                "best_value": self.best_value,
                "best_epoch": self.best_epoch,
                "seconds": self.seconds,
                "imbalance": self.imbalance,
                "waited": self.waited,
                "step_seconds": self.step_seconds,
            }
        with self.trace.span("checkpoint", "run"):
            self.steps.save(self.loop.iteration, state)

    def load(self) -> None:
        """Go back to where the newest checkpoint was written."""
        _, state = self.steps.load()
        with self.ranks.together():
            check_data(self.config.data, self.config.run, state)
        shared = self.ranks.broadcast_object(state.get("shared"))
        self.loop.load(shared, state["own"])
        self.best_value, self.best_epoch = shared["best_value"], shared["best_epoch"]
        self.seconds, self.imbalance = list(shared["seconds"]), list(shared["imbalance"])
        self.waited, self.step_seconds = list(shared["waited"]), list(shared["step_seconds"])
        if self.run:
            self.run.truncate_metrics(self.loop.iteration)

    def _finish(self) -> dict[str, Any]:
        engine, ranks, config = self.engine, self.ranks, self.config
        with ranks.together():
            if ranks.is_first:
                engine.modules.load_state_dict(load_best(config.run)["modules"])
        ranks.broadcast(list(engine.modules.state_dict().values()))
        metrics = {
            part: evaluate_part(engine, part, config.quiet, ranks, label) for part, label in FINAL_LABELS.items()
        }
        timeline = self.recorder.gather(f"device {ranks.rank}")
        processes = ranks.gather_objects(self._process())
        result = ranks.broadcast_object(self._result(metrics, processes) if self.run else None)
        if self.run:
            if config.profile:
                write_timeline(self.run.path / TIMELINE, timeline)
            self.run.write_result(result)
        return result

    def _cost_of_groups(self) -> dict[str, Any] | None:
        """The cost model fitted to measured times, whose coefficients ``tgscale simulate --profile`` takes."""
        if not self.loop.costs.any_measured:
            return None
        fit = self.loop.costs.fit()
        return {**fit._asdict(), "coefficients": fit.coefficients.tolist()}

    def _process(self) -> dict[str, Any]:
        """What this process did and what that took, since it began."""
        return {
            "iterations": self.loop.iteration,
            "time": {name: seconds for name, (seconds, _) in self.trace.totals().items()},
            "own_time": self.trace.own(),
            "bytes_sent": self.engine.placement.bytes_sent,
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_cuda_memory_bytes": peak_cuda_memory_bytes(),
        }

    def _result(self, metrics: dict[str, Metrics], processes: list[dict[str, Any]]) -> dict[str, Any]:
        config, engine, sequence = self.config, self.engine, self.engine.sequence
        return {
            "task": engine.task.name,
            "model": config.model,
            "data": {
                "name": sequence.name,
                "snapshots": sequence.num_steps,
                "nodes": sequence.num_nodes,
                "edges": int(sequence.edge_counts().sum()),
            },
            "split": {name: [part.start, part.stop] for name, part in engine.parts._asdict().items()},
            "protocol": engine.task.describe(),
            "metric": engine.task.metric,
            "val": metrics["val"],
            "test": metrics["test"],
            "baselines": engine.baselines("test"),
            "train": {
                "partition": config.partition,
                "assign": config.policy if config.partition in ("blad", "group-count") else None,
                "executor": self.executor.name,
                "executor_choice": dataclasses.asdict(self.choice),
                "ranks": self.ranks.world,
                "machines": self.ranks.machines,
                "groups": len(engine.groups),
                "groups_per_step": config.groups_per_step,
                "iterations": self.loop.iteration,
                "epochs": self.loop.epoch,
                "best_epoch": self.best_epoch,
                "seconds": sum(self.seconds),
                "seconds_per_epoch": self.seconds[:-1],
                "step_seconds": self.step_seconds,
                "imbalance": self.imbalance,
                "sync_wait_seconds": self.waited,
                "cost_of_groups": self._cost_of_groups(),
                "notes": list(self.loop.notes),
                "kept_bytes": engine.kept_bytes,
                "profiled": config.profile,
                "processes": processes,
                "peak_memory_bytes": max(each["peak_memory_bytes"] for each in processes),
                "peak_cuda_memory_bytes": max(each["peak_cuda_memory_bytes"] for each in processes),
                "parameters": sum(p.numel() for p in engine.modules.parameters()),
            },
            "environment": describe_environment(),
        }
