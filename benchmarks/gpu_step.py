"""A training step on a GPU: operator by operator, as one CUDA graph, with Triton kernels, in bfloat16, compiled.

    python benchmarks/gpu_step.py --source ../shared/data --out build/results [--write]
    python benchmarks/gpu_step.py --source ../shared/data --out build/results --paper [--write]

The paper's model (no pair encoding, no static memory) on a real stream with random edge features: batch 600, dimension
100, 10 neighbors, one negative per event. Events/s of whole sweeps, after one for warming up; kernels and device time
of each phase of one step, by the profiler; hit rates of the feature cache. Where there is no GPU it says so and
measures nothing. Two parts need none: ``--paper`` prints the step's floor from shapes alone, with the operators that
one step calls, counted; ``--cache-on-cpu`` the hit rates, which are the same on any device.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_floor import Shape, floor
from real_sets import real_set
from tables import DOCS, markdown, publish
from torch.utils._python_dispatch import TorchDispatchMode

from tgscale.data.store import open_stream
from tgscale.data.stream import EventStream
from tgscale.memory.local import rows_after_events
from tgscale.nn import dispatch
from tgscale.nn.decoder import link_loss
from tgscale.stream.config import disttgl_config, replace
from tgscale.stream.device_loop import DeviceLoop
from tgscale.stream.engine import StreamEngine
from tgscale.stream.feature_cache import FeatureCache
from tgscale.stream.loop import TrainingLoop
from tgscale.train.environment import describe_environment

TRITON = dispatch.has_triton()
VARIANTS: dict[str, tuple[bool, dict[str, Any]]] = {  # name -> (with Triton, options)
    "operator by operator": (False, {"device_graph": "off"}),
    "with Triton": (True, {"device_graph": "off"}),
    "graph": (False, {"device_graph": "on"}),
    "graph, Triton": (True, {"device_graph": "on"}),
    "graph, Triton, bf16": (True, {"device_graph": "on", "precision": "bf16"}),
    "graph, compiled": (False, {"device_graph": "on", "compile": True}),
    "graph, Triton, bf16, compiled": (True, {"device_graph": "on", "precision": "bf16", "compile": True}),
}


def make_engine(stream: EventStream, device: torch.device, batch_size: int, **options: Any) -> StreamEngine:
    config = disttgl_config(Path(), Path())
    config = replace(config, static__mode="none", train__batch_size=batch_size, train__epochs=100, **options)
    return StreamEngine(config, stream, device)


def rates(engine: StreamEngine, rounds: int) -> list[float]:
    """Events/s of each sweep after the first."""
    kind = DeviceLoop if engine.config.device_graph == "on" else TrainingLoop
    loop, found = kind.in_process(engine), []
    for sweep in range(1 + rounds):
        began = time.perf_counter()
        loop.run((sweep + 1) * loop.schedule.num_batches)
        loop.mean_loss()  # waits for the device
        found.append(engine.split.train / (time.perf_counter() - began))
    if isinstance(loop, DeviceLoop) and engine.device.type == "cuda" and not loop.captured:
        raise RuntimeError("the step was not captured, so these are not the rates of a graph")
    return found[1:]


def speed(stream: EventStream, device: torch.device, batch_size: int, rounds: int) -> Iterator[list[object]]:
    """A row per variant."""
    for name, (triton, options) in VARIANTS.items():
        dispatch._triton = triton and TRITON
        if triton and not TRITON:
            yield [name, "Triton is not installed", ""]
            continue
        found = rates(make_engine(stream, device, batch_size, **options), rounds)
        yield [name, f"{statistics.median(found):,.0f}", ", ".join(f"{rate:,.0f}" for rate in found)]
    dispatch._triton = TRITON


def phases(loop: DeviceLoop) -> Iterator[tuple[str, Callable[[], None]]]:
    """The parts of one step in the middle of the stream, to be called in order."""
    step, engine, model = loop.whole_step, loop.engine, loop.engine.model
    start = engine.split.train // 2
    event = torch.arange(start, start + step.batch_size, device=engine.device)
    at: dict[str, Any] = {}
    features, times = engine.builder.edge_features, engine.builder.time

    def sample() -> None:
        at["batch"], _ = step.batch(event)

    def read() -> None:
        at["rows"] = step.memory.read(at["batch"].block.nodes)

    def absorb() -> None:
        at["updated"] = model.update(at["rows"], times, features)

    def embed() -> None:
        at["h"] = model.embed(at["updated"], at["batch"].block, features)

    def score() -> None:
        batch = at["batch"]
        at["loss"] = link_loss(model.score(at["h"], batch.source, batch.candidate, batch.pair_features))

    def backward() -> None:
        step.gradients.clear()
        at["loss"].backward()

    def write() -> None:
        batch = at["batch"]
        ends = (batch.source_slot, batch.destination_slot)
        own, after = rows_after_events(at["rows"], at["updated"], *ends, batch.event, times, every_end=True)
        step.memory.write(batch.block.nodes[own], after)

    def optimize() -> None:
        for optimizer in step.optimizers:
            optimizer.step()

    names = ["sample, distinct nodes", "read memory", "absorb mail", "embed", "score, loss", "backward", "write memory"]
    yield from zip([*names, "optimizer"], [sample, read, absorb, embed, score, backward, write, optimize], strict=True)


class Operators(TorchDispatchMode):
    """Counts operators that compute: views and empty tensors are none."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
        self.count += not view and "empty" not in func.__name__ and "detach" not in func.__name__
        return func(*args, **(kwargs or {}))


