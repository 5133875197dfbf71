"""Cost as data grows: import of a large generated stream, then sampling, training and evaluation all along it.

    python benchmarks/scale.py --events 100_000_000 --folder /disk/scale [--stages generate import slices]

The stream is that of ``tgscale data generate`` (pairs that recur, bursts, drift, hubs), written as Parquet files whose
rows are shuffled within a file, whose files are shuffled too, and whose ids have gaps: the import has to number and to
sort everything. Each stage runs in a process of its own, and finds in the folder what earlier ones left.

At each tenth of the stream the events just before its end are sampled, trained on and evaluated, on memory-mapped
columns. The node memory there is what a run would have reached: every node that has had an event holds memory, and the
mail of its last event; only the values are random. The best of the rounds counts. The store's pages are in memory
before every measurement, as far as there is room, or with --cold on the disk alone.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from measured_import import PeakMemory, describe, in_child, run_import, status
from scratch import scratch

from tgscale.data.files import expect_random_reads, release_pages
from tgscale.data.generate import EventChunk, generate_chunks
from tgscale.data.store import open_stream
from tgscale.data.stream import EventStream, Split
from tgscale.memory.group import LocalGroupMemory
from tgscale.stream.config import default_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.schedule import Schedule
from tgscale.train.environment import describe_environment, set_threads

FILE_EVENTS = 1_000_000
STAGES = ("generate", "import", "slices")


@dataclass
class Options:
    """What to generate, import and walk through."""

    events: int = 5_000_000
    nodes: int = 1_000_000
    edge_features: int = 16
    memory_limit: str = "2GB"
    """Of the import."""
    stages: tuple[str, ...] = STAGES
    slices: int = 10
    """Places along the stream."""
    slice_events: int = 20_000
    """Events that are trained on and evaluated at each; ten times as many are sampled."""
    batch_size: int = 400
    threads: int = 1
    rounds: int = 3
    cold: bool = False
    """Measure from the disk: drop the store's pages from memory before every measurement."""
    seed: int = 0
    folder: Path | None = None
    """Where to work; a temporary folder unless given. Needs about 400 bytes per event while importing."""


