"""The timeline of several processes: one clock, one file, and the Trace Event Format."""

import json
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream
from tgscale.memory.shared import SharedMemory, is_available, start_daemon
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.trainer import train_snapshots
from tgscale.stream.config import default_config, replace
from tgscale.stream.launch import daemon_traces
from tgscale.stream.trainer import train_stream
from tgscale.train.distributed import Ranks
from tgscale.train.timeline import KINDS, Clock, Recorder, clock_ahead, kind_of, write_timeline
from tgscale.train.trace import Trace


def read_valid(file) -> list[dict]:
    """Events of a timeline, after looking whether each is what the Trace Event Format and its viewers expect."""
    written = json.loads(file.read_text())
    assert written["displayTimeUnit"] in ("ms", "ns")
    events = written["traceEvents"]
    names = {(e["pid"], e.get("tid"), e["name"]): e["args"] for e in events if e["ph"] == "M"}
    for event in events:
        assert event["ph"] in ("M", "X", "i")
        assert isinstance(event["pid"], int)
        assert event["name"]
        assert isinstance(event["name"], str)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index")
            continue
        assert isinstance(event["tid"], int)
        assert math.isfinite(event["ts"])
        assert event["ts"] >= 0
        assert isinstance(event["args"], dict)
        assert event["cat"] in KINDS
        assert names[event["pid"], None, "process_name"]["name"]
        assert names[event["pid"], event["tid"], "thread_name"]["name"]
        if event["ph"] == "X":
            assert math.isfinite(event["dur"])
            assert event["dur"] >= 0
        else:
            assert event["s"] in ("g", "p", "t")
    processes = {event["pid"] for event in events}
    numbers = [event["tid"] for event in events if event["name"] == "thread_name"]
    assert len({*numbers, *processes}) == len(numbers) + len(processes), "Perfetto tells lanes by their number alone"
    lanes: dict[tuple[int, int], list[dict]] = {}
    for event in events:
        if event["ph"] == "X":
            lanes.setdefault((event["pid"], event["tid"]), []).append(event)
    for spans in lanes.values():
        for to_whole in (int, round):
            _check_nesting(spans, to_whole)
    return events


def _check_nesting(spans: list[dict], to_whole: Callable[[float], int]) -> None:
    """Spans of a lane follow one another in the file, and lie within each other or apart, also where a viewer makes
    whole nanoseconds of a time and a duration, each for itself: Perfetto drops a span that then overlaps with another.
    """
    ends: list[int] = []
    for before, span in zip([None, *spans], spans, strict=False):
        assert before is None or before["ts"] <= span["ts"]
        start = to_whole(span["ts"] * 1000)
        while ends and ends[-1] <= start:
            ends.pop()
        end = start + to_whole(span["dur"] * 1000)
        assert not ends or end <= ends[-1], f"{span} reaches out of the span that it began in"
        ends.append(end)


def lanes_of(events) -> dict[str, set[str]]:
    """ "process: lane" -> names of its spans."""
    process = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    lane = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    found: dict[str, set[str]] = {}
    for e in events:
        if e["ph"] == "X":
            found.setdefault(f"{process[e['pid']]}: {lane[e['pid'], e['tid']]}", set()).add(e["name"])
    return found


def test_the_check_finds_what_overlaps(tmp_path):
    def span(start, took):
        return {"ph": "X", "name": "forward", "pid": 1, "tid": "trainer", "ts": start, "dur": took, "args": {}}

    write_timeline(tmp_path / "good.json", [("a", [span(0, 10_000), span(2_000, 3_000), span(10_000, 5_000)])])
    read_valid(tmp_path / "good.json")
    write_timeline(tmp_path / "bad.json", [("a", [span(0, 10_000), span(5_000, 10_000)])])
    with pytest.raises(AssertionError, match="reaches out"):
        read_valid(tmp_path / "bad.json")


def test_spans_that_touch_do_not_overlap_for_a_viewer_that_rounds(tmp_path):
    """Halves of halves, which all begin and end where others do."""
    generator, spans = np.random.default_rng(0), []

    def cut(start, stop, deep):
        spans.append(
            {"ph": "X", "name": "forward", "pid": 1, "tid": "trainer", "ts": start, "dur": stop - start, "args": {}}
        )
        if deep and stop - start > 100:
            middle = int(generator.integers(start, stop))
            cut(start, middle, deep - 1)
            cut(middle, stop, deep - 1)

    cut(0, 10**12, 9)
    write_timeline(tmp_path / "t.json", [("a", spans)])
    written = [event for event in read_valid(tmp_path / "t.json") if event["ph"] == "X"]
    assert len(written) == len(spans) > 900
    for event, span in zip(written, spans, strict=True):
        assert event["ts"] == pytest.approx(span["ts"] / 1000, abs=1e-3)
        assert event["dur"] == pytest.approx(span["dur"] / 1000, abs=0.03)


