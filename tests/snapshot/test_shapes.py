"""The table of shapes says what the operator plans do."""

from pathlib import Path

import pytest

from tgscale.nn.program import AGGREGATE
from tgscale.snapshot.build import MODELS
from tgscale.snapshot.config import NetConfig, SnapshotConfig
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.shapes import SHAPES

F, C = 3, 16


def plan_of(name, cache):
    config = SnapshotConfig(Path("data"), Path("run"), name, net=NetConfig(hidden=C))
    return Plan(MODELS[name](config, F, 1), Rewrites(cache=cache))


def test_every_model_has_a_shape():
    assert set(SHAPES) == set(MODELS)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("cache", [False, True])
def test_columns_that_are_aggregated(name, cache):
    stages = plan_of(name, cache).stages
    ahead = sum(node.inputs[0].width for node in stages.ahead if node.op == AGGREGATE)
    # A recurrence that runs as one call aggregates, by each operator it names, once per gate that cannot share.
    scans = [node.attrs for node in stages.scans if node.op == "scan"]
    in_loop = sum(C * (2 if kind == "gru" else 1) for kind, operators, *_ in scans for each in operators if each)
    assert SHAPES[name].aggregated(F, C, cache) == (ahead, in_loop)
    assert not any(node.op == AGGREGATE for node in [*stages.loop, *stages.after])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("cache", [False, True])
def test_columns_that_are_handed_on(name, cache):
    plan = plan_of(name, cache)
    handed = [node for node in plan.crossing() if node.per_node and node.op != "input" and node not in plan.stages.kept]
    assert SHAPES[name].handed_on(F, C, cache)[0] == sum(node.width for node in handed)
