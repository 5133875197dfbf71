import itertools
import threading
import traceback
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.stream.pipeline import Pipeline, hidden_share
from tgscale.train.trace import Trace


def running() -> set[threading.Thread]:
    return set(threading.enumerate())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 4), st.integers(0, 12))
def test_results_come_in_order_and_never_too_far_ahead(count, depth, taken):
    """At any time: items begun <= results asked for + depth."""
    before, asked, begun, ahead = running(), [], [], []

    def make(item):
        begun.append(item)
        ahead.append(len(begun) - len(asked))
        return item, threading.current_thread()

    taken = min(taken, count)
    with Pipeline(make, iter(range(count)), depth) as pipeline:
        results = []
        for i in range(taken):
            asked.append(i)
            results.append(pipeline.next())
    assert [item for item, _ in results] == list(range(taken))
    assert max(ahead, default=0) <= depth
    assert len(begun) - taken <= depth
    assert begun == list(range(len(begun)))
    assert len({thread for _, thread in results} - {threading.main_thread()}) == (1 if taken and depth else 0)
    assert running() == before


@pytest.mark.parametrize("depth", [1, 3])
def test_works_ahead_as_far_as_depth_before_anything_is_asked_for(depth):
    made = threading.Semaphore(0)
    begun = []

    def make(item):
        begun.append(item)
        made.release()

    with Pipeline(make, itertools.count(), depth):
        for _ in range(depth):
            assert made.acquire(timeout=60)
    assert begun == list(range(depth))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_error_comes_when_its_turn_comes_and_stays(depth):
    def break_at_two(item):
        if item == 2:
            raise KeyError("two")
        return item

    with Pipeline(break_at_two, iter(range(5)), depth) as pipeline:
        assert [pipeline.next(), pipeline.next()] == [0, 1]
        for _ in range(2):
            with pytest.raises(KeyError, match="two") as error:
                pipeline.next()
            assert "break_at_two" in [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_of_the_items_comes_out_too(depth):
    def items():
        yield 1
        raise ValueError("no more")

    with Pipeline(lambda item: item, items(), depth) as pipeline:
        assert pipeline.next() == 1
        for _ in range(2):
            with pytest.raises(ValueError, match="no more"):
                pipeline.next()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_past_the_end(depth):
    with Pipeline(str, iter([1]), depth) as pipeline:
        assert pipeline.next() == "1"
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no item left"):
                pipeline.next()


@pytest.mark.parametrize("depth", [0, 2])
def test_closed_in_the_middle_and_again(depth):
    before = running()
    pipeline = Pipeline(lambda item: item, itertools.count(), depth)
    pipeline.next()
    pipeline.close()
    pipeline.close()
    assert running() == before
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.next()


def test_close_waits_for_what_is_in_the_making():
    began, go = threading.Event(), threading.Event()
    ended = []

    def make(item):
        began.set()
        assert go.wait(60)
        ended.append(item)

    pipeline = Pipeline(make, itertools.count(), 2)
    assert began.wait(60)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    assert ended == []
    go.set()
    closing.join(60)
    assert ended in ([0], [0, 1])  # the second may have begun before close did


def test_close_wakes_one_who_waits():
    go, began, errors = threading.Event(), threading.Event(), []

    def make(item):
        began.set()
        go.wait(60)

    def ask():
        try:
            pipeline.next()
        except RuntimeError as error:
            errors.append(str(error))

    pipeline = Pipeline(make, itertools.count(), 1)
    assert began.wait(60)
    asking, closing = threading.Thread(target=ask), threading.Thread(target=pipeline.close)
    asking.start()
    closing.start()
    asking.join(60)
    go.set()
    closing.join(60)
    assert errors == ["the pipeline is closed"]


def test_a_result_that_was_handed_out_is_not_kept_alive_while_the_next_is_made():
    class Result:
        pass

    first, alive, go = [], [], threading.Event()

    def make(item):
        if item == 1:
            assert go.wait(60)
            alive.append(first[0]() is not None)
        return Result()

    with Pipeline(make, iter(range(2)), 1) as pipeline:
        first.append(weakref.ref(pipeline.next()))
        go.set()
        pipeline.next()
    assert alive == [False]


def test_threads_are_set_in_the_background_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with Pipeline(lambda item: torch.get_num_threads(), itertools.count(), 1, threads=1) as pipeline:
            assert pipeline.next() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("depth", "lane"), [(0, "trainer"), (2, "pipeline")])
def test_what_it_makes_and_who_waits_is_traced(depth, lane):
    trace = Trace(record=True)
    with Pipeline(str, iter(range(4)), depth, trace) as pipeline:
        for _ in range(4):
            pipeline.next()
    assert {name: count for name, (_, count) in trace.totals().items()} == {"build batch": 4, "wait for batch": 4}
    lanes = {(event["name"], event["tid"]) for event in trace.events()}
    assert lanes == {("build batch", lane), ("wait for batch", "trainer")}
    if depth == 0:
        assert hidden_share(trace.totals()) == 0


def test_hidden_share():
    assert hidden_share({"build batch": (2.0, 8), "wait for batch": (0.5, 8)}) == 0.75
    assert hidden_share({"build batch": (2.0, 8), "wait for batch": (2.1, 8)}) == 0
    assert hidden_share({}) == 0


def test_a_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth is -1"):
        Pipeline(str, iter([]), -1)
