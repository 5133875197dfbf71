"""What is in a snapshot sequence: the numbers behind ``tgscale data info``."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.summary import describe_storage, percent, storage_table, text
from tgscale.data.time_words import describe_time
from tgscale.data.value_words import counted

COLUMNS = (
    "offsets", "indptr", "neighbor", "graph_of", "edge_weight", "edge_type", "edge_label", "node_features", "target",
    "target_mean", "target_std", "step_time",
)  # fmt: skip


def summarize_snapshots(sequence: SnapshotSequence) -> dict[str, Any]:
    """Describe a snapshot sequence, in time linear in its edges and values.

    Returns:
        Plain numbers, strings, lists and dicts (JSON can hold them):

        * ``name``, ``steps``, ``graphs``, ``nodes``, ``active_nodes`` (with an edge), ``edges`` (stored rows),
          ``undirected``, ``relations``, ``weighted``, ``labels`` (distinct ones, or None), ``self_loops``,
          ``node_dim``, ``static_features``
        * ``sizes``: edges of a snapshot: ``min``, ``median``, ``mean``, ``max``, ``max_over_mean`` (None without
          edges), ``empty`` (snapshots without an edge)
        * ``density``: mean share of all ``N^2`` ordered pairs that are edges
        * ``change``: None for one step, else over consecutive steps: ``mean`` and ``max`` of the edges that go or
          come over the mean of the two sizes; ``exchanged``: mean of what remains when the difference in size is set
          aside, twice the edges of the smaller snapshot that the other lacks over its size
        * ``target``: None, or ``dim``, ``steps`` (the first ones, whose target is known), ``mean``, ``std``, ``scaled``
          (there is a scale back to the source's units),
          and ``persistence_mse``, the mean squared error of repeating the last target that is known (None where none
          is known before another)
        * ``time``: None, or as in :func:`tgscale.data.summary.summarize`
        * ``storage``: bytes of each column, ``on_disk`` True when they are files of a data directory.
    """
    times = sequence.step_time
    return {
        "name": sequence.name,
        "steps": sequence.num_steps,
        "graphs": sequence.num_graphs,
        "nodes": sequence.num_nodes,
        "active_nodes": _active_nodes(sequence),
        "edges": sequence.num_edges,
        "undirected": sequence.undirected,
        "relations": sequence.num_relations,
        "weighted": sequence.edge_weight is not None,
        "labels": None if sequence.edge_label is None else len(np.unique(sequence.edge_label)),
        "self_loops": int(_count_loops(sequence.indptr, sequence.offsets, sequence.neighbor)),
        "node_dim": sequence.node_dim,
        "static_features": sequence.node_features is not None and sequence.node_features.ndim == 2,
        "sizes": _describe_sizes(sequence.edge_counts()),
        "density": float(sequence.edge_counts().mean() / sequence.num_nodes**2),
        "change": _describe_change(sequence),
        "target": _describe_target(sequence),
        "time": None if times is None else describe_time(int(times[0]), int(times[-1]), sequence.time_unit),
        "storage": describe_storage(sequence.path, {name: getattr(sequence, name) for name in COLUMNS}),
    }


def _active_nodes(sequence: SnapshotSequence) -> int:
    active = np.zeros(sequence.num_nodes, bool)
    for indptr in sequence.indptr:
        active |= indptr[1:] > indptr[:-1]
    active[sequence.neighbor] = True
    return int(np.count_nonzero(active))


@numba.njit(cache=True)
def _count_loops(indptr, offsets, neighbor):
    loops = 0
    for graph in range(indptr.shape[0]):
        for node in range(indptr.shape[1] - 1):
            for row in range(offsets[graph] + indptr[graph, node], offsets[graph] + indptr[graph, node + 1]):
                loops += neighbor[row] == node
    return loops


def _describe_sizes(sizes: np.ndarray) -> dict[str, Any]:
    mean = float(sizes.mean())
    return {
        "min": int(sizes.min()),
        "median": float(np.median(sizes)),
        "mean": mean,
        "max": int(sizes.max()),
        "max_over_mean": float(sizes.max() / mean) if mean else None,
        "empty": int(np.count_nonzero(sizes == 0)),
    }


@numba.njit(cache=True)
def _count_common(indptr, offsets, neighbor, graph_of, common):
    """Edges that step t and step t + 1 share, by merging the sorted sources of each destination."""
    for t in range(len(common)):
        a, b = graph_of[t], graph_of[t + 1]
        for node in range(indptr.shape[1] - 1):
            i, last_i = offsets[a] + indptr[a, node], offsets[a] + indptr[a, node + 1]
            j, last_j = offsets[b] + indptr[b, node], offsets[b] + indptr[b, node + 1]
            while i < last_i and j < last_j:
                if neighbor[i] == neighbor[j]:
                    common[t] += 1
                    i += 1
                    j += 1
                elif neighbor[i] < neighbor[j]:
                    i += 1
                else:
                    j += 1


def _describe_change(sequence: SnapshotSequence) -> dict[str, float] | None:
    if sequence.num_steps == 1:
        return None
    sizes = sequence.edge_counts()
    common = np.zeros(sequence.num_steps - 1, np.int64)
    if sequence.num_graphs == 1:
        common[:] = sizes[0]
    else:
        _count_common(sequence.indptr, sequence.offsets, sequence.neighbor, sequence.graph_of, common)
    both, smaller = sizes[:-1] + sizes[1:], np.minimum(sizes[:-1], sizes[1:])
    change = (both - 2 * common) / np.maximum(both / 2, 1)
    exchanged = 2 * (smaller - common) / np.maximum(smaller, 1)
    return {"mean": float(change.mean()), "max": float(change.max()), "exchanged": float(exchanged.mean())}


def _describe_target(sequence: SnapshotSequence) -> dict[str, Any] | None:
    target = sequence.target
    if target is None:
        return None
    if not len(target):
        return {
            "dim": sequence.target_dim, "steps": 0, "mean": None, "std": None,
            "scaled": sequence.target_std is not None, "persistence_mse": None,
        }  # fmt: skip
    mean = float(np.mean([step.mean(dtype=np.float64) for step in target]))  # a step at a time: it may be large
    square = float(np.mean([np.square(step, dtype=np.float64).mean() for step in target]))
    later = zip(target, target[sequence.target_delay :], strict=False)
    steps = [np.square(after - before, dtype=np.float64).mean() for before, after in later]
    return {
        "dim": sequence.target_dim,
        "steps": sequence.num_targets,
        "mean": mean,
        "std": max(0.0, square - mean**2) ** 0.5,
        "scaled": sequence.target_std is not None,
        "persistence_mse": float(np.mean(steps)) if steps else None,
    }


def render_snapshots(summary: dict[str, Any]) -> RenderableType:
    """Lay a summary out as tables for the terminal."""
    return Group(_table(summary), storage_table(summary["storage"]))


def _table(summary: dict[str, Any]) -> Table:
    sizes, change, target, time = (summary[name] for name in ("sizes", "change", "target", "time"))
    table = Table(title=f"Snapshot sequence {summary['name']}", show_header=False, title_justify="left")
    for name in ("steps", "graphs", "nodes", "active_nodes", "edges", "undirected", "relations", "weighted"):
        table.add_row(name.replace("_", " "), text(summary[name]))
    table.add_row("labels", "none" if summary["labels"] is None else f"{summary['labels']:,} values")
    table.add_row("self-loops", text(summary["self_loops"]))
    table.add_section()
    table.add_row(
        "edges per snapshot", ", ".join(f"{name} {text(sizes[name])}" for name in ("min", "median", "mean", "max"))
    )
    table.add_row("largest over mean", text(sizes["max_over_mean"]))
    table.add_row("empty snapshots", text(sizes["empty"]))
    table.add_row("density", f"{summary['density']:.3g}")
    if change is not None:
        table.add_row("edge change", f"mean {percent(change['mean'])}, max {percent(change['max'])} from step to step")
        table.add_row("edges exchanged", f"{percent(change['exchanged'])}, differences in size set aside")
    table.add_section()
    fixed = ", the same at all steps" if summary["static_features"] else ""
    table.add_row("features", f"{summary['node_dim']} per node{fixed}")
    table.add_row("target", "none" if target is None else _target_text(target, summary["steps"]))
    if time is not None:
        for end in ("first", "last"):
            date = time[f"{end}_date"]
            table.add_row(f"{end} step at", f"{time[end]} {time['unit']}" + (f" ({date} UTC)" if date else ""))
    return table


def _target_text(target: dict[str, Any], steps: int) -> str:
    scaled = "; scaled, the source's units are kept" if target["scaled"] else ""
    words = f"{target['dim']} per node, mean {text(target['mean'])}, deviation {text(target['std'])}{scaled}"
    words += (
        f"; of the last {counted(steps - target['steps'], 'step')} not known yet" if target["steps"] < steps else ""
    )
    last = target["persistence_mse"]
    return words if last is None else f"{words}; repeating the last known one has MSE {text(last)}"