@given(
    offset=st.integers(-(10**12), 10**12),
    rounds=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 10**5)),
        min_size=1,
    ),
)
def test_the_distance_of_two_clocks_is_told_to_within_half_the_shortest_barrier(offset, rounds):
    now, mine, other = 0, [], []
    for early, late, left_mine, left_other in rounds:
        met = now + max(early, late)  # nobody leaves before both are there
        mine.append((now + early + offset, met + left_mine + offset))
        other.append((now + late, met + left_other))
        now = met + 10**7
    most = min(abs(early - late) + max(a, b) for early, late, a, b in rounds)
    assert abs(clock_ahead(mine, other) - offset) <= most


def test_a_clock_that_drifts_is_followed():
    clock = Clock((1000, 10.0), (3000, 30.0))
    assert [clock.ahead(at) for at in (1000, 2000, 3000)] == [10, 20, 30]
    assert Clock((5, 7.0), (5, 9.0)).ahead(100) == 7


def test_processes_of_one_machine_come_to_one_clock(tmp_path):
    """Two ranks as threads; one's trace takes the wall clock to be an hour later."""
    box, met = {}, threading.Barrier(2, timeout=30)

    class Pair(Ranks):
        def gather_objects(self, value):
            box[self.rank] = value
            met.wait()
            both = [box[0], box[1]]
            met.wait()
            return both

        def broadcast_object(self, value):
            return self.gather_objects(value)[0]

    results = {}

    def work(rank):
        trace = Trace(record=True)
        trace.wall += 3_600_000_000_000 * rank
        recorder = Recorder(trace, Pair(rank, 2))
        met.wait()
        with trace.span("forward"):
            met.wait()
        results[rank] = recorder.gather(f"trainer {rank}", [(f"daemon {rank}", trace)])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert [name for name, _ in results[0]] == ["trainer 0", "trainer 1", "daemon 0", "daemon 1"]
    (a,), (b,), *_ = (events for _, events in results[0])
    assert a["ts"] < b["ts"] + b["dur"]  # both were in their spans at one moment
    assert b["ts"] < a["ts"] + a["dur"]


def test_nothing_is_asked_of_others_where_nothing_is_recorded():
    assert Recorder(Trace(), Ranks(0, 2)).gather("trainer 0") == []


def test_kinds():
    names = [name for of_kind in KINDS.values() for name in of_kind]
    assert len(names) == len(set(names))
    assert (kind_of("embedding"), kind_of("backward"), kind_of("?")) == ("graph", "backward", "other")


def test_a_lane_is_inherited_and_own_times_are_summed_over_the_trainers_of_a_process():
    trace = Trace(record=True)
    for trainer in range(2):
        with trace.span("forward", f"trainer {trainer}"), trace.span("decoder"):
            pass
    assert [event["tid"] for event in trace.events()] == ["trainer 0", "trainer 0", "trainer 1", "trainer 1"]
    assert set(trace.own()) == {"forward", "decoder"}
    assert sum(trace.own().values()) == pytest.approx(trace.totals()["forward"][0])


@pytest.mark.skipif(not is_available(), reason="the memory daemon needs Linux")
def test_a_daemon_says_what_it_did():
    import torch

    from tgscale.memory.group import Write
    from tgscale.memory.local import MemoryRows

    daemon = start_daemon(5, 2, members=1, record=True)
    memory = SharedMemory(daemon.address, 0, 0, 4, 4, daemon=daemon)
    rows = MemoryRows(
        torch.ones(2, 2), torch.ones(2, dtype=torch.int64), torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)
    )
    memory.load_state_dict(memory.state_dict(), 0)
    memory.commit(0, Write(torch.tensor([1, 3]), rows), 1, False)
    memory.request(1, torch.tensor([0, 1, 3]))
    assert memory.receive().memory[:, 0].tolist() == [0, 1, 1]
    memory.close()
    ((name, trace),) = daemon_traces({0: memory})
    assert name == "memory daemon of copy 0"
    events = trace.events()
    assert [(e["name"], e["tid"], e["args"]) for e in events] == [
        ("apply write", "daemon", {"member": 0, "rows": 2}), ("serve read", "daemon", {"member": 0, "rows": 3}),
    ]  # fmt: skip
    assert events[0]["ts"] + events[0]["dur"] <= events[1]["ts"]
    assert daemon_traces({0: memory})[0][1].events() == []  # asked once


