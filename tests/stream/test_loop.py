"""Layouts in one process, against plain loops of a few lines each."""

import itertools

import pytest
import torch

from tgscale.data.store import save_stream
from tgscale.memory.local import LocalMemory
from tgscale.nn.decoder import link_loss
from tgscale.stream.layout import Layout
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.schedule import Schedule


def plain_training(engine, epochs):
    """One trainer, nothing but the textbook: for each batch, forward, backward, step; memory as it goes."""
    config, n = engine.config, engine.split.train
    optimizers = engine.optimizers()
    batches = [(start, min(start + config.train.batch_size, n)) for start in range(0, n, config.train.batch_size)]
    schedulers = engine.schedulers(optimizers, epochs * len(batches))
    losses = []
    engine.model.train()
    for step, (epoch, (start, stop)) in enumerate(itertools.product(range(epochs), batches)):
        if start == 0:
            engine.memory.reset()
        seed = config.seed * 1_000_003 + epoch
        engine.builder.sampler.seed = seed
        batch = engine.builder.range(start, stop, config.train.negatives, seed=seed + 1)
        engine.seed(step, 0)
        for p in engine.model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        loss = link_loss(engine.score(batch))
        loss.backward()
        for each in [*optimizers, *schedulers]:
            each.step()
        losses.append(loss.item())
    return losses


def run_loop(engine, iterations=None):
    """Losses of every iteration, and the loop."""
    loop, losses = TrainingLoop.in_process(engine), []
    for t in range(loop.schedule.iterations if iterations is None else iterations):
        loop.run(t + 1)
        losses.append(loop.mean_loss())
    return losses, loop


