"""The step in tensors of fixed shape against the usual one."""

import pytest
import torch

from tgscale.data.store import save_stream
from tgscale.errors import ConfigError
from tgscale.nn import dispatch
from tgscale.stream.device_loop import DeviceLoop, uses_device_graph
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.trainer import resume, train_stream
from tgscale.train.checkpoint import Checkpointer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def walk(loop, iterations):
    """Loss and gradients of every iteration."""
    losses, gradients = [], []
    for t in range(iterations):
        loop.run(t + 1)
        losses.append(loop.mean_loss())
        gradients.append(loop.gradients.flat.clone())
    return torch.tensor(losses), torch.stack(gradients)


def compare(engines, iterations, plain=False):
    usual, whole = (cls.in_process(engine) for cls, engine in zip((TrainingLoop, DeviceLoop), engines, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "plain_tensors", plain)
        found = walk(whole, iterations)
    expected = walk(usual, iterations)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    for name, column in usual.memory_of(0).items():
        torch.testing.assert_close(whole.memory_of(0)[name], column, rtol=1e-9, atol=1e-11)
    for name, weight in engines[0].model.state_dict().items():
        torch.testing.assert_close(engines[1].model.state_dict()[name], weight, rtol=1e-8, atol=1e-10)
    return usual, whole


CASES = {
    "default": {},
    "disttgl": {"preset": "disttgl"},
    "constant rate": {"train__schedule": "constant"},
    "uniform": {"sampling__strategy": "uniform", "sampling__window": 60},
    "roots node": {"sampling__roots": "node"},
    "learned time": {"model__time_encoding": "learned", "model__updater": "rnn"},
    "many negatives": {"train__negatives": 5, "train__weight_decay": 0.1},
}


@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_usual_step_over_sweeps_with_short_last_batches(make_engine, case, tmp_path):
    changes = {"model__dropout": 0.0, "train__epochs": 2, "static__dropout": 0.0, "static__cache": tmp_path}
    engines = [make_engine(double=True, **{**changes, **CASES[case]}) for _ in range(2)]
    assert engines[0].split.train % engines[0].config.train.batch_size  # the last batch is short
    usual, whole = compare(engines, TrainingLoop.in_process(engines[0]).schedule.iterations)
    assert whole.iteration == usual.iteration == 2 * usual.schedule.num_batches
    assert whole.rows_written >= usual.rows_written


@pytest.mark.parametrize("case", ["default", "learned time"])
def test_it_equals_the_usual_step_in_what_a_gpu_computes(make_engine, case):
    """Plain tensor operations, as on a GPU, against the CPU's kernels."""
    compare([make_engine(double=True, model__dropout=0.0, **CASES[case]) for _ in range(2)], 14, plain=True)


def test_a_batch_larger_than_the_stream(make_engine):
    compare([make_engine(double=True, model__dropout=0.0, train__batch_size=500) for _ in range(2)], 2)


def test_it_counts_the_rows_that_it_reads(make_engine):
    loop = DeviceLoop.in_process(make_engine())
    loop.whole_step.aim(0, seed=0)
    event = torch.arange(loop.whole_step.batch_size)
    batch, count = loop.whole_step.batch(event)
    used = torch.cat([batch.block.roots, batch.block.slot.flatten()])
    assert count == len(used.unique())
    loop.run(1)
    loop.mean_loss()
    assert loop.rows_read == count
    assert loop.rows_written == 2 * len(event)


def test_nodes_are_given_the_room_that_is_always_enough(make_engine):
    few = DeviceLoop.in_process(make_engine()).whole_step
    assert few.capacity == few.engine.stream.num_nodes == 30
    many = DeviceLoop.in_process(make_engine(train__batch_size=1, sampling__neighbors=2)).whole_step
    assert many.capacity == 3 * (1 + 2)
    for start in range(0, 40, 7):
        _, count = many.batch(torch.tensor([start]))
        assert count <= many.capacity


def test_it_goes_on_where_it_was_saved_bit_for_bit(make_engine):
    """Dropout included: random numbers depend on the iteration alone."""

    def new():
        return DeviceLoop.in_process(make_engine(train__epochs=2))

    whole = new()
    whole.run(whole.schedule.iterations)
    for at in (4, whole.schedule.num_batches):
        before = new()
        before.run(at)
        after = new()
        after.load(before.shared_state(), before.state_dict())
        after.run(after.schedule.iterations)
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                [*whole.engine.model.state_dict().values(), *whole.memory_of(0).values()],
                [*after.engine.model.state_dict().values(), *after.memory_of(0).values()],
                strict=True,
            )
        )


