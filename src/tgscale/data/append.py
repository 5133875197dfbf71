"""A data directory of older events and of newer ones that follow them, without sorting or indexing the older ones anew.

Every column is the older one and then the newer one. Of the two indices each node's list is merged from the older list
and that of the newer events: one pass from end to end over both, written in order, with the pages of memory-mapped
columns let go a block at a time. So it costs about what copying the directory costs, and no more memory than a block.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from tgscale.data.files import release_pages, scanning
from tgscale.data.index import (
    BLOCK_ROWS,
    PIECE_EVENTS,
    Empty,
    build_tcsr,
    in_memory,
    narrow,
    node_blocks,
    pair_index_of,
)
from tgscale.data.store import NODE_IDS, read_meta, writing
from tgscale.data.stream import EventStream, Split

UNTOLD = -1
"""The label of an event whose label nobody told."""
UNTOLD_CLASSES = 255
"""Stands for each of the classes of an event that may have several, where nobody told which it has."""


@dataclass(frozen=True)
class More:
    """Newer events, in time order, none before the last of the older ones.

    Attributes:
        src, dst: nodes, ``[M]``; the numbers of the older stream, and from its ``num_nodes`` on for new nodes.
        time: ``[M]``, int64.
        num_nodes: N', of the older stream and new ones together.
        edge_features: ``[M, F]``, float32, with the F of the older stream; None where it has none.
        label: ``[M]``, int32, numbers of named classes as the older stream's are, or :data:`UNTOLD`; None leaves the
            labels of the older ones out.
        edge_classes: ``[M, L]``, uint8, 0 or 1, or a row of :data:`UNTOLD_CLASSES`; None likewise.
    """

    src: np.ndarray
    dst: np.ndarray
    time: np.ndarray
    num_nodes: int
    edge_features: np.ndarray | None = None
    label: np.ndarray | None = None
    edge_classes: np.ndarray | None = None


def append_events(
    base: EventStream, first: int, more: More, out: Path, split: Split, node_ids: Path | None = None
) -> None:
    """Write the data directory of ``base``'s first events and ``more``.

    Args:
        base: the older stream.
        first: how many of its events are taken.
        more: the newer events. New nodes have node features of zeros.
        out: the directory to make.
        split: borders of the parts of all events together.
        node_ids: the table of all nodes' ids, copied into the directory; None where ids are dense.

    Raises:
        StoreError: the target exists, or the disk is full.
    """
    events, nodes = first + len(more.src), more.num_nodes
    with writing(out) as writer:
        for name, column in _columns(base, first, more):
            dtype = narrow(nodes) if name in ("src", "dst") else column[0].dtype
            rows = sum(len(part) for part in column)
            writer.create(name, dtype, (rows, *column[0].shape[1:]))
            for piece in _pieces(column):
                writer.append(name, piece)
        delta = build_tcsr(more.src, more.dst, nodes)
        pairs = pair_index_of(delta, more.src, more.dst)
        for prefix, names, older, newer in (
            ("tcsr", ("neighbor", "event_id"), base.tcsr, delta),
            ("pairs", ("partner", "event_id"), base.pairs, pairs),
        ):
            merge_lists(
                (older.indptr, *(getattr(older, name) for name in names)),
                (newer.indptr, *(getattr(newer, name) for name in names)),
                names,
                first if first < base.num_events else None,
                first,
                (nodes, events),
                prefix == "pairs",
                lambda name, *spec, prefix=prefix: writer.create_mapped(f"{prefix}_{name}", *spec),
            )
        if node_ids is not None:
            shutil.copyfile(node_ids, writer.folder / NODE_IDS)
        writer.commit(
            name=base.name,
            num_nodes=nodes,
            time_unit=base.time_unit,
            num_sources=base.num_sources,
            source_split=split,
            source=_source(base, first),
            classes={name: names for name, names in base.classes.items() if getattr(more, name, None) is not None},
        )


def _source(base: EventStream, first: int) -> dict[str, Any]:
    """Where the older events came from: what follows is read with the same columns and numbered by the same rule."""
    source = (read_meta(base.path)["source"] if base.path else None) or {"format": "appended"}
    return {**source, "follows": str(base.path), "followed_events": first}


def _columns(base: EventStream, first: int, more: More) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and parts of each column that both have."""
    yield "src", [base.src[:first], more.src]
    yield "dst", [base.dst[:first], more.dst]
    yield "time", [base.time[:first], more.time]
    if base.edge_features is not None:
        assert more.edge_features is not None
        yield "edge_features", [base.edge_features[:first], more.edge_features]
    for name in ("label", "edge_classes"):
        newer = getattr(more, name)
        if newer is not None:
            yield name, [getattr(base, name)[:first], newer]
    if base.node_features is not None:
        fresh = np.zeros((more.num_nodes - base.num_nodes, base.node_dim), np.float32)
        yield "node_features", [base.node_features, fresh]


