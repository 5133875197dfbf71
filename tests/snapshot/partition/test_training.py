"""Training with groups split over processes: losses and gradients add up to those of one process."""

from functools import cache

import pytest
import torch

from tgscale.snapshot.placement import LocalPlacement

from .cases import Training

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


@cache
def alone(placement, *choices):
    return Training(placement, *choices).run(LocalPlacement)


def check(team, placement, *choices):
    loss, grads = alone("vertex", *choices)
    found = team("run_case", case=Training(placement, *choices))
    assert sum(each[0] for each in found) == pytest.approx(loss, rel=1e-10)
    for name, grad in grads.items():
        parts = [each[1][name] for each in found if each[1][name] is not None]
        torch.testing.assert_close(sum(parts), grad, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("model", ["tgcn", "gconv_gru", "evolvegcn_h", "mpnn_lstm"])
@pytest.mark.parametrize("task", ["regression", "link", "edge"])
@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_a_step(team, placement, task, model):
    check(team, placement, task, model)


@pytest.mark.parametrize("task", ["regression", "link", "edge"])
@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_a_process_without_nodes_or_labels(three, placement, task):
    """Three processes, two nodes, and one edge of a snapshot that counts."""
    check(three, placement, task, "gconv_gru", 2, 1)
