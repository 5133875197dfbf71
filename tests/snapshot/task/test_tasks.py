"""Losses and metrics of the three tasks on literal cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DivergedError
from tgscale.snapshot.config import SnapshotConfig, SnapshotEvalConfig, SnapshotOptimConfig
from tgscale.snapshot.task.edges import EdgeClassification, StepEdges, compact
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression

CPU = torch.device("cpu")


def config(**changes):
    return SnapshotConfig(
        Path("data"),
        Path("run"),
        train=SnapshotOptimConfig(edges_per_step=changes.get("edges", 100), negatives=2),
        eval=SnapshotEvalConfig(edges_per_step=changes.get("scored", 100), negatives=changes.get("negatives", 3)),
    )


def sequence(steps=6, nodes=9, edges=20, seed=0, **more):
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(steps), edges)
    src, dst = rng.integers(0, nodes, (2, len(step)))
    label = rng.integers(3, 6, len(step)) if more.pop("labels", False) else None
    return SnapshotSequence.from_arrays(step, src, dst, num_nodes=nodes, num_steps=steps, edge_label=label, **more)


class Constant(torch.nn.Module):
    """A head whose answer does not depend on anything."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, h, *rest):
        return self.value.expand(*h.shape[:-1], 1)


def test_regression_in_the_source_units():
    target = np.arange(12, dtype=np.float32).reshape(4, 3, 1)
    task = Regression(sequence(4, 3, 2, target=target, target_mean=10.0, target_std=2.0), CPU, torch.float64)
    head = Constant(torch.zeros(1, dtype=torch.float64))
    h = torch.zeros(3, 1)
    assert task.items(2) == 3
    assert task.loss(head, h[None], range(2, 3), 0, slice(0, 3), (0, 1)) == 6**2 + 7**2 + 8**2
    assert task.loss(head, h[None, :1], range(2, 3), 0, slice(1, 2), (0, 1)) == 7**2
    # Predicted 0, true 6, 7, 8, in units of 2.
    assert task.summarize(task.score(head, h, 2)) == {"mae": 14.0, "rmse": pytest.approx(2 * np.sqrt(149 / 3))}
    rules = task.baselines(range(3, 4), range(0, 2))
    assert rules["persistence"] == {"mae": 6.0, "rmse": 6.0}  # each target is 3 more than the one before
    assert rules["historical average"]["mae"] == 2 * (9 - 1.5)


def test_a_residual_begins_at_persistence_and_waits_until_targets_are_known():
    target = np.arange(12, dtype=np.float32).reshape(4, 3, 1)
    task = Regression(sequence(4, 3, 2, target=target, target_delay=2), CPU, torch.float64, residual=True)
    head, h = Constant(torch.zeros(1, dtype=torch.float64)), torch.zeros(3, 1)
    assert task.summarize(task.score(head, h, 3)) == task.baselines(range(3, 4), range(0, 2))["persistence"]
    assert task.loss(head, h[None], range(1, 2), 0, slice(0, 3), (0, 1)) == 3**2 + 4**2 + 5**2


@pytest.mark.parametrize(
    ("delay", "steps", "scored"),
    [
        (12, range(10, 12), []),  # 24 values, 12 ahead
        (30, range(8, 10), []),  # 40 values, 30 ahead: more than there are steps
        (3, range(2, 6), [3, 4, 5]),
        (2, range(2, 6), [2, 3, 4, 5]),
    ],
)
def test_persistence_knows_nothing_of_the_future(delay, steps, scored):
    target = np.random.default_rng(0).random((steps.stop, 3, 1), np.float32)
    task = Regression(sequence(steps.stop, 3, 2, target=target, target_delay=delay), CPU, torch.float64)
    rules = task.baselines(steps, range(0, 2))
    assert list(rules) == [*(["persistence"] if scored else []), "historical average"]
    if scored:
        errors = [np.abs(target[step] - target[step - delay]).mean() for step in scored]
        assert rules["persistence"]["mae"] == pytest.approx(np.mean(errors))


def test_picked_edges_are_those_of_the_step_and_repeat_by_seed():
    seq = sequence()
    edges = StepEdges(seq, CPU)
    for step in range(6):
        everything = edges.pick(step, 1000, 0)
        assert len(everything) == edges.count(step)
        src, dst = edges.ends(everything)
        expected_src, expected_dst = seq.edges(step)
        assert (src.numpy() == expected_src).all()
        assert (dst.numpy() == expected_dst).all()
        some = edges.pick(step, 7, 5)
        assert torch.equal(some, edges.pick(step, 7, 5))
        assert len(set(some.tolist())) == 7
        assert set(some.tolist()) <= set(everything.tolist())
    assert not torch.equal(edges.pick(2, 7, 5), edges.pick(2, 7, 6))


