import pytest

from tgscale.nn.program import Program, aggregate
from tgscale.snapshot.order import cluster, overlapped


def nodes_gdgd():
    p = Program()
    x = p.input("x", 2)
    a, b = aggregate("gcn", x), aggregate("gcn", x)
    d, e = a @ p.parameter("w", 2), b @ p.parameter("w", 2)
    return a, d, b, e


def test_clustered_graph_operators_come_first():
    a, d, b, e = nodes_gdgd()
    assert cluster([a, d, b, e]) == [a, b, d, e]


@pytest.mark.parametrize("workers", [1, 2])
def test_two_workers_on_a_program_of_unit_times(workers):
    order = cluster(nodes_gdgd())
    assert overlapped(order, dict.fromkeys(order, 1.0), workers) == {1: 4.0, 2: 6.0}[workers]
