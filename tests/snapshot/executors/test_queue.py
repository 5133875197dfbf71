"""Who does what next: literal tables, and what must hold for any times."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.snapshot.executors.queue import AHEAD, FINISH, MOST_PREPARED, ReadyQueue, Task, choose


@pytest.mark.parametrize(
    ("partner", "prepared", "waiting", "task"),
    [
        (None, [], [], None),
        (AHEAD, [], [], None),
        (None, [], [4, 2], Task(AHEAD, 4)),
        (AHEAD, [], [4, 2], Task(AHEAD, 4)),  # nothing is prepared: no choice
        (AHEAD, [7], [4, 2], Task(FINISH, 7)),
        (None, [7], [4, 2], Task(FINISH, 7)),
        (FINISH, [7], [4, 2], Task(AHEAD, 4)),  # the partner is in its dense half: prepare another one
        (FINISH, [7], [4], Task(FINISH, 7)),  # the last one is left to the partner
        (FINISH, [7, 4], [2, 1], Task(FINISH, 7)),  # enough is held
    ],
)
def test_choice(partner, prepared, waiting, task):
    assert choose(partner, prepared, waiting) == task


times = st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=1, max_size=25)


@given(times, st.integers(1, 3))
def test_each_group_once_and_all_end_together(seconds, workers):
    """Whatever halves take: both halves of a group by one worker, in order; nobody waits while groups do."""
    order = sorted(range(len(seconds)), key=lambda g: -sum(seconds[g]))
    queue, done, held = ReadyQueue(order, workers), [], [[] for _ in range(workers)]
    ready = [(0.0, w) for w in range(workers)]
    ended = {}
    while ready:
        now, w = heapq.heappop(ready)
        task = queue.next(w)
        if task is None:
            assert not queue.waiting
            ended[w] = now
            continue
        if task.half == AHEAD:
            held[w].append(task.group)
            assert len(held[w]) <= MOST_PREPARED
        else:
            held[w].remove(task.group)
            done.append(task.group)
        heapq.heappush(ready, (now + seconds[task.group][task.half == FINISH], w))
    assert sorted(done) == list(range(len(seconds)))
    dearest = max(map(sum, seconds))
    assert max(ended.values()) - min(ended.values()) <= MOST_PREPARED * dearest + 1e-9
