import shutil
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.memory.replicated import ReplicatedMemory
from tgscale.memory.shared import is_available
from tgscale.stream import launch
from tgscale.stream.launch import check_layout, check_room, choose_backend, place_memories, plan_layout, rows_per_read
from tgscale.stream.layout import Layout
from tgscale.stream.loop import TrainingLoop
from tgscale.train.distributed import Ranks

from .conftest import build_engine

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
Usage = namedtuple("Usage", "total used free")


def four(machines=1):
    """The first of four ranks on some machines."""
    return Ranks(world=4, local_world=4 // machines)


def test_a_layout_is_what_was_asked_for(make_config, make_stream):
    assert plan_layout(make_config(layout="2x1x2"), make_stream(), four()) == "2x1x2"
    assert plan_layout(make_config(emulate="2x1x2"), make_stream(), Ranks()) == "auto"
    assert plan_layout(make_config(), make_stream(), Ranks()) == "1x1x1"


@pytest.mark.parametrize("machines", [1, 2, 4])
def test_a_planned_layout_fits_the_ranks_and_keeps_a_group_on_a_machine(make_config, make_stream, machines):
    ranks = four(machines)
    layout = plan_layout(make_config(), make_stream(), ranks)
    check_layout(make_config(layout=layout), ranks)
    assert Layout.parse(layout).memory % machines == 0


@pytest.mark.parametrize(
    ("options", "world", "words"),
    [
        ({"layout": "2x2x1"}, 2, ["needs 4 trainers, and there are 2", "start 4 (--workers 4, or torchrun", "1x1x2"]),
        ({"layout": "2x1x2"}, 1, ["needs 4 trainers, and there is 1", "--workers 4", "--emulate 2x1x2", "1x1x1"]),
        ({"layout": "1x1x1"}, 3, ["needs 1 trainer, and there are 3", "(1x1x3, 1x3x1, 3x1x1, or auto)"]),
        ({"emulate": "2x1x2"}, 4, ["runs all trainers in one process, and torchrun started 4", "--layout 2x1x2"]),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_what_does(make_config, options, world, words):
    with pytest.raises(ConfigError) as caught:
        check_layout(make_config(**options), Ranks(world=world))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "machines", "device", "backend"),
    [
        ("1x1x4", 1, CPU, "local"),
        ("1x1x4", 2, CPU, "local"),
        ("2x1x2", 1, CPU, "shared"),
        ("2x1x2", 2, CPU, "shared"),  # each group on a machine of its own
        ("4x1x1", 1, CPU, "shared"),
        ("4x1x1", 2, CPU, "replicated"),  # a group spans both
        ("1x4x1", 2, CPU, "replicated"),
        ("2x1x2", 1, GPU, "replicated"),
    ],
)
@pytest.mark.skipif(not is_available(), reason="the shared memory backend needs Linux")
def test_the_backend_follows_from_where_a_group_is(make_config, layout, machines, device, backend):
    assert choose_backend(make_config(layout=layout), device, four(machines)) == backend


def test_an_emulated_layout_is_held_here(make_config):
    assert choose_backend(make_config(emulate="2x2x1"), CPU, Ranks()) == "local"


@pytest.mark.parametrize(
    ("options", "ranks", "words"),
    [
        (
            {"layout": "2x1x2", "memory_backend": "local"},
            four(),
            ["2 share one", "shared, replicated or auto", "1x1xK"],
        ),
        (
            {"layout": "4x1x1", "memory_backend": "shared"},
            four(2),
            ["do not fit into the 2 of a machine", "replicated"],
        ),
        ({"layout": "1x1x1", "memory_backend": "replicated"}, Ranks(), ["this run is one", "auto"]),
        ({"emulate": "2x1x1", "memory_backend": "shared"}, Ranks(), ["an emulated run is one", "auto"]),
    ],
)
def test_a_backend_that_cannot_serve_is_refused(make_config, options, ranks, words):
    with pytest.raises(ConfigError) as caught:
        choose_backend(make_config(**options), CPU, ranks)
    for word in words:
        assert word in str(caught.value)


def test_the_shared_backend_is_refused_where_there_is_none(make_config, monkeypatch):
    monkeypatch.setattr(launch, "is_available", lambda: False)
    assert choose_backend(make_config(layout="2x1x2"), CPU, four()) == "replicated"
    with pytest.raises(ConfigError, match="memory_backend shared needs Linux"):
        choose_backend(make_config(layout="2x1x2", memory_backend="shared"), CPU, four())


ROW = 3 * 8 * 4 + 16  # bytes of a node's memory and mail at the width of 8 that the tests use


@pytest.mark.parametrize(
    ("options", "ranks", "copies"),
    [
        ({"layout": "1x1x1"}, Ranks(), 1 + 2),
        ({"layout": "2x1x2"}, four(), 2 + 2 * 4),
        ({"layout": "2x1x2"}, four(2), 1 + 2 * 2),
        ({"layout": "4x1x1"}, four(2), 2 + 2 * 2),
        ({"layout": "4x1x1", "memory_backend": "replicated"}, four(), 4 + 2 * 4),
    ],
)
def test_memory_that_does_not_fit_is_refused(make_config, make_stream, tmp_path, monkeypatch, options, ranks, copies):
    config, stream = make_config(run=tmp_path / "run", **options), make_stream(nodes=1000)
    monkeypatch.setattr(launch, "free_memory_bytes", lambda: copies * 1000 * ROW)
    check_room(config, stream, CPU, ranks)
    monkeypatch.setattr(launch, "free_memory_bytes", lambda: copies * 1000 * ROW - 1)
    with pytest.raises(ConfigError, match=f"the node memory does not fit: 1,000 nodes .* {copies} copies.* model.dim"):
        check_room(config, stream, CPU, ranks)


def test_a_disk_without_room_for_the_checkpoints_is_refused(make_config, make_stream, tmp_path, monkeypatch):
    config, stream = (
        make_config(layout="2x1x2", run=tmp_path / "new" / "run", keep_checkpoints=3),
        make_stream(nodes=1000),
    )
    needed = ((3 + 1) * 2 + 2) * 1000 * ROW
    asked = []

    def usage(free):
        return lambda folder: asked.append(folder) or Usage(0, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage(needed))
    check_room(config, stream, CPU, four())
    monkeypatch.setattr(shutil, "disk_usage", usage(needed - 1))
    with pytest.raises(ConfigError, match=r"its checkpoints may take .* smaller --keep-checkpoints"):
        check_room(config, stream, CPU, four())
    assert asked == [tmp_path, tmp_path]  # the folder that there is
    check_room(config, stream, CPU, Ranks(rank=1, world=4, local_world=4))  # the first speaks for all
    saved = tmp_path / "new" / "run" / "checkpoints" / "steps" / "step-00000001"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text("{}")
    check_room(config, stream, CPU, four())  # what is taken by checkpoints already is not needed once more


@settings(deadline=None, max_examples=20)
@given(
    i=st.integers(1, 2),
    j=st.integers(1, 3),
    negatives=st.integers(1, 3),
    neighbors=st.integers(1, 5),
    batch_size=st.integers(1, 40),
)
def test_no_trainer_asks_for_more_rows_than_there_is_room_for(i, j, negatives, neighbors, batch_size):
    options = {"train__negatives": negatives, "train__batch_size": batch_size, "sampling__neighbors": neighbors}
    engine = build_engine(emulate=f"{i}x{j}x1", **options)
    loop = TrainingLoop.in_process(engine)
    most = rows_per_read(engine.config, engine.stream.num_nodes)
    positions = range(min(loop.schedule.positions, 12))
    for position in positions:
        for trainer in loop._row(position):
            if loop.schedule.task(position, trainer):
                assert len(loop._make((position, trainer)).nodes) <= most


def test_a_copy_of_one_trainer_is_in_its_process(make_engine):
    name, memories = place_memories(make_engine(layout="1x1x1").config, make_engine(), Ranks())
    assert name == "local"
    assert list(memories) == [0]
    assert not isinstance(memories[0], ReplicatedMemory)
