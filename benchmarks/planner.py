"""Planning for many generated events: seconds, by part, and peak memory. Or: what the memory misses of real streams.

    python benchmarks/planner.py [--events 20000000 --nodes 1000000 --edge-features 4]
    python benchmarks/planner.py --source ../shared/data [--out build/results]

The plan is made in a process of its own, by what `tgscale plan` calls: open, measure the device (on a slice), count
what the memory captures, choose, draw. Two peaks are shown: all resident memory, in which mapped files count although
the system may drop their pages at any moment, and anonymous memory, which it cannot drop.
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
from real_sets import real_set
from scratch import scratch

REAL = ("collegemsg", "wikipedia", "email_eu", "mathoverflow")
SIZES = tuple(25 * 2**n for n in range(10))


@dataclass
class Options:
    """What to generate and plan for."""

    events: int = 20_000_000
    nodes: int = 1_000_000
    edge_features: int = 4
    machines: int = 4
    gpus_per_machine: int = 8
    memory_per_machine: str = "256GB"
    seed: int = 0
    folder: Path | None = None
    """Where to work; a temporary folder unless given. Needs about 1.5 GB for the defaults."""
    source: Path | None = None
    """Folder of the real streams: show what the memory misses of each instead."""
    out: Path = Path("build/results")
    """Where their data directories are."""


def generate(options: Options, path: Path) -> None:
    """Write generated events as a data directory, a chunk at a time."""
    from tgscale.data.generate import generate_chunks
    from tgscale.data.store import writing

    E, F = options.events, options.edge_features
    with writing(path) as writer:
        for name, dtype, shape in (
            ("src", np.int32, (E,)),
            ("dst", np.int32, (E,)),
            ("time", np.int64, (E,)),
            ("edge_features", np.float32, (E, F)),
        ):
            writer.create(name, dtype, shape)
        for chunk in generate_chunks(E, options.nodes, F, options.seed):
            for name in ("src", "dst", "time", "edge_features"):
                writer.append(name, getattr(chunk, name))
        writer.write_indices(options.nodes)
        writer.commit(
            name="generated",
            num_nodes=options.nodes,
            time_unit="s",
            num_sources=options.nodes - options.nodes // 5,
            source_split=None,
            source={"format": "generated"},
        )


def plan_and_measure(data: Path, machines: int, gpus_per_machine: int, memory: str) -> None:
    """Runs in the process that is measured; prints one line of JSON."""
    peak = PeakMemory()
    began = time.perf_counter()
    parts: dict[str, float] = {}

    def done(part: str) -> None:
        parts[part] = round(time.perf_counter() - began - sum(parts.values()), 2)

    import torch

    from tgscale.data.store import open_stream
    from tgscale.report.plan_figure import draw_plan
    from tgscale.stream.config import default_config
    from tgscale.stream.planner import Request, parse_memory, plan
    from tgscale.stream.throughput import measure
    from tgscale.train.environment import set_threads

    done("import")
    set_threads(1)
    stream, config = open_stream(data), default_config(data, data / "run")
    done("open")
    profile = measure(config, stream, torch.device("cpu"))
    done("measure the device")
    request = Request(machines, gpus_per_machine, memory_bytes=parse_memory(memory))
    planned = plan(stream, config, request, profile)
    done("count and choose")
    draw_plan(planned, data.parent / "plan.svg", data.parent / "plan.png")
    done("draw")
    result = {
        "layout": str(planned.choice.layout),
        "batch_size": planned.choice.batch_size,
        "sizes": len(planned.captured.batch_sizes),
        "seconds": round(time.perf_counter() - began, 1),
        "parts": parts,
        "peak": status("VmHWM"),
        "peak_anonymous": peak.anonymous,
    }
    print(json.dumps(result))


def run(options: Options, folder: Path) -> None:
    data = folder / "data"
    if not data.exists():
        print(f"generating {options.events:,} events in {folder}", flush=True)
        generate(options, data)
    arguments = [data, options.machines, options.gpus_per_machine, options.memory_per_machine]
    result = in_child(Path(__file__), "--child", *map(str, arguments))
    print(
        f"{options.events:,} events, {options.nodes:,} nodes | {result['seconds']} s | peak resident "
        f"{result['peak'] / 1e9:.2f} GB, of it anonymous {result['peak_anonymous'] / 1e9:.2f} GB | "
        f"{result['sizes']} batch sizes | layout {result['layout']}, batch {result['batch_size']} | {result['parts']}"
    )


def print_real(source: Path, out: Path) -> None:
    """What the memory misses of the training events of each real stream: all nodes / the busiest 1 %."""
    from tgscale.data.store import open_stream
    from tgscale.stream.captured import captured_curve

    streams = [open_stream(real_set(name, source, out / "data")) for name in REAL]
    curves = [captured_curve(stream, stream.split().train, SIZES) for stream in streams]
    print("| events per batch |", " | ".join(REAL), "|")
    print("|---:|" + "---:|" * len(REAL))
    for at, size in enumerate(SIZES):
        cells = [f"{100 * curve.missing[at]:.0f} / {100 * curve.missing_busy[at]:.0f} %" for curve in curves]
        print(f"| {size:,} |", " | ".join(cells), "|")
    print("| busiest 1 % |", " | ".join(f"{curve.busy_nodes} nodes" for curve in curves), "|")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        data, machines, gpus, memory = sys.argv[2:]
        plan_and_measure(Path(data), int(machines), int(gpus), memory)
        return
    options = tyro.cli(Options)
    if options.source is not None:
        print_real(options.source, options.out)
        return
    with scratch(options.folder) as folder:
        run(options, folder)


if __name__ == "__main__":
    main()