def counted(loop: DeviceLoop) -> dict[str, int]:
    """Operators of each phase, in plain tensor operations."""
    dispatch.plain_tensors = True
    found = {}
    for name, call in phases(loop):
        with Operators() as operators:
            call()
        found[name] = operators.count
    dispatch.plain_tensors = False
    return found


def profiled(loop: DeviceLoop) -> Iterator[list[object]]:
    """Kernels of each phase on the device, and the time that they take."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):  # the last pass is the one that is shown
        rows = []
        for name, call in phases(loop):
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                call()
                torch.cuda.synchronize()
            kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
            rows.append([name, len(kernels), f"{sum(e.device_time for e in kernels):,.0f}"])
    yield from rows


def warm_loop(engine: StreamEngine) -> DeviceLoop:
    """A loop whose memory holds mail for half of the stream, and whose optimiser has its state."""
    loop = DeviceLoop.in_process(engine)
    half = engine.split.train // 2
    engine.model.eval()
    for start in range(0, half, 2000):
        engine.advance(start, min(start + 2000, half))
    engine.model.train()
    loop.memory.load_state_dict(engine.memory.state_dict())
    loop._start()
    loop.gradients.clear()
    for optimizer in loop.optimizers:  # makes its state, and without gradients moves no weight
        optimizer.step()
    return loop


def shape_of(loop: DeviceLoop, stream: EventStream) -> Shape:
    config, engine = loop.engine.config, loop.engine
    return Shape(
        events=config.train.batch_size,
        negatives=config.train.negatives,
        neighbors=config.sampling.neighbors,
        nodes=loop.whole_step.capacity,
        stream=stream.num_events,
        dim=config.model.dim,
        features=stream.edge_dim,
        heads=config.model.heads,
        parameters=sum(p.numel() for p in engine.model.parameters() if p.requires_grad),
    )


def paper(stream: EventStream, batch_size: int) -> str:
    """The floor of a step, and the operators that it calls."""
    loop = warm_loop(make_engine(stream, torch.device("cpu"), batch_size))
    floors, operators = floor(shape_of(loop, stream)), counted(loop)
    operators["sample"] = operators.pop("sample, distinct nodes")
    rows = [
        [name, f"{moved / 1e6:.2f}", f"{flops / 1e9:.2f}", operators.get(name, "with sample")]
        for name, (moved, flops) in floors.items()
    ]
    totals = [sum(values) for values in zip(*floors.values(), strict=True)]
    rows.append(["**all**", f"{totals[0] / 1e6:.1f}", f"{totals[1] / 1e9:.1f}", sum(operators.values())])
    return markdown(["phase", "MB", "GFLOP", "operators"], rows)


def caches(stream: EventStream, device: torch.device, batch_size: int, sizes: list[int]) -> Iterator[list[object]]:
    """Hit rate by rows kept; on a GPU also the rate of a second sweep."""
    for size in sizes:
        options = {"pipeline__slice_features": True, "pipeline__feature_cache": size, "device_graph": "off"}
        engine = make_engine(stream, device, batch_size, **options)
        cache = engine.builder.edge_features
        assert isinstance(cache, FeatureCache)
        found = rates(engine, 1 if device.type == "cuda" else 0)
        report = cache.report()
        yield [f"{size:,}", f"{report['bytes'] / 1e6:.1f}", f"{100 * report['hit_rate']:.1f} %", *map(round, found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="wikipedia")
    parser.add_argument("--features", type=int, default=172)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", nargs="*", type=int, default=[2_000, 10_000, 50_000], help="rows of feature caches")
    parser.add_argument("--paper", action="store_true", help="the floor on paper, and operators counted on the CPU")
    parser.add_argument("--cache-on-cpu", action="store_true", help="only the hit rates, which depend on no device")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/gpu.md")
    options = parser.parse_args()
    on_cpu = options.paper or options.cache_on_cpu
    if not on_cpu and not torch.cuda.is_available():
        print("There is no GPU here, so nothing was measured; --paper prints the floor of a step without one.")
        return
    stream = open_stream(real_set(options.set, options.source, options.out / "data"))
    features = np.random.default_rng(0).normal(size=(stream.num_events, options.features)).astype(np.float32)
    stream, page = dataclasses.replace(stream, edge_features=features), DOCS / "gpu.md"
    if options.paper:
        publish(page, "floor", paper(stream, options.batch), options.write)
    if on_cpu:
        if options.cache_on_cpu:
            rows = caches(stream, torch.device("cpu"), options.batch, options.cache)
            publish(page, "cache", markdown(["rows kept", "MB", "hits"], rows), options.write)
        return
    device, environment = torch.device("cuda"), describe_environment()
    said = f"{torch.cuda.get_device_name()}, torch {environment['torch']}, CUDA {environment['cuda']}."
    publish(
        page, "speed",
        f"{markdown(['step', 'events/s', 'rounds'], speed(stream, device, options.batch, options.rounds))}\n\n{said}",
        options.write,
    )  # fmt: skip
    loop = warm_loop(make_engine(stream, device, options.batch))
    publish(page, "phases", markdown(["phase", "kernels", "µs on the device"], profiled(loop)), options.write)
    rows = caches(stream, device, options.batch, options.cache)
    publish(page, "cache", markdown(["rows kept", "MB", "hits", "events/s"], rows), options.write)


if __name__ == "__main__":
    main()
