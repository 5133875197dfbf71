"""Putting new events behind many old ones: seconds and peak memory of the append, beside indexing anew.

    python benchmarks/append.py [--events 50000000 --nodes 2000000 --new 100000 --edge-features 0]

The old events lie in a data directory. ``append`` is what ``tgscale predict`` does with new ones; ``anew`` writes the
same columns and builds both indices from nothing. Each runs in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from measured_import import PeakMemory, in_child, status
from scratch import scratch

from tgscale.data.append import More, append_events
from tgscale.data.store import open_stream, writing
from tgscale.data.stream import Split


@dataclass
class Options:
    """What to generate and append."""

    events: int = 50_000_000
    nodes: int = 2_000_000
    new: int = 100_000
    edge_features: int = 0
    folder: Path | None = None
    """Where to work; a temporary folder unless given."""


def columns(start: int, count: int, nodes: int, width: int) -> tuple[np.ndarray, ...]:
    """Uniform events ``[start, start + count)``, one a second."""
    rng = np.random.default_rng(start)
    src, dst = rng.integers(0, nodes, (2, count), dtype=np.int32)
    return src, dst, np.arange(start, start + count), rng.normal(size=(count, width)).astype(np.float32)


def make(out: Path, events: int, nodes: int, width: int) -> None:
    """A data directory of generated events, a piece at a time."""
    with writing(out) as writer:
        for name, kind, shape in (("src", "<i4", ()), ("dst", "<i4", ()), ("time", "<i8", ())):
            writer.create(name, kind, (events, *shape))
        if width:
            writer.create("edge_features", "<f4", (events, width))
        for start in range(0, events, 1 << 20):
            src, dst, at, features = columns(start, min(1 << 20, events - start), nodes, width)
            for name, column in (("src", src), ("dst", dst), ("time", at)):
                writer.append(name, column)
            if width:
                writer.append("edge_features", features)
        writer.write_indices(nodes)
        writer.commit(
            name="b", num_nodes=nodes, time_unit="s", num_sources=None, source_split=None, source={"format": "memory"}
        )


def measured(how: str, folder: Path, events: int, nodes: int, new: int, width: int) -> None:
    """Runs in the process that is measured."""
    peak = PeakMemory()
    began = time.perf_counter()
    if how == "anew":
        make(folder / "anew", events + new, nodes, width)
    else:
        src, dst, at, features = columns(events, new, nodes, width)
        more = More(src, dst, at, nodes, features if width else None)
        append_events(open_stream(folder / "old"), events, more, folder / "appended", Split(1, events, events + new))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "resident": status("VmHWM"), "anonymous": peak.anonymous}))


def run(options: Options, folder: Path) -> None:
    shape = (options.events, options.nodes, options.new, options.edge_features)
    make(folder / "old", options.events, options.nodes, options.edge_features)
    size = sum(file.stat().st_size for file in (folder / "old").iterdir())
    print(f"{options.events:,} old events, {size / 1e9:.2f} GB; {options.new:,} new", flush=True)
    for how in ("append", "anew"):
        result = in_child(Path(__file__), how, str(folder), *map(str, shape))
        peaks = ", ".join(f"{name} {value / 1e6:,.0f} MB" for name, value in result.items() if name != "seconds")
        print(f"{how:7} {result['seconds']:.1f} s; peak memory: {peaks}", flush=True)


def main() -> None:
    options = tyro.cli(Options)
    with scratch(options.folder) as folder:
        run(options, folder)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("append", "anew"):
        measured(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main()
