"""Trainers in processes of their own, on each backend that has several, against the reference."""

from dataclasses import asdict

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tgscale.memory import shared

from .processes import Remote, shared_files
from .walks import Position, Walk, walks


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    """Three processes that are connected."""
    processes = [Remote() for _ in range(3)]
    store = str(tmp_path_factory.mktemp("trainers") / "store")
    for rank, process in enumerate(processes):
        process.start("connect", store=store, rank=rank, world=3)
    assert [process.result() for process in processes] == [None] * 3
    yield processes
    for process in processes:
        process.kill()


BACKENDS = ["replicated", *(["shared"] if shared.is_available() else [])]


def go(trainers, walk, backend):
    for trainer in trainers:
        trainer.start("walk", walk=asdict(walk), backend=backend)
    assert [trainer.result() for trainer in trainers] == [[]] * len(trainers)
    assert not shared_files()


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # trainers that hang would hang again and again
quick = settings(max_examples=12, deadline=None, phases=PHASES)
thorough = settings(max_examples=120, deadline=None, phases=PHASES)
any_walk = given(walk=walks(firsts=(0, 5), most_members=3), backend=st.sampled_from(BACKENDS))


CLASHES = [
    Position(False, [[0, 1], [1, 2]], [[0, 3], [0, 3, 4]]),
    Position(False, [[0, 3], [3, 4]], [[1, 0], [2, 1]]),
    Position(True, [[1], [2]], [[5, 1], [1]]),
    Position(False, [[1, 5, 0]], [[1]]),
    Position(False, [[1, 0], [5]], [[0, 1], [1]]),
]


@quick
@any_walk
@example(walk=Walk(2, 1, 5, CLASHES, ahead=False, double=False), backend=BACKENDS[0])
@example(walk=Walk(2, 1, 0, CLASHES, ahead=True, double=True), backend=BACKENDS[-1])
def test_trainers_in_processes_equal_the_reference(trainers, walk, backend):
    go(trainers, walk, backend)


@pytest.mark.slow
@thorough
@any_walk
def test_trainers_in_processes_equal_the_reference_on_many_walks(trainers, walk, backend):
    go(trainers, walk, backend)
