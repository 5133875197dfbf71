"""The snapshot sequence: an ordered list of graphs, with features and targets of the nodes at each step.

A sequence is a handful of NumPy columns (often memory-mapped, see :mod:`tgscale.data.snapshot_store`) and never
changes. All graphs lie one after another in one CSR by destination, so a step, or a group of steps, is a slice of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tgscale.data.edge_rows import MOST_RELATIONS, EdgeRows, csr_indptr
from tgscale.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class SnapshotSequence:
    """A sequence of snapshots (a discrete-time dynamic graph): ``T`` steps that show ``G`` graphs of ``N`` nodes.

    Attributes:
        offsets: int64 ``[G + 1]``; the edges of graph ``g`` are rows ``offsets[g]:offsets[g + 1]``.
        indptr: int32 ``[G, N + 1]``; CSR by destination within each graph, relative to ``offsets[g]``.
        neighbor: int32 ``[E]``; source of each edge. Rows are sorted by (graph, destination, source).
        graph_of: int32 ``[T]``; which graph a step shows. A static topology is one graph.
        num_nodes: ``N``; the same nodes at all steps.
        edge_weight: float32 ``[E]``, or None: all 1.
        edge_type: int16 ``[E]`` in ``[0, num_relations)``, or None.
        edge_label: int64 ``[E]``, or None.
        node_features: float32 ``[T, N, F]``, or ``[N, F]`` when they do not change, or None.
        target: float32 ``[T', N, K]``, what node regression predicts at each step, or None. ``T'`` is ``T``, or less
            where the targets of the last steps are not known yet.
        target_mean, target_std: float32 ``[N, K]``; ``target * target_std + target_mean`` is in the source's own
            units. None: it is already.
        step_time: int64 ``[T]``, start of each step in ``time_unit``, or None.
        num_relations: number of edge types, 1 without types.
        undirected: every edge is stored both ways.
        time_unit: unit of ``step_time``: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, or ``"step"``.
        target_delay: a step's target is known so many steps later; 1 unless it lies further ahead.
        name: for reports.
        path: the data directory it was opened from, or None.
    """

    offsets: np.ndarray
    indptr: np.ndarray
    neighbor: np.ndarray
    graph_of: np.ndarray
    num_nodes: int
    edge_weight: np.ndarray | None = None
    edge_type: np.ndarray | None = None
    edge_label: np.ndarray | None = None
    node_features: np.ndarray | None = None
    target: np.ndarray | None = None
    target_mean: np.ndarray | None = None
    target_std: np.ndarray | None = None
    step_time: np.ndarray | None = None
    num_relations: int = 1
    undirected: bool = False
    time_unit: str = "step"
    target_delay: int = 1
    name: str = "snapshots"
    path: Path | None = None

    @classmethod
    def from_arrays(
        cls,
        step: Any,
        src: Any,
        dst: Any,
        *,
        num_nodes: int | None = None,
        num_steps: int | None = None,
        graph_of: Any = None,
        edge_weight: Any = None,
        edge_type: Any = None,
        edge_label: Any = None,
        parallel: bool = False,
        node_features: Any = None,
        target: Any = None,
        target_mean: Any = None,
        target_std: Any = None,
        step_time: Any = None,
        num_relations: int | None = None,
        undirected: bool = False,
        time_unit: str = "step",
        target_delay: int = 1,
        name: str = "snapshots",
    ) -> SnapshotSequence:
        """Make a sequence in memory from edges in any order.

        Edges of one step that join the same two nodes are merged: weights add up, the first type and label stay.

        Args:
            step: step of each edge, shape ``[e]``, integers from 0; with ``graph_of``, the graph of each edge.
            src, dst: node ids, shape ``[e]``.
            num_nodes: number of nodes; None: the highest id and one.
            num_steps: number of steps; None: the highest step and one, or what features, target or ``step_time`` say.
            graph_of: which graph each step shows, shape ``[T]``; ``np.zeros(T)`` for a static topology. None: each
                step shows a graph of its own.
            edge_weight, edge_type, edge_label: shape ``[e]``, or None.
            parallel: keep edges of one pair apart when their types differ, rather than merge them.
            node_features: ``[T, N, F]`` or ``[N, F]``.
            target: ``[T, N, K]``, or ``[T, N]`` for one value per node; fewer rows where that of the last steps is not
                known yet.
            target_mean, target_std: broadcast to ``[N, K]``.
            step_time: ``[T]``, increasing.
            num_relations: None: the highest type and one.
            undirected: store every edge both ways; give it once.
            time_unit, target_delay, name: see the class.

        Raises:
            DataError: columns of different length, a step, id or type out of range, a value that is not finite;
                the message names the first bad row.
        """
        step, src, dst = (_integers(name_, values) for name_, values in (("step", step), ("src", src), ("dst", dst)))
        extras = {"edge_weight": edge_weight, "edge_type": edge_type, "edge_label": edge_label}
        for name_, column in {"src": src, "dst": dst, **extras}.items():
            if column is not None and len(column) != len(step):
                raise DataError(f"{name_} has {len(column)} rows, step has {len(step)}: give one row per edge.")
        num_nodes = _node_count(num_nodes, src, dst, node_features, target)
        for name_, ids in (("src", src), ("dst", dst)):
            _check_range(name_, ids, num_nodes, "node ids")
        tables = _tables(num_nodes, node_features, target, target_mean, target_std)
        num_steps = _step_count(num_steps, step, graph_of, step_time, tables)
        graph_of = np.arange(num_steps, dtype=np.int32) if graph_of is None else _integers("graph_of", graph_of)
        num_graphs = int(graph_of.max(initial=-1)) + 1
        _check_range("graph_of", graph_of, num_graphs, "graphs")
        _check_range("step", step, num_graphs, "steps")
        edge_type, num_relations = _types(edge_type, num_relations)
        weight = None if edge_weight is None else _finite("edge_weight", edge_weight, np.float64)
        label = None if edge_label is None else _integers("edge_label", edge_label)
        rows = EdgeRows(step, dst, src, weight, edge_type, label)
        if undirected:
            rows = rows.both_ways()
        rows = rows.merged(num_nodes, num_graphs, parallel)
        indptr = csr_indptr(rows.graph, rows.dst, num_graphs, num_nodes)
        return cls(
            offsets=np.concatenate([[0], np.cumsum(indptr[:, -1], dtype=np.int64)]),
            indptr=indptr,
            neighbor=rows.src.astype(np.int32),
            graph_of=graph_of.astype(np.int32),
            num_nodes=num_nodes,
            edge_weight=None if rows.weight is None else rows.weight.astype(np.float32),
            edge_type=None if rows.type is None else rows.type.astype(np.int16),
            edge_label=rows.label,
            step_time=_step_times(step_time, num_steps),
            num_relations=num_relations,
            undirected=undirected,
            time_unit=time_unit,
            target_delay=target_delay,
            name=name,
            node_features=tables["node_features"],
            target=tables["target"],
            target_mean=tables["target_mean"],
            target_std=tables["target_std"],
        )

    def __repr__(self) -> str:
        return f"SnapshotSequence({self.name!r}: {self.num_steps:,} snapshots of {self.num_nodes:,} nodes)"

    @property
    def num_steps(self) -> int:
        """Number of steps ``T``."""
        return len(self.graph_of)

    @property
    def num_graphs(self) -> int:
        """Number of distinct graphs: 1 for a static topology."""
        return len(self.indptr)

    @property
    def num_edges(self) -> int:
        """Stored rows, of all graphs together."""
        return len(self.neighbor)

    @property
    def node_dim(self) -> int:
        """Width of the node features; 0 when there are none."""
        return 0 if self.node_features is None else self.node_features.shape[-1]

    @property
    def target_dim(self) -> int:
        """Number of values per node to predict; 0 when there is no target."""
        return 0 if self.target is None else self.target.shape[-1]

    @property
    def num_targets(self) -> int:
        """Number of steps whose target is known, the first ones; 0 when there is none."""
        return 0 if self.target is None else len(self.target)

    def part(self, first: int, stop: int) -> SnapshotSequence:
        """The steps ``first`` to ``stop - 1`` as a sequence of their own; large columns are views."""
        graph_of = self.graph_of[first:stop]
        low, high = (int(graph_of.min()), int(graph_of.max()) + 1) if len(graph_of) else (0, 0)
        rows = slice(int(self.offsets[low]), int(self.offsets[high]))
        cuts = dict.fromkeys(("neighbor", "edge_weight", "edge_type", "edge_label"), rows)
        cuts |= dict.fromkeys(("target", "step_time"), slice(first, stop))
        if self.node_features is not None and self.node_features.ndim == 3:
            cuts["node_features"] = slice(first, stop)
        columns: dict[str, Any] = {name: getattr(self, name) for name in cuts}
        columns = {name: None if column is None else column[cuts[name]] for name, column in columns.items()}
        columns |= {"offsets": self.offsets[low : high + 1] - self.offsets[low], "indptr": self.indptr[low:high]}
        return replace(self, graph_of=graph_of - low, **columns)

    def edge_rows(self, t: int) -> slice:
        """The rows of ``neighbor``, ``edge_weight``, .. that step ``t`` shows."""
        graph = self.graph_of[t]
        return slice(int(self.offsets[graph]), int(self.offsets[graph + 1]))

    def edges(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Sources and destinations of step ``t``, int32 ``[e]`` each, sorted by (destination, source)."""
        degree = np.diff(self.indptr[self.graph_of[t]])
        return self.neighbor[self.edge_rows(t)], np.repeat(np.arange(self.num_nodes, dtype=np.int32), degree)

    def edge_counts(self) -> np.ndarray:
        """Number of stored edges at each step, int64 ``[T]``."""
        return np.diff(self.offsets)[self.graph_of]


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {list(array.shape)}: give one integer per row.")
    if len(array) and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name} is {array.dtype}: give integers.")
    return array.astype(np.int64)


