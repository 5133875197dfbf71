"""What two workers on one device bring: time of a step by each executor, over sizes of snapshots. A Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/overlap.py [--device cuda] [--timeline build/overlap.json] [--quick]

Every worker has one thread. The executors take turns, round by round, on the same groups; a number is the best round's
time of one worker over that of two. ``as written`` is the program as the paper has it, gate by gate and step by step;
``planned`` is with all rewrites; ``planned, no cache`` aggregates the data anew each time, so that there is a graph
phase to overlap. On a GPU two threads have a CUDA stream each, and a further column has one worker whose groups are
captured as CUDA graphs; "-": an executor that refuses the plan.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import torch

from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.errors import ConfigError
from tgscale.snapshot.config import PlanConfig, SnapshotConfig, SnapshotOptimConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.calibrate import EXECUTORS
from tgscale.train.environment import describe_environment, find_device, keep_freed_memory, set_threads
from tgscale.train.timeline import write_timeline
from tgscale.train.trace import Trace

SIZES = [(200, 1_000), (2_000, 20_000), (20_000, 200_000)]
PLANS = {
    "as written": PlanConfig(**{name: False for name in vars(PlanConfig())}),
    "planned, no cache": PlanConfig(cache=False),
    "planned": PlanConfig(),
}
GROUPS, ROUNDS = 8, 3


def executor_names(device: torch.device) -> list[str]:
    """What is compared; capturing brings something on a GPU alone."""
    return ["serial", "streams", "processes", *(["graph"] if device.type == "cuda" else [])]


def measure(engine: SnapshotEngine, trace: Trace) -> dict[str, float]:
    """Best seconds of a step by each executor."""
    gradient = torch.zeros(sum(p.numel() for p in engine.modules.parameters()), device=engine.device)
    groups = list(range(GROUPS))
    executors = {}
    for name in executor_names(engine.device):
        with contextlib.suppress(ConfigError):
            executors[name] = EXECUTORS[name](engine, trace if name == "streams" else Trace())
    best = dict.fromkeys(executors, float("inf"))
    try:
        for done in range(ROUNDS + 1):
            for name, executor in executors.items():
                began = time.perf_counter()
                executor.run(groups, 0, 1.0, gradient)
                if engine.device.type == "cuda":
                    torch.cuda.synchronize(engine.device)
                if done:  # the first round warms up
                    best[name] = min(best[name], time.perf_counter() - began)
    finally:
        for executor in executors.values():
            executor.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tgcn", "lrgcn"])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--timeline", type=Path)
    parser.add_argument("--quick", action="store_true", help="without the largest size")
    options = parser.parse_args()
    set_threads(1)
    keep_freed_memory()
    environment = describe_environment()
    device = find_device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else environment["cpu"]
    print(f"{where}, {environment['cores']} cores, torch {environment['torch']}\n")
    others = executor_names(device)[1:]
    titles = {"streams": "two threads", "processes": "two processes", "graph": "captured"}
    print(
        "| model | nodes | edges | plan | one worker, s a step | " + " | ".join(titles[name] for name in others) + " |"
    )
    print("|---|---:|---:|---|---:|" + "---:|" * len(others))
    with tempfile.TemporaryDirectory() as folder:
        for nodes, edges in SIZES[: -1 if options.quick else None]:
            data = Path(folder) / str(nodes)
            save_snapshots(generate_snapshots(nodes, 24, edges, change=5, skew=0.5, features=8), data)
            for model in options.models:
                for plan_name, plan in PLANS.items():
                    train = SnapshotOptimConfig(epochs=1)
                    config = SnapshotConfig(data, Path("run"), model=model, plan=plan, train=train, quiet=True)
                    trace = Trace(record=True)
                    best = measure(SnapshotEngine(config, open_snapshots(data), device), trace)
                    ratios = " | ".join(
                        f"{best['serial'] / best[name]:.2f}x" if name in best else "-" for name in others
                    )
                    print(
                        f"| {model} | {nodes:,} | {edges:,} | {plan_name} | {best['serial']:.4f} | {ratios} |",
                        flush=True,
                    )
                    if options.timeline and (model, plan_name) == ("lrgcn", "planned, no cache"):
                        write_timeline(options.timeline, [("device", trace.events())])


if __name__ == "__main__":
    main()
