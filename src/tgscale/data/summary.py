"""What is in a stream: the numbers behind ``tgscale data info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from tgscale.data.files import scanning
from tgscale.data.stream import MARK_EVENTS, EventStream, Split, mark_nodes
from tgscale.data.time_words import date_of, describe_time, unit_hint
from tgscale.data.value_summary import count_classes, count_duplicates, describe_features
from tgscale.data.value_words import counted

PARTS = ("train", "val", "test")
MOST_FEATURES, MOST_NAMES = 20, 12
"""What the tables show at most."""
NEARLY_ALL = 0.99
COUNTED = {"label": "events of each", "edge_classes": "events of each", "node_label": "nodes of each"}


def summarize(stream: EventStream, split: Split | None = None) -> dict[str, Any]:
    """Describe a stream, in time linear in its events.

    Args:
        stream: the stream.
        split: where training, validation and test end; None: ``stream.split()``.

    Returns:
        Plain numbers, strings, lists and dicts (JSON can hold them):

        * ``name``, ``events``, ``nodes``, ``active_nodes`` (with an event), ``sources``, ``destinations`` (distinct),
          ``bipartite``, ``self_loops``, ``duplicates`` (events with source, destination and time of an earlier one),
          ``pairs`` (distinct, unordered), ``edge_dim``, ``node_dim``
        * ``features``: None, or ``events`` (the first ones, which were looked at), ``of`` (all), and for ``each`` edge
          feature its ``name``, ``min``, ``mean`` and ``max`` (of finite values), ``zeros`` and ``not_finite`` (counts)
        * ``label``: None, or ``distinct`` and ``nonzero_share``
        * ``edge_classes``: None, or the number of ``classes``, ``per_event`` (their mean number) and ``without`` (share
          of events that have none)
        * ``node_label``: None, or the number of ``classes`` and of ``labelled`` nodes
        * ``class_counts``: for each column whose classes have names, how many events or nodes are of each
        * ``time``: ``unit``, ``first``, ``last``, ``span`` in steps; ``span_text`` and, where the times are dates,
          ``first_date`` and ``last_date`` (UTC, else None)
        * ``ties``: ``distinct_times``, ``shared_share`` (events that share their time with another), ``largest``
        * ``degree`` over active nodes: ``max``, ``mean``, ``median``, ``p99``, ``gini``
        * ``bursts``: ``nodes`` with at least two gaps between events; over these the mean and median of the gaps'
          coefficient of variation (``cv_mean``, ``cv_median``; 1 for a Poisson process) and of the burstiness
          ``(sigma - mu) / (sigma + mu)`` of Goh and Barabasi (``burstiness_mean``, ``burstiness_median``; -1 regular,
          0 Poisson, towards 1 bursty); None where no node qualifies
        * ``split``: for each part ``part``, ``events``, ``first_event``, ``first_time``, ``last_time``, ``new_nodes``
          (nodes of the part without a training event), ``new_node_share`` (events that touch one), ``repeat_share``
          (events whose pair has met strictly before); times and shares are None in an empty part
        * ``notes``: what looks odd, in words
        * ``storage``: bytes of each column, ``on_disk`` True when they are files of a data directory.
    """
    split = stream.split() if split is None else split
    tcsr, pairs = stream.tcsr, stream.pairs
    with scanning(stream.time, tcsr.event_id, pairs.partner, pairs.event_id):
        return _summarize(stream, split)


def _summarize(stream: EventStream, split: Split) -> dict[str, Any]:
    degree = np.diff(stream.tcsr.indptr)
    pairs, repeats = _repeats(stream)
    ties = _describe_ties(stream)
    first, last = int(stream.time[0]), int(stream.time[-1])
    return {
        "name": stream.name,
        "events": stream.num_events,
        "nodes": stream.num_nodes,
        "active_nodes": int(np.count_nonzero(degree)),
        "sources": int(np.count_nonzero(mark_nodes(stream.num_nodes, stream.src))),
        "destinations": len(stream.destinations),
        "bipartite": stream.num_sources is not None,
        "self_loops": int(np.count_nonzero(np.asarray(stream.src) == stream.dst)),
        "duplicates": count_duplicates(stream),
        "pairs": pairs,
        "edge_dim": stream.edge_dim,
        "node_dim": stream.node_dim,
        "features": describe_features(stream),
        "label": _describe_label(stream.label),
        "edge_classes": _describe_classes(stream.edge_classes),
        "node_label": _describe_node_label(stream.node_label),
        "class_counts": count_classes(stream),
        "time": describe_time(first, last, stream.time_unit),
        "ties": ties,
        "degree": _describe_degree(degree[degree > 0]),
        "bursts": _describe_bursts(stream),
        "split": [_describe_part(stream, split, part, repeats) for part in PARTS],
        "notes": _notes(first, last, stream.time_unit, ties),
        "storage": describe_storage(stream.path, {} if stream.path else _columns(stream)),
    }


def _describe_label(label: np.ndarray | None) -> dict[str, Any] | None:
    if label is None:
        return None
    return {"distinct": len(np.unique(label)), "nonzero_share": float(np.count_nonzero(label) / len(label))}


def _describe_classes(marks: np.ndarray | None) -> dict[str, Any] | None:
    if marks is None:
        return None
    total = without = 0
    for first in range(0, len(marks), MARK_EVENTS):
        counts = marks[first : first + MARK_EVENTS].sum(axis=1, dtype=np.int64)
        total, without = total + int(counts.sum()), without + int(np.count_nonzero(counts == 0))
    return {"classes": marks.shape[1], "per_event": total / len(marks), "without": without / len(marks)}


def _describe_node_label(label: np.ndarray | None) -> dict[str, Any] | None:
    if label is None:
        return None
    known = label[label >= 0]
    return {"classes": len(np.unique(known)), "labelled": len(known)}


@numba.njit(cache=True)
def _count_ties(time):
    distinct, shared, largest, run = 0, 0, 0, 0
    for e in range(len(time)):
        run += 1
        if e + 1 == len(time) or time[e + 1] != time[e]:
            distinct += 1
            largest = max(largest, run)
            shared += run if run > 1 else 0
            run = 0
    return distinct, shared, largest


def _describe_ties(stream: EventStream) -> dict[str, Any]:
    distinct, shared, largest = _count_ties(stream.time)
    return {"distinct_times": distinct, "shared_share": shared / stream.num_events, "largest": largest}


def _notes(first: int, last: int, unit: str, ties: dict[str, Any]) -> list[str]:
    hint = unit_hint(first, last, unit)
    notes = [] if hint is None else [hint]
    if ties["shared_share"] > NEARLY_ALL:
        notes.append(
            f"{percent(ties['shared_share'])} of the events share their time with others ({ties['distinct_times']:,} "
            "distinct times): events of one time cannot see each other. Import finer times, if there are any, or make "
            "snapshots (`tgscale data import --every`)."
        )
    return notes


def _describe_degree(degree: np.ndarray) -> dict[str, Any]:
    degree = np.sort(degree)
    place = np.arange(1, len(degree) + 1)
    gini = (2.0 * (place * degree).sum() / degree.sum() - (len(degree) + 1)) / len(degree)
    return {
        "max": int(degree[-1]),
        "mean": float(degree.mean()),
        "median": float(np.median(degree)),
        "p99": float(np.quantile(degree, 0.99)),
        "gini": float(gini),
    }


@numba.njit(cache=True)
def _gap_variation(indptr, event_id, time):
    """Per node: standard deviation over mean of the gaps between its events; NaN with less than two gaps or all 0."""
    out = np.full(len(indptr) - 1, np.nan)
    for u in range(len(out)):
        first, gaps = indptr[u], indptr[u + 1] - indptr[u] - 1
        if gaps < 2:
            continue
        mean = (time[event_id[first + gaps]] - time[event_id[first]]) / gaps
        squares = 0.0
        for i in range(first, first + gaps):
            squares += (time[event_id[i + 1]] - time[event_id[i]] - mean) ** 2
        if mean > 0:
            out[u] = np.sqrt(squares / gaps) / mean
    return out


def _describe_bursts(stream: EventStream) -> dict[str, Any]:
    variation = _gap_variation(stream.tcsr.indptr, stream.tcsr.event_id, stream.time)
    variation = variation[~np.isnan(variation)]
    burstiness = (variation - 1) / (variation + 1)
    summary: dict[str, Any] = {"nodes": len(variation)}
    for name, values in (("cv", variation), ("burstiness", burstiness)):
        summary[f"{name}_mean"] = float(values.mean()) if len(values) else None
        summary[f"{name}_median"] = float(np.median(values)) if len(values) else None
    return summary


@numba.njit(cache=True)
def _mark_repeats(indptr, partner, event_id, time, repeat):
    pairs = 0
    for u in range(len(indptr) - 1):
        first_time = 0
        for i in range(indptr[u], indptr[u + 1]):
            if i == indptr[u] or partner[i] != partner[i - 1]:
                first_time = time[event_id[i]]
                pairs += 1
            repeat[event_id[i]] = time[event_id[i]] > first_time
    return pairs


def _repeats(stream: EventStream) -> tuple[int, np.ndarray]:
    """Number of distinct pairs, and for each event whether its pair has met strictly before."""
    repeat = np.empty(stream.num_events, np.bool_)
    index = stream.pairs
    return _mark_repeats(index.indptr, index.partner, index.event_id, stream.time, repeat), repeat


def _describe_part(stream: EventStream, split: Split, part: str, repeats: np.ndarray) -> dict[str, Any]:
    first, last = split.range(part)
    new = np.zeros(stream.num_nodes, dtype=bool) if part == "train" else stream.new_nodes(split)
    src, dst = stream.src[first:last], stream.dst[first:last]
    touched = mark_nodes(stream.num_nodes, src, dst)
    some = last > first
    return {
        "part": part,
        "events": last - first,
        "first_event": first,
        "first_time": int(stream.time[first]) if some else None,
        "last_time": int(stream.time[last - 1]) if some else None,
        "new_nodes": int(np.count_nonzero(touched & new)),
        "new_node_share": float((new[src] | new[dst]).mean()) if some else None,
        "repeat_share": float(repeats[first:last].mean()) if some else None,
    }


def describe_storage(path: Path | None, columns: dict[str, np.ndarray | None]) -> dict[str, Any]:
    """Bytes of each column: of the files of a data directory, or of these arrays in memory."""
    if path is not None:
        return {"on_disk": True, "bytes": {file.stem: file.stat().st_size for file in sorted(path.glob("*.npy"))}}
    return {"on_disk": False, "bytes": {name: int(a.nbytes) for name, a in columns.items() if a is not None}}


def _columns(stream: EventStream) -> dict[str, np.ndarray | None]:
    names = ("src", "dst", "time", "edge_features", "node_features", "label", "edge_classes", "node_label")
    columns = {name: getattr(stream, name) for name in names}
    columns |= {f"tcsr_{name}": array for name, array in vars(stream.tcsr).items()}
    columns |= {f"pairs_{name}": array for name, array in vars(stream.pairs).items()}
    return columns


def render(summary: dict[str, Any]) -> RenderableType:
    """Lay a summary out as tables for the terminal."""
    tables: list[RenderableType] = [_stream_table(summary), _split_table(summary["split"], summary["time"])]
    if summary["features"]:
        tables.append(_feature_table(summary["features"]))
    notes = [f"note: {note}" for note in summary["notes"]]
    return Group(*tables, storage_table(summary["storage"]), *notes)


def text(value: Any) -> str:
    """A value of a summary, for a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _stream_table(summary: dict[str, Any]) -> Table:
    time, ties, degree, bursts, label = (summary[name] for name in ("time", "ties", "degree", "bursts", "label"))
    table = Table(title=f"Event stream {summary['name']}", show_header=False, title_justify="left")
    for name in ("events", "nodes", "active_nodes", "sources", "destinations", "bipartite", "pairs"):
        table.add_row(name.replace("_", " "), text(summary[name]))
    table.add_row("self-loops", f"{summary['self_loops']:,} ({percent(summary['self_loops'] / summary['events'])})")
    table.add_row("duplicates", f"{summary['duplicates']:,} with source, destination and time of another")
    table.add_row("features", f"{summary['edge_dim']} per edge, {summary['node_dim']} per node")
    labels = (
        "none" if label is None else f"{counted(label['distinct'], 'value')}, {percent(label['nonzero_share'])} not 0"
    )
    table.add_row("labels", labels)
    if marks := summary["edge_classes"]:
        table.add_row("classes of events", f"{marks['classes']:,}, {marks['per_event']:.2f} per event")
    if nodes := summary["node_label"]:
        table.add_row("classes of nodes", f"{nodes['classes']:,}, known of {nodes['labelled']:,} nodes")
    for column, counts in summary["class_counts"].items():
        table.add_row(f"  {COUNTED[column]}", _counts_text(counts))
    table.add_section()
    for end in ("first", "last"):
        date = time[f"{end}_date"]
        table.add_row(f"{end} time", f"{time[end]} {time['unit']}" + (f" ({date} UTC)" if date else ""))
    table.add_row("span", time["span_text"])
    table.add_row("distinct times", text(ties["distinct_times"]))
    table.add_row("events that tie", f"{percent(ties['shared_share'])}, at most {ties['largest']:,} at one time")
    table.add_section()
    table.add_row("events per node", ", ".join(f"{name} {text(value)}" for name, value in degree.items()))
    table.add_row("burstiness", f"mean {text(bursts['burstiness_mean'])}, median {text(bursts['burstiness_median'])}")
    table.add_row("gap variation", f"mean {text(bursts['cv_mean'])}, median {text(bursts['cv_median'])}")
    return table