def _check_range(name: str, values: np.ndarray, size: int, what: str) -> None:
    bad = (values < 0) | (values >= size)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{name} is {values[row]} at row {row}: {what} must lie in [0, {size}).")


def _finite(name: str, values: Any, dtype: Any) -> np.ndarray:
    try:
        array = np.asarray(values, dtype)
    except (TypeError, ValueError):
        raise DataError(f"{name} does not hold numbers in a full table: give one array of numbers.") from None
    rows = array.reshape(len(array), -1) if array.size else array
    for at in range(0, len(rows), 4096):  # in pieces, so that checking a large table stays small
        bad = ~np.isfinite(rows[at : at + 4096])
        if bad.any():
            row = at + int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            raise DataError(f"{name} has a value that is not finite in row {row}: fill or drop it.")
    return array


def _node_count(given: int | None, src: np.ndarray, dst: np.ndarray, features: Any, target: Any) -> int:
    if given is not None:
        return given
    for table in (features, target):
        if table is not None and np.ndim(table) >= 2:
            return np.shape(table)[1 if np.ndim(table) == 3 or table is target else 0]
    count = int(max(src.max(initial=-1), dst.max(initial=-1))) + 1
    if count == 0:
        raise DataError("no edges and no features were given, so the number of nodes is unknown: pass num_nodes.")
    return count


