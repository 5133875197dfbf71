import json
import threading

import pytest

from tgscale.train import trace
from tgscale.train.timeline import write_timeline
from tgscale.train.trace import Trace, summarize


class Clock:
    """Time that passes only when told; ``perf_counter`` counts from another moment in each process."""

    def __init__(self) -> None:
        self.now, self.origin = 1_700_000_000_000_000_000, 0

    def time_ns(self) -> int:
        return self.now

    def perf_counter_ns(self) -> int:
        return self.now - self.origin

    def passes(self, microseconds: int) -> None:
        self.now += microseconds * 1000


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trace, "time", clock)
    return clock


def test_spans_are_summed_by_name_and_nested_ones_count_in_both(clock):
    kept = Trace()
    for _ in range(2):
        with kept.span("step"):
            clock.passes(1_000_000)
            with kept.span("forward", size=3):
                clock.passes(500_000)
    assert kept.totals() == {"forward": (1.0, 2), "step": (3.0, 2)}
    assert kept.events() == []


def test_a_span_that_fails_counts_and_lets_the_error_through(clock):
    kept = Trace()

    def fail():
        with kept.span("step"):
            clock.passes(2_000_000)
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert kept.totals() == {"step": (2.0, 1)}


def test_threads_lose_nothing():
    kept = Trace(record=True)

    def work(lane):
        for _ in range(500):
            with kept.span("work", lane):
                pass

    threads = [threading.Thread(target=work, args=(f"lane {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.totals()["work"][1] == 2000
    assert len(kept.events()) == 2000


def test_recorded_spans_are_on_the_wall_clock_whatever_the_process(clock):
    events = []
    for origin in (0, 12_345_678_000):
        clock.now, clock.origin = 1_700_000_000_000_000_000, origin
        kept = Trace(record=True)
        clock.passes(10)
        with kept.span("read memory", "memory", position=4):
            clock.passes(30)
        events.append(kept.events())
    assert events[0] == events[1]
    (event,) = events[0]
    assert (event["ph"], event["name"], event["tid"]) == ("X", "read memory", "memory")
    assert (event["ts"], event["dur"], event["args"]) == (1_700_000_000_000_010_000, 30_000, {"position": 4})


@pytest.mark.parametrize("record", [True, False])
def test_waits_for_the_device_at_the_end_of_a_span_when_recording(clock, record):
    calls = []

    def synchronize():
        calls.append(clock.now)
        clock.passes(7)

    kept = Trace(record, synchronize)
    with kept.span("forward"):
        clock.passes(5)
    assert len(calls) == record
    assert kept.totals()["forward"] == (12e-6 if record else 5e-6, 1)


def test_a_long_run_keeps_a_bounded_number_of_spans_and_says_so(clock, monkeypatch):
    monkeypatch.setattr(trace, "MOST_SPANS", 3)
    kept = Trace(record=True)
    for _ in range(5):
        with kept.span("step"):
            clock.passes(10)
    *spans, mark = kept.events()
    assert [event["name"] for event in spans] == ["step"] * 3
    assert mark["ph"] == "i"
    assert mark["name"] == "cut: 2 later spans were not kept"
    assert mark["ts"] == spans[-1]["ts"] + 10_000
    assert kept.totals()["step"][1] == 5


def test_summary_has_the_longest_first():
    rows = summarize({"read": (0.5, 10), "forward": (2.0, 4)}, wall_seconds=4.0)
    assert rows == [("forward", 2.0, 0.5, 0.5), ("read", 0.5, 0.125, 0.05)]


def test_summary_of_no_time():
    assert summarize({"read": (0.0, 1)}, wall_seconds=0.0)[0].share == 0


def test_timeline_names_processes_and_lanes(clock, tmp_path):
    ranks = []
    for rank in range(2):
        kept = Trace(record=True)
        for lane in ("trainer", "pipeline", "trainer"):
            with kept.span("work", lane):
                clock.passes(100)
        ranks.append((f"rank {rank}", kept.events()))
    write_timeline(tmp_path / "timeline.json", ranks)

    written = json.loads((tmp_path / "timeline.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.json"]
    meta = [e for e in written["traceEvents"] if e["ph"] == "M"]
    processes = {e["pid"]: e["args"]["name"] for e in meta if e["name"] == "process_name"}
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in meta if e["name"] == "thread_name"}
    assert processes == {0: "rank 0", 1: "rank 1"}
    spans = [e for e in written["traceEvents"] if e["ph"] == "X"]
    assert [processes[e["pid"]] for e in spans] == ["rank 0"] * 3 + ["rank 1"] * 3
    assert [lanes[e["pid"], e["tid"]] for e in spans] == ["trainer", "pipeline", "trainer"] * 2
    starts = [e["ts"] for e in spans]
    assert starts == pytest.approx([0, 100, 200, 300, 400, 500], abs=1e-3)  # the two processes line up
    assert written["otherData"]["began"] == 1_700_000_000


def test_timeline_of_nothing(tmp_path):
    write_timeline(tmp_path / "timeline.json", [("rank 0", [])])
    assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"][0]["args"] == {"name": "rank 0"}


def test_own_times_leave_out_what_lies_within_and_add_up(monkeypatch):
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr("tgscale.train.trace.time.perf_counter_ns", lambda: next(clock))
    trace = Trace()
    with trace.span("wait"):  # opens at 1 us of its own clock; each reading takes one more
        with trace.span("build"), trace.span("sample"):
            pass
        with trace.span("slice"):
            pass
    with trace.span("elsewhere", "pipeline"):
        pass
    own, totals = trace.own(), trace.totals()
    assert own == pytest.approx({"sample": 1e-6, "build": 2e-6, "slice": 1e-6, "wait": 3e-6})
    assert sum(own.values()) == pytest.approx(totals["wait"][0])
    assert trace.own("pipeline") == pytest.approx({"elsewhere": 1e-6})