def test_compact_points_at_the_same_rows():
    h = torch.arange(10)[:, None]
    rows, (a, b) = compact(h, torch.tensor([7, 3]), torch.tensor([[3, 3], [9, 7]]))
    assert rows[:, 0].tolist() == [3, 7, 9]
    assert rows[a, 0].tolist() == [7, 3]
    assert rows[b][..., 0].tolist() == [[3, 3], [9, 7]]


def test_link_prediction_shares_its_edges_among_processes():
    task = LinkPrediction(sequence(), config(edges=11), CPU)
    torch.manual_seed(0)
    head, h = task.head(4), torch.randn(9, 4)
    whole = task.loss(head, [h], range(3, 4), 5, slice(0, 9), (0, 1))
    parts = [task.loss(head, [h], range(3, 4), 5, slice(0, 9), (rank, 3)) for rank in range(3)]
    torch.testing.assert_close(sum(parts), whole)
    assert task.items(3) == 11
    assert not torch.equal(whole, task.loss(head, [h], range(3, 4), 6, slice(0, 9), (0, 1)))


def test_negatives_are_never_the_true_destination():
    task = LinkPrediction(sequence(nodes=4), config(negatives=20), CPU)
    for step in range(1, 6):
        _, candidate = task._candidates(step, *task._scored(step))
        assert (candidate[:, 1:] != candidate[:, :1]).all()


def test_a_scorer_that_knows_nothing_gets_the_middle():
    task = LinkPrediction(sequence(), config(negatives=9), CPU)
    rows = task._rows(torch.zeros(5, 10))
    assert task.summarize(rows)["mrr"] == pytest.approx(1 / 5.5)


def test_edgebank_beats_chance_where_edges_come_back():
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 50, (2, 60))
    step = np.repeat(np.arange(8), 60)
    seq = SnapshotSequence.from_arrays(step, np.tile(src, 8), np.tile(dst, 8), num_nodes=50)
    rules = LinkPrediction(seq, config(negatives=20), CPU).baselines(range(5, 8), range(1, 5))
    assert rules["edgebank"]["mrr"] > 0.7  # some negatives have met the source, too
    assert rules["latest"]["mrr"] == rules["edgebank"]["mrr"]  # all edges are always there
    assert rules["popularity"]["mrr"] < 0.6


def test_edge_classification_on_a_literal_case():
    seq = SnapshotSequence.from_arrays([0, 1, 1, 1], [0, 0, 1, 2], [1, 1, 2, 0], edge_label=[7, 7, 7, 9])
    task = EdgeClassification(seq, config(), CPU)
    assert task.classes.tolist() == [7, 9]
    rule = task.baselines(range(1, 2), range(0, 1))["most frequent label"]
    assert rule == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx((0.8 + 0) / 2)}
    head, h = task.head(4), torch.randn(3, 4)
    whole = task.loss(head, [h], range(1, 2), 0, slice(0, 3), (0, 1))
    torch.testing.assert_close(sum(task.loss(head, [h], range(1, 2), 0, slice(0, 3), (k, 2)) for k in range(2)), whole)
    rows = task.score(head, h, 1)
    assert sorted(rows[:, 0].tolist()) == [0, 0, 1]


@torch.no_grad()
def test_nan_is_refused_where_it_is_scored():
    """The highest of NaN logits is some class, and a mean of errors would be NaN without a word."""
    target = np.zeros((3, 9, 1), np.float32)
    data = sequence(3, labels=True, target=target)
    tasks = [
        Regression(data, CPU, torch.float32),
        EdgeClassification(data, config(), CPU),
        LinkPrediction(data, config(), CPU),
    ]
    for task in tasks:
        head = task.head(4)
        task.score(head, torch.randn(9, 4), 1)
        with pytest.raises(DivergedError, match="NaN"):
            task.score(head, torch.full((9, 4), float("nan")), 1)


def test_data_that_do_not_fit_a_task():
    static = SnapshotSequence.from_arrays([0], [0], [1], graph_of=[0, 0, 0])
    with pytest.raises(ConfigError, match="no links to predict"):
        LinkPrediction(static, config(), CPU)
    with pytest.raises(ConfigError, match="--task link"):
        Regression(static, CPU, torch.float32)
    with pytest.raises(ConfigError, match="--label"):
        EdgeClassification(static, config(), CPU)
    same = SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 0], edge_label=[4, 4])
    with pytest.raises(ConfigError, match="label 4"):
        EdgeClassification(same, config(), CPU)