def _tables(num_nodes: int, features: Any, target: Any, mean: Any, std: Any) -> dict[str, np.ndarray | None]:
    """The columns of node values, checked, as float32."""
    given = {"node_features": features, "target": target}
    tables = {name: None if table is None else _finite(name, table, np.float32) for name, table in given.items()}
    if tables["target"] is not None and tables["target"].ndim == 2:
        tables["target"] = tables["target"][:, :, None]
    for name, dims in (("node_features", (2, 3)), ("target", (3,))):
        table = tables[name]
        if table is None:
            continue
        if table.ndim not in dims or table.shape[-2] != num_nodes:
            wanted = f"[{num_nodes}, F] or [T, {num_nodes}, F]" if 2 in dims else f"[T, {num_nodes}, K]"
            raise DataError(f"{name} has shape {list(table.shape)}, expected {wanted}.")
    for name, values in (("target_mean", mean), ("target_std", std)):
        tables[name] = None if values is None else _per_target(name, values, num_nodes, tables["target"])
    return tables


def _per_target(name: str, values: Any, num_nodes: int, target: np.ndarray | None) -> np.ndarray:
    if target is None:
        raise DataError(f"{name} was given without a target.")
    shape = (num_nodes, target.shape[-1])
    try:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float32), shape))
    except ValueError:
        raise DataError(f"{name} has shape {list(np.shape(values))}, expected {list(shape)} or a number.") from None


def _step_count(
    given: int | None, step: np.ndarray, graph_of: Any, step_time: Any, tables: dict[str, np.ndarray | None]
) -> int:
    """Number of steps, on which all that has a row per step must agree."""
    features, target = tables["node_features"], tables["target"]
    per_step = {"num_steps": given}
    per_step["graph_of"] = None if graph_of is None else len(graph_of)
    per_step["node_features"] = len(features) if features is not None and features.ndim == 3 else None
    per_step["step_time"] = None if step_time is None else len(step_time)
    said = {name: count for name, count in per_step.items() if count is not None}
    if len(set(said.values())) > 1:
        raise DataError(f"the numbers of steps differ: {', '.join(f'{name} says {n}' for name, n in said.items())}.")
    targets = 0 if target is None else len(target)
    steps = next(iter(said.values()), max(targets, int(step.max(initial=-1)) + 1))
    if steps <= 0:
        raise DataError("a sequence needs at least one step: give edges, or num_steps.")
    if targets > steps:
        raise DataError(f"target has {targets} rows, and there are {steps} steps: give one row per step, or fewer.")
    return steps


def _types(types: Any, num_relations: int | None) -> tuple[np.ndarray | None, int]:
    if types is None:
        return None, 1
    types = _integers("edge_type", types)
    num_relations = int(types.max(initial=0)) + 1 if num_relations is None else num_relations
    _check_range("edge_type", types, min(num_relations, MOST_RELATIONS), "edge types")
    return types, num_relations


def _step_times(step_time: Any, num_steps: int) -> np.ndarray | None:
    if step_time is None:
        return None
    times = _integers("step_time", step_time)
    if (np.diff(times) < 0).any():
        row = int(np.argmax(np.diff(times) < 0)) + 1
        raise DataError(f"step_time falls from {times[row - 1]} to {times[row]} at step {row}: steps follow time.")
    return times
