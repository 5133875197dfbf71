"""What making batches costs: in the step, ahead of it in a thread, and read back from the disk.

    python benchmarks/pipeline.py --source ../shared/data --out build/pipeline

One epoch of training events on a real stream with random edge features: one compute thread for the steps and one for
working ahead, so two cores can be busy. Every way takes the same batches through the same steps, which their losses
must show. The cache is filled before the epochs that read it; the time and the bytes of that, which stand beside, are
paid once per set of negatives (DistTGL: 32 sets). Timed is the median of the rounds, after one epoch for warming up.
"""

import argparse
import dataclasses
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from real_sets import real_set

from tgscale.data.store import fingerprint, open_stream
from tgscale.nn.decoder import link_loss
from tgscale.stream.batch import Batch
from tgscale.stream.batch_cache import BatchCache
from tgscale.stream.config import PRESETS, TrainConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.pipeline import MAKE, WAIT, Pipeline, hidden_share
from tgscale.train.environment import describe_environment, set_threads
from tgscale.train.trace import Trace

CPU = torch.device("cpu")


class Training:
    """Epochs of one model on one stream, each from the same weights and an empty memory."""

    def __init__(self, config: TrainConfig, stream, cache: Path) -> None:
        self.engine = StreamEngine(config, stream, CPU)
        self.builder = self.engine.builder.clone()
        self.size = config.train.batch_size
        self.batches = range(-(-self.engine.split.train // self.size))
        model = dataclasses.asdict(config.sampling) | {"pairs": config.model.pair_encoding}
        self.cache = BatchCache(cache, {"data": fingerprint(config.data), "batch": self.size, **model}, sets=1)
        self.weights = {name: value.clone() for name, value in self.engine.model.state_dict().items()}

    def make(self, batch_index: int, set_index: int = 0) -> Batch:
        """A batch, made anew."""
        first = batch_index * self.size
        return self.builder.range(first, min(first + self.size, self.engine.split.train), 1, seed=set_index)

    def read(self, batch_index: int) -> Batch:
        """A batch from the cache."""
        batch = self.cache.get(batch_index, 0)
        assert batch is not None
        return batch

    def epoch(self, get: Callable[[int], Batch], depth: int) -> tuple[float, Trace, float]:
        """Seconds, where they went, and the mean loss."""
        engine, trace, total = self.engine, Trace(), torch.zeros(())
        engine.model.load_state_dict(self.weights)
        engine.model.train()
        engine.memory.reset()
        torch.manual_seed(0)
        (optimizer,) = engine.optimizers()
        began = time.perf_counter()
        with Pipeline(get, iter(self.batches), depth, trace) as pipeline:
            for _ in self.batches:
                batch = pipeline.next()
                with trace.span("step"):
                    loss = link_loss(engine.score(batch))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    total += loss.detach() * len(batch.event)
        return time.perf_counter() - began, trace, float(total) / engine.split.train


def measure(training: Training, rounds: int) -> list[str]:
    """Table rows, one per way."""
    for batch_index in training.batches[:20]:  # compile
        training.make(batch_index)
    training.epoch(training.make, 0)
    shutil.rmtree(training.cache.path)
    training.cache.path.mkdir()
    fill = training.cache.prepare(training.make, training.batches)
    ways = {
        "in the step": (training.make, 0),
        "ahead, depth 2": (training.make, 2),
        "from the cache, in the step": (training.read, 0),
        "from the cache, ahead, depth 2": (training.read, 2),
    }
    results: dict[str, list[tuple[float, Trace, float]]] = {name: [] for name in ways}
    for _ in range(rounds):  # in turn, so that a slow spell of the machine falls on all
        for name, (get, depth) in ways.items():
            results[name].append(training.epoch(get, depth))
    assert len({loss for way in results.values() for _, _, loss in way}) == 1, "the ways differ in what they compute"
    rows = []
    for name, way in results.items():
        seconds, trace, _ = sorted(way, key=lambda result: result[0])[len(way) // 2]
        totals = trace.totals()
        parts = " | ".join(f"{totals[span][0]:.2f}" for span in ("step", MAKE, WAIT))
        beside = f"{fill:.2f} s, {training.cache.bytes_written / 1e6:,.0f} MB" if "cache" in name else ""
        spread = statistics.stdev(s for s, _, _ in way) if len(way) > 1 else 0.0
        rows.append(f"{name} | {seconds:.2f} ± {spread:.2f} | {parts} | {hidden_share(totals):.0%} | {beside}")
    return rows


def slicing(training: Training) -> str:
    """What taking out the rows of edge features adds to the making of a batch."""
    batches = [training.make(batch_index) for batch_index in training.batches]
    began = time.perf_counter()
    rows = [len(features) for batch in batches if (features := training.builder.slice(batch).features) is not None]
    seconds = time.perf_counter() - began
    return f"Sliced features: {seconds:.2f} s per epoch on top, {statistics.mean(rows):,.0f} rows per batch."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="wikipedia")
    parser.add_argument("--features", type=int, default=172)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    set_threads(1)
    data = real_set(options.set, options.source, options.out / "data")
    stream = open_stream(data)
    features = np.random.default_rng(0).normal(size=(stream.num_events, options.features)).astype(np.float32)
    stream = dataclasses.replace(stream, edge_features=features)
    environment = describe_environment()
    print(f"{environment['cpu']}, {environment['cores']} cores, torch {environment['torch']}, {options.set}\n")
    print("| preset | batches | epoch, s | step, s | made, s | waited, s | hidden | filling the cache |")
    print("|---" * 8 + "|")
    for preset in options.presets:
        config = replace(
            PRESETS[preset](data, options.out / "run"), static__mode="none", train__batch_size=options.batch
        )
        training = Training(config, stream, options.out / "cache")
        for row in measure(training, options.rounds):
            print(f"| {preset} | {row} |", flush=True)
        added = slicing(training)
    print(f"\n{added}")


if __name__ == "__main__":
    main()
