"""The order of operators in which two workers on one device overlap best (BLAD's idea, our reconstruction).

A device is seen as two units, one for graph operators (memory-bound) and one for dense products (compute-bound). Two
workers with groups of their own go through the same operators; each unit serves one of them at a time. Where graph and
dense operators alternate, the workers get into each other's way; where each kind stands together, one worker is in its
graph phase while the other is in its dense phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tgscale.nn.program import AGGREGATE, STOCHASTIC, Node

GRAPH, DENSE = "graph", "dense"


def unit_of(node: Node) -> str:
    """Which unit an operator keeps busy."""
    return GRAPH if node.op in (AGGREGATE, "top_rows") else DENSE


def cluster(nodes: Sequence[Node]) -> list[Node]:
    """The nodes in an order in which they can run, graph operators as early and as much together as possible.

    Random operators keep their order, so that they draw the same numbers. The work is that of a few dozen nodes.
    """
    inside, order = set(nodes), []
    left = list(nodes)
    stochastic = [node for node in nodes if node.op in STOCHASTIC]
    done: set[Node] = set()
    unit = GRAPH
    while left:
        ready = [node for node in left if all(each in done or each not in inside for each in node.inputs)]
        ready = [node for node in ready if node.op not in STOCHASTIC or node is stochastic[0]]
        # Before it changes over, a worker does all that it can on one unit.
        same = [node for node in ready if unit_of(node) == unit]
        if not same:
            unit = DENSE if unit == GRAPH else GRAPH
            continue
        if unit == DENSE:  # what lets graph operators begin goes first
            same.sort(key=lambda node: not _feeds_graph(node, left))
        node = same[0]
        order.append(node)
        done.add(node)
        left.remove(node)
        if node.op in STOCHASTIC:
            stochastic.remove(node)
    return order


def _feeds_graph(node: Node, left: Sequence[Node]) -> bool:
    reached = {node}
    for each in left:
        if any(x in reached for x in each.inputs):
            reached.add(each)
            if unit_of(each) == GRAPH:
                return True
    return False


def overlapped(order: Sequence[Node], seconds: Mapping[Node, float], workers: int = 2) -> float:
    """Time in which several workers go through ``order``, each once, when each unit serves one at a time.

    With one worker it is the sum. A unit takes whoever can begin first.
    """
    free = {GRAPH: 0.0, DENSE: 0.0}
    at = [0] * workers
    ready = [0.0] * workers
    while any(position < len(order) for position in at):
        waiting = [w for w in range(workers) if at[w] < len(order)]
        worker = min(waiting, key=lambda w: (max(ready[w], free[unit_of(order[at[w]])]), w))
        node = order[at[worker]]
        unit = unit_of(node)
        ready[worker] = free[unit] = max(ready[worker], free[unit]) + seconds[node]
        at[worker] += 1
    return max(ready)
