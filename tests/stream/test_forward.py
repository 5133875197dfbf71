"""Products in bfloat16, and the compiled model, against the usual step."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from tgscale.errors import ConfigError
from tgscale.nn.decoder import link_loss
from tgscale.stream import forward
from tgscale.stream.device_loop import DeviceLoop
from tgscale.stream.forward import check_forward
from tgscale.stream.loop import TrainingLoop

CPU = torch.device("cpu")


def one_step(engine, batches=8):
    """Loss and gradients of a batch in the middle of the stream, and the memory that it leaves."""
    for start in range(0, batches * 20, 20):
        engine.advance(start, start + 20)
    engine.model.train()
    batch = engine.builder.range(batches * 20, batches * 20 + 20, 1, seed=3)
    loss = link_loss(engine.score(batch))
    loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])
    return loss.detach(), gradients, engine.memory.state_dict()


@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_bf16_is_close_to_fp32_and_keeps_the_memory_in_fp32(make_engine, preset, tmp_path):
    # A few of the pair features: with all, the gradient of 20 events is so near zero that rounding is a tenth of it.
    changes = {"model__dropout": 0.0, "static__dropout": 0.0, "static__cache": tmp_path, "model__pair_groups": ()}
    loss, gradients, memory = one_step(make_engine(preset=preset, **changes))
    near_loss, near_gradients, near_memory = one_step(make_engine(preset=preset, precision="bf16", **changes))
    assert near_loss.dtype == near_gradients.dtype == near_memory["memory"].dtype == torch.float32
    assert near_loss != loss  # it did compute otherwise
    assert abs(near_loss - loss) < 1e-2 * loss
    assert (near_gradients - gradients).norm() < 5e-2 * gradients.norm()
    assert (near_memory["memory"] - memory["memory"]).abs().max() < 1e-2
    assert torch.equal(near_memory["memory_time"], memory["memory_time"])


def test_the_state_is_not_rounded(make_engine):
    _, _, memory = one_step(make_engine(precision="bf16"))
    rounded = memory["memory"].bfloat16().float()
    assert (rounded != memory["memory"]).any()


@pytest.mark.parametrize("kind", [TrainingLoop, DeviceLoop])
def test_training_in_bf16_learns(make_engine, kind):
    losses = {}
    for precision in ("fp32", "bf16"):
        loop = kind.in_process(make_engine(precision=precision, train__epochs=4, model__dropout=0.0))
        sweep = loop.schedule.num_batches
        losses[precision] = []
        for stop in range(sweep, 4 * sweep + 1, sweep):
            loop.run(stop)
            losses[precision].append(loop.mean_loss())
    assert losses["bf16"][-1] < losses["bf16"][0] - 0.03
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=8e-2)


def test_evaluation_is_in_fp32_whatever_the_training_was(make_engine):
    results = []
    for precision in ("fp32", "bf16"):
        engine = make_engine(precision=precision)
        engine.model.eval()
        engine.advance(0, engine.split.train)
        results.append(engine.evaluate("val").summary(engine.new_node_events("val")))
    assert results[0] == results[1]


def test_refusals(make_config, monkeypatch):
    check_forward(make_config(precision="bf16"), CPU)
    with pytest.raises(ConfigError, match="cotrained"):
        check_forward(make_config(compile=True, static__mode="cotrained"), CPU)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        check_forward(make_config(compile=True), CPU)
    monkeypatch.setattr(forward, "has_triton", lambda: False)
    with pytest.raises(ConfigError, match="Triton"):
        check_forward(make_config(compile=True), torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not forward._cxx(), reason="no C++ compiler on this machine")
@pytest.mark.parametrize("kind", [TrainingLoop, DeviceLoop])
def test_the_compiled_model_trains_the_same(make_engine, kind):
    torch._dynamo.reset()
    counters.clear()
    losses, memories = [], []
    for compiled in (False, True):
        loop = kind.in_process(make_engine(double=True, compile=compiled, model__dropout=0.0))
        each = []
        for t in range(4):
            loop.run(t + 1)
            each.append(loop.mean_loss())
        losses.append(each)
        memories.append(loop.memory_of(0))
    assert counters["stats"]["unique_graphs"] >= 3  # update, embed and score
    assert not counters["graph_break"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    torch.testing.assert_close(memories[1], memories[0], rtol=1e-9, atol=1e-11)
