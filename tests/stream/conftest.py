from pathlib import Path

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream
from tgscale.graph.parallel import start_threads
from tgscale.memory.local import LocalMemory, NoMemory
from tgscale.stream.config import PRESETS, TrainConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop


def random_stream(events=300, nodes=30, edge_dim=3, seed=0, times=None) -> EventStream:
    """A bipartite stream with ties, in which users often come back to the item they saw last."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, nodes // 2, events), np.zeros(events, np.int64)
    last: dict[int, int] = {}
    for e, u in enumerate(src):
        again = u in last and rng.random() < 0.7
        dst[e] = last[u] if again else rng.integers(nodes // 2, nodes)
        last[u] = dst[e]
    time = np.sort(rng.integers(0, times or events, events))
    features = rng.normal(size=(events, edge_dim)).astype(np.float32) if edge_dim else None
    return EventStream.from_arrays(src, dst, time, num_nodes=nodes, edge_features=features, num_sources=nodes // 2)


def small_config(preset="default", **changes) -> TrainConfig:
    small = {
        "model__dim": 8,
        "sampling__neighbors": 4,
        "train__batch_size": 20,
        "train__epochs": 2,
        "train__lr": 5e-3,
        "static__epochs": 2,
        "quiet": True,
        "device": "cpu",
        "threads": 1,
    }
    return replace(PRESETS[preset](Path("data"), Path("run")), **{**small, **changes})


@pytest.fixture
def make_stream():
    return random_stream


@pytest.fixture
def make_config():
    return small_config


def double_memory(engine) -> LocalMemory:
    """An empty memory like the engine's, in float64."""
    if isinstance(engine.memory, NoMemory):
        return NoMemory(dtype=torch.float64)
    return LocalMemory(engine.stream.num_nodes, engine.memory.shape, dtype=torch.float64)


def build_engine(stream=None, preset="default", double=False, **changes) -> StreamEngine:
    """An engine of a few rows, in float32 or float64."""
    engine = StreamEngine(small_config(preset, **changes), stream or random_stream(), torch.device("cpu"))
    if double:
        engine.model.double()
        engine.memory = double_memory(engine)
        engine.builder.edge_features = engine.builder.edge_features.double()
    return engine


@pytest.fixture
def make_engine():
    return build_engine


def train_alone(engine: StreamEngine) -> list[float]:
    """Run an engine's whole schedule in this process; the mean loss of each sweep. The memory is left in the engine."""
    loop, losses = TrainingLoop.in_process(engine), []
    for t in range(loop.schedule.iterations):
        if loop.schedule.ends_sweep(t):
            loop.run(t + 1)
            losses.append(loop.mean_loss())
    engine.memory.load_state_dict(loop.memory_of(0))
    return losses


@pytest.fixture
def train():
    return train_alone


@pytest.fixture
def one_thread():
    """One thread outside, as in a run with one: on AMD the number of threads chooses the BLAS, which rounds."""
    before = torch.get_num_threads()
    start_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