def test_where_it_applies(make_config):
    assert uses_device_graph(make_config(), CUDA)
    assert not uses_device_graph(make_config(), CPU)
    assert uses_device_graph(make_config(device_graph="on"), CPU)
    assert not uses_device_graph(make_config(device_graph="off"), CUDA)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"emulate": "1x1x2"}, "1x1x2"),
        ({"layout": "2x1x1"}, "2x1x1"),
        ({"memory_backend": "shared"}, "memory_backend shared"),
        ({"static__mode": "cotrained"}, "cotrained"),
        ({"pipeline__depth": 2}, "pipeline.depth"),
        ({"pipeline__slice_features": True}, "pipeline.slice_features"),
        ({"pipeline__cache": "somewhere"}, "pipeline.cache"),
        ({"pipeline__sample_on": "host"}, "pipeline.sample_on"),
    ],
)
def test_where_it_does_not_apply(make_config, change, named):
    assert not uses_device_graph(make_config(**change), CUDA)
    with pytest.raises(ConfigError, match=named):
        uses_device_graph(make_config(device_graph="on", **change), CUDA)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_replays_equal_the_step_without_a_graph(make_stream, make_config):
    states = []
    for captured in (True, False):
        engine = StreamEngine(make_config(device="cuda", train__epochs=3), make_stream(), CUDA)
        loop = DeviceLoop.in_process(engine)
        loop._may_capture = captured
        loop.run(5)
        torch.cuda.set_sync_debug_mode("error")  # nothing waits for the device inside a sweep
        try:
            loop.run(loop.schedule.num_batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        loop.run(loop.schedule.iterations)
        assert loop.captured == captured
        states.append([*engine.model.state_dict().values(), *loop.memory_of(0).values()])
    for a, b in zip(*states, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # products may split their sums otherwise


class Interrupt(Exception):
    pass


def test_a_run_that_was_interrupted_goes_on_from_its_checkpoint(make_config, make_stream, monkeypatch, tmp_path):
    """The learning rate is a tensor by then, and a checkpoint holds it."""
    save_stream(make_stream(), tmp_path / "data")
    changes = {"data": tmp_path / "data", "device_graph": "on", "train__epochs": 2, "checkpoint_every": 4}
    whole = train_stream(make_config(run=tmp_path / "whole", **changes))
    step = DeviceLoop.step

    def dies(self):
        if self.iteration == 14:
            raise Interrupt
        step(self)

    config = make_config(run=tmp_path / "again", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(DeviceLoop, "step", dies)
        with pytest.raises(Interrupt):
            train_stream(config)
    again = resume(tmp_path / "again")
    assert [again[part] for part in ("val", "test")] == [whole[part] for part in ("val", "test")]
    states = [Checkpointer(tmp_path / run / "checkpoints" / "steps").load()[1] for run in ("whole", "again")]
    for state in states:
        state["shared"].pop("seconds")
    torch.testing.assert_close(*(state["shared"]["model"] for state in states), rtol=0, atol=0)
    torch.testing.assert_close(*(state["own"]["memory"] for state in states), rtol=0, atol=0)
    optimizers = [state["shared"]["optimizers"][0]["state"] for state in states]
    torch.testing.assert_close(*optimizers, rtol=0, atol=0)
