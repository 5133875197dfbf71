"""Four ways to share a step of snapshot training among processes, on the same groups: a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/snapshot_partitions.py --workers 2
    OMP_NUM_THREADS=1 python benchmarks/snapshot_partitions.py --data build/enron --models tgcn gconv_gru

``blad`` and ``group-count`` give each process whole groups, by cost and by number; ``snapshot`` (ESDG) and ``vertex``
(AliGraph, DGL, PyGT) share out each group. All have the same weights and, step by step, the same groups, so that the
sum of the gradients is the same, which is checked. They take turns, step by step; each process has one worker with one
thread. Epoch 0 is not timed: measured costs, which ``blad`` assigns by, come from it.

Plans: ``all`` makes every rewrite; ``no-cache`` does not keep what depends on the data alone; ``published`` runs models
as their papers write them, as the other systems do: all within the recurrence, or, with ESDG, what needs whole
snapshots ahead of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import run

import numpy as np

from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.assign import plan_epoch
from tgscale.snapshot.balance import Balance
from tgscale.snapshot.config import NetConfig, PlanConfig, SnapshotConfig, SnapshotOptimConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.partition import SnapshotPlacement, place
from tgscale.snapshot.placement import LocalPlacement
from tgscale.snapshot.rewrite import Rewrites
from tgscale.train.distributed import Ranks
from tgscale.train.environment import describe_environment, keep_freed_memory, set_threads
from tgscale.train.gradients import GradientBuffer

PARTITIONS = ["blad", "group-count", "snapshot", "vertex"]
PLANS = {"all": Rewrites(), "no-cache": Rewrites(cache=False), "published": Rewrites.none()}
PUBLISHED = {"snapshot": Rewrites.only("hoist")}
CLOSE = 1e-3
"""By how much gradients of one batch may differ, over their norm: float32 sums in another order."""


@dataclass
class Step:
    """One step of one process: seconds, and bytes sent beside gradients."""

    seconds: float
    exchange: float
    reduce: float
    sent: int

    @property
    def compute(self) -> float:
        return self.seconds - self.exchange - self.reduce


@dataclass
class System:
    """A partition with a plan: an engine, and how its steps went."""

    partition: str
    plan: str
    engine: SnapshotEngine
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gradients = GradientBuffer(self.engine.modules)
        self.costs = self.engine.cost_model()
        self.shares_groups = not isinstance(self.engine.placement, LocalPlacement)
        self.times: dict[int, float] = {}

    def epoch(self, epoch: int, ranks: Ranks) -> list[list[np.ndarray]]:
        """Groups of each process, step by step; of all processes together where they share groups."""
        config = self.engine.config
        policy, devices = ("count", 1) if self.shares_groups else (config.policy, ranks.world)
        plan = None
        measured = {group: seconds for part in ranks.gather_objects(self.times) for group, seconds in part.items()}
        if ranks.is_first:
            if measured and not self.shares_groups:
                self.costs.update(np.array(list(measured)), np.array(list(measured.values())))
            plan = list(plan_epoch(self.costs.predict(), devices, config.groups_per_step, policy, config.seed, epoch))
        self.times = {}
        return ranks.broadcast_object(plan)

    def step(self, groups: np.ndarray, epoch: int, ranks: Ranks) -> None:
        """Gradients of some groups, summed over all processes."""
        sent, exchanged = self.engine.placement.bytes_sent, self._exchanged()
        self.gradients.clear()
        ranks.barrier()
        began = time.perf_counter()
        for group in groups:
            at = time.perf_counter()
            self.engine.loss(int(group), epoch).backward()
            self.times[int(group)] = time.perf_counter() - at
        reducing = time.perf_counter()
        self.gradients.reduce(ranks)
        end = time.perf_counter()
        exchange = self._exchanged() - exchanged
        self.steps.append(Step(end - began, exchange, end - reducing, self.engine.placement.bytes_sent - sent))

    def _exchanged(self) -> float:
        exchange = getattr(self.engine.placement, "exchange", None)
        return sum(seconds for seconds, _ in exchange.trace.totals().values()) if exchange else 0.0


def make_sequence(options: argparse.Namespace) -> SnapshotSequence:
    """The data that was given, or generated snapshots."""
    if options.data:
        return open_snapshots(options.data)
    sizes = {name: getattr(options, name) for name in ("nodes", "snapshots", "edges", "skew", "features")}
    return generate_snapshots(**sizes)


def make_systems(options: argparse.Namespace, model: str, sequence: SnapshotSequence, ranks: Ranks) -> list[System]:
    """Every partition with every plan, all with the same weights."""
    systems: list[System] = []
    for plan in options.plans:
        for partition in options.partitions:
            rewrites = PUBLISHED.get(partition, PLANS[plan]) if plan == "published" else PLANS[plan]
            config = SnapshotConfig(
                data=Path("-"),
                run=Path("-"),
                model=model,
                window=options.window,
                groups_per_step=options.groups_per_step,
                partition=partition,
                net=NetConfig(hidden=options.hidden, dropout=0.0),
                plan=PlanConfig(**asdict(rewrites)),
                train=SnapshotOptimConfig(edges_per_step=options.edges_per_step),
            )
            engine = SnapshotEngine(config, sequence, place=lambda data, name=partition: place(name, data, ranks))
            if systems:
                engine.modules.load_state_dict(systems[0].engine.modules.state_dict())
            else:
                ranks.broadcast(list(engine.modules.state_dict().values()))
            systems.append(System(partition, plan, engine))
    return systems


def train(systems: list[System], options: argparse.Namespace, ranks: Ranks) -> float:
    """All systems in turn, step by step; the largest difference between their gradients, over the gradient's norm."""
    worst = 0.0
    for epoch in range(1 + options.epochs):
        plans = [system.epoch(epoch, ranks) for system in systems]
        for number in range(min(options.steps, len(plans[0]))):
            first = None
            for system, plan in zip(systems, plans, strict=True):
                step = plan[number]
                system.step(step[0] if system.shares_groups else step[ranks.rank], epoch, ranks)
                found = system.gradients.flat
                first = found.clone() if first is None else first
                worst = max(worst, float((found - first).norm() / first.norm()))
        if epoch == 0:
            for system in systems:
                system.steps.clear()
    return worst


