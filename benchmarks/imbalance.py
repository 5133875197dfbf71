"""How evenly groups of real snapshots can be spread over devices: max / mean time, by policy. Markdown tables.

    python benchmarks/imbalance.py --source ../shared/data [--window 8 --devices 2 4 8 --epochs 5]
    python benchmarks/imbalance.py --sequence DIR
    python benchmarks/imbalance.py --costs FILE.npy

A group costs its number of edges, as the source lists them, or with ``--costs`` what was measured. The first table of a
set is an epoch that is one step, so that devices meet once; in the others they meet after every step, and a number is
the time of the slowest devices over that of even ones, over all steps, as the mean of some epochs; in brackets, the
mean of the least that the groups of each step allow whatever the policy (for ``cross-window``, its own steps).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np

from tgscale.data.snapshot_store import open_snapshots
from tgscale.snapshot.assign import POLICIES, plan_epoch
from tgscale.snapshot.balance import Balance, bounds
from tgscale.snapshot.groups import group_sizes, make_groups

SETS = ("ctgcn_enron", "as733")


def edge_counts(name: str, source: Path) -> np.ndarray:
    """Edges of each step, int64 ``[T]``, without reading any edge into Python."""
    if name == "as733":  # an interval per edge: first and last step in which it stands
        file, steps = source / name / "intervals.parquet", len(np.load(source / name / "snapshot_days.npy"))
        changes = np.zeros(steps + 1, np.int64)
        for column, sign, later in (("first", 1, 0), ("last", -1, 1)):
            query = f"SELECT \"{column}\" + {later} AS t, count(*) AS n FROM '{file}' GROUP BY t"
            found = duckdb.sql(query).fetchnumpy()
            changes[found["t"]] += sign * found["n"].astype(np.int64)
        return np.cumsum(changes)[:-1]
    found = duckdb.sql(
        f"SELECT t, count(*) AS n FROM '{source / name / 'events.parquet'}' GROUP BY t ORDER BY t"
    ).fetchnumpy()
    counts = np.zeros(int(found["t"].max()) + 1, np.int64)
    counts[found["t"].astype(np.int64)] = found["n"]
    return counts


def measure(costs: np.ndarray, devices: int, size: int, policy: str, epochs: int, limit: float) -> tuple[float, float]:
    """Imbalance of an epoch, and the least that its steps allow; means over some epochs."""
    reached, least = [], []
    for epoch in range(epochs):
        plan = plan_epoch(costs, devices, size, policy, seed=0, epoch=epoch, time_limit=limit)
        floors = [bounds(costs[np.concatenate(step)], devices).makespan for step in plan]
        reached.append(Balance.of(plan, costs).imbalance)
        least.append(sum(floors) / (costs.sum() / devices))
    return statistics.mean(reached), statistics.mean(least)


def lines(costs: np.ndarray, devices: int, sizes: list[int], epochs: int, limit: float) -> Iterator[str]:
    """Rows of a table."""
    for size in sizes:
        whole = size >= len(costs)
        cells = []
        for policy in POLICIES:
            reached, least = measure(costs, devices, size, policy, 1 if whole else epochs, limit)
            cells.append(f"{reached:.3f} ({least:.3f})")
        yield f"| {devices} | {'all' if whole else size} | {' | '.join(cells)} |"


def print_tables(name: str, costs: np.ndarray, options: argparse.Namespace) -> None:
    """An epoch in one step, then steps of once, twice and four times as many groups as devices."""
    print(f"\n{name}: {len(costs)} groups, the dearest costs {costs.max() / costs.mean():.2f} times the mean\n")
    print(f"| devices | groups per step | {' | '.join(POLICIES)} |\n|---:|---:|{'---:|' * len(POLICIES)}")
    for devices in options.devices:
        sizes = [len(costs), *(times * devices for times in options.per_device if times * devices < len(costs))]
        for line in lines(costs, devices, sizes, options.epochs, options.time_limit):
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of the real sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--sequence", type=Path, help="a data directory of snapshots, in place of the real sets")
    parser.add_argument("--costs", type=Path, help=".npy file with the measured seconds of each group")
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--per-device", type=int, nargs="+", default=[1, 2, 4], help="groups per device and step")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds of the policy optimal per epoch")
    options = parser.parse_args()
    if options.costs is not None:
        print_tables(options.costs.stem, np.load(options.costs, allow_pickle=False).astype(np.float64), options)
        return
    if (options.source is None) == (options.sequence is None):
        parser.error("give --source, --sequence or --costs")
    if options.sequence is not None:
        sequence = open_snapshots(options.sequence)
        counted = {sequence.name: sequence.edge_counts()}
    else:
        counted = {name: edge_counts(name, options.source) for name in options.sets}
    for name, counts in counted.items():
        groups = make_groups(0, len(counts), options.window, options.stride)
        print_tables(name, group_sizes(counts, groups).astype(np.float64), options)


if __name__ == "__main__":
    main()
