"""An operator plan in words and numbers: what runs when, how much work it is, and what the rewrites have saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tgscale.nn.program import AFFINE, AGGREGATE, MATMUL, SOURCES, STOCHASTIC, Node, topological
from tgscale.snapshot.fuse import SELF
from tgscale.snapshot.order import GRAPH, cluster, overlapped, unit_of
from tgscale.snapshot.plan import Plan, rewritten, split
from tgscale.snapshot.rewrite import CONST, Rewrites, dependence
from tgscale.snapshot.tensors import SnapshotData

BYTES = 4
BALANCE = 10.0
"""FLOP that a machine does in the time in which it moves a byte; an operator with fewer is bound by memory."""


@dataclass(frozen=True)
class Sizes:
    """What the work depends on.

    Attributes:
        nodes: N.
        edges: of a snapshot, on average.
        window: snapshots of a group.
        rows: of tables of weights, by parameter name.
    """

    nodes: int
    edges: float
    window: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Operator:
    """One operator of a plan.

    Attributes:
        number: by which others name it.
        what: what it computes, with the numbers of its inputs.
        kind: ``graph``, ``dense`` or ``elementwise``.
        bound: ``memory`` or ``compute``, by its arithmetic intensity.
        depends: ``const`` (on the data alone), ``weights`` or ``state``.
        stage: ``once`` (per run), ``ahead`` or ``after`` (for all steps at once), ``scan`` or ``loop``.
        flops, bytes: of a group; those of stage ``once`` fall due once per run.
        inputs: numbers of the operators whose results it takes, as they are or made into tables of weights.
    """

    number: int
    what: str
    kind: str
    bound: str
    depends: str
    stage: str
    flops: float
    bytes: float
    inputs: tuple[int, ...] = ()

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


STAGES = {"kept": "once", "weights": "weights", "ahead": "ahead", "scans": "scan", "loop": "loop", "after": "after"}


def describe(plan: Plan, sizes: Sizes, balance: float = BALANCE) -> list[Operator]:
    """The operators of a plan in the order in which they run, those on weights alone left out: they are small."""
    nodes = topological(plan.program.roots())
    depends = dependence(nodes)
    stage_of = {node: name for field, name in STAGES.items() for node in getattr(plan.stages, field)}
    shown = [*plan.stages.kept, *plan.stages.weights, *plan.stages.ahead, *plan.stages.scans, *plan.stages.loop]
    shown += plan.stages.after
    below = [node for node in topological(plan.stages.kept) if node not in stage_of]
    shown = [node for node in [*below, *shown] if node.op not in SOURCES and (node.per_node or node.op == "top_rows")]
    names = {node: f"#{number}" for number, node in enumerate(shown, start=1)}
    names |= {node: _weight_name(node, sizes) for node in nodes if node not in names}
    feeds = _feeds(nodes, {node: number for number, node in enumerate(shown, start=1)})
    rows = []
    for number, node in enumerate(shown, start=1):
        flops, size = work(node, sizes)
        stage = stage_of.get(node, "once")
        stage = "ahead" if stage == "scan" and node.op != "scan" else stage
        bound = "compute" if flops > balance * size else "memory"
        text, kind = _text(node, names), _kind(node)
        rows.append(Operator(number, text, kind, bound, depends[node], stage, flops, size, feeds[node]))
    return rows


def _feeds(nodes: Sequence[Node], number: Mapping[Node, int]) -> dict[Node, tuple[int, ...]]:
    """Which operators each node takes results of; what is not shown passes on what it takes."""
    found: dict[Node, tuple[int, ...]] = {}
    for node in nodes:
        of = [(number[each],) if each in number else found[each] for each in node.inputs]
        found[node] = tuple(sorted({one for each in of for one in each}))
    return found


def work(node: Node, sizes: Sizes) -> tuple[float, float]:
    """FLOP and bytes of one operator for a group, forward; in float32."""
    if not node.per_node and node.op != "top_rows":
        return _weight_work(node, sizes)
    n = sizes.nodes * sizes.window
    width = node.width
    if node.op == AGGREGATE:
        edges = sizes.edges * sizes.window
        return 2 * edges * width, edges * (2 * BYTES + width * BYTES) + n * width * BYTES
    if node.op in (MATMUL, AFFINE):
        inner = node.inputs[0].width
        return 2.0 * n * inner * width, BYTES * (n * inner + n * width + inner * width)
    if node.op == "scan":
        return _scan_work(node, sizes)
    inputs = sum(each.width for each in node.inputs if each.per_node)
    return float(n * width), BYTES * n * (inputs + width)


def _scan_work(node: Node, sizes: Sizes) -> tuple[float, float]:
    dense, graph = scan_parts(node, sizes)
    return dense[0] + graph[0], dense[1] + graph[1]


def scan_parts(node: Node, sizes: Sizes) -> tuple[tuple[float, float], tuple[float, float]]:
    """FLOP and bytes of a scan's dense part and of its graph part."""
    kind, basis = node.attrs
    n, c = sizes.nodes * sizes.window, node.width
    gates = 3 if kind == "gru" else 4
    # A GRU's gates z and r see the basis functions of h, its candidate those of r * h.
    graph = sum(name != SELF for name in basis) * (2 if kind == "gru" else 1)
    edges = sizes.edges * sizes.window * graph
    dense = 2.0 * n * len(basis) * c * gates * c + n * c * gates * 4
    return (dense, BYTES * n * (2.0 * gates * c + 2 * c)), (2 * edges * c, edges * (2 + c) * BYTES)


