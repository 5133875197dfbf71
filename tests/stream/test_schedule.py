from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.stream.layout import Layout
from tgscale.stream.schedule import Schedule


def schedule(layout, batches, epochs, last=10, **kwargs):
    """Batches of 10 events, the last one of ``last``."""
    return Schedule(Layout.parse(layout), (batches - 1) * 10 + last, 10, epochs, **kwargs)


# A line per trainer, a column per iteration. 3b: local batch 3, second negative set; R reads, W writes, 0 empty memory.
TABLES = {
    ("1x1x1", 3, 2): """
        0a0W 1aRW 2aRW 0a0W 1aRW 2aRW""",
    ("3x1x1", 7, 2): """
        0a0W 3aRW 6aRW 0a0W 3aRW 6aRW
        1a0W 4aRW .    1a0W 4aRW .
        2a0W 5aRW .    2a0W 5aRW .""",
    ("1x3x1", 5, 6): """
        0a0W 0b   0c   3aRW 3b   3c   1aRW 1b   1c   4aRW 4b   4c
        .    1aRW 1b   1c   4aRW 4b   4c   2aRW 2b   2c   .    .
        .    .    2aRW 2b   2c   0a0W 0b   0c   3aRW 3b   3c   .""",
    ("1x1x3", 7, 3): """
        0a0W 1aRW 2aRW 3aRW 4aRW 5aRW 6aRW
        2a0W 3aRW 4aRW 5aRW 6aRW 0a0W 1aRW
        4a0W 5aRW 6aRW 0a0W 1aRW 2aRW 3aRW""",
    ("2x2x2", 8, 4): """
        0a0W 0b   4aRW 4b   .
        1a0W 1b   5aRW 5b   .
        .    2aRW 2b   6aRW 6b
        .    3aRW 3b   7aRW 7b
        4a0W 4b   0a0W 0b   .
        5a0W 5b   1a0W 1b   .
        .    6aRW 6b   2aRW 2b
        .    7aRW 7b   3aRW 3b""",
    ("2x1x2", 5, 2): """
        0a0W 2aRW 4aRW
        1a0W 3aRW .
        2a0W 4aRW 0a0W
        3a0W .    1a0W""",
    ("1x1x3", 2, 3): """
        0a0W 1aRW
        0a0W 1aRW
        1a0W 0a0W""",
    ("4x1x1", 2, 2): """
        0a0W 0a0W
        1a0W 1a0W
        .    .
        .    .""",
}


@pytest.mark.parametrize(("case", "table"), TABLES.items(), ids=lambda x: " ".join(map(str, x)) if len(x) == 3 else "")
def test_literal_tables(case, table):
    layout, batches, epochs = case
    expected = [line.split() for line in table.strip().splitlines()]
    made = schedule(layout, batches, epochs).table()
    assert [line.split() for line in made.splitlines()] == expected


layouts = st.builds(Layout, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
schedules = st.builds(
    Schedule, layouts, num_events=st.integers(1, 120), batch_size=st.integers(1, 20), epochs=st.integers(1, 9)
)


@given(schedules)
@settings(max_examples=150, deadline=None)
def test_what_every_schedule_keeps(s):
    layout = s.layout
    traversed, copy_at, seen = 0, [-1] * layout.memory, Counter()
    for t in range(s.iterations):
        events = 0
        reading, writers = defaultdict(set), defaultdict(list)
        for trainer in range(layout.world):
            task, group = s.task(t, trainer), layout.place(trainer)[2]
            if task is None:
                continue
            first, stop = s.range(task.batch)
            assert 0 <= first < stop <= s.num_events
            events += stop - first
            seen[task.batch, task.traversal] += 1
            assert task.writes == (task.negative_set == 0) == (task.reads or task.resets)
            assert task.position == t - task.negative_set
            if task.writes:
                writers[group].append(task.batch)
                reading[group].add(task.resets)
        for group in range(layout.memory):
            if (
                t < s.positions
            ):  # exactly one global batch per copy and iteration, in time order, from its trainers in order
                G = s.global_batch(group, t)
                expected = range(G * layout.minibatch, min((G + 1) * layout.minibatch, s.num_batches))
                assert writers[group] == list(expected)
                assert len(expected) == s.writers(group, t)
                assert reading[group] == {t == 0 or G == 0}
                before = copy_at[group] + 1 if t else s.start(group)
                assert before % s.num_global_batches == G
                copy_at[group] = G
            else:
                assert not writers[group]
        assert events == s.events(t)
        traversed += events
    assert set(seen.values()) == {1}  # no batch meets the same negatives twice
    budget = s.epochs * s.num_events
    one_position = layout.world * s.batch_size * layout.epoch
    assert budget <= traversed < budget + one_position
    assert s.ends_sweep(s.iterations - 1)


@given(schedules)
@settings(max_examples=100, deadline=None)
def test_a_trainer_keeps_its_batch_for_j_iterations(s):
    for trainer in range(s.layout.world):
        held = {}
        for t in range(s.iterations):
            task = s.task(t, trainer)
            if task:
                held.setdefault(task.position, []).append((t, task.batch, task.negative_set))
        for position, steps in held.items():
            assert steps == [(position + q, steps[0][1], q) for q in range(s.layout.epoch)]


def test_one_trainer_walks_through_the_epochs_as_a_plain_loop_does():
    s = schedule("1x1x1", 4, 3, last=7)
    walked = [(t.batch, t.traversal, t.resets) for t in map(lambda t: s.task(t, 0), range(s.iterations))]
    assert walked == [(batch, epoch, batch == 0) for epoch in range(3) for batch in range(4)]
    assert [t for t in range(s.iterations) if s.ends_sweep(t)] == [3, 7, 11]


def test_x_trainers_run_a_share_of_the_iterations():
    for layout in ("8x1x1", "1x8x1", "1x1x8", "2x2x2", "1x4x2"):
        s = schedule(layout, 64, 16)
        assert s.positions == 64 * 16 / 8
        assert s.iterations == s.positions + s.layout.epoch - 1


def test_copies_that_were_filled_do_not_begin_empty():
    warm, cold = schedule("1x1x2", 4, 2, warm=True), schedule("1x1x2", 4, 2)
    assert cold.table().splitlines()[1].split() == ["2a0W", "3aRW", "0a0W", "1aRW"]
    assert warm.table().splitlines()[1].split() == ["2aRW", "3aRW", "0a0W", "1aRW"]
    assert warm.table().splitlines()[0] == cold.table().splitlines()[0]


@pytest.mark.parametrize("text", ["2x2", "0x1x1", "1x1x1x1", "axbxc", "", "2*1*1"])
def test_layouts_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="layout"):
        Layout.parse(text)


def test_trainers_of_a_group_are_consecutive():
    layout = Layout.parse("2x3x2")
    assert str(layout) == "2x3x2"
    assert [layout.place(t) for t in range(layout.world)] == [
        (b, e, m) for m in range(2) for e in range(3) for b in range(2)
    ]