def _counts_text(counts: dict[str, int]) -> str:
    """The most frequent classes, with how many are of each."""
    most = sorted(counts.items(), key=lambda item: -item[1])
    more = f", .. ({len(most):,} in all)" if len(most) > MOST_NAMES else ""
    return ", ".join(f"{name} {number:,}" for name, number in most[:MOST_NAMES]) + more


def _split_table(parts: list[dict[str, Any]], time: dict[str, Any]) -> Table:
    def moment(value: int | None) -> str:
        if value is None:
            return "-"
        date = date_of(value, time["unit"]) if time["first_date"] else None
        return str(value) if date is None else date[:-3]  # without seconds three of them fit into a terminal

    table = Table("part", title="Split by time", title_justify="left")
    for part in parts:
        table.add_column(part["part"], justify="right", overflow="fold")
    table.add_row("events", *(text(part["events"]) for part in parts))
    for end in ("first_time", "last_time"):
        table.add_row(end.replace("_", " "), *(moment(part[end]) for part in parts))
    table.add_row("new nodes", *(text(part["new_nodes"]) for part in parts))
    table.add_row("with a new node", *(percent(part["new_node_share"]) for part in parts))
    table.add_row("repeated pairs", *(percent(part["repeat_share"]) for part in parts))
    return table


