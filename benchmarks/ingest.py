"""Import of many generated events under a memory limit: seconds, peak memory, bytes per event.

    python benchmarks/ingest.py [--events 20000000 --nodes 1000000 --edge-features 4 --memory-limit 2GB]

Rows come in random time order with ids that are not dense, so the import has everything to do: parse, number the
nodes, sort, index. The import runs in a process of its own. Two peaks are shown: all resident memory, in which mapped
files count although the system may drop their pages at any moment, and anonymous memory, which it cannot drop.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

CHUNK = 1 << 20


@dataclass
class Options:
    """What to generate and import."""

    events: int = 20_000_000
    nodes: int = 1_000_000
    edge_features: int = 4
    memory_limit: str = "2GB"
    formats: tuple[str, ...] = ("parquet", "csv")
    seed: int = 0
    folder: Path | None = None
    """Where to work; a temporary folder unless given. Needs about 6 GB for the defaults."""


def generate(options: Options, file: Path) -> None:
    """Write events as Parquet, a chunk at a time."""
    rng = np.random.default_rng(options.seed)
    writer = None
    for start in range(0, options.events, CHUNK):
        rows = min(CHUNK, options.events - start)
        table = {
            "src": rng.integers(0, options.nodes, rows) * 3 + 7,
            "dst": rng.integers(0, options.nodes, rows) * 3 + 7,
            "time": rng.integers(0, 10**8, rows),
        }
        table |= {f"f{i}": rng.normal(size=rows).astype(np.float32) for i in range(options.edge_features)}
        batch = pa.table(table)
        writer = writer or pq.ParquetWriter(file, batch.schema)
        writer.write_table(batch)
    assert writer is not None
    writer.close()


def to_csv(parquet: Path, csv: Path) -> None:
    """Write the same rows as text."""
    with duckdb.connect() as db:
        db.execute("SET memory_limit = '1GB'")
        db.execute(f"COPY (FROM '{parquet}') TO '{csv}' (FORMAT csv, HEADER)")


def import_and_measure(source: str, out: str, memory_limit: str) -> None:
    """Runs in the process that is measured; prints one line of JSON."""
    from tgscale.data.ingest import import_events

    steps: list[tuple[str, float]] = []
    peak = {"RssAnon": 0}
    threading.Thread(target=watch, args=(peak,), daemon=True).start()
    report = import_events(
        source,
        out,
        edge_features="f*",
        memory_limit=memory_limit,
        progress=lambda step: steps.append((step, time.perf_counter())),
    )
    steps.append(("end", time.perf_counter()))
    parts = {name: round(after - at, 1) for (name, at), (_, after) in itertools.pairwise(steps)}
    result = {
        "events": report.events,
        "nodes": report.nodes,
        "seconds": report.seconds,
        "bytes": report.bytes,
        "parts": parts,
        "peak": status("VmHWM"),
        "peak_anonymous": peak["RssAnon"],
    }
    print(json.dumps(result))


def status(name: str) -> int:
    """One line of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def watch(peak: dict[str, int]) -> None:
    """Keep the highest anonymous memory, for which the system keeps no peak of its own."""
    while True:
        peak["RssAnon"] = max(peak["RssAnon"], status("RssAnon"))
        time.sleep(0.02)


def run(options: Options, folder: Path) -> None:
    sources = {"parquet": folder / "events.parquet", "csv": folder / "events.csv"}
    print(f"generating {options.events:,} events in {folder}", flush=True)
    generate(options, sources["parquet"])
    if "csv" in options.formats:
        to_csv(sources["parquet"], sources["csv"])
    for format in options.formats:
        out = folder / f"store-{format}"
        command = [sys.executable, __file__, "--child", str(sources[format]), str(out), options.memory_limit]
        # The last line is the result; interpreters may print others.
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        result = json.loads(printed.splitlines()[-1])
        size = sources[format].stat().st_size
        print(
            f"{format:8} source {size / 1e9:.2f} GB | {result['seconds']:.1f} s, "
            f"{result['events'] / result['seconds']:,.0f} events/s | peak resident {result['peak'] / 1e9:.2f} GB, "
            f"of it anonymous {result['peak_anonymous'] / 1e9:.2f} GB | "
            f"store {result['bytes'] / result['events']:.1f} bytes/event | {result['parts']}",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        import_and_measure(*sys.argv[2:])
        return
    options = tyro.cli(Options)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        run(options, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))


if __name__ == "__main__":
    main()