def _weight_work(node: Node, sizes: Sizes) -> tuple[float, float]:
    rows = _rows(node, sizes)
    if node.op == MATMUL:
        inner = node.inputs[0].width
        return 2.0 * rows * inner * node.width, BYTES * (rows * inner + inner * node.width + rows * node.width)
    return 0.0, float(BYTES * rows * node.width)


def _rows(node: Node, sizes: Sizes) -> int:
    """Rows of a table of weights."""
    if node.op == "parameter":
        return sizes.rows.get(str(node.attrs[0]), 1)
    if node.op == "rows":
        return int(node.attrs[1] - node.attrs[0])
    if node.op == "transpose":
        return node.inputs[0].width
    if node.op == "stack_rows":
        return sum(_rows(each, sizes) for each in node.inputs)
    if node.op == "top_rows":
        return int(node.attrs[0])
    return _rows(node.inputs[0], sizes) if node.inputs else 1


def _kind(node: Node) -> str:
    if node.op == AGGREGATE or (node.op == "scan" and node.attrs[1] != (SELF,)):
        return "graph"
    return "dense" if node.op in (MATMUL, AFFINE, "scan") else "elementwise"


SIGNS = {"add": "+", "subtract": "-", "multiply": "*", MATMUL: "@"}


def _weight_name(node: Node, sizes: Sizes) -> str:
    """An input or state by its name, a table of weights by its size."""
    if node.op in ("input", "state"):
        return str(node.attrs[0])
    rows = _rows(node, sizes)
    return f"b({node.width})" if rows == 1 else f"W({rows}x{node.width})"


def _text(node: Node, names: Mapping[Node, str]) -> str:
    parts = [names[each] for each in node.inputs]
    if node.op == AFFINE:
        return f"{parts[0]} @ {parts[1]} + {parts[2]}"
    if node.op in SIGNS:
        return f" {SIGNS[node.op]} ".join(parts)
    if node.op == "complement":
        return f"1 - {parts[0]}"
    if node.op in ("columns", "rows"):
        span = f"{node.attrs[0]}:{node.attrs[1]}"
        return f"{parts[0]}[{span if node.op == 'rows' else ', '.join((':', span))}]"
    if node.op == "scan":
        kind, basis = node.attrs
        of = ", ".join(name or "h" for name in basis)
        return f"{kind} over the window on {of} ({', '.join(parts)})"
    attrs = [str(each) for each in node.attrs] if node.op != AGGREGATE else []
    name = str(node.attrs[0]) if node.op == AGGREGATE else node.op
    return f"{name}({', '.join([*parts, *attrs])})"


