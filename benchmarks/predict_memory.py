"""Main memory of ``tgscale predict --top-k 10`` over all destinations, by the number of new events.

python benchmarks/predict_memory.py                        # 1,000, 4,000 and 16,000 events, a process each
python benchmarks/predict_memory.py --keep-freed           # the same without giving freed pages back
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.data.stream import EventStream
from tgscale.stream.config import default_config, replace
from tgscale.stream.predict import predict
from tgscale.stream.trainer import train_stream
from tgscale.train.environment import FreedMemory

OLD = 6000
COLUMNS = ("src", "dst", "time")


def part(stream: EventStream, first: int, last: int) -> EventStream:
    """Events ``[first, last)`` without features and labels."""
    columns = {name: getattr(stream, name)[first:last] for name in COLUMNS}
    return dataclasses.replace(stream, **columns, edge_features=None, label=None, num_sources=None)


def measure(folder: Path, events: int, keep_freed: bool) -> dict[str, float]:
    """Predict in a process of its own."""
    command = [sys.executable, __file__, "--worker", str(folder), "--events", str(events)]
    done = subprocess.run(command + ["--keep-freed"] * keep_freed, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def work(folder: Path, events: int, keep_freed: bool) -> None:
    """The process of one prediction."""
    if keep_freed:
        FreedMemory.check = lambda self: None  # type: ignore[method-assign]
    run, new = folder / "run", folder / f"{events}.parquet"
    print(json.dumps(predict(run, new, folder / f"top-{events}.parquet", top_k=10, overwrite=True, quiet=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--keep-freed", action="store_true", help="give no freed pages back")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.events[0], options.keep_freed)
        return
    stream = generate_stream(events=OLD + max(options.events), nodes=3000, seed=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_stream(part(stream, 0, OLD), folder / "data")
        config = default_config(folder / "data", folder / "run")
        train_stream(replace(config, train__epochs=1, device="cpu", threads=1, quiet=True))
        for events in options.events:
            new = part(stream, OLD, OLD + events)
            pq.write_table(pa.table({column: getattr(new, column) for column in COLUMNS}), folder / f"{events}.parquet")
            done = measure(folder, events, options.keep_freed)
            print(
                f"{events:>7,} events  {done['peak_memory_bytes'] / 2**20:6.0f} MiB  {done['seconds']:6.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