def generate(options: Options, folder: Path) -> None:
    """Write the stream as Parquet files, shuffled; a file at a time."""
    folder.mkdir()
    files = -(-options.events // FILE_EVENTS)
    rng = np.random.default_rng(options.seed)
    chunks = generate_chunks(options.events, options.nodes, options.edge_features, options.seed, chunk=FILE_EVENTS)
    for number, chunk in zip(rng.permutation(files), chunks, strict=True):
        pq.write_table(shuffled(chunk, rng), folder / f"events-{number:05}.parquet", use_dictionary=False)


def shuffled(chunk: EventChunk, rng: np.random.Generator) -> pa.Table:
    """A chunk's events in random order, under ids that have gaps."""
    order = rng.permutation(len(chunk.src))
    columns = {"src": chunk.src[order] * 3 + 7, "dst": chunk.dst[order] * 3 + 7, "time": chunk.time[order]}
    features = chunk.edge_features[order].T
    return pa.table(columns | {f"f{i}": np.ascontiguousarray(values) for i, values in enumerate(features)})


class Slices:
    """Measures pieces of a stream that lies in a store."""

    def __init__(self, options: Options, store: Path) -> None:
        set_threads(options.threads)
        self.options, self.store, self.stream = options, store, open_stream(store)
        config = replace(default_config(store, Path()), train__batch_size=options.batch_size, train__epochs=1)
        self.engine = StreamEngine(config, self.stream, torch.device("cpu"))
        self.schedule = Schedule.of(config, self.stream.num_events)
        torch.manual_seed(options.seed)
        state = self.engine.memory.state
        state.memory.normal_(std=0.1)
        state.mail.normal_(std=0.1)
        # A lone thread on pages that are in memory is timed by the time that it ran: a busy machine is no slow one.
        self.clock = time.process_time if options.threads == 1 and not options.cold else time.perf_counter
        self.warm = 2  # batches: kernels, and caches of the processor

    def ends(self) -> list[int]:
        """One past the last event of each slice, in whole batches."""
        size, parts = self.options.batch_size, self.options.slices
        return [self.stream.num_events * (part + 1) // parts // size * size for part in range(parts)]

    def measure(self, kind: str, end: int) -> float:
        """Events per second of one kind of work on the events before ``end``."""
        size = self.options.batch_size
        wanted = max(1, self.options.slice_events * (10 if kind == "sampling" else 1) // size)
        batches = min(wanted, end // size - self.warm - 1)
        first = end - batches * size
        if kind != "sampling":
            self.fill_memory(first - self.warm * size)
        (forget_pages if self.options.cold else load_pages)(self.stream, self.store)
        seconds = getattr(self, f"_{kind}")(first, end)
        return (end - first) / seconds

    def fill_memory(self, before: int) -> None:
        """Let every node hold the mail of its last event before this one."""
        state, stream = self.engine.memory.state, self.stream
        for nodes in torch.arange(stream.num_nodes).split(1 << 16):
            _, last = self.engine.history.node(nodes, None, before=torch.full_like(nodes, before))
            state.mail_event[nodes] = last
            state.memory_time[nodes] = torch.where(last >= 0, self.engine.builder.time[last.clamp(min=0)], 0)

    def _sampling(self, first: int, end: int) -> float:
        builder, size = self.engine.builder, self.options.batch_size

        def sample(start: int) -> None:
            event = torch.arange(start, start + size)
            src, dst, when = builder.src[event].long(), builder.dst[event].long(), builder.time[event]
            negative = builder.negatives.draw(event, dst, 1, seed=0).flatten()
            builder.sampler.sample(torch.cat([src, dst, negative]), when.repeat(3))

        for start in range(first - self.warm * size, first, size):
            sample(start)
        return seconds_of(lambda: [sample(start) for start in range(first, end, size)], self.clock)

    def _training(self, first: int, end: int) -> float:
        position, size = first // self.options.batch_size, self.options.batch_size
        gc.collect()  # the memory counts those that use it
        member = LocalGroupMemory(self.engine.memory)
        member.load_state_dict(vars(self.engine.memory.state), position - self.warm)
        loop = TrainingLoop(self.engine, self.schedule, {0: member})
        loop.iteration = position - self.warm
        loop.run(position)
        seconds = seconds_of(lambda: loop.run(end // size), self.clock)
        loop.close()
        return seconds

    def _evaluation(self, first: int, end: int) -> float:
        size, events = self.options.batch_size, self.stream.num_events
        self.engine.split = Split(first - self.warm * size, first, events)
        self.engine.evaluate("val")
        self.engine.split = Split(first, end, events)
        return seconds_of(lambda: self.engine.evaluate("val"), self.clock)


def seconds_of(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long it takes."""
    began = clock()
    work()
    return clock() - began


def forget_pages(stream: EventStream, store: Path) -> None:
    """Drop the pages of a store from this process and from the system."""
    parts = (stream, stream.tcsr, stream.pairs)
    release_pages(*(column for part in parts for column in vars(part).values() if isinstance(column, np.ndarray)))
    for file in store.iterdir():
        forget_file(file)


def load_pages(stream: EventStream, store: Path) -> None:
    """Have the system hold the files of a store, as far as it has room; it drops what was idle for a while."""
    buffer = bytearray(8 << 20)
    for file in store.iterdir():
        with open(file, "rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass


def forget_file(file: Path) -> None:
    """Drop the pages of a file from the system, but those that a process has mapped."""
    with open(file, "rb") as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_rows(store: Path, rows: int = 2000) -> dict[str, list[float]]:
    """Microseconds and bytes read from the disk for one row of features that is not in memory.

    Returns:
        Both, as the store maps a large column (``at random``) and as the system does unless told (``read-ahead``).
    """
    result = {}
    for name, advise in (("at random", expect_random_reads), ("read-ahead", lambda column: None)):
        column = np.load(store / "edge_features.npy", mmap_mode="r")
        forget_file(store / "edge_features.npy")
        advise(column)
        wanted = np.sort(np.random.default_rng(0).integers(0, len(column), rows))
        before = read_from_disk()
        seconds = seconds_of(lambda: column[wanted].sum())  # noqa: B023
        result[name] = [seconds / rows * 1e6, (read_from_disk() - before) / rows]
        release_pages(column)
    return result


def read_from_disk() -> int:
    """Bytes that this process has had read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


KINDS = ("sampling", "training", "evaluation")


def measure_slices(options: Options, store: Path) -> dict[str, Any]:
    """Runs in the process that is measured: rates by kind and place, and memory."""
    cold = cold_rows(store) if options.cold else {}
    began, peak = time.perf_counter(), PeakMemory()
    slices = Slices(options, store)
    opening = time.perf_counter() - began
    ends = slices.ends()
    rates: dict[str, list[list[float]]] = {kind: [[] for _ in ends] for kind in KINDS}
    anonymous = [0 for _ in ends]
    for turn in range(options.rounds):
        for place, end in enumerate(ends):
            for kind in KINDS:
                rates[kind][place].append(slices.measure(kind, end))
            found = ", ".join(f"{kind} {rates[kind][place][-1]:,.0f}" for kind in KINDS)
            elapsed = time.perf_counter() - began
            print(f"{elapsed:6.0f} s, round {turn}, before {end:,}: {found} events/s", file=sys.stderr, flush=True)
            anonymous[place] = status("RssAnon")
    return {
        "opening": opening,
        "cold_rows": cold,
        "ends": ends,
        "rates": {kind: [max(values) for values in rows] for kind, rows in rates.items()},
        "anonymous": anonymous,
        "peak": status("VmHWM"),
        "peak_anonymous": peak.anonymous,
    }


def table(result: dict[str, Any]) -> str:
    """Rates at each place, and the last over the first."""
    lines = [f"| events before | {' | '.join(f'{kind}, events/s' for kind in KINDS)} | anonymous memory, GB |"]
    lines.append("|---|" + "---|" * (len(KINDS) + 1))
    for place, end in enumerate(result["ends"]):
        cells = [f"{result['rates'][kind][place]:,.0f}" for kind in KINDS]
        lines.append(f"| {end:,} | {' | '.join(cells)} | {result['anonymous'][place] / 1e9:.2f} |")
    flat = [f"{result['rates'][kind][-1] / result['rates'][kind][0]:.2f}" for kind in KINDS]
    return "\n".join([*lines, f"| last over first | {' | '.join(flat)} | |"])


def run(options: Options, folder: Path) -> None:
    source, store = folder / "source", folder / "store"
    environment = describe_environment()
    print(f"{environment['cpu']}, {environment['cores']} cores, {options.threads} threads", flush=True)
    if "generate" in options.stages:
        seconds = seconds_of(lambda: generate(options, source))
        print(f"generated {options.events:,} events in {seconds:.1f} s", flush=True)
    if "import" in options.stages:
        result = run_import(source, store, options.memory_limit)
        print(f"import {describe(result, sum(file.stat().st_size for file in source.iterdir()))}", flush=True)
    if "slices" in options.stages:
        result = in_child(Path(__file__), "--child", json.dumps(asdict(options), default=str), str(store))
        print(table(result))
        print(
            f"opening {result['opening']:.1f} s | peak resident {result['peak'] / 1e9:.2f} GB, of it anonymous "
            f"{result['peak_anonymous'] / 1e9:.2f} GB",
            flush=True,
        )
        for name, (microseconds, size) in result["cold_rows"].items():
            print(f"a row from the disk, {name}: {microseconds:.0f} us, {size / 1000:.0f} kB read")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure_slices(Options(**json.loads(sys.argv[2])), Path(sys.argv[3]))))
        return
    options = tyro.cli(Options)
    with scratch(options.folder) as folder:
        run(options, folder)


if __name__ == "__main__":
    main()
