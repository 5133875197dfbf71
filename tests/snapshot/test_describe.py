"""FLOP, bytes and savings of operator plans, counted by hand."""

import numpy as np
import pytest

from tgscale.data.snapshots import SnapshotSequence
from tgscale.models.gclstm import GCLSTM
from tgscale.models.tgcn import TGCN
from tgscale.nn.program import Program, aggregate, sigmoid
from tgscale.snapshot.describe import Sizes, describe, distinct, notes, summary, work
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.tensors import SnapshotData

N, E, W, F, C = 10, 30.0, 4, 3, 8


def sizes(model) -> Sizes:
    rows = {name: p.shape[-2] for name, p in model.named_parameters() if p.dim() > 1}
    return Sizes(N, E, W, rows)


def test_work_of_single_operators():
    p = Program()
    x, weight = p.input("x", F), p.parameter("w", C)
    of = Sizes(N, E, W, {"w": F})
    # Per edge a multiplication and an addition; an index, a weight and a row read; a row per node written.
    assert work(aggregate("gcn", x), of) == (2 * E * W * F, E * W * (8 + 4 * F) + N * W * F * 4)
    assert work(x @ weight, of) == (2 * N * W * F * C, 4 * (N * W * F + N * W * C + F * C))
    assert work(sigmoid(x), of) == (N * W * F, 4 * N * W * 2 * F)


def test_tgcn_as_written_and_planned():
    model = TGCN(F, C)
    found = summary(Plan(model), sizes(model))
    assert found["as written"]["graph calls"] == 3 * W  # one for each gate and step
    assert found["planned"]["graph calls"] == 0
    assert found["planned"]["calls"] == 2  # a product for all gates and steps, and the recurrence
    assert found["as written"]["graph bytes"] == pytest.approx(3 * (E * W * (8 + 4 * C) + N * W * C * 4))
    assert found["kept_bytes_per_step"] == N * F * 4
    kept, product, scan = describe(Plan(model), sizes(model))
    assert (kept.stage, kept.kind, kept.depends) == ("once", "graph", "const")
    assert (product.stage, product.kind, product.depends) == ("ahead", "dense", "weights")
    assert product.flops == 2 * N * W * F * 3 * C
    assert (scan.stage, scan.depends) == ("scan", "state")


def test_the_balance_of_the_machine_says_what_binds():
    model = TGCN(F, C)
    bound = [{each.bound for each in describe(Plan(model), sizes(model), balance)} for balance in (0.0, 1e9)]
    assert bound == [{"compute"}, {"memory"}]


def test_notes_say_what_could_not_be_kept():
    assert notes(Plan(TGCN(F, C))) == []
    assert "hidden state" in notes(Plan(GCLSTM(F, C, 2)))[0]
    assert "plan.cache is off" in notes(Plan(TGCN(F, C), Rewrites(cache=False)))[-1]


def test_shares_of_distinct_rows_are_counted():
    """Three steps of 10 nodes; one node has other features at the second step. One edge between others at the third."""
    x = np.zeros((3, 10, F), np.float32)
    x[1, 7] = 1
    sequence = SnapshotSequence.from_arrays(
        np.array([2]), np.array([0]), np.array([1]), num_nodes=10, num_steps=3, node_features=x
    )
    data = SnapshotData(sequence)
    # Rows of A x beside: only node 7's differs. States: 1, 2 and 2 (T-GCN does not see the edge: A x is 0 there).
    assert distinct(Plan(TGCN(F, C)), data, 3) == {"rows of data": 2 / 30, "states of the gru": 5 / 30}
    # GC-LSTM gathers along the edge: one state more at the third step.
    assert distinct(Plan(GCLSTM(F, C, 2)), data, 3) == {"rows of data": 2 / 30, "states of the lstm": 6 / 30}
    assert distinct(Plan(TGCN(F, C), Rewrites(distinct=False)), data, 3) == {}
