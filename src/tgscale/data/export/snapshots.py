"""Snapshot sequences written in the formats of others: rows of edges (CSV, Parquet), or PyG Temporal's JSON."""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.export.pieces import feature_columns, write_parquet, write_text
from tgscale.data.export.publish import publishing
from tgscale.data.export.report import ExportReport, check_format, check_suffix
from tgscale.data.ids import ascending
from tgscale.data.snapshot_ids import NamedSnapshots, once_each
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import DataError


class SnapshotWriter(NamedTuple):
    """One format: what it is, how it is written, what it leaves out, the options that read it back, what it refuses."""

    about: str
    write: Callable[[NamedSnapshots, Path], None]
    lost: Callable[[NamedSnapshots], list[str]]
    reading: Callable[[NamedSnapshots, Path], dict[str, Any]]
    check: Callable[[NamedSnapshots], None] = lambda sequence: None


EXTRAS = {"weight": "edge_weight", "edge_type": "edge_type", "label": "edge_label"}


def export_snapshots(data: str | Path, out: str | Path, *, format: str, overwrite: bool = False) -> ExportReport:
    """Write a snapshot sequence in another format, a snapshot at a time.

    Args:
        data: a data directory.
        out: the file to make.
        format: a name of :data:`SNAPSHOT_WRITERS`.
        overwrite: replace what is there.

    Raises:
        ConfigError: no such format.
        DataError: the format cannot hold this sequence.
        StoreError: no data directory, the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    check_format(format, SNAPSHOT_WRITERS)
    check_suffix(Path(out), format)
    writer, out, sequence = SNAPSHOT_WRITERS[format], Path(out), NamedSnapshots.open(data)
    writer.check(sequence)
    with publishing(out, (), overwrite) as target:
        writer.write(sequence, target)
        files = sorted(out.parent / file.name for file in target.parent.iterdir())
    return ExportReport(
        path=out,
        files=files,
        format=format,
        rows=int(sequence.snapshots.edge_counts().sum()),
        of="edges of snapshots",
        reading=writer.reading(sequence, out),
        bytes=sum(file.stat().st_size for file in files),
        seconds=clock.perf_counter() - began,
        lost=writer.lost(sequence),
    )


def _edge_rows(sequence: NamedSnapshots) -> Iterator[pa.RecordBatch]:
    """Rows ``step, src, dst[, weight][, edge_type][, label]``."""
    snapshots = sequence.snapshots
    for step in range(snapshots.num_steps):
        src, dst, kept = once_each(snapshots, step)
        columns = {"step": pa.array(np.full(len(src), step))}
        columns |= {name: sequence.ids.take(pa.array(ends)) for name, ends in (("src", src), ("dst", dst))}
        for name, column in EXTRAS.items():
            values = getattr(snapshots, column)
            if values is not None:
                columns[name] = pa.array(np.asarray(values[snapshots.edge_rows(step)])[kept])
        yield pa.record_batch(columns)


def _node_rows(sequence: NamedSnapshots) -> Iterator[pa.RecordBatch]:
    table = sequence.snapshots.node_features
    assert table is not None
    step = max(1024, CHUNK_BYTES // (4 * table.shape[1] + 64))
    for first in range(0, len(table), step):
        chunk = table[first : first + step]
        yield pa.record_batch({"id": sequence.ids.slice(first, len(chunk)), **feature_columns(chunk, "n")})


def _nodes_file(sequence: NamedSnapshots, target: Path, format: str) -> Path | None:
    features = sequence.snapshots.node_features
    return target.with_name(f"{target.stem}.nodes.{format}") if features is not None and features.ndim == 2 else None


def _write_csv(sequence: NamedSnapshots, target: Path) -> None:
    write_text(target, ",".join(next(_edge_rows(sequence)).schema.names), _edge_rows(sequence))
    if nodes := _nodes_file(sequence, target, "csv"):
        write_text(nodes, ",".join(next(_node_rows(sequence)).schema.names), _node_rows(sequence))


def _write_table(sequence: NamedSnapshots, target: Path) -> None:
    write_parquet(target, _edge_rows(sequence))
    if nodes := _nodes_file(sequence, target, "parquet"):
        write_parquet(nodes, _node_rows(sequence))


def _check_rows(sequence: NamedSnapshots) -> None:
    """Nodes that share an id are told apart by the side that each stands on, and by that alone."""
    if any(pc.count_distinct(ids).as_py() < len(ids) for ids in sequence.sides):
        raise DataError(
            "these snapshots do not go into this table, which names a node by its id: several nodes have the same one, "
            "and the sides on which they stand do not tell them apart. Make the ids of the source different and import "
            "it again."
        )
    features = sequence.snapshots.node_features
    both = pa.concat_arrays(sequence.sides)
    if features is not None and features.ndim == 2 and pc.count_distinct(both).as_py() < len(both):
        raise DataError(
            "the node features do not go into a table beside this one: some ids are both source and destination, and "
            "that table names a node by its id alone. Make the ids of the two sides different and import again."
        )


def _check_csv(sequence: NamedSnapshots) -> None:
    """Text that CSV cannot tell from a missing value is refused."""
    if pa.types.is_string(sequence.ids.type) and pc.any(pc.equal(sequence.ids, "")).as_py():
        raise DataError("an id of this sequence is empty text, which CSV cannot tell from a missing one: use parquet.")
    _check_rows(sequence)


def _lost_in_rows(sequence: NamedSnapshots) -> list[str]:
    snapshots, sizes = sequence.snapshots, sequence.snapshots.edge_counts()
    features, graph_of = snapshots.node_features, snapshots.graph_of
    lost = {
        "node features of each step": features is not None and features.ndim == 3,
        "what there is to predict": snapshots.target is not None,
        "times of the steps": snapshots.step_time is not None and snapshots.time_unit != "step",
        "empty snapshots at either end": bool(len(sizes) and (sizes[0] == 0 or sizes[-1] == 0)),
        "nodes without edges": bool((_degrees(snapshots) == 0).any()),
        "that all steps show the same graph": snapshots.num_graphs < len(graph_of),
    }
    return [what for what, there in lost.items() if there]


def _degrees(snapshots: SnapshotSequence) -> np.ndarray:
    degree = np.zeros(snapshots.num_nodes, np.int64)
    for step in range(snapshots.num_steps):
        for ends in snapshots.edges(step):
            degree += np.bincount(ends, minlength=snapshots.num_nodes)
    return degree


def _reading_rows(sequence: NamedSnapshots, target: Path, format: str) -> dict[str, Any]:
    snapshots = sequence.snapshots
    options: dict[str, Any] = {"format": format, "snapshots": "step"}
    options |= {"bipartite": True} if len(sequence.sides) > 1 else {}
    options["ids"] = "text" if pa.types.is_string(sequence.ids.type) else "int"
    if options["ids"] == "text" and len(sequence.sides) > 1 and not all(map(ascending, sequence.sides)):
        # A side of integers, beside one of text, stands in the order of its values and not of their text.
        options["ids"] = "auto"
    options |= {"weight": "" if snapshots.edge_weight is None else "weight"}
    options |= {} if snapshots.edge_type is None else {"edge_type": "edge_type"}
    options |= {"undirected": True} if snapshots.undirected else {}
    nodes = _nodes_file(sequence, target, format)
    return options | ({} if nodes is None else {"node_features": str(nodes)})


def _write_pgt(sequence: NamedSnapshots, target: Path) -> None:
    snapshots = sequence.snapshots
    series = _series(snapshots).tolist()
    if snapshots.num_graphs == 1:
        edges, weights = _graph(snapshots, 0)
        # Of the layouts of a static graph, the reader of "block" scales each node's series, that of "X" does not.
        values = "X" if snapshots.target_std is None else "block"
        content: dict[str, Any] = {"edges": edges, "weights": weights, values: series}
    else:
        graphs = [_graph(snapshots, step) for step in range(snapshots.num_targets)]
        mapping = {
            name: {str(step): graph[place] for step, graph in enumerate(graphs)}
            for place, name in enumerate(("edge_index", "edge_weight"))
        }
        content = {"edge_mapping": mapping, "time_periods": len(series), "y": series}
    with open(target, "w") as file:
        json.dump(content, file)


def _series(snapshots: SnapshotSequence) -> np.ndarray:
    """The series whose lagged values are the features and whose next value is the target, float64 ``[T + lags, N]``.

    Raises:
        DataError: features and target are of another kind.
    """
    features, target = snapshots.node_features, snapshots.target
    if features is None or target is None or features.ndim != 3 or snapshots.target_dim != 1:
        raise DataError(
            "PyTorch Geometric Temporal's files hold one series per node, which is predicted from its last values, and "
            "this sequence has none: export its edges with --format csv or parquet."
        )
    lags = features.shape[2]
    series = np.concatenate([np.asarray(features[0]).T, np.asarray(target[:, :, 0])])
    for step in range(snapshots.num_targets):
        if not np.array_equal(features[step], series[step : step + lags].T):
            raise DataError(
                f"the features of step {step} are not the {lags} values before it, which is all that PyTorch Geometric "
                "Temporal's files can hold: export the edges with --format csv or parquet."
            )
    series = series.astype(np.float64)
    if snapshots.target_mean is not None and snapshots.target_std is not None:
        series = series * snapshots.target_std[:, 0] + snapshots.target_mean[:, 0]
    return series


def _graph(snapshots: SnapshotSequence, step: int) -> tuple[list[list[int]], list[float]]:
    edges = np.stack(snapshots.edges(step), axis=1).tolist()
    if snapshots.edge_weight is None:
        return edges, [1.0] * len(edges)
    return edges, snapshots.edge_weight[snapshots.edge_rows(step)].astype(np.float64).tolist()


def _lost_in_pgt(sequence: NamedSnapshots) -> list[str]:
    snapshots = sequence.snapshots
    lost = {
        "edge types": snapshots.edge_type is not None,
        "labels of edges": snapshots.edge_label is not None,
        "times of the steps": snapshots.step_time is not None,
        "the last steps, whose target is not known": snapshots.num_targets < snapshots.num_steps,
        "the ids of the source": sequence.ids.type != pa.int64()
        or not np.array_equal(sequence.ids.to_numpy(), np.arange(snapshots.num_nodes)),
        "that values are not scaled: its loaders scale each node's series": snapshots.num_graphs > 1
        and snapshots.target_std is None,
    }
    return [what for what, there in lost.items() if there]


def _reading_pgt(sequence: NamedSnapshots, target: Path) -> dict[str, Any]:
    features = sequence.snapshots.node_features
    return {"format": "pgt", "lags": 0 if features is None else features.shape[2]}


SNAPSHOT_WRITERS = {
    "csv": SnapshotWriter(
        "CSV, a row per edge of a snapshot",
        _write_csv,
        _lost_in_rows,
        lambda sequence, target: _reading_rows(sequence, target, "csv"),
        _check_csv,
    ),
    "parquet": SnapshotWriter(
        "Parquet, a row per edge of a snapshot",
        _write_table,
        _lost_in_rows,
        lambda sequence, target: _reading_rows(sequence, target, "parquet"),
        _check_rows,
    ),
    "pgt": SnapshotWriter("JSON of PyTorch Geometric Temporal", _write_pgt, _lost_in_pgt, _reading_pgt),
}
