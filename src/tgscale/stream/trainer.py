"""A whole run: train, validate after each sweep, keep the best weights with their memory, test, write the result."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgscale.data.store import fingerprint, open_stream
from tgscale.errors import ConfigError, DivergedError, RunError
from tgscale.stream.captured import captured_of_run
from tgscale.stream.config import TrainConfig, other_protocol
from tgscale.stream.device_loop import make_loop, uses_device_graph
from tgscale.stream.engine import StreamEngine
from tgscale.stream.feature_cache import FeatureCache
from tgscale.stream.forward import check_forward
from tgscale.stream.launch import check_layout, check_room, daemon_traces, place_memories, plan_layout
from tgscale.stream.per_event import save_test_scores
from tgscale.stream.pipeline import hidden_share
from tgscale.stream.schedule import Schedule
from tgscale.stream.scores import Scores
from tgscale.stream.task.base import Scored
from tgscale.stream.task.head import load_source, options_of_source
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

TIES = {
    "half": "half (mean of the optimistic and the pessimistic rank)",
    "optimistic": "won (the optimistic rank)",
}
AVERAGES = {"events": "over all events", "batches": "AP and AUC: mean over batches; ranks: over all events"}


def train_stream(config: TrainConfig, resume: bool = False) -> dict[str, Any]:
    """Train and evaluate as ``config`` says.

    A process that ``torchrun`` started is one trainer among ``WORLD_SIZE``, and all of them call this.

    Args:
        config: all choices; ``config.data`` is the data directory, ``config.run`` the run directory.
        resume: go on from the newest checkpoint of ``config.run``. The result equals that of a run that was never
            interrupted, bit for bit.

    Returns:
        What is written to ``result.json`` of the run directory.

    Raises:
        TgscaleError: data, options or run directory that cannot be used; raised before any work.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(
            f"train_stream takes a configuration, and this is {type(config).__name__}: make one with "
            "tgscale.default_config(data, run)."
        )
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
            stream = open_stream(config.data)
            config = _same_options(config) if resume else options_of_source(config)
            layout = plan_layout(config, stream, ranks) if ranks.is_first else None
        config = dataclasses.replace(config, layout=ranks.broadcast_object(layout))
        with ranks.together():
            check_layout(config, ranks)
            check_forward(config, device)
            uses_device_graph(config, device)  # refused before the work starts
            check_room(config, stream, device, ranks)
        run = enter_run(config.run, to_dict(config), resume, ranks, stack)
        started = ranks.broadcast_object(bool(saved_steps(config.run)))
        fresh = not started and ranks.is_first
        engine = StreamEngine(config, stream, device, pretrain=fresh and config.task.init_from is None)
        with ranks.together():
            if fresh:
                load_source(engine)
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


def _same_options(config: TrainConfig) -> TrainConfig:
    """The options that a run was begun with, which must be those of now; ``auto`` has become a layout."""
    begun = as_begun(load_config(config.run), config)
    if config.layout == "auto":
        config = dataclasses.replace(config, layout=begun.layout)
    if config != begun:
        config = options_of_source(config)
    if config != begun:
        raise ConfigError(f"{config.run} was begun with other options: go on with those, or give another --run.")
    return begun


def resume(run: Path | str) -> dict[str, Any]:
    """Go on with an interrupted run; see :func:`train_stream`."""
    return train_stream(load_config(Path(run)), resume=True)


def load_config(run: Path) -> TrainConfig:
    """The configuration of a run directory, wherever that directory lies now.

    Raises:
        RunError: not a run directory.
    """
    return load_run_config(TrainConfig, run)


