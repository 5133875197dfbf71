"""The whole configuration of a training run on a snapshot sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tgscale.errors import ConfigError
from tgscale.train.loggers.base import LogConfig
from tgscale.train.options import at_least, leave_something
from tgscale.train.options import replace as replace

ModelName = Literal["tgcn", "a3tgcn", "lrgcn", "gclstm", "gconv_gru", "evolvegcn_o", "evolvegcn_h", "mpnn_lstm"]
Partition = Literal["blad", "group-count", "snapshot", "vertex"]
Assign = Literal["lpt", "count", "optimal", "cross-window"]


@dataclass
class NetConfig:
    """What the model is made of."""

    hidden: int = 32
    """Width of the hidden state."""
    features: Literal["auto", "given", "degree", "both"] = "auto"
    """Node features: those of the data; log degrees; both; auto: those of the data, or degrees where it has none."""
    order: int = 2
    """Chebyshev terms (gclstm, gconv_gru)."""
    bases: int | None = None
    """Tables that the weights of the edge types are mixed from (lrgcn); one for each type unless given."""
    dropout: float = 0.5
    """Behind each convolution (mpnn_lstm)."""
    compat: bool = False
    """As PyTorch Geometric Temporal where it departs from the paper: a3tgcn without its recurrence."""
    residual: bool = False
    """Predict by how much a target differs from the latest one that is known (regression)."""
    pair_encoding: bool = True
    """Let a link decoder see whether, how often and when the two nodes have met."""

    def __post_init__(self) -> None:
        at_least("net.hidden", self.hidden, 1)
        at_least("net.order", self.order, 1)
        at_least("net.bases", self.bases, 1)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"net.dropout is {self.dropout}: give a share in [0, 1).")


@dataclass
class PlanConfig:
    """Which exact rewrites the operator plan makes; all give the same numbers up to rounding."""

    associate: bool = True
    """A (X W) <-> (A X) W."""
    fold: bool = True
    """Products of products become one product."""
    share: bool = True
    """Compute once what is the same: one aggregation for all gates."""
    merge: bool = True
    """Gates side by side in one product."""
    hoist: bool = True
    """What does not depend on the state, for all steps of a group at once."""
    cache: bool = True
    """What depends on the data alone, once for the whole run."""
    fuse: bool = True
    """A GRU or LSTM recurrence as one call per group."""
    distinct: bool = True
    """Nodes with equal data, and states that cannot differ, once per group (on the CPU, where it saves enough)."""


@dataclass
class SnapshotOptimConfig:
    """How the weights are trained."""

    epochs: int = 20
    """Passes over the training groups, at most."""
    lr: float = 0.01
    """Learning rate of Adam."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over all epochs: a short warm-up and then a cosine down to nothing, or always the same."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    loss_on: Literal["all", "last"] = "all"
    """Steps of a group that count in the loss; models with one embedding per group know the last alone."""
    edges_per_step: int = 2000
    """Edges of a snapshot in the loss, at most, drawn anew each time (link and edge tasks)."""
    negatives: int = 1
    """Negative destinations per edge in the loss (link task)."""
    patience: int = 5
    """Stop after this many validations without a better result; 0 never stops early."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("edges_per_step", 1), ("negatives", 1), ("patience", 0)):
            at_least(f"train.{name}", getattr(self, name), least)
        at_least("train.weight_decay", self.weight_decay, 0)
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"train.lr is {self.lr}: give a number above 0, such as 0.01.")


@dataclass
class SnapshotEvalConfig:
    """How validation and test are scored."""

    val: float = 0.15
    """Share of the steps, by time, to validate on."""
    test: float = 0.15
    """Share of the steps, by time, to test on."""
    negatives: int = 49
    """Random destinations that each edge is ranked against (link task)."""
    edges_per_step: int = 2000
    """Edges of a snapshot that are scored, at most (link and edge tasks)."""
    seed: int = 0
    """Seed of edges and negatives."""

    def __post_init__(self) -> None:
        at_least("eval.negatives", self.negatives, 1)
        at_least("eval.edges_per_step", self.edges_per_step, 1)
        leave_something("eval.val", self.val, "eval.test", self.test)


@dataclass
class SnapshotConfig:
    """Train a model of snapshots on a snapshot sequence."""

    data: Path
    """Data directory, made by `tgscale data import` or `tgscale data generate snapshots`."""
    run: Annotated[Path, tyro.conf.arg(aliases=["--run-dir"])]
    """Run directory to write; must not exist yet. (torchrun on Python 3.11 takes --run for one of its own options.)"""
    model: ModelName = "tgcn"
    """Which model."""
    task: Literal["auto", "regression", "link", "edge"] = "auto"
    """Predict the nodes' target, the next snapshot's edges, or their labels; auto: the target where there is one."""
    window: int = 8
    """Snapshots of a group. Its hidden state starts fresh."""
    stride: int = 1
    """Steps from the start of a group to that of the next."""
    groups_per_step: int = 8
    """Groups whose gradients make one step of the optimiser, on all devices together."""
    partition: Partition = "blad"
    """What the devices share out: blad: groups by their cost; group-count: as many groups each; snapshot: the
    snapshots of each group (ESDG); vertex: the nodes of each snapshot (AliGraph, DGL)."""
    assign: Literal["auto", "lpt", "count", "optimal", "cross-window"] = "auto"
    """Groups to devices: longest first; equal counts; optimal (MILP); also choosing which groups share a step. auto:
    lpt for blad, count for group-count."""
    costs: Literal["measured", "sizes"] = "measured"
    """Costs of groups: from their measured times, refreshed each epoch, or from their sizes alone. With several
    devices the former makes the order of sums, and so the last bits, depend on the clock."""
    executor: Literal["auto", "serial", "streams", "processes", "graph"] = "auto"
    """Who works on a device: one worker, two on two streams (threads on a CPU), two processes; graph: one,
    whose groups are captured as CUDA graphs (node regression without draws); auto: as measured, of the first three."""
    seed: int = 0
    """Seed of weights, dropout, order of groups, edges and negatives in training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 1
    """CPU threads of each worker."""
    quiet: bool = False
    """Print nothing but errors."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep."""
    checkpoint_every: int | None = None
    """Iterations between two checkpoints, beside the one after each epoch."""
    profile: bool = False
    """Write timeline.json, a trace that opens in Perfetto, and say where the time went."""
    net: NetConfig = field(default_factory=NetConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    train: SnapshotOptimConfig = field(default_factory=SnapshotOptimConfig)
    eval: SnapshotEvalConfig = field(default_factory=SnapshotEvalConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        for name in ("window", "stride", "groups_per_step", "threads", "keep_checkpoints", "checkpoint_every"):
            at_least(name, getattr(self, name), 1)
        if self.partition in ("snapshot", "vertex"):
            if self.assign != "auto":
                raise ConfigError(
                    f"assign {self.assign} and partition {self.partition}: all devices share each group there, so none "
                    "is assigned: leave assign out."
                )
            if self.executor not in ("auto", "serial"):
                raise ConfigError(
                    f"executor {self.executor} and partition {self.partition}: all devices work on one group at a time "
                    "there: use executor serial."
                )
        if not -(2**40) < self.seed < 2**40:
            raise ConfigError(f"seed is {self.seed}: give an integer of at most 40 bits.")

    @property
    def policy(self) -> str:
        """How groups go to devices."""
        if self.assign != "auto":
            return self.assign
        return "count" if self.partition == "group-count" else "lpt"
