"""Export of many generated events in every format: seconds, peak memory, size; and that an import gives them back.

    python benchmarks/export.py [--events 10000000 --nodes 500000 --edge-features 4] [--no-check]

Each export runs in a process of its own. Sources and destinations are different nodes, so that every format can hold
the stream. ``measured_import.py`` says what is measured.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from measured_import import PeakMemory, in_child, status
from scratch import scratch

from tgscale.data.export import WRITERS, export_events
from tgscale.data.ingest import import_events
from tgscale.data.store import open_stream, writing

CHUNK = 1 << 20


@dataclass
class Options:
    """What to generate and export."""

    events: int = 10_000_000
    nodes: int = 500_000
    edge_features: int = 4
    formats: tuple[str, ...] = tuple(WRITERS)
    check: bool = True
    """Import each export and compare all that the format carries."""
    folder: Path | None = None
    """Where to work; a temporary folder unless given. Needs about 5 GB for the defaults."""


def make(out: Path, options: Options) -> None:
    """A data directory of uniform events, one a second, with labels and features, a piece at a time."""
    rng = np.random.default_rng(0)
    half = options.nodes // 2
    with writing(out) as writer:
        for name, kind in (("src", "<i4"), ("dst", "<i4"), ("time", "<i8"), ("label", "<i8")):
            writer.create(name, kind, (options.events,))
        writer.create("edge_features", "<f4", (options.events, options.edge_features))
        for start in range(0, options.events, CHUNK):
            count = min(CHUNK, options.events - start)
            writer.append("src", rng.integers(0, half, count))
            writer.append("dst", rng.integers(half, options.nodes, count))
            writer.append("time", np.arange(start, start + count))
            writer.append("label", rng.integers(0, 2, count))
            writer.append("edge_features", rng.normal(size=(count, options.edge_features)))
        writer.write_indices(options.nodes)
        writer.commit(
            name="b", num_nodes=options.nodes, time_unit="s", num_sources=half, source_split=None,
            source={"format": "memory"},
        )  # fmt: skip


def measure(store: str, out: str, format: str) -> dict:
    """Runs in the process that is measured."""
    import torch  # noqa: F401  (some formats load it; what it takes is not the export's)

    before = status("RssAnon")
    peak = PeakMemory()
    report = export_events(store, out, format=format)
    return {
        "seconds": report.seconds,
        "bytes": report.bytes,
        "reading": report.reading,
        "anonymous": peak.anonymous - before,
        "resident": status("VmHWM"),
    }


def same(a: Path, b: Path, carries: frozenset[str]) -> bool:
    """Do both hold the same events, with all that the format carries?"""
    one, other = open_stream(a), open_stream(b)
    names = ["src", "dst", "time", *(name for name in ("label", "edge_features") if name in carries)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def run(options: Options, folder: Path) -> None:
    store = folder / "store"
    make(store, options)
    print("| format | seconds | events/s | bytes per event | anonymous memory above the start | comes back |")
    print("|---|---|---|---|---|---|", flush=True)
    for format in options.formats:
        out = folder / f"out-{format}"
        result = in_child(Path(__file__), "measure", str(store), str(out), format)
        back = ""
        if options.check:
            import_events(out, folder / "back", overwrite=True, **result["reading"])
            back = "yes" if same(store, folder / "back", WRITERS[format].carries) else "NO"
        print(
            f"| `{format}` | {result['seconds']:.1f} | {options.events / result['seconds']:,.0f} | "
            f"{result['bytes'] / options.events:.1f} | {result['anonymous'] / 1e6:,.0f} MB | {back} |",
            flush=True,
        )
        for file in folder.glob(f"out-{format}*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(*sys.argv[2:])))
        return
    options = tyro.cli(Options)
    with scratch(options.folder) as folder:
        run(options, folder)


if __name__ == "__main__":
    main()
