"""Groups in, losses and metrics out."""

import numpy as np
import pytest
import torch

from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import ConfigError
from tgscale.snapshot.build import MODELS
from tgscale.snapshot.engine import SnapshotEngine, split_steps


@pytest.fixture
def make_engine(make_config):
    def make(dtype=torch.float64, **changes):
        config = make_config(**changes)
        return SnapshotEngine(config, open_snapshots(config.data), dtype=dtype)

    return make


@pytest.mark.parametrize("task", ["regression", "link"])
@pytest.mark.parametrize("model", MODELS)
def test_halves_make_the_whole_and_repeat(make_engine, model, task):
    engine = make_engine(model=model, task=task)
    whole = engine.loss(3, 1)
    assert torch.equal(whole, engine.loss(3, 1))
    assert torch.equal(whole, engine.finish(engine.ahead(3, 1)))
    assert torch.isfinite(whole)
    assert (model == "mpnn_lstm") == engine.stochastic


def test_the_plan_does_not_change_what_is_learned(make_engine):
    off = {f"plan__{name}": False for name in ("associate", "fold", "share", "merge", "hoist", "cache", "fuse")}
    for model in MODELS:
        losses = [make_engine(model=model, **plan).loss(2, 0) for plan in ({}, off)]
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)


def test_items_and_the_loss_count_the_same(make_engine):
    engine = make_engine(task="link", train__edges_per_step=30)
    assert engine.items(0) == 4 * 30
    assert make_engine(task="link", train__loss_on="last").items(0) == 30
    assert make_engine(task="link", model="a3tgcn").items(0) == 30
    assert make_engine(task="regression").items(0) == 4 * 40


def test_nothing_of_validation_or_test_is_trained_on(make_engine):
    """Whatever comes after the last training label does not matter to the training loss."""
    engine = make_engine(task="link")
    last = len(engine.groups) - 1
    labelled = range(int(engine.groups.first[last]) + 1, int(engine.groups.first[last]) + 4 + 1)
    assert labelled.stop - 1 == engine.parts.train.stop - 1
    before = engine.loss(last, 0)
    engine.data.x[engine.parts.train.stop :] = 7.0
    engine.placement.keep(engine.plan)
    assert torch.equal(before, engine.loss(last, 0))


@torch.no_grad()
def test_evaluation_sees_a_window_that_ends_before_the_label(make_engine):
    engine = make_engine(task="link", model="tgcn")
    step = engine.parts.test[0]
    before = engine._score_step(step)
    engine.data.x[step:] = 7.0  # the labelled step and later ones
    engine.data.x[: step - 4] = 7.0  # what the window does not reach
    engine.placement.keep(engine.plan)
    np.testing.assert_array_equal(before, engine._score_step(step))
    engine.data.x[step - 1] = 7.0
    engine.placement.keep(engine.plan)
    assert not np.array_equal(before, engine._score_step(step))


def test_steps_are_split_by_time(make_config):
    parts = split_steps(make_config(), 101, 1)
    assert parts.train == range(1, 71)
    assert parts.val == range(71, 86)
    assert parts.test == range(86, 101)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 60}, "window"),
        ({"task": "edge"}, "--label"),
        ({"eval__val": 0.0001, "eval__test": 0.1}, "none to val on"),
        ({"net__features": "nope"}, "features"),
    ],
)
def test_options_that_do_not_fit_the_data(make_engine, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_engine(**changes)
