"""What more trainers bring and cost: events/s of layouts with real processes, against one trainer, one thread each.

    OMP_NUM_THREADS=1 python benchmarks/scale_out.py --source ../shared/data --out build/scale-out

All layouts take turns, several rounds. Training alone is timed, sampling to write-back and all-reduce. Waiting is what
the all-reduce takes longer than the same exchange takes alone, measured on idle processes beforehand.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from subprocess import run

import numpy as np
import torch
import torch.distributed as dist
from real_sets import real_set

import tgscale
from tgscale.train.environment import describe_environment

TGSCALE = [sys.executable, "-m", "tgscale"]
LAYOUTS = ["1x1x1", "1x1x2", "1x2x1", "2x1x1"]


def with_features(data: Path, width: int, out: Path) -> Path:
    """The data with random edge features."""
    path = out / "data" / f"{data.name}-{width}"
    if width and not path.exists():
        stream = tgscale.open_stream(data)
        features = np.random.default_rng(0).normal(size=(stream.num_events, width)).astype(np.float32)
        columns = {"num_nodes": stream.num_nodes, "num_sources": stream.num_sources, "name": path.name}
        made = tgscale.EventStream.from_arrays(stream.src, stream.dst, stream.time, edge_features=features, **columns)
        tgscale.save_stream(made, path)
    return path if width else data


def one_run(data: Path, layout: str, backend: str, options: argparse.Namespace) -> dict:
    """Train in as many processes as the layout has; the result's ``train``."""
    path = options.out / "run"
    shutil.rmtree(path, ignore_errors=True)
    workers = int(np.prod([int(axis) for axis in layout.split("x")]))
    words = ["train", "--data", data, "--run", path, "--quiet", "--preset", "disttgl", "--static.mode", "none"]
    words += ["--layout", layout, "--memory-backend", backend, "--train.epochs", str(options.epochs)]
    words += ["--train.batch-size", str(options.batch), "--device", "cpu", "--threads", "1"]
    words += ["--eval.val", "0.001", "--eval.test", "0.001"]  # nothing of it is timed
    words += ["--pipeline.depth", str(options.depth)]
    if workers > 1:
        words += ["--workers", str(workers)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    run([*TGSCALE, *map(str, words)], check=True, env=env, stdout=sys.stderr)
    return json.loads((path / "result.json").read_text())["train"]


def all_reduce_alone(parameters: int, workers: int, out: Path) -> float:
    """Seconds that the gradients' all-reduce takes among processes that do nothing else."""
    script = [sys.executable, __file__, "--all-reduce", str(parameters)]
    options = ["--standalone", f"--nproc-per-node={workers}"]
    done = run([sys.executable, "-m", "torch.distributed.run", *options, *script[1:]], check=True, capture_output=True)
    return float(done.stdout.split()[0])


def time_all_reduce(parameters: int) -> None:
    """In each process: the median of many."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    tensor, seconds = torch.randn(parameters), []
    for _ in range(200):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(tensor)
        seconds.append(time.perf_counter() - began)
        tensor.zero_()
    if dist.get_rank() == 0:
        print(statistics.median(seconds))
    dist.destroy_process_group()


def describe(train: dict, alone: float, width: int) -> str:
    """Shares of an iteration, mean over the processes; and bytes per iteration of one trainer."""
    shares = {}
    for process in train["processes"]:
        for name, seconds in process["time"].items():
            shares[name] = shares.get(name, 0.0) + seconds / process["seconds"] / len(train["processes"])
    iteration = train["seconds"] / train["iterations"]
    exchange = min(alone / iteration, shares["all-reduce"]) if alone else 0.0
    memory = sum(shares.get(name, 0.0) for name in ("ask for memory", "read memory", "write memory"))
    process = train["processes"][0]
    row = 3 * width * 4 + 16
    kilobytes = [process[what] * row / process["iterations"] / 1e3 for what in ("rows_read", "rows_written")]
    return (
        f"{exchange:.1%} | {max(shares['all-reduce'] - exchange, 0):.1%} | {memory:.1%} | {1e3 * iteration:.1f} | "
        f"{kilobytes[0]:,.0f} + {kilobytes[1]:,.0f} | {4 * train['parameters'] / 1e3:,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of the real sets")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", default="wikipedia")
    parser.add_argument("--features", type=int, default=172)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=0, help="batches made ahead")
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS)
    parser.add_argument("--backends", nargs="+", default=["auto"])
    parser.add_argument("--all-reduce", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.all_reduce:
        return time_all_reduce(options.all_reduce)
    data = with_features(real_set(options.set, options.source, options.out / "data"), options.features, options.out)
    environment = describe_environment()
    print(f"{environment['cpu']}, {environment['cores']} cores, torch {environment['torch']}, batch {options.batch}\n")
    variants = [
        (layout, backend)
        for layout in options.layouts
        for backend in (options.backends if int(layout[0]) * int(layout[2]) > 1 else ["auto"])
    ]
    runs: dict[tuple[str, str], list[dict]] = {variant: [] for variant in variants}
    for _ in range(options.rounds):
        for layout, backend in variants:
            runs[layout, backend].append(one_run(data, layout, backend, options))
    print(
        "| layout | memory | events/s, median | rounds | ratio | all-reduce | waiting | memory | ms per iteration | "
        "kB read + written | kB of gradients |\n" + "|---" * 11 + "|"
    )
    first = None
    for (layout, _), trains in runs.items():
        rates = [train["events_per_second"] for train in trains]
        median = statistics.median(rates)
        first = first or median
        train = min(trains, key=lambda t: abs(t["events_per_second"] - median))
        alone = all_reduce_alone(train["parameters"], train["ranks"], options.out) if train["ranks"] > 1 else 0.0
        rounds = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(
            f"| {layout} | {train['memory_backend']} | {median:,.0f} | {rounds} | {median / first:.2f} | "
            f"{describe(train, alone, 100)} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
