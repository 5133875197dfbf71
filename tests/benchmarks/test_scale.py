"""The benchmark of scale, on a stream small enough for seconds."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.ingest import import_events
from tgscale.data.store import open_stream

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"events": 6_000, "nodes": 200, "edge_features": 3, "slices": 2, "slice_events": 400, "batch_size": 100}


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale  # type: ignore[import-not-found]

    monkeypatch.setattr(scale, "FILE_EVENTS", 1_000)
    return scale


@pytest.fixture
def store(scale, tmp_path):
    options = scale.Options(**SMALL, threads=1)
    scale.generate(options, tmp_path / "source")
    import_events(tmp_path / "source", tmp_path / "store", edge_features="f*")
    return options, tmp_path / "store"


def test_the_imported_stream_is_the_generated_one(store):
    options, path = store
    stream, made = open_stream(path), generate_stream(options.events, options.nodes, options.edge_features)
    np.testing.assert_array_equal(stream.time, made.time)
    used = np.union1d(made.src, made.dst)  # ids without events get no number
    rows = [np.column_stack([s.time, src, dst, s.edge_features]) for s, src, dst in (
        (stream, stream.src, stream.dst),
        (made, np.searchsorted(used, made.src), np.searchsorted(used, made.dst)),
    )]  # fmt: skip
    np.testing.assert_array_equal(*(each[np.lexsort(each.T[::-1])] for each in rows))  # ties may lie in any order


def test_every_kind_of_work_is_measured_at_every_slice(scale, store):
    slices = scale.Slices(*store)
    assert slices.ends() == [3_000, 6_000]
    for kind in scale.KINDS:
        for end in slices.ends():
            rate = slices.measure(kind, end)
            assert math.isfinite(rate)
            assert rate > 0


def test_nodes_hold_the_mail_of_their_last_event(scale, store):
    slices = scale.Slices(*store)
    slices.fill_memory(777)
    stream, state = slices.stream, slices.engine.memory.state
    for node in range(stream.num_nodes):
        events = np.flatnonzero((stream.src[:777] == node) | (stream.dst[:777] == node))
        last = int(events[-1]) if len(events) else -1
        assert state.mail_event[node] == last
        assert state.memory_time[node] == (stream.time[last] if last >= 0 else 0)


def test_pages_that_are_forgotten_are_read_again(scale, store):
    stream = open_stream(store[1])
    before = np.array(stream.edge_features)
    scale.forget_pages(stream, store[1])
    np.testing.assert_array_equal(stream.edge_features, before)


@pytest.mark.slow
def test_the_command(tmp_path):
    options = {**SMALL, "rounds": 1, "threads": 1, "folder": tmp_path}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, str(BENCHMARKS / "scale.py"), *flags, "--cold"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "| 3,000 |" in printed
    assert "| last over first |" in printed
    assert "peak resident" in printed
