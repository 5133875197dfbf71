"""How many events per second can be sampled: one hop and two, by strategy, backend and threads.

Roots are what training asks for: source, destination and one random negative of each event, at the event's time.
One measurement is a pass over the whole stream in batches. Backends give equal answers; only the time differs.

    python benchmarks/sampling.py --parquet ../shared/data/wikipedia/events.parquet [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numba
import numpy as np
import pyarrow.parquet as pq
import torch
from tables import DOCS, markdown, publish

from tgscale.data.store import open_stream
from tgscale.data.stream import EventStream
from tgscale.graph.sampling import NeighborSampler
from tgscale.train.environment import keep_freed_memory

HEAD = ["hops", "strategy", "backend", "threads", "batch", "best, M events/s", "median, M events/s", "goal"]
GOALS = {1: 4.0, 2: 0.6}  # hops -> M events/s with 10 recent neighbors on one thread
Roots = list[tuple[torch.Tensor, torch.Tensor]]


def read_parquet(path: Path) -> EventStream:
    """A stream from a file with columns src, dst and t, whose ids are dense."""
    table = pq.read_table(path)
    src, dst, when = (table[name].to_numpy().astype(np.int64) for name in ("src", "dst", "t"))
    return EventStream.from_arrays(src, dst, when, name=path.parent.name)


def make_roots(stream: EventStream, batch: int) -> Roots:
    negative = np.random.default_rng(0).choice(stream.destinations, stream.num_events)
    batches = []
    for first in range(0, stream.num_events, batch):
        part = slice(first, first + batch)
        node = np.concatenate([stream.src[part], stream.dst[part], negative[part]]).astype(np.int64)
        batches.append((torch.from_numpy(node), torch.from_numpy(np.tile(stream.time[part], 3))))
    return batches


def measure(sampler: NeighborSampler, roots: Roots, passes: int) -> tuple[float, float]:
    """Best and median seconds of a pass, after a warm-up batch."""
    sampler.sample(*roots[0])
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        for node, when in roots:
            sampler.sample(node, when)
        if sampler.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds), statistics.median(seconds)


def set_threads(count: int) -> None:
    # Numba first: when its threads start, it sets the thread count of the OpenMP runtime that it shares with torch.
    numba.set_num_threads(count)
    torch.set_num_threads(count)


def main() -> None:
    keep_freed_memory()  # as `tgscale train` does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="a tgscale data directory")
    source.add_argument("--parquet", type=Path, help="a Parquet file with columns src, dst, t and dense ids")
    parser.add_argument("--batch", type=int, nargs="+", default=[200, 600])
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--strategy", nargs="+", default=["recent", "uniform"])
    parser.add_argument("--backend", nargs="+", default=["numba", "tensor"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    args = parser.parse_args()

    stream = open_stream(args.data) if args.data else read_parquet(args.parquet)
    said = f"{stream.name}: {stream.num_events:,} events, {stream.num_nodes:,} nodes, {args.neighbors} neighbors a hop"
    publish(DOCS / "benchmarks.md", "sampling", f"{said}\n\n{markdown(HEAD, rows(stream, args))}", args.write)


def rows(stream: EventStream, args: argparse.Namespace) -> Iterator[list[object]]:
    """One measurement after another."""
    for batch in args.batch:
        roots = make_roots(stream, batch)
        for hops, strategy, backend in product(args.hops, args.strategy, args.backend):
            sizes = [args.neighbors] * hops
            sampler = NeighborSampler(stream, sizes, strategy=strategy, device=args.device, backend=backend)
            placed = [(node.to(sampler.device), when.to(sampler.device)) for node, when in roots]
            for threads in args.threads:
                set_threads(threads)
                best, median = (stream.num_events / s / 1e6 for s in measure(sampler, placed, args.passes))
                aimed_at = (strategy, backend, threads, args.neighbors) == ("recent", "numba", 1, 10)
                goal = GOALS.get(hops, "") if aimed_at else ""
                yield [hops, strategy, backend, threads, batch, f"{best:.2f}", f"{median:.2f}", goal]


if __name__ == "__main__":
    main()
