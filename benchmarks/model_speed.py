"""Speed of every model on a real stream with random edge features, on one thread: training and evaluation, events/s.

    python benchmarks/model_speed.py --source ../shared/data --out build/results [--models jodie apan] [--write]

Training: a part of an epoch after as much for warming up, no pair encoding, no static memory, dimension 100, the number
of neighbors and the sampling of the model's defaults, one negative per event; sampling, forward, backward, optimiser
and write-back all inside. Evaluation: the first events of the validation part against 49 negatives. Models take turns.
Seconds are those that the thread ran, so that a busy machine does not look like a slow one.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from real_sets import real_set
from tables import DOCS, markdown, publish

from tgscale.data.store import open_stream
from tgscale.models.stream_models import STREAM_MODELS, state_shape
from tgscale.stream.config import default_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.train.environment import describe_environment, keep_freed_memory, set_threads

BATCH = 600


class Case:
    """A model in the middle of its training."""

    def __init__(self, name: str, stream) -> None:
        config = default_config(Path(), Path(), name)
        config = replace(config, model__pair_encoding=False, train__batch_size=BATCH, train__epochs=100)
        self.engine = StreamEngine(config, stream, torch.device("cpu"))
        self.loop = TrainingLoop.in_process(self.engine)
        self.training: list[float] = []
        self.evaluation: list[float] = []

    def train(self, batches: int) -> None:
        began = time.process_time()
        self.loop.run(self.loop.iteration + batches)
        self.training.append(batches * BATCH / (time.process_time() - began))

    @torch.no_grad()
    def evaluate(self, batches: int) -> None:
        """Score and take in, as validation does, from the memory that training has made so far."""
        engine, first = self.engine, self.engine.split.train
        engine.model.eval()
        engine.memory.load_state_dict(self.loop.memory_of(0))
        began = time.process_time()
        for start in range(first, first + batches * BATCH, BATCH):
            batch = engine.builder.range(start, start + BATCH, 49, seed=0, with_past=False)
            engine.logits(engine.memory.read(batch.block.nodes), batch)
            engine.advance(start, start + BATCH)
        self.evaluation.append(batches * BATCH / (time.process_time() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(STREAM_MODELS), choices=list(STREAM_MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=30, help="training batches per round; a tenth in evaluation")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    options = parser.parse_args()
    set_threads(1)
    keep_freed_memory()
    stream = open_stream(real_set("wikipedia", options.source, options.out / "data"))
    features = np.random.default_rng(0).normal(size=(stream.num_events, 172)).astype(np.float32)
    stream = dataclasses.replace(stream, edge_features=features)
    cases = {name: Case(name, stream) for name in options.models}
    for at in range(1 + options.rounds):
        for case in cases.values():
            case.train(options.batches)
            case.evaluate(max(1, options.batches // 10))
        print(f"round {at} of {options.rounds} done", flush=True)
    rows = []
    for name, case in cases.items():
        config = case.engine.config
        shape = state_shape(config.model, config.sampling.neighbors)
        rates = [f"{statistics.median(rates[1:]):,.0f}" for rates in (case.training, case.evaluation)]
        sampled = f"{config.sampling.neighbors} {config.sampling.strategy}"
        rows.append([f"`{name}`", sampled, *rates, f"{shape.bytes():,}" if shape else "0"])
    environment = describe_environment()
    said = f"{environment['cpu']}, one thread, torch {environment['torch']}; events per second that the "
    said += f"thread ran; median of {options.rounds} rounds."
    head = ["model", "neighbors", "training, events/s", "evaluation, events/s", "state per node, bytes"]
    publish(DOCS / "models.md", "model speed", f"{markdown(head, rows)}\n\n{said}", options.write)


if __name__ == "__main__":
    main()