def _feature_table(features: dict[str, Any]) -> Table:
    each, rows = features["each"], features["events"]
    title = "Edge features"
    if rows < features["of"]:
        title += f" (of the first {rows:,} events)"
    if len(each) > MOST_FEATURES:
        title += f": the {MOST_FEATURES} of {len(each)} with the largest values; --json has all"
        each = sorted(each, key=lambda one: -max(abs(one["min"] or 0), abs(one["max"] or 0)))[:MOST_FEATURES]
    table = Table("feature", title=title, title_justify="left")
    for column in ("min", "mean", "max", "zero", "not finite"):
        table.add_column(column, justify="right")
    for one in each:
        values = ("-" if one[name] is None else f"{one[name]:.4g}" for name in ("min", "mean", "max"))
        table.add_row(one["name"], *values, percent(one["zeros"] / rows), text(one["not_finite"]))
    return table


def storage_table(storage: dict[str, Any]) -> Table:
    """Sizes of the columns."""
    table = Table("column", title="On disk" if storage["on_disk"] else "In memory", title_justify="left")
    table.add_column("MB", justify="right")
    for name, size in storage["bytes"].items():
        table.add_row(name, f"{size / 1e6:,.2f}")
    table.add_section()
    table.add_row("total", f"{sum(storage['bytes'].values()) / 1e6:,.2f}")
    return table