@pytest.fixture
def stream(tmp_path):
    save_stream(generate_stream(events=1500, nodes=100, edge_features=2), tmp_path / "data")
    return replace(
        default_config(tmp_path / "data", tmp_path / "run"),
        quiet=True, device="cpu", profile=True, model__dim=8, train__epochs=2, train__batch_size=200,
    )  # fmt: skip


def test_a_run_on_a_stream(stream):
    train_stream(replace(stream, pipeline__depth=1))
    found = lanes_of(read_valid(stream.run / "timeline.json"))
    assert found["trainer 0: pipeline"] == {"build batch", "sample", "slice"}
    assert found["trainer 0: run"] == {"validation", "checkpoint"}
    operators = {"memory updater", "embedding", "decoder"}
    assert (
        operators | {"forward", "backward", "optimizer", "read memory", "wait for batch"} <= found["trainer 0: trainer"]
    )


def test_every_emulated_trainer_has_a_lane(stream):
    result = train_stream(replace(stream, emulate="1x2x1"))
    found = lanes_of(read_valid(stream.run / "timeline.json"))
    assert set(found) == {f"emulated trainers: {lane}" for lane in ("trainer", "trainer 0", "trainer 1", "run")}
    assert {"forward", "backward", "decoder"} <= found["emulated trainers: trainer 1"]
    assert found["emulated trainers: trainer"] == {"all-reduce", "optimizer"}
    (process,) = result["train"]["processes"]
    assert 0.5 < sum(process["own_time"].values()) / process["seconds"] <= 1


def test_profiling_changes_no_number(stream):
    results = [
        train_stream(replace(stream, profile=profile, run=stream.run / str(profile))) for profile in (True, False)
    ]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.parametrize("executor", ["serial", "streams", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_run_on_snapshots(tmp_path, executor):
    save_snapshots(
        generate_snapshots(nodes=40, snapshots=24, edges=80, change=10, skew=1.0, seed=0, features=3), tmp_path / "data"
    )
    config = SnapshotConfig(tmp_path / "data", tmp_path / "run", window=4, executor=executor, profile=True, quiet=True)
    config.train.epochs = 2
    train_snapshots(config)
    found = lanes_of(read_valid(tmp_path / "run" / "timeline.json"))
    if executor == "serial":
        assert {"graph", "nn", "backward", "all-reduce", "optimizer"} == found["device 0: trainer"]
        return
    assert {"wait for workers", "all-reduce", "optimizer"} == found["device 0: trainer"]
    for worker in range(2):
        assert {"graph", "nn", "backward", "wait for work"} == found[f"device 0: worker {worker}"]


@pytest.mark.slow
def test_real_trainers_and_their_daemon_in_one_file(stream, tmp_path):
    from ..runs import TGSCALE, Launch

    options = ["--model.dim", "8", "--train.batch-size", "100", "--train.epochs", "2", "--device", "cpu"]
    command = ["train", "--data", str(stream.data), "--run", "run", "--layout", "2x1x1", "--workers", "2", "--profile"]
    launch = Launch(tmp_path, *TGSCALE, *command, *options)
    assert launch.end() == 0, launch.printed
    assert launch.leaves_nothing()
    events = read_valid(tmp_path / "run" / "timeline.json")
    found = lanes_of(events)
    assert {"trainer 0: trainer", "trainer 1: trainer", "memory daemon of copy 0: daemon"} <= set(found)
    assert {"wait for trainers", "all-reduce"} <= found["trainer 1: trainer"]
    assert found["memory daemon of copy 0: daemon"] == {"serve read", "apply write"}
    process = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    reduces = [
        [e for e in events if e["name"] == "all-reduce" and process[e["pid"]] == f"trainer {rank}"] for rank in range(2)
    ]
    for a, b in zip(*reduces, strict=True):  # nobody leaves before both are there: on one clock they overlap
        assert a["ts"] < b["ts"] + b["dur"]
        assert b["ts"] < a["ts"] + a["dur"]