def _pieces(parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    for part in parts:
        step = max(1, PIECE_EVENTS * 4 // max(1, part[:1].nbytes))
        with scanning(part):
            for at in range(0, len(part), step):
                yield part[at : at + step]
                release_pages(part)


Lists = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``indptr [N + 1]``, other node and event id of each row: what both indices are made of."""


def merge_lists(
    older: Lists,
    newer: Lists,
    names: tuple[str, str],
    below: int | None,
    shift: int,
    sizes: tuple[int, int],
    by_other: bool,
    empty: Empty = in_memory,
) -> Lists:
    """Merge the lists of two indices node by node.

    Args:
        older, newer: the lists; the older ones may be of fewer nodes.
        names: what ``empty`` calls the second and the third column.
        below: take only older rows whose event id is below this; None takes all.
        shift: added to the newer event ids.
        sizes: nodes and events of the result.
        by_other: lists are sorted by the other node first (pair index), not by event alone (T-CSR).
        empty: makes the arrays; what it makes is filled.
    """
    nodes, events = sizes
    indptr = empty("indptr", np.int64, (nodes + 1,))
    indptr[0] = 0
    _count(older[0], older[2], -1 if below is None else below, newer[0], indptr)
    np.cumsum(indptr, out=indptr)
    other = empty(names[0], narrow(nodes), (int(indptr[-1]),))
    event = empty(names[1], narrow(events), (int(indptr[-1]),))
    limit = np.iinfo(np.int64).max if below is None else below
    for start, stop in node_blocks(indptr, BLOCK_ROWS):
        _merge(older, newer, limit, shift, by_other, start, stop, indptr, other, event)
        release_pages(older[1], older[2], other, event)
    return indptr, other, event


@numba.njit(cache=True)
def _count(older_indptr, older_event, below, newer_indptr, indptr):
    """Length of each merged list, at its node's place plus one."""
    known = len(older_indptr) - 1
    for u in range(len(indptr) - 1):
        count = newer_indptr[u + 1] - newer_indptr[u]
        if u < known:
            if below < 0:
                count += older_indptr[u + 1] - older_indptr[u]
            else:
                for i in range(older_indptr[u], older_indptr[u + 1]):
                    count += older_event[i] < below
        indptr[u + 1] = count


@numba.njit(cache=True)
def _merge(older, newer, below, shift, by_other, start, stop, indptr, other, event):
    """Rows of the nodes ``[start, stop)``."""
    older_indptr, older_other, older_event = older
    newer_indptr, newer_other, newer_event = newer
    known = len(older_indptr) - 1
    for u in range(start, stop):
        at, j, end = indptr[u], newer_indptr[u], newer_indptr[u + 1]
        if u < known:
            for i in range(older_indptr[u], older_indptr[u + 1]):
                if older_event[i] >= below:
                    continue
                while by_other and j < end and newer_other[j] < older_other[i]:
                    other[at], event[at] = newer_other[j], newer_event[j] + shift
                    j += 1
                    at += 1
                other[at], event[at] = older_other[i], older_event[i]
                at += 1
        while j < end:
            other[at], event[at] = newer_other[j], newer_event[j] + shift
            j += 1
            at += 1