def evaluate(
    run: Path | str,
    split: str = "test",
    protocol: str | None = None,
    device: str | None = None,
    quiet: bool = False,
    data: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate the best weights of a finished or interrupted run.

    Args:
        run: run directory.
        split: ``"val"`` or ``"test"``.
        protocol: a name of :data:`tgscale.stream.protocol.PROTOCOLS`; as in training unless given.
        device: as in training unless given.
        quiet: show no progress.
        data: the run's data directory, where it has moved.
        options: other fields of :class:`tgscale.stream.config.EvalConfig`, such as ``negatives="historical"``; as in
            training unless given. With another protocol, its own are the default.

    Returns:
        ``split``, ``protocol``, ``metrics`` and ``baselines`` (the rules on the same negatives).

    Raises:
        ConfigError: unknown split or protocol, or options that do not go with it.
        RunError: not a run directory, or one without a finished epoch.
    """
    if split not in ("val", "test"):
        raise ConfigError(f"split {split!r} is unknown: choose val or test.")
    config = load_config(Path(run))
    if config.task.name != "link" and any(value is not None for value in (protocol, *options.values())):
        raise ConfigError(f"protocols are for link prediction, and the task of {run} is {config.task.name}.")
    evaluation = other_protocol(config.eval, protocol, **options)
    config = dataclasses.replace(config, eval=evaluation, data=data_of(config, data))
    set_threads(config.threads)
    keep_freed_memory()
    best = load_best(config.run, config.data)
    engine = StreamEngine(config, open_stream(config.data), find_device(device or config.device), pretrain=False)
    restore_best(engine, best)
    metrics = evaluate_parts(engine, ("val", "test") if split == "test" else ("val",), quiet)[split]
    return {
        "split": split,
        "protocol": describe_protocol(engine, split),
        "metrics": metrics,
        "baselines": summarize_rules(engine, split),
    }


def restore_best(engine: StreamEngine, state: dict[str, Any]) -> None:
    """Load the best weights and the memory that they had at the end of the training events."""
    engine.model.load_state_dict(state["model"])
    engine.memory.load_state_dict(state["memory"])


def evaluate_parts(
    engine: StreamEngine,
    parts: tuple[str, ...],
    quiet: bool,
    ranks: Ranks | None = None,
    kept: dict[str, Scored] | None = None,
    labels: Mapping[str, str] | None = None,
    passing: bool = False,
) -> dict[str, dict[str, float | None]]:
    """Walk through the parts in order, memory going on from one to the next; metrics of each, the same on all ranks.

    ``kept`` takes the scores of each part; ``labels`` are what progress calls parts, where not by their names;
    ``passing`` progress leaves nothing behind.
    """
    ranks, results = ranks or Ranks(), {}
    for part in parts:
        start, stop = engine.split.range(part)
        with Progress(stop - start, (labels or {}).get(part, part), quiet=quiet, passing=passing) as progress:
            scores = engine.evaluate(part, progress, ranks)
        if kept is not None:
            kept[part] = scores
        with ranks.together():
            summary = scores.summary(engine.new_node_events(part)) if ranks.is_first else {}
        results[part] = ranks.broadcast_object(summary)  # processors may round differently, and all must agree
    return results


def summarize_rules(engine: StreamEngine, part: str) -> dict[str, dict[str, float | None]]:
    """Metrics of every rule on the part's events and negatives."""
    new = engine.new_node_events(part)
    return {name: scores.summary(new) for name, scores in engine.evaluate_rules(part).items()}


def describe_protocol(engine: StreamEngine, part: str = "test") -> dict[str, Any]:
    """All that a metric depends on beside the model and the split."""
    if (described := engine.task.describe()) is not None:
        return described
    config, negatives = engine.config, engine.negatives_of(part)
    rule = config.eval.rule
    return {
        "name": rule.name,
        "negatives": negatives.count,
        **negatives.describe(),
        "ties": TIES[rule.ties],
        "average": AVERAGES[rule.average],
        "batches_from": "the start of the stream" if rule.aligned else "the start of the part",
        "batch_size": config.eval_batch_size,
        "seed": config.eval.seed,
    }


class _Trainer:
    """The state of a run while it runs, on one of its ranks; ``run`` is None on all but the first."""

    def __init__(self, config: TrainConfig, engine: StreamEngine, run: RunDirectory | None, ranks: Ranks) -> None:
        self.config, self.engine, self.run, self.ranks = config, engine, run, ranks
        self.data = fingerprint(config.data)
        engine.warm_up()
        ranks.broadcast(list(engine.model.state_dict().values()))  # a table that was pre-trained, above all
        self.schedule = Schedule.of(config, engine.split.train)
        synchronize = torch.cuda.synchronize if engine.device.type == "cuda" else None
        self.trace = Trace(config.profile, synchronize)
        self.backend, memories = place_memories(config, engine, ranks)
        self.loop = make_loop(engine, self.schedule, memories, ranks, self.trace)
        self.loop.interrupt = self.interrupt = Interrupt(ranks.world == 1, ranks.is_first)
        self.recorder = Recorder(self.trace, ranks)
        if config.profile and not uses_device_graph(config, engine.device):
            engine.trace_operators(self.trace)
        checkpoints = RunDirectory.checkpoints_of(config.run)
        self.steps = Checkpointer(checkpoints / STEPS, config.keep_checkpoints, ranks)
        self.best = Checkpointer(checkpoints / BEST, keep=1)
        self.told = False
        self.events = 0
        self.validations = 0
        self.best_validation, self.best_epoch, self.best_metric = 0, 0.0, -1.0
        self.seconds: list[float] = [0.0]
        self.own_seconds = 0.0

    def close(self) -> None:
        self.loop.close()

    def fit(self) -> dict[str, Any]:
        if not (self.config.quiet or self.run is None):
            print(self._outlook(), file=sys.stderr)
            for note in self._notes():
                print(f"note: {note}", file=sys.stderr)
        if self.loop.iteration == 0 and self.schedule.warm:
            self.loop.replay()
        patience = self.config.train.patience
        while self.loop.iteration < self.schedule.iterations:
            if patience and self.validations - self.best_validation >= patience:
                if not (self.config.quiet or self.run is None):
                    print(no_better_for(patience), file=sys.stderr)
                break  # here, as a run that goes on may have come to this before
            with self.interrupt.deferred():
                self._one_sweep()
                self.interrupt.obey()
        return self._finish()

    def _outlook(self) -> str:
        """What is trained on what, where, and how much of it, in a line."""
        config, engine, schedule = self.config, self.engine, self.schedule
        emulated = " (emulated)" if config.emulate is not None else ""
        threads = f", {config.threads} thread{'s' if config.threads > 1 else ''}" if engine.device.type == "cpu" else ""
        return (
            f"training {config.model.name} on {engine.stream.name} ({schedule.num_events:,} of "
            f"{engine.stream.num_events:,} events are for training), on {engine.device}{threads}, "
            f"layout {config.run_layout}{emulated}: at most "
            f"{config.train.epochs} epochs, {schedule.iterations:,} iterations of {schedule.batch_size:,} events per "
            f"trainer, into {config.run}"
        )

    def _notes(self) -> list[str]:
        """What can be run, and is hardly what was meant."""
        notes, events, engine = [], self.schedule.num_events, self.engine
        if self.schedule.batch_size >= events:
            notes.append(
                "one batch holds all training events, so no batch sees what the memory learned from another: give a "
                f"smaller --train.batch-size, such as {max(1, events // 100)}."
            )
        needs, most = engine.builder.needs, int(np.diff(engine.stream.tcsr.indptr).max(initial=0))
        if 0 < most < self.config.sampling.neighbors and (needs.hops or needs.past_of_ends):
            notes.append(
                f"no node has more than {most:,} events: --sampling.neighbors {most} lets the model see as much as "
                f"{self.config.sampling.neighbors:,}, and is faster."
            )
        return notes

    @property
    def epochs_done(self) -> float:
        """Traversed events over training events."""
        done = self.events / self.schedule.num_events
        return int(done) if done.is_integer() else done

    def _one_sweep(self) -> None:
        """Train until the memory has come to the end of the stream, then validate."""
        first = last = self.loop.iteration
        while not self.schedule.ends_sweep(last):
            last += 1
        events = sum(self.schedule.events(t) for t in range(first, last + 1))
        quiet = self.config.quiet or not self.ranks.is_first
        later = (
            sum(self.schedule.events(t) for t in range(last + 1, self.schedule.iterations)) if not self.told else None
        )
        self.told = True
        label = self._label(events)
        with Progress(events, label, quiet=quiet, later=later) as progress:
            every = self.config.checkpoint_every or last + 1
            for stop in [*range(first - first % every + every, last + 1, every), last + 1]:
                self._train(stop, progress)
                if self.loop.iteration <= last:
                    if self.loop.iteration:
                        self._save()
                    self.interrupt.obey()
        self._validate(label)
        self._save()

    def _label(self, events: int) -> str:
        done, total = self.epochs_done, self.config.train.epochs
        after = done + events / self.schedule.num_events
        return f"epoch {after:.0f}/{total}" if after - done == 1 else f"epochs {done:.3g} to {after:.3g} of {total}"

    def _train(self, stop: int, progress: Progress) -> None:
        began = time.perf_counter()
        first = self.loop.iteration
        self.loop.run(stop, progress)
        self.events += sum(self.schedule.events(t) for t in range(first, self.loop.iteration))
        seconds = time.perf_counter() - began
        self.seconds[-1] += seconds
        self.own_seconds += seconds

    def _validate(self, label: str) -> None:
        loss, seconds, quiet = self.loop.mean_loss(), self.seconds[-1], self.config.quiet or not self.ranks.is_first
        self._take_memory()
        memory = self.engine.memory.state_dict()
        began = time.perf_counter()
        with self.trace.span("validation", "run"):
            try:
                val = evaluate_parts(self.engine, ("val",), quiet, self.ranks, passing=True)["val"]
            except DivergedError as error:
                best, lr = self.best.folder, self.config.train.lr
                what = "a score of validation is NaN"
                raise diverged(what, self.epochs_done, self.best_epoch, best, lr) from error
        val_seconds = time.perf_counter() - began
        self.validations += 1
        value = val[self.engine.task.metric]
        assert value is not None
        better = value > self.best_metric
        if better:
            self.best_metric, self.best_epoch, self.best_validation = value, self.epochs_done, self.validations
        line = {
            "iteration": self.loop.iteration,
            "epoch": self.epochs_done,
            "loss": loss,
            "seconds": seconds,
            "events_per_second": self.events / sum(self.seconds),
            "val_seconds": val_seconds,
            **{f"val_{name}": each for name, each in val.items()},
        }
        if not quiet:
            tell_validation(label, loss, self.engine.task.metric, value, better, seconds + val_seconds)
        with self.ranks.together():
            if self.run:
                self.run.log("epoch", **line)
                if better:
                    state = {"model": self.engine.model.state_dict(), "memory": memory, "data": self.data}
                    self.best.save(self.loop.iteration, state)
        self.seconds.append(0.0)

    def _take_memory(self) -> None:
        """Take copy 0 of the memory over for evaluation, as it is at the end of the training events."""
        engine, schedule = self.engine, self.schedule
        state = self.loop.memory_of(0) if self.ranks.is_first else None
        if state:
            engine.memory.load_state_dict(state)
        self.ranks.broadcast(list(vars(engine.memory.state).values()))
        size = schedule.layout.minibatch * schedule.batch_size
        position = min(self.loop.iteration, schedule.positions)
        if position % schedule.num_global_batches:  # the run ends in the middle of the stream
            engine.model.eval()
            for start in range(position % schedule.num_global_batches * size, schedule.num_events, size):
                engine.advance(start, min(start + size, schedule.num_events))

    def _save(self) -> None:
        state: dict[str, Any] = {"data": self.data, "own": self.loop.state_dict()}
        if self.ranks.is_first:
            state["shared"] = self.loop.shared_state() | {
                "events": self.events,
                "validations": self.validations,
                "best_validation": self.best_validation,
                "best_epoch": self.best_epoch,
                "best_metric": self.best_metric,
                "seconds": self.seconds,
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
        self.events, self.validations = shared["events"], shared["validations"]
        self.best_validation, self.best_epoch = shared["best_validation"], shared["best_epoch"]
        self.best_metric, self.seconds = shared["best_metric"], list(shared["seconds"])
        if self.run:
            self.run.truncate_metrics(self.loop.iteration)

    def _load_best(self) -> dict[str, Any]:
        step, state = self.best.load()
        if step is None:
            raise RunError(f"{self.best.folder} holds no weights any more: start again with another --run.")
        return state

    def _finish(self) -> dict[str, Any]:
        config, engine, ranks = self.config, self.engine, self.ranks
        self.loop.close()
        with ranks.together():
            if ranks.is_first:
                restore_best(engine, self._load_best())
        ranks.broadcast([*engine.model.state_dict().values(), *vars(engine.memory.state).values()])
        kept: dict[str, Scored] = {}
        quiet = config.quiet or not ranks.is_first
        metrics = evaluate_parts(engine, ("val", "test"), quiet, ranks, kept, FINAL_LABELS)
        name = "emulated trainers" if config.emulate else f"trainer {ranks.rank}"
        timeline = self.recorder.gather(name, daemon_traces(self.loop.memories))
        processes = ranks.gather_objects(self._process())
        result = ranks.broadcast_object(self._result(metrics, processes, kept.get("test")) if self.run else None)
        if self.run:
            if config.profile:
                write_timeline(self.run.path / TIMELINE, timeline)
            self.run.write_result(result)
        return result

    def _process(self) -> dict[str, Any]:
        """What this process did and what that took, since it began."""
        totals, loop, features = self.trace.totals(), self.loop, self.engine.builder.edge_features
        return {
            "iterations": loop.steps,
            "seconds": self.own_seconds,
            "time": {name: seconds for name, (seconds, _) in totals.items()},
            "own_time": self.trace.own(),
            "rows_read": loop.rows_read,
            "rows_written": loop.rows_written,
            "batches_hidden": hidden_share(totals) if self.config.pipeline.depth else 0.0,
            "batch_cache": loop.cache.report() if loop.cache else None,
            "feature_cache": features.report() if isinstance(features, FeatureCache) else None,
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_cuda_memory_bytes": peak_cuda_memory_bytes(),
        }

    def _result(self, metrics: dict[str, Any], processes: list[dict[str, Any]], test: Scored | None) -> dict[str, Any]:
        config, engine, stream = self.config, self.engine, self.engine.stream
        new, rules = engine.new_node_events("test"), engine.evaluate_rules("test")
        of_links = {name: scores for name, scores in rules.items() if isinstance(scores, Scores)}
        if isinstance(test, Scores):
            save_test_scores(config.run, stream, engine.split.range("test")[0], new.numpy(), test, of_links)
        return {
            "task": engine.task.title,
            "model": config.model.name,
            "data": {
                "name": stream.name,
                "events": stream.num_events,
                "nodes": stream.num_nodes,
                "new_node_test_events": int(new.sum()),
            },
            "split": {**vars(engine.split), "by": "source" if stream.source_split else "time"},
            "protocol": describe_protocol(engine),
            "metric": engine.task.metric,
            "val": metrics["val"],
            "test": metrics["test"],
            "baselines": {name: scores.summary(new) for name, scores in rules.items()},
            "captured": captured_of_run(
                stream, engine.split.train, self.schedule.batch_size, config.run_layout.minibatch
            ),
            "train": {
                "layout": str(config.run_layout),
                "emulated": config.emulate is not None,
                "memory_backend": self.backend,
                "ranks": self.ranks.world,
                "machines": self.ranks.machines,
                "iterations": self.loop.iteration,
                "epochs": self.epochs_done,
                "best_epoch": self.best_epoch,
                "seconds": sum(self.seconds),
                "seconds_per_sweep": self.seconds[:-1],
                "events_per_second": self.events / sum(self.seconds),
                "profiled": config.profile,
                "processes": processes,
                "peak_memory_bytes": max(each["peak_memory_bytes"] for each in processes),
                "peak_cuda_memory_bytes": max(each["peak_cuda_memory_bytes"] for each in processes),
                "parameters": sum(p.numel() for p in engine.model.parameters() if p.requires_grad),
            },
            "environment": describe_environment(),
        }