def same_state(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_one_trainer_equals_the_plain_loop_bit_for_bit(make_engine, preset, tmp_path):
    engine, plain = (make_engine(preset=preset, train__epochs=3, static__cache=tmp_path) for _ in range(2))
    expected = plain_training(plain, 3)
    losses, loop = run_loop(engine)
    assert losses == pytest.approx(expected, rel=1e-6)  # a mean over events, taken in double
    assert same_state(engine.model.state_dict(), plain.model.state_dict())
    assert same_state(loop.memory_of(0), plain.memory.state_dict())


def plain_layout(engine, layout, iterations):
    """Any layout by its definition: memory copies as dicts of positions, gradients averaged by hand. Dropout off."""
    i, j, k = layout.minibatch, layout.epoch, layout.memory
    config, n, size = engine.config, engine.split.train, engine.config.train.batch_size
    batches = [(start, min(start + size, n)) for start in range(0, n, size)]
    G = -(-len(batches) // i)
    optimizer = engine.optimizers()[0]
    engine.model.train()
    state = engine.memory.state
    copies = [LocalMemory(*state.memory.shape, dtype=state.memory.dtype) for _ in range(k)]
    kept = {}  # (copy, epoch row) -> for each batch of its global batch: ids of events, and rows read per negative set
    losses = []
    for t in range(iterations):
        grads, total, loss_sum = None, 0, 0.0
        writes = []
        for m, e in itertools.product(range(k), range(j)):
            position = t - (t - e) % j
            if position < 0:
                continue
            walked = m * G // k + position
            g, sweep = walked % G, walked // G
            if position == t and (g == 0 or t == 0):
                copies[m].reset()
            for b, (start, stop) in enumerate(batches[g * i : (g + 1) * i]):
                q = t - position
                seed = config.seed * 1_000_003 + (sweep * k + m) * j + q
                engine.builder.sampler.seed = seed
                batch = engine.builder.range(start, stop, config.train.negatives, seed=seed + 1)
                if q == 0:
                    kept[m, e, b] = copies[m].state_dict()
                view = LocalMemory(*state.memory.shape, dtype=state.memory.dtype)
                view.load_state_dict(kept[m, e, b])
                logits, write = engine.forward(view.read(batch.block.nodes), batch)
                loss = link_loss(logits) * (stop - start)
                found = torch.autograd.grad(
                    loss, [p for p in engine.model.parameters() if p.requires_grad], allow_unused=True
                )
                found = [torch.zeros(()) if g_ is None else g_ for g_ in found]
                grads = found if grads is None else [x + y for x, y in zip(grads, found, strict=True)]
                total, loss_sum = total + stop - start, loss_sum + loss.item()
                if q == 0:
                    writes.append((m, write))
        for m, write in writes:  # after all reads; later batches of a global batch come later, and win
            copies[m].write(write.nodes, write.rows)
        parameters = [p for p in engine.model.parameters() if p.requires_grad]
        for p, gradient in zip(parameters, grads, strict=True):
            p.grad = (gradient / total).expand_as(p).clone()
        optimizer.step()
        losses.append(loss_sum / total)
    return losses, copies


LAYOUTS = ["2x1x1", "1x2x1", "1x1x2", "2x2x1", "2x2x2", "3x1x2", "1x3x2", "1x1x5", "4x4x1"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_equals_its_definition(make_engine, layout):
    changes = {
        "emulate": layout,
        "train__schedule": "constant",
        "train__epochs": 200,
        "model__dropout": 0.0,
        "train__lr": 1e-3,
    }
    engine, plain = (make_engine(double=True, **changes) for _ in range(2))
    expected, copies = plain_layout(plain, Layout.parse(layout), 50)
    losses, loop = run_loop(engine, 50)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=1e-9, atol=1e-12)
    for group, copy in enumerate(copies):
        found = loop.memory_of(group)
        for name, column in copy.state_dict().items():
            torch.testing.assert_close(found[name], column, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layout", ["1x2x1", "1x3x1", "1x4x2"])
def test_memory_after_a_sweep_is_the_sequential_one_whatever_j(make_engine, layout, monkeypatch):
    """With frozen weights, epochs in flight do not move the memory: it goes through the stream once, in order."""
    states = []
    for emulate in ("1x1x1", layout):
        engine = make_engine(double=True, emulate=emulate, train__epochs=4 * Layout.parse(emulate).world)
        monkeypatch.setattr(engine, "optimizers", lambda: [])
        loop = TrainingLoop.in_process(engine)
        loop.run(loop.schedule.num_global_batches)
        states.append(loop.memory_of(0))
    assert states[0]["mail_event"].max() > 0
    for name, column in states[0].items():
        torch.testing.assert_close(states[1][name], column, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("i", [2, 3])
def test_the_last_event_of_a_global_batch_wins_wherever_its_trainer_sits(make_engine, i):
    engine = make_engine(emulate=f"{i}x1x1", train__epochs=i)
    loop = TrainingLoop.in_process(engine)
    stream, size = engine.stream, engine.config.train.batch_size
    for t in range(loop.schedule.num_global_batches):
        loop.run(t + 1)
        last = {}
        for event in range(min((t + 1) * i * size, engine.split.train)):
            last[int(stream.src[event])] = last[int(stream.dst[event])] = event
        mail_event = loop.memory_of(0)["mail_event"]
        assert {node: int(e) for node, e in enumerate(mail_event) if e >= 0} == last


def test_reads_of_j_negative_sets_are_made_once(make_engine, monkeypatch):
    engine = make_engine(emulate="1x3x1", train__epochs=6)
    loop = TrainingLoop.in_process(engine)
    requests = []
    for trainer, memory in loop.memories.items():
        original = memory.request

        def request(position, nodes, trainer=trainer, original=original):
            requests.append((trainer, position))
            original(position, nodes)

        monkeypatch.setattr(memory, "request", request)
    loop.run(loop.schedule.iterations)
    G = loop.schedule.num_global_batches
    issued = [(position % 3, position) for position in range(loop.schedule.positions) if position % G]
    assert sorted(requests, key=lambda r: r[1]) == issued  # the first of a sweep is not issued


@pytest.mark.parametrize("static", ["none", "cotrained"])
@pytest.mark.parametrize("layout", ["1x1x1", "2x1x1", "1x2x2", "2x3x2"])
def test_a_loop_goes_on_where_it_was_saved(make_engine, layout, static):
    def new():
        return make_engine(emulate=layout, static__mode=static, train__epochs=14)

    whole, loop = run_loop(new())
    for at in (1, 4, loop.schedule.num_global_batches, loop.schedule.iterations - 1):
        _, before = run_loop(new(), at)
        shared, own = before.shared_state(), before.state_dict()
        after = TrainingLoop.in_process(new())
        after.load(shared, own)
        losses = []
        for t in range(at, after.schedule.iterations):
            after.run(t + 1)
            losses.append(after.mean_loss())
        assert losses == whole[at:]
        assert same_state(after.engine.model.state_dict(), loop.engine.model.state_dict())
        assert same_state(after.memory_of(0), loop.memory_of(0))


@pytest.mark.parametrize("layout", ["1x1x1", "1x2x2"])
@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline__depth": 1},
        {"pipeline__depth": 3},
        {"pipeline__slice_features": True},
        {"pipeline__slice_features": True, "pipeline__depth": 2},
    ],
    ids=str,
)
def test_how_batches_get_to_the_step_changes_nothing(make_engine, layout, changes):
    whole, _ = run_loop(make_engine(emulate=layout, train__epochs=4))
    ahead, loop = run_loop(make_engine(emulate=layout, train__epochs=4, **changes))
    loop.close()
    assert ahead == whole


@pytest.mark.parametrize("slice_features", [False, True])
def test_cached_batches_change_nothing_but_when_negatives_come_again(
    make_engine, make_stream, tmp_path, slice_features
):
    save_stream(make_stream(), tmp_path / "data")
    changes = {"data": tmp_path / "data", "emulate": "1x2x1", "train__epochs": 8}
    whole, _ = run_loop(make_engine(**changes))
    cached = {**changes, "pipeline__cache": tmp_path / "cache", "pipeline__slice_features": slice_features}
    for hits in (0, 88):  # filled on the way, and then found
        losses, loop = run_loop(make_engine(**cached, pipeline__cache_sets=8))
        assert losses == whole
        assert loop.cache.report()["hits"] == hits
    losses, loop = run_loop(make_engine(**cached, pipeline__cache_sets=2))
    assert losses[:11] == whole[:11]  # the first sweep, with sets 0 and 1
    assert losses != whole


def test_copies_start_from_a_replay_of_the_part_before_them(make_engine):
    engine = make_engine(emulate="1x1x3", train__warm_start="replay", train__epochs=3)
    loop = TrainingLoop.in_process(engine)
    loop.replay()
    s, size = loop.schedule, engine.config.train.batch_size
    assert (loop.memory_of(0)["mail_event"] == -1).all()
    for group in (1, 2):
        events = loop.memory_of(group)["mail_event"]
        assert events.max() == s.start(group) * size - 1
        assert events[events >= 0].min() >= s.start(group - 1) * size
    loop.run(s.iterations)


def test_idle_trainers_change_nothing(make_engine):
    """More trainers than batches: those without a batch join with zero weight."""
    engine = make_engine(train__batch_size=150, emulate="4x1x1", train__epochs=2)
    losses, loop = run_loop(engine)
    assert loop.schedule.num_batches == 2
    assert len(losses) == 2
    assert all(0.3 < loss < 1 for loss in losses)


def test_a_budget_of_many_epochs_is_shared():
    assert Schedule(Layout(1, 2, 4), 1000, 10, 24).iterations == 100 * 3 + 1
