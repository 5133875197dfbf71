"""Speed of the stream engine: training and evaluation events/s on a real stream with random edge features.

    python benchmarks/tgn_speed.py --source ../shared/data --out build/results [--what evaluation] [--write]

Training: one whole epoch after one for warming up, the paper's model (no pair encoding, no static memory), dimension
100, 10 neighbors, one negative per event; sampling, batches, forward, backward, optimiser and write-back all inside.
Evaluation: validation and test parts, 49 negatives, without edge features, the default model.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from real_sets import real_set
from tables import DOCS, markdown, publish

from tgscale.data.store import open_stream
from tgscale.stream.config import default_config, disttgl_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.train.environment import describe_environment, find_device, keep_freed_memory, set_threads

GOAL = {2: 8}  # threads -> seconds of evaluation


def training(stream, device: torch.device, batch_size: int, rounds: int) -> list[float]:
    """Events per second of each round."""
    config = disttgl_config(Path(), Path())
    config = replace(config, static__mode="none", train__batch_size=batch_size, train__epochs=1 + rounds)
    engine = StreamEngine(config, stream, device)
    loop, rates = TrainingLoop.in_process(engine), []
    for epoch in range(1 + rounds):
        began = time.perf_counter()
        loop.run((epoch + 1) * loop.schedule.num_batches)
        loop.mean_loss()  # waits for the device
        rates.append(engine.split.train / (time.perf_counter() - began))
    return rates[1:]


def evaluation(stream, device: torch.device, rounds: int) -> list[float]:
    """Seconds of each round."""
    engine = StreamEngine(replace(default_config(Path(), Path()), train__epochs=1), stream, device)
    loop = TrainingLoop.in_process(engine)
    loop.run(loop.schedule.iterations)
    state = loop.memory_of(0)
    seconds = []
    for _ in range(rounds):
        engine.memory.load_state_dict(state)
        began = time.perf_counter()
        engine.evaluate("val")
        engine.evaluate("test")
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="wikipedia")
    parser.add_argument("--features", type=int, default=172)
    parser.add_argument("--batches", nargs="+", type=int, default=[200, 600])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--what", nargs="+", default=["training", "evaluation"], choices=["training", "evaluation"])
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    environment, device = describe_environment(), find_device(options.device)
    said = f"{environment['cpu']}, {environment['cores']} cores, torch {environment['torch']}, {device}"
    head = ["what", "threads", "batch", "median", "rounds", "goal"]
    publish(DOCS / "benchmarks.md", "speed", f"{markdown(head, rows(options, device))}\n\n{said}.", options.write)


def rows(options: argparse.Namespace, device: torch.device) -> Iterator[list[object]]:
    """One measurement after another."""
    stream = open_stream(real_set(options.set, options.source, options.out / "data"))
    features = np.random.default_rng(0).normal(size=(stream.num_events, options.features)).astype(np.float32)
    for threads in options.threads:
        set_threads(threads)
        keep_freed_memory()
        for batch in options.batches if "training" in options.what else []:
            rates = training(dataclasses.replace(stream, edge_features=features), device, batch, options.rounds)
            each = ", ".join(f"{rate:,.0f}" for rate in rates)
            yield ["training, events/s", threads, batch, f"{statistics.median(rates):,.0f}", each, ""]
        if "evaluation" in options.what:
            seconds = evaluation(stream, device, options.rounds)
            each = ", ".join(f"{s:.1f}" for s in seconds)
            yield ["val + test, s", threads, 400, f"{statistics.median(seconds):.1f}", each, GOAL.get(threads, "")]


if __name__ == "__main__":
    main()
