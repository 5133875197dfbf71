"""Groups split over processes against one process: the same embeddings and gradients."""

from functools import cache

import pytest
import torch

from tgscale.errors import ConfigError
from tgscale.models.snapshot_model import SnapshotModel
from tgscale.nn.program import Program, aggregate
from tgscale.snapshot.partition.vertex import VertexPlacement
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData
from tgscale.train.distributed import Ranks

from ..test_plan import MODELS, C, F
from .cases import PLACEMENTS, SEQUENCES, Case

alone = cache(Case.alone)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def check(team, case):
    """Embeddings, gradients summed over processes, and running statistics are those of one process."""
    expected, found = alone(case), team("run_case", case=case)
    for each in found:
        torch.testing.assert_close(each["out"], expected["out"], **CLOSE)
        torch.testing.assert_close(each["own"], expected["out"][..., each["nodes"], :], **CLOSE)
        torch.testing.assert_close(each["buffers"], expected["buffers"], **CLOSE)
    for name, grad in expected["grads"].items():
        parts = [each["grads"][name] for each in found]
        if grad is None:
            assert parts == [None] * len(parts)
        else:
            total = sum(part for part in parts if part is not None)
            torch.testing.assert_close(total, grad, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")
    return found


@pytest.mark.parametrize("rewrites", ["all", "none", "no-cache"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_a_partition_equals_one_process(team, placement, model, rewrites):
    check(team, Case(placement, model, rewrites))


@pytest.mark.parametrize("model", ["tgcn", "lrgcn", "evolvegcn_o"])
@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_a_graph_that_does_not_change(team, placement, model):
    check(team, Case(placement, model, "no-cache", sequence="static"))


@pytest.mark.parametrize("rewrites", ["all", "no-cache"])
@pytest.mark.parametrize("model", MODELS)
def test_fewer_snapshots_than_processes(three, model, rewrites):
    check(three, Case("snapshot", model, rewrites, window=2))


@pytest.mark.parametrize("rewrites", ["all", "none"])
@pytest.mark.parametrize("model", sorted(set(MODELS) - {"evolvegcn_h"}))  # which picks more nodes than there are
@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_fewer_nodes_than_processes(three, placement, model, rewrites):
    found = check(three, Case(placement, model, rewrites, sequence="two-nodes"))
    assert sorted(each["nodes"].stop - each["nodes"].start for each in found) == [0, 1, 1]


@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_running_statistics_are_used_when_a_model_is_evaluated(team, placement):
    check(team, Case(placement, "mpnn_lstm", training=False))


def test_nodes_are_split_unevenly_where_edges_are():
    """The sequence that the cases run on puts most edges on few nodes."""
    counts = VertexPlacement(SnapshotData(SEQUENCES["evolving"]()), Ranks(0, 3)).counts
    assert sum(counts) == 11
    assert max(counts) > 2 * min(counts) > 0


@pytest.mark.parametrize("placement", ["vertex", "snapshot"])
def test_processes_draw_different_masks_which_follow_from_the_seed(two, placement):
    """And the generator goes on alike in all, whatever was drawn."""
    case = Case(placement, "mpnn_lstm", dropout=0.5)
    first, again = two("run_case", case=case), two("run_case", case=case)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a["out"], b["out"], rtol=0, atol=0)
    torch.testing.assert_close(first[0]["out"], first[1]["out"], rtol=0, atol=0)
    assert first[0]["later"] == first[1]["later"]
    assert not torch.allclose(first[0]["out"], alone(case)["out"])


NUMBER = 8  # bytes
RUN, GATHER, BACKWARD = 1, 2, 3


def sent(each, stage):
    return each["sent"][stage] - each["sent"][stage - 1]


def test_bytes_of_a_vertex_partition(two):
    """Process 0 has nodes 0 and 1, process 1 has 2 and 3.

    They want of each other: at step 0 node 3, and node 0; at step 1 nodes 2 and 3, and node 1; at step 2 nothing. So
    process 0 sends 2 rows and process 1 sends 3, forward; gradients go the other way. T-GCN as written aggregates C
    columns three times. For all embeddings a process sends its two nodes' at three steps to the other, and gets their
    gradient back.
    """
    a, b = check(two, Case("vertex", "tgcn", "none", sequence="toy", first=0, window=3))
    assert (a["nodes"], b["nodes"]) == (slice(0, 2), slice(2, 4))
    assert [sent(each, RUN) for each in (a, b)] == [2 * 3 * C * NUMBER, 3 * 3 * C * NUMBER]
    rows_of_all = 2 * 3 * C * NUMBER
    assert [sent(each, GATHER) for each in (a, b)] == [rows_of_all] * 2
    assert [sent(each, BACKWARD) - rows_of_all for each in (a, b)] == [3 * 3 * C * NUMBER, 2 * 3 * C * NUMBER]


def test_what_depends_on_data_alone_is_sent_once(two):
    """All that T-GCN aggregates are features: F columns, when the run begins, and nothing afterwards."""
    a, b = check(two, Case("vertex", "tgcn", "all", sequence="toy", first=0, window=3))
    assert [each["sent"][0] for each in (a, b)] == [2 * F * NUMBER, 3 * F * NUMBER]
    assert [sent(each, RUN) for each in (a, b)] == [0, 0]


def test_bytes_of_a_snapshot_partition(two):
    """Steps cost 8, 8 and 5, so process 0 has the first and process 1 the others.

    Of each it sends two nodes' gates, 3 C columns, to the other. An edge that is fetched takes 4 bytes for each end,
    and one that is gone 4: step 2 has one new edge, and none of the four of step 1.
    """
    a, b = check(two, Case("snapshot", "tgcn", "all", sequence="toy", first=0, window=3))
    assert [each["sent"][0] for each in (a, b)] == [0, 0]
    assert [sent(each, RUN) for each in (a, b)] == [1 * 2 * 3 * C * NUMBER, 2 * 2 * 3 * C * NUMBER]
    rows_of_all = 2 * 3 * C * NUMBER
    assert [sent(each, BACKWARD) - rows_of_all for each in (a, b)] == [2 * 2 * 3 * C * NUMBER, 1 * 2 * 3 * C * NUMBER]
    assert a["transfer"] == (4 * (4 + 4), 4 * (4 + 4))
    assert b["transfer"] == (4 * (4 + 4) + 1 * (4 + 4), 4 * (4 + 4) + 1 * (4 + 4) + 4 * 4)


class Learned(SnapshotModel):
    """Aggregates with a factor per edge that is learned."""

    def __init__(self):
        super().__init__()
        self.in_dim = self.out_dim = F
        self.factor = torch.nn.Parameter(torch.ones(4))

    def program(self):
        p = Program()
        p.returns(aggregate("gcn", p.input("x", F), p.parameter("factor", 1)))
        return p


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_learned_edge_weights_are_refused(placement):
    with pytest.raises(ConfigError, match="Learned learns edge weights, which are not split over processes"):
        placement(SnapshotData(SEQUENCES["toy"]()), Ranks()).keep(Plan(Learned()))
