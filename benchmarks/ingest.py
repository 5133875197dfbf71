"""Import of many generated events under a memory limit: seconds, peak memory, bytes per event.

    python benchmarks/ingest.py [--events 20000000 --nodes 1000000 --edge-features 4 --memory-limit 2GB]

Rows come in random time order with ids that are not dense, so the import has everything to do: parse, number the
nodes, sort, index. ``measured_import.py`` says what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from measured_import import describe, run_import
from scratch import scratch

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


def run(options: Options, folder: Path) -> None:
    sources = {"parquet": folder / "events.parquet", "csv": folder / "events.csv"}
    print(f"generating {options.events:,} events in {folder}", flush=True)
    generate(options, sources["parquet"])
    if "csv" in options.formats:
        to_csv(sources["parquet"], sources["csv"])
    for format in options.formats:
        out = folder / f"store-{format}"
        result = run_import(sources[format], out, options.memory_limit)
        print(f"{format:8} {describe(result, sources[format].stat().st_size)}", flush=True)


def main() -> None:
    options = tyro.cli(Options)
    with scratch(options.folder) as folder:
        run(options, folder)


if __name__ == "__main__":
    main()
