"""Seconds per epoch of training against PyTorch Geometric Temporal, same weights, data and loss. Markdown tables.

    python benchmarks/snapshot_peers.py --source ../shared/data --peer-python PYTHON --out build/peers [--quick]

``PYTHON`` is an interpreter in which that library is installed. Each system runs in a process of its own, and the two
take turns epoch by epoch, so that what else the machine does meets both. An epoch is as in that library's examples: the
first 80 % of the snapshots as one sequence, ReLU and a linear layer on each hidden state, the mean squared error,
averaged over snapshots, one backward pass and one step of Adam. The weights are drawn there and taken over here. What
its examples do in ways that cannot be compared is put right for both: prediction and target have one shape, LRGCN's
edges are of type 0, EvolveGCN begins each epoch with its initial weights. A3T-GCN, whose layer takes a snapshot's
feature columns as periods and does not hand the hidden state on between them, runs here with ``compat``, a group of
steps per snapshot.

The rows from "as written" on are this program with one rewrite more each; the last one is what it does by default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from tgscale.data.snapshot_pgt import import_pgt
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.tensors import SnapshotData
from tgscale.train.environment import describe_environment

FILES = {"england_covid": "england_covid", "twitter_tennis": "twitter_tennis_rg17", "chickenpox": "chickenpox"}
ENRON = "ctgcn_enron"
MODELS = ["tgcn", "a3tgcn", "lrgcn", "gclstm", "evolvegcn_o"]
VARIANTS = [
    "as written",
    "resident data",
    "gate merge",
    "snapshot-parallel",
    "first-layer cache",
    "fused recurrence",
    "distinct rows",
]
HIDDEN, ORDER, TRAIN = 32, 2, 0.8


@dataclass
class Times:
    """Seconds and loss of each timed epoch, by system."""

    seconds: dict[str, list[float]]
    losses: dict[str, list[float]]

    def ratio(self, name: str) -> float:
        """Median over the turns of the peer's time over this one's."""
        pairs = zip(self.seconds["PyGT"], self.seconds[name], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def difference(self, name: str) -> float:
        """Largest relative difference between the losses."""
        pairs = zip(self.losses["PyGT"], self.losses[name], strict=True)
        return max(abs(theirs - ours) / abs(theirs) for theirs, ours in pairs)


class Worker:
    """A process that takes a JSON request per line and answers with one."""

    def __init__(self, python: str, script: str, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name(script)), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args!r} ended in {request}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def enron(source: Path, steps: int) -> SnapshotSequence:
    """Some snapshots with most edges; features are degrees, the target is the in-degree in the next one (log)."""
    first, events = 34 - steps, f"'{source / ENRON / 'events.parquet'}'"
    within = f"t BETWEEN {first} AND 34"
    rows = duckdb.sql(f"SELECT src, dst, t - {first} AS t, weight FROM {events} WHERE {within}").fetchnumpy()
    nodes = int(duckdb.sql(f"SELECT max(greatest(src, dst)) FROM {events}").fetchall()[0][0])
    edges = [rows[name].astype(np.int64) for name in ("t", "src", "dst")]
    bare = SnapshotSequence.from_arrays(*edges, edge_weight=rows["weight"], num_nodes=nodes + 1)
    degrees = SnapshotData(bare, features="degree").x.numpy()
    now = edges[0] < steps
    return SnapshotSequence.from_arrays(
        *(column[now] for column in edges),
        edge_weight=rows["weight"][now],
        num_nodes=nodes + 1,
        num_steps=steps,
        node_features=degrees[:-1],
        target=degrees[1:, :, 0],
        name=ENRON,
    )


def save_case(name: str, options: argparse.Namespace) -> tuple[Path, str]:
    """The training part of a set as plain arrays, which both sides read; and its size in words."""
    if name == ENRON:
        sequence, share = enron(options.source, options.enron_steps), 1.0
    else:
        folder = options.out / "data" / name
        if not folder.exists():
            import_pgt(options.source / "pgt" / f"{FILES[name]}.json.xz", folder)
        sequence, share = open_snapshots(folder), TRAIN
    steps = int(share * sequence.num_steps)
    graph_of = sequence.graph_of[:steps]
    edges = [sequence.edges(t) for t in np.unique(graph_of, return_index=True)[1]]
    last = int(sequence.offsets[graph_of.max() + 1])
    weight = sequence.edge_weight
    path = options.out / f"{name}-{steps}.npz"
    np.savez(
        path,
        graph_of=graph_of,
        graph=np.repeat(np.arange(len(edges)), [len(src) for src, _ in edges]),
        src=np.concatenate([src for src, _ in edges]),
        dst=np.concatenate([dst for _, dst in edges]),
        weight=np.ones(last, np.float32) if weight is None else weight[:last],
        features=sequence.node_features[:steps],
        target=sequence.target[:steps, :, 0],
    )
    mean = int(sequence.edge_counts()[:steps].mean())
    size = f"{steps} snapshots, {sequence.num_nodes:,} nodes, {sequence.node_dim} features, {mean:,} edges on average"
    return path, size


def measure(case: Path, model: str, theirs: Worker, ours: Worker, options: argparse.Namespace) -> Times:
    """Take turns: an epoch there, then one of each variant here."""
    weights = str(options.out / f"{model}.pt")
    theirs.ask(do="start", case=str(case), model=model, hidden=HIDDEN, order=ORDER, weights=weights)
    ours.ask(
        do="start", case=str(case), model=model, hidden=HIDDEN, order=ORDER, weights=weights, variants=options.variants
    )
    times = Times({}, {})
    for turn in range(options.warm_up + options.epochs):
        for name, worker in [("PyGT", theirs), *((variant, ours) for variant in options.variants)]:
            answer = worker.ask(do="epoch", variant=name)
            times.losses.setdefault(name, []).append(answer["loss"])
            if turn >= options.warm_up:
                times.seconds.setdefault(name, []).append(answer["seconds"])
    return times


def rows(model: str, times: Times) -> Iterator[str]:
    for name, seconds in times.seconds.items():
        cells = [f"{min(seconds) * 1e3:,.1f}", f"{statistics.median(seconds) * 1e3:,.1f}"]
        yield f"| {model} | {name} | {' | '.join(cells)} | {times.ratio(name):.1f} | {times.difference(name):.0e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer-python", required=True, help="interpreter with PyTorch Geometric Temporal")
    parser.add_argument("--sets", nargs="+", default=[*FILES, ENRON], choices=[*FILES, ENRON])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS, help="rewrites to measure")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=7, help="timed epochs of each")
    parser.add_argument("--warm-up", type=int, default=1, help="epochs ahead of them")
    parser.add_argument("--enron-steps", type=int, default=10, help="snapshots of ctgcn_enron")
    parser.add_argument("--quick", action="store_true", help="one thread, 3 epochs, 4 snapshots of ctgcn_enron")
    options = parser.parse_args()
    if options.quick:
        options.threads, options.epochs, options.enron_steps = [1], 3, 4
    options.out.mkdir(parents=True, exist_ok=True)
    environment, summary = describe_environment(), {}
    print(f"{environment['cpu']}, {environment['cores']} cores, torch {environment['torch']}")
    for name in options.sets:
        case, size = save_case(name, options)
        for threads in options.threads:
            print(f"\n**{name}**: {size}; threads {threads}\n")
            print("| model | what | best ms | median ms | x PyGT | loss differs by |\n|---|---|---|---|---|---|")
            with (
                Worker(options.peer_python, "snapshot_peers_pygt.py", threads) as theirs,
                Worker(sys.executable, "snapshot_peers_ours.py", threads) as ours,
            ):
                for model in options.models:
                    times = measure(case, model, theirs, ours, options)
                    print("\n".join(rows(model, times)), flush=True)
                    summary[model, name, threads] = times.ratio(options.variants[-1])
    print("\nEpochs of PyGT in the time of one here:\n\n| model | threads | " + " | ".join(options.sets) + " |")
    print("|---" * (len(options.sets) + 2) + "|")
    for model in options.models:
        for threads in options.threads:
            cells = " | ".join(f"{summary[model, name, threads]:.1f}" for name in options.sets)
            print(f"| {model} | {threads} | {cells} |")


if __name__ == "__main__":
    main()