def summary(plan: Plan, sizes: Sizes) -> dict[str, Any]:
    """What the rewrites have saved, and what could not be kept and why."""
    before, after = _totals(Plan(plan.model, Rewrites.none()), sizes), _totals(plan, sizes)
    kept = sum(node.width for node in plan.stages.kept) * sizes.nodes * BYTES
    return {
        "as written": before,
        "planned": after,
        "kept_bytes_per_step": kept,
        "two workers": _overlap(plan, sizes),
        "notes": notes(plan),
    }


def distinct(plan: Plan, data: SnapshotData, window: int) -> dict[str, float]:
    """Of the last group of a sequence: the share of rows that are distinct, of input data and of each recurrence.

    Empty where nothing is shared: no operator for it, or too little to save.
    """
    plan.keep(data.whole())
    first = max(0, len(data.x) - window)
    shared = plan.sharing(data.group(first, len(data.x) - first))
    if shared is None:
        return {}
    found = {"rows of data": shared.num_rows / shared.index.size}
    for node, classes in shared.states.items():
        found[f"states of the {node.attrs[0]}"] = classes.num_rows / classes.index.size
    return found


def _totals(plan: Plan, sizes: Sizes) -> dict[str, float]:
    """Operators that a group needs each time it is trained."""
    rows = [row for row in describe(plan, sizes) if row.stage != "once"]
    scans = [scan_parts(node, sizes) for node in plan.stages.scans if node.op == "scan"]
    of = {kind: [row for row in rows if row.kind == kind] for kind in ("graph", "dense", "elementwise")}
    calls = {kind: sum(sizes.window if row.stage == "loop" else 1 for row in each) for kind, each in of.items()}
    return {
        "calls": sum(calls.values()),
        **{f"{kind} calls": count for kind, count in calls.items()},
        "graph bytes": sum(row.bytes for row in of["graph"] if row.stage != "scan") + sum(g[1] for _, g in scans),
        "dense flops": sum(row.flops for row in of["dense"] if row.stage != "scan") + sum(d[0] for d, _ in scans),
    }


def _overlap(plan: Plan, sizes: Sizes) -> dict[str, float]:
    """Share of two groups' serial time that two workers need ahead of the recurrence, by estimated times.

    For the program as it was written, in the order in which it was written and with its operators clustered, and for
    the plan.
    """
    shares = {}
    written = split(plan.written, Rewrites.only("hoist"))
    planned = split(rewritten(plan.written, plan.rewrites), plan.rewrites)
    for name, order in (
        ("as written", written.ahead),
        ("clustered", cluster(written.ahead)),
        ("planned", cluster(planned.ahead)),
    ):
        seconds = {node: max(flops / BALANCE, size) for node in order for flops, size in [work(node, sizes)]}
        serial = 2 * sum(seconds.values())
        shares[name] = overlapped(order, seconds) / serial if serial else 1.0
    return shares


def notes(plan: Plan) -> list[str]:
    """What was not rewritten, and why."""
    found = []
    nodes = topological(plan.program.roots())
    depends = dependence(nodes)
    for node in nodes:
        if unit_of(node) != GRAPH or node.op != AGGREGATE or depends[node] == CONST:
            continue
        name = str(node.attrs[0])
        if len(node.inputs) > 1:
            found.append(f"{name}: its edge weights are learned, so it is computed each time")
            continue
        above = topological([node.inputs[0]])
        if any(each.op in STOCHASTIC for each in above):
            found.append(f"{name}: behind dropout, which draws anew each time, so it is computed each time")
        elif any(each.op == "state" for each in above):
            found.append(f"{name}: of the hidden state, so it is computed at each step")
        else:
            found.append(f"{name}: of what weights have changed, so it is computed each time")
    for node in nodes:
        if node.op == "scan" and node.attrs[1] != (SELF,):
            of = ", ".join(name for name in node.attrs[1] if name)
            found.append(f"{of}: of the hidden state, so it is computed at each step, inside the recurrence")
    if not plan.rewrites.cache and any(depends[node] == CONST and node.op == AGGREGATE for node in nodes):
        found.append("aggregations of the data alone could be kept for the run: plan.cache is off")
    return list(dict.fromkeys(found))
