"""This program's side of ``stream_peers.py``: the training loop that ``tgscale train`` runs, and its evaluation."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import torch
from stream_peers_case import DIM, DROPOUT, HEADS, NEIGHBORS, RATE, Case
from worker import serve

import tgscale
from tgscale.data.stream import EventStream, Split
from tgscale.stream.config import TrainConfig, disttgl_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.train.environment import keep_freed_memory, set_threads


def configure(case: Case, options: dict[str, Any]) -> TrainConfig:
    """The paper's model with no static memory, trained as the others are; ``options`` alter single fields."""
    same: dict[str, Any] = {
        "static__mode": "none",
        "model__dim": DIM,
        "model__heads": HEADS,
        "model__dropout": DROPOUT,
        "sampling__neighbors": NEIGHBORS,
        "train__lr": RATE,
        "train__schedule": "constant",
        "train__negatives": 1,
        "train__batch_size": case.batch_size,
        "train__epochs": case.rounds,
        "eval__protocol": "ap",
    }
    return replace(disttgl_config(Path(), Path()), **same, **options)


class Run:
    """The engine and its loop, an epoch of which is a round."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.case = case = Case.load(path)
        columns = {"num_nodes": case.num_nodes, "edge_features": case.features}
        stream = EventStream.from_arrays(case.src, case.dst, case.time, **columns)
        split = Split(case.train, stream.num_events - 1, stream.num_events)  # an engine wants something to test on
        stream = dataclasses.replace(stream, source_split=split)
        self.engine = StreamEngine(configure(case, options), stream, torch.device("cpu"))
        self.engine.warm_up()
        self.loop = TrainingLoop.in_process(self.engine)

    def round(self) -> dict[str, float]:
        first, size = self.loop.iteration, self.case.batch_size
        self.loop.run(first + self.case.warm_up // size)
        self.loop.mean_loss()
        began = time.perf_counter()
        self.loop.run(first + self.case.train // size)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "events": self.case.train - self.case.warm_up, "loss": self.loop.mean_loss()}

    def scores(self) -> dict[str, float | None]:
        state = self.loop.memory_of(0)
        assert state is not None
        self.engine.memory.load_state_dict(state)
        return {"ap": self.engine.evaluate("val").summary()["ap"]}


def main() -> None:
    set_threads(int(sys.argv[1]))
    keep_freed_memory()  # as `tgscale train` does
    runs: list[Run] = []

    def start(case: str, **options: Any) -> dict[str, str]:
        runs[:] = [Run(case, options)]
        return {"version": f"tgscale {tgscale.__version__}, torch {torch.__version__}"}

    serve({"start": start, "round": lambda: runs[0].round(), "score": lambda: runs[0].scores()})


if __name__ == "__main__":
    main()