def table(systems: list[System], ranks: Ranks) -> Iterator[str]:
    """A row for each system, by what all processes saw."""
    head = ["plan", "partition", "step, ms", "over blad", "imbalance", "exchange and wait, ms", "sent per step, MB"]
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join(["---"] * 2 + ["---:"] * (len(head) - 2)) + "|"
    base = 0.0
    for system in systems:
        of_ranks: list[list[Step]] = ranks.gather_objects(system.steps)
        compute = np.array([[step.compute for step in steps] for steps in of_ranks]).T
        away = np.mean([[step.exchange + step.reduce for step in steps] for steps in of_ranks])
        sent = sum(step.sent for steps in of_ranks for step in steps) / len(system.steps)
        slowest = np.max([[step.seconds for step in steps] for steps in of_ranks], axis=0)
        seconds = float(np.median(slowest))
        base = seconds if system.partition == "blad" or not base else base
        row = [f"{1e3 * seconds:.1f}", f"{seconds / base:.2f}", f"{Balance(compute).imbalance:.2f}"]
        row += [f"{1e3 * away:.1f}", f"{sent / 1e6:.2f}"]
        yield "| " + " | ".join([system.plan, system.partition, *row]) + " |"


def notes(systems: list[System], worst: float, ranks: Ranks) -> Iterator[str]:
    """What the table does not say."""
    reduced = 2 * (ranks.world - 1) * systems[0].gradients.flat.nbytes
    yield f"Gradients of one step differ by {worst:.1e} of their norm at most; {reduced / 1e6:.2f} MB more carry them."
    for system in systems:
        placement = system.engine.placement
        if isinstance(placement, SnapshotPlacement):
            moved = np.sum(ranks.gather_objects(placement.transfer), axis=0) / 1e6
            yield (
                f"Edges fetched by {system.partition}, {system.plan}: {moved[0]:.1f} MB as whole snapshots, "
                f"{moved[1]:.1f} MB as differences."
            )


def measure(options: argparse.Namespace) -> None:
    """In each process; the first one prints."""
    ranks = Ranks.from_environment()
    set_threads(1)
    keep_freed_memory()
    with ranks.connected():
        sequence = make_sequence(options)
        edges = sequence.edge_counts()
        say = print if ranks.is_first else lambda *_: None
        machine = {name: each for name, each in describe_environment().items() if name in ("cpu", "cores", "torch")}
        sizes = (
            f"{sequence.num_steps} snapshots, {sequence.num_nodes} nodes, {edges.mean():.0f} edges (most {edges.max()})"
        )
        say(f"{sequence.name}: {sizes}; {ranks.world} processes; {machine}\n")
        for model in options.models:
            systems = make_systems(options, model, sequence, ranks)
            worst = train(systems, options, ranks)
            say(f"### {model}, window {options.window}, {options.groups_per_step} groups per step\n")
            for line in table(systems, ranks):
                say(line)
            say("")
            for line in notes(systems, worst, ranks):
                say(line)
            say("", flush=True) if ranks.is_first else None
            if worst > CLOSE:
                raise SystemExit(
                    f"gradients differ by {worst}, expected {CLOSE} or less: the systems are not comparable"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data directory of snapshots; generated ones unless given")
    for name, value in (("nodes", 20_000), ("snapshots", 40), ("edges", 200_000), ("features", 8)):
        parser.add_argument(f"--{name}", type=int, default=value, help="of generated data")
    parser.add_argument("--skew", type=float, default=2.0, help="of generated data: largest over mean size, less 1")
    parser.add_argument("--models", nargs="+", default=["tgcn", "gconv_gru", "evolvegcn_o"])
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=["all", "published"])
    parser.add_argument("--partitions", nargs="+", choices=PARTITIONS, default=PARTITIONS)
    for name, value in (("workers", 2), ("window", 8), ("groups-per-step", 8), ("hidden", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--edges-per-step", type=int, default=2000, help="labels of a snapshot (link task)")
    parser.add_argument("--epochs", type=int, default=2, help="timed ones")
    parser.add_argument("--steps", type=int, default=10, help="of each epoch, at most")
    options = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        return measure(options)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.workers}", __file__]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    raise SystemExit(run([sys.executable, *start, *sys.argv[1:]], env=env).returncode)


if __name__ == "__main__":
    main()
