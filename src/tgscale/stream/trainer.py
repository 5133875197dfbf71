"""A whole run: train, validate after each epoch, keep the best weights with their memory, test, write the result."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from tgscale.data.store import fingerprint, open_stream
from tgscale.errors import ConfigError, RunError
from tgscale.stream.config import TrainConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.train.checkpoint import Checkpointer, rng_state, set_rng_state
from tgscale.train.config_io import from_dict, to_dict
from tgscale.train.environment import (
    describe_environment,
    find_device,
    peak_cuda_memory_bytes,
    peak_memory_bytes,
    set_threads,
)
from tgscale.train.progress import Progress
from tgscale.train.rundir import RunDirectory

EPOCHS, BEST = "epochs", "best"
TIES = "half (mean of the optimistic and the pessimistic rank)"


def train_stream(config: TrainConfig, resume: bool = False) -> dict[str, Any]:
    """Train and evaluate as ``config`` says.

    Args:
        config: all choices; ``config.data`` is the data directory, ``config.run`` the run directory.
        resume: go on from the newest checkpoint of ``config.run``. The result equals that of a run that was never
            interrupted, bit for bit.

    Returns:
        What is written to ``result.json`` of the run directory.

    Raises:
        TgscaleError: data, options or run directory that cannot be used; raised before any work.
    """
    if resume and config != load_config(config.run):
        raise ConfigError(f"{config.run} was begun with other options: go on with those, or give another --run.")
    device = find_device(config.device)
    set_threads(config.threads)
    stream = open_stream(config.data)
    # Absolute, so that the run finds its data from anywhere.
    config = dataclasses.replace(config, data=config.data.expanduser().absolute())
    with RunDirectory.open(config.run) if resume else RunDirectory.create(config.run, to_dict(config)) as run:
        started = bool(Checkpointer(run.checkpoints / EPOCHS).steps())
        if started:
            check_data(config, Checkpointer(run.checkpoints / BEST).load()[1])
        engine = StreamEngine(config, stream, device, pretrain=not started)
        trainer = _Trainer(config, engine, run)
        if started:
            trainer.load()
        elif resume:  # killed within its first epoch: begin again
            run.truncate_metrics(0)
        return trainer.fit()


def resume(run: Path | str) -> dict[str, Any]:
    """Go on with an interrupted run; see :func:`train_stream`."""
    return train_stream(load_config(Path(run)), resume=True)


def load_config(run: Path) -> TrainConfig:
    """The configuration of a run directory, wherever that directory lies now.

    Raises:
        RunError: not a run directory.
    """
    config = from_dict(TrainConfig, RunDirectory.read_config(run))
    config.run = run
    return config


def evaluate(
    run: Path | str, split: str = "test", protocol: str | None = None, device: str | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Evaluate the best weights of a finished or interrupted run.

    Args:
        run: run directory.
        split: ``"val"`` or ``"test"``.
        protocol: ``"mrr49"`` or ``"ap"``; as in training unless given.
        device: as in training unless given.
        quiet: show no progress.

    Returns:
        ``split``, ``protocol``, ``metrics`` and ``baselines`` (the rules on the same negatives).

    Raises:
        ConfigError: unknown split or protocol.
        RunError: not a run directory, or one without a finished epoch.
    """
    if split not in ("val", "test"):
        raise ConfigError(f"split {split!r} is unknown: choose val or test.")
    config = load_config(Path(run))
    if protocol is not None:
        if protocol not in ("mrr49", "ap"):
            raise ConfigError(f"protocol {protocol!r} is unknown: choose mrr49 or ap.")
        config = replace(config, eval__protocol=protocol)
    set_threads(config.threads)
    _, best = Checkpointer(RunDirectory.checkpoints_of(Path(run)) / BEST).load()
    check_data(config, best)
    engine = StreamEngine(config, open_stream(config.data), find_device(device or config.device), pretrain=False)
    restore_best(engine, best)
    metrics = evaluate_parts(engine, ("val", "test") if split == "test" else ("val",), quiet)[split]
    return {
        "split": split,
        "protocol": describe_protocol(engine),
        "metrics": metrics,
        "baselines": summarize_rules(engine, split),
    }


def check_data(config: TrainConfig, best: dict[str, Any]) -> None:
    """Refuse a run without a best checkpoint, and data that are not those it was trained on.

    Raises:
        RunError: as said.
    """
    if not best:
        raise RunError(f"{config.run} holds no finished epoch: train for longer first.")
    if best["data"] != fingerprint(config.data):
        raise RunError(f"{config.data} is not what {config.run} was trained on: the data were made anew since then.")


def restore_best(engine: StreamEngine, state: dict[str, Any]) -> None:
    """Load the best weights and the memory that they had at the end of the training events."""
    engine.model.load_state_dict(state["model"])
    engine.memory.load_state_dict(state["memory"])


