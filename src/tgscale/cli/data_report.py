"""What an import did, in words."""

from __future__ import annotations

from rich.filesize import decimal

from tgscale.data.formats.source import Columns
from tgscale.data.ingest import ImportReport
from tgscale.data.snapshot_report import SnapshotReport
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import NODE_IDS
from tgscale.data.time_words import date_of
from tgscale.data.value_words import counted

MOST_NAMES = 12
WHOSE = {"label": "events", "edge_classes": "events, any number per event", "node_label": "nodes"}


def events_text(report: ImportReport) -> str:
    """What an import of events did, in words."""
    roles = ", ".join(_roles(report.columns, "src", "dst", "time", "label", "split"))
    sources = f" ({report.num_sources:,} of them sources)" if report.num_sources is not None else ""
    features = counted(report.edge_dim, "edge feature")
    node_features = f", {counted(report.node_dim, 'node feature')}" if report.node_dim else ""
    classes = "".join(f", {counted(n, 'class', 'classes')} of {WHOSE[of]}" for of, n in report.classes.items())
    lines = [
        f"read as {report.format}{f' ({report.note})' if report.note else ''}: {roles}",
        f"{counted(report.events, 'event')}, {counted(report.nodes, 'node')}{sources}, {features}{node_features}"
        f"{classes}, {_times(report)}",
    ]
    return _with_rest(report, lines, "--edge-features takes numbers, --edge-classes takes names")


def snapshots_text(report: SnapshotReport) -> str:
    """What an import of snapshots did, in words."""
    parts = ("src", "dst", "time", "until", "weight", "edge_type", "label")
    roles = ", ".join(_roles(report.columns, *parts)) if report.columns else ""
    read = f"read as {report.format}{f' ({report.note})' if report.note else ''}{f': {roles}' if roles else ''}"
    options = "snapshots take --weight, --edge-type and --label, all numbers"
    return _with_rest(report, [read, sequence_text(report.sequence)], options)


def sequence_text(sequence: SnapshotSequence) -> str:
    """Sizes of a snapshot sequence, in a line."""
    sizes = sequence.edge_counts()
    static = " (one graph for all)" if sequence.num_graphs == 1 and sequence.num_steps > 1 else ""
    parts = [f"{counted(sequence.num_steps, 'snapshot')}{static}", counted(sequence.num_nodes, "node")]
    parts.append(f"{counted(sequence.num_edges, 'edge')}, {sizes.min():,} to {sizes.max():,} in a snapshot")
    parts += [counted(sequence.num_relations, "edge type")] if sequence.edge_type is not None else []
    parts += [counted(sequence.node_dim, "node feature")] if sequence.node_dim else []
    parts += [f"{sequence.target_dim} to predict"] if sequence.target_dim else []
    return ", ".join(parts)


def _times(report: ImportReport) -> str:
    first, last = (date_of(time, report.time_unit) for time in (report.first_time, report.last_time))
    dates = f" ({first} to {last} UTC)" if first and last else ""
    return f"times {report.first_time:,} to {report.last_time:,} {report.time_unit}{dates}"


def _roles(columns: Columns, *parts: str) -> list[str]:
    return [f"{part} from {column!r}" for part in parts if (column := getattr(columns, part))]


def _with_rest(report: ImportReport | SnapshotReport, lines: list[str], options: str) -> str:
    if report.relabelled:
        lines.append(f"node ids were numbered anew; {NODE_IDS} in the data directory holds the old ones")
    for dropped in report.dropped:
        lines += dropped.in_words()
    if report.unused:
        more = f", .. ({len(report.unused)} in all)" if len(report.unused) > MOST_NAMES else ""
        lines.append(f"not imported: {', '.join(report.unused[:MOST_NAMES])}{more} ({options})")
    lines += [f"note: {hint}" for hint in report.hints]
    return "\n".join([*lines, f"{report.path}: {decimal(report.bytes)} in {report.seconds:.1f} s"])
