"""Ranking all destinations takes memory for a block of them, however many events there are."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.stream.config import default_config, replace
from tgscale.stream.trainer import train_stream

OLD, FEW, MANY = 3000, 1000, 4000
MARGIN = 80 << 20

PREDICT = """
import json, sys
from tgscale.stream.predict import predict
run, events, out = sys.argv[1:]
print(json.dumps(predict(run, events, out, top_k=10, quiet=True)))
"""
HOLES = """
import ctypes
from tgscale.train.environment import FreedMemory, _private_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
freed, start = FreedMemory(slack=32 << 20), _private_bytes()
blocks = [libc.malloc(100 << 10) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 100 << 10)
for block in blocks[:-1]:  # the last one stays, at the end of the heap
    libc.free(block)
before = _private_bytes() - start
freed.check()
print(before >> 20, (_private_bytes() - start) >> 20)
"""


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc and /proc")
def test_freed_memory_amid_the_heap_is_given_back():
    before, after = map(int, python(HOLES).split())
    assert before > 150
    assert after < 32


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_four_times_the_events_take_no_more_memory(tmp_path):
    stream = dataclasses.replace(generate_stream(events=OLD + MANY, nodes=3000, seed=3), num_sources=None)

    def part(first, last):
        columns = {name: getattr(stream, name)[first:last] for name in ("src", "dst", "time")}
        return dataclasses.replace(stream, **columns, edge_features=None, label=None)

    save_stream(part(0, OLD), tmp_path / "data")
    config = default_config(tmp_path / "data", tmp_path / "run")
    train_stream(replace(config, train__epochs=1, device="cpu", threads=1, quiet=True))
    done = {}
    for events in (FEW, MANY):
        new = part(OLD, OLD + events)
        path = tmp_path / f"{events}.parquet"
        pq.write_table(pa.table({name: np.asarray(getattr(new, name)) for name in ("src", "dst", "time")}), path)
        done[events] = json.loads(python(PREDICT, tmp_path / "run", path, tmp_path / f"top-{events}.parquet"))
        assert done[events]["rows"] == events
    assert done[MANY]["peak_memory_bytes"] < done[FEW]["peak_memory_bytes"] + MARGIN, done