def evaluate_parts(engine: StreamEngine, parts: tuple[str, ...], quiet: bool) -> dict[str, dict[str, float | None]]:
    """Walk through the parts in order, memory going on from one to the next; metrics of each."""
    results = {}
    for part in parts:
        start, stop = engine.split.range(part)
        with Progress(stop - start, part, quiet=quiet) as progress:
            results[part] = engine.evaluate(part, progress).summary(engine.new_node_events(part))
    return results


def summarize_rules(engine: StreamEngine, part: str) -> dict[str, dict[str, float | None]]:
    """Metrics of every rule on the part's events and negatives."""
    new = engine.new_node_events(part)
    return {name: scores.summary(new) for name, scores in engine.evaluate_rules(part).items()}


def describe_protocol(engine: StreamEngine) -> dict[str, Any]:
    """All that a metric depends on beside the model and the split."""
    config = engine.config
    return {
        "name": config.eval.protocol,
        "negatives": config.eval.negatives,
        "population": config.eval.population,
        "population_size": len(engine.builder.negatives.nodes),
        "exclude_own": config.eval.exclude_own,
        "ties": TIES,
        "batch_size": config.eval_batch_size,
        "seed": config.eval.seed,
    }


class _Trainer:
    """The state of a run while it runs."""

    def __init__(self, config: TrainConfig, engine: StreamEngine, run: RunDirectory) -> None:
        self.config, self.engine, self.run = config, engine, run
        self.data = fingerprint(config.data)
        self.optimizers = engine.optimizers()
        self.schedulers = engine.schedulers(self.optimizers)
        self.epochs = Checkpointer(run.checkpoints / EPOCHS, keep=config.keep_checkpoints)
        self.best = Checkpointer(run.checkpoints / BEST, keep=1)
        self.epoch = 0
        self.best_epoch, self.best_mrr = -1, -1.0
        self.seconds: list[float] = []

    def fit(self) -> dict[str, Any]:
        self.engine.warm_up()
        patience = self.config.train.patience
        while self.epoch < self.config.train.epochs and not (patience and self.epoch - self.best_epoch > patience):
            self._one_epoch()
        return self._finish()

    def _one_epoch(self) -> None:
        config, engine = self.config, self.engine
        label = f"epoch {self.epoch + 1}/{config.train.epochs}"
        began = time.perf_counter()
        with Progress(engine.split.train, label, quiet=config.quiet) as progress:
            loss = engine.train_epoch(self.epoch, self.optimizers, self.schedulers, progress)
        self.seconds.append(time.perf_counter() - began)
        memory = engine.memory.state_dict()
        val = evaluate_parts(engine, ("val",), config.quiet)["val"]
        self.run.log(
            "epoch",
            epoch=self.epoch + 1,
            loss=loss,
            seconds=self.seconds[-1],
            events_per_second=engine.split.train / self.seconds[-1],
            val_seconds=time.perf_counter() - began - self.seconds[-1],
            **{f"val_{name}": value for name, value in val.items()},
        )
        if val["mrr"] > self.best_mrr:  # type: ignore[operator]
            self.best_mrr, self.best_epoch = float(val["mrr"]), self.epoch  # type: ignore[arg-type]
            state = {"model": engine.model.state_dict(), "memory": memory, "data": self.data}
            self.best.save(self.epoch + 1, state)
        self.epoch += 1
        self._save()

    def _save(self) -> None:
        self.epochs.save(
            self.epoch,
            {
                "model": self.engine.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
                "rng": rng_state(),
                "epoch": self.epoch,
                "best_epoch": self.best_epoch,
                "best_mrr": self.best_mrr,
                "seconds": self.seconds,
            },
        )

    def load(self) -> None:
        """Go back to where the newest checkpoint was written."""
        _, state = self.epochs.load()
        self.engine.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        set_rng_state(state["rng"])
        self.epoch, self.best_epoch, self.best_mrr = state["epoch"], state["best_epoch"], state["best_mrr"]
        self.seconds = list(state["seconds"])
        self.run.truncate_metrics(self.epoch)

    def _finish(self) -> dict[str, Any]:
        config, engine = self.config, self.engine
        restore_best(engine, self.best.load()[1])
        metrics = evaluate_parts(engine, ("val", "test"), config.quiet)
        stream = engine.stream
        result = {
            "task": "link prediction",
            "model": "tgn",
            "data": {"name": stream.name, "events": stream.num_events, "nodes": stream.num_nodes},
            "split": {**vars(engine.split), "by": "source" if stream.source_split else "time"},
            "protocol": describe_protocol(engine),
            "val": metrics["val"],
            "test": metrics["test"],
            "baselines": summarize_rules(engine, "test"),
            "train": {
                "epochs": self.epoch,
                "best_epoch": self.best_epoch + 1,
                "seconds_per_epoch": self.seconds,
                "events_per_second": engine.split.train * len(self.seconds) / sum(self.seconds),
                "peak_memory_bytes": peak_memory_bytes(),
                "peak_cuda_memory_bytes": peak_cuda_memory_bytes(),
                "parameters": sum(p.numel() for p in engine.model.parameters() if p.requires_grad),
            },
            "environment": describe_environment(),
        }
        self.run.write_result(result)
        return result
